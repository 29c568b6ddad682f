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
fn gradient(dy: &[f32], x: &[f32], dx: &mut [f32], slope: impl Fn(f32) -> f32) {
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = dy * slope(*x);
    }
}

twins! {
    /// `y = f(x)`
    activation_forward, activation_forward_auto, (activation: Activation, x: &[f32], y: &mut [f32]) {
        match activation {
            Activation::Relu => map(x, y, |x| x.max(0.0)),
            Activation::SquaredRelu => map(x, y, |x| x.max(0.0) * x.max(0.0)),
            Activation::Silu => map(x, y, |x| x * sigmoid(x)),
            Activation::GeluTanh => map(x, y, |x| 0.5 * x * (1.0 + gelu_tanh(x))),
            Activation::GeluErf => map(x, y, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
            Activation::Sigmoid => map(x, y, sigmoid),
            Activation::Tanh => map(x, y, f32::tanh),
            Activation::Identity => y.copy_from_slice(x),
        }
    }
}

twins! {
    /// `dx = dy f'(x)`
    activation_backward, activation_backward_auto,
    (activation: Activation, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        match activation {
            Activation::Relu => {
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = if *x > 0.0 { *dy } else if x.is_nan() { *x } else { 0.0 };
                }
            }
            Activation::SquaredRelu => gradient(dy, x, dx, |x| 2.0 * x.max(0.0)),
            Activation::Silu => gradient(dy, x, dx, |x| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))),
            Activation::GeluTanh => gradient(dy, x, dx, |x| {
                let t = gelu_tanh(x);
                let du = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
            }),
            Activation::GeluErf => gradient(dy, x, dx, |x| {
                let density = 0.398_942_3 * (-0.5 * x * x).exp();
                0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }),
            Activation::Sigmoid => gradient(dy, x, dx, |x| sigmoid(x) * (1.0 - sigmoid(x))),
            Activation::Tanh => gradient(dy, x, dx, |x| 1.0 - x.tanh() * x.tanh()),
            Activation::Identity => dx.copy_from_slice(dy),
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
