//! Standardisation: columns of mean 0 and mean square 1, by the training rows alone, as `x -> (x - mean) / scale`.
//!
//! All of it is plain f64 arithmetic in the order of the rows, so its bits are the same on every machine.

use serde::{Deserialize, Serialize};

/// Standardised values are cut at so many standard deviations: a value far from all that a nearly constant column had
/// in training stays finite, and so do a network's products with it.
const LIMIT: f64 = 1e12;

/// The mean and scale of one column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Scale {
    mean: f64,
    scale: f64,
    is_constant: bool,
}

/// As a file has it.
#[derive(Deserialize)]
struct Unchecked {
    mean: f64,
    scale: f64,
    is_constant: bool,
}

impl TryFrom<Unchecked> for Scale {
    type Error = String;

    fn try_from(file: Unchecked) -> Result<Self, String> {
        let Unchecked { mean, scale, is_constant } = file;
        let wrong = |name: &str, value: f64, rule: &str| Err(format!("{name} = {value}: {rule}"));
        match () {
            () if !mean.is_finite() => wrong("mean", mean, "must be finite"),
            () if !(scale > 0.0 && scale.is_finite()) => wrong("scale", scale, "must be above 0 and finite"),
            () => Ok(Scale { mean, scale, is_constant }),
        }
    }
}

impl Scale {
    /// Leaves values as they are.
    pub const IDENTITY: Scale = Scale { mean: 0.0, scale: 1.0, is_constant: false };

    /// The mean of finite values and their deviation from it, `sqrt(sum (x - mean)^2 / n)`; a scale of 1 if all are
    /// equal. Without values: [`Scale::IDENTITY`].
    pub fn fit(values: impl Iterator<Item = f64> + Clone) -> Scale {
        let mut moments = Moments::default();
        values.clone().for_each(|x| moments.add(x));
        let mut squares = moments.squares();
        values.for_each(|x| squares.add(x));
        squares.scale()
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation; 1 for a constant column.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether all values were equal. The R² of such a target is undefined.
    pub fn is_constant(&self) -> bool {
        self.is_constant
    }

    /// `(x - mean) / scale`, at most 10^12 in size. Exactly 0 for the value of a constant column.
    pub fn apply(&self, x: f64) -> f32 {
        ((x - self.mean) / self.scale).clamp(-LIMIT, LIMIT) as f32
    }

    /// `mean + scale y`, the inverse of [`Scale::apply`].
    pub fn undo(&self, y: f32) -> f64 {
        self.mean + self.scale * f64::from(y)
    }
}

/// The scales of a row's features. A feature that was constant in training becomes 0 whatever its value, as no weight
/// of it was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Standardizer(Vec<Scale>);

impl Standardizer {
    /// Fits each feature of `rows` rows, which `fill` writes by their index, twice each. Features that are not `scaled`
    /// (0 and 1 of a category) stay as they are if they vary.
    pub fn fit(scaled: &[bool], rows: usize, mut fill: impl FnMut(usize, &mut [f64])) -> Self {
        let mut row = vec![0.0; scaled.len()];
        let mut moments = vec![Moments::default(); scaled.len()];
        for i in 0..rows {
            fill(i, &mut row);
            moments.iter_mut().zip(&row).for_each(|(moments, &x)| moments.add(x));
        }
        let mut squares: Vec<Squares> = moments.iter().map(Moments::squares).collect();
        for i in 0..rows {
            fill(i, &mut row);
            squares.iter_mut().zip(&row).for_each(|(squares, &x)| squares.add(x));
        }
        let scales = squares.iter().zip(scaled).map(|(squares, &scaled)| match squares.scale() {
            scale if scaled || scale.is_constant => scale,
            _ => Scale::IDENTITY,
        });
        Standardizer(scales.collect())
    }

    /// The scale of each feature.
    pub fn scales(&self) -> &[Scale] {
        &self.0
    }

    /// Standardises a row.
    ///
    /// # Panics
    /// If the lengths are not the number of features.
    #[track_caller]
    pub fn apply(&self, row: &[f64], out: &mut [f32]) {
        let (features, len) = (self.0.len(), row.len());
        assert!(
            len == features && out.len() == features,
            "a row of {len} into {}: must be {features}",
            out.len()
        );
        for ((out, &x), scale) in out.iter_mut().zip(row).zip(&self.0) {
            *out = if scale.is_constant { 0.0 } else { scale.apply(x) };
        }
    }
}

/// The first pass: a sum relative to the first value, so that neither a large common part nor small steps are lost.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: u64,
    origin: f64,
    /// The sum of `x - origin` and its rounding error (Neumaier, ZAMM 54, 1974).
    sum: f64,
    error: f64,
    /// The largest `|x - origin|`.
    spread: f64,
}

impl Moments {
    fn add(&mut self, x: f64) {
        if self.count == 0 {
            self.origin = x;
        }
        self.count += 1;
        let d = x - self.origin;
        self.spread = self.spread.max(d.abs());
        let sum = self.sum + d;
        self.error += if self.sum.abs() >= d.abs() { (self.sum - sum) + d } else { (d - sum) + self.sum };
        self.sum = sum;
    }

    fn squares(&self) -> Squares {
        let Moments { count, origin, sum, error, spread } = *self;
        let mean = if count == 0 { 0.0 } else { origin + (sum + error) / count as f64 };
        Squares { count, mean, spread, sum: 0.0 }
    }
}

/// The second pass: squares in units of the spread, which neither overflow nor vanish.
#[derive(Clone, Copy, Debug)]
struct Squares {
    count: u64,
    mean: f64,
    spread: f64,
    sum: f64,
}

impl Squares {
    fn add(&mut self, x: f64) {
        if self.spread > 0.0 {
            let d = (x - self.mean) / self.spread;
            self.sum += d * d;
        }
    }

    fn scale(&self) -> Scale {
        let Squares { count, mean, spread, sum } = *self;
        if spread == 0.0 {
            return Scale { mean, scale: 1.0, is_constant: true };
        }
        let scale = spread * (sum / count as f64).sqrt();
        // Of the smallest numbers there are, a part rounds to 0.
        Scale { mean, scale: if scale > 0.0 { scale } else { spread }, is_constant: false }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fit(values: &[f64]) -> Scale {
        Scale::fit(values.iter().copied())
    }

    #[track_caller]
    fn near(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a} {b}");
    }

    #[test]
    fn a_constant_column_is_exactly_zero() {
        for (value, rows) in [(14.62, 1000), (14.62, 7), (1e8, 999), (0.1, 3), (-3.3e38, 1000), (5e-324, 10)]
        {
            let scale = fit(&vec![value; rows]);
            assert_eq!((scale.mean, scale.scale, scale.is_constant), (value, 1.0, true));
            assert_eq!(scale.apply(value).to_bits(), 0);
            assert_eq!(scale.undo(0.0), value);
            let features = Standardizer::fit(&[true], rows, |_, row| row[0] = value);
            let mut out = [1.0];
            features.apply(&[12345.0], &mut out);
            assert_eq!(out, [0.0], "whatever the value");
        }
        assert!(fit(&[0.0, -0.0]).is_constant);
    }

    #[test]
    fn no_values_are_left_as_they_are() {
        let scale = fit(&[]);
        assert_eq!((scale.mean, scale.scale), (0.0, 1.0));
    }

    #[test]
    fn small_steps_keep_their_scale() {
        let steps =
            |origin: f64, step: f64| (0..1000).map(|k| origin + f64::from(k % 10) * step).collect::<Vec<_>>();
        // The deviation of 0 to 9 is sqrt(99 / 12).
        let deviation = 8.25_f64.sqrt();
        for (origin, step, relative) in [
            (0.0, 1e-12, 1e-14),
            (1.0, 1e-12, 1e-3),
            (1e8, 1.0, 1e-14),
            (0.0, 1e-300, 1e-14),
            (0.0, 1e-320, 1e-2),
            (0.0, 3e37, 1e-14),
            (-1e8, 1e-3, 1e-4),
        ] {
            let values = steps(origin, step);
            let scale = fit(&values);
            near(scale.scale, step * deviation, relative);
            let out: Vec<f64> = values.iter().map(|&x| scale.apply(x).into()).collect();
            near(out.iter().map(|y| y * y).sum::<f64>() / 1000.0, 1.0, 1e-2);
            near(out[9], 4.5 / deviation, 1e-2);
        }
        let scale = fit(&[1e8, 1e8 + 1.0]);
        assert_eq!((scale.mean, scale.scale), (1e8 + 0.5, 0.5));
        assert_eq!([1e8, 1e8 + 1.0].map(|x| scale.apply(x)), [-1.0, 1.0]);
    }

    #[test]
    fn values_far_out_stay_finite() {
        let scale = fit(&[0.0, 5e-324, 5e-324, 5e-324]);
        assert!(scale.scale > 0.0);
        assert_eq!(scale.apply(3e38), 1e12);
        assert_eq!(scale.apply(-3e38), -1e12);
        let wide = fit(&[-3.4e38, 3.4e38]);
        assert_eq!((wide.apply(3.4e38), wide.apply(-3.4e38)), (1.0, -1.0));
    }

    #[test]
    fn categories_stay_zero_and_one_unless_constant() {
        let rows = [[1.0, 0.0, 5.0], [0.0, 0.0, 7.0], [0.0, 0.0, 9.0]];
        let fitted = Standardizer::fit(&[false, false, true], 3, |i, row| row.copy_from_slice(&rows[i]));
        assert_eq!(fitted.0[0], Scale::IDENTITY);
        assert!(fitted.0[1].is_constant);
        let mut out = [9.0; 3];
        fitted.apply(&[1.0, 1.0, 7.0], &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "a row of 2 into 1: must be 1")]
    fn another_length_is_the_callers_bug() {
        Standardizer(vec![Scale::IDENTITY]).apply(&[1.0, 2.0], &mut [0.0]);
    }

    #[test]
    fn a_file_is_checked() {
        let read = |text: &str| serde_json::from_str::<Scale>(text).map_err(|e| e.to_string());
        let told = |mean: &str, scale: &str| {
            read(&format!(r#"{{"mean":{mean},"scale":{scale},"is_constant":false}}"#)).unwrap_err()
        };
        assert!(told("0", "0").starts_with("scale = 0: must be above 0 and finite"));
        assert!(told("0", "-1e-3").starts_with("scale = -0.001: must be above 0"));
        assert!(told("null", "1").contains("invalid type: null"));
    }

    proptest! {
        #[test]
        fn what_is_fitted_is_undone_and_stored(
            values in prop::collection::vec(-1e6..1e6_f64, 1..50), power in -30..30_i32,
        ) {
            let unit = (0..power.abs()).fold(1.0_f64, |unit, _| if power < 0 { unit / 10.0 } else { unit * 10.0 });
            let values: Vec<f64> = values.iter().map(|v| v * unit).collect();
            let scale = fit(&values);
            let out: Vec<f64> = values.iter().map(|&x| scale.apply(x).into()).collect();
            prop_assert!(out.iter().sum::<f64>().abs() / out.len() as f64 <= 1e-6);
            if !scale.is_constant {
                let square = out.iter().map(|y| y * y).sum::<f64>() / out.len() as f64;
                prop_assert!((square - 1.0).abs() < 1e-6, "{square}");
            }
            for &x in &values {
                let largest = values.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
                prop_assert!((scale.undo(scale.apply(x)) - x).abs() <= 1e-6 * largest);
            }
            let stored = serde_json::to_string(&scale).unwrap();
            prop_assert_eq!(serde_json::from_str::<Scale>(&stored).unwrap(), scale);
        }
    }
}
