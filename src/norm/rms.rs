//! RMSNorm's calls.

use super::backward::{Rows, Sums, backward};
use super::forward::Forward;
use super::{Call, checked_eps, scratch_len};
use crate::error::HyperParamError;
use crate::tier::active;
use crate::{parallel, tuning};

/// RMSNorm over rows of a fixed number of features. Formulas, bounds and what becomes of NaN: [the module's](super).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    features: usize,
    eps: f32,
}

impl RmsNorm {
    /// Rows of `features` features; `eps` is added to the mean of their squares (PyTorch's default is `f32::EPSILON`, models
    /// mostly have 1e-5 or 1e-6).
    ///
    /// # Errors
    /// `features` is 0, or `eps` is neither 0 nor a normal f32. With 0 a row of zeros has no scale: see the [module](super).
    pub fn new(features: usize, eps: f64) -> Result<Self, HyperParamError> {
        Ok(RmsNorm { features, eps: checked_eps(features, eps)? })
    }

    /// The number of features in a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Normalises the rows of `x` (`[rows][features]`) into `y`, and saves each row's `rstd` (`[rows]`, which says how many
    /// rows there are) for the backward. Parallel from [`tuning::NORM_PARALLEL`] elements on.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward(&self, x: &[f32], gamma: &[f32], y: &mut [f32], rstd: &mut [f32]) {
        let (active, eps, features) = (active(), self.eps, self.features);
        let call = Call { name: "rmsnorm forward", features, rows: rstd.len() };
        call.forward(x, gamma, y);
        let (residual, beta): (_, &[f32]) = (&[], &[]);
        let (h, mean): (_, &mut [f32]) = (&mut [], &mut []);
        let work =
            Forward::<false, false> { active, eps, features, x, residual, gamma, beta, h, y, mean, rstd };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    }

    /// Adds `residual` to `x` (both `[rows][features]`) into `h`, and normalises the rows of `h` into `y`; the rest is as in
    /// [`RmsNorm::forward`]. The bits are those of the two steps.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward_add(
        &self,
        x: &[f32],
        residual: &[f32],
        gamma: &[f32],
        h: &mut [f32],
        y: &mut [f32],
        rstd: &mut [f32],
    ) {
        let (active, eps, features) = (active(), self.eps, self.features);
        let call = Call { name: "rmsnorm forward_add", features, rows: rstd.len() };
        call.forward(x, gamma, y);
        call.a_matrix("residual", residual);
        call.a_matrix("h", h);
        let (beta, mean): (_, &mut [f32]) = (&[], &mut []);
        let work =
            Forward::<false, true> { active, eps, features, x, residual, gamma, beta, h, y, mean, rstd };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    }

    /// How many f32 of scratch [`RmsNorm::backward`] needs for `rows` rows; 0 up to
    /// [`ROWS_PER_CHUNK`](super::ROWS_PER_CHUNK) rows.
    ///
    /// # Panics
    /// If it is more than a usize can say.
    #[track_caller]
    pub fn scratch_len(&self, rows: usize) -> usize {
        scratch_len("rmsnorm", rows, self.features, 1)
    }

    /// From `dy`, the gradient of the output, and what the forward saw and saved: the gradient of the input `dx`
    /// (`[rows][features]`) and of the parameter, `dgamma` (`[features]`, overwritten). `scratch` holds at least
    /// [`RmsNorm::scratch_len`] values, whatever they are. Parallel from [`tuning::NORM_PARALLEL`] elements on.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        dy: &[f32],
        x: &[f32],
        gamma: &[f32],
        rstd: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (features, rows) = (self.features, rstd.len());
        let call = Call { name: "rmsnorm backward", features, rows };
        call.backward(dy, x, gamma, dx, dgamma);
        let scratch = call.scratch(scratch, self.scratch_len(rows));
        let rows = Rows::<false, false> { features, dy, dh: &[], x, gamma, mean: &[], rstd, dx };
        backward(active(), rows, Sums { dgamma, dbeta: &mut [] }, scratch);
    }

    /// As [`RmsNorm::backward`], for [`RmsNorm::forward_add`]: `h` is what that wrote, `dh` (`[rows][features]`) the gradient
    /// that reaches `h` from elsewhere, and `dx` the sum of both gradients, which is that of `x` and of `residual`. The bits
    /// are those of `backward` and an addition.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn backward_add(
        &self,
        dy: &[f32],
        dh: &[f32],
        h: &[f32],
        gamma: &[f32],
        rstd: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (features, rows) = (self.features, rstd.len());
        let call = Call { name: "rmsnorm backward_add", features, rows };
        call.a_matrix("h", h);
        call.backward(dy, h, gamma, dx, dgamma);
        call.a_matrix("dh", dh);
        let scratch = call.scratch(scratch, self.scratch_len(rows));
        let rows = Rows::<false, true> { features, dy, dh, x: h, gamma, mean: &[], rstd, dx };
        backward(active(), rows, Sums { dgamma, dbeta: &mut [] }, scratch);
    }
}
