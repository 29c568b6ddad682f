//! Rows of 64 and of 128 features, as heads of attention have: the same sums as for other rows, bit for bit, by sixteen
//! rows without a loop over a row.

use std::ops::Range;

use super::backward::{Rows, Sums};
use super::columns::{Coefficients, Splat};
use super::forward::{Forward, add};
use super::hat::Hat;
use crate::lanes::{Chunk, LANES, Lanes};

/// Rows of `V` vectors each, of which the sums take four in turn.
#[inline(always)]
fn rows_of<const V: usize>(matrix: &[f32]) -> &[[Chunk; V]] {
    const { assert!(V.is_multiple_of(4)) };
    matrix.as_chunks().0.as_chunks().0
}

/// The forward of as many sixteens of rows as there are; the first row that is left.
#[inline(always)]
pub(super) fn forward<L: Lanes, const V: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
) -> usize {
    let mut row = 0;
    while row + LANES <= a.rstd.len() {
        forward_block::<L, V, MEAN, ADD>(l, a, row);
        row += LANES;
    }
    row
}

/// The same of the backward.
#[inline(always)]
pub(super) fn backward<L: Lanes, const V: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
) -> usize {
    let mut row = 0;
    while row + LANES <= a.rstd.len() {
        backward_block::<L, V, MEAN, ADD>(l, a, sums, row);
        row += LANES;
    }
    row
}

/// Sixteen rows of `V` whole vectors.
#[inline(always)]
fn forward_block<L: Lanes, const V: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Forward<'_, MEAN, ADD>,
    first: usize,
) {
    let at = first * V * LANES..(first + LANES) * V * LANES;
    if ADD {
        add(l, &a.x[at.clone()], &a.residual[at.clone()], &mut a.h[at.clone()]);
    }
    let x = &rows_of::<V>(if ADD { &a.h[at.clone()] } else { &a.x[at.clone()] })[..LANES];
    let (zero, n) = (l.splat(0.0), l.splat((V * LANES) as f32));
    let mut sum = [zero; LANES];
    for r in 0..LANES {
        let mut acc = [zero; 4];
        for i in 0..V {
            let v = l.load(&x[r][i]);
            let sum = acc[i % 4];
            acc[i % 4] = match (MEAN, i < 4) {
                (true, true) => v,
                (true, false) => l.add(sum, v),
                (false, true) => l.mul(v, v),
                (false, false) => l.mul_add(v, v, sum),
            };
        }
        sum[r] = l.add(l.add(acc[0], acc[2]), l.add(acc[1], acc[3]));
    }
    // A sum that starts from zero is never -0; these start from the first term.
    let mean = l.div(l.add(l.sum16(&sum), zero), n);
    let rstd;
    let mut shift = zero;
    let mut means = [0.0; LANES];
    if MEAN {
        l.store(&mut means, mean);
        let mut square = [zero; LANES];
        for r in 0..LANES {
            let mean = l.splat(means[r]);
            let (mut left, mut squares) = ([zero; 2], [zero; 2]);
            for i in 0..V {
                l.prefetch(x.as_flattened(), (r + LANES) * V + i);
                let d = l.sub(l.load(&x[r][i]), mean);
                left[i % 2] = if i < 2 { d } else { l.add(left[i % 2], d) };
                squares[i % 2] = if i < 2 { l.mul(d, d) } else { l.mul_add(d, d, squares[i % 2]) };
            }
            sum[r] = l.add(left[0], left[1]);
            square[r] = l.add(squares[0], squares[1]);
        }
        let left = l.div(l.add(l.sum16(&sum), zero), n);
        let variance = l.sub(l.div(l.sum16(&square), n), l.mul(left, left));
        // A constant row's is zero but for rounding, which must not make it negative; NaN stays.
        let variance = l.select(l.gt(zero, variance), zero, variance);
        rstd = l.div(l.splat(1.0), l.sqrt(l.add(variance, l.splat(a.eps))));
        shift = l.mul(l.mul(left, l.splat(-1.0)), rstd);
        l.store_part(&mut a.mean[first..][..LANES], l.add(mean, left));
    } else {
        rstd = l.div(l.splat(1.0), l.sqrt(l.add(mean, l.splat(a.eps))));
    }
    let mut stats = Stats { mean: means, rstd: [0.0; LANES], shift: [0.0; LANES] };
    l.store(&mut stats.rstd, rstd);
    l.store(&mut stats.shift, shift);
    a.rstd[first..][..LANES].copy_from_slice(&stats.rstd);
    let y = &mut a.y[at];
    let head = l.before_line(y);
    if head > 0 {
        write_lines::<L, V, MEAN>(l, &stats, x.as_flattened().as_flattened(), [a.gamma, a.beta], y, head);
        return;
    }
    let (mut g, mut b) = ([zero; V], [zero; V]);
    for i in 0..V {
        g[i] = l.load(&rows_of::<V>(a.gamma)[0][i]);
        if MEAN {
            b[i] = l.load(&rows_of::<V>(a.beta)[0][i]);
        }
    }
    let y = &mut y.as_chunks_mut::<LANES>().0.as_chunks_mut::<V>().0[..LANES];
    for r in 0..LANES {
        let hat = stats.hat::<L, MEAN>(l, r);
        for i in 0..V {
            l.store(&mut y[r][i], scaled(l, &hat, l.load(&x[r][i]), g[i], b[i]));
        }
    }
}

/// The statistics of sixteen rows.
struct Stats {
    mean: Chunk,
    rstd: Chunk,
    shift: Chunk,
}

impl Stats {
    #[inline(always)]
    fn hat<L: Lanes, const MEAN: bool>(&self, l: L, r: usize) -> Hat<L, MEAN> {
        Hat::new(l, self.mean[r], self.rstd[r], self.shift[r])
    }
}

/// A vector of the output; `b` is not looked at without a mean.
#[inline(always)]
fn scaled<L: Lanes, const MEAN: bool>(l: L, hat: &Hat<L, MEAN>, x: L::F, g: L::F, b: L::F) -> L::F {
    let xhat = hat.of(l, x);
    if MEAN { l.mul_add(xhat, g, b) } else { l.mul(xhat, g) }
}

/// The output of sixteen rows by vectors that start where a line does, the first one after `head` values: a row's last one
/// has the next row's first `head` values as well.
#[inline(always)]
fn write_lines<L: Lanes, const V: usize, const MEAN: bool>(
    l: L,
    stats: &Stats,
    x: &[f32],
    [gamma, beta]: [&[f32]; 2],
    y: &mut [f32],
    head: usize,
) {
    let zero = l.splat(0.0);
    let (mut g, mut b) = ([zero; V], [zero; V]);
    for i in 0..V {
        g[i] = turned::<L, V>(l, gamma, head, i);
        if MEAN {
            b[i] = turned::<L, V>(l, beta, head, i);
        }
    }
    let (x0, x) = x.split_at(head);
    let (y0, y) = y.split_at_mut(head);
    let mut hat = stats.hat::<L, MEAN>(l, 0);
    let b0 = if MEAN { l.load_part(&beta[..head], zero) } else { zero };
    l.store_part(y0, scaled(l, &hat, l.load_part(x0, zero), l.load_part(&gamma[..head], zero), b0));
    let ((x, x1), (y, y1)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
    // All vectors but the last row's last.
    let (x, y) = (&x[..LANES * V - 1], &mut y[..LANES * V - 1]);
    let is_next = l.mask_of(!0 << (LANES - head));
    for r in 0..LANES {
        for i in 0..V - 1 {
            l.store(&mut y[r * V + i], scaled(l, &hat, l.load(&x[r * V + i]), g[i], b[i]));
        }
        if r + 1 < LANES {
            let (i, next) = (V - 1, stats.hat::<L, MEAN>(l, r + 1));
            let both = hat.select(l, is_next, &next);
            l.store(&mut y[r * V + i], scaled(l, &both, l.load(&x[r * V + i]), g[i], b[i]));
            hat = next;
        }
    }
    l.store_part(y1, scaled(l, &hat, l.load_part(x1, zero), g[V - 1], b[V - 1]));
}

/// Vector `i` of a row of parameters from `head` on, whose last one has the first `head` values at its end.
#[inline(always)]
fn turned<L: Lanes, const V: usize>(l: L, row: &[f32], head: usize, i: usize) -> L::F {
    let from = &row[i * LANES + head..V * LANES];
    if i + 1 < V {
        l.load(&from.as_chunks().0[0])
    } else {
        l.load_end(&row[..head], l.load_part(from, l.splat(0.0)))
    }
}

/// Sixteen rows of `V` whole vectors; the sums over rows stay in registers.
#[inline(always)]
fn backward_block<L: Lanes, const V: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
    first: usize,
) {
    let at = first * V * LANES..(first + LANES) * V * LANES;
    let x = &rows_of::<V>(&a.x[at.clone()])[..LANES];
    let dy = &rows_of::<V>(&a.dy[at.clone()])[..LANES];
    let dh = if ADD { &rows_of::<V>(&a.dh[at.clone()])[..LANES] } else { x };
    let (zero, n) = (l.splat(0.0), l.splat((V * LANES) as f32));
    let (mut gamma, mut to_gamma, mut to_beta) = ([zero; V], [zero; V], [zero; V]);
    for i in 0..V {
        gamma[i] = l.load(&rows_of::<V>(a.gamma)[0][i]);
        to_gamma[i] = l.load(&rows_of::<V>(sums.dgamma)[0][i]);
        if MEAN {
            to_beta[i] = l.load(&rows_of::<V>(sums.dbeta)[0][i]);
        }
    }
    let (mut mean, mut rstd) = ([0.0; LANES], [0.0; LANES]);
    if MEAN {
        mean.copy_from_slice(&a.mean[first..][..LANES]);
    }
    rstd.copy_from_slice(&a.rstd[first..][..LANES]);
    let (mut gd, mut g, mut d) = ([zero; LANES], [zero; LANES], [zero; LANES]);
    for r in 0..LANES {
        if MEAN {
            let mean = l.splat(mean[r]);
            let mut acc = [[zero; 3]; 2];
            for i in 0..V {
                let d = l.sub(l.load(&x[r][i]), mean);
                let g = l.mul(l.load(&dy[r][i]), gamma[i]);
                let a = &mut acc[i % 2];
                *a = if i < 2 {
                    [l.mul(g, d), g, d]
                } else {
                    [l.mul_add(g, d, a[0]), l.add(a[1], g), l.add(a[2], d)]
                };
            }
            gd[r] = l.add(acc[0][0], acc[1][0]);
            g[r] = l.add(acc[0][1], acc[1][1]);
            d[r] = l.add(acc[0][2], acc[1][2]);
        } else {
            let mut acc = [zero; 4];
            for i in 0..V {
                let g = l.mul(l.load(&dy[r][i]), gamma[i]);
                let x = l.load(&x[r][i]);
                acc[i % 4] = if i < 4 { l.mul(g, x) } else { l.mul_add(g, x, acc[i % 4]) };
            }
            gd[r] = l.add(l.add(acc[0], acc[2]), l.add(acc[1], acc[3]));
        }
    }
    // Sums that started from zero are never -0.
    let rstds = l.load(&rstd);
    let gd = l.add(l.sum16(&gd), zero);
    let (mut shift, mut c1, mut c2) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    if MEAN {
        let g = l.add(l.sum16(&g), zero);
        let left = l.div(l.add(l.sum16(&d), zero), n);
        l.store(&mut c1, l.mul(l.div(g, n), rstds));
        l.store(&mut c2, l.mul(l.mul(l.div(l.sub(gd, l.mul(left, g)), n), rstds), rstds));
        l.store(&mut shift, l.mul(l.mul(left, l.splat(-1.0)), rstds));
    } else {
        l.store(&mut c2, l.mul(l.mul(l.div(gd, n), rstds), rstds));
    }
    // Elsewhere the registers do not suffice: there it takes up to 1.2 times as long.
    let head = if L::WIDE && (V == 4 || !MEAN) { l.before_line(&a.dx[at.clone()]) } else { 0 };
    if head > 0 {
        let c = Factors { mean, rstd, shift, c1, c2 };
        gradient_lines::<L, V, MEAN, ADD>(l, &c, a, sums, at, head);
        return;
    }
    let dx = a.dx[at].as_chunks_mut::<LANES>().0.as_chunks_mut::<V>().0;
    let dx = &mut dx[..LANES];
    for r in 0..LANES {
        let c = Coefficients { mean: mean[r], rstd: rstd[r], shift: shift[r], c1: c1[r], c2: c2[r] };
        let k = Splat::<L, MEAN>::new(l, &c);
        for i in 0..V {
            // Not by `gradient`, which costs AVX2's RMSNorm a tenth: more spills.
            let dy = l.load(&dy[r][i]);
            let (mut value, xhat) = k.dx(l, l.load(&x[r][i]), dy, gamma[i]);
            to_gamma[i] = l.mul_add(dy, xhat, to_gamma[i]);
            if MEAN {
                to_beta[i] = l.add(to_beta[i], dy);
            }
            if ADD {
                value = l.add(l.load(&dh[r][i]), value);
            }
            l.store(&mut dx[r][i], value);
        }
    }
    let (dgamma, _) = sums.dgamma.as_chunks_mut::<LANES>();
    for i in 0..V {
        l.store(&mut dgamma[i], to_gamma[i]);
    }
    if MEAN {
        let (dbeta, _) = sums.dbeta.as_chunks_mut::<LANES>();
        for i in 0..V {
            l.store(&mut dbeta[i], to_beta[i]);
        }
    }
}

/// The coefficients of each of sixteen rows.
struct Factors {
    mean: Chunk,
    rstd: Chunk,
    shift: Chunk,
    c1: Chunk,
    c2: Chunk,
}

impl Factors {
    #[inline(always)]
    fn splat<L: Lanes, const MEAN: bool>(&self, l: L, r: usize) -> Splat<L, MEAN> {
        let (mean, rstd, shift) = (self.mean[r], self.rstd[r], self.shift[r]);
        Splat::new(l, &Coefficients { mean, rstd, shift, c1: self.c1[r], c2: self.c2[r] })
    }
}

/// A vector of the gradient; its part of the sums over rows is added to them. `dh` is looked at if it is to be `ADD`ed,
/// and the second sum only with a mean.
#[inline(always)]
fn gradient<L: Lanes, const MEAN: bool, const ADD: bool>(
    l: L,
    k: &Splat<L, MEAN>,
    x: L::F,
    dy: L::F,
    dh: L::F,
    gamma: L::F,
    [to_gamma, to_beta]: [&mut L::F; 2],
) -> L::F {
    let (value, xhat) = k.dx(l, x, dy, gamma);
    *to_gamma = l.mul_add(dy, xhat, *to_gamma);
    if MEAN {
        *to_beta = l.add(*to_beta, dy);
    }
    if ADD { l.add(dh, value) } else { value }
}

/// The second pass of [`backward_block`], by vectors as in [`write_lines`].
#[inline(always)]
fn gradient_lines<L: Lanes, const V: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    c: &Factors,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
    at: Range<usize>,
    head: usize,
) {
    let (zero, last) = (l.splat(0.0), V - 1);
    let (mut gamma, mut to_gamma, mut to_beta) = ([zero; V], [zero; V], [zero; V]);
    for i in 0..V {
        gamma[i] = turned::<L, V>(l, a.gamma, head, i);
        to_gamma[i] = turned::<L, V>(l, sums.dgamma, head, i);
        if MEAN {
            to_beta[i] = turned::<L, V>(l, sums.dbeta, head, i);
        }
    }
    let (x0, x) = a.x[at.clone()].split_at(head);
    let (dy0, dy) = a.dy[at.clone()].split_at(head);
    let (dh0, dh) = if ADD { a.dh[at.clone()].split_at(head) } else { (x0, x) };
    let (dx0, dx) = a.dx[at].split_at_mut(head);
    let is_next = l.mask_of(!0 << (LANES - head));
    let mut k = c.splat::<L, MEAN>(l, 0);
    // Lanes that are no values of the row leave the sums as they are.
    let (gamma_before, beta_before) = (to_gamma[last], to_beta[last]);
    let (x0, dy0) = (l.load_end(x0, zero), l.load_end(dy0, zero));
    let dh0 = if ADD { l.load_end(dh0, zero) } else { zero };
    let sums_of_last = [&mut to_gamma[last], &mut to_beta[last]];
    l.store_end(dx0, gradient::<L, MEAN, ADD>(l, &k, x0, dy0, dh0, gamma[last], sums_of_last));
    to_gamma[last] = l.select(is_next, to_gamma[last], gamma_before);
    to_beta[last] = l.select(is_next, to_beta[last], beta_before);
    let ((x, x1), (dy, dy1), (dh, dh1)) = (x.as_chunks(), dy.as_chunks(), dh.as_chunks());
    let (dx, dx1) = dx.as_chunks_mut::<LANES>();
    // All vectors but the last row's last.
    let n = LANES * V - 1;
    let (x, dy, dh, dx) = (&x[..n], &dy[..n], &dh[..n], &mut dx[..n]);
    for r in 0..LANES {
        let next = c.splat::<L, MEAN>(l, (r + 1) % LANES);
        let both = k.select(l, is_next, &next);
        for i in 0..V {
            let j = r * V + i;
            if j < n {
                let (x, dy) = (l.load(&x[j]), l.load(&dy[j]));
                let dh = if ADD { l.load(&dh[j]) } else { zero };
                let k = if i < last { &k } else { &both };
                let sums = [&mut to_gamma[i], &mut to_beta[i]];
                l.store(&mut dx[j], gradient::<L, MEAN, ADD>(l, k, x, dy, dh, gamma[i], sums));
            }
        }
        if r + 1 < LANES {
            k = next;
        }
    }
    let (gamma_before, beta_before) = (to_gamma[last], to_beta[last]);
    let (x, dy) = (l.load_part(x1, zero), l.load_part(dy1, zero));
    let dh = if ADD { l.load_part(dh1, zero) } else { zero };
    let sums_of_last = [&mut to_gamma[last], &mut to_beta[last]];
    l.store_part(dx1, gradient::<L, MEAN, ADD>(l, &k, x, dy, dh, gamma[last], sums_of_last));
    to_gamma[last] = l.select(is_next, gamma_before, to_gamma[last]);
    to_beta[last] = l.select(is_next, beta_before, to_beta[last]);
    store_turned(l, sums.dgamma, head, &to_gamma);
    if MEAN {
        store_turned(l, sums.dbeta, head, &to_beta);
    }
}

/// Puts what was [`turned`] back.
#[inline(always)]
fn store_turned<L: Lanes, const V: usize>(l: L, row: &mut [f32], head: usize, v: &[L::F; V]) {
    for i in 0..V - 1 {
        l.store(&mut row[i * LANES + head..].as_chunks_mut().0[0], v[i]);
    }
    l.store_part(&mut row[(V - 1) * LANES + head..V * LANES], v[V - 1]);
    l.store_end(&mut row[..head], v[V - 1]);
}
