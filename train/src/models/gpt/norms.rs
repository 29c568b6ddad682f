//! LayerNorm or RMSNorm, behind one call, on some rows of what a chunk has.

use std::ops::Range;

use hotlanes::HyperParamError;
use hotlanes::norm::{LayerNorm, RmsNorm};

use super::config::{Config, NORM_EPS, Norm};
use super::params::NormPlace;
use super::work::{NORM_BACKWARD_FLOPS, NORM_FLOPS};
use crate::shell::profile::{Work, bytes, open};
use hotlanes::AlignedVec;

/// The norm of a model.
pub(super) enum Norms {
    /// With zeros in place of a bias that it does not have.
    Layer(LayerNorm, Vec<f32>),
    Rms(RmsNorm),
}

/// What a norm read and wrote: its input, output, and each row's statistics.
pub(super) struct Normed {
    pub(super) x: AlignedVec,
    pub(super) y: AlignedVec,
    mean: AlignedVec,
    rstd: AlignedVec,
}

impl Normed {
    pub(super) fn new(rows: usize, dim: usize) -> Self {
        let mut normed = Normed {
            x: AlignedVec::default(),
            y: AlignedVec::default(),
            mean: AlignedVec::default(),
            rstd: AlignedVec::default(),
        };
        normed.x.resize_for_overwrite(rows * dim);
        normed.y.resize_for_overwrite(rows * dim);
        normed.mean.resize_for_overwrite(rows);
        normed.rstd.resize_for_overwrite(rows);
        normed
    }

    /// Bytes of its buffers.
    pub(super) fn bytes(&self) -> f64 {
        [&self.x, &self.y, &self.mean, &self.rstd].map(|buffer| bytes(buffer)).iter().sum()
    }
}

/// Where the gradients of a norm's parameters go.
pub(super) struct Sums<'a> {
    /// The model's gradient.
    pub(super) gradient: &'a mut [f32],
    /// Whether they are added to what is there.
    pub(super) add: bool,
    /// Two rows of features.
    pub(super) fresh: &'a mut [f32],
    /// The kernel's.
    pub(super) scratch: &'a mut [f32],
}

impl Norms {
    pub(super) fn new(config: &Config) -> Result<Self, HyperParamError> {
        Ok(match config.norm {
            Norm::LayerNorm => Norms::Layer(LayerNorm::new(config.dim, NORM_EPS)?, vec![0.0; config.dim]),
            Norm::RmsNorm => Norms::Rms(RmsNorm::new(config.dim, NORM_EPS)?),
        })
    }

    pub(super) fn scratch_len(&self, rows: usize) -> usize {
        match self {
            Norms::Layer(norm, _) => norm.scratch_len(rows),
            Norms::Rms(norm) => norm.scratch_len(rows),
        }
    }

    /// Normalises rows of what is in `normed.x`.
    pub(super) fn forward(&self, params: &[f32], place: NormPlace, normed: &mut Normed, rows: Range<usize>) {
        let gamma = place.weights.of(params);
        let n = rows.start * gamma.len()..rows.end * gamma.len();
        let shape = [rows.len(), gamma.len(), 0];
        let work = Work::of_values(NORM_FLOPS * n.len(), 2 * n.len());
        let _span = open!("norm, residual: forward", place.block, shape, work);
        let Normed { x, y, mean, rstd } = normed;
        let (x, y, rstd) = (&x[n.clone()], &mut y[n], &mut rstd[rows.clone()]);
        match self {
            Norms::Layer(norm, zeros) => {
                let beta = place.bias().map_or(&zeros[..], |b| b.of(params));
                norm.forward(x, gamma, beta, y, &mut mean[rows], rstd);
            }
            Norms::Rms(norm) => norm.forward(x, gamma, y, rstd),
        }
    }

    /// Puts rows of `x`, to which `residual` is added, into those of `normed.x` and normalises them. `residual` has
    /// those rows only.
    pub(super) fn forward_add(
        &self,
        params: &[f32],
        place: NormPlace,
        x: &[f32],
        residual: &[f32],
        normed: &mut Normed,
        rows: Range<usize>,
    ) {
        let gamma = place.weights.of(params);
        let n = rows.start * gamma.len()..rows.end * gamma.len();
        let shape = [rows.len(), gamma.len(), 0];
        let work = Work::of_values((NORM_FLOPS + 1) * n.len(), 4 * n.len());
        let _span = open!("norm, residual: forward", place.block, shape, work);
        let Normed { x: h, y, mean, rstd } = normed;
        let (x, h, y, rstd) = (&x[n.clone()], &mut h[n.clone()], &mut y[n], &mut rstd[rows.clone()]);
        match self {
            Norms::Layer(norm, zeros) => {
                let beta = place.bias().map_or(&zeros[..], |b| b.of(params));
                norm.forward_add(x, residual, gamma, beta, h, y, &mut mean[rows], rstd);
            }
            Norms::Rms(norm) => norm.forward_add(x, residual, gamma, h, y, rstd),
        }
    }

    /// `dx` from the gradient `dy` of the output, and `dh`, if any, that reaches the input from elsewhere, all of these
    /// rows only; and the parameters'.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward(
        &self,
        params: &[f32],
        place: NormPlace,
        dy: &[f32],
        dh: Option<&[f32]>,
        normed: &Normed,
        dx: &mut [f32],
        rows: Range<usize>,
        sums: Sums<'_>,
    ) {
        let gamma = place.weights.of(params);
        let dim = gamma.len();
        let values = rows.len() * dim * if dh.is_some() { 4 } else { 3 };
        let work = Work::of_values(NORM_BACKWARD_FLOPS * rows.len() * dim, values);
        let _span = open!("norm, residual: backward", place.block, [rows.len(), dim, 0], work);
        let Normed { x, mean, rstd, .. } = normed;
        let x = &x[rows.start * dim..rows.end * dim];
        let (mean, rstd) = (&mean[rows.clone()], &rstd[rows]);
        let Sums { gradient, add, fresh, scratch } = sums;
        let (dgamma, dbeta) = fresh.split_at_mut(dim);
        match (self, dh) {
            (Norms::Layer(norm, _), Some(dh)) => {
                norm.backward_add(dy, dh, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
            }
            (Norms::Layer(norm, _), None) => {
                norm.backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
            }
            (Norms::Rms(norm), Some(dh)) => norm.backward_add(dy, dh, x, gamma, rstd, dx, dgamma, scratch),
            (Norms::Rms(norm), None) => norm.backward(dy, x, gamma, rstd, dx, dgamma, scratch),
        }
        put(place.weights.of_mut(gradient), dgamma, add);
        if let Some(bias) = place.bias() {
            put(bias.of_mut(gradient), dbeta, add);
        }
    }
}

fn put(to: &mut [f32], from: &[f32], add: bool) {
    if add {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    } else {
        to.copy_from_slice(from);
    }
}
