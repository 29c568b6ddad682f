//! A batch: broadcast weights on contiguous examples.

use super::csr::Csr;
use crate::error::check_len;
use crate::lanes::{Chunk, Index, Kernel, LANES, Lanes, Lookup, Stack, before_line, dispatch};
use crate::parallel::{self, Work};
use crate::tier::{Active, Tier, active};
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
        if self.worth_packing() {
            dispatch(self.active, Packed(self));
        } else {
            dispatch(self.active, self);
        }
    }
}

/// Columns up to which a tile of `x` is copied side by side: with 32 examples 128 KB, on the stack.
const PACK_COLS: usize = 1024;
/// Examples of a packed tile.
const PACK: usize = 2 * LANES;

impl<I: Index> MatMul<'_, I> {
    /// Whether tiles are read often enough to be copied first. The columns of a large batch lie far apart, on a few sets of
    /// the caches: 784 sources, 128 destinations, 512 examples take 1.37 times as long at half of all connections,
    /// 1.05 times at a tenth. What is left of a batch after whole vectors takes up to three times as long where it lies, and
    /// vectors across cache lines up to twice as long with AVX-512, 1.2 to 1.5 times with AVX2.
    fn worth_packing(&self) -> bool {
        let connections = self.csr.indptr()[self.first + self.rows] - self.csr.indptr()[self.first];
        let reads = connections / self.csr.cols().max(1);
        let across = if self.active.tier() == Tier::Avx512 { 8 } else { 24 };
        self.csr.cols() <= PACK_COLS
            && (!self.batch.is_multiple_of(LANES) && reads >= 8
                || before_line(self.active, self.x) > 0 && reads >= across
                || self.batch >= 16 * LANES && reads >= 12
                || self.batch > 4 * LANES && reads >= 32)
    }
}

/// [`MatMul`] by tiles that are copied.
struct Packed<'a, I: Index>(MatMul<'a, I>);

/// Room for a tile.
type Room = Stack<{ PACK_COLS * PACK / LANES }>;

impl<I: Index> Kernel for Packed<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Packed(mut a) = self;
        let mut room = Room::new();
        // All that tiles take, at once.
        room.grow(a.csr.cols() * if a.batch > LANES { PACK } else { LANES });
        let mut at = 0;
        while at + PACK <= a.batch {
            packed_tile::<L, I, { PACK / LANES }, PACK, true>(l, &mut a, &mut room, at);
            at += PACK;
        }
        if at + LANES < a.batch {
            packed_tile::<L, I, { PACK / LANES }, PACK, false>(l, &mut a, &mut room, at);
        } else if at < a.batch {
            packed_tile::<L, I, 1, LANES, false>(l, &mut a, &mut room, at);
        }
    }
}

/// Up to `W = 16 T` examples from `at` on, with zeros beside them; `W` if they are `WHOLE`.
#[inline(always)]
fn packed_tile<L: Lanes, I: Index, const T: usize, const W: usize, const WHOLE: bool>(
    l: L,
    a: &mut MatMul<'_, I>,
    room: &mut Room,
    at: usize,
) {
    let width = if WHOLE { W } else { a.batch - at };
    let cols = a.csr.cols();
    let packed = room.first_mut(cols * T);
    for c in 0..cols {
        let x = &a.x[c * a.batch + at..][..width];
        let to = &mut packed[c * T..][..T];
        for t in 0..T {
            let v = if WHOLE {
                l.load(&x.as_chunks().0[t])
            } else {
                l.load_part(&x[width.min(t * LANES)..width.min((t + 1) * LANES)], l.splat(0.0))
            };
            l.store(&mut to[t], v);
        }
    }
    let packed: &[Chunk] = packed;
    let x = a.csr.index_list().over::<W>(packed.as_flattened(), W, 0);
    tile::<L, I, T, W, WHOLE>(l, a, x, at);
}

impl<I: Index> Kernel for MatMul<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if self.rows > 0 {
            tiles(l, self, 0);
        } // else nothing, whatever the batch
    }
}

/// Tile by tile rather than row by row, from example `at` on, so that a tile of x stays in the cache for all rows.
#[inline(always)]
fn tiles<L: Lanes, I: Index>(l: L, mut a: MatMul<'_, I>, mut at: usize) {
    // Eight accumulators, a weight and loads in flight fit 32 registers.
    while L::WIDE && at + 4 * LANES <= a.batch {
        let x = a.csr.index_list().over(a.x, a.batch, at);
        tile::<L, I, 4, 64, true>(l, &mut a, x, at);
        at += 4 * LANES;
    }
    while at + 2 * LANES <= a.batch {
        let x = a.csr.index_list().over(a.x, a.batch, at);
        tile::<L, I, 2, 32, true>(l, &mut a, x, at);
        at += 2 * LANES;
    }
    while at + LANES <= a.batch {
        let x = a.csr.index_list().over(a.x, a.batch, at);
        tile::<L, I, 1, 16, true>(l, &mut a, x, at);
        at += LANES;
    }
    if at < a.batch {
        last_tile(l, &mut a, at);
    }
}

/// How many accumulators a row's sum has in each example: connection `k` of the row's part in a panel goes to accumulator
/// `k % 2`. More would hide more latency on AVX-512, where loads are the limit anyway, and spill on AVX2.
const ACC: usize = 2;

/// `T` vectors of examples, `W = 16 T`, from example `at` on, which `x` has; `y` has all of them if they are `WHOLE`.
#[inline(always)]
fn tile<L: Lanes, I: Index, const T: usize, const W: usize, const WHOLE: bool>(
    l: L,
    a: &mut MatMul<'_, I>,
    x: Lookup<'_, I, W>,
    at: usize,
) {
    for panel in 0..a.csr.panels() {
        let (starts, ends) = a.csr.panel(panel, a.first..a.first + a.rows);
        let ends = &ends[..starts.len()];
        for r in 0..starts.len() {
            let part = starts[r]..ends[r];
            let (x, values) = (x.range(part.clone()), &a.csr.values()[part]);
            let y = &mut a.y[r * a.batch..][..a.batch][at..];
            if WHOLE {
                part_of_row::<L, I, T, W>(l, x, values, panel == 0, &mut y[..W]);
                continue;
            }
            let mut whole = [[0.0; LANES]; T];
            let width = y.len();
            for t in 0..T {
                let part = &y[width.min(t * LANES)..width.min((t + 1) * LANES)];
                l.store(&mut whole[t], l.load_part(part, l.splat(0.0)));
            }
            part_of_row::<L, I, T, W>(l, x, values, panel == 0, whole.as_flattened_mut());
            for t in 0..T {
                let part = &mut y[width.min(t * LANES)..width.min((t + 1) * LANES)];
                l.store_part(part, l.load(&whole[t]));
            }
        }
    }
}

/// The connections of a row that lie in a panel. The row's first panel overwrites `y`, the others add to it.
#[inline(always)]
fn part_of_row<L: Lanes, I: Index, const T: usize, const W: usize>(
    l: L,
    x: Lookup<'_, I, W>,
    values: &[f32],
    first: bool,
    y: &mut [f32],
) {
    let (y, _) = y.as_chunks_mut::<LANES>();
    let mut acc = [[l.splat(0.0); T]; ACC];
    if !first {
        for t in 0..T {
            acc[0][t] = l.load(&y[t]);
        }
    }
    let (quads, rest) = values.as_chunks::<4>();
    for (q, w) in quads.iter().enumerate() {
        let x = x.quad(q);
        connection::<L, T, W>(l, &w[0], x.row(0), &mut acc[0]);
        connection::<L, T, W>(l, &w[1], x.row(1), &mut acc[1]);
        connection::<L, T, W>(l, &w[2], x.row(2), &mut acc[0]);
        connection::<L, T, W>(l, &w[3], x.row(3), &mut acc[1]);
    }
    let x = x.after_quads();
    // By name: an index that is only known at run time would put the accumulators into memory.
    if !rest.is_empty() {
        connection::<L, T, W>(l, &rest[0], x.row(0), &mut acc[0]);
    }
    if rest.len() > 1 {
        connection::<L, T, W>(l, &rest[1], x.row(1), &mut acc[1]);
    }
    if rest.len() > 2 {
        connection::<L, T, W>(l, &rest[2], x.row(2), &mut acc[0]);
    }
    for t in 0..T {
        l.store(&mut y[t], l.add(acc[0][t], acc[1][t]));
    }
}

/// Adds one connection to the accumulator of its turn.
#[inline(always)]
fn connection<L: Lanes, const T: usize, const W: usize>(l: L, w: &f32, x: &[f32; W], acc: &mut [L::F; T]) {
    let (x, _) = x.as_chunks::<LANES>();
    let w = l.splat(*w);
    for t in 0..T {
        acc[t] = l.mul_add(w, l.load(&x[t]), acc[t]);
    }
}

/// The last examples, fewer than sixteen: partial loads and stores, the same order of additions.
#[inline(always)]
fn last_tile<L: Lanes, I: Index>(l: L, a: &mut MatMul<'_, I>, at: usize) {
    let zero = l.splat(0.0);
    for panel in 0..a.csr.panels() {
        let (starts, ends) = a.csr.panel(panel, a.first..a.first + a.rows);
        for r in 0..a.rows {
            let y = &mut a.y[r * a.batch + at..(r + 1) * a.batch];
            let mut acc = [zero; ACC];
            if panel > 0 {
                acc[0] = l.load_part(y, zero);
            }
            for (k, i) in (starts[r]..ends[r]).enumerate() {
                let start = a.csr.indices()[i].to_usize() * a.batch;
                let x = l.load_part(&a.x[start + at..start + a.batch], zero);
                acc[k % ACC] = l.mul_add(l.splat(a.csr.values()[i]), x, acc[k % ACC]);
            }
            l.store_part(y, l.add(acc[0], acc[1]));
        }
    }
}
