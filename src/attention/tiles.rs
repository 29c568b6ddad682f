//! What forward and backward share: blocks of queries in the lanes, and the products with them.

use crate::lanes::{Block, Chunk, LANES, Lanes};
use crate::matmul::tile::{self, Across, Down, Panels, Plain, Start, each};

/// Queries that are taken together: two vectors.
pub(super) const QUERIES: usize = 2 * LANES;
/// Keys that are taken together.
pub(super) const KEYS: usize = 64;
/// The largest head.
pub(super) const MAX_DIM: usize = 128;
/// Vectors that a block of queries takes, turned.
pub(super) const TURNED: usize = 2 * MAX_DIM;

/// A value for each query of a block.
pub(super) type Pair = [Chunk; 2];

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
}

/// How many rows the next tile has, if so many are left; see `matmul`'s. Two tiles of eight rather than one of twelve and
/// one of four, which would wait for its sums.
#[inline(always)]
fn tile_rows<L: Lanes>(left: usize) -> usize {
    match left {
        16 if L::WIDE => 8,
        12.. if L::WIDE => 12,
        8.. if L::WIDE => 8,
        6.. if !L::WIDE => 6,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Goes through `$n` rows in tiles: `$body` for each, from row `$i`, of `$m` rows.
macro_rules! tiles {
    ($l:ident, $n:expr, |$i:ident, $m:ident| $body:block) => {
        let n = $n;
        let mut $i = 0;
        while $i < n {
            $i += match tile_rows::<$l>(n - $i) {
                12 => tiles!(12, $m, $body),
                8 => tiles!(8, $m, $body),
                6 => tiles!(6, $m, $body),
                4 => tiles!(4, $m, $body),
                2 => tiles!(2, $m, $body),
                _ => tiles!(1, $m, $body),
            };
        }
    };
    ($value:literal, $m:ident, $body:block) => {{
        const $m: usize = $value;
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
            for i in 0..LANES {
                let at = j * LANES + i;
                if at < n {
                    v[i] = l.mul(load(l, &lines.row(first + at, dim)[c * LANES..][..width]), factor);
                    if !rows.is_empty() {
                        l.store(&mut rows[at * columns + c], v[i]);
                    }
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
    turned: &[Pair],
    factor: &Pair,
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
            for i in 0..LANES {
                let at = j * LANES + i;
                if at < n {
                    store(l, &mut block.row(first + at)[c * LANES..][..width], v[i]);
                }
            }
        }
    }
}

/// The next keys that are taken together, of those from `key` to `end`: how many, and the first vector of queries that sees
/// any of them, of `count`. Keys at the diagonal's end are for the second one alone.
#[inline(always)]
pub(super) fn next_keys(
    causal: bool,
    (query, count): (usize, usize),
    (key, end): (usize, usize),
) -> (usize, usize) {
    let (n, half) = ((end - key).min(KEYS), query + LANES);
    if !causal || count < 2 {
        (n, 0)
    } else if key < half {
        (n.min(half - key), 0)
    } else {
        (n, 1)
    }
}

/// The products of `n` rows, from `first` on, with each query of the vectors from `j0` to `j1`: `out[row]`.
#[inline(always)]
pub(super) fn dots<L: Lanes>(
    l: L,
    lines: Lines<'_>,
    (first, n): (usize, usize),
    dim: usize,
    turned: &[Chunk],
    (j0, j1): (usize, usize),
    out: &mut [Pair],
) {
    tiles!(L, n, |i, M| {
        let at = (first + i, dim);
        let out = &mut out[i..][..M];
        if L::WIDE && j1 - j0 == 2 {
            dots_tile::<L, M, 2>(l, lines, at, turned, 0, out);
        } else {
            for j in j0..j1 {
                dots_tile::<L, M, 1>(l, lines, at, turned, j, out);
            }
        }
    });
}

#[inline(always)]
fn dots_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    lines: Lines<'_>,
    (first, dim): (usize, usize),
    turned: &[Chunk],
    j0: usize,
    out: &mut [Pair],
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

/// `out[i] = out[i] * factor`, then the chain over `n` rows of their value `i` times their weights, for each query of the
/// vectors from `j0` to `j1`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn mix<L: Lanes>(
    l: L,
    lines: Lines<'_>,
    (first, n): (usize, usize),
    dim: usize,
    weights: &[Pair],
    (j0, j1): (usize, usize),
    factor: &Pair,
    out: &mut [Pair],
) {
    let weights = &weights[..n];
    let lines = Lines { data: &lines.data[first * lines.stride..], ..lines };
    tiles!(L, dim, |i, M| {
        let out = &mut out[i..][..M];
        let down = Down { data: &lines.data[i..], stride: lines.stride };
        if L::WIDE && j1 - j0 == 2 {
            mix_tile::<L, M, 2>(l, down, weights, 0, factor, out);
        } else {
            for j in j0..j1 {
                mix_tile::<L, M, 1>(l, down, weights, j, factor, out);
            }
        }
    });
}

#[inline(always)]
fn mix_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    down: Down<'_>,
    weights: &[Pair],
    j0: usize,
    factor: &Pair,
    out: &mut [Pair],
) {
    let out = &mut out[..M];
    let mut c = [[l.splat(0.0); N]; M];
    each!(j < N => {
        let factor = l.load(&factor[j0 + j]);
        each!(i < M => c[i][j] = l.mul(l.load(&out[i][j0 + j]), factor));
    });
    let right = Plain { data: &weights.as_flattened().as_flattened()[j0 * LANES..], stride: QUERIES };
    let c = tile::chains(l, weights.len(), down, right, c);
    each!(i < M => {
        each!(j < N => l.store(&mut out[i][j0 + j], c[i][j]));
    });
}

/// Continues the chains of rows `first` on of the block, over the queries from `q0` to `q1`: of their weights for that row,
/// times their `rows` of `dim` values.
#[inline(always)]
pub(super) fn gather<L: Lanes>(
    l: L,
    weights: &[Pair],
    (q0, q1): (usize, usize),
    rows: &[Chunk],
    block: &mut Block<'_>,
    first: usize,
    dim: usize,
) {
    let columns = dim.div_ceil(LANES);
    let rows = &rows[q0 * columns..];
    let mut c = 0;
    while c < columns {
        let two = L::WIDE && c + 2 <= columns;
        tiles!(L, weights.len(), |i, M| {
            let weights = &weights[i..][..M];
            if two {
                gather_tile::<L, M, 2>(l, weights, (q0, q1), rows, c, block, (first + i, dim));
            } else {
                gather_tile::<L, M, 1>(l, weights, (q0, q1), rows, c, block, (first + i, dim));
            }
        });
        c += if two { 2 } else { 1 };
    }
}

#[inline(always)]
fn gather_tile<L: Lanes, const M: usize, const N: usize>(
    l: L,
    weights: &[Pair],
    (q0, q1): (usize, usize),
    rows: &[Chunk],
    c0: usize,
    block: &mut Block<'_>,
    (first, dim): (usize, usize),
) {
    let at = (first, c0 * LANES, (dim - c0 * LANES).min(N * LANES));
    let mut left: [&[f32]; M] = [&[]; M];
    for r in 0..M {
        left[r] = &weights[r].as_flattened()[q0..q1];
    }
    let right = Plain { data: rows[c0..].as_flattened(), stride: dim.next_multiple_of(LANES) };
    let c = tile::load::<L, M, N>(l, block, at, Start::Block);
    let c = tile::chains(l, q1 - q0, Across(left), right, c);
    tile::store::<L, M, N>(l, block, at, c);
}

/// Masks what queries from `query` on do not see of the keys from `key` on: their scores become minus infinity.
#[inline(always)]
pub(super) fn mask<L: Lanes>(l: L, scores: &mut [Pair], key: usize, query: usize, j0: usize) {
    const LANE: Chunk = {
        let mut lane = [0.0; LANES];
        let mut i = 0;
        while i < LANES {
            lane[i] = i as f32;
            i += 1;
        }
        lane
    };
    let (lane, hidden) = (l.load(&LANE), l.splat(f32::NEG_INFINITY));
    for j in j0..2 {
        let query = query + j * LANES;
        // A key is hidden from the queries before it.
        let mut r = (query + 1).saturating_sub(key);
        while r < scores.len() {
            let before = l.gt(l.splat((key + r - query) as f32), lane);
            let score = l.load(&scores[r][j]);
            l.store(&mut scores[r][j], l.select(before, hidden, score));
            r += 1;
        }
    }
}

/// How many keys the queries before `query` see, of `keys`.
#[inline(always)]
pub(super) fn seen(causal: bool, query: usize, keys: usize) -> usize {
    if causal { query.min(keys) } else { keys }
}

/// Pairs of a query and a key that it sees, for the sizes of work.
pub(super) fn pairs(causal: bool, queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> usize {
    let mut pairs = 0usize;
    for q in queries.clone().step_by(QUERIES) {
        let end = (q + QUERIES).min(queries.end);
        let seen = seen(causal, end, keys.end).saturating_sub(keys.start);
        pairs = pairs.saturating_add((end - q).saturating_mul(seen));
    }
    pairs
}
