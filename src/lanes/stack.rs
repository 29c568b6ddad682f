//! Room on the stack for packed operands, which is not cleared before it is used.

use core::mem::MaybeUninit;

use super::{Chunk, LANES, Lanes};

/// Up to `N` vectors' worth of values, written one after the other; aligned to a cache line.
#[repr(C, align(64))]
pub(crate) struct Stack<const N: usize> {
    // Invariant: the first `len` values were written.
    values: [MaybeUninit<Chunk>; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    /// Without any values.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Stack { values: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    /// Forgets all values.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The values that were pushed.
    #[inline(always)]
    pub(crate) fn values(&self) -> &[f32] {
        // SAFETY: the first `len` values were written, by the invariant of `Stack`.
        unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), self.len) }
    }

    /// The values that were pushed, by whole vectors.
    #[inline(always)]
    pub(crate) fn vectors(&self) -> &[Chunk] {
        self.values().as_chunks().0
    }

    /// Adds a vector, where there are whole vectors only.
    ///
    /// # Panics
    /// If there is no room.
    #[inline(always)]
    pub(crate) fn push_vector<L: Lanes>(&mut self, l: L, v: L::F) {
        debug_assert!(self.len.is_multiple_of(LANES), "whole vectors only");
        let at = self.len / LANES;
        // The zeros are overwritten at once, and the compiler knows.
        l.store(self.values[at].write([0.0; LANES]), v);
        // Up to the end of this vector all values were written, also if they were no whole vectors before.
        self.len = (at + 1) * LANES;
    }

    /// Adds `M` values.
    ///
    /// # Panics
    /// If there is no room.
    #[inline(always)]
    pub(crate) fn push<const M: usize>(&mut self, values: &[f32; M]) {
        assert!(self.len + M <= N * LANES, "{} values and {M} more do not fit {N} vectors", self.len);
        // SAFETY: `len + M` values fit, as was just checked; the array is read from elsewhere, since `self` is borrowed
        // exclusively.
        unsafe { self.values.as_mut_ptr().cast::<f32>().add(self.len).cast::<[f32; M]>().write(*values) }
        self.len += M;
    }
}
