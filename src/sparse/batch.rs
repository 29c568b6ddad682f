//! A batch: broadcast weights on contiguous examples.

use super::csr::Csr;
use crate::error::check_len;
use crate::lanes::{Index, Kernel, LANES, Lanes, dispatch};
use crate::parallel::{self, Work};
use crate::tier::{Active, active};
use crate::tuning;

impl<I: Index> Csr<I> {
    /// `Y = W X` for a batch: `x` is `[cols][batch]`, `y` is `[rows][batch]` and overwritten. Parallel from
    /// [`tuning::SPARSE_PARALLEL`] connections times examples on.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matmul(&self, x: &[f32], batch: usize, y: &mut [f32]) {
        check_len("sparse matmul", "x", x.len(), self.cols().saturating_mul(batch), "cols x batch");
        check_len("sparse matmul", "y", y.len(), self.rows().saturating_mul(batch), "rows x batch");
        let work = MatMul { active: active(), csr: self, first: 0, rows: self.rows(), batch, x, y };
        parallel::run(work, tuning::SPARSE_PARALLEL, tuning::SPARSE_PIECE);
    }
}

/// Some rows of a batch.
struct MatMul<'a, I: Index> {
    active: Active,
    csr: &'a Csr<I>,
    /// The row of `y[0]`.
    first: usize,
    rows: usize,
    batch: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<I: Index> Work for MatMul<'_, I> {
    fn size(&self) -> usize {
        let connections = self.csr.indptr()[self.first + self.rows] - self.csr.indptr()[self.first];
        connections.saturating_mul(self.batch)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.rows < 2 {
            return Err(self);
        }
        let middle = self.rows / 2;
        let (y0, y1) = self.y.split_at_mut(middle * self.batch);
        Ok((
            MatMul { y: y0, rows: middle, ..self },
            MatMul { y: y1, first: self.first + middle, rows: self.rows - middle, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<I: Index> Kernel for MatMul<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        if self.rows == 0 {
            return; // whatever the batch
        }
        // Tile by tile rather than row by row, so that a tile of x stays in the cache for all rows.
        let mut at = 0;
        // Eight accumulators, a weight and loads in flight fit 32 registers.
        while L::WIDE && at + 4 * LANES <= self.batch {
            tile::<L, I, 4, 64>(l, &mut self, at);
            at += 4 * LANES;
        }
        while at + 2 * LANES <= self.batch {
            tile::<L, I, 2, 32>(l, &mut self, at);
            at += 2 * LANES;
        }
        while at + LANES <= self.batch {
            tile::<L, I, 1, 16>(l, &mut self, at);
            at += LANES;
        }
        if at < self.batch {
            last_tile(l, &mut self, at);
        }
    }
}

/// How many accumulators a row's sum has in each example: connection `k` of the row goes to accumulator `k % 2`.
/// More would hide more latency on AVX-512, where the cache is the limit anyway, and spill on AVX2.
const ACC: usize = 2;

/// `T` vectors of examples, `W = 16 T`, from example `at` on.
#[inline(always)]
fn tile<L: Lanes, I: Index, const T: usize, const W: usize>(l: L, a: &mut MatMul<'_, I>, at: usize) {
    let x = a.csr.index_list().over::<W>(a.x, a.batch, at);
    for r in 0..a.rows {
        let row = a.csr.row(a.first + r);
        let (x, values) = (x.range(row.clone()), &a.csr.values()[row]);
        let mut acc = [[l.splat(0.0); T]; ACC];
        let n = values.len();
        let values = &values[..x.len()];
        let mut k = 0;
        while k + ACC <= n {
            for j in 0..ACC {
                connection::<L, T, W>(l, values[k + j], x.row(k + j), &mut acc[j]);
            }
            k += ACC;
        }
        // By name: an index that is only known at run time would put the accumulators into memory.
        for j in 0..ACC - 1 {
            if k + j < n {
                connection::<L, T, W>(l, values[k + j], x.row(k + j), &mut acc[j]);
            }
        }
        let (y, _) = a.y[r * a.batch + at..][..W].as_chunks_mut::<LANES>();
        for t in 0..T {
            let sum = l.add(acc[0][t], acc[1][t]);
            l.store(&mut y[t], sum);
        }
    }
}

/// Adds one connection to the accumulator of its turn.
#[inline(always)]
fn connection<L: Lanes, const T: usize, const W: usize>(l: L, w: f32, x: &[f32; W], acc: &mut [L::F; T]) {
    let (x, _) = x.as_chunks::<LANES>();
    let w = l.splat(w);
    for t in 0..T {
        acc[t] = l.mul_add(w, l.load(&x[t]), acc[t]);
    }
}

/// The last examples, fewer than sixteen: partial loads and stores, the same order of additions.
#[inline(always)]
fn last_tile<L: Lanes, I: Index>(l: L, a: &mut MatMul<'_, I>, at: usize) {
    let zero = l.splat(0.0);
    for r in 0..a.rows {
        let mut acc = [zero; ACC];
        for (k, i) in a.csr.row(a.first + r).enumerate() {
            let start = a.csr.indices()[i].to_usize() * a.batch;
            let x = l.load_part(&a.x[start + at..start + a.batch], zero);
            acc[k % ACC] = l.mul_add(l.splat(a.csr.values()[i]), x, acc[k % ACC]);
        }
        let sum = l.add(acc[0], acc[1]);
        l.store_part(&mut a.y[r * a.batch + at..(r + 1) * a.batch], sum);
    }
}
