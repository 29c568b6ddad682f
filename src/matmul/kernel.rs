//! The loops over a product: blocks of k, groups of columns whose panels stay in the L1 cache, rows.

use super::mat::Mat;
use super::pack::{pack, pack_left};
use super::tile::{self, Panels, Start};
use super::{Element, Packed};
use crate::activation::Activation;
use crate::activation::functions::{self, Function};
use crate::lanes::{Block, Chunk, Kernel, LANES, Lanes, PanelStack, Stack, dispatch};
use crate::parallel::Work;
use crate::tier::Active;
use crate::tuning::{self, ProductPath};

/// Steps of k that a panel has: a group of them takes 32 KiB of the L1 cache.
const K_BLOCK: usize = 256;
/// Rows of the left operand that are gone through before the next block of k: with it 512 KiB, for the L2 cache.
const ROW_BLOCK: usize = 512;
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

impl<T: Element> Product<'_, T> {
    /// The first `at` columns, a whole number of vectors, and the others.
    fn split_cols(self, at: usize) -> (Self, Self) {
        let cols = self.c.cols();
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
        let (bias0, bias1) = self.bias.map(|bias| bias.split_at(at)).unzip();
        (
            Product { b: b0, c: c0, activated: o0, bias: bias0, ..self },
            Product { b: b1, c: c1, activated: o1, bias: bias1, ..self },
        )
    }
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
            Err(self)
        } else {
            Ok(self.split_cols((cols / 2).next_multiple_of(col_unit)))
        }
    }

    fn run(self) {
        T::run(self);
    }
}

/// Vectors of room for the packed left operand: 36 rows, and 264.
const SMALL: usize = 36 * K_BLOCK / LANES;
const LARGE: usize = 264 * K_BLOCK / LANES;

/// The product by the way that suits its shape, or by the one that is asked for where it can.
pub(super) fn run_f32(product: Product<'_, f32>) {
    let (rows, cols, k) = (product.c.rows(), product.c.cols(), product.a.cols());
    let thin = cols.is_multiple_of(LANES)
        && !product.a.is_transposed()
        && matches!(product.b, RightOperand::Mat(b) if !b.is_transposed());
    let path = tuning::product_path().unwrap_or({
        if rows > 36 && cols >= tuning::MATMUL_PACK_COLS && k >= tuning::MATMUL_PACK_STEPS {
            ProductPath::BothPacked
        } else if rows <= tuning::MATMUL_THIN_ROWS {
            ProductPath::Thin
        } else {
            ProductPath::Plain
        }
    });
    match path {
        ProductPath::BothPacked => dispatch(product.active, LeftPacked::<f32, LARGE, 8>(product)),
        ProductPath::LeftPacked => dispatch(product.active, LeftPacked::<f32, SMALL, GROUP>(product)),
        _ if product.a.is_transposed() => {
            dispatch(product.active, LeftPacked::<f32, SMALL, GROUP>(product));
        }
        ProductPath::Thin if thin => dispatch(product.active, Thin(product)),
        ProductPath::Thin | ProductPath::Plain => dispatch(product.active, product),
    }
}

/// bf16 is widened as it is packed.
pub(super) fn run_bf16(product: Product<'_, u16>) {
    let large = product.c.rows() > 36;
    match tuning::product_path() {
        Some(ProductPath::BothPacked) => dispatch(product.active, LeftPacked::<u16, LARGE, 8>(product)),
        None if large => dispatch(product.active, LeftPacked::<u16, LARGE, 8>(product)),
        _ => dispatch(product.active, LeftPacked::<u16, SMALL, GROUP>(product)),
    }
}

/// A range of rows and of steps of k.
#[derive(Clone, Copy)]
struct Range {
    from: usize,
    len: usize,
}

impl Kernel for Product<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.blocks::<L, 0, GROUP>(l);
    }
}

/// A product that packs its left operand too, as many rows as `LEFT` vectors have room for, and more of the right one.
struct LeftPacked<'a, T, const LEFT: usize, const RIGHT: usize>(Product<'a, T>);

impl<T: Element, const LEFT: usize, const RIGHT: usize> Kernel for LeftPacked<'_, T, LEFT, RIGHT> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.0.blocks::<L, LEFT, RIGHT>(l);
    }
}

/// A product of so few rows that packing the right operand would cost more than it saves: whole vectors of columns of it
/// are read where they lie, over all of k.
struct Thin<'a>(Product<'a, f32>);

impl Kernel for Thin<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, cols) = (self.0.c.rows(), self.0.c.cols());
        let mut j = 0;
        // The fewer rows, the more vectors it takes to keep the multipliers busy.
        while j < cols {
            let left = (cols - j) / LANES;
            j += LANES
                * match rows {
                    1 if left >= 4 => self.columns::<L, 4>(l, j),
                    1 | 2 if left >= 2 => self.columns::<L, 2>(l, j),
                    _ if L::WIDE && left >= 2 => self.columns::<L, 2>(l, j),
                    _ => self.columns::<L, 1>(l, j),
                };
        }
        self.0.epilogue(l, Range { from: 0, len: rows }, (0, cols));
    }
}

impl Thin<'_> {
    /// All rows times `N` vectors of columns. Returns `N`.
    #[inline(always)]
    fn columns<L: Lanes, const N: usize>(&mut self, l: L, j: usize) -> usize {
        let (mut i, rows) = (0, self.0.c.rows());
        while i < rows {
            i += match tile_rows::<L>(rows - i) {
                12 => self.tile::<L, 12, N>(l, i, j),
                8 => self.tile::<L, 8, N>(l, i, j),
                6 => self.tile::<L, 6, N>(l, i, j),
                4 => self.tile::<L, 4, N>(l, i, j),
                2 => self.tile::<L, 2, N>(l, i, j),
                _ => self.tile::<L, 1, N>(l, i, j),
            };
        }
        N
    }

    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize>(&mut self, l: L, i: usize, j: usize) -> usize {
        let (k, at) = (self.0.a.cols(), (i, j, N * LANES));
        let mut bias = [[0.0; LANES]; N];
        let start = self.0.start(j, N * LANES, &mut bias);
        let c = tile::load::<L, M, N>(l, &mut self.0.c, at, start);
        let mut lines: [&[f32]; M] = [&[]; M];
        for (r, line) in lines.iter_mut().enumerate() {
            *line = self.0.a.line(i + r, 0, k);
        }
        let RightOperand::Mat(b) = self.0.b else { unreachable!("what is packed is taken from the panels") };
        let (data, stride) = b.lines_from(0, j);
        let right = tile::Plain { data, stride };
        tile::store::<L, M, N>(l, &mut self.0.c, at, tile::chains(l, k, tile::Across(lines), right, c));
        M
    }
}

/// What the tiles of a group of columns have in common.
#[derive(Clone, Copy)]
struct Group<'a> {
    rows: Range,
    steps: Range,
    j: usize,
    width: usize,
    /// The packed left operand: panel after panel, each of the rows of its tile.
    left: &'a [f32],
    /// The packed right operand: the group's panels.
    right: [&'a [Chunk]; GROUP],
}

impl<T: Element> Product<'_, T> {
    /// All of it; the left operand is packed where there is room for it.
    #[inline(always)]
    fn blocks<L: Lanes, const LEFT: usize, const RIGHT: usize>(&mut self, l: L) {
        let (rows, cols, k) = (self.c.rows(), self.c.cols(), self.a.cols());
        // A step more than is used, so that panels do not start in the same set of the cache.
        let mut right_room = PanelStack::<{ K_BLOCK + 1 }, RIGHT>::new();
        let mut left_room = Stack::<LEFT>::new();
        let row_block = if LEFT > 0 { LEFT * LANES / K_BLOCK } else { ROW_BLOCK };
        let col_block = RIGHT * LANES;
        let mut i = 0;
        while i < rows {
            let rows = Range { from: i, len: (rows - i).min(row_block) };
            let mut p = 0;
            loop {
                let steps = Range { from: p, len: (k - p).min(K_BLOCK) };
                if LEFT > 0 {
                    pack_panels(l, self.a, rows, steps, &mut left_room);
                }
                let left = left_room.values();
                let mut j = 0;
                while j < cols {
                    let width = (cols - j).min(col_block);
                    if let RightOperand::Mat(b) = self.b {
                        right_room.clear();
                        let at = (j, width.div_ceil(LANES));
                        pack(l, b, (steps.from, steps.len), at, &mut right_room);
                    }
                    let (end, mut panel) = (j + width, 0);
                    while j < end {
                        let width = (end - j).min(if L::WIDE { GROUP * LANES } else { LANES });
                        let right = match self.b {
                            RightOperand::Packed(packed, first) => {
                                let panel = |q: usize| {
                                    &packed.panel(first + j / LANES + q)[steps.from..][..steps.len]
                                };
                                [panel(0), if width > LANES { panel(1) } else { &[] }]
                            }
                            RightOperand::Mat(_) => [
                                right_room.panel(panel),
                                if width > LANES { right_room.panel(panel + 1) } else { &[] },
                            ],
                        };
                        self.columns::<L, LEFT>(l, Group { rows, steps, j, width, left, right });
                        j += width;
                        panel += if L::WIDE { GROUP } else { 1 };
                    }
                }
                p += steps.len;
                if p == k {
                    break;
                }
            }
            i += rows.len;
        }
    }

    /// All rows of the range times a group's panels.
    #[inline(always)]
    fn columns<L: Lanes, const LEFT: usize>(&mut self, l: L, at: Group<'_>) {
        let Group { rows, steps, j, width, .. } = at;
        let mut bias = [[0.0; LANES]; GROUP];
        let start = if steps.from > 0 { Start::Block } else { self.start(j, width, &mut bias) };
        let last = steps.from + steps.len == self.a.cols();
        let (mut i, end) = (rows.from, rows.from + rows.len);
        while i < end {
            // A whole number of tiles, so that the next ones begin where a packed panel does.
            let some = Range { from: i, len: (end - i).min(EPILOGUE_ROWS) };
            if L::WIDE && width > LANES {
                self.tiles::<L, 2, LEFT>(l, some, at, start);
            } else {
                self.tiles::<L, 1, LEFT>(l, some, at, start);
            }
            if last {
                self.epilogue(l, some, (j, width));
            }
            i += some.len;
        }
    }

    /// What chains of these columns start from; `vectors` gets their bias.
    #[inline(always)]
    fn start<'v>(&self, j: usize, width: usize, vectors: &'v mut [Chunk]) -> Start<'v> {
        match self.bias {
            Some(bias) => {
                vectors.as_flattened_mut()[..width].copy_from_slice(&bias[j..j + width]);
                if self.accumulate { Start::BlockAndBias(vectors) } else { Start::Bias(vectors) }
            }
            None if self.accumulate => Start::Block,
            None => Start::Zero,
        }
    }

    /// Some rows times `N` panels.
    #[inline(always)]
    fn tiles<L: Lanes, const N: usize, const LEFT: usize>(
        &mut self,
        l: L,
        rows: Range,
        at: Group<'_>,
        start: Start<'_>,
    ) {
        let mut panels: [&[Chunk]; N] = [&[]; N];
        for (q, panel) in panels.iter_mut().enumerate() {
            *panel = &at.right[q][..at.steps.len];
        }
        let panels = Panels(panels);
        let (mut i, end) = (rows.from, rows.from + rows.len);
        while i < end {
            i += match tile_rows::<L>(end - i) {
                12 => self.tile::<L, 12, N, LEFT>(l, i, at, panels, start),
                8 => self.tile::<L, 8, N, LEFT>(l, i, at, panels, start),
                6 => self.tile::<L, 6, N, LEFT>(l, i, at, panels, start),
                4 => self.tile::<L, 4, N, LEFT>(l, i, at, panels, start),
                2 => self.tile::<L, 2, N, LEFT>(l, i, at, panels, start),
                _ => self.tile::<L, 1, N, LEFT>(l, i, at, panels, start),
            };
        }
    }

    /// One tile. Returns its rows.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize, const LEFT: usize>(
        &mut self,
        l: L,
        i: usize,
        at: Group<'_>,
        panels: Panels<'_, N>,
        start: Start<'_>,
    ) -> usize {
        let Group { rows, steps, j, width, left, .. } = at;
        let at = (i, j, width);
        // What is loaded has nothing to hide behind, so that is the next tile's; a store waits for its line as well.
        let ahead = if matches!(start, Start::Block | Start::BlockAndBias(_)) { M } else { 0 };
        tile::prefetch::<L, M, N>(l, &mut self.c, (i + ahead, j, width));
        let c = tile::load::<L, M, N>(l, &mut self.c, at, start);
        let c = if LEFT > 0 {
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

    /// Applies the activation to rows that are done, while they are in the L1 cache.
    #[inline(always)]
    fn epilogue<L: Lanes>(&mut self, l: L, rows: Range, cols: (usize, usize)) {
        match self.activation {
            Activation::Identity if self.activated.is_none() => {}
            Activation::Identity => self.activate::<L, functions::Identity>(l, rows, cols),
            Activation::Relu => self.activate::<L, functions::Relu>(l, rows, cols),
            Activation::SquaredRelu => self.activate::<L, functions::SquaredRelu>(l, rows, cols),
            Activation::Silu => self.activate::<L, functions::Silu>(l, rows, cols),
            Activation::GeluTanh => self.activate::<L, functions::GeluTanh>(l, rows, cols),
            Activation::GeluErf => self.activate::<L, functions::GeluErf>(l, rows, cols),
            Activation::Sigmoid => self.activate::<L, functions::Sigmoid>(l, rows, cols),
            Activation::Tanh => self.activate::<L, functions::Tanh>(l, rows, cols),
        }
    }

    /// From `c` to where activated results go. Two vectors of two rows in lockstep on AVX-512.
    #[inline(always)]
    fn activate<L: Lanes, F: Function>(&mut self, l: L, rows: Range, (j, width): (usize, usize)) {
        let (mut i, end) = (rows.from, rows.from + rows.len);
        if width == GROUP * LANES {
            while L::WIDE && i + 2 <= end {
                let [a, b] = tile::load::<L, 1, 2>(l, &mut self.c, (i, j, width), Start::Block)[0];
                let [c, d] = tile::load::<L, 1, 2>(l, &mut self.c, (i + 1, j, width), Start::Block)[0];
                let [a, b, c, d] = F::value(l, [a, b, c, d]);
                let out = self.activated.as_mut().unwrap_or(&mut self.c);
                tile::store::<L, 1, 2>(l, out, (i, j, width), [[a, b]]);
                tile::store::<L, 1, 2>(l, out, (i + 1, j, width), [[c, d]]);
                i += 2;
            }
        }
        while i < end {
            let mut q = 0;
            while q < width {
                let at = (i, j + q, (width - q).min(LANES));
                let x = tile::load::<L, 1, 1>(l, &mut self.c, at, Start::Block)[0];
                let out = self.activated.as_mut().unwrap_or(&mut self.c);
                tile::store::<L, 1, 1>(l, out, at, [F::value(l, x)]);
                q += LANES;
            }
            i += 1;
        }
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
fn pack_panels<L: Lanes, T: Element, const LEFT: usize>(
    l: L,
    a: Mat<'_, T>,
    rows: Range,
    steps: Range,
    panels: &mut Stack<LEFT>,
) {
    panels.clear();
    let (mut i, at) = (rows.from, (steps.from, steps.len));
    while i < rows.from + rows.len {
        i += match tile_rows::<L>(rows.from + rows.len - i) {
            12 => pack_left::<L, T, 12, LEFT>(l, a, i, at, panels),
            8 => pack_left::<L, T, 8, LEFT>(l, a, i, at, panels),
            6 => pack_left::<L, T, 6, LEFT>(l, a, i, at, panels),
            4 => pack_left::<L, T, 4, LEFT>(l, a, i, at, panels),
            2 => pack_left::<L, T, 2, LEFT>(l, a, i, at, panels),
            _ => pack_left::<L, T, 1, LEFT>(l, a, i, at, panels),
        };
    }
}
