//! Activations as a plain program has them, by the standard library's functions.

use super::twins;
use crate::activation::Activation;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

const ROOT_2_OVER_PI: f32 = 0.797_884_6;

/// The error function within 1.5e-7 (Abramowitz and Stegun, 7.1.26): the standard library has none.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_8 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - p * (-x * x).exp()).copysign(x)
}

/// The normal distribution.
#[inline(always)]
fn phi(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    (ROOT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh()
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

#[inline(always)]
fn forward(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32, _: impl Fn(f32) -> f32) {
    map(x, y, f);
}

#[inline(always)]
fn forward_with_slope(x: &mut [f32], y: &mut [f32], f: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
        *x = slope(*x);
    }
}

#[inline(always)]
fn backward(dy: &[f32], x: &[f32], dx: &mut [f32], _: impl Fn(f32) -> f32, slope: impl Fn(f32) -> f32) {
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = dy * slope(*x);
    }
}

/// Calls one of the loops above with the function and its slope.
macro_rules! with_formulas {
    ($activation:expr, $sweep:ident($($arg:expr),*)) => {
        match $activation {
            Activation::Relu => {
                let slope = |x: f32| if x > 0.0 { 1.0 } else if x.is_nan() { x } else { 0.0 };
                $sweep($($arg,)* |x| x.max(0.0), slope)
            }
            Activation::SquaredRelu => $sweep($($arg,)* |x| x.max(0.0) * x.max(0.0), |x| 2.0 * x.max(0.0)),
            Activation::Silu => {
                $sweep($($arg,)* |x| x * sigmoid(x), |x| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))))
            }
            Activation::GeluTanh => $sweep($($arg,)* |x| 0.5 * x * (1.0 + gelu_tanh(x)), |x| {
                let t = gelu_tanh(x);
                let du = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
            }),
            Activation::GeluErf => $sweep($($arg,)* |x| x * phi(x), |x| {
                phi(x) + x * 0.398_942_3 * (-0.5 * x * x).exp()
            }),
            Activation::Sigmoid => $sweep($($arg,)* sigmoid, |x| sigmoid(x) * (1.0 - sigmoid(x))),
            Activation::Tanh => $sweep($($arg,)* f32::tanh, |x| 1.0 - x.tanh() * x.tanh()),
            Activation::Identity => $sweep($($arg,)* |x| x, |_| 1.0),
        }
    };
}

twins! {
    /// `y = f(x)`
    activation_forward, activation_forward_auto, (activation: Activation, x: &[f32], y: &mut [f32]) {
        with_formulas!(activation, forward(x, y));
    }
}

twins! {
    /// `y = f(x)` and `x = f'(x)`
    activation_forward_with_slope, activation_forward_with_slope_auto,
    (activation: Activation, x: &mut [f32], y: &mut [f32]) {
        with_formulas!(activation, forward_with_slope(x, y));
    }
}

twins! {
    /// `dx = dy f'(x)`
    activation_backward, activation_backward_auto,
    (activation: Activation, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        if activation == Activation::Relu {
            for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                *dx = if *x > 0.0 { *dy } else if x.is_nan() { *x } else { 0.0 };
            }
        } else {
            with_formulas!(activation, backward(dy, x, dx));
        }
    }
}

twins! {
    /// `y = e^x`
    exp, exp_auto, (x: &[f32], y: &mut [f32]) {
        map(x, y, f32::exp)
    }
}

twins! {
    /// `y = ln x`
    log, log_auto, (x: &[f32], y: &mut [f32]) {
        map(x, y, f32::ln)
    }
}
