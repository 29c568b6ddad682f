//! Sums over a row: the order of their additions is fixed here, for all tiers and row lengths.

use std::ops::Range;

use crate::lanes::{Chunk, LANES, Lanes};

/// Vectors of a row that are summed before the accumulators are: 4096 features.
const BLOCK: usize = 256;

/// A row as whole vectors and the rest.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) whole: &'a [Chunk],
    pub(super) rest: &'a [f32],
}

impl<'a> Row<'a> {
    #[inline(always)]
    pub(super) fn of(matrix: &'a [f32], row: usize, features: usize) -> Self {
        let (whole, rest) = matrix[row * features..][..features].as_chunks();
        Row { whole, rest }
    }

    /// Some of the whole vectors.
    #[inline(always)]
    pub(super) fn group(self, vectors: Range<usize>) -> Self {
        Row { whole: &self.whole[vectors], rest: &[] }
    }

    /// What stands for a row that there is none of.
    #[inline(always)]
    pub(super) fn none() -> Self {
        Row { whole: &[], rest: &[] }
    }
}

/// A row that is written.
pub(super) struct RowMut<'a> {
    pub(super) whole: &'a mut [Chunk],
    pub(super) rest: &'a mut [f32],
}

impl<'a> RowMut<'a> {
    #[inline(always)]
    pub(super) fn of(matrix: &'a mut [f32], row: usize, features: usize) -> Self {
        let (whole, rest) = matrix[row * features..][..features].as_chunks_mut();
        RowMut { whole, rest }
    }

    /// Some of the whole vectors.
    #[inline(always)]
    pub(super) fn group(&mut self, vectors: Range<usize>) -> RowMut<'_> {
        RowMut { whole: &mut self.whole[vectors], rest: &mut [] }
    }

    /// What stands for a row that there is none of.
    #[inline(always)]
    pub(super) fn none() -> Self {
        RowMut { whole: &mut [], rest: &mut [] }
    }
}

/// `S` sums over a row that are taken in one pass, which may write what it sums.
pub(super) trait Fold<L: Lanes, const S: usize> {
    /// The same sums over a part of the row.
    type Group<'g>: Fold<L, S>
    where
        Self: 'g;

    /// Whole vectors in the row.
    fn vectors(&self) -> usize;
    /// Whether features are left beyond the whole vectors.
    fn has_rest(&self) -> bool;
    /// The same sums over some of the whole vectors, so that their bounds are checked once.
    fn group(&mut self, vectors: Range<usize>) -> Self::Group<'_>;
    /// Adds whole vector `i`.
    fn whole(&mut self, l: L, i: usize, sums: &mut [L::F; S]);
    /// Adds the rest, its unused lanes neutral.
    fn rest(&mut self, l: L, sums: &mut [L::F; S]);
}

/// The pass: vector `i` of a block of 4096 features goes to accumulator `i % A`, the rest to the next one. `A` of them
/// hide the latency of an addition.
#[inline(always)]
pub(super) fn fold<L: Lanes, const S: usize, const A: usize, F: Fold<L, S>>(l: L, f: &mut F) -> [L::F; S] {
    let mut total = fold_block::<L, S, A, F>(l, f, 0);
    let mut from = BLOCK;
    // A row of exactly some blocks has no features in a further one.
    while from < f.vectors() || (from == f.vectors() && f.has_rest()) {
        let block = fold_block::<L, S, A, F>(l, f, from);
        for s in 0..S {
            total[s] = l.add(total[s], block[s]);
        }
        from += BLOCK;
    }
    total
}

#[inline(always)]
fn fold_block<L: Lanes, const S: usize, const A: usize, F: Fold<L, S>>(
    l: L,
    f: &mut F,
    from: usize,
) -> [L::F; S] {
    // Zeros to start from, so that an accumulator that gets nothing adds nothing, not even a sign to a zero.
    let mut acc = [[l.splat(0.0); S]; A];
    let end = f.vectors().min(from + BLOCK);
    let mut i = from;
    while i + A <= end {
        let mut group = f.group(i..i + A);
        for k in 0..A {
            group.whole(l, k, &mut acc[k]);
        }
        i += A;
    }
    // By name: an index that is only known at run time would put the accumulators into memory.
    let left = end - i;
    for k in 0..A {
        if k < left {
            f.whole(l, i + k, &mut acc[k]);
        }
        if k == left && end < from + BLOCK && f.has_rest() {
            f.rest(l, &mut acc[k]);
        }
    }
    let mut step = A / 2;
    while step > 0 {
        for k in 0..step {
            for s in 0..S {
                acc[k][s] = l.add(acc[k][s], acc[k + step][s]);
            }
        }
        step /= 2;
    }
    acc[0]
}

/// The horizontal sum of each vector; sixteen by one transposition. The bits are the same.
#[inline(always)]
pub(super) fn sums<L: Lanes, const R: usize>(l: L, v: &[L::F; R]) -> [f32; R] {
    let mut out = [0.0; R];
    if let (Ok(v), Ok(out)) = (<&[L::F; LANES]>::try_from(&v[..]), <&mut Chunk>::try_from(&mut out[..])) {
        l.store(out, l.sum16(v));
    } else {
        for r in 0..R {
            out[r] = l.sum(v[r]);
        }
    }
    out
}
