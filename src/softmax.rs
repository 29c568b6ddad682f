//! Softmax and log-softmax over rows, forward and backward.
//!
//! For a row `x` of `n` features, with `m = max(x)` and `s = sum(e^(x - m))`:
//!
//! ```text
//! softmax      y = e^(x - m) / s              dx = y * (dy - sum(dy * y))
//! log_softmax  y = (x - m) - ln(s)            dx = dy - e^y * sum(dy)
//! ```
//!
//! Subtracting the maximum keeps every exponential at most 1 and the sum at least 1: nothing overflows, whatever the
//! logits are. The division is one correctly rounded reciprocal of `s` for each row, and a product.
//!
//! # Accuracy
//! With u = 2^-24, `l = min(n, 4096) / 64 + n / 4096 + 9` the roundings of a sum of `n` terms, and d = |x - m|, which is
//! rounded before its exponential is taken:
//!
//! ```text
//! softmax      y    u (d + ln n + l) y + 2^-126          log_softmax   y    u (d + 3 |y| + ln n + l)
//!              dx   u |y| (2 |dy| + 2 |t| + (l + 1) sum |dy * y|) + 2^-149      with t = sum(dy * y)
//! log          dx   u (2 |dy| + e^y ((l + 1) sum |dy| + 2 |sum(dy)|)) + 2^-126 |sum(dy)|
//! ```
//!
//! An exponential below 2^-126.5 is taken as zero: denormals would cost a hundred cycles each, and masked logits are all of
//! that kind. The backward's bounds are against exact arithmetic on the `y` that it is given.
//!
//! # Bits
//! A sum over a row runs on sixteen lanes, four vectors to one, in blocks of 4096 features that are added one after the
//! other. So results depend on a row alone, not on the rows beside it, tier, threads or how the work was cut.
//!
//! # NaN and infinity
//! A NaN or a positive infinity in a row makes all of it NaN, and so does a row of nothing but negative infinities (as in
//! PyTorch). Beside a number a negative infinity has probability 0, and logarithm minus infinity.

use crate::error::check_len;
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod backward;
mod forward;
pub(crate) mod rows;

use backward::Backward;
use forward::{Forward, LOG, OVER, SOFTMAX};

/// The softmax of each row of `x` (`[rows][features]`), into `y`. Parallel from [`tuning::SOFTMAX_PARALLEL`] elements on.
///
/// # Panics
/// If `features` is 0, `x` is not whole rows or `y` not as long.
#[track_caller]
pub fn softmax(x: &[f32], features: usize, y: &mut [f32]) {
    check_rows("softmax", "x", x.len(), features);
    check_len("softmax", "y", y.len(), x.len(), "x");
    let work = Forward::<SOFTMAX> { active: active(), features, x, y };
    parallel::run(work, tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
}

/// [`softmax`] with the result over its input, with the same bits.
///
/// # Panics
/// If `features` is 0 or `x` is not whole rows.
#[track_caller]
pub fn softmax_in_place(x: &mut [f32], features: usize) {
    check_rows("softmax in place", "x", x.len(), features);
    let work = Forward::<OVER> { active: active(), features, x: &[], y: x };
    parallel::run(work, tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
}

/// The logarithm of the softmax of each row of `x` (`[rows][features]`), into `y`. Parallel from
/// [`tuning::SOFTMAX_PARALLEL`] elements on.
///
/// # Panics
/// If `features` is 0, `x` is not whole rows or `y` not as long.
#[track_caller]
pub fn log_softmax(x: &[f32], features: usize, y: &mut [f32]) {
    check_rows("log softmax", "x", x.len(), features);
    check_len("log softmax", "y", y.len(), x.len(), "x");
    let work = Forward::<LOG> { active: active(), features, x, y };
    parallel::run(work, tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
}

/// The gradient of [`softmax`]'s input, `dx`, from `dy`, that of its output, and the output `y` itself (all
/// `[rows][features]`). Parallel from [`tuning::SOFTMAX_PARALLEL`] elements on.
///
/// # Panics
/// If `features` is 0, `y` is not whole rows, or `dy` or `dx` not as long.
#[track_caller]
pub fn softmax_backward(dy: &[f32], y: &[f32], features: usize, dx: &mut [f32]) {
    check_rows("softmax backward", "y", y.len(), features);
    check_len("softmax backward", "dy", dy.len(), y.len(), "y");
    check_len("softmax backward", "dx", dx.len(), y.len(), "y");
    let work = Backward::<false> { active: active(), features, dy, y, dx };
    parallel::run(work, tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
}

/// The gradient of [`log_softmax`]'s input, as [`softmax_backward`]; here `y` are logarithms.
///
/// # Panics
/// If `features` is 0, `y` is not whole rows, or `dy` or `dx` not as long.
#[track_caller]
pub fn log_softmax_backward(dy: &[f32], y: &[f32], features: usize, dx: &mut [f32]) {
    check_rows("log softmax backward", "y", y.len(), features);
    check_len("log softmax backward", "dy", dy.len(), y.len(), "y");
    check_len("log softmax backward", "dx", dx.len(), y.len(), "y");
    let work = Backward::<true> { active: active(), features, dy, y, dx };
    parallel::run(work, tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
}

#[track_caller]
fn check_rows(kernel: &str, name: &str, len: usize, features: usize) {
    assert!(features > 0, "{kernel}: a row must have at least 1 feature");
    assert!(
        len.is_multiple_of(features),
        "{kernel}: {name} has {len} values, which are not whole rows of {features}"
    );
}

/// Where to cut `rows` in two: near the middle, and where sixteen rows that are taken together end, if there are as many.
pub(crate) fn half(rows: usize) -> Option<usize> {
    match rows {
        0 | 1 => None,
        2..32 => Some(rows / 2),
        _ => Some(rows / 2 / 16 * 16),
    }
}
