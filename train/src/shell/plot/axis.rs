//! The scale of an axis: its range, the values it marks, and their labels.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Larger values are not drawn: their differences could overflow.
pub(super) const LARGEST: f64 = f64::MAX / 16.0;

/// A linear scale with marks at multiples of 1, 2 or 5 times a power of ten.
#[derive(Clone, Copy, Debug)]
pub(in crate::shell) struct Scale {
    low: f64,
    high: f64,
    /// From mark to mark: `digit` times ten to the `exponent`.
    digit: u8,
    exponent: i32,
}

impl Scale {
    /// The scale of values of at most [`LARGEST`], with at most `marks` of them marked, and only whole numbers if
    /// `whole`.
    pub(in crate::shell) fn of(values: impl Iterator<Item = f64>, marks: usize, whole: bool) -> Self {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match least <= most {
            true => with_margin(least, most, whole),
            false => (0.0, 1.0),
        };
        let (digit, exponent) = step((high - low) / marks as f64, whole);
        Scale { low, high, digit, exponent }
    }

    fn step(&self) -> f64 {
        // A division by a power of ten is exact where there is one, as a multiplication by its inverse is not.
        match self.exponent {
            e @ 0.. => f64::from(self.digit) * 10f64.powi(e),
            e => f64::from(self.digit) / 10f64.powi(-e),
        }
    }

    pub(in crate::shell) fn marks(&self) -> Vec<f64> {
        let step = self.step();
        let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
        // Adding zero takes the sign of a negative zero away.
        (0..=(last - first) as u64).map(|i| (first + i as f64) * step + 0.0).collect()
    }

    /// A mark's label, with as many digits as tell it from the next.
    pub(in crate::shell) fn label(&self, value: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if largest < 1e8 && self.exponent >= -6 {
            grouped(&format!("{value:.*}", (-self.exponent).max(0) as usize))
        } else if value == 0.0 {
            "0".to_owned()
        } else {
            let digits = largest.log10().floor() as i32 - self.exponent;
            format!("{value:.*e}", digits.clamp(0, 12) as usize)
        }
    }

    /// Characters of the longest label.
    pub(in crate::shell) fn longest_label(&self) -> usize {
        self.marks().iter().map(|&mark| self.label(mark).len()).max().unwrap_or(0)
    }
}

/// The range that shows these values with a margin; never empty.
fn with_margin(least: f64, most: f64, whole: bool) -> (f64, f64) {
    let (width, magnitude) = (most - least, least.abs().max(most.abs()));
    let margin = if width > 1e-9 * magnitude && width > 1e-290 {
        0.03 * width
    } else if magnitude < 1e-280 || whole && magnitude < 1e8 {
        1.0
    } else {
        0.1 * magnitude
    };
    (least - margin, most + margin)
}

/// The least of 1, 2 and 5 times a power of ten that is not below `least`, and not below 1 if it is to be whole.
fn step(least: f64, whole: bool) -> (u8, i32) {
    if whole && least <= 1.0 {
        return (1, 0);
    }
    let exponent = least.log10().floor();
    // Rounding may take it a little below 1 or above 10: the next digit, or the next power, serves then.
    let leading = least / 10f64.powf(exponent);
    let digit = [1, 2, 5].into_iter().find(|&digit| leading <= f64::from(digit) * (1.0 + 1e-9));
    match digit {
        Some(digit) => (digit, exponent as i32),
        None => (1, exponent as i32 + 1),
    }
}

/// A decimal number with a comma between thousands.
fn grouped(number: &str) -> String {
    let end = number.find('.').unwrap_or(number.len());
    let digits = number.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
    let mut grouped = String::with_capacity(number.len() + 4);
    for (i, c) in number.char_indices() {
        if i > digits && i < end && (end - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        // There are no lighter lines between the marks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], whole: bool) -> Vec<String> {
        let scale = Scale::of(values.iter().copied(), 8, whole);
        scale.marks().iter().map(|&mark| scale.label(mark)).collect()
    }

    #[test]
    fn whole_numbers_are_marked_by_whole_numbers() {
        assert_eq!(labels(&[1.0, 3.0], true), ["1", "2", "3"]);
        assert_eq!(labels(&[7.0], true), ["6", "7", "8"]);
        assert_eq!(labels(&[0.0, 3000.0], true), ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000"]);
        assert_eq!(labels(&[0.0, 2e9], true), ["0", "5.0e8", "1.0e9", "1.5e9", "2.0e9"]);
        assert_eq!(labels(&[], true), ["0", "1"]);
    }

    #[test]
    fn labels_have_the_digits_that_tell_them_apart() {
        assert_eq!(labels(&[-0.2, 0.1], false), ["-0.20", "-0.15", "-0.10", "-0.05", "0.00", "0.05", "0.10"]);
        assert_eq!(labels(&[2e-9, 8e-9], false)[..2], ["2e-9", "3e-9"]);
        assert_eq!(labels(&[-1e300, 1e300], false), ["-1.0e300", "-5.0e299", "0", "5.0e299", "1.0e300"]);
        let constant = labels(&[2.5], false);
        assert!(constant.contains(&"2.5".to_owned()), "{constant:?}");
        for values in [[1e8, 1e8 + 1.0], [1e-300, 1e-299], [-3.0, 1e-12], [1e15, 2e15]] {
            for whole in [false, true] {
                let mut all = labels(&values, whole);
                let n = all.len();
                all.dedup();
                assert!((2..=9).contains(&n) && all.len() == n, "{values:?}, whole {whole}: {all:?}");
            }
        }
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, want) in
            [("1", "1"), ("-100", "-100"), ("-1000.50", "-1,000.50"), ("1234567", "1,234,567")]
        {
            assert_eq!(grouped(number), want);
        }
    }
}
