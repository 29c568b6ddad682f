//! What a product needs next of its right operand: asked for while it multiplies, since it may lie in no cache.

use super::kernel::{FAR, MANY, Product, Range, RightOperand};
use super::mat::Operand;
use super::packed::Vectors;
use crate::lanes::{LANES, Lanes};
use crate::tuning::MATMUL_PACK_STRIDE as MEETS;

/// Lines, `stride` values apart, of so many vectors each, which lie a number of vectors `apart`.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    data: &'a [f32],
    stride: usize,
    lines: usize,
    vectors: usize,
    apart: usize,
}

impl<'a> Product<'a> {
    /// What is needed next if a group of columns is multiplied now: of panels that were packed before, the next group; of a
    /// transpose that is packed on the way, as much of the next set of panels as the group is of its `set`; at the end of the
    /// block's columns, that of the next steps. Rows that are packed on the way gain nothing by it, nor do columns that
    /// would meet in the same sets of the cache.
    #[inline(always)]
    pub(super) fn ahead(&self, group: Range, set: Range, cols: Range, steps: Range) -> Ahead<'a> {
        let k = self.a.cols();
        if k * self.c.cols() < FAR {
            return Ahead::NONE;
        }
        let after = |range: Range, most: usize| {
            let (mut at, mut next, end) = (range.from + range.len, steps, cols.from + cols.len);
            if at == end {
                at = cols.from;
                next.from += steps.len;
                next.len = next.len.min(k - next.from);
            }
            (Range { from: at, len: most.min(end - at) }, next)
        };
        match self.b {
            RightOperand::Packed(b, first) => {
                let (group, steps) = after(group, group.len);
                let (from, count) = (first + group.from / LANES, group.len.div_ceil(LANES));
                let Vectors::F32(vectors) = b.vectors() else { return Ahead::NONE };
                let data = vectors[from * b.rows() + steps.from..].as_flattened();
                Ahead { data, stride: LANES, lines: steps.len, vectors: count, apart: b.rows() }
            }
            RightOperand::Mat(Operand::F32(b)) if b.is_transposed() && !b.stride().is_multiple_of(MEETS) => {
                let (next, steps) = after(set, MANY * LANES);
                let part = |cols: usize| next.len * cols / set.len;
                let from = part(group.from - set.from);
                let lines = part(group.from + group.len - set.from) - from;
                let (data, stride) = b.lines_from(next.from + from, steps.from);
                Ahead { data, stride, lines, vectors: steps.len.div_ceil(LANES), apart: 1 }
            }
            RightOperand::Mat(_) => Ahead::NONE,
        }
    }
}

impl<'a> Ahead<'a> {
    /// Nothing.
    const NONE: Self = Ahead { data: &[], stride: 0, lines: 0, vectors: 0, apart: 1 };

    /// To be asked for in so many shares.
    #[inline(always)]
    pub(super) fn shares(self, count: usize) -> Shares<'a> {
        Shares { ahead: self, line: 0, vector: 0, share: (self.lines * self.vectors).div_ceil(count.max(1)) }
    }
}

/// What is left to be asked for.
pub(super) struct Shares<'a> {
    ahead: Ahead<'a>,
    line: usize,
    vector: usize,
    share: usize,
}

impl Shares<'_> {
    /// Asks for the next share.
    #[inline(always)]
    pub(super) fn ask<L: Lanes>(&mut self, l: L) {
        let Ahead { data, stride, lines, vectors, apart } = self.ahead;
        let mut left = self.share;
        while left > 0 && self.line < lines {
            // The last lines may end beyond the data, of which only addresses are made.
            let line = data[(self.line * stride).min(data.len())..].as_chunks::<LANES>().0;
            let some = left.min(vectors - self.vector);
            for q in self.vector..self.vector + some {
                l.prefetch_far(line, q * apart);
            }
            left -= some;
            self.vector += some;
            if self.vector == vectors {
                (self.line, self.vector) = (self.line + 1, 0);
            }
        }
    }
}
