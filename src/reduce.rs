//! Reductions: sum, dot product, L2 norm, mean and variance, maximum; and the sum of many gradients into one.
//!
//! ```text
//! sum(x) = x[0] + x[1] + ..        dot(x, y) = sum(x * y)        norm(x) = sqrt(sum(x * x))
//! mean = sum(x) / n                variance = sum((x - mean)^2) / n   (of the population, not of a sample)
//! aggregate: dst[i] = scale * (buffer 0[i] + buffer 1[i] + ..)
//! column_sums: sums[c] = (sums[c] +) x[0][c] + x[1][c] + ..
//! ```
//!
//! # Order, and with it bits
//! A block of [`BLOCK`] elements runs, as it were, on four accumulators of sixteen lanes, vector `i` on accumulator `i % 4`;
//! the accumulators and then the lanes are added by halving, in f32. From there on everything is f64: the blocks of a piece
//! of [`PIECE`] elements one after the other, the pieces by a tree that halves their number. The result is rounded to
//! f32 once. So the bits depend on length and data alone, not on tier, threads or thresholds.
//!
//! # Accuracy
//! With u = 2^-24, each bound to be read with one more u of the result, which is rounded to f32:
//!
//! ```text
//! sum    70 u sum(|x|)        dot    70 u sum(|x * y|) + n 2^-149        norm    35 u norm
//! mean   140 u sqrt(variance)                                            variance    140 u variance + 2^-149
//! ```
//!
//! They are those of a block and do not grow with the length (up to 2^40 elements). The variance is found in each block
//! by the corrected two-pass algorithm, and blocks are combined as in Chan, Golub and LeVeque, "Algorithms for Computing
//! the Sample Variance" (1983), so that a mean of 10^4 deviations costs nothing.
//!
//! # Overflow and underflow
//! What a sum of finite numbers passes through does not matter, only what it comes to: a piece whose plain result is not
//! finite, or for the norm so small that squares may have been lost, is summed again scaled by a power of two. So
//! the result is infinite only where the exact one rounds to infinity, and the norm of subnormal numbers is right. This
//! costs such pieces several times their usual time, an all-zero piece of a norm about half as much again.
//!
//! # NaN and infinity
//! A NaN makes every result NaN. Infinities of one sign make [`sum`] that infinity, of both signs NaN; they make
//! [`norm`] infinite, and mean and variance NaN. [`max`] takes them as the numbers they are.

use std::ops::Range;

use crate::error::check_len;
use crate::lanes::{Kernel, dispatch, power_of_two};
use crate::parallel;
use crate::tier::{Active, active};
use crate::tuning;

mod aggregate;
mod columns;
mod largest;
mod moments;
mod sums;

use aggregate::Aggregate;
use columns::Columns;
pub use columns::ROWS_PER_SUM;
use largest::Largest;
use moments::{Moments, Statistics};
use sums::{Dot, Squares, Sum};

/// Elements that are added in f32 lanes: part of the format, as the bits depend on it.
pub const BLOCK: usize = 4096;
/// Elements whose blocks are added one after the other; above, a tree. Part of the format, too.
pub const PIECE: usize = 16 * BLOCK;

/// The sum of `x`; 0 if it is empty. Parallel from [`tuning::REDUCE_PARALLEL`] elements on.
///
/// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for error and NaN
/// behaviour.
pub fn sum(x: &[f32]) -> f32 {
    let active = active();
    let piece = |at: Range<usize>| {
        let x = [&x[at]];
        let kernel = |[x]: [&[f32]; 1]| once(active, Sum { x });
        let plain = kernel(x);
        // 4096 of the largest f32 fit, times 2^-24.
        if plain.is_finite() { plain } else { rescaled(x, DOWN_24, &kernel) / DOWN_24 as f64 }
    };
    pieces(x.len(), 0.0, &piece, &|a, b| a + b) as f32
}

/// The dot product of `x` and `y`; 0 if they are empty. Each product is fused with its addition. Parallel from
/// [`tuning::REDUCE_PARALLEL`] elements on.
///
/// Deterministic, see [`sum`].
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    check_len("dot", "y", y.len(), x.len(), "x");
    let active = active();
    let piece = |at: Range<usize>| {
        let both = [&x[at.clone()], &y[at]];
        let kernel = |[x, y]: [&[f32]; 2]| once(active, Dot { x, y });
        let plain = kernel(both);
        if plain.is_finite() {
            plain
        } else {
            rescaled(both, DOWN_80, &kernel) / (DOWN_80 as f64 * DOWN_80 as f64)
        }
    };
    pieces(x.len(), 0.0, &piece, &|a, b| a + b) as f32
}

/// The L2 norm of `x`, the root of the sum of its squares; 0 if it is empty. Parallel from
/// [`tuning::REDUCE_PARALLEL`] elements on.
///
/// Neither overflows nor underflows on the way, see the [module](self). Deterministic, see [`sum`].
pub fn norm(x: &[f32]) -> f32 {
    sum_of_squares(active(), x, tuning::REDUCE_PARALLEL).sqrt() as f32
}

/// The sum of the squares of `x`, which f64 holds whatever `x` is; infinite or NaN only if an element is.
pub(crate) fn sum_of_squares(active: Active, x: &[f32], threshold: usize) -> f64 {
    let piece = |at: Range<usize>| {
        let x = [&x[at]];
        let kernel = |[x]: [&[f32]; 1]| once(active, Squares { x });
        let plain = kernel(x);
        // From 2^-80 on, what underflow takes from the squares of a piece, 2^-150 each, is nothing.
        if (DOWN_80 as f64..f64::INFINITY).contains(&plain) {
            return plain;
        }
        if plain == 0.0 && all_zero(x[0]) {
            return 0.0;
        }
        // A sum that is too small has no elements of 2^-39 or more: up there, none overflows.
        let factor = if plain < 1.0 { UP_100 } else { DOWN_80 };
        rescaled(x, factor, &kernel) / (factor as f64 * factor as f64)
    };
    pieces_from(x.len(), threshold, 0.0, &piece, &|a, b| a + b)
}

/// Mean and population variance of `x` (the sum of squared deviations is divided by `n`, not by `n - 1`); NaN both if
/// it is empty. Reads `x` from memory once. Parallel from [`tuning::REDUCE_PARALLEL`] elements on.
///
/// Deterministic, see [`sum`].
pub fn mean_var(x: &[f32]) -> MeanVar {
    let active = active();
    let piece = |at: Range<usize>| {
        let x = [&x[at]];
        let plain = once(active, Moments { x: x[0] });
        if plain.is_finite() {
            return plain;
        }
        let mut scaled = Statistics::EMPTY;
        each_rescaled(x, DOWN_80, &mut |[x]| {
            scaled = scaled.join(once(active, Moments { x }));
        });
        scaled.times(1.0 / DOWN_80 as f64)
    };
    let all = pieces(x.len(), Statistics::EMPTY, &piece, &|a, b| a.join(b));
    MeanVar { mean: all.mean() as f32, variance: all.variance() as f32 }
}

/// What [`mean_var`] gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanVar {
    /// The mean.
    pub mean: f32,
    /// The population variance, at least 0.
    pub variance: f32,
}

/// The largest element of `x`, NaN if any is NaN, and minus infinity if it is empty. Exact; 0 is larger than -0. Parallel
/// from [`tuning::REDUCE_PARALLEL`] elements on.
pub fn max(x: &[f32]) -> f32 {
    let active = active();
    let piece = |at: Range<usize>| {
        let x = &x[at];
        let (largest, sum) = dispatch(active, Largest { x });
        // The sum is NaN if an element is, but also for infinities of both signs: then look.
        if sum.is_nan() && x.iter().any(|x| x.is_nan()) {
            f32::NAN
        } else if largest == 0.0 {
            // Which zero the kernel met first depends on where `x` lies.
            let has_zero = |x: &[f32]| x.iter().fold(false, |any, x| any | (x.to_bits() == 0));
            if x.chunks(BLOCK).any(has_zero) { 0.0 } else { -0.0 }
        } else {
            largest
        }
    };
    let larger = |a: f32, b: f32| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else if a > b || (a == b && a.is_sign_positive()) {
            a
        } else {
            b
        }
    };
    pieces(x.len(), f32::NEG_INFINITY, &piece, &larger)
}

/// `dst[i] = scale * sum over k of buffers[k][i]`, in one pass over all buffers: the gradients of several workers, or of
/// several micro-batches, into one. `dst` is overwritten; a buffer may be given twice. Parallel from
/// [`tuning::REDUCE_PARALLEL`] elements (of all buffers together) on.
///
/// The buffers are added by a tree that their number alone decides, `T(k) = T(p) + T(k - p)` in their order with `p` the
/// largest power of two below `k`; beyond 1024 buffers, the sums of each 1024 one after the other. An element's error is at
/// most `(l + 1) u |scale| sum over k of |buffers[k][i]|`, u = 2^-24, where `l` is `log2(k)` rounded up, or 10 and one more
/// for each further 1024 buffers. Overflow and underflow, NaN and infinity are those of these additions.
/// Deterministic: the same bits on every tier, for every thread count and cut.
///
/// # Panics
/// If there is no buffer, or one's length is not that of `dst`.
#[track_caller]
pub fn aggregate(dst: &mut [f32], buffers: &[&[f32]], scale: f32) {
    assert!(!buffers.is_empty(), "aggregate: there are no buffers, at least one is needed");
    for buffer in buffers {
        check_len("aggregate", "a buffer", buffer.len(), dst.len(), "dst");
    }
    let work = Aggregate { active: active(), scale, first: 0, dst, buffers };
    parallel::run(work, tuning::REDUCE_PARALLEL, tuning::REDUCE_PIECE);
}

/// The sums of the columns of `x` (`[rows][cols]`) into `sums` (`[cols]`): a linear layer's bias gradient from that of its
/// output. With `accumulate` they are added to what `sums` holds, else they overwrite it, and not even a NaN in it matters.
/// Parallel over columns from [`tuning::COLUMN_SUMS_PARALLEL`] values on; no columns are no values.
///
/// Order: the values of [`ROWS_PER_SUM`] rows one after the other, from 0 (or from what `sums` holds) on; the sums of such
/// chunks of rows by a tree of neighbours, pairs, fours and so on. So a column's bits depend on its values alone, not on the
/// other columns, tier, threads or thresholds. The error is at most
/// `(min(rows, 256) + ceil(log2(rows / 256))) u sum(|x|)` with u = 2^-24, the sum over the column and what it is added to.
///
/// A NaN makes its column's sum NaN, as infinities of both signs do; a sum beyond f32's range on the way is infinite. The
/// order is pairwise summation with a base case of 256 (Higham, "The Accuracy of Floating Point Summation", 1993).
///
/// # Panics
/// If `x` is not whole rows of as many values as `sums` has.
#[track_caller]
pub fn column_sums(x: &[f32], sums: &mut [f32], accumulate: bool) {
    let cols = sums.len();
    assert!(
        if cols == 0 { x.is_empty() } else { x.len().is_multiple_of(cols) },
        "column sums: x has {} values, which are not whole rows of {cols}",
        x.len()
    );
    if cols > 0 {
        let work = Columns { active: active(), x, cols, first: 0, accumulate, sums };
        columns::SHARES.run(work, tuning::COLUMN_SUMS_PARALLEL);
    }
}

/// Powers of two that keep a block's sum within f32: of values, and of squares and products.
const DOWN_24: f32 = power_of_two(-24);
const DOWN_80: f32 = power_of_two(-80);
const UP_100: f32 = power_of_two(100);

/// Combines the results of the pieces of `n` elements.
fn pieces<T: Send>(
    n: usize,
    empty: T,
    piece: &(impl Fn(Range<usize>) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
) -> T {
    pieces_from(n, tuning::REDUCE_PARALLEL, empty, piece, join)
}

fn pieces_from<T: Send>(
    n: usize,
    threshold: usize,
    empty: T,
    piece: &(impl Fn(Range<usize>) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
) -> T {
    if n == 0 {
        return empty;
    }
    let one = |i: Range<usize>| piece(i.start * PIECE..n.min(i.end * PIECE));
    // Of whole pieces, which may be more than there are elements.
    let threshold = if n < threshold { usize::MAX } else { threshold };
    let size = |range: &Range<usize>| range.len() * PIECE;
    parallel::reduce(0..n.div_ceil(PIECE), threshold, tuning::REDUCE_PIECE, &size, &one, join)
}

/// A piece's sum once more, of its values times `factor`.
#[cold]
#[inline(never)]
fn rescaled<const N: usize>(x: [&[f32]; N], factor: f32, kernel: &impl Fn([&[f32]; N]) -> f64) -> f64 {
    let mut total = 0.0;
    each_rescaled(x, factor, &mut |x| total += kernel(x));
    total
}

/// Calls `f` with each block of `x`, its values times `factor`.
fn each_rescaled<const N: usize>(x: [&[f32]; N], factor: f32, f: &mut impl FnMut([&[f32]; N])) {
    let mut buffer = [[0.0; BLOCK]; N];
    let mut at = 0;
    while at < x[0].len() {
        let n = BLOCK.min(x[0].len() - at);
        for (to, from) in buffer.iter_mut().zip(x) {
            for (to, from) in to.iter_mut().zip(&from[at..at + n]) {
                *to = from * factor;
            }
        }
        f(buffer.each_ref().map(|b| &b[..n]));
        at += n;
    }
}

/// Whether every element is a zero of either sign.
#[cold]
fn all_zero(x: &[f32]) -> bool {
    x.iter().fold(0, |bits, x| bits | x.to_bits() << 1) == 0
}

/// [`dispatch`] in one place for each kernel, however often the code around it is instantiated: the gate wants one copy.
#[inline(never)]
fn once<K: Kernel>(active: Active, kernel: K) -> K::Output {
    dispatch(active, kernel)
}
