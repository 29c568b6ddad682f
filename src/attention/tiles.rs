//! What forward and backward share: blocks of queries in the lanes, and the products with them.

use crate::lanes::{Block, Chunk, LANES, Lanes};
use crate::matmul::tile::{self, Across, Panels, Start, each};

/// Vectors of queries that are taken together.
pub(super) const VECTORS: usize = 4;
/// Queries that are taken together.
pub(super) const QUERIES: usize = VECTORS * LANES;
/// Keys that are taken together.
pub(super) const KEYS: usize = 64;
/// The largest head.
pub(super) const MAX_DIM: usize = 128;
/// Vectors that a block of queries takes, turned.
pub(super) const TURNED: usize = VECTORS * MAX_DIM;

/// A value for each query of a block.
pub(super) type Quad = [Chunk; VECTORS];

/// How many of the keys at hand each vector of queries sees: none where the block has fewer vectors. A later vector sees as
/// many as an earlier one, or more.
pub(super) type Sees = [usize; VECTORS];

/// Of `n` keys from `key` on, those that each of `count` vectors of queries from `query` on sees any of.
#[inline(always)]
pub(super) fn sees(causal: bool, (query, count): (usize, usize), (key, n): (usize, usize)) -> Sees {
    let mut sees = [0; VECTORS];
    for j in 0..count {
        sees[j] = seen(causal, query + (j + 1) * LANES, key + n).saturating_sub(key);
    }
    sees
}

/// The rows of one head.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Lines<'a> {
    /// The first `n` values of row `i`.
    #[inline(always)]
    pub(super) fn row(self, i: usize, n: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..n]
    }

    /// The rows from `first` on, from their vector `c` on.
    #[inline(always)]
    pub(super) fn chunks(self, first: usize, c: usize) -> Self {
        Lines { data: &self.data[first * self.stride + c * LANES..], ..self }
    }

    /// Asks for `n` rows of `dim` values from `first` on before they are needed; they may lie beyond the end.
    #[inline(always)]
    fn prefetch<L: Lanes>(self, l: L, first: usize, n: usize, dim: usize) {
        for i in first..first + n {
            // Beyond the end there may be no memory, and finding that out is slow.
            let Some(row) = self.data.get(i.saturating_mul(self.stride)..) else { return };
            let row = row.as_chunks().0;
            for c in 0..dim.div_ceil(LANES) {
                l.prefetch(row, c);
            }
        }
    }

    /// The first values of row `i`, a whole vector.
    #[inline(always)]
    pub(super) fn chunk(self, i: usize) -> &'a Chunk {
        let Some(chunk) = self.data[i * self.stride..].first_chunk() else {
            panic!("row {i} of a head ends too soon");
        };
        chunk
    }
}

/// How many rows the next tile has, if so many are left and it is two vectors wide, or one; see `matmul`'s. Two tiles of
/// eight rather than one of twelve and one of four, which would wait for its sums.
#[inline(always)]
fn tile_rows<L: Lanes>(left: usize, two: bool) -> usize {
    match left {
        16.. if L::WIDE && !two => 16,
        16 if L::WIDE => 8,
        12.. if L::WIDE => 12,
        8.. if L::WIDE => 8,
        6.. if !L::WIDE => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Goes through `$rows` rows in tiles: `$body` for each, from row `$i`, of `$m` rows by `$n` vectors: two if `$two`.
macro_rules! tiles {
    ($l:ident, $rows:expr, $two:expr, |$i:ident, $m:ident, $n:ident| $body:block) => {
        let (rows, two) = ($rows, $two);
        let mut $i = 0;
        while $i < rows {
            $i += match (tile_rows::<$l>(rows - $i, two), two) {
                (12, true) => tiles!(12, 2, $m, $n, $body),
                (8, true) => tiles!(8, 2, $m, $n, $body),
                (4, true) => tiles!(4, 2, $m, $n, $body),
                (2, true) => tiles!(2, 2, $m, $n, $body),
                (_, true) => tiles!(1, 2, $m, $n, $body),
                (16, _) => tiles!(16, 1, $m, $n, $body),
                (12, _) => tiles!(12, 1, $m, $n, $body),
                (8, _) => tiles!(8, 1, $m, $n, $body),
                (6, _) => tiles!(6, 1, $m, $n, $body),
                (4, _) => tiles!(4, 1, $m, $n, $body),
                (2, _) => tiles!(2, 1, $m, $n, $body),
                _ => tiles!(1, 1, $m, $n, $body),
            };
        }
    };
    ($rows:literal, $vectors:literal, $m:ident, $n:ident, $body:block) => {{
        const $m: usize = $rows;
        const $n: usize = $vectors;
        $body
        $m
    }};
}

/// Up to sixteen values, the rest zero.
#[inline(always)]
pub(super) fn load<L: Lanes>(l: L, values: &[f32]) -> L::F {
    match values.first_chunk() {
        Some(whole) if values.len() == LANES => l.load(whole),
        _ => l.load_part(values, l.splat(0.0)),
    }
}

/// As many values as there is room for, up to sixteen.
#[inline(always)]
pub(super) fn store<L: Lanes>(l: L, values: &mut [f32], v: L::F) {
    let whole = values.len() == LANES;
    match values.first_chunk_mut() {
        Some(values) if whole => l.store(values, v),
        _ => l.store_part(values, v),
    }
}

/// Turns `n` rows of `dim` values, from row `first` on, so that lanes are rows: `turned` is for each sixteen of them a
/// panel of `width` vectors, `dim` rounded up to whole vectors. They are multiplied by `factor` first, and copied to `rows`, `width`
/// apart, if that is not empty.
#[inline(always)]
pub(super) fn turn<L: Lanes>(
    l: L,
    lines: Lines<'_>,
    (first, n): (usize, usize),
    dim: usize,
    factor: f32,
    turned: &mut [Chunk],
    rows: &mut [Chunk],
) {
    let (columns, factor) = (dim.div_ceil(LANES), l.splat(factor));
    for j in 0..n.div_ceil(LANES) {
        for c in 0..columns {
            let width = (dim - c * LANES).min(LANES);
            let mut v = [l.splat(0.0); LANES];
            if width == LANES && (j + 1) * LANES <= n {
                let lines = lines.chunks(first + j * LANES, c);
                for i in 0..LANES {
                    v[i] = l.mul(l.load(lines.chunk(i)), factor);
                }
            } else {
                for i in 0..(n - j * LANES).min(LANES) {
                    let row = lines.row(first + j * LANES + i, dim);
                    v[i] = l.mul(load(l, &row[c * LANES..][..width]), factor);
                }
            }
            if !rows.is_empty() {
                // Rows beyond the last are zeros, which nobody reads.
                let rows = &mut rows[c * QUERIES + j * LANES..][..LANES];
                for i in 0..LANES {
                    l.store(&mut rows[i], v[i]);
                }
            }
            l.transpose(&mut v);
            let panel = &mut turned[(j * columns + c) * LANES..][..LANES];
            for i in 0..LANES {
                l.store(&mut panel[i], v[i]);
            }
        }
    }
}

/// Writes `n` rows from `first` on: what `turn` does, backwards, each row multiplied by its `factor`.
#[inline(always)]
pub(super) fn turn_back<L: Lanes>(
    l: L,
    turned: &[Quad],
    factor: &Quad,
    block: &mut Block<'_>,
    (first, n): (usize, usize),
    dim: usize,
) {
    for j in 0..n.div_ceil(LANES) {
        let factor = l.load(&factor[j]);
        for c in 0..dim.div_ceil(LANES) {
            let width = (dim - c * LANES).min(LANES);
            let columns = &turned[c * LANES..][..LANES];
            let mut v = [l.splat(0.0); LANES];
            for i in 0..LANES {
                v[i] = l.mul(l.load(&columns[i][j]), factor);
            }
            l.transpose(&mut v);
            if width == LANES && (j + 1) * LANES <= n {
                for i in 0..LANES {
                    let row = &mut block.row(first + j * LANES + i)[c * LANES..];
                    l.store(&mut row.as_chunks_mut().0[0], v[i]);
                }
            } else {
                for i in 0..(n - j * LANES).min(LANES) {
                    store(l, &mut block.row(first + j * LANES + i)[c * LANES..][..width], v[i]);
                }
            }
        }
    }
}

/// The products of rows from `first` on, with each query of the vectors that see them: `out[row]`. Asks for what lies a block
/// further on in `ahead`.
#[inline(always)]
pub(super) fn dots<L: Lanes>(
    l: L,
    lines: Lines<'_>,
    (first, dim): (usize, usize),
    turned: &[Chunk],
    sees: &Sees,
    ahead: &[Lines<'_>],
    out: &mut [Quad],
) {
    // Short rows are near enough to each other for the CPU to ask by itself.
    let ahead = if dim > 2 * LANES { ahead } else { &[] };
    let mut j = 0;
    while j < VECTORS {
        // Two vectors as far as both see the rows, then the second by itself.
        let two = L::WIDE && j % 2 == 0 && sees[j + 1] > 0;
        let from = if L::WIDE && j % 2 == 1 { sees[j - 1] } else { 0 };
        tiles!(L, sees[j] - from.min(sees[j]), two, |i, M, N| {
            for lines in ahead {
                lines.prefetch(l, first + from + i + KEYS, M, dim);
            }
            let out = &mut out[from + i..][..M];
            dots_tile::<L, M, N>(l, lines, (first + from + i, dim), turned, j, out);
        });
        j += 1;
    }
}

#[inline(always)]
fn dots_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    lines: Lines<'_>,
    (first, dim): (usize, usize),
    turned: &[Chunk],
    j0: usize,
    out: &mut [Quad],
) {
    let width = dim.next_multiple_of(LANES);
    let mut rows: [&[f32]; M] = [&[]; M];
    for r in 0..M {
        rows[r] = lines.row(first + r, dim);
    }
    let mut panels: [&[Chunk]; N] = [&[]; N];
    for j in 0..N {
        panels[j] = &turned[(j0 + j) * width..][..dim];
    }
    let zero = [[l.splat(0.0); N]; M];
    let c = tile::chains(l, dim, Across(rows), Panels(panels), zero);
    let out = &mut out[..M];
    each!(i < M => {
        each!(j < N => l.store(&mut out[i][j0 + j], c[i][j]));
    });
}

/// `out[i] = out[i] * factor`, then the chain over the rows from `first` on of their value `i` times their weights, for each
/// query of the vectors that see any.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn mix<L: Lanes>(
    l: L,
    lines: Lines<'_>,
    first: usize,
    dim: usize,
    weights: &[Quad],
    sees: &Sees,
    factor: &Quad,
    out: &mut [Quad],
) {
    let data = &lines.data[first * lines.stride..];
    let mut j = 0;
    while j < VECTORS && sees[j] > 0 {
        let two = L::WIDE && sees[j + 1 - j % 2] > 0;
        tiles!(L, dim, two, |i, M, N| {
            let down = Lines { data: &data[i..], ..lines };
            mix_tile::<L, M, N>(l, down, weights, sees, j, factor, &mut out[i..][..M]);
        });
        j += if two { 2 } else { 1 };
    }
}

/// Vector `j` of the tile goes through as many rows as it sees.
#[inline(always)]
fn mix_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    down: Lines<'_>,
    weights: &[Quad],
    sees: &Sees,
    j0: usize,
    factor: &Quad,
    out: &mut [Quad],
) {
    let out = &mut out[..M];
    let mut c = [[l.splat(0.0); N]; M];
    each!(j < N => {
        let factor = l.load(&factor[j0 + j]);
        each!(i < M => c[i][j] = l.mul(l.load(&out[i][j0 + j]), factor));
    });
    let (mut left, stride) = (down.data, down.stride);
    let (both, last) = weights[..sees[j0 + N - 1]].split_at(sees[j0]);
    for p in 0..both.len() {
        let mut w = [l.splat(0.0); N];
        each!(j < N => w[j] = l.load(&both[p][j0 + j]));
        let row = &left[..M];
        each!(i < M => {
            let x = l.splat(row[i]);
            each!(j < N => c[i][j] = l.mul_add(x, w[j], c[i][j]));
        });
        // The last row may end before the next would begin.
        left = &left[stride.min(left.len())..];
    }
    for p in 0..last.len() {
        let w = l.load(&last[p][j0 + N - 1]);
        let row = &left[..M];
        each!(i < M => c[i][N - 1] = l.mul_add(l.splat(row[i]), w, c[i][N - 1]));
        left = &left[stride.min(left.len())..];
    }
    each!(i < M => {
        each!(j < N => l.store(&mut out[i][j0 + j], c[i][j]));
    });
}

/// Continues the chains of rows `first` on of the block, over the `n` queries that see them: of their weights for that row,
/// times their `rows` of `dim` values. If `fresh`, they begin here.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn gather<L: Lanes>(
    l: L,
    weights: &[Quad],
    sees: &Sees,
    n: usize,
    rows: &[Chunk],
    block: &mut Block<'_>,
    first: usize,
    dim: usize,
    fresh: bool,
) {
    let start = if fresh { Start::Zero } else { Start::Block };
    let columns = dim.div_ceil(LANES);
    let mut c = 0;
    while c < columns {
        let two = L::WIDE && c + 2 <= columns;
        let mut from = 0;
        let mut j = 0;
        // The rows that vector `j` is the first to see.
        while j < VECTORS && sees[j] > 0 {
            let queries = (j * LANES, n);
            tiles!(L, sees[j] - from, two, |i, M, N| {
                let weights = &weights[from + i..][..M];
                gather_tile::<L, M, N>(l, weights, queries, rows, c, block, (first + from + i, dim), start);
            });
            from = sees[j];
            j += 1;
        }
        c += if two { 2 } else { 1 };
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn gather_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    weights: &[Quad],
    (q0, q1): (usize, usize),
    rows: &[Chunk],
    c0: usize,
    block: &mut Block<'_>,
    (first, dim): (usize, usize),
    start: Start<'_>,
) {
    let at = (first, c0 * LANES, (dim - c0 * LANES).min(N * LANES));
    let mut left: [&[f32]; M] = [&[]; M];
    for r in 0..M {
        left[r] = &weights[r].as_flattened()[q0..q1];
    }
    let mut right: [&[Chunk]; N] = [&[]; N];
    for j in 0..N {
        right[j] = &rows[(c0 + j) * QUERIES..][q0..q1];
    }
    let c = tile::load::<L, M, N>(l, block, at, start);
    let c = tile::chains(l, q1 - q0, Across(left), Panels(right), c);
    tile::store::<L, M, N>(l, block, at, c);
}

/// Masks what queries from `query` on do not see of the keys from `key` on: their scores become minus infinity.
#[inline(always)]
pub(super) fn mask<L: Lanes>(l: L, scores: &mut [Quad], key: usize, query: usize, sees: &Sees) {
    let hidden = l.splat(f32::NEG_INFINITY);
    for j in 0..VECTORS {
        let query = query + j * LANES;
        // A key is hidden from the queries before it.
        for r in (query + 1).saturating_sub(key)..sees[j] {
            let before = (key + r - query).min(LANES);
            l.store_part(&mut scores[r][j][..before], hidden);
        }
    }
}

/// How many keys the queries before `query` see, of `keys`.
#[inline(always)]
pub(super) fn seen(causal: bool, query: usize, keys: usize) -> usize {
    if causal { query.min(keys) } else { keys }
}

/// Quads of a query and a key that it sees, for the sizes of work.
pub(super) fn pairs(causal: bool, queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> usize {
    let mut pairs = 0usize;
    for q in queries.clone().step_by(LANES) {
        let end = (q + LANES).min(queries.end);
        let seen = seen(causal, end, keys.end).saturating_sub(keys.start);
        pairs = pairs.saturating_add((end - q).saturating_mul(seen));
    }
    pairs
}
