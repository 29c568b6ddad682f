//! Operands in panels: for each step of k the columns of a tile's vector, or the rows of a tile, side by side.

use super::Element;
use super::kernel::{Range, tile_rows};
use super::mat::Mat;
use crate::lanes::{Chunk, LANES, Lanes, PanelStack, Source, Stack};

/// Rows that are asked for ahead of their packing: they lie apart, and the CPU does not foresee the next one.
const AHEAD: usize = 8;
/// Panels of a left operand that is a transpose that are packed together: of 32 rows where tiles are wide, two cache lines of
/// each step.
const SIDE_BY_SIDE: usize = 4;

/// Where panels of the right operand are packed to.
pub(crate) trait Panels {
    /// The next vector of panel `q`.
    fn push<L: Lanes>(&mut self, l: L, q: usize, vector: L::F);

    /// The first panels, so many of so many vectors each; returns how many it takes that way.
    fn fill<L: Lanes>(&mut self, l: L, size: (usize, usize), source: &impl Source) -> usize;
}

impl<const K: usize, const Q: usize> Panels for PanelStack<K, Q> {
    #[inline(always)]
    fn push<L: Lanes>(&mut self, l: L, q: usize, vector: L::F) {
        PanelStack::push(self, l, q, vector);
    }

    #[inline(always)]
    fn fill<L: Lanes>(&mut self, l: L, size: (usize, usize), source: &impl Source) -> usize {
        PanelStack::fill(self, l, size, source);
        size.0
    }
}

/// A panel that is kept, from its first vector on; the only one.
impl Panels for &mut [Chunk] {
    #[inline(always)]
    fn push<L: Lanes>(&mut self, l: L, _: usize, vector: L::F) {
        let (next, rest) = std::mem::take(self).split_first_mut().expect("room for every row");
        l.store(next, vector);
        *self = rest;
    }

    #[inline(always)]
    fn fill<L: Lanes>(&mut self, _: L, _: (usize, usize), _: &impl Source) -> usize {
        0
    }
}

/// Rows of a right operand, as it lies.
struct Rows<'a, T> {
    b: Mat<'a, T>,
    /// The first row, and how many.
    p0: usize,
    k: usize,
    /// The first column, and how many vectors.
    j0: usize,
    vectors: usize,
}

impl<'a, T: Element> Source for Rows<'a, T> {
    type Step = &'a [T];

    #[inline(always)]
    fn step<L: Lanes>(&self, l: L, p: usize) -> &'a [T] {
        let Rows { b, p0, k, j0, vectors } = *self;
        if T::IS_F32 && p + AHEAD < k {
            let ahead = T::as_f32(b.line(p0 + p + AHEAD, j0, vectors * LANES)).as_chunks::<LANES>().0;
            for q in 0..vectors {
                l.prefetch(ahead, q);
            }
        }
        b.line(p0 + p, j0, vectors * LANES)
    }

    #[inline(always)]
    fn vector<L: Lanes>(&self, l: L, row: &'a [T], q: usize) -> L::F {
        T::load(l, &row[q * LANES..][..LANES])
    }
}

/// Columns of a left operand that is a transpose, `M` of them to a vector.
struct Columns<'a, T, const M: usize> {
    a: Mat<'a, T>,
    /// The first line, and the first column.
    p0: usize,
    i0: usize,
    /// Values of a line that are packed.
    width: usize,
}

impl<'a, T: Element, const M: usize> Source for Columns<'a, T, M> {
    type Step = &'a [T];

    #[inline(always)]
    fn step<L: Lanes>(&self, _: L, p: usize) -> &'a [T] {
        self.a.line(self.p0 + p, self.i0, self.width)
    }

    #[inline(always)]
    fn vector<L: Lanes>(&self, l: L, line: &'a [T], q: usize) -> L::F {
        T::load(l, &line[q * M..][..M])
    }
}

/// Packs `count` panels of the columns from `j0` on, and of `k` rows from `p0` on. Columns beyond the matrix are zero.
#[inline(always)]
pub(crate) fn pack<L: Lanes, T: Element>(
    l: L,
    b: Mat<'_, T>,
    (p0, k): (usize, usize),
    (j0, count): (usize, usize),
    panels: &mut impl Panels,
) {
    if !b.is_transposed() {
        // Row by row, as the matrix lies: the CPU foresees one stream.
        let width = (b.cols() - j0).min(count * LANES);
        let whole = width / LANES;
        let done = panels.fill(l, (whole, k), &Rows { b, p0, k, j0, vectors: whole });
        if done < count {
            for p in 0..k {
                let row = b.line(p0 + p, j0, width);
                for q in done..count {
                    let values = &row[q * LANES..];
                    panels.push(l, q, T::load(l, &values[..values.len().min(LANES)]));
                }
            }
        }
        return;
    }
    // Each column of the matrix is a line that lies along k: sixteen steps at a time are turned.
    for q in 0..count {
        let j0 = j0 + q * LANES;
        let width = (b.cols() - j0).min(LANES);
        let mut p = 0;
        if width == LANES {
            // The same with all numbers known, so that nothing goes through memory.
            while p + LANES <= k {
                let (lines, stride) = b.lines_from(j0, p0 + p);
                let mut v = [l.splat(0.0); LANES];
                for j in 0..LANES {
                    v[j] = T::load(l, &lines[j * stride..][..LANES]);
                }
                l.transpose(&mut v);
                for i in 0..LANES {
                    panels.push(l, q, v[i]);
                }
                p += LANES;
            }
        }
        while p < k {
            let steps = (k - p).min(LANES);
            let mut v = [l.splat(0.0); LANES];
            for j in 0..width {
                v[j] = T::load(l, b.line(j0 + j, p0 + p, steps));
            }
            l.transpose(&mut v);
            for i in 0..steps {
                panels.push(l, q, v[i]);
            }
            p += steps;
        }
    }
}

/// Packs the left operand, a panel for each tile.
#[inline(always)]
pub(super) fn pack_panels<L: Lanes, T: Element, const LEFT: usize>(
    l: L,
    a: Mat<'_, T>,
    rows: Range,
    steps: Range,
    panels: &mut Stack<LEFT>,
) {
    panels.clear();
    let (mut i, at) = (rows.from, (steps.from, steps.len));
    while i < rows.from + rows.len {
        let left = rows.from + rows.len - i;
        i += match tile_rows::<L>(left) {
            8 if left >= SIDE_BY_SIDE * 8 && a.is_transposed() => {
                pack_side_by_side::<L, T, 8, SIDE_BY_SIDE, LEFT>(l, a, i, at, panels)
            }
            6 if left >= SIDE_BY_SIDE * 6 && a.is_transposed() => {
                pack_side_by_side::<L, T, 6, SIDE_BY_SIDE, LEFT>(l, a, i, at, panels)
            }
            8 => pack_left::<L, T, 8, LEFT>(l, a, i, at, panels),
            6 => pack_left::<L, T, 6, LEFT>(l, a, i, at, panels),
            4 => pack_left::<L, T, 4, LEFT>(l, a, i, at, panels),
            2 => pack_left::<L, T, 2, LEFT>(l, a, i, at, panels),
            _ => pack_left::<L, T, 1, LEFT>(l, a, i, at, panels),
        };
    }
}

/// Packs `M` rows of the left operand, from `i0` on, steps `p0` on: for each step of k the rows side by side. Returns `M`.
#[inline(always)]
fn pack_left<L: Lanes, T: Element, const M: usize, const N: usize>(
    l: L,
    a: Mat<'_, T>,
    i0: usize,
    (p0, k): (usize, usize),
    panel: &mut Stack<N>,
) -> usize {
    if a.is_transposed() {
        return pack_side_by_side::<L, T, M, 1, N>(l, a, i0, (p0, k), panel);
    }
    let panel = panel.grow(k * M);
    let mut p = 0;
    while p + LANES <= k {
        let (lines, stride) = a.lines_from(i0, p0 + p);
        let mut v = [l.splat(0.0); LANES];
        for r in 0..M {
            v[r] = T::load(l, &lines[r * stride..][..LANES]);
        }
        l.transpose(&mut v);
        for s in 0..LANES {
            put::<L, M>(l, panel, p + s, v[s]);
        }
        p += LANES;
    }
    while p < k {
        let steps = (k - p).min(LANES);
        let mut v = [l.splat(0.0); LANES];
        for r in 0..M {
            v[r] = T::load(l, a.line(i0 + r, p0 + p, steps));
        }
        l.transpose(&mut v);
        for s in 0..steps {
            put::<L, M>(l, panel, p + s, v[s]);
        }
        p += steps;
    }
    M
}

/// Packs `Q` panels of `M` rows of a left operand that is a transpose, from row `i0` on, steps `p0` on: of each line that it has,
/// which may be a page from the next, what all of them need. Returns their rows.
#[inline(always)]
fn pack_side_by_side<L: Lanes, T: Element, const M: usize, const Q: usize, const N: usize>(
    l: L,
    a: Mat<'_, T>,
    i0: usize,
    (p0, k): (usize, usize),
    panels: &mut Stack<N>,
) -> usize {
    panels.fill::<L, M>(l, (Q, k), &Columns::<T, M> { a, p0, i0, width: Q * M });
    Q * M
}

/// Stores the rows of step `p`: a whole vector where there is room, whose other lanes the next steps overwrite.
#[inline(always)]
fn put<L: Lanes, const M: usize>(l: L, panel: &mut [f32], p: usize, rows: L::F) {
    let to = &mut panel[p * M..];
    match to.first_chunk_mut() {
        Some(whole) => l.store(whole, rows),
        None => l.store_part(&mut to[..M], rows),
    }
}
