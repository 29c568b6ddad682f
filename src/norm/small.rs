//! Rows of 64 and of 128 features, as heads of attention have: the same sums as for other rows, bit for bit, by sixteen
//! rows without a loop over a row.

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

/// What each of sixteen rows' x-hat is computed from.
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

/// The output of sixteen rows by vectors that start where a line does, the first one after `head` values: a row's last one has
/// the next row's first `head` values as well.
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
    let from = &row[i * LANES + head..];
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
    let dx = a.dx[at].as_chunks_mut::<LANES>().0.as_chunks_mut::<V>().0;
    let dx = &mut dx[..LANES];
    for r in 0..LANES {
        let c = Coefficients { mean: mean[r], rstd: rstd[r], shift: shift[r], c1: c1[r], c2: c2[r] };
        let k = Splat::<L, MEAN>::new(l, &c);
        for i in 0..V {
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
