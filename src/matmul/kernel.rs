//! The loops over a product: blocks of k, groups of columns whose panels stay in the L1 cache, rows.

use super::mat::Mat;
use super::pack::{pack, pack_left};
use super::tile::{self, Panels, Start};
use super::{Activation, Element, Packed};
use crate::lanes::{Block, Chunk, Kernel, LANES, Lanes, Stack, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Steps of k that a panel has: a group of them takes 32 KiB of the L1 cache.
const K_BLOCK: usize = 256;
/// Rows of the left operand that are gone through before the next block of k: with it 512 KiB, for the L2 cache.
const ROW_BLOCK: usize = 512;
const PACK_COLS: usize = 129;
/// Rows whose results are still in the L1 cache when the activation is applied to them.
const EPILOGUE_ROWS: usize = 48;
/// Panels that a group has at most.
const GROUP: usize = 2;

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum RightOperand<'a, T> {
    /// As it is, to be packed on the way.
    Mat(Mat<'a, T>),
    /// Packed before; from this panel on.
    Packed(&'a Packed, usize),
}

/// A product, or a block of one.
pub(super) struct Product<'a, T> {
    pub(super) active: Active,
    pub(super) a: Mat<'a, T>,
    pub(super) b: RightOperand<'a, T>,
    /// What the chains start from and end in.
    pub(super) c: Block<'a>,
    /// Where the activated results go, if not to `c`.
    pub(super) activated: Option<Block<'a>>,
    pub(super) accumulate: bool,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl<T: Element> Work for Product<'_, T> {
    fn size(&self) -> usize {
        // At least the results themselves, when k is zero.
        self.c.rows().saturating_mul(self.c.cols()).saturating_mul(self.a.cols().max(1))
    }

    /// Rows, which share the panels' packing among many, as long as there are more than a block of them or more than
    /// columns; then columns.
    fn split(self) -> Result<(Self, Self), Self> {
        let (rows, cols) = (self.c.rows(), self.c.cols());
        // Whole tiles of 6 and 12 rows, whole groups of panels.
        let (row_unit, col_unit) = (24, GROUP * LANES);
        if rows >= 2 * row_unit && (rows >= ROW_BLOCK || rows >= cols || cols < 2 * col_unit) {
            let at = (rows / 2).next_multiple_of(row_unit);
            let (c0, c1) = self.c.split_rows(at);
            let (o0, o1) = match self.activated.map(|o| o.split_rows(at)) {
                Some((o0, o1)) => (Some(o0), Some(o1)),
                None => (None, None),
            };
            let (a0, a1) = (self.a.rows_range(0, at), self.a.rows_range(at, rows - at));
            return Ok((
                Product { a: a0, c: c0, activated: o0, ..self },
                Product { a: a1, c: c1, activated: o1, ..self },
            ));
        }
        if cols < 2 * col_unit {
            return Err(self);
        }
        let at = (cols / 2).next_multiple_of(col_unit);
        let (c0, c1) = self.c.split_cols(at);
        let (o0, o1) = match self.activated.map(|o| o.split_cols(at)) {
            Some((o0, o1)) => (Some(o0), Some(o1)),
            None => (None, None),
        };
        let (b0, b1) = match self.b {
            RightOperand::Mat(b) => {
                (RightOperand::Mat(b.cols_range(0, at)), RightOperand::Mat(b.cols_range(at, cols - at)))
            }
            RightOperand::Packed(b, first) => {
                (RightOperand::Packed(b, first), RightOperand::Packed(b, first + at / LANES))
            }
        };
        let (bias0, bias1) = match self.bias {
            Some(bias) => (Some(&bias[..at]), Some(&bias[at..])),
            None => (None, None),
        };
        Ok((
            Product { b: b0, c: c0, activated: o0, bias: bias0, ..self },
            Product { b: b1, c: c1, activated: o1, bias: bias1, ..self },
        ))
    }

    fn run(self) {
        const SMALL: usize = 36 * K_BLOCK / LANES;
        const LARGE: usize = 264 * K_BLOCK / LANES;
        let (rows, cols, k) = (self.c.rows(), self.c.cols(), self.a.cols());
        if rows > 36 && cols >= PACK_COLS && k >= 64 {
            dispatch(self.active, LeftPacked::<T, LARGE>(self));
        } else if self.a.is_transposed() || !T::IS_F32 {
            dispatch(self.active, LeftPacked::<T, SMALL>(self));
        } else {
            dispatch(self.active, self);
        }
    }
}

/// What the tiles of a group of columns have in common.
#[derive(Clone, Copy)]
struct Tiles<'a> {
    /// The first row of the block of rows.
    first: usize,
    steps: Range,
    j: usize,
    width: usize,
    start: Start<'a>,
}

/// A range of rows and of steps of k.
#[derive(Clone, Copy)]
struct Range {
    from: usize,
    len: usize,
}

impl<T: Element> Kernel for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.blocks::<L, 0>(l);
    }
}

/// A product that packs its left operand too, as many rows as `ROOM` vectors have room for.
struct LeftPacked<'a, T, const ROOM: usize>(Product<'a, T>);

impl<T: Element, const ROOM: usize> Kernel for LeftPacked<'_, T, ROOM> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.0.blocks::<L, ROOM>(l);
    }
}

/// What the tiles of a group of columns have in common.
#[derive(Clone, Copy)]
struct Group<'a> {
    rows: Range,
    steps: Range,
    j: usize,
    width: usize,
    start: Start<'a>,
    /// The packed left operand: panel after panel, each of the rows of its tile.
    left: &'a [f32],
}

impl<T: Element> Product<'_, T> {
    /// All of it; the left operand is packed where there is `ROOM`.
    #[inline(always)]
    fn blocks<L: Lanes, const ROOM: usize>(&mut self, l: L) {
        let (rows, cols, k) = (self.c.rows(), self.c.cols(), self.a.cols());
        let mut panels = Stack::new();
        let mut left = Stack::<ROOM>::new();
        let row_block_packed = ROOM * LANES / K_BLOCK;
        let row_block = if ROOM > 0 { row_block_packed } else { ROW_BLOCK };
        let mut i = 0;
        while i < rows {
            let row_range = Range { from: i, len: (rows - i).min(row_block) };
            let mut p = 0;
            loop {
                let steps = Range { from: p, len: (k - p).min(K_BLOCK) };
                let left = left.first_mut(row_range.len.min(row_block_packed) * steps.len.div_ceil(LANES));
                let left = left.as_flattened_mut();
                if ROOM > 0 {
                    pack_panels(l, self.a, row_range, steps, left);
                }
                let mut j = 0;
                while j < cols {
                    let at = Group { rows: row_range, steps, j, width: 0, start: Start::Zero, left };
                    let vectors = (cols - j).div_ceil(LANES);
                    // On the narrow tiers a tile is one vector wide.
                    let n = if !L::WIDE || vectors == 1 {
                        self.columns::<L, 1, ROOM>(l, at, &mut panels)
                    } else {
                        self.columns::<L, 2, ROOM>(l, at, &mut panels)
                    };
                    j += n * LANES;
                }
                p += steps.len;
                if p == k {
                    break;
                }
            }
            i += row_range.len;
        }
    }

    /// All rows of the range times `N` panels, from column `j` on. Returns `N`.
    #[inline(always)]
    fn columns<L: Lanes, const N: usize, const ROOM: usize>(
        &mut self,
        l: L,
        at: Group<'_>,
        stack: &mut Stack<{ GROUP * K_BLOCK }>,
    ) -> usize {
        let Group { rows, steps, j, .. } = at;
        let k = self.a.cols();
        let width = (self.c.cols() - j).min(N * LANES);
        let mut panels: [&[Chunk]; N] = [&[]; N];
        match self.b {
            RightOperand::Packed(packed, first) => {
                for (q, panel) in panels.iter_mut().enumerate() {
                    *panel = &packed.panel(first + j / LANES + q)[steps.from..][..steps.len];
                }
            }
            RightOperand::Mat(b) => {
                stack.clear();
                for q in 0..N {
                    pack(l, b, (steps.from, steps.len), j + q * LANES, stack);
                }
                let vectors = stack.vectors();
                for (q, panel) in panels.iter_mut().enumerate() {
                    *panel = &vectors[q * steps.len..][..steps.len];
                }
            }
        }
        let panels = Panels(panels);
        let mut bias = [[0.0; LANES]; N];
        let start = if steps.from > 0 {
            Start::Block
        } else if let Some(b) = self.bias {
            bias.as_flattened_mut()[..width].copy_from_slice(&b[j..j + width]);
            if self.accumulate { Start::BlockAndBias(&bias) } else { Start::Bias(&bias) }
        } else if self.accumulate {
            Start::Block
        } else {
            Start::Zero
        };
        let at = Group { width, start, ..at };
        let last = steps.from + steps.len == k;
        let (mut i, end) = (rows.from, rows.from + rows.len);
        while i < end {
            let epilogue = Range { from: i, len: (end - i).min(EPILOGUE_ROWS) };
            let end = i + epilogue.len;
            while i < end {
                let tile = Range { from: i - rows.from, len: tile_rows::<L>(end - i) };
                self.prefetch_right(l, at, N, tile);
                i += match tile_rows::<L>(end - i) {
                    12 => self.tile::<L, 12, N, ROOM>(l, i, at, panels),
                    8 => self.tile::<L, 8, N, ROOM>(l, i, at, panels),
                    6 => self.tile::<L, 6, N, ROOM>(l, i, at, panels),
                    4 => self.tile::<L, 4, N, ROOM>(l, i, at, panels),
                    2 => self.tile::<L, 2, N, ROOM>(l, i, at, panels),
                    _ => self.tile::<L, 1, N, ROOM>(l, i, at, panels),
                };
            }
            if last {
                self.epilogue(l, epilogue, (j, width));
            }
        }
        N
    }

    /// Asks for the tile's share of the next group's columns: they lie in short pieces far apart, which the CPU does not
    /// foresee.
    #[inline(always)]
    fn prefetch_right<L: Lanes>(&self, l: L, at: Group<'_>, panels: usize, tile: Range) {
        let (j, steps) = (at.j + panels * LANES, at.steps);
        if let RightOperand::Mat(b) = self.b
            && T::IS_F32
            && !b.is_transposed()
            && j < b.cols()
        {
            let width = (b.cols() - j).min(GROUP * LANES);
            let (first, last) =
                (tile.from * steps.len / at.rows.len, (tile.from + tile.len) * steps.len / at.rows.len);
            for p in first..last {
                let line = T::as_f32(b.line(steps.from + p, j, width)).as_chunks::<LANES>().0;
                // One more than there are whole vectors: the line may not start where a cache line does.
                for q in 0..=GROUP {
                    l.prefetch(line, q);
                }
            }
        }
    }

    /// One tile. Returns its rows.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize, const ROOM: usize>(
        &mut self,
        l: L,
        i: usize,
        at: Group<'_>,
        panels: Panels<'_, N>,
    ) -> usize {
        let Group { rows, steps, j, width, start, left } = at;
        let at = (i, j, width);
        // What is loaded has nothing to hide behind, so that is the next tile's; a store waits for its line as well.
        let ahead = if matches!(start, Start::Block | Start::BlockAndBias(_)) { M } else { 0 };
        tile::prefetch::<L, M, N>(l, &mut self.c, (i + ahead, j, width));
        let c = tile::load::<L, M, N>(l, &mut self.c, at, start);
        let c = if ROOM > 0 {
            let panel = &left[(i - rows.from) * steps.len..][..M * steps.len];
            tile::chains(l, steps.len, tile::Packed(&panel.as_chunks::<M>().0[..steps.len]), panels, c)
        } else {
            let mut lines: [&[f32]; M] = [&[]; M];
            for (r, line) in lines.iter_mut().enumerate() {
                *line = T::as_f32(self.a.line(i + r, steps.from, steps.len));
            }
            tile::chains(l, steps.len, tile::Across(lines), panels, c)
        };
        tile::store::<L, M, N>(l, &mut self.c, at, c);
        M
    }

    /// Applies the activation to rows that are done.
    #[inline(always)]
    fn epilogue<L: Lanes>(&mut self, l: L, rows: Range, (j, width): (usize, usize)) {
        let _ = (l, rows, j, width);
    }
}

/// How many rows the next tile has, if so many are left: 24 vectors of results on AVX-512, 12 pairs of registers on AVX2
/// and fours on NEON leave room for the operands.
#[inline(always)]
fn tile_rows<L: Lanes>(left: usize) -> usize {
    match left {
        12.. if L::WIDE => 12,
        8.. if L::WIDE => 8,
        6.. if !L::WIDE => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Packs the left operand, a panel for each tile.
#[inline(always)]
fn pack_panels<L: Lanes, T: Element>(l: L, a: Mat<'_, T>, rows: Range, steps: Range, panels: &mut [f32]) {
    let (mut i, at) = (0, (steps.from, steps.len));
    while i < rows.len {
        let panels = &mut panels[i * steps.len..];
        let from = rows.from + i;
        i += match tile_rows::<L>(rows.len - i) {
            12 => pack_left::<L, T, 12>(l, a, from, at, panels),
            8 => pack_left::<L, T, 8>(l, a, from, at, panels),
            6 => pack_left::<L, T, 6>(l, a, from, at, panels),
            4 => pack_left::<L, T, 4>(l, a, from, at, panels),
            2 => pack_left::<L, T, 2>(l, a, from, at, panels),
            _ => pack_left::<L, T, 1>(l, a, from, at, panels),
        };
    }
}
