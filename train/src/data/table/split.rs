//! Rows for training, validation and test, drawn by seed, as matrices of f32.

use serde::{Deserialize, Serialize};

use super::Table;
use crate::data::standardize::{Scale, Standardizer};
use crate::rng::Rng;
use crate::shell::memory;

/// Purpose of the random numbers.
const PURPOSE: u64 = 0x7370_6c69_7400;

/// The shares of rows that are not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The share that the model is selected by, above 0.
    pub validation: f64,
    /// The share that is only reported; may be 0.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { validation: 0.1, test: 0.1 }
    }
}

impl Shares {
    /// Checks the shares.
    ///
    /// # Errors
    /// Names the first that breaks a rule, its value and the rule.
    pub fn check(self) -> Result<(), SplitError> {
        let Shares { validation, test } = self;
        let wrong = |name, value, rule| Err(SplitError::Share { name, value, rule });
        match () {
            () if !(validation > 0.0 && validation < 1.0) => {
                wrong("validation", validation, "must be above 0 and below 1")
            }
            () if !(0.0..1.0).contains(&test) => wrong("test", test, "must be at least 0 and below 1"),
            () if validation + test >= 1.0 => wrong(
                "test",
                test,
                "must leave rows for training: validation and test must be below 1 together",
            ),
            () => Ok(()),
        }
    }

    /// The least number of rows: one for each part.
    pub fn least(self) -> (usize, &'static str) {
        match self.test > 0.0 {
            true => (3, "training, validation and test"),
            false => (2, "training and validation"),
        }
    }

    /// Of at least [`Shares::least`] rows those for validation and test: the shares, rounded down, but at least one for
    /// a share above 0, and one is left for training.
    fn counts(self, rows: usize) -> [usize; 2] {
        let mut counts = [self.validation, self.test].map(|share| match (rows as f64 * share) as usize {
            0 if share > 0.0 => 1,
            count => count,
        });
        if counts.iter().sum::<usize>() >= rows {
            let [validation, test] = &mut counts;
            *validation.max(test) -= 1;
        }
        counts
    }
}

/// A table that cannot be split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A share breaks its rule.
    #[error("{name} = {value}: {rule}")]
    Share {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The rule.
        rule: &'static str,
    },
    /// There are too few rows.
    #[error("{name}: {rows} rows: must be at least {least}, one each for {parts}")]
    Few {
        /// The table's name.
        name: String,
        /// Its rows.
        rows: usize,
        /// The least number.
        least: usize,
        /// The parts, in words.
        parts: &'static str,
    },
    /// More rows than can be drawn.
    #[error("{name}: {rows} rows: must be at most 2^32")]
    Many {
        /// The table's name.
        name: String,
        /// Its rows.
        rows: usize,
    },
    /// The matrices do not fit into memory.
    #[error(
        "{name}: {rows} rows of {features} features need about {:.1} GB: this machine has {:.1} GB",
        need / 1e9,
        have / 1e9
    )]
    Memory {
        /// The table's name.
        name: String,
        /// Its rows.
        rows: usize,
        /// Features of a row.
        features: usize,
        /// Bytes that they need.
        need: f64,
        /// Bytes that there are.
        have: f64,
    },
}

impl SplitError {
    /// Whether a setting is wrong, whatever the data: wrong usage, not a failure.
    pub fn is_usage(&self) -> bool {
        matches!(self, SplitError::Share { .. })
    }
}

/// Some rows, standardised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Rows.
    pub rows: usize,
    /// `[rows][features]`
    pub features: Vec<f32>,
    /// `[rows]`, standardised; empty for classes.
    pub targets: Vec<f32>,
    /// `[rows]`, the class of each; empty for numbers.
    pub labels: Vec<u32>,
}

/// A table's rows in three parts, each in the order of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Trained on.
    pub train: Part,
    /// The model is selected by them.
    pub validation: Part,
    /// Held out: only reported.
    pub test: Part,
    /// The features' standardisation, by the training rows.
    pub standardizer: Standardizer,
    /// The target's, unless it is a class.
    pub target: Option<Scale>,
}

impl Table {
    /// Draws the parts by a permutation that depends on the seed and the number of rows alone, and standardises them.
    ///
    /// # Errors
    /// See [`SplitError`].
    pub fn split(&self, shares: Shares, seed: u64) -> Result<Split, SplitError> {
        shares.check()?;
        let (rows, name) = (self.rows(), || self.name.clone());
        let (least, parts) = shares.least();
        if rows < least {
            return Err(SplitError::Few { name: name(), rows, least, parts });
        }
        if rows as u64 > 1 << 32 {
            return Err(SplitError::Many { name: name(), rows });
        }
        let features = self.schema.features();
        let need = 4.0 * rows as f64 * (features + 2) as f64 + 8.0 * (self.values.len() + rows) as f64;
        if let Some(have) = memory::available().filter(|&have| need > have) {
            return Err(SplitError::Memory { name: name(), rows, features, need, have });
        }

        let [validation, test] = shares.counts(rows);
        // Below 2^32 each, of half the memory of usize.
        let mut order: Vec<u32> = (0..rows).map(|row| row as u32).collect();
        Rng::new(seed, PURPOSE, 0, 0).shuffle(&mut order);
        let (test, order) = order.split_at_mut(test);
        let (validation, train) = order.split_at_mut(validation);
        // Memory is read in its order.
        [&mut *test, validation, train].into_iter().for_each(|part| part.sort_unstable());

        let standardizer = Standardizer::fit(&self.schema.scaled(), train.len(), |i, features| {
            self.schema.expand(self.row(train[i] as usize), features);
        });
        let target = match self.schema.classes() {
            None => Some(Scale::fit(train.iter().map(|&row| self.targets[row as usize]))),
            Some(_) => None,
        };
        let part = |rows: &[u32]| self.part(rows, &standardizer, target.as_ref());
        Ok(Split {
            train: part(train),
            validation: part(validation),
            test: part(test),
            standardizer: standardizer.clone(),
            target,
        })
    }

    fn part(&self, rows: &[u32], standardizer: &Standardizer, target: Option<&Scale>) -> Part {
        let width = self.schema.features();
        let mut features = vec![0.0; rows.len() * width];
        let mut row = vec![0.0; width];
        for (&index, out) in rows.iter().zip(features.chunks_exact_mut(width.max(1))) {
            self.schema.expand(self.row(index as usize), &mut row);
            standardizer.apply(&row, out);
        }
        let all = rows.iter().map(|&row| self.targets[row as usize]);
        let (targets, labels) = match target {
            Some(scale) => (all.map(|y| scale.apply(y)).collect(), Vec::new()),
            None => (Vec::new(), all.map(|class| class as u32).collect()),
        };
        Part { rows: rows.len(), features, targets, labels }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Column, Kind, Schema};
    use super::*;

    /// A table of one column with the given values, which are the targets too.
    fn table(values: Vec<f64>, target: Kind) -> Table {
        let column = |name: &str, kind| Column { name: name.into(), number: 0, kind };
        let columns = vec![column("x", Kind::Number)];
        let schema = Schema { header: true, delimiter: b',', width: 2, columns, target: column("y", target) };
        Table::new("t".into(), schema, values.clone(), values)
    }

    fn counting(rows: usize) -> Table {
        table((0..rows).map(|i| i as f64).collect(), Kind::Number)
    }

    #[test]
    fn parts_are_by_the_training_rows_alone() {
        let table = counting(1000);
        let split = table.split(Shares { validation: 0.15, test: 0.05 }, 7).unwrap();
        let Split { train, validation, test, standardizer, target } = &split;
        assert_eq!([train, validation, test].map(|part| part.rows), [800, 150, 50]);
        let scale = target.unwrap();
        assert_eq!(standardizer.scales(), [scale]);
        let sum = |f: &dyn Fn(f64) -> f64| train.features.iter().map(|&x| f(x.into())).sum::<f64>() / 800.0;
        assert!(sum(&|x| x).abs() < 1e-6 && (sum(&|x| x * x) - 1.0).abs() < 1e-6);
        assert_eq!(train.features, train.targets);
        assert!(train.labels.is_empty());
        // Each row is in one part, in its order.
        let undone = |part: &Part| part.targets.iter().map(|&y| scale.undo(y).round()).collect::<Vec<_>>();
        let parts = [train, validation, test].map(undone);
        assert!(parts.iter().all(|part| part.is_sorted()));
        let mut all = parts.concat();
        all.sort_by(f64::total_cmp);
        assert!(all.into_iter().eq((0..1000).map(f64::from)));
    }

    #[test]
    fn the_rows_of_a_seed_are_those() {
        let split = counting(20).split(Shares::default(), 1).unwrap();
        let rows = |part: &Part| -> Vec<u32> {
            part.targets.iter().map(|&y| split.target.unwrap().undo(y).round() as u32).collect()
        };
        assert_eq!((rows(&split.validation), rows(&split.test)), (vec![10, 13], vec![1, 6]));
    }

    #[test]
    fn shares_are_checked_and_parts_have_a_row() {
        let told = |rows, validation, test| {
            counting(rows).split(Shares { validation, test }, 1).unwrap_err().to_string()
        };
        for bad in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(told(9, bad, 0.1).ends_with(": must be above 0 and below 1"), "{bad}");
        }
        for bad in [1.0, -0.1, f64::NAN] {
            assert!(told(9, 0.1, bad).ends_with(": must be at least 0 and below 1"), "{bad}");
        }
        assert_eq!(
            told(9, 0.5, 0.5),
            "test = 0.5: must leave rows for training: validation and test must be below 1 together"
        );
        let few = "must be at least 3, one each for training, validation and test";
        for rows in 0..3 {
            assert_eq!(told(rows, 0.1, 0.1), format!("t: {rows} rows: {few}"));
        }
        assert_eq!(told(1, 0.1, 0.0), "t: 1 rows: must be at least 2, one each for training and validation");
        let parts = |rows, validation, test| {
            let split = counting(rows).split(Shares { validation, test }, 1).unwrap();
            [split.train, split.validation, split.test].map(|part| part.rows)
        };
        assert_eq!(parts(3, 0.1, 0.1), [1, 1, 1]);
        assert_eq!(parts(2, 0.1, 0.0), [1, 1, 0]);
        assert_eq!(parts(10, 0.1, 0.3), [6, 1, 3]);
        assert_eq!(parts(1000, 1e-9, 1e-9), [998, 1, 1]);
        assert_eq!((parts(3, 0.9, 0.01), parts(10, 0.01, 0.98)), ([1, 1, 1], [1, 1, 8]));
    }

    #[test]
    fn a_constant_target_and_classes_are_defined() {
        let split = table(vec![14.62; 1000], Kind::Number).split(Shares::default(), 3).unwrap();
        assert!(split.target.unwrap().is_constant() && split.target.unwrap().scale() == 1.0);
        assert!([&split.train, &split.validation].into_iter().all(|p| p.targets.iter().all(|&y| y == 0.0)));
        assert!(split.test.features.iter().all(|x| x.to_bits() == 0));
        let classes = Kind::Categories(vec!["a".into(), "b".into()]);
        let split =
            table((0..10).map(|i| f64::from(i % 2)).collect(), classes).split(Shares::default(), 3).unwrap();
        assert_eq!((split.target, split.train.labels.len(), split.train.targets.len()), (None, 8, 0));
        assert!(split.train.labels.iter().zip(&split.train.features).all(|(&l, &x)| (l == 1) == (x > 0.0)));
    }

    #[test]
    #[should_panic(expected = "column y: an index that has no category")]
    fn an_index_beyond_the_categories_is_a_bug() {
        table(vec![0.0, 1.0], Kind::Categories(vec!["a".into()]));
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_part(
            rows in 3..300_usize, validation in 0.001..0.99_f64, of_rest in 0.0..0.99_f64, seed: u64,
        ) {
            let (table, test) = (counting(rows), of_rest * (1.0 - validation));
            let split = table.split(Shares { validation, test }, seed).unwrap();
            let parts = [&split.train, &split.validation, &split.test];
            prop_assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), rows);
            prop_assert!(split.train.rows > 0 && split.validation.rows > 0 && (test == 0.0 || split.test.rows > 0));
            let scale = split.target.unwrap();
            let mut all: Vec<f64> =
                parts.iter().flat_map(|part| &part.targets).map(|&y| scale.undo(y).round()).collect();
            all.sort_by(f64::total_cmp);
            prop_assert!(all.into_iter().eq((0..rows).map(|i| i as f64)));
            prop_assert_eq!(table.split(Shares { validation, test }, seed).unwrap(), split);
        }
    }
}
