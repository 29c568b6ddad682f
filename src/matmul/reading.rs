//! Products of a few rows with what was packed before: they take as long as it takes to read it, each panel from its start to
//! its end, some side by side.

use super::Packed;
use super::finish::Part;
use super::kernel::{Product, Range};
use super::mat::Mat;
use super::packed::Vectors;
use super::tile::{self, Across, Halves, Panels, Right};
use crate::lanes::{Block, Chunk, Half, Kernel, LANES, Lanes, Stack};

/// Rows up to which this is the way: one tile, so that nothing is read twice.
pub(super) const FEW: usize = 4;
/// Vectors of the largest tile.
const TILE: usize = 16;

/// A product of `a`, of few rows that lie along k, with panels from `first` on.
pub(super) struct Reading<'a> {
    pub(super) a: Mat<'a>,
    pub(super) b: &'a Packed,
    pub(super) first: usize,
    pub(super) product: Product<'a>,
}

impl Kernel for Reading<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let k = self.a.cols();
        match self.b.vectors() {
            Vectors::F32(vectors) => self.all(l, PanelsOf { vectors: &vectors[self.first * k..], k }),
            Vectors::Bf16(vectors) => self.all(l, PanelsOf { vectors: &vectors[self.first * k..], k }),
        }
    }
}

/// Panels of either kind.
#[derive(Clone, Copy)]
struct PanelsOf<'a, V> {
    vectors: &'a [V],
    k: usize,
}

/// Some panels side by side.
trait SideBySide: Copy {
    /// `N` panels from `q` on, all of which exist.
    fn some<const N: usize>(self, q: usize) -> impl Right<N>;
}

impl<'a, V> PanelsOf<'a, V> {
    #[inline(always)]
    fn slices<const N: usize>(self, q: usize) -> [&'a [V]; N] {
        let PanelsOf { vectors, k } = self;
        let mut panels: [&[V]; N] = [&[]; N];
        for i in 0..N {
            panels[i] = &vectors[(q + i) * k..][..k];
        }
        panels
    }
}

impl SideBySide for PanelsOf<'_, Chunk> {
    #[inline(always)]
    fn some<const N: usize>(self, q: usize) -> impl Right<N> {
        Panels(self.slices(q))
    }
}

impl SideBySide for PanelsOf<'_, Half> {
    #[inline(always)]
    fn some<const N: usize>(self, q: usize) -> impl Right<N> {
        Halves(self.slices(q))
    }
}

impl Reading<'_> {
    #[inline(always)]
    fn all<L: Lanes>(&mut self, l: L, panels: impl SideBySide) {
        // As many chains as hide the latency of a multiply-add, and the registers have room for.
        match self.product.c.rows() {
            1 if L::WIDE => self.rows::<L, 1, 8>(l, panels),
            1 => self.rows::<L, 1, 4>(l, panels),
            2 if L::WIDE => self.rows::<L, 2, 8>(l, panels),
            2 => self.rows::<L, 2, 2>(l, panels),
            3 if L::WIDE => self.rows::<L, 3, 4>(l, panels),
            3 => self.rows::<L, 3, 1>(l, panels),
            4 if L::WIDE => self.rows::<L, 4, 4>(l, panels),
            4 => self.rows::<L, 4, 1>(l, panels),
            rows => unreachable!("{rows} rows are not few"),
        }
    }

    #[inline(always)]
    fn rows<L: Lanes, const M: usize, const N: usize>(&mut self, l: L, panels: impl SideBySide) {
        let cols = self.product.c.cols();
        let mut j = 0;
        while j < cols {
            let width = (cols - j).min(N * LANES);
            let panel = j / LANES;
            // The last ones alone where fewer than a tile's are left.
            j += match width.div_ceil(LANES) {
                n if n == N => self.tile::<L, M, N>(l, j, width, panels.some(panel)),
                4.. if N > 4 => self.tile::<L, M, 4>(l, j, width.min(4 * LANES), panels.some(panel)),
                2.. if N > 2 => self.tile::<L, M, 2>(l, j, width.min(2 * LANES), panels.some(panel)),
                _ => self.tile::<L, M, 1>(l, j, width.min(LANES), panels.some(panel)),
            };
        }
    }

    /// All rows of some columns from `j` on. Returns how many columns.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize>(
        &mut self,
        l: L,
        j: usize,
        width: usize,
        right: impl Right<N>,
    ) -> usize {
        let k = self.a.cols();
        let mut lines: [&[f32]; M] = [&[]; M];
        for (r, line) in lines.iter_mut().enumerate() {
            *line = self.a.line(r, 0, k);
        }
        let mut bias = [[0.0; LANES]; N];
        let start = self.product.start(j, width, &mut bias);
        let c = tile::load::<L, M, N>(l, &mut self.product.c, (0, j, width), start);
        let c = tile::chains(l, k, Across(lines), right, c);
        if !self.product.finishes() {
            tile::store::<L, M, N>(l, &mut self.product.c, (0, j, width), c);
            return width;
        }
        let mut waiting = Stack::<TILE>::new();
        let vectors = width.div_ceil(LANES);
        let room = waiting.first_mut(TILE);
        let mut block = Block::new(room.as_flattened_mut(), M, vectors * LANES, vectors * LANES);
        tile::store::<L, M, N>(l, &mut block, (0, 0, vectors * LANES), c);
        let part =
            Part { rows: Range { from: 0, len: M }, cols: Range { from: j, len: width }, turned: false };
        self.product.finish(room, part);
        width
    }
}
