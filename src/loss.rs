//! Elementwise losses for regression and binary classification: their sum, and with it the gradient in the same sweep.
//!
//! For predictions `x` with targets `t` and `d = x - t`:
//!
//! ```text
//!                  loss                                              gradient
//! Mse              d^2                                               2 d
//! L1               |d|                                               sign(d), 0 where d is 0
//! Huber            d^2 / 2 where |d| <= delta,                       d, held to [-delta, delta]
//!                  else delta (|d| - delta / 2)
//! BceWithLogits    max(x, 0) - x t + ln(1 + e^-|x|)                  sigmoid(x) - t
//! ```
//!
//! The conventions are those of PyTorch's `MSELoss`, `L1Loss`, `HuberLoss` and `BCEWithLogitsLoss`. Every function
//! returns the sum of the losses; the gradient is `dx = scale * dloss/dx`, so a `scale` of `1 / n` makes it the mean's.
//!
//! ```
//! use hotlanes::loss::Loss;
//!
//! let (logits, targets, mut dx) = ([2.0, -1.0, 0.5], [1.0, 0.0, 1.0], [0.0; 3]);
//! let sum = Loss::BceWithLogits.forward_backward(&logits, &targets, 1.0 / 3.0, &mut dx);
//! assert!((sum / 3.0 - 0.304_75).abs() < 1e-4);
//! assert!((dx[0] - (0.880_8 - 1.0) / 3.0).abs() < 1e-4);
//! ```
//!
//! # Accuracy
//! With u = 2^-24, and for the binary cross-entropy `f` the distance of the target from the class that the logit votes
//! for, `1 - t` where `x > 0`, else `t`, and `q = sigmoid(-|x|)`:
//!
//! ```text
//!                  a loss                                     dx, times |scale|
//! Mse              3 u loss + 2^-149                          2 u |2 d|
//! L1               u loss                                     exact
//! Huber            4 u loss + 2^-149                          2 u |gradient|
//! BceWithLogits    u (2 |x f| + 5 ln(1 + e^-|x|)) + 2^-126    u (2 |f| + 5 q + 2 |gradient|) + 2^-126
//! ```
//!
//! and 2^-149 more for each `dx`. The sum is off by the errors of its losses and 70 u times the sum of their absolute
//! values, however many they are (up to 2^40). A loss or a sum of 4096 losses beyond f32's range is infinite.
//!
//! Where a logit votes for the right one of two hard targets neither loss nor gradient cancels, so both keep their
//! digits, where the formulas above lose them: at 20 against 1, the gradient is -2e-9 and not 0.
//!
//! # Order, and with it bits
//! The losses of four vectors of sixteen lanes are added by halving, the groups of a block of 4096 elements one after
//! the other, and its lanes by halving, in f32; what follows the last whole group of a piece is a block of its own.
//! From there on everything is f64: the blocks of a piece of [`PIECE`] elements one after the other, the pieces by a
//! tree that halves their number. So neither tier nor threads nor thresholds change a bit, and in place means the same
//! bits.
//!
//! # NaN and infinity
//! A NaN among predictions or targets makes the sum and its own gradient NaN. Infinities follow the formulas: equal
//! ones in `x` and `t` have the difference NaN; an infinite logit has an infinite loss, or NaN where the target is
//! right (as in PyTorch), and the gradient's limit. Targets of `BceWithLogits` are not checked: beyond [0, 1] the
//! formulas hold as they stand.

use crate::error::{HyperParamError, MAX_FACTOR, check_len};
use crate::parallel;
use crate::softmax::rows::{IN_PLACE, SUM, WRITE};
use crate::tier::active;
use crate::tuning;

mod functions;
mod kernel;

use functions::{BceWithLogits, Function, L1, Mse};
use kernel::Sweep;

/// Elements whose blocks are added one after the other; above, a tree. Part of the format, as the bits depend on it.
pub const PIECE: usize = 1 << 14;

/// An elementwise loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// The squared error, `(x - t)^2`.
    Mse,
    /// The absolute error, `|x - t|`.
    L1,
    /// The Huber loss: squared near the target, absolute far from it (Huber, "Robust Estimation of a Location
    /// Parameter", 1964).
    Huber(Huber),
    /// Binary cross-entropy of logits with targets from 0 to 1, hard or soft.
    BceWithLogits,
}

/// The Huber loss: where it turns from squared to absolute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Huber {
    delta: f32,
}

impl Huber {
    /// Squared up to `delta`, which is rounded to f32.
    ///
    /// # Errors
    /// `delta` is not from 1.2e-38 (the smallest normal f32) to 1e12.
    pub fn new(delta: f64) -> Result<Self, HyperParamError> {
        let fits = (f32::MIN_POSITIVE as f64..=MAX_FACTOR).contains(&delta);
        HyperParamError::check(fits, "delta", delta, "must be a normal f32 above 0 and at most 1e12")?;
        Ok(Huber { delta: delta as f32 })
    }

    /// The difference at which the loss turns from squared to absolute.
    pub fn delta(&self) -> f32 {
        self.delta
    }
}

impl Default for Huber {
    /// PyTorch's 1.
    fn default() -> Self {
        Huber { delta: 1.0 }
    }
}

impl Loss {
    /// The sum of the losses of `x` against `target`, 0 if they are empty. Parallel from [`tuning::LOSS_PARALLEL`]
    /// elements on.
    ///
    /// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formulas,
    /// error and NaN behaviour.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn forward(self, x: &[f32], target: &[f32]) -> f64 {
        check_len("loss forward", "target", target.len(), x.len(), "x");
        self.run::<SUM>(x, target, 0.0, &mut [])
    }

    /// [`Loss::forward`], and the gradient of `x` times `scale` into `dx`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn forward_backward(self, x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        check_len("loss", "target", target.len(), x.len(), "x");
        check_len("loss", "dx", dx.len(), x.len(), "x");
        self.run::<WRITE>(x, target, scale, dx)
    }

    /// [`Loss::forward_backward`] with the gradient over the predictions, with the same bits.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn forward_backward_in_place(self, x: &mut [f32], target: &[f32], scale: f32) -> f64 {
        check_len("loss in place", "target", target.len(), x.len(), "x");
        self.run::<IN_PLACE>(&[], target, scale, x)
    }

    fn run<const MODE: u8>(self, x: &[f32], target: &[f32], scale: f32, dx: &mut [f32]) -> f64 {
        match self {
            Loss::Mse => sweep::<_, MODE>(Mse, x, target, scale, dx),
            Loss::L1 => sweep::<_, MODE>(L1, x, target, scale, dx),
            Loss::Huber(huber) => sweep::<_, MODE>(huber, x, target, scale, dx),
            Loss::BceWithLogits => sweep::<_, MODE>(BceWithLogits, x, target, scale, dx),
        }
    }
}

fn sweep<F: Function, const MODE: u8>(
    function: F,
    x: &[f32],
    target: &[f32],
    scale: f32,
    dx: &mut [f32],
) -> f64 {
    let work = Sweep::<F, MODE> { active: active(), function, factor: F::factor(scale), x, target, dx };
    let size = |part: &Sweep<'_, F, MODE>| part.target.len();
    parallel::reduce(work, tuning::LOSS_PARALLEL, PIECE, &size, &Sweep::piece, &|a, b| a + b)
}
