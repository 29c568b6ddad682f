//! The right operand in panels of one vector's width: for each step of k sixteen columns, side by side.

use super::Element;
use super::mat::Mat;
use crate::lanes::{Chunk, LANES, Lanes};

/// Where panels are packed to, one vector after the other.
pub(crate) trait Panel {
    /// Room for the next vector.
    fn next(&mut self) -> &mut Chunk;
}

impl<const N: usize> Panel for crate::lanes::Stack<N> {
    #[inline(always)]
    fn next(&mut self) -> &mut Chunk {
        self.push()
    }
}

/// Vectors that are there already, from the first on.
pub(crate) struct Fill<'a>(pub(crate) &'a mut [Chunk]);

impl Panel for Fill<'_> {
    #[inline(always)]
    fn next(&mut self) -> &mut Chunk {
        let (first, rest) = std::mem::take(&mut self.0).split_first_mut().expect("room for every vector");
        self.0 = rest;
        first
    }
}

/// Packs the panel of columns from `j0` on and rows from `p0`, `k` of them. Columns beyond the matrix are zero.
#[inline(always)]
pub(crate) fn pack<L: Lanes, T: Element>(
    l: L,
    b: Mat<'_, T>,
    (p0, k): (usize, usize),
    j0: usize,
    panel: &mut impl Panel,
) {
    let width = (b.cols() - j0).min(LANES);
    if !b.is_transposed() {
        // Rows of the matrix as it lies.
        for p in p0..p0 + k {
            let row = b.line(p, j0, width);
            l.store(panel.next(), T::load(l, row));
        }
        return;
    }
    // Each column of the matrix is a line that lies along k: sixteen steps at a time are turned.
    let mut p = p0;
    while p < p0 + k {
        let steps = (p0 + k - p).min(LANES);
        let mut v = [l.splat(0.0); LANES];
        for j in 0..width {
            v[j] = T::load(l, b.line(j0 + j, p, steps));
        }
        l.transpose(&mut v);
        for i in 0..steps {
            l.store(panel.next(), v[i]);
        }
        p += steps;
    }
}

/// Packs `M` rows of the left operand, from `i0` on, steps `p0` on: for each step of k the rows side by side. Returns `M`.
#[inline(always)]
pub(crate) fn pack_left<L: Lanes, T: Element, const M: usize>(
    l: L,
    a: Mat<'_, T>,
    i0: usize,
    (p0, k): (usize, usize),
    panel: &mut [f32],
) -> usize {
    let panel = &mut panel.as_chunks_mut::<M>().0[..k];
    let mut chunk = [0.0; LANES];
    if a.is_transposed() {
        for p in 0..k {
            l.store(&mut chunk, T::load(l, a.line(p0 + p, i0, M)));
            panel[p].copy_from_slice(&chunk[..M]);
        }
        return M;
    }
    let mut p = 0;
    while p < k {
        let steps = (k - p).min(LANES);
        let mut v = [l.splat(0.0); LANES];
        for r in 0..M {
            v[r] = T::load(l, a.line(i0 + r, p0 + p, steps));
        }
        l.transpose(&mut v);
        for s in 0..steps {
            l.store(&mut chunk, v[s]);
            panel[p + s].copy_from_slice(&chunk[..M]);
        }
        p += steps;
    }
    M
}
