//! A row's x-hat, by the same operations in forward and backward.

use crate::lanes::Lanes;

/// `xhat = (x - mean) * rstd + shift`, where `shift` is what rounding took from the mean; without a mean `x * rstd`.
#[derive(Clone, Copy)]
pub(super) struct Hat<L: Lanes, const MEAN: bool> {
    /// Zero without a mean: what unused lanes are filled with.
    pub(super) mean: L::F,
    pub(super) rstd: L::F,
    shift: L::F,
}

impl<L: Lanes, const MEAN: bool> Hat<L, MEAN> {
    #[inline(always)]
    pub(super) fn new(l: L, mean: f32, rstd: f32, shift: f32) -> Self {
        let (mean, shift) = if MEAN { (mean, shift) } else { (0.0, 0.0) };
        Hat { mean: l.splat(mean), rstd: l.splat(rstd), shift: l.splat(shift) }
    }

    /// The x-hat of one vector.
    #[inline(always)]
    pub(super) fn of(&self, l: L, x: L::F) -> L::F {
        if MEAN { l.mul_add(l.sub(x, self.mean), self.rstd, self.shift) } else { l.mul(x, self.rstd) }
    }

    /// Of two rows: `yes` where the mask is set.
    #[inline(always)]
    pub(super) fn select(&self, l: L, mask: L::M, yes: &Self) -> Self {
        let mut both = *self;
        both.rstd = l.select(mask, yes.rstd, self.rstd);
        if MEAN {
            both.mean = l.select(mask, yes.mean, self.mean);
            both.shift = l.select(mask, yes.shift, self.shift);
        }
        both
    }
}
