//! The forward: sums over a row, two passes of them where there is a mean, and a pass that writes the row.

use std::array::from_fn;
use std::mem::take;

use super::fold::{Fold, fold, head, row_of, sums};
use super::hat::Hat;
use super::small;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
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
        let mut row = match self.features {
            64 => small::forward::<L, 4, MEAN, ADD>(l, &mut self),
            128 => small::forward::<L, 8, MEAN, ADD>(l, &mut self),
            _ => 0,
        };
        if self.features <= tuning::NORM_SMALL {
            row = forward_groups::<L, 16, MEAN, ADD>(l, &mut self, row);
        }
        row = forward_groups::<L, 4, MEAN, ADD>(l, &mut self, row);
        forward_groups::<L, 1, MEAN, ADD>(l, &mut self, row);
    }
}

/// All groups of `R` rows from row `from` on; the first row that is left.
#[inline(always)]
fn forward_groups<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    mut from: usize,
) -> usize {
    while from + R <= a.rstd.len() {
        let first = first_pass::<L, R, MEAN, ADD>(l, a, from);
        let stats = statistics::<L, R, MEAN, ADD>(l, a, from, &first);
        write_pass::<L, R, MEAN, ADD>(l, a, from, &stats);
        from += R;
    }
    from
}

/// The mean of each row, or without a mean that of its squares.
#[inline(always)]
fn first_pass<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    first: usize,
) -> [f32; R] {
    let features = a.features;
    let rows = first * features..(first + R) * features;
    let x = if ADD {
        let h = &mut a.h[rows.clone()];
        add(l, &a.x[rows.clone()], &a.residual[rows], h);
        h
    } else {
        &a.x[rows]
    };
    let (mut sum, head) = ([[l.splat(0.0); R]], head(l, x, features));
    let mut r = 0;
    // Elsewhere the accumulators of four rows do not fit the registers.
    while L::WIDE && MEAN && R == 4 && r < R {
        let rows: [[&[f32]; 1]; 4] = from_fn(|k| [row_of(x, r + k, features)]);
        let four = fold::<L, Sum<MEAN>, 1, 4, 1, 4, false>(l, [Sum; 4], rows, head);
        for k in 0..4 {
            sum[0][r + k] = four[k][0];
        }
        r += 4;
    }
    while r < R {
        [[sum[0][r]]] = fold::<L, Sum<MEAN>, 1, 1, 1, 4, false>(l, [Sum], [[row_of(x, r, features)]], head);
        r += 1;
    }
    let ([mut mean], n) = (sums(l, &sum), features as f32);
    for r in 0..R {
        mean[r] /= n;
    }
    mean
}

/// The statistics from which [`Hat`] computes the x-hat of `R` rows.
struct Stats<const R: usize> {
    mean: [f32; R],
    rstd: [f32; R],
    shift: [f32; R],
}

/// The statistics of rows, which are saved, too. In small steps over all rows, each a vector's.
#[inline(always)]
fn statistics<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    first: usize,
    mean: &[f32; R],
) -> Stats<R> {
    let (features, n) = (a.features, a.features as f32);
    let mut stats = Stats { mean: *mean, rstd: [0.0; R], shift: [0.0; R] };
    if !MEAN {
        for r in 0..R {
            // The mean of the squares.
            stats.rstd[r] = 1.0 / (mean[r] + a.eps).sqrt();
        }
        a.rstd[first..][..R].copy_from_slice(&stats.rstd);
        return stats;
    }
    let x: &[f32] = if ADD { a.h } else { a.x };
    let head = head(l, x, features);
    let mut sum = [[l.splat(0.0); R]; 2];
    let mut r = 0;
    while L::WIDE && R == 4 && r < R {
        let mut f = [Deviation::<L> { mean: l.splat(0.0) }; 4];
        for k in 0..4 {
            f[k].mean = l.splat(mean[r + k]);
        }
        let rows: [[&[f32]; 1]; 4] = from_fn(|k| [row_of(x, first + r + k, features)]);
        // This pass has the fewest loads for its operations, so that there is time to fetch the rows after these.
        let four = fold::<L, Deviation<L>, 1, 4, 2, 2, true>(l, f, rows, head);
        for k in 0..4 {
            [sum[0][r + k], sum[1][r + k]] = four[k];
        }
        r += 4;
    }
    while r < R {
        let f = [Deviation::<L> { mean: l.splat(mean[r]) }];
        let [one] = fold::<L, Deviation<L>, 1, 1, 2, 2, true>(l, f, [[row_of(x, first + r, features)]], head);
        [sum[0][r], sum[1][r]] = one;
        r += 1;
    }
    let [mut left, mut variance] = sums(l, &sum);
    for r in 0..R {
        left[r] /= n;
    }
    for r in 0..R {
        variance[r] = variance[r] / n - left[r] * left[r];
    }
    for r in 0..R {
        // A constant row's is zero but for rounding, which must not make it negative; NaN stays.
        variance[r] = if variance[r] < 0.0 { 0.0 } else { variance[r] };
    }
    for r in 0..R {
        stats.rstd[r] = 1.0 / (variance[r] + a.eps).sqrt();
    }
    for r in 0..R {
        stats.shift[r] = -left[r] * stats.rstd[r];
    }
    for r in 0..R {
        left[r] += mean[r];
    }
    a.mean[first..][..R].copy_from_slice(&left);
    a.rstd[first..][..R].copy_from_slice(&stats.rstd);
    stats
}

/// Writes `y` of `R` rows.
#[inline(always)]
fn write_pass<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    first: usize,
    stats: &Stats<R>,
) {
    let (features, mut r) = (a.features, 0);
    let x: &[f32] = if ADD { a.h } else { a.x };
    let head = head(l, a.y, features);
    // Stores that cross lines are slow where several rows take turns.
    let together = MEAN && R == 4 && features.is_multiple_of(LANES);
    while L::WIDE && together && r < R {
        write_rows::<L, R, 4, MEAN>(l, stats, r, features, x, a.gamma, a.beta, a.y, first, head);
        r += 4;
    }
    while together && r < R {
        write_rows::<L, R, 2, MEAN>(l, stats, r, features, x, a.gamma, a.beta, a.y, first, head);
        r += 2;
    }
    while r < R {
        write_rows::<L, R, 1, MEAN>(l, stats, r, features, x, a.gamma, a.beta, a.y, first, head);
        r += 1;
    }
}

/// `y` of `G` of a group's `R` rows, from the group's row `at` on: gamma and beta are loaded once for all of them.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn write_rows<L: Lanes, const R: usize, const G: usize, const MEAN: bool>(
    l: L,
    stats: &Stats<R>,
    at: usize,
    features: usize,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    first: usize,
    head: usize,
) {
    let mut hat = [Hat::<L, MEAN>::new(l, stats.mean[at], stats.rstd[at], stats.shift[at]); G];
    for r in 1..G {
        hat[r] = Hat::new(l, stats.mean[at + r], stats.rstd[at + r], stats.shift[at + r]);
    }
    let rows = (first + at) * features..(first + at + G) * features;
    let (x, mut y) = (&x[rows.clone()], &mut y[rows]);
    // Without a mean gamma stands for beta, and is not read as it.
    let beta = if MEAN { &beta[..features] } else { gamma };
    let (gamma_head, gamma) = gamma[..features].split_at(head);
    let (beta_head, beta) = beta.split_at(head);
    let mut whole: [&[Chunk]; G] = [&[]; G];
    let mut rest: [&[f32]; G] = [&[]; G];
    let mut out: [&mut [Chunk]; G] = from_fn(|_| Default::default());
    let mut out_rest: [&mut [f32]; G] = from_fn(|_| Default::default());
    for r in 0..G {
        let row;
        (row, y) = y.split_at_mut(features);
        let (out_head, row) = row.split_at_mut(head);
        let (x_head, x) = row_of(x, r, features).split_at(head);
        (whole[r], rest[r]) = x.as_chunks();
        (out[r], out_rest[r]) = row.as_chunks_mut();
        if head > 0 {
            write_part(l, &hat[r], x_head, gamma_head, beta_head, out_head);
        }
    }
    let ((gamma, gamma_rest), (beta, beta_rest)) = (gamma.as_chunks::<LANES>(), beta.as_chunks::<LANES>());
    // One length for all, so that the bounds are checked once.
    let vectors = gamma.len();
    let beta = &beta[..vectors];
    for r in 0..G {
        whole[r] = &whole[r][..vectors];
        out[r] = &mut take(&mut out[r])[..vectors];
    }
    let mut i = 0;
    while L::WIDE && G == 1 && i + 4 <= vectors {
        write_vectors::<L, G, 4, MEAN>(l, &hat, &whole, gamma, beta, &mut out, i);
        i += 4;
    }
    while L::WIDE && G > 1 && i + 2 <= vectors {
        write_vectors::<L, G, 2, MEAN>(l, &hat, &whole, gamma, beta, &mut out, i);
        i += 2;
    }
    while i < vectors {
        write_vectors::<L, G, 1, MEAN>(l, &hat, &whole, gamma, beta, &mut out, i);
        i += 1;
    }
    if !gamma_rest.is_empty() {
        for r in 0..G {
            write_part(l, &hat[r], rest[r], gamma_rest, beta_rest, out_rest[r]);
        }
    }
}

/// `N` vectors of each row from `at` on, which are loaded before any is stored: a store holds up a load at the same place of another
/// page.
#[inline(always)]
fn write_vectors<L: Lanes, const G: usize, const N: usize, const MEAN: bool>(
    l: L,
    hat: &[Hat<L, MEAN>; G],
    x: &[&[Chunk]; G],
    gamma: &[Chunk],
    beta: &[Chunk],
    y: &mut [&mut [Chunk]; G],
    at: usize,
) {
    let (gamma, beta) = (&gamma[at..at + N], &beta[at..at + N]);
    let mut v = [[l.splat(0.0); N]; G];
    for r in 0..G {
        let x = &x[r][at..at + N];
        for k in 0..N {
            v[r][k] = l.load(&x[k]);
        }
    }
    for k in 0..N {
        let gamma = l.load(&gamma[k]);
        let beta = if MEAN { l.load(&beta[k]) } else { gamma };
        for r in 0..G {
            let xhat = hat[r].of(l, v[r][k]);
            v[r][k] = if MEAN { l.mul_add(xhat, gamma, beta) } else { l.mul(xhat, gamma) };
        }
    }
    for r in 0..G {
        let y = &mut y[r][at..at + N];
        for k in 0..N {
            l.store(&mut y[k], v[r][k]);
        }
    }
}

/// Less than a vector of `y`. The unused lanes compute on the mean, and are not stored.
#[inline(always)]
fn write_part<L: Lanes, const MEAN: bool>(
    l: L,
    hat: &Hat<L, MEAN>,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
) {
    // One length for all: a tier makes one mask of it.
    let n = y.len();
    let xhat = hat.of(l, l.load_part(&x[..n], hat.mean));
    let gamma = l.load_part(&gamma[..n], hat.mean);
    let value =
        if MEAN { l.mul_add(xhat, gamma, l.load_part(&beta[..n], hat.mean)) } else { l.mul(xhat, gamma) };
    l.store_part(y, value);
}

/// `h = x + residual` of rows, which the passes after it find in the nearest cache.
#[inline(always)]
pub(super) fn add<L: Lanes>(l: L, x: &[f32], residual: &[f32], h: &mut [f32]) {
    let ((x, x_rest), (residual, residual_rest)) = (x.as_chunks::<LANES>(), residual.as_chunks::<LANES>());
    let (h, h_rest) = h.as_chunks_mut::<LANES>();
    let (x, residual) = (&x[..h.len()], &residual[..h.len()]);
    for i in 0..h.len() {
        l.store(&mut h[i], l.add(l.load(&x[i]), l.load(&residual[i])));
    }
    if !h_rest.is_empty() {
        let zero = l.splat(0.0);
        l.store_part(h_rest, l.add(l.load_part(x_rest, zero), l.load_part(residual_rest, zero)));
    }
}

/// `sum(x)`, and without a mean `sum(x^2)`.
#[derive(Clone, Copy)]
struct Sum<const MEAN: bool>;

impl<L: Lanes, const MEAN: bool> Fold<L, 1, 1> for Sum<MEAN> {
    #[inline(always)]
    fn neutral(self, l: L) -> [L::F; 1] {
        [l.splat(0.0)]
    }
    #[inline(always)]
    fn add(self, l: L, [x]: [L::F; 1], sums: &mut [L::F; 1]) {
        sums[0] = if MEAN { l.add(sums[0], x) } else { l.mul_add(x, x, sums[0]) };
    }
}

/// `sum(x - mean)`, which is what rounding left in the mean, and `sum((x - mean)^2)`
#[derive(Clone, Copy)]
struct Deviation<L: Lanes> {
    mean: L::F,
}

impl<L: Lanes> Fold<L, 1, 2> for Deviation<L> {
    #[inline(always)]
    fn neutral(self, _: L) -> [L::F; 1] {
        [self.mean]
    }
    #[inline(always)]
    fn add(self, l: L, [x]: [L::F; 1], sums: &mut [L::F; 2]) {
        let d = l.sub(x, self.mean);
        sums[0] = l.add(sums[0], d);
        sums[1] = l.mul_add(d, d, sums[1]);
    }
}
