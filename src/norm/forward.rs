//! The forward: sums over a row, two passes of them where there is a mean, and a pass that writes the row.

use std::ops::Range;

use super::fold::{Fold, Row, RowMut, fold, sums};
use super::hat::Hat;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning;

/// Some rows of a forward pass. `MEAN` is LayerNorm, which takes the row's mean away and adds `beta`; RMSNorm does
/// neither, and the slices for them are empty. `ADD` normalises `h = x + residual` and writes that too; without it these
/// two are empty.
pub(super) struct Forward<'a, const MEAN: bool, const ADD: bool> {
    pub(super) active: Active,
    pub(super) eps: f32,
    pub(super) features: usize,
    pub(super) x: &'a [f32],
    pub(super) residual: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) h: &'a mut [f32],
    pub(super) y: &'a mut [f32],
    pub(super) mean: &'a mut [f32],
    pub(super) rstd: &'a mut [f32],
}

impl<const MEAN: bool, const ADD: bool> Work for Forward<'_, MEAN, ADD> {
    fn size(&self) -> usize {
        self.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.rstd.len() < 2 {
            return Err(self);
        }
        let middle = self.rstd.len() / 2;
        let at = middle * self.features;
        let (x0, x1) = self.x.split_at(at);
        let (residual0, residual1) = self.residual.split_at(if ADD { at } else { 0 });
        let (h0, h1) = self.h.split_at_mut(if ADD { at } else { 0 });
        let (y0, y1) = self.y.split_at_mut(at);
        let (m0, m1) = self.mean.split_at_mut(if MEAN { middle } else { 0 });
        let (r0, r1) = self.rstd.split_at_mut(middle);
        Ok((
            Forward { x: x0, residual: residual0, h: h0, y: y0, mean: m0, rstd: r0, ..self },
            Forward { x: x1, residual: residual1, h: h1, y: y1, mean: m1, rstd: r1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<const MEAN: bool, const ADD: bool> Kernel for Forward<'_, MEAN, ADD> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, mut row) = (self.rstd.len(), 0);
        if self.features <= tuning::NORM_SMALL {
            while row + 16 <= rows {
                forward_rows::<L, 16, MEAN, ADD>(l, &mut self, row);
                row += 16;
            }
        }
        while row + 4 <= rows {
            forward_rows::<L, 4, MEAN, ADD>(l, &mut self, row);
            row += 4;
        }
        while row < rows {
            forward_rows::<L, 1, MEAN, ADD>(l, &mut self, row);
            row += 1;
        }
    }
}

/// `R` rows together: their horizontal sums wait for each other's latency, and sixteen are transposed at once.
#[inline(always)]
fn forward_rows<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    first: usize,
) {
    let (features, n) = (a.features, a.features as f32);
    // Anything but zeros, which would be written by a call of memset.
    let mut sum = [l.splat(n); R];
    for r in 0..R {
        let x = Row::of(a.x, first + r, features);
        let (mut residual, mut h) = (Row::none(), RowMut::none());
        if ADD {
            (residual, h) = (Row::of(a.residual, first + r, features), RowMut::of(a.h, first + r, features));
        }
        [sum[r]] = fold::<L, 1, 4, _>(l, &mut First::<MEAN, ADD> { x, residual, h });
    }
    // What is normalised: with a residual, what the first pass wrote.
    let x = if ADD { &*a.h } else { a.x };
    let (mut mean, mut rstd, mut shift) = (sums(l, &sum), [0.0; R], [0.0; R]);
    for r in 0..R {
        mean[r] /= n;
    }
    if MEAN {
        let mut square = [l.splat(n); R];
        for r in 0..R {
            let row = Row::of(x, first + r, features);
            [sum[r], square[r]] = fold::<L, 2, 2, _>(l, &mut Deviations { row, mean: l.splat(mean[r]) });
        }
        let (left, square) = (sums(l, &sum), sums(l, &square));
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
    } else {
        for r in 0..R {
            // The mean of the squares.
            rstd[r] = 1.0 / (mean[r] + a.eps).sqrt();
            a.rstd[first + r] = rstd[r];
        }
    }

    let gamma = Row::of(a.gamma, 0, features);
    let beta = if MEAN { Row::of(a.beta, 0, features) } else { Row::none() };
    for r in 0..R {
        let row = Row::of(x, first + r, features);
        let y = RowMut::of(a.y, first + r, features);
        let hat = Hat::<L, MEAN>::new(l, mean[r], rstd[r], shift[r]);
        let vectors = y.whole.len();
        let (whole, gamma_whole) = (&row.whole[..vectors], &gamma.whole[..vectors]);
        let beta_whole = if MEAN { &beta.whole[..vectors] } else { beta.whole };
        for i in 0..vectors {
            let xhat = hat.of(l, l.load(&whole[i]));
            let gamma = l.load(&gamma_whole[i]);
            let value =
                if MEAN { l.mul_add(xhat, gamma, l.load(&beta_whole[i])) } else { l.mul(xhat, gamma) };
            l.store(&mut y.whole[i], value);
        }
        if !y.rest.is_empty() {
            // The unused lanes compute on the mean, and are not stored.
            let xhat = hat.of(l, l.load_part(row.rest, hat.mean));
            let gamma = l.load_part(gamma.rest, hat.mean);
            let value = if MEAN {
                l.mul_add(xhat, gamma, l.load_part(beta.rest, hat.mean))
            } else {
                l.mul(xhat, gamma)
            };
            l.store_part(y.rest, value);
        }
    }
}

/// `sum(x)`, and without a mean `sum(x^2)`: of the row, or of `h = x + residual`, which is written.
struct First<'a, const MEAN: bool, const ADD: bool> {
    x: Row<'a>,
    residual: Row<'a>,
    h: RowMut<'a>,
}

/// One vector of the first pass's sum.
#[inline(always)]
fn add<L: Lanes, const MEAN: bool>(l: L, x: L::F, sum: L::F) -> L::F {
    if MEAN { l.add(sum, x) } else { l.mul_add(x, x, sum) }
}

impl<L: Lanes, const MEAN: bool, const ADD: bool> Fold<L, 1> for First<'_, MEAN, ADD> {
    type Group<'g>
        = First<'g, MEAN, ADD>
    where
        Self: 'g;

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.x.whole.len()
    }
    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.x.rest.is_empty()
    }
    #[inline(always)]
    fn group(&mut self, vectors: Range<usize>) -> First<'_, MEAN, ADD> {
        if !ADD {
            return First { x: self.x.group(vectors), residual: Row::none(), h: RowMut::none() };
        }
        First {
            x: self.x.group(vectors.clone()),
            residual: self.residual.group(vectors.clone()),
            h: self.h.group(vectors),
        }
    }
    #[inline(always)]
    fn whole(&mut self, l: L, i: usize, sums: &mut [L::F; 1]) {
        let mut x = l.load(&self.x.whole[i]);
        if ADD {
            x = l.add(x, l.load(&self.residual.whole[i]));
            l.store(&mut self.h.whole[i], x);
        }
        sums[0] = add::<L, MEAN>(l, x, sums[0]);
    }
    #[inline(always)]
    fn rest(&mut self, l: L, sums: &mut [L::F; 1]) {
        let zero = l.splat(0.0);
        let mut x = l.load_part(self.x.rest, zero);
        if ADD {
            x = l.add(x, l.load_part(self.residual.rest, zero));
            l.store_part(self.h.rest, x);
        }
        sums[0] = add::<L, MEAN>(l, x, sums[0]);
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
    type Group<'g>
        = Deviations<'g, L>
    where
        Self: 'g;

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.row.whole.len()
    }
    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.row.rest.is_empty()
    }
    #[inline(always)]
    fn group(&mut self, vectors: Range<usize>) -> Deviations<'_, L> {
        Deviations { row: self.row.group(vectors), ..*self }
    }
    #[inline(always)]
    fn whole(&mut self, l: L, i: usize, sums: &mut [L::F; 2]) {
        self.add(l, l.load(&self.row.whole[i]), sums);
    }
    #[inline(always)]
    fn rest(&mut self, l: L, sums: &mut [L::F; 2]) {
        self.add(l, l.load_part(self.row.rest, self.mean), sums);
    }
}
