//! Products of few rows, and of few columns as the transposes of such: each value of the other operand is used so few
//! times that packing it all would cost more than it saves.

use super::Element;
use super::finish::Part;
use super::kernel::{Product, Range};
use super::mat::Mat;
use super::tile::{self, Right, Start, Strided, each};
use crate::lanes::{Block, Chunk, Kernel, LANES, Lanes, Stack};
use crate::tuning;

/// Rows that are taken together: no more than [`ROOM`].
const FEW: usize = 24;
/// Vectors of results that are taken together: 12 KiB, which stay in the L1 cache over all of k.
const ROOM: usize = 192;
/// Steps of k that these go through before the next: as many rows of the other operand are read side by side, long
/// stretches that the CPU foresees.
const STEPS: usize = 16;
/// Rows up to which that is most of the time, and a strip of the other operand over all of k is slower.
const READING_ONLY: usize = 2;
/// Rows beyond which more steps are better.
const READING: usize = 4;
/// Vectors of columns that are turned at a time, to be read from the L1 cache.
const TURNED: usize = 4;
/// The same of products of no more than [`STEPS`] steps: they are turned once for all rows.
const SHALLOW: usize = 16;
/// Vectors of room for what is turned.
const SCRATCH: usize = STEPS * SHALLOW;

/// `few` by `many`, over all of k: lanes are the columns of `many`.
pub(super) struct Thin<'a> {
    operands: Operands<'a>,
    /// Whether results are the transpose's.
    turned: bool,
    product: Product<'a>,
}

/// The left operand, of few rows, and the right one, whose columns are the lanes.
#[derive(Clone, Copy)]
struct Operands<'a> {
    few: Mat<'a>,
    many: Mat<'a>,
}

impl<'a> Thin<'a> {
    /// The product this way, of f32 operands of which none is packed.
    pub(super) fn new(product: Product<'a>, a: Mat<'a>, b: Mat<'a>) -> Self {
        // Where both are few, lanes are what lies side by side.
        let beside = a.is_transposed() && b.is_transposed();
        if few_columns(a, b) && (a.rows() > tuning::MATMUL_THIN_ROWS || beside) {
            Thin { operands: Operands { few: b.t(), many: a.t() }, turned: true, product }
        } else {
            Thin { operands: Operands { few: a, many: b }, turned: false, product }
        }
    }
}

/// Whether rows, columns or steps are so few that this way is faster.
pub(super) fn suits(a: Mat<'_>, b: Mat<'_>) -> bool {
    a.rows() <= tuning::MATMUL_THIN_ROWS || few_columns(a, b) || a.cols() <= STEPS
}

/// Whether the transposed product has few enough rows: fewer if its lanes lie apart, and the columns fill most of a
/// vector.
fn few_columns(a: Mat<'_>, b: Mat<'_>) -> bool {
    let most = if a.is_transposed() { tuning::MATMUL_THIN_ROWS } else { tuning::MATMUL_THIN_COLS };
    b.cols() <= most
}

impl Kernel for Thin<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut room = Stack::<ROOM>::new();
        let mut scratch = Stack::<SCRATCH>::new();
        let Operands { few, many } = self.operands;
        let (rows, cols, k) = (few.rows(), many.cols(), few.cols());
        let apart = many.is_transposed();
        // Whole vectors that are taken over all of k are written where they lie.
        let shallow = k <= STEPS;
        let direct =
            k > 0 && !self.turned && !self.product.finishes() && (shallow || !apart && rows > READING_ONLY);
        let mut j = 0;
        while direct && cols - j >= LANES {
            let most = if apart { SHALLOW } else { ROOM / rows.min(FEW) };
            let some = Range { from: j, len: ((cols - j) / LANES).min(most) * LANES };
            let right = if apart {
                self.operands.turn(l, Range { from: 0, len: k }, some, &mut scratch)
            } else {
                many.lines_from(0, j)
            };
            let mut i = 0;
            while i < rows {
                let rows = Range { from: i, len: (rows - i).min(FEW) };
                self.direct(l, rows, some, right);
                i += rows.len;
            }
            j += some.len;
        }
        let (done, mut i) = (j, 0);
        while i < rows {
            let rows = Range { from: i, len: (rows - i).min(FEW) };
            // Lines that lie along k are read from end to end, few side by side.
            let vectors = if apart { TURNED } else { ROOM / rows.len };
            j = done;
            while j < cols {
                let cols = Range { from: j, len: (cols - j).min(vectors * LANES) };
                let part = Part { rows, cols, turned: self.turned };
                let vectors = room.first_mut(rows.len * part.vectors());
                self.start(l, vectors, part);
                self.chains(l, vectors, part, &mut scratch);
                self.product.finish(vectors, part);
                j += cols.len;
            }
            i += rows.len;
        }
    }
}

impl Thin<'_> {
    /// Sets what chains start from.
    #[inline(always)]
    fn start<L: Lanes>(&mut self, l: L, room: &mut [Chunk], part: Part) {
        let (Part { rows, cols, turned }, n) = (part, part.vectors());
        let Product { bias, accumulate, ref mut c, .. } = self.product;
        for i in 0..rows.len {
            for q in 0..n {
                let j = cols.from + q * LANES;
                let width = (cols.len - q * LANES).min(LANES);
                let mut x = l.splat(0.0);
                if let Some(bias) = bias {
                    x = if turned { l.splat(bias[rows.from + i]) } else { f32::load(l, &bias[j..][..width]) };
                }
                if accumulate && !turned {
                    let c = f32::load(l, &c.row(rows.from + i)[j..][..width]);
                    x = if bias.is_some() { l.add(c, x) } else { c };
                }
                l.store(&mut room[i * n + q], x);
            }
        }
        if !(accumulate && turned) {
            return;
        }
        for q in 0..n {
            let lanes = (cols.len - q * LANES).min(LANES);
            let mut done = 0;
            while done < rows.len {
                let some = (rows.len - done).min(LANES);
                let mut v = [l.splat(0.0); LANES];
                for i in 0..LANES {
                    if i < lanes {
                        let row = c.row(cols.from + q * LANES + i);
                        v[i] = f32::load(l, &row[rows.from + done..][..some]);
                    }
                }
                l.transpose(&mut v);
                for i in 0..LANES {
                    if i < some {
                        let x = &mut room[(done + i) * n + q];
                        let sum = if bias.is_some() { l.add(v[i], l.load(x)) } else { v[i] };
                        l.store(x, sum);
                    }
                }
                done += some;
            }
        }
    }

    /// All chains of the part, some steps at a time.
    #[inline(always)]
    fn chains<L: Lanes>(&mut self, l: L, room: &mut [Chunk], part: Part, scratch: &mut Stack<SCRATCH>) {
        let (Part { rows, cols, .. }, n) = (part, part.vectors());
        let mut room = Block::new(room.as_flattened_mut(), rows.len, n * LANES, n * LANES);
        let operands = self.operands;
        // What lies in vectors is read as it lies.
        let plain = if operands.many.is_transposed() { 0 } else { cols.len / LANES };
        let k = operands.few.cols();
        let most = if plain == n && rows.len > READING { 4 * STEPS } else { STEPS };
        let mut p = 0;
        while p < k {
            let steps = Range { from: p, len: (k - p).min(most) };
            let mut to = Target { block: &mut room, row: 0, col: 0, accumulate: true, bias: None };
            let mut q = 0;
            while q < n {
                let at = cols.from + q * LANES;
                let (some, right) = if q < plain {
                    (plain, operands.many.lines_from(p, at))
                } else {
                    let rest = Range { from: at, len: cols.len - q * LANES };
                    (n - q, operands.turn(l, steps, rest, scratch))
                };
                to.col = q * LANES;
                operands.plain(l, &mut to, rows, some, steps, right);
                q += some;
            }
            p += steps.len;
        }
    }

    /// Whole vectors of columns, from the start of their chains to the end.
    #[inline(always)]
    fn direct<L: Lanes>(&mut self, l: L, rows: Range, cols: Range, right: (&[f32], usize)) {
        let Product { bias, accumulate, .. } = self.product;
        let bias = bias.map(|bias| &bias[cols.from..]);
        let mut c = self.product.c.reborrow();
        let mut to = Target { block: &mut c, row: rows.from, col: cols.from, accumulate, bias };
        let steps = Range { from: 0, len: self.operands.few.cols() };
        self.operands.plain(l, &mut to, rows, cols.len / LANES, steps, right);
    }
}

impl Operands<'_> {
    /// Rows times `n` vectors of columns, of which the first steps are at the start of the data, and the others as far
    /// apart as it says.
    #[inline(always)]
    fn plain<L: Lanes>(
        &self,
        l: L,
        to: &mut Target<'_, '_>,
        rows: Range,
        n: usize,
        steps: Range,
        right: (&[f32], usize),
    ) {
        let mut i = 0;
        while i < rows.len {
            // As many chains as the registers have room for.
            let at = (rows.from + i, i);
            i += match tile_rows(rows.len - i) {
                6 if L::WIDE => self.rows::<L, 6, 4>(l, to, at, n, steps, right),
                6 => self.rows::<L, 6, 1>(l, to, at, n, steps, right),
                5 if L::WIDE => self.rows::<L, 5, 4>(l, to, at, n, steps, right),
                5 => self.rows::<L, 5, 1>(l, to, at, n, steps, right),
                4 if L::WIDE => self.rows::<L, 4, 4>(l, to, at, n, steps, right),
                4 => self.rows::<L, 4, 1>(l, to, at, n, steps, right),
                3 if L::WIDE => self.rows::<L, 3, 4>(l, to, at, n, steps, right),
                3 => self.rows::<L, 3, 2>(l, to, at, n, steps, right),
                2 if L::WIDE => self.rows::<L, 2, 8>(l, to, at, n, steps, right),
                2 => self.rows::<L, 2, 2>(l, to, at, n, steps, right),
                _ if L::WIDE => self.rows::<L, 1, 8>(l, to, at, n, steps, right),
                _ => self.rows::<L, 1, 4>(l, to, at, n, steps, right),
            };
        }
    }

    /// The rows of a tile, from `first` on, vectors of columns `N` at a time. Returns `M`.
    #[inline(always)]
    fn rows<L: Lanes, const M: usize, const N: usize>(
        &self,
        l: L,
        to: &mut Target<'_, '_>,
        (first, i): (usize, usize),
        n: usize,
        steps: Range,
        (data, stride): (&[f32], usize),
    ) -> usize {
        let left = self.lines::<M>(first, steps);
        // A few rows are read in long stretches, which the CPU foresees.
        let ahead = if M > 2 { AHEAD * stride / LANES } else { 0 };
        let mut q = 0;
        while q < n {
            let right = Beside { data: &data[q * LANES..], stride, ahead };
            let (at, some) = ((i, q * LANES), n - q);
            q += if some >= N {
                tile::<L, M, N>(l, to, at, steps.len, left, right)
            } else if N > 4 && some >= 4 {
                tile::<L, M, 4>(l, to, at, steps.len, left, right)
            } else if N > 2 && some >= 2 {
                tile::<L, M, 2>(l, to, at, steps.len, left, right)
            } else {
                tile::<L, M, 1>(l, to, at, steps.len, left, right)
            };
        }
        M
    }

    /// The rows of a tile.
    #[inline(always)]
    fn lines<const M: usize>(&self, first: usize, steps: Range) -> Strided<'_, M> {
        let mut lines: [&[f32]; M] = [&[]; M];
        if steps.len == 0 {
            return Strided { lines, step: 1 };
        }
        if !self.few.is_transposed() {
            for (r, line) in lines.iter_mut().enumerate() {
                *line = self.few.line(first + r, steps.from, steps.len);
            }
            return Strided { lines, step: 1 };
        }
        let (data, step) = self.few.lines_from(steps.from, first);
        for (r, line) in lines.iter_mut().enumerate() {
            *line = &data[r..][..(steps.len - 1) * step + 1];
        }
        Strided { lines, step }
    }

    /// Some steps, up to [`STEPS`], of some columns in whole vectors, filled with zeros: the data and how far steps lie
    /// apart.
    #[inline(always)]
    fn turn<'s, L: Lanes>(
        &self,
        l: L,
        steps: Range,
        cols: Range,
        scratch: &'s mut Stack<SCRATCH>,
    ) -> (&'s [f32], usize) {
        let (many, n) = (self.many, cols.len.div_ceil(LANES));
        // All steps, so that each vector that is turned has its place.
        let room = scratch.first_mut(STEPS * n);
        for q in 0..n {
            let j = cols.from + q * LANES;
            let width = (cols.len - q * LANES).min(LANES);
            if !many.is_transposed() {
                for p in 0..steps.len {
                    l.store(&mut room[p * n + q], f32::load(l, many.line(steps.from + p, j, width)));
                }
            } else if width == LANES && steps.len == LANES {
                // All numbers known, so that nothing goes through memory.
                let (data, stride) = many.lines_from(j, steps.from);
                let mut v = [l.splat(0.0); LANES];
                for i in 0..LANES {
                    v[i] = f32::load(l, &data[i * stride..][..LANES]);
                }
                l.transpose(&mut v);
                let room = &mut room[q..][..(STEPS - 1) * n + 1];
                for i in 0..LANES {
                    l.store(&mut room[i * n], v[i]);
                }
            } else {
                let mut v = [l.splat(0.0); LANES];
                for i in 0..LANES {
                    if i < width {
                        v[i] = f32::load(l, many.line(j + i, steps.from, steps.len));
                    }
                }
                l.transpose(&mut v);
                for i in 0..LANES {
                    l.store(&mut room[i * n + q], v[i]);
                }
            }
        }
        (room.as_flattened(), n * LANES)
    }
}

/// Rows that are asked for ahead of their use.
const AHEAD: usize = 8;

/// Rows of a matrix as they are, `stride` from one step of k to the next. What lies `ahead` vectors on is asked for.
#[derive(Clone, Copy)]
struct Beside<'a> {
    data: &'a [f32],
    stride: usize,
    ahead: usize,
}

impl<const N: usize> Right<N> for Beside<'_> {
    #[inline(always)]
    fn step<L: Lanes>(self, l: L, p: usize) -> [L::F; N] {
        let row = self.data[p * self.stride..][..N * LANES].as_chunks::<LANES>().0;
        let mut b = [l.splat(0.0); N];
        each!(j < N => {
            if N == 4 {
                l.prefetch(row, j + self.ahead);
            }
            b[j] = l.load(&row[j]);
        });
        b
    }
}

/// Where tiles go on with chains, or start them.
struct Target<'a, 'b> {
    block: &'a mut Block<'b>,
    /// Of the block, where the first row and column lie.
    row: usize,
    col: usize,
    accumulate: bool,
    bias: Option<&'a [f32]>,
}

/// One tile, from row `i` and column `j` of the target on. Returns `N`.
#[inline(always)]
fn tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    to: &mut Target<'_, '_>,
    (i, j): (usize, usize),
    steps: usize,
    left: Strided<'_, M>,
    right: impl Right<N>,
) -> usize {
    let at = (to.row + i, to.col + j, N * LANES);
    let start = match to.bias {
        Some(bias) => {
            let bias = bias[j..][..N * LANES].as_chunks().0;
            if to.accumulate { Start::BlockAndBias(bias) } else { Start::Bias(bias) }
        }
        None if to.accumulate => Start::Block,
        None => Start::Zero,
    };
    let c = tile::load::<L, M, N>(l, to.block, at, start);
    tile::store::<L, M, N>(l, to.block, at, tile::chains(l, steps, left, right, c));
    N
}

/// How many rows the next tile has, if so many are left: few tiles, since each reads the other operand again, of about
/// a size.
#[inline(always)]
fn tile_rows(left: usize) -> usize {
    match left {
        ..7 => left,
        7 | 8 => 4,
        9 | 10 => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any way has the same bits: the wrong one costs time, which no test of results sees.
    #[test]
    fn few_rows_columns_or_steps_suit() {
        const ROWS: usize = tuning::MATMUL_THIN_ROWS;
        const COLS: usize = tuning::MATMUL_THIN_COLS;
        let way = |rows: usize, cols: usize, k: usize| {
            let (a, b) = (vec![0.0; rows * k], vec![0.0; k * cols]);
            suits(Mat::new(&a, rows, k), Mat::new(&b, k, cols))
        };
        assert!(!way(ROWS + 1, COLS + 1, STEPS + 1));
        assert!(way(ROWS, COLS + 1, STEPS + 1));
        assert!(way(ROWS + 1, COLS, STEPS + 1));
        assert!(way(ROWS + 1, COLS + 1, STEPS));
    }
}
