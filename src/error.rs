//! Errors for data that comes from outside: each names the value and the rule it breaks.

use std::fmt;

/// A hyper-parameter that is not finite or out of range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HyperParamError {
    /// The hyper-parameter's name, as in the configuration.
    pub name: &'static str,
    /// The value that was given.
    pub value: f64,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl HyperParamError {
    /// `Ok` where `holds`, which must be false for NaN.
    pub(crate) fn check(holds: bool, name: &'static str, value: f64, rule: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(HyperParamError { name, value, rule }) }
    }

    /// A rate, an epsilon, a weight: nothing below 0, and a number in f32.
    pub(crate) fn check_size(name: &'static str, value: f64) -> Result<(), Self> {
        let fits = (0.0..=f32::MAX as f64).contains(&value);
        Self::check(fits, name, value, "must be finite, at least 0 and within f32's range")
    }

    /// The decay of an average.
    pub(crate) fn check_beta(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check((0.0..1.0).contains(&value), name, value, "must be at least 0 and below 1")
    }
}

impl fmt::Display for HyperParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.name, self.value, self.rule)
    }
}

impl std::error::Error for HyperParamError {}

/// Panics with both lengths, at the caller of a kernel that was given slices that do not fit each other.
#[track_caller]
#[inline(always)]
pub(crate) fn check_len(kernel: &str, name: &str, len: usize, want: usize, what: &str) {
    if len != want {
        wrong_len(kernel, name, len, want, what);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn wrong_len(kernel: &str, name: &str, len: usize, want: usize, what: &str) -> ! {
    panic!("{kernel}: {name} has {len} values, {what} asks for {want}");
}
