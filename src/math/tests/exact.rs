//! The functions in f64, each in the form that cancels least.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

pub fn sigmoid_slope(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

pub fn tanh_slope(x: f64) -> f64 {
    4.0 * sigmoid_slope(2.0 * x)
}

/// `x s`, 0 where `s` is.
fn times(x: f64, s: f64) -> f64 {
    if s == 0.0 { 0.0 } else { x * s }
}

pub fn silu(x: f64) -> f64 {
    times(x, sigmoid(x))
}

pub fn silu_slope(x: f64) -> f64 {
    sigmoid(x) + silu_slope_term(x)
}

/// The part that may be negative.
pub fn silu_slope_term(x: f64) -> f64 {
    times(x, sigmoid_slope(x))
}

/// `2u`
pub fn gelu_argument(x: f64) -> f64 {
    (8.0 / PI).sqrt() * (x + 0.044715 * x * x * x)
}

pub fn gelu_tanh(x: f64) -> f64 {
    times(x, sigmoid(gelu_argument(x)))
}

pub fn gelu_tanh_slope(x: f64) -> f64 {
    sigmoid(gelu_argument(x)) + gelu_tanh_slope_term(x)
}

/// The part that may be negative.
pub fn gelu_tanh_slope_term(x: f64) -> f64 {
    let du = (8.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
    times(x * du, sigmoid_slope(gelu_argument(x)))
}

pub fn gelu_erf(x: f64) -> f64 {
    let tail = times(x.abs(), upper_tail(x.abs()));
    x.max(0.0) - tail
}

pub fn gelu_erf_slope(x: f64) -> f64 {
    let z = x.abs();
    let h = upper_tail(z) - density_term(z);
    if x < 0.0 { h } else { 1.0 - h }
}

/// `z phi(z)`
pub fn density_term(z: f64) -> f64 {
    times(z, (-0.5 * z * z).exp()) / (2.0 * PI).sqrt()
}

/// `1 - Phi(z)` for `z` from 0 on.
pub fn upper_tail(z: f64) -> f64 {
    let w = z * FRAC_1_SQRT_2;
    if z.is_nan() {
        z
    } else if w > 27.0 {
        0.0
    } else if w > 3.0 {
        // The continued fraction of erfc (Abramowitz and Stegun 7.1.14), from its end.
        let mut f = w;
        for k in (1..=60).rev() {
            f = w + 0.5 * k as f64 / f;
        }
        0.5 * (-w * w).exp() / (f * PI.sqrt())
    } else {
        // Abramowitz and Stegun 7.1.6: no term is negative.
        let (mut term, mut sum, mut k) = (w, w, 0);
        while term > 1e-17 * sum {
            k += 1;
            term *= 2.0 * w * w / (2 * k + 1) as f64;
            sum += term;
        }
        0.5 - sum * (-w * w).exp() / PI.sqrt()
    }
}
