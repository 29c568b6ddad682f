//! [`LayerNorm`] and [`RmsNorm`], forward and backward, each also with the addition of a residual before it.
//!
//! # LayerNorm
//! For a row `x` of `n` features (Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450):
//!
//! ```text
//! mean = sum(x) / n        rstd = 1 / sqrt(sum((x - mean)^2) / n + eps)        xhat = (x - mean) * rstd
//! y    = xhat * gamma + beta
//! dx   = rstd * (dy * gamma - mean(dy * gamma) - xhat * mean(dy * gamma * xhat))
//! dgamma = sum over rows of dy * xhat            dbeta = sum over rows of dy
//! ```
//!
//! # RMSNorm
//! For a row `x` of `n` features (Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467):
//!
//! ```text
//! rstd = 1 / sqrt(sum(x^2) / n + eps)        xhat = x * rstd        y = xhat * gamma
//! dx   = rstd * (dy * gamma - xhat * mean(dy * gamma * xhat))        dgamma = sum over rows of dy * xhat
//! ```
//!
//! # With a residual
//! The `forward_add` of both writes `h = x + residual`, each value one rounded addition, and normalises `h`, in one pass
//! over memory. Their `backward_add` takes `h` for the input, and `dh`, the gradient that reaches `h` from elsewhere (the
//! residual stream): it writes `dh + n`, one rounded addition, where `n` is the gradient that `backward` would have written.
//! That is the gradient of `x` and of `residual` alike. So both give the bits of the separate steps.
//!
//! # Accuracy
//! LayerNorm's variance takes a second pass over the row with the corrected two-pass algorithm (Chan, Golub and LeVeque,
//! "Algorithms for Computing the Sample Variance", 1983): the second pass also sums what rounding left in the mean, and
//! both are corrected by it. So a row whose mean is 10^4 times its deviation comes out right, in the backward too, which
//! finds the correction of the saved (rounded) mean again. The backward has the x-hat form rather than the expanded
//! one, which cancels. Bounds, with u = 2^-24, exact statistics on the right, and F = 10:
//!
//! ```text
//! mean     u (|mean| + F / rstd)                  rstd     F u rstd
//! y        F u (|xhat gamma| + |gamma| + |beta|)
//! dx       F u rstd (|g| + (1 + |xhat|) mean(|g| (1 + |xhat|)))   with g = dy * gamma
//! dgamma   (l + F) u sum over rows of |dy| (1 + |xhat|)           dbeta    l u sum over rows of |dy|
//! ```
//!
//! where `l` is the length of the sums over rows, `min(rows, 128)` and one for each level of the tree. F is measured
//! (`tests/oracle`: up to 0.8 of it). The roundings of a row of very few different values may all go one way: there F
//! is `4 + min(n, 4096) / 128`, if that is more. All this while nothing overflows or underflows: deviations between
//! 1e-18 (or the root of `eps`) and 1e18, and a sum of the row below f32's maximum.
//!
//! RMSNorm's bounds, with F as above:
//!
//! ```text
//! rstd     F/2 u rstd                              y        F/2 u |xhat gamma|
//! dx       F u rstd (|g| + |xhat| mean(|g xhat|))  dgamma   (l + F/2) u sum over rows of |dy xhat|
//! ```
//!
//! Here it is the root of the mean square, or of `eps`, that lies between 1e-18 and 1e18. A residual adds the rounding of
//! `h`, which is then the input, and of the sum: `u |dx|`.
//!
//! # Bits
//! A sum over a row runs on two or four accumulators of sixteen lanes, in blocks of 4096 features that are added one
//! after the other; a sum over rows runs within chunks of [`ROWS_PER_CHUNK`] rows, and the chunks are added by a fixed
//! tree. So results depend on shape and data alone, not on tier, threads or how the work was cut.
//!
//! # NaN and infinity
//! A NaN or an infinity in a row makes its mean, its rstd and its whole output NaN. A constant row has variance zero, but
//! for rounding in very long ones: with `eps` 0 its rstd is infinite and its output NaN. So it is with RMSNorm, but for a row
//! of zeros where LayerNorm has a constant one; and a row that is infinite but not NaN has rstd 0 there: its infinities give
//! NaN, its numbers 0, its whole `dx` is NaN.

use crate::error::{self, HyperParamError, check_len};
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod backward;
mod columns;
mod fold;
mod forward;
mod hat;
mod rms;
mod small;

use backward::{Rows, Sums, backward};
use forward::Forward;
pub use rms::RmsNorm;

/// Rows whose `dgamma` and `dbeta` are summed one after the other; the sums of such chunks are added by a tree.
pub const ROWS_PER_CHUNK: usize = 128;

/// LayerNorm over rows of a fixed number of features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    features: usize,
    eps: f32,
}

impl LayerNorm {
    /// Rows of `features` features; `eps` is added to the variance (PyTorch's default is 1e-5).
    ///
    /// # Errors
    /// `features` is 0, or `eps` is neither 0 nor a normal f32. With 0 a constant row has no scale: see the [module](self).
    pub fn new(features: usize, eps: f64) -> Result<Self, HyperParamError> {
        Ok(LayerNorm { features, eps: checked_eps(features, eps)? })
    }

    /// The number of features in a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Normalises the rows of `x` (`[rows][features]`) into `y`, and saves each row's `mean` and `rstd` (`[rows]`,
    /// which says how many rows there are) for the backward. Parallel from [`tuning::NORM_PARALLEL`] elements on.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        y: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let call = Call { name: "layernorm forward", features: self.features, rows: mean.len() };
        call.forward(x, gamma, y);
        call.a_row("beta", beta);
        check_len(call.name, "rstd", rstd.len(), mean.len(), "mean");
        let (residual, h): (_, &mut [f32]) = (&[], &mut []);
        let (active, eps, features) = (active(), self.eps, self.features);
        let work =
            Forward::<true, false> { active, eps, features, x, residual, gamma, beta, h, y, mean, rstd };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    }

    /// Adds `residual` to `x` (both `[rows][features]`) into `h`, and normalises the rows of `h` into `y`; the rest is as in
    /// [`LayerNorm::forward`]. The bits are those of the two steps.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    #[allow(clippy::too_many_arguments)]
    pub fn forward_add(
        &self,
        x: &[f32],
        residual: &[f32],
        gamma: &[f32],
        beta: &[f32],
        h: &mut [f32],
        y: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let call = Call { name: "layernorm forward_add", features: self.features, rows: mean.len() };
        call.forward(x, gamma, y);
        call.a_matrix("residual", residual);
        call.a_matrix("h", h);
        call.a_row("beta", beta);
        check_len(call.name, "rstd", rstd.len(), mean.len(), "mean");
        let (active, eps, features) = (active(), self.eps, self.features);
        let work =
            Forward::<true, true> { active, eps, features, x, residual, gamma, beta, h, y, mean, rstd };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    }

    /// How many f32 of scratch [`LayerNorm::backward`] needs for `rows` rows; 0 up to [`ROWS_PER_CHUNK`] rows.
    ///
    /// # Panics
    /// If it is more than a usize can say.
    #[track_caller]
    pub fn scratch_len(&self, rows: usize) -> usize {
        scratch_len("layernorm", rows, self.features, 2)
    }

    /// From `dy`, the gradient of the output, and what the forward saw and saved: the gradient of the input `dx`
    /// (`[rows][features]`) and of the parameters, `dgamma` and `dbeta` (`[features]`, overwritten). `scratch` holds at
    /// least [`LayerNorm::scratch_len`] values, whatever they are. Parallel from [`tuning::NORM_PARALLEL`] elements on.
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
        mean: &[f32],
        rstd: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (features, rows) = (self.features, mean.len());
        let call = Call { name: "layernorm backward", features, rows };
        call.backward(dy, x, gamma, dx, dgamma);
        call.a_row("dbeta", dbeta);
        check_len(call.name, "rstd", rstd.len(), rows, "mean");
        let scratch = call.scratch(scratch, self.scratch_len(rows));
        let rows = Rows::<true, false> { features, dy, dh: &[], x, gamma, mean, rstd, dx };
        backward(active(), rows, Sums { dgamma, dbeta }, scratch);
    }

    /// As [`LayerNorm::backward`], for [`LayerNorm::forward_add`]: `h` is what that wrote, `dh` (`[rows][features]`) the
    /// gradient that reaches `h` from elsewhere, and `dx` the sum of both gradients, which is that of `x` and of `residual`.
    /// The bits are those of `backward` and an addition.
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
        mean: &[f32],
        rstd: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (features, rows) = (self.features, mean.len());
        let call = Call { name: "layernorm backward_add", features, rows };
        call.a_matrix("h", h);
        call.backward(dy, h, gamma, dx, dgamma);
        call.a_matrix("dh", dh);
        call.a_row("dbeta", dbeta);
        check_len(call.name, "rstd", rstd.len(), rows, "mean");
        let scratch = call.scratch(scratch, self.scratch_len(rows));
        let rows = Rows::<true, true> { features, dy, dh, x: h, gamma, mean, rstd, dx };
        backward(active(), rows, Sums { dgamma, dbeta }, scratch);
    }
}

/// `eps` for the kernels.
fn checked_eps(features: usize, eps: f64) -> Result<f32, HyperParamError> {
    HyperParamError::check(features > 0, "features", features as f64, "must be at least 1")?;
    HyperParamError::check_eps(eps)?;
    Ok(eps as f32)
}

/// Scratch for the sums over rows, `vectors` of each chunk; one chunk sums where its results belong.
#[track_caller]
fn scratch_len(kernel: &str, rows: usize, features: usize, vectors: usize) -> usize {
    if rows <= ROWS_PER_CHUNK {
        return 0;
    }
    let len = rows.div_ceil(ROWS_PER_CHUNK).checked_mul(vectors).and_then(|n| n.checked_mul(features));
    error::scratch_len(kernel, rows, features, len)
}

/// What a call's slices must fit.
#[derive(Clone, Copy)]
struct Call {
    name: &'static str,
    features: usize,
    rows: usize,
}

impl Call {
    #[track_caller]
    fn a_matrix(self, name: &str, values: &[f32]) {
        let size = self.rows.saturating_mul(self.features);
        check_len(self.name, name, values.len(), size, "rows x features");
    }

    #[track_caller]
    fn a_row(self, name: &str, values: &[f32]) {
        check_len(self.name, name, values.len(), self.features, "a row");
    }

    /// What every forward has.
    #[track_caller]
    fn forward(self, x: &[f32], gamma: &[f32], y: &[f32]) {
        self.a_matrix("x", x);
        self.a_matrix("y", y);
        self.a_row("gamma", gamma);
    }

    /// What every backward has.
    #[track_caller]
    fn backward(self, dy: &[f32], x: &[f32], gamma: &[f32], dx: &[f32], dgamma: &[f32]) {
        self.a_matrix("dy", dy);
        self.a_matrix("x", x);
        self.a_matrix("dx", dx);
        self.a_row("gamma", gamma);
        self.a_row("dgamma", dgamma);
    }

    /// The part of the scratch that is needed.
    #[track_caller]
    fn scratch(self, scratch: &mut [f32], needed: usize) -> &mut [f32] {
        let (name, len) = (self.name, scratch.len());
        assert!(len >= needed, "{name}: scratch has {len} values, needs {needed}");
        &mut scratch[..needed]
    }
}
