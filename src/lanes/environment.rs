//! The floating-point environment of a thread: every promise about bits assumes the default one.
//!
//! A library that was built with fast-math may set another when it is loaded. Asked by arithmetic, which is the same on
//! every architecture, instead of by MXCSR or FPCR.

use core::hint::black_box;

/// What this thread has set that changes bits: `None` in the default environment.
#[inline(never)]
pub(crate) fn altered() -> Option<&'static str> {
    // Compared as bits: to a CPU that takes subnormal numbers for zero they are equal to it.
    let flushed = (black_box(f32::MIN_POSITIVE) * black_box(0.5)).to_bits() == 0;
    let zeroed = (black_box(f32::from_bits(1)) * black_box(1e30)).to_bits() == 0;
    // Less than half of the distance to the next number, from 1 and from -1.
    let (one, little) = (black_box(1.0f32), black_box(f32::EPSILON / 16.0));
    let (above, below, beyond) = (one + little > one, one - little < one, -one - little < -one);
    match (flushed, zeroed, above, beyond, below) {
        (_, _, true, _, _) => Some("rounding towards positive infinity"),
        (_, _, _, true, _) => Some("rounding towards negative infinity"),
        (_, _, _, _, true) => Some("rounding towards zero"),
        (true, true, ..) => Some("flush-to-zero and denormals-are-zero"),
        (true, ..) => Some("flush-to-zero"),
        (_, true, ..) => Some("denormals-are-zero"),
        _ => None,
    }
}

/// In a debug build, panics where this thread's environment is not the default one.
#[inline(always)]
pub(crate) fn debug_check() {
    #[cfg(debug_assertions)]
    if let Err(e) = crate::tier::check_environment() {
        panic!("{e}");
    }
}
