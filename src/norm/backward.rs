//! The backward: one pass of sums over a row of `x` and `dy`, one that writes `dx` and adds to the sums over rows; the
//! second finds the row in the cache.

use std::ops::Range;

use super::ROWS_PER_CHUNK;
use super::fold::{Fold, Row, fold, sums};
use super::hat::Hat;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::{self, Work};
use crate::tier::Active;
use crate::tuning;

/// What a backward reads of its rows, and writes of them. `MEAN` is LayerNorm: RMSNorm has no mean, and its slice is
/// empty. `ADD` adds `dh`, which is empty without it; `x` is then the `h` of the forward.
pub(super) struct Rows<'a, const MEAN: bool, const ADD: bool> {
    pub(super) features: usize,
    pub(super) dy: &'a [f32],
    pub(super) dh: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) rstd: &'a [f32],
    pub(super) dx: &'a mut [f32],
}

impl<const MEAN: bool, const ADD: bool> Rows<'_, MEAN, ADD> {
    #[inline(always)]
    fn split_at(self, rows: usize) -> (Self, Self) {
        let at = rows * self.features;
        let (dy0, dy1) = self.dy.split_at(at);
        let (dh0, dh1) = self.dh.split_at(if ADD { at } else { 0 });
        let (x0, x1) = self.x.split_at(at);
        let (m0, m1) = self.mean.split_at(if MEAN { rows } else { 0 });
        let (r0, r1) = self.rstd.split_at(rows);
        let (dx0, dx1) = self.dx.split_at_mut(at);
        (
            Rows { dy: dy0, dh: dh0, x: x0, mean: m0, rstd: r0, dx: dx0, ..self },
            Rows { dy: dy1, dh: dh1, x: x1, mean: m1, rstd: r1, dx: dx1, ..self },
        )
    }
}

/// The sums over rows: of one chunk of them, or of each chunk, one after the other. Without a mean there is no `dbeta`.
pub(super) struct Sums<'a> {
    pub(super) dgamma: &'a mut [f32],
    pub(super) dbeta: &'a mut [f32],
}

impl Sums<'_> {
    #[inline(always)]
    fn split_at(self, at: usize) -> (Self, Self) {
        let (beta0, beta1) = self.dbeta.split_at_mut(at.min(self.dbeta.len()));
        let (gamma0, gamma1) = self.dgamma.split_at_mut(at);
        (Sums { dgamma: gamma0, dbeta: beta0 }, Sums { dgamma: gamma1, dbeta: beta1 })
    }
}

/// Some chunks of rows of a backward pass, each with its own sums over rows; without rows one chunk, whose sums are 0.
pub(super) struct Backward<'a, const MEAN: bool, const ADD: bool> {
    active: Active,
    rows: Rows<'a, MEAN, ADD>,
    sums: Sums<'a>,
}

/// A whole backward pass into `total`. More than one chunk of rows sum into `scratch` first.
pub(super) fn backward<const MEAN: bool, const ADD: bool>(
    active: Active,
    rows: Rows<'_, MEAN, ADD>,
    total: Sums<'_>,
    scratch: &mut [f32],
) {
    let chunks = rows.rstd.len().div_ceil(ROWS_PER_CHUNK);
    if chunks < 2 {
        return dispatch(active, Backward { active, rows, sums: total });
    }
    let (dgamma, rest) = scratch.split_at_mut(chunks * rows.features);
    let dbeta = &mut rest[..if MEAN { dgamma.len() } else { 0 }];
    let sums = Sums { dgamma: &mut *dgamma, dbeta: &mut *dbeta };
    parallel::run(Backward { active, rows, sums }, tuning::NORM_PARALLEL, tuning::NORM_PIECE);
    dispatch(active, AddChunks { partial: dgamma, total: total.dgamma });
    if MEAN {
        dispatch(active, AddChunks { partial: dbeta, total: total.dbeta });
    }
}

impl<const MEAN: bool, const ADD: bool> Work for Backward<'_, MEAN, ADD> {
    fn size(&self) -> usize {
        self.rows.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Backward { active, rows, sums } = self;
        let chunks = rows.rstd.len().div_ceil(ROWS_PER_CHUNK);
        if chunks < 2 {
            return Err(Backward { active, rows, sums });
        }
        let (sums0, sums1) = sums.split_at(chunks / 2 * rows.features);
        let (rows0, rows1) = rows.split_at(chunks / 2 * ROWS_PER_CHUNK);
        Ok((Backward { active, rows: rows0, sums: sums0 }, Backward { active, rows: rows1, sums: sums1 }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<const MEAN: bool, const ADD: bool> Kernel for Backward<'_, MEAN, ADD> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Backward { mut rows, mut sums, .. } = self;
        while !sums.dgamma.is_empty() {
            let count = rows.rstd.len().min(ROWS_PER_CHUNK);
            let (mut chunk_sums, sums_left) = sums.split_at(rows.features);
            let (mut chunk_rows, rows_left) = rows.split_at(count);
            backward_chunk(l, &mut chunk_rows, &mut chunk_sums);
            (rows, sums) = (rows_left, sums_left);
        }
    }
}

/// One chunk of rows.
#[inline(always)]
fn backward_chunk<L: Lanes, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
) {
    sums.dgamma.fill(0.0);
    sums.dbeta.fill(0.0);
    let (rows, mut row) = (a.rstd.len(), 0);
    if a.features <= tuning::NORM_SMALL {
        while row + 16 <= rows {
            let c = coefficients::<L, 16, MEAN, ADD>(l, a, row);
            for part in 0..4 {
                write_rows::<L, 4, MEAN, ADD>(l, a, sums, row + 4 * part, &c[4 * part..]);
            }
            row += 16;
        }
    }
    while row + 4 <= rows {
        let c = coefficients::<L, 4, MEAN, ADD>(l, a, row);
        write_rows::<L, 4, MEAN, ADD>(l, a, sums, row, &c);
        row += 4;
    }
    while row < rows {
        let c = coefficients::<L, 1, MEAN, ADD>(l, a, row);
        write_rows::<L, 1, MEAN, ADD>(l, a, sums, row, &c);
        row += 1;
    }
}

/// What the second pass needs of a row: `dx = dy gamma rstd - c1 - xhat * c2`, and what makes its x-hat.
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
fn coefficients<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &Rows<'_, MEAN, ADD>,
    first: usize,
) -> [Coefficients; R] {
    let n = a.features as f32;
    let gamma = Row::of(a.gamma, 0, a.features);
    // Anything but zeros, which would be written by a call of memset.
    let (mut gd, mut g, mut d) = ([l.splat(n); R], [l.splat(n); R], [l.splat(n); R]);
    for r in 0..R {
        let x = Row::of(a.x, first + r, a.features);
        let dy = Row::of(a.dy, first + r, a.features);
        if MEAN {
            let mean = l.splat(a.mean[first + r]);
            [gd[r], g[r], d[r]] = fold::<L, 3, 2, _>(l, &mut Gradients { x, dy, gamma, mean });
        } else {
            [gd[r]] = fold::<L, 1, 4, _>(l, &mut Gradients { x, dy, gamma, mean: l.splat(0.0) });
        }
    }
    let mut out = [Coefficients::default(); R];
    let gd = sums(l, &gd);
    if MEAN {
        let (g, d) = (sums(l, &g), sums(l, &d));
        for r in 0..R {
            let (mean, rstd) = (a.mean[first + r], a.rstd[first + r]);
            // What rounding took from the saved mean; x-hat is about the exact one.
            let left = d[r] / n;
            let c1 = g[r] / n;
            let c2 = (gd[r] - left * g[r]) / n * rstd;
            out[r] = Coefficients { mean, rstd, shift: -left * rstd, c1: c1 * rstd, c2: c2 * rstd };
        }
    } else {
        for r in 0..R {
            let rstd = a.rstd[first + r];
            out[r] = Coefficients { rstd, c2: gd[r] / n * rstd * rstd, ..Coefficients::default() };
        }
    }
    out
}

/// The second pass over `R` rows, column by column, so that the sums over rows are loaded and stored once for all of
/// them; each column's additions go by ascending row all the same.
#[inline(always)]
fn write_rows<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &mut Rows<'_, MEAN, ADD>,
    sums: &mut Sums<'_>,
    first: usize,
    c: &[Coefficients],
) {
    let features = a.features;
    let gamma = Row::of(a.gamma, 0, features);
    let vectors = gamma.whole.len();
    let (dgamma, dgamma_rest) = sums.dgamma.as_chunks_mut::<LANES>();
    let (dbeta, dbeta_rest) = sums.dbeta.as_chunks_mut::<LANES>();
    let dgamma = &mut dgamma[..vectors];
    let dbeta = if MEAN { &mut dbeta[..vectors] } else { dbeta };
    let mut x = [&gamma.whole[..vectors]; R];
    let (mut dy, mut dh) = (x, x);
    let mut k = [Splat::<L, MEAN>::new(l, &c[0]); R];
    for r in 0..R {
        x[r] = &Row::of(a.x, first + r, features).whole[..vectors];
        dy[r] = &Row::of(a.dy, first + r, features).whole[..vectors];
        if ADD {
            dh[r] = &Row::of(a.dh, first + r, features).whole[..vectors];
        }
        k[r] = Splat::new(l, &c[r]);
    }
    let zero = l.splat(0.0);
    let dx = &mut a.dx[first * features..][..R * features];
    for i in 0..vectors {
        let (mut to_gamma, mut to_beta) = (l.load(&dgamma[i]), zero);
        if MEAN {
            to_beta = l.load(&dbeta[i]);
        }
        let gamma = l.load(&gamma.whole[i]);
        for r in 0..R {
            let dy = l.load(&dy[r][i]);
            let (mut value, xhat) = k[r].dx(l, l.load(&x[r][i]), dy, gamma);
            to_gamma = l.mul_add(dy, xhat, to_gamma);
            if MEAN {
                to_beta = l.add(to_beta, dy);
            }
            if ADD {
                value = l.add(l.load(&dh[r][i]), value);
            }
            let (dx, _) = dx[r * features + i * LANES..][..LANES].as_chunks_mut::<LANES>();
            l.store(&mut dx[0], value);
        }
        l.store(&mut dgamma[i], to_gamma);
        if MEAN {
            l.store(&mut dbeta[i], to_beta);
        }
    }
    if !gamma.rest.is_empty() {
        let (mut to_gamma, mut to_beta) = (l.load_part(dgamma_rest, zero), zero);
        if MEAN {
            to_beta = l.load_part(dbeta_rest, zero);
        }
        let gamma = l.load_part(gamma.rest, zero);
        for r in 0..R {
            let dy = l.load_part(Row::of(a.dy, first + r, features).rest, zero);
            let x = l.load_part(Row::of(a.x, first + r, features).rest, k[r].hat.mean);
            let (mut value, xhat) = k[r].dx(l, x, dy, gamma);
            to_gamma = l.mul_add(dy, xhat, to_gamma);
            if MEAN {
                to_beta = l.add(to_beta, dy);
            }
            if ADD {
                value = l.add(l.load_part(Row::of(a.dh, first + r, features).rest, zero), value);
            }
            l.store_part(&mut dx[r * features..][..features][vectors * LANES..], value);
        }
        l.store_part(dgamma_rest, to_gamma);
        if MEAN {
            l.store_part(dbeta_rest, to_beta);
        }
    }
}

/// A row's coefficients in all lanes.
#[derive(Clone, Copy)]
struct Splat<L: Lanes, const MEAN: bool> {
    hat: Hat<L, MEAN>,
    c1: L::F,
    c2: L::F,
}

impl<L: Lanes, const MEAN: bool> Splat<L, MEAN> {
    #[inline(always)]
    fn new(l: L, c: &Coefficients) -> Self {
        Splat { hat: Hat::new(l, c.mean, c.rstd, c.shift), c1: l.splat(-c.c1), c2: l.splat(c.c2) }
    }

    /// The gradient of one vector of the input, and its x-hat.
    #[inline(always)]
    fn dx(&self, l: L, x: L::F, dy: L::F, gamma: L::F) -> (L::F, L::F) {
        let (xhat, g) = (self.hat.of(l, x), l.mul(dy, gamma));
        let direct = if MEAN { l.mul_add(g, self.hat.rstd, self.c1) } else { l.mul(g, self.hat.rstd) };
        (l.neg_mul_add(xhat, self.c2, direct), xhat)
    }
}

/// With three sums `sum(dy gamma (x - mean))`, `sum(dy gamma)` and `sum(x - mean)`; with one `sum(dy gamma x)`.
struct Gradients<'a, L: Lanes> {
    x: Row<'a>,
    dy: Row<'a>,
    gamma: Row<'a>,
    mean: L::F,
}

impl<L: Lanes> Gradients<'_, L> {
    #[inline(always)]
    fn add<const S: usize>(&self, l: L, x: L::F, dy: L::F, gamma: L::F, sums: &mut [L::F; S]) {
        let d = if S == 3 { l.sub(x, self.mean) } else { x };
        let g = l.mul(dy, gamma);
        sums[0] = l.mul_add(g, d, sums[0]);
        if S == 3 {
            sums[1] = l.add(sums[1], g);
            sums[2] = l.add(sums[2], d);
        }
    }
}

impl<L: Lanes, const S: usize> Fold<L, S> for Gradients<'_, L> {
    type Group<'g>
        = Gradients<'g, L>
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
    fn group(&mut self, vectors: Range<usize>) -> Gradients<'_, L> {
        Gradients {
            x: self.x.group(vectors.clone()),
            dy: self.dy.group(vectors.clone()),
            gamma: self.gamma.group(vectors),
            mean: self.mean,
        }
    }
    #[inline(always)]
    fn whole(&mut self, l: L, i: usize, sums: &mut [L::F; S]) {
        let (x, dy) = (l.load(&self.x.whole[i]), l.load(&self.dy.whole[i]));
        self.add(l, x, dy, l.load(&self.gamma.whole[i]), sums);
    }
    #[inline(always)]
    fn rest(&mut self, l: L, sums: &mut [L::F; S]) {
        let zero = l.splat(0.0);
        let (x, dy) = (l.load_part(self.x.rest, self.mean), l.load_part(self.dy.rest, zero));
        self.add(l, x, dy, l.load_part(self.gamma.rest, zero), sums);
    }
}

/// Adds the sums over rows of all chunks by a tree: neighbours, then neighbours of neighbours.
pub(super) struct AddChunks<'a> {
    partial: &'a mut [f32],
    total: &'a mut [f32],
}

impl Kernel for AddChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let features = self.total.len();
        let mut step = features;
        while step < self.partial.len() {
            for pair in self.partial.chunks_mut(2 * step) {
                if pair.len() > step {
                    let (a, b) = pair.split_at_mut(step);
                    add_to(l, &mut a[..features], &b[..features]);
                }
            }
            step *= 2;
        }
        self.total.copy_from_slice(&self.partial[..features]);
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
    if !a_rest.is_empty() {
        let zero = l.splat(0.0);
        let sum = l.add(l.load_part(a_rest, zero), l.load_part(b_rest, zero));
        l.store_part(a_rest, sum);
    }
}
