//! LayerNorm's backward: one pass of sums over a row of `x` and `dy`, one that writes `dx` and adds to the sums over
//! rows; the second finds the row in the cache.

use std::ops::Range;

use super::ROWS_PER_CHUNK;
use super::fold::{Fold, Row, fold, sums};
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning;

/// Some chunks of rows of a backward pass, each with its own sums over rows in `partial`.
pub(super) struct Backward<'a> {
    pub(super) active: Active,
    pub(super) features: usize,
    pub(super) dy: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) rstd: &'a [f32],
    pub(super) dx: &'a mut [f32],
    /// For each chunk its `dgamma`, then its `dbeta`.
    pub(super) partial: &'a mut [f32],
}

impl Work for Backward<'_> {
    fn size(&self) -> usize {
        self.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let chunks = self.mean.len().div_ceil(ROWS_PER_CHUNK);
        if chunks < 2 {
            return Err(self);
        }
        let rows = chunks / 2 * ROWS_PER_CHUNK;
        let at = rows * self.features;
        let (dy0, dy1) = self.dy.split_at(at);
        let (x0, x1) = self.x.split_at(at);
        let (dx0, dx1) = self.dx.split_at_mut(at);
        let (m0, m1) = self.mean.split_at(rows);
        let (r0, r1) = self.rstd.split_at(rows);
        let (p0, p1) = self.partial.split_at_mut(chunks / 2 * 2 * self.features);
        Ok((
            Backward { dy: dy0, x: x0, dx: dx0, mean: m0, rstd: r0, partial: p0, ..self },
            Backward { dy: dy1, x: x1, dx: dx1, mean: m1, rstd: r1, partial: p1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let features = self.features;
        let mut first = 0;
        for partial in self.partial.chunks_exact_mut(2 * features) {
            let rows = first..self.mean.len().min(first + ROWS_PER_CHUNK);
            let values = rows.start * features..rows.end * features;
            let (dgamma, dbeta) = partial.split_at_mut(features);
            let chunk = BackwardChunk {
                features,
                dy: &self.dy[values.clone()],
                x: &self.x[values.clone()],
                gamma: self.gamma,
                mean: &self.mean[rows.clone()],
                rstd: &self.rstd[rows.clone()],
                dx: &mut self.dx[values],
                sums: Sums { dgamma, dbeta },
            };
            chunk.run(l);
            first = rows.end;
        }
    }
}

/// The sums over rows.
pub(super) struct Sums<'a> {
    pub(super) dgamma: &'a mut [f32],
    pub(super) dbeta: &'a mut [f32],
}

/// One chunk of rows.
pub(super) struct BackwardChunk<'a> {
    pub(super) features: usize,
    pub(super) dy: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) rstd: &'a [f32],
    pub(super) dx: &'a mut [f32],
    pub(super) sums: Sums<'a>,
}

impl Kernel for BackwardChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.sums.dgamma.fill(0.0);
        self.sums.dbeta.fill(0.0);
        let (rows, mut row) = (self.mean.len(), 0);
        if self.features <= tuning::NORM_SMALL {
            while row + 16 <= rows {
                let c = coefficients::<L, 16>(l, &self, row);
                for part in 0..4 {
                    write_rows::<L, 4>(l, &mut self, row + 4 * part, &c[4 * part..]);
                }
                row += 16;
            }
        }
        while row + 4 <= rows {
            let c = coefficients::<L, 4>(l, &self, row);
            write_rows::<L, 4>(l, &mut self, row, &c);
            row += 4;
        }
        while row < rows {
            let c = coefficients::<L, 1>(l, &self, row);
            write_rows::<L, 1>(l, &mut self, row, &c);
            row += 1;
        }
    }
}

/// What the second pass needs of a row: `xhat = (x - mean) * rstd + shift`, `dx = dy gamma rstd - c1 - xhat * c2`.
#[derive(Clone, Copy, Default)]
struct Coefficients {
    mean: f32,
    rstd: f32,
    shift: f32,
    c1: f32,
    c2: f32,
}

/// The first pass over `R` rows.
#[inline(always)]
fn coefficients<L: Lanes, const R: usize>(l: L, a: &BackwardChunk<'_>, first: usize) -> [Coefficients; R] {
    let n = a.features as f32;
    let gamma = Row::of(a.gamma, 0, a.features);
    let (mut g, mut gd, mut d) = ([l.splat(0.0); R], [l.splat(0.0); R], [l.splat(0.0); R]);
    for r in 0..R {
        let x = Row::of(a.x, first + r, a.features);
        let dy = Row::of(a.dy, first + r, a.features);
        [g[r], gd[r], d[r]] =
            fold::<L, 3, 2, _>(l, &Gradients { x, dy, gamma, mean: l.splat(a.mean[first + r]) });
    }
    let (g, gd, d) = (sums(l, &g), sums(l, &gd), sums(l, &d));
    let mut out = [Coefficients::default(); R];
    for r in 0..R {
        let (mean, rstd) = (a.mean[first + r], a.rstd[first + r]);
        // What rounding took from the saved mean; x-hat is about the exact one.
        let left = d[r] / n;
        let c1 = g[r] / n;
        let c2 = (gd[r] - left * g[r]) / n * rstd;
        out[r] = Coefficients { mean, rstd, shift: -left * rstd, c1: c1 * rstd, c2: c2 * rstd };
    }
    out
}

/// The second pass over `R` rows, column by column, so that the sums over rows are loaded and stored once for all of
/// them; each column's additions go by ascending row all the same.
#[inline(always)]
fn write_rows<L: Lanes, const R: usize>(l: L, a: &mut BackwardChunk<'_>, first: usize, c: &[Coefficients]) {
    let features = a.features;
    let gamma = Row::of(a.gamma, 0, features);
    let vectors = gamma.whole.len();
    let (dgamma, dgamma_rest) = a.sums.dgamma.as_chunks_mut::<LANES>();
    let (dbeta, dbeta_rest) = a.sums.dbeta.as_chunks_mut::<LANES>();
    let (dgamma, dbeta) = (&mut dgamma[..vectors], &mut dbeta[..vectors]);
    let mut x = [&gamma.whole[..vectors]; R];
    let mut dy = x;
    for r in 0..R {
        x[r] = &Row::of(a.x, first + r, features).whole[..vectors];
        dy[r] = &Row::of(a.dy, first + r, features).whole[..vectors];
    }
    let mut k = [Splat::new(l, &c[0]); R];
    for r in 0..R {
        k[r] = Splat::new(l, &c[r]);
    }
    let dx = &mut a.dx[first * features..][..R * features];
    for i in 0..vectors {
        let (mut to_gamma, mut to_beta) = (l.load(&dgamma[i]), l.load(&dbeta[i]));
        let gamma = l.load(&gamma.whole[i]);
        for r in 0..R {
            let dy = l.load(&dy[r][i]);
            let (value, xhat) = k[r].dx(l, l.load(&x[r][i]), dy, gamma);
            to_gamma = l.mul_add(dy, xhat, to_gamma);
            to_beta = l.add(to_beta, dy);
            let (dx, _) = dx[r * features + i * LANES..][..LANES].as_chunks_mut::<LANES>();
            l.store(&mut dx[0], value);
        }
        l.store(&mut dgamma[i], to_gamma);
        l.store(&mut dbeta[i], to_beta);
    }
    if !gamma.rest.is_empty() {
        let zero = l.splat(0.0);
        let (mut to_gamma, mut to_beta) = (l.load_part(dgamma_rest, zero), l.load_part(dbeta_rest, zero));
        let gamma = l.load_part(gamma.rest, zero);
        for r in 0..R {
            let dy = l.load_part(Row::of(a.dy, first + r, features).rest, zero);
            let x = l.load_part(Row::of(a.x, first + r, features).rest, k[r].mean);
            let (value, xhat) = k[r].dx(l, x, dy, gamma);
            to_gamma = l.mul_add(dy, xhat, to_gamma);
            to_beta = l.add(to_beta, dy);
            l.store_part(&mut dx[r * features..][..features][vectors * LANES..], value);
        }
        l.store_part(dgamma_rest, to_gamma);
        l.store_part(dbeta_rest, to_beta);
    }
}

/// A row's coefficients in all lanes.
#[derive(Clone, Copy)]
struct Splat<L: Lanes> {
    mean: L::F,
    rstd: L::F,
    shift: L::F,
    c1: L::F,
    c2: L::F,
}

impl<L: Lanes> Splat<L> {
    #[inline(always)]
    fn new(l: L, c: &Coefficients) -> Self {
        Splat {
            mean: l.splat(c.mean),
            rstd: l.splat(c.rstd),
            shift: l.splat(c.shift),
            c1: l.splat(-c.c1),
            c2: l.splat(c.c2),
        }
    }

    /// The gradient of one vector of the input, and its x-hat.
    #[inline(always)]
    fn dx(&self, l: L, x: L::F, dy: L::F, gamma: L::F) -> (L::F, L::F) {
        let xhat = l.mul_add(l.sub(x, self.mean), self.rstd, self.shift);
        let direct = l.mul_add(l.mul(dy, gamma), self.rstd, self.c1);
        (l.neg_mul_add(xhat, self.c2, direct), xhat)
    }
}

/// `sum(dy gamma)`, `sum(dy gamma (x - mean))` and `sum(x - mean)`
struct Gradients<'a, L: Lanes> {
    x: Row<'a>,
    dy: Row<'a>,
    gamma: Row<'a>,
    mean: L::F,
}

impl<L: Lanes> Gradients<'_, L> {
    #[inline(always)]
    fn add(&self, l: L, x: L::F, dy: L::F, gamma: L::F, sums: &mut [L::F; 3]) {
        let (d, g) = (l.sub(x, self.mean), l.mul(dy, gamma));
        sums[0] = l.add(sums[0], g);
        sums[1] = l.mul_add(g, d, sums[1]);
        sums[2] = l.add(sums[2], d);
    }
}

impl<L: Lanes> Fold<L, 3> for Gradients<'_, L> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.x.whole.len()
    }
    #[inline(always)]
    fn has_rest(&self) -> bool {
        !self.x.rest.is_empty()
    }
    #[inline(always)]
    fn group(&self, vectors: Range<usize>) -> Self {
        Gradients {
            x: self.x.group(vectors.clone()),
            dy: self.dy.group(vectors.clone()),
            gamma: self.gamma.group(vectors),
            mean: self.mean,
        }
    }
    #[inline(always)]
    fn whole(&self, l: L, i: usize, sums: &mut [L::F; 3]) {
        let (x, dy) = (l.load(&self.x.whole[i]), l.load(&self.dy.whole[i]));
        self.add(l, x, dy, l.load(&self.gamma.whole[i]), sums);
    }
    #[inline(always)]
    fn rest(&self, l: L, sums: &mut [L::F; 3]) {
        let zero = l.splat(0.0);
        let (x, dy) = (l.load_part(self.x.rest, self.mean), l.load_part(self.dy.rest, zero));
        self.add(l, x, dy, l.load_part(self.gamma.rest, zero), sums);
    }
}

/// Adds the chunks' sums over rows by a tree: neighbours, then neighbours of neighbours.
pub(super) struct AddChunks<'a> {
    pub(super) partial: &'a mut [f32],
    pub(super) dgamma: &'a mut [f32],
    pub(super) dbeta: &'a mut [f32],
}

impl Kernel for AddChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let features = self.dgamma.len();
        let chunk = 2 * features;
        let mut step = chunk;
        while step < self.partial.len() {
            for pair in self.partial.chunks_mut(2 * step) {
                if pair.len() > step {
                    let (a, b) = pair.split_at_mut(step);
                    add_to(l, &mut a[..chunk], &b[..chunk]);
                }
            }
            step *= 2;
        }
        self.dgamma.copy_from_slice(&self.partial[..features]);
        self.dbeta.copy_from_slice(&self.partial[features..chunk]);
    }
}

/// `a += b`
#[inline(always)]
fn add_to<L: Lanes>(l: L, a: &mut [f32], b: &[f32]) {
    let (a, a_rest) = a.as_chunks_mut();
    let (b, b_rest): (&[Chunk], _) = b.as_chunks();
    let b = &b[..a.len()];
    for i in 0..a.len() {
        let sum = l.add(l.load(&a[i]), l.load(&b[i]));
        l.store(&mut a[i], sum);
    }
    let zero = l.splat(0.0);
    let sum = l.add(l.load_part(a_rest, zero), l.load_part(b_rest, zero));
    l.store_part(a_rest, sum);
}
