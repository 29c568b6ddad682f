//! Errors for data that comes from outside: each names the value and the rule it breaks.

use std::fmt;

/// The largest learning rate.
const MAX_RATE: f64 = 1e30;

/// The largest of the other factors of data: several of them, a rate and data up to 1e6 stay within f32.
pub(crate) const MAX_FACTOR: f64 = 1e12;

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

    /// A learning rate, or the product of one and another setting.
    pub(crate) fn check_rate(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check((0.0..=MAX_RATE).contains(&value), name, value, "must be at least 0 and at most 1e30")
    }

    /// What data is multiplied by: a weight decay, a momentum.
    pub(crate) fn check_factor(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check((0.0..=MAX_FACTOR).contains(&value), name, value, "must be at least 0 and at most 1e12")
    }

    /// A learning rate and a decoupled weight decay.
    pub(crate) fn check_decay(lr: f64, weight_decay: f64) -> Result<(), Self> {
        Self::check_rate("lr", lr)?;
        Self::check_factor("weight_decay", weight_decay)?;
        Self::check_rate("lr * weight_decay", lr * weight_decay)
    }

    /// What keeps a denominator from 0: one that rounds to 0 in f32 would not, and one over a subnormal one overflows.
    pub(crate) fn check_eps(eps: f64) -> Result<(), Self> {
        let fits = eps == 0.0 || (f32::MIN_POSITIVE as f64..=f32::MAX as f64).contains(&eps);
        Self::check(fits, "eps", eps, "must be 0 or a normal f32, from 1.2e-38 to 3.4e38")
    }

    /// What gradients were multiplied by. Returns the factor that takes it back, rounded to f32: exact for a power of two.
    pub(crate) fn check_grad_scale(grad_scale: f64) -> Result<f32, Self> {
        let reciprocal = (1.0 / grad_scale) as f32;
        let fits = (1.0 / MAX_FACTOR..).contains(&grad_scale) && reciprocal.is_normal();
        let rule = "must be at least 1e-12, with a reciprocal that is a normal f32";
        Self::check(fits, "grad_scale", grad_scale, rule)?;
        Ok(reciprocal)
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

/// The length of a kernel's scratch for `rows` by `cols` values.
///
/// # Panics
/// If a usize does not hold it, which `None` says.
#[track_caller]
pub(crate) fn scratch_len(kernel: &str, rows: usize, cols: usize, len: Option<usize>) -> usize {
    match len {
        Some(len) => len,
        None => panic!("{kernel}: the scratch for {rows} by {cols} values is longer than a usize can say"),
    }
}

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
