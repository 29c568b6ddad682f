//! Clipping by the global norm, alone or fused with the optimizer's step.
//!
//! For the gradients `g` of all tensors together, as if they were one (Pascanu, Mikolov and Bengio, "On the difficulty of
//! training Recurrent Neural Networks", arXiv 1211.5063):
//!
//! ```text
//! norm = sqrt(sum(g * g)) / grad_scale
//! clip = min(1, max_norm / (norm + 1e-6))
//! g    = g * (clip / grad_scale)
//! ```
//!
//! The constant is that of PyTorch's `clip_grad_norm_`. [`Clip::step`] never writes the clipped gradient: AdamW applies the
//! factor while it reads. So a step reads the gradients twice and everything else once, where norm, unscaling,
//! clipping and step one after the other read them four times and write them twice.
//!
//! # Order, and with it bits
//! The squares of a tensor are summed as [`reduce::norm`] does it, the tensors in f64 by a tree that
//! halves their number; `norm` and `clip` are f64, and the factor is rounded to f32 once. So neither tier nor threads
//! move a bit. The norm is off by at most 35 u, u = 2^-24, an element of the gradient by 37 u more than without a
//! clip, as long as the factor is a normal f32: a norm up to 8e37 times `max_norm`.
//!
//! # NaN and infinity
//! A gradient that is not finite, anywhere, makes the norm NaN or infinite, and then the step is skipped: no parameter, no
//! moment, no gradient is touched, and [`ClipOutcome::skipped`] says so. (PyTorch would go on and make every parameter
//! NaN; its `GradScaler` skips.) Finite gradients are never skipped: their squares are summed without overflow.

use std::ops::Range;

use crate::adamw::{AdamWStep, AdamWTensor};
use crate::error::HyperParamError;
use crate::parallel;
use crate::reduce;
use crate::tier::{Active, active};
use crate::tuning;

mod scale;

use scale::Scale;

/// What the gradients are held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipConfig {
    /// The largest norm that a gradient may have, above 0. Infinity clips nothing: gradients are then unscaled and looked
    /// through for what is not finite.
    pub max_norm: f64,
    /// What the loss was multiplied by, and with it the gradients, as in mixed-precision training: they are divided by it
    /// (multiplied by its reciprocal) before their norm counts. 1 where it was not.
    pub grad_scale: f64,
}

impl Default for ClipConfig {
    /// PyTorch users' usual norm of 1, and no scale.
    fn default() -> Self {
        ClipConfig { max_norm: 1.0, grad_scale: 1.0 }
    }
}

/// What a clip did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipOutcome {
    /// The global norm of the unscaled gradients before the clip; NaN or infinite if one of them is.
    pub norm: f64,
    /// What the unscaled gradients were multiplied by, 1 where the norm was small enough; 0 if skipped.
    pub clip_factor: f64,
    /// Whether a gradient was not finite, so that nothing was done.
    pub skipped: bool,
}

/// Clipping: a configuration that was checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    config: ClipConfig,
}

impl Clip {
    /// Checks the configuration.
    ///
    /// # Errors
    /// `max_norm` is not above 0, or `grad_scale` is below 1e-12, or its reciprocal is not a normal f32.
    pub fn new(config: ClipConfig) -> Result<Self, HyperParamError> {
        let ClipConfig { max_norm, grad_scale } = config;
        HyperParamError::check(max_norm > 0.0, "max_norm", max_norm, "must be above 0")?;
        HyperParamError::check_grad_scale(grad_scale)?;
        Ok(Clip { config })
    }

    /// The configuration.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// One optimizer step on gradients clipped by their global norm: that of all `tensors` together, as `step` sees them,
    /// so after a [scale](AdamWStep::unscale) of its own. The gradients themselves stay as they are. Parallel from
    /// [`tuning::REDUCE_PARALLEL`] and [`tuning::ADAMW_PARALLEL`] elements on.
    ///
    /// Where nothing has to be clipped or unscaled the bits are those of [`AdamWStep::update_many`]; deterministic as
    /// the [module](self) says.
    ///
    /// # Panics
    /// If a tensor's slices differ in length; nothing is changed then.
    #[track_caller]
    pub fn step(&self, step: &AdamWStep, tensors: &mut [AdamWTensor<'_>]) -> ClipOutcome {
        for tensor in tensors.iter() {
            tensor.check();
        }
        let unscale = step.grad_factor() / self.config.grad_scale;
        let outcome = self.outcome(active(), tensors, unscale);
        if !outcome.skipped {
            // The norm has read the last tensors last, so the caches hold their gradients still.
            step.with_grad_factor(outcome.clip_factor * unscale).update_in_order(tensors, true);
        }
        outcome
    }

    /// Unscales and clips `grads` in place by their global norm. Parallel from [`tuning::REDUCE_PARALLEL`] elements on.
    /// Where neither changes a value nothing is written.
    pub fn clip(&self, grads: &mut [&mut [f32]]) -> ClipOutcome {
        let active = active();
        let unscale = 1.0 / self.config.grad_scale;
        let outcome = self.outcome(active, grads, unscale);
        let factor = (outcome.clip_factor * unscale) as f32;
        if !outcome.skipped && factor != 1.0 {
            parallel::run(
                Scale { active, factor, grads: scale::Part::Many(grads) },
                tuning::REDUCE_PARALLEL,
                tuning::REDUCE_PIECE,
            );
        }
        outcome
    }

    /// The norm and what follows from it.
    fn outcome<G: Gradients + ?Sized>(&self, active: Active, grads: &G, unscale: f64) -> ClipOutcome {
        let norm = sum_of_squares(active, grads).sqrt() * unscale;
        if !norm.is_finite() {
            return ClipOutcome { norm, clip_factor: 0.0, skipped: true };
        }
        let clip_factor = (self.config.max_norm / (norm + 1e-6)).min(1.0);
        ClipOutcome { norm, clip_factor, skipped: false }
    }
}

/// Scales `grads` in place so that their global norm is at most `max_norm`, and gives the norm that they had: PyTorch's
/// `clip_grad_norm_`, but that gradients which are not finite are left as they are. See [`Clip::clip`].
///
/// # Errors
/// `max_norm` is not above 0.
pub fn clip_grad_norm(grads: &mut [&mut [f32]], max_norm: f64) -> Result<ClipOutcome, HyperParamError> {
    Ok(Clip::new(ClipConfig { max_norm, ..ClipConfig::default() })?.clip(grads))
}

/// The gradients of several tensors.
trait Gradients: Sync {
    fn count(&self) -> usize;
    fn get(&self, i: usize) -> &[f32];
}

impl Gradients for [AdamWTensor<'_>] {
    fn count(&self) -> usize {
        self.len()
    }
    fn get(&self, i: usize) -> &[f32] {
        self[i].grad
    }
}

impl Gradients for [&mut [f32]] {
    fn count(&self) -> usize {
        self.len()
    }
    fn get(&self, i: usize) -> &[f32] {
        self[i]
    }
}

/// The sum of the squares of all.
fn sum_of_squares<G: Gradients + ?Sized>(active: Active, grads: &G) -> f64 {
    if grads.count() == 0 {
        return 0.0;
    }
    let size = |range: &Range<usize>| {
        let mut size = 0;
        for i in range.clone() {
            size += grads.get(i).len();
        }
        size
    };
    // One tensor may be most of them.
    let all = size(&(0..grads.count()));
    let of_one = if all >= tuning::REDUCE_PARALLEL { tuning::REDUCE_PIECE } else { usize::MAX };
    let one = |i: Range<usize>| reduce::sum_of_squares(active, grads.get(i.start), of_one);
    let (threshold, piece) = (tuning::REDUCE_PARALLEL, tuning::REDUCE_PIECE);
    parallel::reduce(0..grads.count(), threshold, piece, &size, &one, &|a, b| a + b)
}
