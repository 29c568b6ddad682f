//! Room on the stack for packed operands, which is not cleared before it is used.

use core::mem::MaybeUninit;

use super::{Chunk, LANES};

/// Up to `N` vectors, one after the other, aligned to a cache line.
#[repr(C, align(64))]
pub(crate) struct Stack<const N: usize> {
    // Invariant: the first `len` vectors were written.
    vectors: [MaybeUninit<Chunk>; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    /// Without any vectors.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Stack { vectors: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    /// Forgets all vectors.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The vectors that were pushed.
    #[inline(always)]
    pub(crate) fn vectors(&self) -> &[Chunk] {
        // SAFETY: the first `len` vectors were written, by the invariant of `Stack`.
        unsafe { std::slice::from_raw_parts(self.vectors.as_ptr().cast(), self.len) }
    }

    /// The first `n` vectors, to be changed; those that were not there are zeros.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub(crate) fn first_mut(&mut self, n: usize) -> &mut [Chunk] {
        while self.len < n {
            self.push();
        }
        // SAFETY: the first `len` vectors were written, by the invariant of `Stack`, and `n` are not more.
        unsafe { std::slice::from_raw_parts_mut(self.vectors.as_mut_ptr().cast(), n) }
    }

    /// Room for one more vector, of zeros.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(crate) fn push(&mut self) -> &mut Chunk {
        let vector = self.vectors[self.len].write([0.0; LANES]);
        self.len += 1;
        vector
    }
}
