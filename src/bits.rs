//! Zeros and ones as bits: the planes of a board, masks.
//!
//! ```text
//! value i = bit i % 8 of byte i / 8, the lowest first
//! ```
//!
//! Bits beyond the last value are written as 0 and not read.
//!
//! # Accuracy
//! Exact: what [`pack_f32`] took [`unpack_f32`] gives back bit for bit. Only +0 and 1 have a bit, so -0 is refused, as
//! is each NaN.
//!
//! On the calling thread, with the same bits on every tier.

use crate::error::check_len;
use crate::lanes::dispatch;
use crate::tier::active;

mod kernel;

use kernel::{Pack, UnpackF32};

/// `out[i]` is 1 where bit `i` is set, else +0.
///
/// # Panics
/// If there are not `out.len()` bits, rounded up to whole bytes.
#[track_caller]
pub fn unpack_f32(bits: &[u8], out: &mut [f32]) {
    check_len("bits unpack f32", "bits", bits.len(), out.len().div_ceil(8), "out");
    dispatch(active(), UnpackF32 { bits, out });
}

/// Sets bit `i` where `values[i]` is 1, and clears it elsewhere. Whether all the others are +0: only then nothing is
/// lost.
///
/// # Panics
/// If there are not `values.len()` bits, rounded up to whole bytes.
#[track_caller]
#[must_use = "values that are neither 0 nor 1 are lost"]
pub fn pack_f32(values: &[f32], bits: &mut [u8]) -> bool {
    check_len("bits pack f32", "bits", bits.len(), values.len().div_ceil(8), "values");
    dispatch(active(), Pack { values, bits })
}
