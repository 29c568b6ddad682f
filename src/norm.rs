//! LayerNorm, forward and backward.
//!
//! For a row `x` of `n` features (Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450):
//!
//! ```text
//! mean = sum(x) / n        rstd = 1 / sqrt(sum((x - mean)^2) / n + eps)        xhat = (x - mean) * rstd
//! y    = xhat * gamma + beta
//! dx   = rstd * (dy * gamma - mean(dy * gamma) - xhat * mean(dy * gamma * xhat))
//! dgamma = sum over rows of dy * xhat            dbeta = sum over rows of dy
//! ```
//!
//! # Accuracy
//! The variance takes a second pass over the row with the corrected two-pass algorithm (Chan, Golub and LeVeque,
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
//! # Bits
//! A sum over a row runs on two or four accumulators of sixteen lanes, in blocks of 4096 features that are added one
//! after the other; a sum over rows runs within chunks of [`ROWS_PER_CHUNK`] rows, and the chunks are added by a fixed
//! tree. So results depend on shape and data alone, not on tier, threads or how the work was cut.
//!
//! # NaN and infinity
//! A NaN or an infinity in a row makes its mean, its rstd and its whole output NaN. A constant row has variance zero, but
//! for rounding in very long ones: with `eps` 0 its rstd is infinite and its output NaN.

use crate::error::{HyperParamError, check_len};
use crate::lanes::dispatch;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod backward;
mod fold;
mod forward;

use backward::{AddChunks, Backward, BackwardChunk, Sums};
use forward::Forward;

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
    /// `features` is 0, or `eps` is not finite, negative or beyond f32.
    pub fn new(features: usize, eps: f64) -> Result<Self, HyperParamError> {
        HyperParamError::check(features > 0, "features", features as f64, "must be at least 1")?;
        let fits = (0.0..=f32::MAX as f64).contains(&eps);
        HyperParamError::check(fits, "eps", eps, "must be finite, at least 0 and within f32's range")?;
        Ok(LayerNorm { features, eps: eps as f32 })
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
        let (features, size) = (self.features, mean.len().saturating_mul(self.features));
        check_len("layernorm forward", "x", x.len(), size, "rows x features");
        check_len("layernorm forward", "y", y.len(), size, "rows x features");
        check_len("layernorm forward", "rstd", rstd.len(), mean.len(), "mean");
        check_len("layernorm forward", "gamma", gamma.len(), features, "a row");
        check_len("layernorm forward", "beta", beta.len(), features, "a row");
        let work = Forward { active: active(), eps: self.eps, features, x, gamma, beta, y, mean, rstd };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    }

    /// How many f32 of scratch [`LayerNorm::backward`] needs for `rows` rows; 0 up to [`ROWS_PER_CHUNK`] rows.
    pub fn scratch_len(&self, rows: usize) -> usize {
        if rows > ROWS_PER_CHUNK { rows.div_ceil(ROWS_PER_CHUNK) * 2 * self.features } else { 0 }
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
        let size = rows.saturating_mul(features);
        check_len("layernorm backward", "dy", dy.len(), size, "rows x features");
        check_len("layernorm backward", "x", x.len(), size, "rows x features");
        check_len("layernorm backward", "dx", dx.len(), size, "rows x features");
        check_len("layernorm backward", "rstd", rstd.len(), rows, "mean");
        check_len("layernorm backward", "gamma", gamma.len(), features, "a row");
        check_len("layernorm backward", "dgamma", dgamma.len(), features, "a row");
        check_len("layernorm backward", "dbeta", dbeta.len(), features, "a row");
        let needed = self.scratch_len(rows);
        assert!(
            scratch.len() >= needed,
            "layernorm backward: scratch has {} values, needs {needed}",
            scratch.len()
        );

        let active = active();
        if rows <= ROWS_PER_CHUNK {
            let sums = Sums { dgamma, dbeta };
            return dispatch(active, BackwardChunk { features, dy, x, gamma, mean, rstd, dx, sums });
        }
        let partial = &mut scratch[..needed];
        let work = Backward { active, features, dy, x, gamma, mean, rstd, dx, partial };
        parallel::run(work, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
        dispatch(active, AddChunks { partial, dgamma, dbeta });
    }
}
