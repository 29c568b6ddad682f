//! The loops over a product: blocks of k, groups of columns whose panels stay in the L1 cache, rows.

use super::Packed;
use super::ahead::{Ahead, Shares};
use super::finish::Part;
use super::mat::{Mat, Operand};
use super::pack::{pack, pack_panels};
use super::reading::{self, Reading};
use super::thin::{self, Thin};
use super::tile::{self, Panels, Start};
use crate::activation::Activation;
use crate::lanes::{Block, Chunk, Kernel, LANES, Lanes, PanelStack, Stack, dispatch};
use crate::parallel::{Work, middle, recorder};
use crate::tier::Active;
use crate::tuning::{self, ProductPath};

/// Steps of k that a panel has at most: a group of them takes 36 KiB, which leaves room for the rest in an L1 cache of 48 KiB;
/// in one of 32 KiB some of it comes from the L2 cache.
const K_BLOCK: usize = 192;
/// Rows of the left operand that are gone through before the next block of k: with it 384 KiB, for the L2 cache.
const ROW_BLOCK: usize = 512;
/// Rows whose results wait in the L1 cache for the activation: whole tiles.
const EPILOGUE_ROWS: usize = 24;
/// Columns that go through all of k before the next ones: their results stay in the L2 cache.
const COL_BLOCK: usize = 1152;
/// Panels that a group has at most.
const GROUP: usize = 3;
/// Panels that are packed together where there is room: whole groups.
pub(super) const MANY: usize = 9;
/// Steps up to which all of those stay in the L1 cache. Then a few rows go through all columns, as the results lie, before the
/// next rows do.
const SHALLOW: usize = 64;
/// How many rows those are: whole tiles.
const SHALLOW_ROWS: usize = 24;
/// Steps from which a tile takes long enough for what is asked for in time.
const PREFETCH_STEPS: usize = 16;
/// A product of fewer rows counts as one of this many: 512 x 512 by one takes 11 us, by six 18.
pub(super) const READ_AS: usize = 5;
/// Values of an operand or of the results from which they may lie in no L2 cache: 512 KiB.
pub(super) const FAR: usize = 1 << 17;
/// The same of results with a left operand that is a transpose: gradients of weights, which nothing has read for long.
const FAR_GRADIENT: usize = 1 << 14;

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum RightOperand<'a> {
    /// As it is, to be packed on the way.
    Mat(Operand<'a>),
    /// Packed before; from this panel on.
    Packed(&'a Packed, usize),
}

/// A product, or a block of one.
pub(super) struct Product<'a> {
    pub(super) active: Active,
    pub(super) a: Operand<'a>,
    pub(super) b: RightOperand<'a>,
    /// What the chains start from and end in.
    pub(super) c: Block<'a>,
    /// Where the activated results go, if not to `c`.
    pub(super) activated: Option<Block<'a>>,
    pub(super) accumulate: bool,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    /// The way that the caller's thread forces.
    pub(super) path: Option<ProductPath>,
}

impl Product<'_> {
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

impl Work for Product<'_> {
    fn size(&self) -> usize {
        // At least the results themselves, when k is zero. A few rows take as long as it takes to read the other operand.
        self.c.rows().max(READ_AS).saturating_mul(self.c.cols()).saturating_mul(self.a.cols().max(1))
    }

    /// Rows, which share the panels' packing among many, as long as there are more than a block of them or more than
    /// columns; then columns.
    fn split(self) -> Result<(Self, Self), Self> {
        let (rows, cols) = (self.c.rows(), self.c.cols());
        // Whole tiles of 6 and 8 rows, whole groups of panels.
        let (row_unit, col_unit) = (24, GROUP * LANES);
        if rows >= 2 * row_unit && (rows >= ROW_BLOCK || rows >= cols || cols < 2 * col_unit) {
            let at = middle(rows, row_unit);
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
        if cols < 2 * col_unit { Err(self) } else { Ok(self.split_cols(middle(cols, col_unit))) }
    }

    /// By the way that suits its shape, or by the one that is asked for where it can.
    fn run(self) {
        let (rows, cols, k) = (self.c.rows(), self.c.cols(), self.a.cols());
        // bf16 is widened as it is packed.
        let Operand::F32(a) = self.a else { return dispatch(self.active, LeftPacked(self)) };
        if let RightOperand::Packed(b, first) = self.b
            && rows <= reading::FEW
            && !a.is_transposed()
            && self.path.is_none()
        {
            recorder::note("reading");
            return dispatch(self.active, Reading { a, b, first, product: self });
        }
        let wide = rows > 36 && cols >= tuning::MATMUL_PACK_COLS && k >= tuning::MATMUL_PACK_STEPS;
        let meets = a.stride() > 0 && a.stride().is_multiple_of(tuning::MATMUL_PACK_STRIDE);
        let path = self.path.unwrap_or(match self.b {
            RightOperand::Mat(Operand::F32(b)) if thin::suits(a, b) => ProductPath::Thin,
            _ if a.is_transposed() => {
                let few = cols <= tuning::matmul_beside_cols(self.active.tier());
                let near = rows.saturating_mul(k) <= tuning::MATMUL_BESIDE_VALUES;
                if few && near && !meets { ProductPath::Plain } else { ProductPath::BothPacked }
            }
            RightOperand::Mat(_) if wide && meets => ProductPath::BothPacked,
            RightOperand::Packed(..) if wide => ProductPath::BothPacked,
            _ => ProductPath::Plain,
        });
        recorder::note(match path {
            ProductPath::Thin => "thin",
            ProductPath::Plain => "plain",
            ProductPath::BothPacked => "both packed",
        });
        match (path, self.b) {
            (ProductPath::Thin, RightOperand::Mat(Operand::F32(b))) => {
                dispatch(self.active, Thin::new(self, a, b));
            }
            (ProductPath::Thin | ProductPath::Plain, _) if a.is_transposed() => {
                dispatch(self.active, Transposed { a, product: self });
            }
            (ProductPath::Thin | ProductPath::Plain, _) => dispatch(self.active, Plain { a, product: self }),
            (ProductPath::BothPacked, _) => dispatch(self.active, LeftPacked(self)),
        }
    }
}

/// Rows of the left operand that are packed together: whole tiles of 6 and 8 rows.
const LEFT_ROWS: usize = 264;

/// A range of rows or of steps of k.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) from: usize,
    pub(super) len: usize,
}

/// A product that reads its left operand as it lies.
struct Plain<'a> {
    a: Mat<'a>,
    product: Product<'a>,
}

impl Kernel for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.product.blocks::<L, 0, false>(l, Some(self.a));
    }
}

/// The same of a transpose.
struct Transposed<'a> {
    a: Mat<'a>,
    product: Product<'a>,
}

impl Kernel for Transposed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.product.blocks::<L, 0, true>(l, Some(self.a));
    }
}

/// A product that packs its left operand too.
struct LeftPacked<'a>(Product<'a>);

impl Kernel for LeftPacked<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        self.0.blocks::<L, { LEFT_ROWS * K_BLOCK / LANES }, false>(l, None);
    }
}

/// Room for what is packed, and for results that wait for their activation.
struct Rooms<'r, const LEFT: usize> {
    right: &'r mut PanelStack<{ K_BLOCK + 1 }, MANY>,
    left: &'r mut Stack<LEFT>,
    waiting: &'r mut Stack<{ EPILOGUE_ROWS * GROUP }>,
}

/// What the tiles of a group of columns have in common.
#[derive(Clone, Copy)]
struct Group<'a> {
    rows: Range,
    steps: Range,
    j: usize,
    width: usize,
    /// The left operand, where it is read as it lies.
    plain: Option<Mat<'a>>,
    /// The packed left operand from the first of the rows on: panel after panel, each of the rows of its tile.
    left: &'a [f32],
    /// The packed right operand: the group's panels.
    right: [&'a [Chunk]; GROUP],
    /// Prefetched meanwhile.
    ahead: Ahead<'a>,
    /// Whether the results may lie in no L2 cache.
    far: bool,
}

impl Product<'_> {
    /// All of it; the left operand is packed where there is room for it, of `LEFT` vectors, and else it is `plain`: a transpose if
    /// `BESIDE`.
    #[inline(always)]
    fn blocks<L: Lanes, const LEFT: usize, const BESIDE: bool>(&mut self, l: L, plain: Option<Mat<'_>>) {
        let (rows, cols, k) = (self.c.rows(), self.c.cols(), self.a.cols());
        // A step more than is used, so that panels do not start in the same set of the cache.
        let (right, left) = (&mut PanelStack::new(), &mut Stack::<LEFT>::new());
        let mut rooms = Rooms { right, left, waiting: &mut Stack::new() };
        let row_block = if LEFT > 0 { LEFT_ROWS } else { ROW_BLOCK };
        let mut i = 0;
        while i < rows {
            let rows = Range { from: i, len: (rows - i).min(row_block) };
            let mut j = 0;
            while j < cols {
                // Of what is left about as many columns and steps each, so that the last block is not a small one.
                let left = cols - j;
                let len = left.div_ceil(left.div_ceil(COL_BLOCK)).next_multiple_of(MANY * LANES).min(left);
                let cols = Range { from: j, len };
                let mut p = 0;
                loop {
                    let left = k - p;
                    let len = left.div_ceil(left.div_ceil(K_BLOCK).max(1)).next_multiple_of(LANES).min(left);
                    let steps = Range { from: p, len };
                    if LEFT > 0 {
                        match self.a {
                            Operand::F32(a) => pack_panels(l, a, rows, steps, rooms.left),
                            Operand::Bf16(a) => pack_panels(l, a, rows, steps, rooms.left),
                        }
                    }
                    self.block::<L, LEFT, BESIDE>(l, plain, rows, cols, steps, &mut rooms);
                    p += len;
                    if p == k {
                        break;
                    }
                }
                j += len;
            }
            i += rows.len;
        }
    }

    /// Some steps of the chains of some rows and columns.
    #[inline(always)]
    fn block<L: Lanes, const LEFT: usize, const BESIDE: bool>(
        &mut self,
        l: L,
        plain: Option<Mat<'_>>,
        rows: Range,
        cols: Range,
        steps: Range,
        rooms: &mut Rooms<'_, LEFT>,
    ) {
        let (mut j, end) = (cols.from, cols.from + cols.len);
        let far = self.c.rows() * self.c.cols() >= if self.a.is_transposed() { FAR_GRADIENT } else { FAR };
        while j < end {
            // A single panel would be left to tiles of few chains.
            let last_two = L::WIDE && (end - j).div_ceil(LANES) == MANY + 1;
            let width = (end - j).min(if last_two { (MANY - 1) * LANES } else { MANY * LANES });
            rooms.right.clear();
            let at = (j, width.div_ceil(LANES));
            match self.b {
                RightOperand::Mat(Operand::F32(b)) => pack(l, b, (steps.from, steps.len), at, rooms.right),
                RightOperand::Mat(Operand::Bf16(b)) if LEFT > 0 => {
                    pack(l, b, (steps.from, steps.len), at, rooms.right);
                }
                RightOperand::Mat(_) => unreachable!("both operands are of a kind"),
                RightOperand::Packed(b, first) if b.is_bf16() => {
                    rooms.right.fill(l, (at.1, steps.len), &b.widened(steps.from, first + j / LANES));
                }
                RightOperand::Packed(..) => {}
            }
            let set = Range { from: j, len: width };
            let left = rooms.left.values();
            let mut from = rows.from;
            while from < rows.from + rows.len {
                let mut some = Range { from, len: rows.from + rows.len - from };
                if steps.len <= SHALLOW {
                    some.len = some.len.min(SHALLOW_ROWS);
                }
                let left = if LEFT > 0 { &left[(from - rows.from) * steps.len..] } else { left };
                let (mut at, mut panel) = (j, 0);
                while at < j + width {
                    let width = (j + width - at).min(group_panels::<L>(j + width - at) * LANES);
                    let mut right: [&[Chunk]; GROUP] = [&[]; GROUP];
                    for q in 0..width.div_ceil(LANES) {
                        right[q] = match self.b {
                            RightOperand::Packed(packed, first) if !packed.is_bf16() => {
                                &packed.panel(first + at / LANES + q)[steps.from..][..steps.len]
                            }
                            _ => rooms.right.panel(panel + q),
                        };
                    }
                    let ahead = self.ahead(Range { from: at, len: width }, set, cols, steps);
                    let group = Group { rows: some, steps, j: at, width, plain, left, right, ahead, far };
                    self.columns::<L, LEFT, BESIDE>(l, group, rooms.waiting);
                    at += width;
                    panel += width.div_ceil(LANES);
                }
                from += some.len;
            }
            j += width;
        }
    }

    /// All rows of the range times a group's panels. Results that an activation is applied to wait for it together: it
    /// reads them where they lie side by side, not just after they were stored.
    #[inline(always)]
    fn columns<L: Lanes, const LEFT: usize, const BESIDE: bool>(
        &mut self,
        l: L,
        at: Group<'_>,
        waiting: &mut Stack<{ EPILOGUE_ROWS * GROUP }>,
    ) {
        let Group { rows, steps, j, width, .. } = at;
        let mut bias = [[0.0; LANES]; GROUP];
        let start = if steps.from > 0 { Start::Block } else { self.start(j, width, &mut bias) };
        let finish = self.finishes() && steps.from + steps.len == self.a.cols();
        let vectors = width.div_ceil(LANES);
        let mut ahead = at.ahead.shares(rows.len.div_ceil(if L::WIDE { 8 } else { 6 }));
        let (mut i, end) = (rows.from, rows.from + rows.len);
        while i < end {
            // A whole number of tiles, so that the next ones begin where a packed panel does.
            let some = Range { from: i, len: if finish { (end - i).min(EPILOGUE_ROWS) } else { end - i } };
            let mut room = None;
            if finish {
                let values = waiting.first_mut(EPILOGUE_ROWS * GROUP).as_flattened_mut();
                room = Some(Block::new(values, EPILOGUE_ROWS, vectors * LANES, vectors * LANES));
            }
            match vectors {
                3 if L::WIDE => self.tiles::<L, 3, LEFT, BESIDE>(l, some, at, start, room, &mut ahead),
                2 if L::WIDE => self.tiles::<L, 2, LEFT, BESIDE>(l, some, at, start, room, &mut ahead),
                _ => self.tiles::<L, 1, LEFT, BESIDE>(l, some, at, start, room, &mut ahead),
            }
            if finish {
                let part = Part { rows: some, cols: Range { from: j, len: width }, turned: false };
                self.finish(waiting.first_mut(EPILOGUE_ROWS * GROUP), part);
            }
            i += some.len;
        }
    }

    /// What chains of these columns start from; `vectors` gets their bias.
    #[inline(always)]
    pub(super) fn start<'v>(&self, j: usize, width: usize, vectors: &'v mut [Chunk]) -> Start<'v> {
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
    fn tiles<L: Lanes, const N: usize, const LEFT: usize, const BESIDE: bool>(
        &mut self,
        l: L,
        rows: Range,
        at: Group<'_>,
        start: Start<'_>,
        mut room: Option<Block<'_>>,
        ahead: &mut Shares<'_>,
    ) {
        let mut panels: [&[Chunk]; N] = [&[]; N];
        for (q, panel) in panels.iter_mut().enumerate() {
            *panel = &at.right[q][..at.steps.len];
        }
        let panels = Panels(panels);
        let (mut i, end) = (rows.from, rows.from + rows.len);
        while i < end {
            ahead.ask(l);
            i += match tile_rows::<L>(end - i) {
                8 => self.tile::<L, 8, N, LEFT, BESIDE>(l, (i, i - rows.from), at, panels, start, &mut room),
                6 => self.tile::<L, 6, N, LEFT, BESIDE>(l, (i, i - rows.from), at, panels, start, &mut room),
                4 => self.tile::<L, 4, N, LEFT, BESIDE>(l, (i, i - rows.from), at, panels, start, &mut room),
                2 => self.tile::<L, 2, N, LEFT, BESIDE>(l, (i, i - rows.from), at, panels, start, &mut room),
                _ => self.tile::<L, 1, N, LEFT, BESIDE>(l, (i, i - rows.from), at, panels, start, &mut room),
            };
        }
    }

    /// One tile, from row `i` on; in the room, if there is one, from row `waits` on. Returns its rows.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize, const LEFT: usize, const BESIDE: bool>(
        &mut self,
        l: L,
        (i, waits): (usize, usize),
        at: Group<'_>,
        panels: Panels<'_, N>,
        start: Start<'_>,
        room: &mut Option<Block<'_>>,
    ) -> usize {
        let Group { rows, steps, j, width, plain, left, far, .. } = at;
        let at = (i, j, width);
        // What is loaded has nothing to hide behind, so it is asked for a tile before. What is only stored waits by itself, unless
        // it comes from far away and holds up the loads of the left operand.
        let loads = matches!(start, Start::Block | Start::BlockAndBias(_));
        if steps.len >= PREFETCH_STEPS && (loads || far) {
            tile::prefetch::<L, M, N>(l, &mut self.c, (i + M, j, width));
        }
        let c = tile::load::<L, M, N>(l, &mut self.c, at, start);
        let c = if LEFT > 0 {
            let panel = &left[(i - rows.from) * steps.len..][..M * steps.len];
            tile::chains(l, steps.len, tile::Packed(&panel.as_chunks::<M>().0[..steps.len]), panels, c)
        } else if BESIDE {
            let (values, stride) = plain.expect("it is not packed").lines_from(steps.from, i);
            tile::chains(l, steps.len, tile::Beside { values, stride }, panels, c)
        } else {
            let mut lines: [&[f32]; M] = [&[]; M];
            let a = plain.expect("it is not packed");
            for (r, line) in lines.iter_mut().enumerate() {
                *line = a.line(i + r, steps.from, steps.len);
            }
            tile::chains(l, steps.len, tile::Across(lines), panels, c)
        };
        // One copy of the stores.
        let (mut to, at) = match room {
            Some(room) => (room.reborrow(), (waits, 0, width)),
            None => (self.c.reborrow(), at),
        };
        tile::store::<L, M, N>(l, &mut to, at, c);
        M
    }
}

/// How many panels the next group has, if there are so many columns left. Four are two twos: three and one would leave tiles
/// of few chains.
#[inline(always)]
fn group_panels<L: Lanes>(columns: usize) -> usize {
    match columns.div_ceil(LANES) {
        _ if !L::WIDE => 1,
        4 => 2,
        panels => panels.min(GROUP),
    }
}

/// How many rows the next tile has, if so many are left. 24 vectors of results on AVX-512, six pairs of registers on AVX2
/// and six fours on NEON leave room for the operands; 8 by 3 on AVX-512 load less for each multiply-add than 12 by 2, and the less is
/// loaded, the higher such CPUs keep their clock.
#[inline(always)]
pub(super) fn tile_rows<L: Lanes>(left: usize) -> usize {
    match left {
        8.. if L::WIDE => 8,
        6.. if !L::WIDE => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}
