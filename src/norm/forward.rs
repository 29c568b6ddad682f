//! LayerNorm's forward: two passes of sums over a row, one that writes it.

use std::ops::Range;

use super::fold::{Fold, Row, fold, sums};
use crate::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning;

/// Some rows of a forward pass.
pub(super) struct Forward<'a> {
    pub(super) active: Active,
    pub(super) eps: f32,
    pub(super) features: usize,
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) mean: &'a mut [f32],
    pub(super) rstd: &'a mut [f32],
}

impl Work for Forward<'_> {
    fn size(&self) -> usize {
        self.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.mean.len() < 2 {
            return Err(self);
        }
        let middle = self.mean.len() / 2;
        let at = middle * self.features;
        let (x0, x1) = self.x.split_at(at);
        let (y0, y1) = self.y.split_at_mut(at);
        let (m0, m1) = self.mean.split_at_mut(middle);
        let (r0, r1) = self.rstd.split_at_mut(middle);
        Ok((
            Forward { x: x0, y: y0, mean: m0, rstd: r0, ..self },
            Forward { x: x1, y: y1, mean: m1, rstd: r1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, mut row) = (self.mean.len(), 0);
        if self.features <= tuning::NORM_SMALL {
            while row + 16 <= rows {
                forward_rows::<L, 16>(l, &mut self, row);
                row += 16;
            }
        }
        while row + 4 <= rows {
            forward_rows::<L, 4>(l, &mut self, row);
            row += 4;
        }
        while row < rows {
            forward_rows::<L, 1>(l, &mut self, row);
            row += 1;
        }
    }
}

/// `R` rows together: their horizontal sums wait for each other's latency, and sixteen are transposed at once.
#[inline(always)]
fn forward_rows<L: Lanes, const R: usize>(l: L, a: &mut Forward<'_>, first: usize) {
    let n = a.features as f32;
    let mut sum = [l.splat(0.0); R];
    for r in 0..R {
        [sum[r]] = fold::<L, 1, 4, _>(l, &Values(Row::of(a.x, first + r, a.features)));
    }
    let mut mean = sums(l, &sum);
    let mut square = sum;
    for r in 0..R {
        mean[r] /= n;
        let row = Row::of(a.x, first + r, a.features);
        [sum[r], square[r]] = fold::<L, 2, 2, _>(l, &Deviations { row, mean: l.splat(mean[r]) });
    }
    let (left, square) = (sums(l, &sum), sums(l, &square));
    let (mut rstd, mut shift) = ([0.0; R], [0.0; R]);
    for r in 0..R {
        let left = left[r] / n;
        let variance = square[r] / n - left * left;
        // A constant row's is zero but for rounding, which must not make it negative; NaN stays.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        rstd[r] = 1.0 / (variance + a.eps).sqrt();
        shift[r] = -left * rstd[r];
        a.mean[first + r] = mean[r] + left;
        a.rstd[first + r] = rstd[r];
    }

    let (gamma, gamma_rest) = a.gamma.as_chunks::<LANES>();
    let (beta, beta_rest) = a.beta.as_chunks::<LANES>();
    for r in 0..R {
        let row = Row::of(a.x, first + r, a.features);
        let (y, y_rest) = a.y[(first + r) * a.features..][..a.features].as_chunks_mut::<LANES>();
        let (mean, rstd, shift) = (l.splat(mean[r]), l.splat(rstd[r]), l.splat(shift[r]));
        let vectors = y.len();
        let (whole, gamma, beta) = (&row.whole[..vectors], &gamma[..vectors], &beta[..vectors]);
        for i in 0..vectors {
            let xhat = l.mul_add(l.sub(l.load(&whole[i]), mean), rstd, shift);
            l.store(&mut y[i], l.mul_add(xhat, l.load(&gamma[i]), l.load(&beta[i])));
        }
        if !y_rest.is_empty() {
            // The unused lanes compute on the mean, and are not stored.
            let xhat = l.mul_add(l.sub(l.load_part(row.rest, mean), mean), rstd, shift);
            l.store_part(
                y_rest,
                l.mul_add(xhat, l.load_part(gamma_rest, mean), l.load_part(beta_rest, mean)),
            );
        }
    }
}

/// `sum(x)`
struct Values<'a>(Row<'a>);

impl<L: Lanes> Fold<L, 1> for Values<'_> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.0.whole.len()
    }
    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.0.rest.is_empty()
    }
    #[inline(always)]
    fn group(&self, vectors: Range<usize>) -> Self {
        Values(self.0.group(vectors))
    }
    #[inline(always)]
    fn whole(&self, l: L, i: usize, sums: &mut [L::F; 1]) {
        sums[0] = l.add(sums[0], l.load(&self.0.whole[i]));
    }
    #[inline(always)]
    fn rest(&self, l: L, sums: &mut [L::F; 1]) {
        sums[0] = l.add(sums[0], l.load_part(self.0.rest, l.splat(0.0)));
    }
}

/// `sum(x - mean)`, which is what rounding left in the mean, and `sum((x - mean)^2)`
struct Deviations<'a, L: Lanes> {
    row: Row<'a>,
    mean: L::F,
}

impl<L: Lanes> Deviations<'_, L> {
    #[inline(always)]
    fn add(&self, l: L, x: L::F, sums: &mut [L::F; 2]) {
        let d = l.sub(x, self.mean);
        sums[0] = l.add(sums[0], d);
        sums[1] = l.mul_add(d, d, sums[1]);
    }
}

impl<L: Lanes> Fold<L, 2> for Deviations<'_, L> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.row.whole.len()
    }
    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.row.rest.is_empty()
    }
    #[inline(always)]
    fn group(&self, vectors: Range<usize>) -> Self {
        Deviations { row: self.row.group(vectors), ..*self }
    }
    #[inline(always)]
    fn whole(&self, l: L, i: usize, sums: &mut [L::F; 2]) {
        self.add(l, l.load(&self.row.whole[i]), sums);
    }
    #[inline(always)]
    fn rest(&self, l: L, sums: &mut [L::F; 2]) {
        self.add(l, l.load_part(self.row.rest, self.mean), sums);
    }
}
