//! The losses and their gradients on the lanes, `N` vectors in lockstep.

use super::Huber;
use crate::lanes::Lanes;
use crate::math::{exp_flush, log1p_unit};
use crate::softmax::rows::SUM;

/// A loss of a prediction `x` and its target `t`. Kernels are generic over it.
pub(super) trait Function: Copy + Send + Sync {
    /// A prediction that costs nothing against the target 0: fills the unused lanes of a tail.
    const FREE: f32 = 0.0;

    /// What [`Function::terms`] takes for a gradient times `scale`.
    fn factor(scale: f32) -> f32 {
        scale
    }

    /// Losses, and their gradients times the scale; with `MODE` [`SUM`] the latter may be anything.
    fn terms<L: Lanes, const N: usize, const MODE: u8>(
        self,
        l: L,
        x: [L::F; N],
        t: [L::F; N],
        factor: L::F,
    ) -> [[L::F; N]; 2];
}

/// `(x - t)^2`
#[derive(Clone, Copy)]
pub(super) struct Mse;
/// `|x - t|`
#[derive(Clone, Copy)]
pub(super) struct L1;
/// `max(x, 0) - x t + ln(1 + e^-|x|)`
#[derive(Clone, Copy)]
pub(super) struct BceWithLogits;

#[inline(always)]
fn differences<L: Lanes, const N: usize>(l: L, mut x: [L::F; N], t: [L::F; N]) -> [L::F; N] {
    for i in 0..N {
        x[i] = l.sub(x[i], t[i]);
    }
    x
}

impl Function for Mse {
    fn factor(scale: f32) -> f32 {
        2.0 * scale
    }

    #[inline(always)]
    fn terms<L: Lanes, const N: usize, const MODE: u8>(
        self,
        l: L,
        x: [L::F; N],
        t: [L::F; N],
        factor: L::F,
    ) -> [[L::F; N]; 2] {
        let mut d = differences(l, x, t);
        let mut loss = d;
        for i in 0..N {
            loss[i] = l.mul(d[i], d[i]);
            d[i] = l.mul(d[i], factor);
        }
        [loss, d]
    }
}

impl Function for L1 {
    #[inline(always)]
    fn terms<L: Lanes, const N: usize, const MODE: u8>(
        self,
        l: L,
        x: [L::F; N],
        t: [L::F; N],
        factor: L::F,
    ) -> [[L::F; N]; 2] {
        let zero = l.splat(0.0);
        let minus = l.sub(zero, factor);
        let mut d = differences(l, x, t);
        let mut loss = d;
        for i in 0..N {
            loss[i] = l.abs(d[i]);
            // What is neither above nor below is zero or NaN, and its own sign.
            let below = l.select(l.gt(zero, d[i]), minus, d[i]);
            d[i] = l.select(l.gt(d[i], zero), factor, below);
        }
        [loss, d]
    }
}

impl Function for Huber {
    #[inline(always)]
    fn terms<L: Lanes, const N: usize, const MODE: u8>(
        self,
        l: L,
        x: [L::F; N],
        t: [L::F; N],
        factor: L::F,
    ) -> [[L::F; N]; 2] {
        let (least, most, half) = (l.splat(-self.delta), l.splat(self.delta), l.splat(0.5));
        let mut d = differences(l, x, t);
        let mut loss = d;
        for i in 0..N {
            // The second operand stands where one is NaN.
            let clipped = l.max(least, l.min(most, d[i]));
            // d / 2 times d, or |d| - delta / 2 times delta.
            loss[i] = l.mul(clipped, l.neg_mul_add(half, clipped, d[i]));
            d[i] = l.mul(clipped, factor);
        }
        [loss, d]
    }
}

impl Function for BceWithLogits {
    // e^-200 is 0.
    const FREE: f32 = -200.0;

    /// With `far` the target's distance from the class that the logit votes for, the loss is `|x| far + ln(1 + e^-|x|)`
    /// and the gradient `far - sigmoid(-|x|)` with the sign of `x`: neither cancels where the vote is right.
    #[inline(always)]
    fn terms<L: Lanes, const N: usize, const MODE: u8>(
        self,
        l: L,
        x: [L::F; N],
        mut t: [L::F; N],
        factor: L::F,
    ) -> [[L::F; N]; 2] {
        let (zero, one, sign) = (l.splat(0.0), l.splat(1.0), l.splat_u32(1 << 31));
        let minus = l.sub(zero, factor);
        let (mut negative, mut factors) = (x, x);
        for i in 0..N {
            negative[i] = l.from_bits(l.or(l.to_bits(x[i]), sign));
            let positive = l.gt(x[i], zero);
            t[i] = l.select(positive, l.sub(one, t[i]), t[i]);
            factors[i] = l.select(positive, factor, minus);
        }
        let e = exp_flush(l, negative);
        let mut loss = log1p_unit(l, e);
        for i in 0..N {
            loss[i] = l.neg_mul_add(negative[i], t[i], loss[i]);
        }
        if MODE != SUM {
            let mut r = e;
            for i in 0..N {
                r[i] = l.add(one, e[i]);
            }
            for i in 0..N {
                r[i] = l.div(one, r[i]);
            }
            for i in 0..N {
                t[i] = l.mul(l.neg_mul_add(e[i], r[i], t[i]), factors[i]);
            }
        }
        [loss, t]
    }
}
