//! A table that the program draws itself, for regression without a file: Friedman's function with a little noise.
//!
//! ```text
//! y = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 + noise,     x uniform in [0, 1)^5
//! ```
//! (Friedman, "Multivariate Adaptive Regression Splines", Annals of Statistics 19, 1991.) The sine is Bhaskara's
//! rational function, within 0.0017 of it and as smooth: the bits of a libm's sine differ between machines. The noise
//! has standard deviation 0.1 and the function 4.9, so that the best R² that a model can have is 0.9996.

use super::table::{Column, Kind, Schema, Table};
use crate::rng::Rng;
use crate::shell::settings::{self, SettingError};

/// Features of a row.
pub const FEATURES: usize = 5;

/// The standard deviation of the noise.
pub const NOISE: f64 = 0.1;

/// The most rows: half a gigabyte.
const MAX_ROWS: usize = 10_000_000;

/// Purpose of the random numbers.
const PURPOSE: u64 = 0x736d_6f6f_7468;

/// Checks a number of rows before any is drawn.
///
/// # Errors
/// It is 0 or too large.
pub fn check(rows: usize) -> Result<(), SettingError> {
    settings::count("rows", rows as u64, MAX_ROWS as u64)
}

/// The function without noise.
pub fn function(x: [f64; FEATURES]) -> f64 {
    let u = x[0] * x[1];
    let w = u * (1.0 - u);
    let sine = 16.0 * w / (5.0 - 4.0 * w);
    let v = x[2] - 0.5;
    10.0 * sine + 20.0 * v * v + 10.0 * x[3] + 5.0 * x[4]
}

/// Draws a table of columns `x0` to `x4` and target `y`; a longer one begins with the shorter one.
///
/// # Errors
/// There are none or too many rows.
pub fn draw(rows: usize, seed: u64) -> Result<Table, SettingError> {
    check(rows)?;
    let (mut values, mut targets) = (Vec::with_capacity(rows * FEATURES), Vec::with_capacity(rows));
    for row in 0..rows {
        let mut rng = Rng::new(seed, PURPOSE, 0, row as u64);
        let x = [(); FEATURES].map(|()| f64::from(rng.unit()));
        values.extend(x);
        targets.push(function(x) + NOISE * f64::from(rng.normal()));
    }
    let column = |number: usize, name: String| Column { name, number, kind: Kind::Number };
    let schema = Schema {
        header: true,
        delimiter: b',',
        width: FEATURES + 1,
        columns: (0..FEATURES).map(|i| column(i, format!("x{i}"))).collect(),
        target: column(FEATURES, "y".into()),
    };
    let name = format!("{rows} rows of Friedman's function drawn by the program, seed {seed}");
    Ok(Table::new(name, schema, values, targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance.
    fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let n = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / n;
        (mean, values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
    }

    #[test]
    fn rows_are_repeatable_and_counts_are_checked() {
        let (long, short) = (draw(1000, 5).unwrap(), draw(400, 5).unwrap());
        assert_eq!(long.targets()[..400], short.targets()[..]);
        assert_eq!(long.row(399), short.row(399));
        assert_ne!(draw(400, 6).unwrap().targets(), short.targets());
        assert_eq!(draw(0, 1).unwrap_err().to_string(), "rows = 0: must be at least 1");
        assert_eq!(
            draw(usize::MAX, 1).unwrap_err().to_string(),
            format!("rows = {}: must be at most 10000000", usize::MAX)
        );
    }

    #[test]
    fn it_is_friedmans_function() {
        let table = draw(10_000, 1).unwrap();
        let exact = |row: &[f64]| {
            10.0 * (std::f64::consts::PI * row[0] * row[1]).sin()
                + 20.0 * (row[2] - 0.5).powi(2)
                + 10.0 * row[3]
                + 5.0 * row[4]
        };
        let rows = 0..table.rows();
        let noise = rows.clone().map(|i| table.targets()[i] - exact(table.row(i)));
        assert!(rows.clone().all(|i| {
            let x: [f64; FEATURES] = table.row(i).try_into().unwrap();
            (function(x) - exact(&x)).abs() < 0.017
        }));
        let ((mean, variance), (_, all)) = (moments(noise), moments(table.targets().iter().copied()));
        assert!(mean.abs() < 0.02 && (variance / 0.01 - 1.0).abs() < 0.1, "{mean} {variance}");
        assert!(variance / all < 0.0006, "{}", variance / all);
    }

    /// A run without data depends on every bit.
    #[test]
    fn the_bits_are_those() {
        assert_eq!(format!("{:016x}", draw(1000, 1).unwrap().hash()), "11799ed12909d0e3");
    }
}
