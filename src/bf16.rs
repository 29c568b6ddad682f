//! bf16: the upper half of an `f32`, kept as its bits in a `u16`.
//!
//! A bf16 has the sign and the eight exponent bits of an `f32` and seven bits of its fraction, so that `bits << 16` are the
//! bits of the same value in `f32`. Crates that have a type of their own for it lay it out as a `u16`: `half::bf16` as slices
//! by `half::slice::HalfFloatSliceExt::reinterpret_cast`, others by `to_bits` and `from_bits`.
//!
//! Two ways lead from `f32`. [`from_f32`] rounds: to the nearest bf16, ties to even, as PyTorch and the CPUs' own
//! instructions do. [`split`] keeps everything: the nearest bf16, ties away from zero, and the lower 16 bits of the `f32`,
//! from which [`join`] makes the `f32` again; that is what an optimizer keeps for parameters that are used in bf16
//! ([`AdamWStep::update_bf16`](crate::adamw::AdamWStep::update_bf16)). Ties go away from zero there because to even they
//! could not be undone: an even bf16 would then stand for 65,537 values and an odd one for 65,535.
//!
//! ```text
//! high = (bits + 0x8000) >> 16        low = bits mod 2^16        bits = (high << 16) + low - (2^16 where low >= 2^15)
//! ```
//!
//! # Accuracy
//! To bf16: off by at most half a unit in the last place, 2^-9 of the value or 2^-134 where it is denormal, which is kept;
//! beyond the largest bf16 by more than half of its last place (for [`split`], by half) comes infinity. Back, and through
//! [`split`] and [`join`]: exact.
//!
//! # NaN
//! Each NaN becomes the one 0x7FC0; [`split`] gives it a low half of 0, so that of a NaN [`join`] finds that it was one.
//! [`to_f32`] keeps a NaN's bits.
//!
//! Elementwise, on the calling thread, with the same bits on every tier.

use crate::error::check_len;
use crate::lanes::dispatch;
use crate::tier::active;

mod kernel;

use kernel::{Join, Narrow, Split, Widen};
pub(crate) use kernel::{joined, split_of};

/// `dst[i]` is the bf16 nearest to `src[i]`, ties to even.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn from_f32(src: &[f32], dst: &mut [u16]) {
    check_len("bf16 from f32", "dst", dst.len(), src.len(), "src");
    dispatch(active(), Narrow { src, dst });
}

/// `dst[i]` is the bf16 `src[i]`.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn to_f32(src: &[u16], dst: &mut [f32]) {
    check_len("bf16 to f32", "dst", dst.len(), src.len(), "src");
    dispatch(active(), Widen { src, dst });
}

/// Cuts each `src[i]` into the bf16 nearest to it, ties away from zero, and the 16 bits that that lacks.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn split(src: &[f32], high: &mut [u16], low: &mut [u16]) {
    check_len("bf16 split", "high", high.len(), src.len(), "src");
    check_len("bf16 split", "low", low.len(), src.len(), "src");
    dispatch(active(), Split { src, high, low });
}

/// What [`split`] cut: `dst[i]` has the bits that it had, but for those of a NaN.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn join(high: &[u16], low: &[u16], dst: &mut [f32]) {
    check_len("bf16 join", "high", high.len(), dst.len(), "dst");
    check_len("bf16 join", "low", low.len(), dst.len(), "dst");
    dispatch(active(), Join { high, low, dst });
}
