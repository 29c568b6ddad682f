//! A batch: broadcast weights on contiguous examples.

use super::csr::Csr;
use crate::error::check_len;
use crate::lanes::{Index, Kernel, LANES, Lanes, Lookup, Stack, before_line, dispatch};
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

/// Vectors of copied columns that there is room for: 128 KB, on the stack.
const ROOM: usize = 2048;
/// Examples of a packed tile; with 32 registers there is room for the sums of twice as many.
const PACK: usize = 2 * LANES;

impl<I: Index> MatMul<'_, I> {
    /// Whether tiles are read often enough to be copied first. The columns of a large batch lie far apart, and those of
    /// one that is a multiple of 128 on a few sets of the caches: 784 sources, 128 destinations, 512 examples take 1.46
    /// times as long with AVX-512 and 1.5 times with AVX2 at half of all connections, 1.03 and 1.25 times at a tenth. What
    /// is left of a batch after whole vectors takes up to three times as long where it lies, and vectors across cache lines
    /// up to twice as long with AVX-512, 1.2 to 1.5 times with AVX2. With AVX-512 other batches of fewer than 512 examples
    /// are read as fast where they lie, and a copy would cost 3 to 15%.
    fn worth_packing(&self) -> bool {
        let connections = self.csr.indptr()[self.first + self.rows] - self.csr.indptr()[self.first];
        let reads = connections / self.csr.cols().max(1);
        let (often, seldom, across) = if self.active.tier() == Tier::Avx512 {
            let on_few_sets = self.batch.is_multiple_of(128) && self.has_wide_room();
            (self.batch >= 512 || on_few_sets, self.batch.is_multiple_of(512), 8)
        } else {
            (self.batch > 64, self.batch >= 256, 24)
        };
        self.ring() <= ROOM * LANES / PACK
            && (!self.batch.is_multiple_of(LANES) && reads >= 8
                || before_line(self.active, self.x) > 0 && reads >= across
                || often && reads >= 32
                || seldom && reads >= 12)
    }

    /// Places for the columns of a panel, which are copied at a time: those of the panel before, so that most of what is
    /// written is in the nearest cache already.
    fn ring(&self) -> usize {
        self.csr.panel_cols().next_power_of_two()
    }

    /// Whether there is room for tiles of twice as many examples.
    fn has_wide_room(&self) -> bool {
        self.ring() <= ROOM * LANES / (2 * PACK)
    }
}

/// [`MatMul`] by tiles that are copied.
struct Packed<'a, I: Index>(MatMul<'a, I>);

impl<I: Index> Kernel for Packed<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Packed(a) = self;
        // A place of a ring is one instruction more to find, which AVX2 feels.
        if !L::WIDE && a.csr.cols() <= ROOM * LANES / PACK {
            packed_tiles::<L, I, false>(l, a);
        } else {
            packed_tiles::<L, I, true>(l, a);
        }
    }
}

/// All tiles, copied to places that panels use in turns if they are a `RING`, else to a place for each column.
#[inline(always)]
fn packed_tiles<L: Lanes, I: Index, const RING: bool>(l: L, mut a: MatMul<'_, I>) {
    let wide = L::WIDE && a.batch >= 2 * PACK && a.has_wide_room();
    let widest = if wide { 2 * PACK } else { a.batch.next_multiple_of(LANES).min(PACK) };
    let mut room = Stack::<ROOM>::new();
    // All that tiles take, at once.
    let room = room.grow(if RING { a.ring() } else { a.csr.cols() } * widest);
    let mut at = 0;
    while wide && at + 2 * PACK <= a.batch {
        packed_tile::<L, I, { 2 * PACK / LANES }, { 2 * PACK }, true, RING>(l, &mut a, room, at);
        at += 2 * PACK;
    }
    while at + PACK <= a.batch {
        packed_tile::<L, I, { PACK / LANES }, PACK, true, RING>(l, &mut a, room, at);
        at += PACK;
    }
    if at + LANES < a.batch {
        packed_tile::<L, I, { PACK / LANES }, PACK, false, RING>(l, &mut a, room, at);
    } else if at < a.batch {
        packed_tile::<L, I, 1, LANES, false, RING>(l, &mut a, room, at);
    }
}

/// Up to `W = 16 T` examples from `at` on, with zeros beside them; `W` if they are `WHOLE`.
#[inline(always)]
fn packed_tile<L: Lanes, I: Index, const T: usize, const W: usize, const WHOLE: bool, const RING: bool>(
    l: L,
    a: &mut MatMul<'_, I>,
    room: &mut [f32],
    at: usize,
) {
    let width = if WHOLE { W } else { a.batch - at };
    let (cols, of_a_panel) = (a.csr.cols(), a.csr.panel_cols());
    let places = if RING { a.ring() } else { cols };
    let packed = &mut room.as_chunks_mut::<W>().0[..places];
    for panel in 0..a.csr.panels() {
        for c in panel * of_a_panel..cols.min((panel + 1) * of_a_panel) {
            let x = &a.x[c * a.batch + at..][..width];
            let (to, _) = packed[if RING { c & (places - 1) } else { c }].as_chunks_mut();
            for t in 0..T {
                let v = if WHOLE {
                    l.load(&x.as_chunks().0[t])
                } else {
                    l.load_part(&x[width.min(t * LANES)..width.min((t + 1) * LANES)], l.splat(0.0))
                };
                l.store(&mut to[t], v);
            }
        }
        let x = a.csr.index_list().among::<W, RING>(packed);
        panel_of_tile::<L, I, T, W, WHOLE, RING>(l, a, x, at, panel);
    }
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
        tile::<L, I, 4, 64>(l, &mut a, x, at);
        at += 4 * LANES;
    }
    while at + 2 * LANES <= a.batch {
        let x = a.csr.index_list().over(a.x, a.batch, at);
        tile::<L, I, 2, 32>(l, &mut a, x, at);
        at += 2 * LANES;
    }
    while at + LANES <= a.batch {
        let x = a.csr.index_list().over(a.x, a.batch, at);
        tile::<L, I, 1, 16>(l, &mut a, x, at);
        at += LANES;
    }
    if at < a.batch {
        last_tile(l, &mut a, at);
    }
}

/// How many accumulators a row's sum has in each example: connection `k` of the row's part in a panel goes to accumulator
/// `k % 2`. More would hide more latency on AVX-512, where loads are the limit anyway, and spill on AVX2.
const ACC: usize = 2;

/// `T` vectors of examples, `W = 16 T`, from example `at` on, which `x` has.
#[inline(always)]
fn tile<L: Lanes, I: Index, const T: usize, const W: usize>(
    l: L,
    a: &mut MatMul<'_, I>,
    x: Lookup<'_, I, W>,
    at: usize,
) {
    for panel in 0..a.csr.panels() {
        panel_of_tile::<L, I, T, W, true, false>(l, a, x, at, panel);
    }
}

/// The connections of a tile that lie in a panel; `y` has all of the tile's examples if they are `WHOLE`.
#[inline(always)]
fn panel_of_tile<L: Lanes, I: Index, const T: usize, const W: usize, const WHOLE: bool, const RING: bool>(
    l: L,
    a: &mut MatMul<'_, I>,
    x: Lookup<'_, I, W, RING>,
    at: usize,
    panel: usize,
) {
    let (starts, ends) = a.csr.panel(panel, a.first..a.first + a.rows);
    let ends = &ends[..starts.len()];
    for r in 0..starts.len() {
        let part = starts[r]..ends[r];
        let (x, values) = (x.range(part.clone()), &a.csr.values()[part]);
        let y = &mut a.y[r * a.batch..][..a.batch][at..];
        if WHOLE {
            part_of_row::<L, I, T, W, RING>(l, x, values, panel == 0, &mut y[..W]);
            continue;
        }
        let mut whole = [[0.0; LANES]; T];
        let width = y.len();
        for t in 0..T {
            let part = &y[width.min(t * LANES)..width.min((t + 1) * LANES)];
            l.store(&mut whole[t], l.load_part(part, l.splat(0.0)));
        }
        part_of_row::<L, I, T, W, RING>(l, x, values, panel == 0, whole.as_flattened_mut());
        for t in 0..T {
            let part = &mut y[width.min(t * LANES)..width.min((t + 1) * LANES)];
            l.store_part(part, l.load(&whole[t]));
        }
    }
}

/// The connections of a row that lie in a panel. The row's first panel overwrites `y`, the others add to it.
#[inline(always)]
fn part_of_row<L: Lanes, I: Index, const T: usize, const W: usize, const RING: bool>(
    l: L,
    x: Lookup<'_, I, W, RING>,
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
