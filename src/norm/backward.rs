//! The backward: one pass of sums over a row of `x` and `dy`, one that writes `dx` and adds to the sums over rows; the
//! second finds the row in the cache.

use super::ROWS_PER_CHUNK;
use super::columns::{Coefficients, write_rows};
use super::fold::{Fold, fold, head, row_of, sums};
use super::small;
use crate::lanes::{Chunk, Kernel, Lanes, dispatch};
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
    let rows = a.rstd.len();
    let mut row = match a.features {
        64 => small::backward::<L, 4, MEAN, ADD>(l, a, sums),
        128 => small::backward::<L, 8, MEAN, ADD>(l, a, sums),
        _ => 0,
    };
    if a.features <= tuning::NORM_SMALL {
        while row + 16 <= rows {
            let c = coefficients::<L, 16, MEAN, ADD>(l, a, row);
            for part in 0..4 {
                write_rows::<L, 4, MEAN, ADD, false>(l, a, sums, row + 4 * part, &c[4 * part..]);
            }
            row += 16;
        }
    }
    if a.features > tuning::NORM_LONG {
        while row + 4 <= rows {
            let c = coefficients::<L, 4, MEAN, ADD>(l, a, row);
            write_rows::<L, 2, MEAN, ADD, true>(l, a, sums, row, &c);
            write_rows::<L, 2, MEAN, ADD, true>(l, a, sums, row + 2, &c[2..]);
            row += 4;
        }
    }
    while row + 2 <= rows {
        let c = coefficients::<L, 2, MEAN, ADD>(l, a, row);
        write_rows::<L, 2, MEAN, ADD, true>(l, a, sums, row, &c);
        row += 2;
    }
    while row < rows {
        let c = coefficients::<L, 1, MEAN, ADD>(l, a, row);
        write_rows::<L, 1, MEAN, ADD, true>(l, a, sums, row, &c);
        row += 1;
    }
}

/// The first pass over `R` rows.
#[inline(always)]
fn coefficients<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool>(
    l: L,
    a: &Rows<'_, MEAN, ADD>,
    first: usize,
) -> [Coefficients; R] {
    let (features, n) = (a.features, a.features as f32);
    let head = head(l, a.x, features);
    let zero = l.splat(0.0);
    let mut out = [Coefficients::default(); R];
    if MEAN {
        let mut sum = [[zero; R]; 3];
        let mut r = 0;
        while L::WIDE && R <= 4 && r + 2 <= R {
            let s = gradients::<L, 2, MEAN, ADD, 3, 2>(l, a, first + r, head);
            for k in 0..2 {
                for i in 0..3 {
                    sum[i][r + k] = s[k][i];
                }
            }
            r += 2;
        }
        while r < R {
            let [s] = gradients::<L, 1, MEAN, ADD, 3, 2>(l, a, first + r, head);
            for i in 0..3 {
                sum[i][r] = s[i];
            }
            r += 1;
        }
        let [gd, g, mut d] = sums(l, &sum);
        let (mut c1, mut c2, mut shift) = ([0.0; R], [0.0; R], [0.0; R]);
        let (mut mean, mut rstd) = ([0.0; R], [0.0; R]);
        mean.copy_from_slice(&a.mean[first..][..R]);
        rstd.copy_from_slice(&a.rstd[first..][..R]);
        // What rounding took from the saved mean; x-hat is about the exact one.
        for r in 0..R {
            d[r] /= n;
        }
        for r in 0..R {
            c1[r] = g[r] / n * rstd[r];
        }
        for r in 0..R {
            c2[r] = (gd[r] - d[r] * g[r]) / n * rstd[r] * rstd[r];
        }
        for r in 0..R {
            shift[r] = -d[r] * rstd[r];
        }
        for r in 0..R {
            out[r] = Coefficients { mean: mean[r], rstd: rstd[r], shift: shift[r], c1: c1[r], c2: c2[r] };
        }
    } else {
        let mut sum = [[zero; R]];
        for r in 0..R {
            let [[s]] = gradients::<L, 1, MEAN, ADD, 1, 4>(l, a, first + r, head);
            sum[0][r] = s;
        }
        let [gd] = sums(l, &sum);
        for r in 0..R {
            let rstd = a.rstd[first + r];
            out[r] = Coefficients { rstd, c2: gd[r] / n * rstd * rstd, ..Coefficients::default() };
        }
    }
    out
}

/// The first pass's sums over `R` rows.
#[inline(always)]
fn gradients<L: Lanes, const R: usize, const MEAN: bool, const ADD: bool, const S: usize, const A: usize>(
    l: L,
    a: &Rows<'_, MEAN, ADD>,
    first: usize,
    head: usize,
) -> [[L::F; S]; R] {
    let features = a.features;
    let mut rows: [[&[f32]; 3]; R] = [[&[]; 3]; R];
    let mut f = [Gradient::<L> { mean: l.splat(0.0) }; R];
    for r in 0..R {
        rows[r] = [
            row_of(a.x, first + r, features),
            row_of(a.dy, first + r, features),
            row_of(a.gamma, 0, features),
        ];
        if MEAN {
            f[r].mean = l.splat(a.mean[first + r]);
        }
    }
    fold::<L, Gradient<L>, 3, R, S, A, false>(l, f, rows, head)
}

/// With three sums `sum(dy gamma (x - mean))`, `sum(dy gamma)` and `sum(x - mean)`; with one `sum(dy gamma x)`.
#[derive(Clone, Copy)]
struct Gradient<L: Lanes> {
    mean: L::F,
}

impl<L: Lanes, const S: usize> Fold<L, 3, S> for Gradient<L> {
    #[inline(always)]
    fn neutral(self, l: L) -> [L::F; 3] {
        [self.mean, l.splat(0.0), l.splat(0.0)]
    }
    #[inline(always)]
    fn add(self, l: L, [x, dy, gamma]: [L::F; 3], sums: &mut [L::F; S]) {
        let d = if S == 3 { l.sub(x, self.mean) } else { x };
        let g = l.mul(dy, gamma);
        sums[0] = l.mul_add(g, d, sums[0]);
        if S == 3 {
            sums[1] = l.add(sums[1], g);
            sums[2] = l.add(sums[2], d);
        }
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
