//! The passes over a matrix: sums of squares over rows and columns, and the step by their roots.

use super::flat::{ACC, Average, BLOCK, total};
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Rows that are added one after the other for the sums of columns; the sums of such chunks are added by a tree.
pub(super) const ROWS_PER_CHUNK: usize = 64;

/// Rows that the first pass takes together.
const TOGETHER: usize = 4;

/// Vectors of a block.
const VECTORS: usize = BLOCK / LANES;

/// For some chunks of rows: the sum of each row's squares, and for each chunk those of its columns.
pub(super) struct GradSquares<'a> {
    pub(super) active: Active,
    pub(super) cols: usize,
    pub(super) grad: &'a [f32],
    /// `[rows]`
    pub(super) row: &'a mut [f32],
    /// `[chunks][cols]`
    pub(super) partial: &'a mut [f32],
}

impl Work for GradSquares<'_> {
    fn size(&self) -> usize {
        self.grad.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let chunks = self.row.len().div_ceil(ROWS_PER_CHUNK);
        if chunks < 2 {
            return Err(self);
        }
        let rows = chunks / 2 * ROWS_PER_CHUNK;
        let (g0, g1) = self.grad.split_at(rows * self.cols);
        let (r0, r1) = self.row.split_at_mut(rows);
        let (p0, p1) = self.partial.split_at_mut(chunks / 2 * self.cols);
        Ok((
            GradSquares { grad: g0, row: r0, partial: p0, ..self },
            GradSquares { grad: g1, row: r1, partial: p1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for GradSquares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (rows, cols) = (self.row.len(), self.cols);
        self.partial.fill(0.0);
        let mut row = 0;
        while row < rows {
            let partial = &mut self.partial[row / ROWS_PER_CHUNK * cols..][..cols];
            // Chunks are a multiple of the rows that are taken together; the order of the sums is that of single rows.
            let together = if row + TOGETHER <= rows { TOGETHER } else { 1 };
            let grad = &self.grad[row * cols..][..together * cols];
            let sums = &mut self.row[row..row + together];
            if together == TOGETHER {
                squares::<L, TOGETHER>(l, grad, partial, sums);
            } else {
                squares::<L, 1>(l, grad, partial, sums);
            }
            row += together;
        }
    }
}

#[inline(always)]
fn squares<L: Lanes, const R: usize>(l: L, grad: &[f32], col: &mut [f32], sums: &mut [f32]) {
    let cols = col.len();
    let (col, col_rest) = col.as_chunks_mut::<LANES>();
    let vectors = col.len();
    let mut rows: [&[Chunk]; R] = [&[]; R];
    for r in 0..R {
        rows[r] = &grad[r * cols..][..cols].as_chunks::<LANES>().0[..vectors];
    }
    let zero = l.splat(0.0);
    let mut row_total = [0.0f64; R];
    let mut from = 0;
    while from < vectors {
        let to = vectors.min(from + VECTORS);
        let mut acc = [zero; R];
        for i in from..to {
            let mut c = l.load(&col[i]);
            for r in 0..R {
                let g = l.load(&rows[r][i]);
                c = l.mul_add(g, g, c);
                acc[r] = l.mul_add(g, g, acc[r]);
            }
            l.store(&mut col[i], c);
        }
        for r in 0..R {
            row_total[r] += l.sum(acc[r]) as f64;
        }
        from = to;
    }
    if !col_rest.is_empty() {
        let mut c = l.load_part(col_rest, zero);
        for r in 0..R {
            let g = l.load_part(&grad[r * cols..][..cols][vectors * LANES..], zero);
            c = l.mul_add(g, g, c);
            row_total[r] += l.sum(l.mul(g, g)) as f64;
        }
        l.store_part(col_rest, c);
    }
    for r in 0..R {
        sums[r] = row_total[r] as f32;
    }
}

/// From the sums to the second moment, and to the reciprocal of its roots, which take the sums' place.
pub(super) struct Factor<'a> {
    pub(super) average: Average,
    pub(super) row: &'a mut [f32],
    pub(super) col: &'a mut [f32],
    /// `[rows]`, sums before and roots after.
    pub(super) row_roots: &'a mut [f32],
    /// `[chunks][cols]`, of which the first chunk has the roots afterwards.
    pub(super) partial: &'a mut [f32],
}

impl Kernel for Factor<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (rows, cols) = (self.row.len(), self.col.len());
        // Neighbours, then neighbours of neighbours.
        let mut step = cols;
        while step < self.partial.len() {
            for pair in self.partial.chunks_mut(2 * step) {
                if pair.len() > step {
                    let (a, b) = pair.split_at_mut(step);
                    add_to(l, &mut a[..cols], &b[..cols]);
                }
            }
            step *= 2;
        }
        moments(l, self.average, rows as f32, self.col, &mut self.partial[..cols]);
        moments(l, self.average, cols as f32, self.row, self.row_roots);
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

/// Moves each `moment` towards the mean that `sums` over `count` give, and leaves one over its root in `sums`.
#[inline(always)]
fn moments<L: Lanes>(l: L, average: Average, count: f32, moment: &mut [f32], sums: &mut [f32]) {
    let (count, weight) = (l.splat(count), l.splat(average.weight));
    let (moment, moment_rest) = moment.as_chunks_mut::<LANES>();
    let (sums, sums_rest) = sums.as_chunks_mut::<LANES>();
    let sums = &mut sums[..moment.len()];
    for i in 0..moment.len() {
        let mean = l.div(l.load(&sums[i]), count);
        let new = average.toward(l, weight, l.load(&moment[i]), mean);
        l.store(&mut moment[i], new);
        l.store(&mut sums[i], l.div(l.splat(1.0), l.sqrt(new)));
    }
    if !moment_rest.is_empty() {
        let one = l.splat(1.0);
        let mean = l.div(l.load_part(sums_rest, one), count);
        let new = average.toward(l, weight, l.load_part(moment_rest, one), mean);
        l.store_part(moment_rest, new);
        l.store_part(sums_rest, l.div(one, l.sqrt(new)));
    }
}

/// What stands for one over the root of the second moment.
#[derive(Clone, Copy)]
pub(super) struct Roots<'a> {
    /// `[rows]`, to be multiplied by `row_scale`
    pub(super) row: &'a [f32],
    /// `[cols]`
    pub(super) col: &'a [f32],
    pub(super) row_scale: f32,
    /// One over `eps1`.
    pub(super) most: f32,
}

impl<'a> Roots<'a> {
    fn split_at(self, row: usize) -> (Self, Self) {
        let (a, b) = self.row.split_at(row);
        (Roots { row: a, ..self }, Roots { row: b, ..self })
    }
}

/// `g min(a b, most)`: of a product that is NaN the NaN stays.
#[inline(always)]
fn unit<L: Lanes>(l: L, g: L::F, a: L::F, b: L::F, most: L::F) -> L::F {
    l.mul(g, l.min(most, l.mul(a, b)))
}

/// The sum of the squares of each row's `u`.
pub(super) struct UnitSquares<'a> {
    pub(super) active: Active,
    pub(super) roots: Roots<'a>,
    pub(super) grad: &'a [f32],
    pub(super) sums: &'a mut [f32],
}

impl Work for UnitSquares<'_> {
    fn size(&self) -> usize {
        self.grad.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let middle = self.sums.len() / 2;
        if middle == 0 {
            return Err(self);
        }
        let (g0, g1) = self.grad.split_at(middle * self.roots.col.len());
        let (s0, s1) = self.sums.split_at_mut(middle);
        let (r0, r1) = self.roots.split_at(middle);
        Ok((
            UnitSquares { roots: r0, grad: g0, sums: s0, ..self },
            UnitSquares { roots: r1, grad: g1, sums: s1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for UnitSquares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let cols = self.roots.col.len();
        let most = l.splat(self.roots.most);
        let zero = l.splat(0.0);
        for row in 0..self.sums.len() {
            let a = l.splat(self.roots.row[row] * self.roots.row_scale);
            let grad = &self.grad[row * cols..][..cols];
            let mut sum = 0.0f64;
            let mut from = 0;
            while from < cols {
                let to = cols.min(from + BLOCK);
                let (g, g_rest) = grad[from..to].as_chunks::<LANES>();
                let (b, b_rest) = self.roots.col[from..to].as_chunks::<LANES>();
                let n = g.len();
                let b = &b[..n];
                let mut acc = [zero; ACC];
                let mut i = 0;
                while i + ACC <= n {
                    for k in 0..ACC {
                        let u = unit(l, l.load(&g[i + k]), a, l.load(&b[i + k]), most);
                        acc[k] = l.mul_add(u, u, acc[k]);
                    }
                    i += ACC;
                }
                // By name: an index that is only known at run time would put the accumulators into memory.
                for k in 0..ACC {
                    if i + k < n {
                        let u = unit(l, l.load(&g[i + k]), a, l.load(&b[i + k]), most);
                        acc[k] = l.mul_add(u, u, acc[k]);
                    }
                    if i + k == n && !g_rest.is_empty() {
                        // Ones, since a row of zeros has an infinite `a`: no NaN of the unused lanes enters the sum.
                        let b = l.load_part(b_rest, l.splat(1.0));
                        let u = unit(l, l.load_part(g_rest, zero), a, b, most);
                        acc[k] = l.mul_add(u, u, acc[k]);
                    }
                }
                sum += total(l, acc) as f64;
                from = to;
            }
            self.sums[row] = sum as f32;
        }
    }
}

/// `p = decay p + factor u`, row by row.
pub(super) struct Apply<'a> {
    pub(super) active: Active,
    pub(super) roots: Roots<'a>,
    pub(super) grad: &'a [f32],
    pub(super) param: &'a mut [f32],
    pub(super) decay: f32,
    pub(super) factor: f32,
}

impl Work for Apply<'_> {
    fn size(&self) -> usize {
        self.grad.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let middle = self.roots.row.len() / 2;
        if middle == 0 {
            return Err(self);
        }
        let at = middle * self.roots.col.len();
        let (g0, g1) = self.grad.split_at(at);
        let (p0, p1) = self.param.split_at_mut(at);
        let (r0, r1) = self.roots.split_at(middle);
        Ok((
            Apply { roots: r0, grad: g0, param: p0, ..self },
            Apply { roots: r1, grad: g1, param: p1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let cols = self.roots.col.len();
        let (decay, factor) = (l.splat(self.decay), l.splat(self.factor));
        let most = l.splat(self.roots.most);
        let (b, b_rest) = self.roots.col.as_chunks::<LANES>();
        for row in 0..self.roots.row.len() {
            let a = l.splat(self.roots.row[row] * self.roots.row_scale);
            let (g, g_rest) = self.grad[row * cols..][..cols].as_chunks::<LANES>();
            let (p, p_rest) = self.param[row * cols..][..cols].as_chunks_mut::<LANES>();
            let n = p.len();
            let (g, b) = (&g[..n], &b[..n]);
            let mut i = 0;
            while i + ACC <= n {
                for k in i..i + ACC {
                    let u = unit(l, l.load(&g[k]), a, l.load(&b[k]), most);
                    let new = l.mul_add(factor, u, l.mul(decay, l.load(&p[k])));
                    l.store(&mut p[k], new);
                }
                i += ACC;
            }
            while i < n {
                let u = unit(l, l.load(&g[i]), a, l.load(&b[i]), most);
                let new = l.mul_add(factor, u, l.mul(decay, l.load(&p[i])));
                l.store(&mut p[i], new);
                i += 1;
            }
            if !p_rest.is_empty() {
                let zero = l.splat(0.0);
                let u = unit(l, l.load_part(g_rest, zero), a, l.load_part(b_rest, zero), most);
                let p = l.mul(decay, l.load_part(p_rest, zero));
                l.store_part(p_rest, l.mul_add(factor, u, p));
            }
        }
    }
}
