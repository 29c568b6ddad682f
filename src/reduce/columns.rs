//! Sums of columns: a panel of columns after the other, down the rows.

use std::array::from_fn;

use crate::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::parallel::{Shares, Work, middle};
use crate::tier::Active;
use crate::tuning;

/// Rows whose values are added one after the other; above, a tree. Part of the format, as the bits depend on it.
pub const ROWS_PER_SUM: usize = 256;
/// Sums that wait for each other in one tree: of 2^16 chunks of rows. Such trees are added one after the other.
const LEVELS: usize = 16;
/// Columns whose sums wait in the nearest cache while the rows go by.
const PANEL: usize = 512;
/// Vectors of columns whose sums are in registers together: as many as hide an addition's latency. One takes two registers
/// with AVX2, four on NEON and without SIMD, where half as many do.
const BLOCK: usize = 8;
/// Columns that are not shared by two threads.
const NARROW: usize = 4 * LANES;
/// Rows in one turn over the columns. The CPU fetches ahead along a row better than from one row to the next: with 256 in a
/// turn, 8192 x 2048 takes 1.25 times as long.
const ROWS: usize = 32;

/// How the columns are spread over threads.
pub(super) const SHARES: Shares =
    Shares { per_thread: 2, least: tuning::COLUMN_SUMS_PIECE, most: usize::MAX, outside: tuning::OUTSIDE };

/// Some columns of a matrix.
pub(super) struct Columns<'a> {
    pub(super) active: Active,
    /// All of the matrix, a row of `cols` values after the other.
    pub(super) x: &'a [f32],
    pub(super) cols: usize,
    /// The column that `sums` begins with.
    pub(super) first: usize,
    /// Whether the sums start from what `sums` holds.
    pub(super) accumulate: bool,
    pub(super) sums: &'a mut [f32],
}

impl Work for Columns<'_> {
    fn size(&self) -> usize {
        self.x.len() / self.cols * self.sums.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        // Pieces that are narrow read too little of a row at a time.
        if self.sums.len() <= NARROW {
            return Err(self);
        }
        let middle = middle(self.sums.len(), LANES);
        let (a, b) = self.sums.split_at_mut(middle);
        Ok((Columns { sums: a, ..self }, Columns { sums: b, first: self.first + middle, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut at = 0;
        while at < self.sums.len() {
            let width = PANEL.min(self.sums.len() - at);
            self.panel(l, at, width);
            at += width;
        }
    }
}

impl Columns<'_> {
    /// So many columns, from `sums[at]` on.
    #[inline(always)]
    fn panel<L: Lanes>(&mut self, l: L, at: usize, width: usize) {
        let (cols, from) = (self.cols, self.first + at);
        let sums = &mut self.sums[at..at + width];
        if !self.accumulate {
            sums.fill(0.0);
        }
        let mut chunks = self.x.chunks(ROWS_PER_SUM * cols);
        if let Some(rows) = chunks.next() {
            down(l, rows, cols, from, sums);
        }
        if chunks.len() > 0 {
            let mut waiting = Waiting::new(width);
            waiting.push().copy_from_slice(sums);
            waiting.merge(l);
            for rows in chunks {
                let next = waiting.push();
                next.fill(0.0);
                down(l, rows, cols, from, next);
                waiting.merge(l);
            }
            sums.copy_from_slice(waiting.total(l));
        }
    }
}

/// Adds each row's values, from column `from` on, to as many `sums`.
#[inline(always)]
fn down<L: Lanes>(l: L, rows: &[f32], cols: usize, from: usize, sums: &mut [f32]) {
    // One block takes all columns, and stays in registers.
    let turn = if sums.len() > BLOCK * LANES { ROWS } else { ROWS_PER_SUM };
    for rows in rows.chunks(turn * cols) {
        let mut at = 0;
        while L::WIDE && sums.len() - at >= BLOCK * LANES {
            at += block::<L, BLOCK>(l, rows, cols, from + at, &mut sums[at..]);
        }
        while sums.len() - at >= 4 * LANES {
            at += block::<L, 4>(l, rows, cols, from + at, &mut sums[at..]);
        }
        while sums.len() - at >= LANES {
            at += block::<L, 1>(l, rows, cols, from + at, &mut sums[at..]);
        }
        if at < sums.len() {
            rest(l, rows, cols, from + at, &mut sums[at..]);
        }
    }
}

/// The first `V` vectors of `sums`, and how many columns they are.
#[inline(always)]
fn block<L: Lanes, const V: usize>(l: L, rows: &[f32], cols: usize, from: usize, sums: &mut [f32]) -> usize {
    let sums = sums[..V * LANES].as_chunks_mut::<LANES>().0;
    let mut acc = from_fn::<_, V, _>(|v| l.load(&sums[v]));
    for row in rows.chunks_exact(cols) {
        let vectors = row[from..from + V * LANES].as_chunks::<LANES>().0;
        for v in 0..V {
            acc[v] = l.add(acc[v], l.load(&vectors[v]));
        }
    }
    for v in 0..V {
        l.store(&mut sums[v], acc[v]);
    }
    V * LANES
}

/// Fewer columns than a vector has, with zeros beside them.
#[inline(always)]
fn rest<L: Lanes>(l: L, rows: &[f32], cols: usize, from: usize, sums: &mut [f32]) {
    let zero = l.splat(0.0);
    let mut acc = l.load_part(sums, zero);
    for row in rows.chunks_exact(cols) {
        acc = l.add(acc, l.load_part(&row[from..from + sums.len()], zero));
    }
    l.store_part(sums, acc);
}

/// Sums of chunks of rows that wait for those of as many: neighbours are added, then pairs, then fours.
struct Waiting {
    sums: [[f32; PANEL]; LEVELS + 2],
    width: usize,
    depth: usize,
    chunks: usize,
}

impl Waiting {
    #[inline(always)]
    fn new(width: usize) -> Self {
        Waiting { sums: [[0.0; PANEL]; LEVELS + 2], width, depth: 0, chunks: 0 }
    }

    /// The place of the next chunk's sums.
    #[inline(always)]
    fn push(&mut self) -> &mut [f32] {
        self.depth += 1;
        self.chunks += 1;
        &mut self.sums[self.depth - 1][..self.width]
    }

    /// Adds what waits for the chunk that was pushed.
    #[inline(always)]
    fn merge<L: Lanes>(&mut self, l: L) {
        let before = self.chunks - 1;
        let mut merges = (before % (1 << LEVELS)).trailing_ones().min(LEVELS as u32);
        // The end of a tree that is not the first.
        if self.chunks > 1 << LEVELS && self.chunks.is_multiple_of(1 << LEVELS) {
            merges += 1;
        }
        for _ in 0..merges {
            self.add_last(l);
        }
    }

    /// Adds the last sums to those before them.
    #[inline(always)]
    fn add_last<L: Lanes>(&mut self, l: L) {
        self.depth -= 1;
        let (before, last) = self.sums.split_at_mut(self.depth);
        down(l, &last[0][..self.width], self.width, 0, &mut before[self.depth - 1][..self.width]);
    }

    #[inline(always)]
    fn total<L: Lanes>(&mut self, l: L) -> &[f32] {
        while self.depth > 1 {
            self.add_last(l);
        }
        &self.sums[0][..self.width]
    }
}
