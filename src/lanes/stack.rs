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

    /// The first `n` vectors, to be changed; those that were not written are zeros now.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub(crate) fn first_mut(&mut self, n: usize) -> &mut [Chunk] {
        // Also since `n * LANES` could wrap.
        assert!(n <= N, "{n} vectors do not fit {N}");
        while self.len < n * LANES {
            self.push(&[0.0; LANES]);
        }
        // SAFETY: the first `len` values were written, by the invariant of `Stack`, and those of `n` vectors are not more.
        unsafe { std::slice::from_raw_parts_mut(self.values.as_mut_ptr().cast(), n) }
    }

    /// Adds `n` zeros, to be changed.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub(crate) fn grow(&mut self, n: usize) -> &mut [f32] {
        let from = self.len;
        assert!(n <= N * LANES - from, "{from} values and {n} more do not fit {N} vectors");
        // SAFETY: the first `len` values were written and are no more than fit, by the invariant of `Stack`, and `n` more fit,
        // as was just checked.
        let start = unsafe { self.values.as_mut_ptr().cast::<f32>().add(from) };
        // SAFETY: `n` values fit from there on, and zero bytes are zeros.
        unsafe { start.write_bytes(0, n) };
        self.len = from + n;
        // SAFETY: they were just written, and `self` is borrowed exclusively for as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(start, n) }
    }

    /// Adds `panels` panels of `k` steps of `M` values: the first lanes of the source's vectors.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub(crate) fn fill<L: Lanes, const M: usize>(
        &mut self,
        l: L,
        (panels, k): (usize, usize),
        source: &impl Source,
    ) {
        let from = self.len;
        let all = panels.checked_mul(k).and_then(|steps| steps.checked_mul(M));
        assert!(
            M <= LANES && all.is_some_and(|all| all <= N * LANES - from),
            "{from} values and {panels} times {k} times {M} more do not fit {N} vectors"
        );
        let len = M * k;
        // SAFETY: the first `from` values are no more than fit, by the invariant of `Stack`.
        let start = unsafe { self.values.as_mut_ptr().cast::<f32>().add(from) };
        for p in 0..k {
            let step = source.step(l, p);
            for q in 0..panels {
                let v = source.vector(l, step, q);
                // SAFETY: what `panels` panels take fits, as was just checked, and this step of panel `q` is in it.
                let to = unsafe { start.add(q * len + p * M) };
                // Whole vectors, whose other lanes the next steps overwrite, but not those of the next panel. The zeros are
                // overwritten at once, and the compiler knows.
                if p * M + LANES <= len {
                    // SAFETY: the vector ends where the panel does or before, and this is the only reference to it.
                    let to = unsafe { &mut *to.cast::<MaybeUninit<Chunk>>() };
                    l.store(to.write([0.0; LANES]), v);
                } else {
                    // SAFETY: the step's values fit, and this is the only reference to them.
                    let to = unsafe { &mut *to.cast::<MaybeUninit<[f32; M]>>() };
                    l.store_part(to.write([0.0; M]), v);
                }
            }
        }
        self.len = from + panels * len;
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

/// Where what is packed comes from, step by step. Not closures, which LLVM does not inline for sure.
pub(crate) trait Source {
    /// What the vectors of a step have in common.
    type Step: Copy;

    fn step<L: Lanes>(&self, l: L, p: usize) -> Self::Step;

    /// The vector of a step for panel `q`.
    fn vector<L: Lanes>(&self, l: L, step: Self::Step, q: usize) -> L::F;
}

/// `Q` panels of up to `K` vectors, each written one after the other.
#[repr(C, align(64))]
pub(crate) struct PanelStack<const K: usize, const Q: usize> {
    // Invariant: of panel q the first `len[q]` vectors were written.
    vectors: [[MaybeUninit<Chunk>; K]; Q],
    len: [usize; Q],
}

impl<const K: usize, const Q: usize> PanelStack<K, Q> {
    /// Without any vectors.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        PanelStack { vectors: [const { [const { MaybeUninit::uninit() }; K] }; Q], len: [0; Q] }
    }

    /// Forgets all vectors.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.len = [0; Q];
    }

    /// The vectors of panel `q`.
    #[inline(always)]
    pub(crate) fn panel(&self, q: usize) -> &[Chunk] {
        // SAFETY: the first `len[q]` vectors were written, by the invariant of `PanelStack`.
        unsafe { std::slice::from_raw_parts(self.vectors[q].as_ptr().cast(), self.len[q]) }
    }

    /// Writes the first `panels` panels, of `k` vectors each, step by step.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub(crate) fn fill<L: Lanes>(&mut self, l: L, (panels, k): (usize, usize), source: &impl Source) {
        assert!(panels <= Q && k <= K, "{panels} panels of {k} vectors do not fit {Q} of {K}");
        for p in 0..k {
            let step = source.step(l, p);
            for q in 0..panels {
                let v = source.vector(l, step, q);
                // The zeros are overwritten at once, and the compiler knows.
                l.store(self.vectors[q][p].write([0.0; LANES]), v);
            }
        }
        self.len[..panels].fill(k);
    }

    /// Adds a vector to panel `q`.
    ///
    /// # Panics
    /// If there is no room.
    #[inline(always)]
    pub(crate) fn push<L: Lanes>(&mut self, l: L, q: usize, v: L::F) {
        // The zeros are overwritten at once, and the compiler knows.
        l.store(self.vectors[q][self.len[q]].write([0.0; LANES]), v);
        self.len[q] += 1;
    }
}
