//! Sums of columns: a few vectors of columns together, down the rows.

use crate::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Rows whose values are added one after the other; above, a tree. Part of the format, as the bits depend on it.
pub const ROWS_PER_SUM: usize = 256;
/// Sums that wait for each other in one tree: of 2^16 chunks of rows. Such trees are added one after the other.
const LEVELS: usize = 16;

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
        let middle = (self.sums.len() / 2).next_multiple_of(LANES);
        if middle >= self.sums.len() {
            return Err(self);
        }
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
        // As many accumulators as hide an addition's latency and have registers: a vector takes two on AVX2, four on NEON.
        while L::WIDE && self.sums.len() - at >= 8 * LANES {
            self.block::<L, 8>(l, at);
            at += 8 * LANES;
        }
        while self.sums.len() - at >= 4 * LANES {
            self.block::<L, 4>(l, at);
            at += 4 * LANES;
        }
        while self.sums.len() - at >= LANES {
            self.block::<L, 1>(l, at);
            at += LANES;
        }
        if at < self.sums.len() {
            self.rest(l, at);
        }
    }
}

impl Columns<'_> {
    /// `V` vectors of columns, from `sums[at]` on.
    #[inline(always)]
    fn block<L: Lanes, const V: usize>(&mut self, l: L, at: usize) {
        let from = self.first + at;
        let width = V * LANES;
        let mut acc = [l.splat(0.0); V];
        if self.accumulate {
            let start = self.sums[at..at + width].as_chunks::<LANES>().0;
            for v in 0..V {
                acc[v] = l.load(&start[v]);
            }
        }
        let mut chunks = self.x.chunks(ROWS_PER_SUM * self.cols);
        if let Some(rows) = chunks.next() {
            down::<L, V>(l, rows, self.cols, from, &mut acc);
        }
        if self.x.len() > ROWS_PER_SUM * self.cols {
            let mut waiting = Waiting::<L, V>::new(l);
            waiting.add(l, acc);
            for rows in chunks {
                let mut acc = [l.splat(0.0); V];
                down::<L, V>(l, rows, self.cols, from, &mut acc);
                waiting.add(l, acc);
            }
            acc = waiting.total(l);
        }
        let to = self.sums[at..at + width].as_chunks_mut::<LANES>().0;
        for v in 0..V {
            l.store(&mut to[v], acc[v]);
        }
    }

    /// The last columns, fewer than a vector has, with zeros beside them.
    #[inline(always)]
    fn rest<L: Lanes>(&mut self, l: L, at: usize) {
        let (zero, from) = (l.splat(0.0), self.first + at);
        let n = self.sums.len() - at;
        let mut acc = [if self.accumulate { l.load_part(&self.sums[at..], zero) } else { zero }];
        let mut waiting = Waiting::<L, 1>::new(l);
        for (i, rows) in self.x.chunks(ROWS_PER_SUM * self.cols).enumerate() {
            if i > 0 {
                acc = [zero];
            }
            for row in rows.chunks_exact(self.cols) {
                acc[0] = l.add(acc[0], l.load_part(&row[from..from + n], zero));
            }
            waiting.add(l, acc);
        }
        if !self.x.is_empty() {
            acc = waiting.total(l);
        }
        l.store_part(&mut self.sums[at..], acc[0]);
    }
}

/// Adds `V` vectors of each row, from column `from` on.
#[inline(always)]
fn down<L: Lanes, const V: usize>(l: L, rows: &[f32], cols: usize, from: usize, acc: &mut [L::F; V]) {
    for row in rows.chunks_exact(cols) {
        let vectors = row[from..from + V * LANES].as_chunks::<LANES>().0;
        for v in 0..V {
            acc[v] = l.add(acc[v], l.load(&vectors[v]));
        }
    }
}

/// Sums of chunks that wait for one of as many: neighbours are added, then pairs, then fours.
struct Waiting<L: Lanes, const V: usize> {
    sums: [[L::F; V]; LEVELS + 2],
    depth: usize,
    chunks: usize,
}

impl<L: Lanes, const V: usize> Waiting<L, V> {
    #[inline(always)]
    fn new(l: L) -> Self {
        Waiting { sums: [[l.splat(0.0); V]; LEVELS + 2], depth: 0, chunks: 0 }
    }

    #[inline(always)]
    fn add(&mut self, l: L, acc: [L::F; V]) {
        self.sums[self.depth] = acc;
        self.depth += 1;
        let mut merges = (self.chunks % (1 << LEVELS)).trailing_ones().min(LEVELS as u32);
        self.chunks += 1;
        // The end of a tree that is not the first.
        if self.chunks > 1 << LEVELS && self.chunks.is_multiple_of(1 << LEVELS) {
            merges += 1;
        }
        while merges > 0 {
            self.merge(l);
            merges -= 1;
        }
    }

    /// Adds the last sum to the one before it.
    #[inline(always)]
    fn merge(&mut self, l: L) {
        self.depth -= 1;
        for v in 0..V {
            self.sums[self.depth - 1][v] = l.add(self.sums[self.depth - 1][v], self.sums[self.depth][v]);
        }
    }

    #[inline(always)]
    fn total(mut self, l: L) -> [L::F; V] {
        while self.depth > 1 {
            self.merge(l);
        }
        self.sums[0]
    }
}
