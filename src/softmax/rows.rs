//! The passes over a row that softmax and cross-entropy share. The order of every sum is fixed here.
//!
//! A row is quads of vectors, up to three whole vectors, and a rest of fewer than sixteen values. A sum over it adds the
//! quads, four vectors to one, one after the other, in blocks of 64 quads (4096 values); then the last four vectors as
//! one more quad, in which those that are not there are zero.

use crate::lanes::{Chunk, LANES, Lanes};
use crate::math::exp_flush;

/// Four vectors.
pub(crate) type Quad = [Chunk; 4];

/// Quads that are summed before the block is added to the total.
pub(crate) const BLOCK: usize = 64;

/// Exponentials are only summed.
pub(crate) const SUM: u8 = 0;
/// Exponentials of `x` are written to `y`.
pub(crate) const WRITE: u8 = 1;
/// Exponentials of `y` are written over it.
pub(crate) const IN_PLACE: u8 = 2;

/// How many vectors ahead a kernel asks for its data that takes `rows` rows together: in the next rows, or in this one if it
/// is longer than that the nearest cache can hold both.
#[inline(always)]
pub(crate) fn ahead(rows: usize, features: usize) -> usize {
    (rows * features / LANES).min(256)
}

/// A row to read.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) quads: &'a [Quad],
    pub(crate) whole: &'a [Chunk],
    pub(crate) rest: &'a [f32],
}

impl<'a> Row<'a> {
    #[inline(always)]
    pub(crate) fn new(values: &'a [f32]) -> Self {
        let (vectors, rest) = values.as_chunks();
        let (quads, whole) = vectors.as_chunks();
        Row { quads, whole, rest }
    }

    #[inline(always)]
    pub(crate) fn of(matrix: &'a [f32], row: usize, features: usize) -> Self {
        Row::new(&matrix[row * features..][..features])
    }
}

/// A row to write.
pub(crate) struct RowMut<'a> {
    pub(crate) quads: &'a mut [Quad],
    pub(crate) whole: &'a mut [Chunk],
    pub(crate) rest: &'a mut [f32],
}

impl<'a> RowMut<'a> {
    #[inline(always)]
    pub(crate) fn of(matrix: &'a mut [f32], row: usize, features: usize) -> Self {
        let (vectors, rest) = matrix[row * features..][..features].as_chunks_mut();
        let (quads, whole) = vectors.as_chunks_mut();
        RowMut { quads, whole, rest }
    }
}

/// The largest value that falls into each lane; a NaN is passed over.
#[inline(always)]
pub(crate) fn max_row<L: Lanes>(l: L, x: Row<'_>) -> L::F {
    let low = l.splat(f32::NEG_INFINITY);
    let mut max = [low; 4];
    for quad in x.quads {
        for k in 0..4 {
            max[k] = l.max(l.load(&quad[k]), max[k]);
        }
    }
    for k in 0..3 {
        if k < x.whole.len() {
            max[k] = l.max(l.load(&x.whole[k]), max[k]);
        }
    }
    if !x.rest.is_empty() {
        max[3] = l.max(l.load_part(x.rest, low), max[3]);
    }
    l.max(l.max(max[0], max[1]), l.max(max[2], max[3]))
}

/// `e^(x - max)` of a row, written as `MODE` says, and its sums by lanes: of the exponentials, and if `CENTRED` also of
/// `x - max`. Asks for the vectors that lie `ahead`.
#[inline(always)]
pub(crate) fn exp_row<L: Lanes, const MODE: u8, const CENTRED: bool>(
    l: L,
    x: Row<'_>,
    y: RowMut<'_>,
    max: f32,
    ahead: usize,
) -> [L::F; 2] {
    let (max, zero) = (l.splat(max), l.splat(0.0));
    let mut total = [zero; 2];
    let quads = if MODE == IN_PLACE { y.quads.len() } else { x.quads.len() };
    let from: &[Quad] = if MODE == IN_PLACE { &[] } else { &x.quads[..quads] };
    let to: &mut [Quad] = if MODE == SUM { &mut [] } else { &mut y.quads[..quads] };
    let mut i = 0;
    while i < quads {
        let end = quads.min(i + BLOCK);
        let mut sums = [zero; 2];
        while i < end {
            for k in 0..4 {
                if MODE != IN_PLACE {
                    l.prefetch(from.as_flattened(), 4 * i + k + ahead);
                }
                if MODE != SUM {
                    l.prefetch(to.as_flattened(), 4 * i + k + ahead);
                }
            }
            let (mut d, mut e) = ([zero; 4], [zero; 4]);
            if L::WIDE {
                for k in 0..4 {
                    let value = if MODE == IN_PLACE { &to[i][k] } else { &from[i][k] };
                    d[k] = l.sub(l.load(value), max);
                }
                e = exp_flush(l, d);
                for k in 0..4 {
                    if MODE != SUM {
                        l.store(&mut to[i][k], e[k]);
                    }
                }
            } else {
                for k in 0..4 {
                    let value = if MODE == IN_PLACE { &to[i][k] } else { &from[i][k] };
                    d[k] = l.sub(l.load(value), max);
                    [e[k]] = exp_flush(l, [d[k]]);
                    if MODE != SUM {
                        l.store(&mut to[i][k], e[k]);
                    }
                }
            }
            sums[0] = l.add(sums[0], four(l, &e));
            if CENTRED {
                sums[1] = l.add(sums[1], four(l, &d));
            }
            i += 1;
        }
        total[0] = l.add(total[0], sums[0]);
        total[1] = l.add(total[1], sums[1]);
    }

    let (mut d, mut e) = ([zero; 4], [zero; 4]);
    let whole = if MODE == IN_PLACE { y.whole.len() } else { x.whole.len() };
    for k in 0..3 {
        if k < whole {
            let value = if MODE == IN_PLACE { &y.whole[k] } else { &x.whole[k] };
            d[k] = l.sub(l.load(value), max);
            [e[k]] = exp_flush(l, [d[k]]);
            if MODE != SUM {
                l.store(&mut y.whole[k], e[k]);
            }
        }
    }
    let rest: &[f32] = if MODE == IN_PLACE { y.rest } else { x.rest };
    if !rest.is_empty() {
        // An unused lane is at the maximum where it is to add zero itself, infinitely far below where its exponential is.
        if CENTRED {
            d[3] = l.sub(l.load_part(rest, max), max);
        }
        let below = l.sub(l.load_part(rest, l.splat(f32::NEG_INFINITY)), max);
        [e[3]] = exp_flush(l, [below]);
        if MODE != SUM {
            l.store_part(y.rest, e[3]);
        }
    }
    total[0] = l.add(total[0], four(l, &e));
    if CENTRED {
        total[1] = l.add(total[1], four(l, &d));
    }
    total
}

/// The sum of four vectors.
#[inline(always)]
pub(crate) fn four<L: Lanes>(l: L, v: &[L::F; 4]) -> L::F {
    l.add(l.add(v[0], v[1]), l.add(v[2], v[3]))
}

/// The sum of the lanes of each vector; of sixteen by one transposition, with the same bits.
#[inline(always)]
pub(crate) fn sums<L: Lanes, const R: usize>(l: L, v: &[L::F; R]) -> [f32; R] {
    let mut out = [0.0; R];
    if let (Ok(v), Ok(out)) = (<&[L::F; LANES]>::try_from(&v[..]), <&mut Chunk>::try_from(&mut out[..])) {
        l.store(out, l.sum16(v));
    } else {
        for r in 0..R {
            out[r] = l.sum(v[r]);
        }
    }
    out
}

/// The largest lane of each vector, none of which is NaN. A zero is always the positive one, so the order does not matter.
#[inline(always)]
pub(crate) fn largest<L: Lanes, const R: usize>(l: L, v: &[L::F; R]) -> [f32; R] {
    let mut out = [0.0; R];
    if let (Ok(v), Ok(out)) = (<&[L::F; LANES]>::try_from(&v[..]), <&mut Chunk>::try_from(&mut out[..])) {
        let mut t = *v;
        l.transpose(&mut t);
        for i in 0..8 {
            t[i] = l.max(t[i], t[i + 8]);
        }
        for i in 0..4 {
            t[i] = l.max(t[i], t[i + 4]);
        }
        let max = l.max(l.max(t[0], t[1]), l.max(t[2], t[3]));
        l.store(out, l.add(max, l.splat(0.0)));
    } else {
        for r in 0..R {
            let mut lanes: Chunk = [0.0; LANES];
            l.store(&mut lanes, v[r]);
            let mut step = LANES / 2;
            while step > 0 {
                for i in 0..step {
                    lanes[i] = if lanes[i] > lanes[i + step] { lanes[i] } else { lanes[i + step] };
                }
                step /= 2;
            }
            out[r] = lanes[0] + 0.0;
        }
    }
    out
}
