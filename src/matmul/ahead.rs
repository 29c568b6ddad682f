//! Prefetching the part of the right operand that comes next, while the part before it is multiplied.

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
    /// The part to prefetch while `group` is multiplied. A packed operand: the next group. A transpose that is packed on
    /// the way: the group's share of the next set of panels. After the block's last columns: its first ones, for the next
    /// steps. Prefetching made operands that are not transposed slower, and so did columns that meet in the same cache
    /// sets.
    #[inline(always)]
    pub(super) fn ahead(&self, group: Range, set: Range, cols: Range, steps: Range) -> Ahead<'a> {
        let k = self.a.cols();
        if k.saturating_mul(self.c.cols()) < FAR {
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

    /// Cut into so many shares.
    #[inline(always)]
    pub(super) fn shares(self, count: usize) -> Shares<'a> {
        Shares { ahead: self, line: 0, vector: 0, share: (self.lines * self.vectors).div_ceil(count.max(1)) }
    }
}

/// The part that has yet to be prefetched.
pub(super) struct Shares<'a> {
    ahead: Ahead<'a>,
    line: usize,
    vector: usize,
    share: usize,
}

impl Shares<'_> {
    /// Prefetches the next share.
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
