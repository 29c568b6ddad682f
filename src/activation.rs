//! Activations, forward and backward, and `exp` and `log`: elementwise.
//!
//! ```text
//! relu max(x, 0)      squared_relu max(x, 0)^2      sigmoid 1 / (1 + e^-x)      silu x sigmoid(x)      tanh, identity
//! gelu_tanh  x sigmoid(2u),  2u = 2 sqrt(2 / pi) (x + 0.044715 x^3), which is x (1 + tanh u) / 2      gelu_erf  x Phi(x)
//! ```
//!
//! The forward is `y = f(x)`, the backward `dx = dy f'(x)`, from the forward's input.
//! [`forward_with_slope`](Activation::forward_with_slope) leaves `f'(x)` in place of `x`, so that the backward is a
//! product. Slices may lie at any offset; input and output are the same slice in the functions for that, and else do
//! not overlap (the borrow checker sees to it).
//!
//! # Accuracy
//! Against the exact function of the `f32` that is given, at every one of the 2^32 (a long test; u is 2^-24, ULP a unit in the
//! last place of the result, `b` is `max(-x, 0)`, `v` is `max(-2u(x), 0)`, `s` the sigmoid of the function):
//!
//! ```text
//!            f                                             f'
//! relu       exact                                         exact
//! sq. relu   1/2 ULP                                       exact
//! exp, log   1 ULP
//! tanh       4.5 ULP                                       (5 + |x| / 2) ULP
//! sigmoid    (2.5 + b / 4) ULP + 4e-39                     (5.5 + |x| / 4) ULP
//! silu       (3.5 + b / 4) ULP + 3e-37                     (5 + b / 2) u (s + |x| s (1 - s)) + 6e-37
//! gelu_tanh  (3 + 2 v) ULP + 3e-37                         (5 + 3 v) u (s + |x| 2u' s (1 - s)) + 3e-36
//! gelu_erf   4 ULP from 0 up,                              (5 + 1.5 b^2) u (Phi(x) + |x| phi(x)) + 2^-31
//!            (4 + 3 x^2) ULP + 2^-27 below
//! ```
//!
//! So the tails keep their digits, where the formulas with `1 + tanh` and `1 + erf` lose them: at -3 `gelu_tanh` is right to 16 ULP.
//! The constants that are added are for where `e^-x` overflows (below -88.7; for `gelu_tanh` below -10) and, for `gelu_erf`, for its
//! tail, of which fewer digits are right from -3 down. The product with `dy` rounds once more.
//!
//! # NaN and infinity
//! NaN gives NaN, and an infinity the function's limit: 0 for minus infinity, where PyTorch's SiLU and GELU give NaN. The slopes
//! have their limits too, to the constants above. `relu'` and `squared_relu'` are 0 at 0. The backward of `relu` takes 0 for
//! what is not above 0, whatever `dy` is; the others multiply, so an infinite `dy` times 0 is NaN.
//!
//! # Method
//! `e^x` is `2^n` times a minimax polynomial (see `exp`). The sigmoid is one power of two and one correctly rounded reciprocal. The
//! tail of the normal distribution is `2^(|x| p(|x|))` with a minimax polynomial `p` of degree 7: no division.

use std::marker::PhantomData;

use crate::error::check_len;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

pub(crate) mod functions;
mod kernel;

use functions::{Function, Slope};
use kernel::{Backward, Forward, ForwardSlope};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2` (So et al., "Primer", arXiv 2109.08668).
    SquaredRelu,
    /// `x sigmoid(x)`, also called Swish (Elfwing, Uchibe and Doya, arXiv 1702.03118).
    Silu,
    /// GELU by the hyperbolic tangent: `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel,
    /// "Gaussian Error Linear Units", arXiv 1606.08415).
    GeluTanh,
    /// GELU by the normal distribution: `x (1 + erf(x / sqrt(2))) / 2` (as above).
    GeluErf,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x`
    #[default]
    Identity,
}

/// Calls a function that is generic over the activation's type; the identity only copies.
macro_rules! with_type {
    ($activation:expr, $copy:expr, $call:ident, $($arg:expr),*) => {
        match $activation {
            Activation::Relu => $call::<functions::Relu>($($arg),*),
            Activation::SquaredRelu => $call::<functions::SquaredRelu>($($arg),*),
            Activation::Silu => $call::<functions::Silu>($($arg),*),
            Activation::GeluTanh => $call::<functions::GeluTanh>($($arg),*),
            Activation::GeluErf => $call::<functions::GeluErf>($($arg),*),
            Activation::Sigmoid => $call::<functions::Sigmoid>($($arg),*),
            Activation::Tanh => $call::<functions::Tanh>($($arg),*),
            Activation::Identity => $copy,
        }
    };
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 8] = [
        Activation::Relu,
        Activation::SquaredRelu,
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Identity,
    ];

    /// The name: `relu`, `squared_relu`, `silu`, `gelu_tanh`, `gelu_erf`, `sigmoid`, `tanh`, `identity`.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::SquaredRelu => "squared_relu",
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::GeluErf => "gelu_erf",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Identity => "identity",
        }
    }

    /// `y = f(x)`. Any length, empty included; parallel from [`tuning::ACTIVATION_PARALLEL`] elements on. Deterministic: the
    /// same bits on every tier, for every thread count, and in place.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn forward(self, x: &[f32], y: &mut [f32]) {
        check_len("activation forward", "y", y.len(), x.len(), "x");
        with_type!(self, y.copy_from_slice(x), forward, Some(x), y);
    }

    /// `x = f(x)`; the bits of [`Activation::forward`], and as parallel.
    pub fn forward_in_place(self, x: &mut [f32]) {
        with_type!(self, (), forward, None, x);
    }

    /// `y = f(x)` and `x = f'(x)` in one sweep: the forward of a training step, whose backward is then a product,
    /// [`multiply`](crate::axpy::multiply)`(x, dy)`. Any length, empty included; as parallel as
    /// [`Activation::forward`], and with its bits. Deterministic.
    ///
    /// The product has the bits of [`Activation::backward`], but for `relu` at and below 0: there it is 0 with the
    /// sign of `dy`, or NaN where `dy` is not finite.
    ///
    /// SiLU and `gelu_tanh` take one exponential and one reciprocal for both results; `gelu_erf` and tanh share most
    /// of what they compute. The sigmoid shares nothing, as its slope keeps digits that its value has lost.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn forward_with_slope(self, x: &mut [f32], y: &mut [f32]) {
        check_len("activation forward with slope", "y", y.len(), x.len(), "x");
        let copy = |x: &mut [f32], y: &mut [f32]| {
            y.copy_from_slice(x);
            x.fill(1.0);
        };
        with_type!(self, copy(x, y), forward_with_slope, x, y);
    }

    /// `dx = dy f'(x)`, from the forward's input `x`. Any length, empty included; parallel from
    /// [`tuning::ACTIVATION_PARALLEL`] elements on. Deterministic, as the forward.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn backward(self, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        check_len("activation backward", "dy", dy.len(), x.len(), "x");
        check_len("activation backward", "dx", dx.len(), x.len(), "x");
        with_type!(self, dx.copy_from_slice(dy), backward, Some(dy), x, dx);
    }

    /// `dy = dy f'(x)`, the gradient of the input in place of that of the output; the bits of [`Activation::backward`].
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn backward_in_place(self, dy: &mut [f32], x: &[f32]) {
        check_len("activation backward", "dy", dy.len(), x.len(), "x");
        with_type!(self, (), backward, None, x, dy);
    }
}

fn forward<F: Function>(x: Option<&[f32]>, y: &mut [f32]) {
    let work = Forward::<F> { active: active(), x, y, function: PhantomData };
    parallel::run(work, tuning::ACTIVATION_PARALLEL, tuning::ACTIVATION_PIECE);
}

fn forward_with_slope<F: Slope>(x: &mut [f32], y: &mut [f32]) {
    let work = ForwardSlope::<F> { active: active(), x, y, function: PhantomData };
    parallel::run(work, tuning::ACTIVATION_PARALLEL, tuning::ACTIVATION_PIECE);
}

fn backward<F: Slope>(dy: Option<&[f32]>, x: &[f32], dx: &mut [f32]) {
    let work = Backward::<F> { active: active(), dy, x, dx, function: PhantomData };
    parallel::run(work, tuning::ACTIVATION_PARALLEL, tuning::ACTIVATION_PIECE);
}

/// `y = e^x`, within 1 unit in the last place at every `f32`; 0 from about -104 down, infinite from about 88.7 up, NaN for NaN.
/// Parallel and deterministic as [`Activation::forward`].
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn exp(x: &[f32], y: &mut [f32]) {
    check_len("exp", "y", y.len(), x.len(), "x");
    forward::<functions::Exp>(Some(x), y);
}

/// `x = e^x`; the bits of [`exp`].
pub fn exp_in_place(x: &mut [f32]) {
    forward::<functions::Exp>(None, x);
}

/// `y = ln x`, within 1 unit in the last place at every `f32`; minus infinity for zeros, NaN for NaN and below zero. Parallel
/// and deterministic as [`Activation::forward`].
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn log(x: &[f32], y: &mut [f32]) {
    check_len("log", "y", y.len(), x.len(), "x");
    forward::<functions::Log>(Some(x), y);
}

/// `x = ln x`; the bits of [`log`].
pub fn log_in_place(x: &mut [f32]) {
    forward::<functions::Log>(None, x);
}
