//! How good predictions are, in the units of the data.
//!
//! Plain f64 sums in the order of the rows: the same bits everywhere.

use serde::{Deserialize, Serialize};

use super::head::Targets;
use crate::data::standardize::Scale;

/// Figures of some rows' predictions.
// Flat in the log, so that each figure has a line in metrics.csv.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metrics {
    /// Of numbers.
    Regression {
        /// `1 - sum (t - y)^2 / sum (t - mean t)^2`; none if all targets are equal.
        r2: Option<f64>,
        /// The mean squared error.
        mse: f64,
        /// The mean absolute error.
        mae: f64,
    },
    /// Of classes.
    Classification {
        /// The share of rows whose likeliest class is the right one.
        accuracy: f64,
        /// The mean of `-ln p` of the right class.
        log_loss: f64,
    },
}

impl Metrics {
    /// Of standardised outputs and targets, in the units of `scale`.
    pub fn of_numbers(outputs: &[f32], targets: &[f32], scale: &Scale) -> Metrics {
        let n = targets.len() as f64;
        let mean = targets.iter().map(|&t| f64::from(t)).sum::<f64>() / n;
        let (mut squares, mut absolute, mut total) = (0.0, 0.0, 0.0);
        for (&y, &t) in outputs.iter().zip(targets) {
            let t = f64::from(t);
            let error = f64::from(y) - t;
            squares += error * error;
            absolute += error.abs();
            total += (t - mean) * (t - mean);
        }
        let unit = scale.scale();
        Metrics::Regression {
            r2: (total > 0.0).then(|| 1.0 - squares / total),
            mse: squares / n * unit * unit,
            mae: absolute / n * unit,
        }
    }

    /// Of logits, whose mean loss is `log_loss`: a row's class is the first of the largest ones; of one logit it is 1
    /// where that is above 0.
    pub fn of_classes(logits: &[f32], targets: Targets<'_>, log_loss: f64) -> Metrics {
        let (rows, mut right) = (targets.rows(), 0_usize);
        let width = logits.len() / rows.max(1);
        for (i, row) in logits.chunks_exact(width.max(1)).enumerate() {
            right += usize::from(match targets {
                Targets::Numbers(targets) => class_of(row) == usize::from(targets[i] > 0.5),
                Targets::Classes(classes) => class_of(row) == classes[i] as usize,
            });
        }
        Metrics::Classification { accuracy: right as f64 / rows as f64, log_loss }
    }

    /// In words.
    pub fn words(&self) -> String {
        match *self {
            Metrics::Regression { r2, mse, mae } => {
                let r2 = r2.map_or("undefined (all targets are equal)".into(), |r2| format!("{r2:.5}"));
                format!("R² {r2}  MSE {}  MAE {}", short(mse), short(mae))
            }
            Metrics::Classification { accuracy, log_loss } => {
                format!("accuracy {:.2}%  log loss {log_loss:.4}", 100.0 * accuracy)
            }
        }
    }
}

/// A figure in the data's units, which may be of any size.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value) { format!("{value:.5}") } else { format!("{value:.4e}") }
}

/// The class of a row of logits.
pub fn class_of(row: &[f32]) -> usize {
    match row {
        [logit] => usize::from(*logit > 0.0),
        _ => (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regression(outputs: &[f32], targets: &[f32], scale: &Scale) -> (Option<f64>, f64, f64) {
        match Metrics::of_numbers(outputs, targets, scale) {
            Metrics::Regression { r2, mse, mae } => (r2, mse, mae),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_measured_in_their_units() {
        let scale = Scale::fit([10.0, 14.0].into_iter());
        let (r2, mse, mae) = regression(&[-1.0, 0.5], &[-1.0, 1.0], &scale);
        // Predicted 10 and 13 for 10 and 14.
        assert_eq!((r2, mse, mae), (Some(1.0 - 0.25 / 2.0), 0.5, 0.5));
        let told = Metrics::of_numbers(&[0.0], &[3.0], &Scale::IDENTITY);
        let words = Metrics::Regression { r2: Some(-0.5), mse: 1.234567e-7, mae: 2.5e20 }.words();
        assert_eq!(words, "R² -0.50000  MSE 1.2346e-7  MAE 2.5000e20");
        assert!(
            told.words().starts_with("R² undefined (all targets are equal)  MSE 9.0"),
            "{}",
            told.words()
        );
    }

    #[test]
    fn classes_are_counted() {
        let accuracy = |logits: &[f32], targets| match Metrics::of_classes(logits, targets, 0.5) {
            Metrics::Classification { accuracy, log_loss: 0.5 } => accuracy,
            other => panic!("{other:?}"),
        };
        assert_eq!(accuracy(&[2.0, -1.0, 0.0, 3.0], Targets::Numbers(&[1.0, 0.0, 1.0, 0.0])), 0.5);
        let logits = [0.0, 1.0, 0.0, 7.0, 7.0, 1.0, -1.0, -2.0, 0.5];
        assert_eq!(accuracy(&logits, Targets::Classes(&[1, 0, 1])), 2.0 / 3.0);
        assert_eq!(class_of(&[f32::NAN, 1.0]), 0);
    }
}
