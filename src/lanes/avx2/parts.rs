//! Parts of vectors. They are loaded under masks, and stored as two pieces that overlap: CPUs of AMD up to Zen 4 take 25 cycles for
//! the two masked stores of sixteen lanes, and 3 to 4 for this.

use core::arch::x86_64::{__m256, __m256i};

use super::{Avx2, F32x16};
use crate::lanes::LANES;

/// Sixteen ones and sixteen zeros: the eight from `16 - n` on are the mask of the first `n` lanes.
static MASKS: [i32; 32] = {
    let mut m = [0; 32];
    let mut i = 0;
    while i < 16 {
        m[i] = -1;
        i += 1;
    }
    m
};

/// The eight from `k` on turn eight lanes by `k`.
static TURNS: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7];

impl Avx2 {
    /// The masks of the first `n` of sixteen lanes.
    #[inline(always)]
    pub(super) fn masks(self, n: usize) -> (__m256i, __m256i) {
        let n = n.min(LANES);
        let mask: &[i32; 16] = MASKS[16 - n..][..16].try_into().expect("sixteen of thirty-two");
        // SAFETY: both halves of `mask` are eight readable i32; the loads need no alignment.
        unsafe {
            (
                self.0.avx._mm256_loadu_si256(mask.as_ptr().cast()),
                self.0.avx._mm256_loadu_si256(mask.as_ptr().add(8).cast()),
            )
        }
    }

    /// Those of the last `n`.
    #[inline(always)]
    pub(super) fn end_masks(self, n: usize) -> (__m256i, __m256i) {
        let (t, ones, (low, high)) = (self.0.avx2, self.0.avx._mm256_set1_epi32(-1), self.masks(LANES - n));
        (t._mm256_xor_si256(low, ones), t._mm256_xor_si256(high, ones))
    }

    /// Lanes `k` to `k + 7`, of `k` up to 8.
    // Not inlined without optimization, as `store_pieces` is not.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn eight_from(self, v: F32x16, k: usize) -> __m256 {
        let (x, (first, _)) = (self.0.avx, self.masks(k));
        let turn: &[i32; 8] = TURNS[k.min(8)..][..8].try_into().expect("eight of sixteen");
        // SAFETY: `turn` is eight readable i32; the load needs no alignment.
        let turn = unsafe { x._mm256_loadu_si256(turn.as_ptr().cast()) };
        let eight = x._mm256_blendv_ps(v.0, v.1, x._mm256_castsi256_ps(first));
        self.0.avx2._mm256_permutevar8x32_ps(eight, turn)
    }

    /// Eight lanes, or fewer: the first and, overlapping them, the last that there are, which `turned` begins with.
    // Without optimization each inlined copy takes room on the stack, of which a kernel's tiles leave little.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn store_pieces(self, dst: &mut [f32], first: __m256, turned: __m256) {
        let (x, n) = (self.0.avx, dst.len());
        let p = dst.as_mut_ptr();
        // SAFETY: `dst` has `n` values. A piece of eight is written from value 0 and from value `n - 8` on if there are eight,
        // of four likewise, else single ones below `n`; the stores need no alignment.
        unsafe {
            if n >= 8 {
                x._mm256_storeu_ps(p.add(n - 8), turned);
                x._mm256_storeu_ps(p, first);
            } else if n >= 4 {
                self.0.sse._mm_storeu_ps(p.add(n - 4), x._mm256_castps256_ps128(turned));
                self.0.sse._mm_storeu_ps(p, x._mm256_castps256_ps128(first));
            } else if n > 0 {
                *p.add(n - 1) = x._mm256_cvtss_f32(turned);
                *p.add(n / 2) = x._mm256_cvtss_f32(x._mm256_movehdup_ps(first));
                *p = x._mm256_cvtss_f32(first);
            }
        }
    }

    /// How many lanes after the first the last piece of `n` begins.
    #[inline(always)]
    pub(super) fn last_piece(n: usize) -> usize {
        n - match n {
            0 => 0,
            1..4 => 1,
            4..8 => 4,
            _ => 8,
        }
    }
}
