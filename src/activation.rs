//! Activations, forward and backward, and `exp` and `log`: elementwise.

use std::marker::PhantomData;

use crate::error::check_len;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

pub(crate) mod functions;
mod kernel;

use functions::{Function, Slope};
use kernel::{Backward, Forward};

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

/// Calls a function that is generic over the activation's type.
macro_rules! with_type {
    ($activation:expr, $call:ident, $($arg:expr),*) => {
        match $activation {
            Activation::Relu => $call::<functions::Relu>($($arg),*),
            Activation::SquaredRelu => $call::<functions::SquaredRelu>($($arg),*),
            Activation::Silu => $call::<functions::Silu>($($arg),*),
            Activation::GeluTanh => $call::<functions::GeluTanh>($($arg),*),
            Activation::GeluErf => $call::<functions::GeluErf>($($arg),*),
            Activation::Sigmoid => $call::<functions::Sigmoid>($($arg),*),
            Activation::Tanh => $call::<functions::Tanh>($($arg),*),
            Activation::Identity => $call::<functions::Identity>($($arg),*),
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
        with_type!(self, forward, Some(x), y);
    }

    /// `x = f(x)`; the bits of [`Activation::forward`].
    pub fn forward_in_place(self, x: &mut [f32]) {
        with_type!(self, forward, None, x);
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
        with_type!(self, backward, Some(dy), x, dx);
    }

    /// `dy = dy f'(x)`, the gradient of the input in place of that of the output; the bits of [`Activation::backward`].
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn backward_in_place(self, dy: &mut [f32], x: &[f32]) {
        check_len("activation backward", "dy", dy.len(), x.len(), "x");
        with_type!(self, backward, None, x, dy);
    }
}

fn forward<F: Function>(x: Option<&[f32]>, y: &mut [f32]) {
    let work = Forward::<F> { active: active(), x, y, function: PhantomData };
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
