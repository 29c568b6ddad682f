//! AVX2 with FMA: the virtual vector is two registers.

mod parts;

use core::arch::x86_64::{
    __m128, __m256, __m256i, _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_HINT_T0, _MM_HINT_T1,
};

use pulp::x86::V3;

use super::{BF16_NAN, Chunk, GatherBlock, Half, Index, LANES, Lanes};

/// The tier's token: pulp's proof that the CPU has AVX2, FMA, BMI1, BMI2 and LZCNT.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(super) V3);

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m256, __m256);

/// The same in integers.
#[derive(Clone, Copy)]
pub(crate) struct U32x16(__m256i, __m256i);

/// All ones where a lane holds.
#[derive(Clone, Copy)]
pub(crate) struct Mask(__m256, __m256);

impl Avx2 {
    /// The sums of four lanes each: in each half those of `a`, `b`, `c` and `d`.
    #[inline(always)]
    fn sum_four_halves(self, a: __m256, b: __m256, c: __m256, d: __m256) -> __m256 {
        let x = self.0.avx;
        let p = x._mm256_add_ps(x._mm256_shuffle_ps::<0x44>(a, b), x._mm256_shuffle_ps::<0xEE>(a, b));
        let q = x._mm256_add_ps(x._mm256_shuffle_ps::<0x44>(c, d), x._mm256_shuffle_ps::<0xEE>(c, d));
        x._mm256_add_ps(x._mm256_shuffle_ps::<0x88>(p, q), x._mm256_shuffle_ps::<0xDD>(p, q))
    }

    /// The rest of the halving tree, from eight lanes.
    #[inline(always)]
    pub(super) fn sum8(self, v: __m256) -> f32 {
        let t = self.0;
        let four: __m128 =
            t.sse._mm_add_ps(t.avx._mm256_castps256_ps128(v), t.avx._mm256_extractf128_ps::<1>(v));
        let two = t.sse._mm_add_ps(four, t.sse._mm_movehl_ps(four, four));
        t.sse._mm_cvtss_f32(t.sse._mm_add_ss(two, t.sse._mm_shuffle_ps::<1>(two, two)))
    }

    /// `v[i] + v[i + 8]`
    #[inline(always)]
    fn eight(self, v: F32x16) -> __m256 {
        self.0.avx._mm256_add_ps(v.0, v.1)
    }

    /// `[a.low + a.high | b.high + b.low]`, from eight partial sums of each to four; a sum does not mind the order
    /// of its two terms.
    #[inline(always)]
    fn add_halves(self, a: __m256, b: __m256) -> __m256 {
        let x = self.0.avx;
        x._mm256_add_ps(x._mm256_blend_ps::<0xF0>(a, b), x._mm256_permute2f128_ps::<0x21>(a, b))
    }

    /// From two vectors that hold four partial sums of two each, two partial sums of all four.
    #[inline(always)]
    fn add_pairs(self, p: __m256, q: __m256) -> __m256 {
        let x = self.0.avx;
        x._mm256_add_ps(x._mm256_shuffle_ps::<0x44>(p, q), x._mm256_shuffle_ps::<0xEE>(p, q))
    }

    /// The sums of eight vectors, from `v[from]` on, in order.
    #[inline(always)]
    fn sum_eight(self, v: &[F32x16; LANES], from: usize) -> __m256 {
        let x = self.0.avx;
        let p0 = self.add_halves(self.eight(v[from]), self.eight(v[from + 4]));
        let p1 = self.add_halves(self.eight(v[from + 1]), self.eight(v[from + 5]));
        let p2 = self.add_halves(self.eight(v[from + 2]), self.eight(v[from + 6]));
        let p3 = self.add_halves(self.eight(v[from + 3]), self.eight(v[from + 7]));
        let (q0, q1) = (self.add_pairs(p0, p1), self.add_pairs(p2, p3));
        x._mm256_add_ps(x._mm256_shuffle_ps::<0x88>(q0, q1), x._mm256_shuffle_ps::<0xDD>(q0, q1))
    }
}

/// The arithmetic of one half.
impl Avx2 {
    /// The nearest bf16 in the low half of each lane.
    #[inline(always)]
    fn bf16_of(self, v: __m256) -> __m256i {
        let (x, t) = (self.0.avx, self.0.avx2);
        let bits = x._mm256_castps_si256(v);
        // Half of the last place, less one where that is even: a carry rounds up.
        let even = t._mm256_and_si256(t._mm256_srli_epi32::<16>(bits), x._mm256_set1_epi32(1));
        let half = t._mm256_add_epi32(even, x._mm256_set1_epi32(0x7FFF));
        let rounded = t._mm256_srli_epi32::<16>(t._mm256_add_epi32(bits, half));
        let nan = x._mm256_castps_si256(x._mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        t._mm256_blendv_epi8(rounded, x._mm256_set1_epi32(BF16_NAN as i32), nan)
    }

    /// The rows from `from` on become the columns from `from` on.
    #[inline(always)]
    fn transpose8(self, v: &[F32x16; LANES], w: &mut [F32x16; LANES], from: usize) {
        let mut left = [v[0].0; 8];
        let mut right = left;
        let mut i = 0;
        while i < 8 {
            left[i] = v[from + i].0;
            right[i] = v[from + i].1;
            i += 1;
        }
        let (left, right) = (self.turn8(&left), self.turn8(&right));
        let mut i = 0;
        while i < 8 {
            if from == 0 {
                w[i].0 = left[i];
                w[i + 8].0 = right[i];
            } else {
                w[i].1 = left[i];
                w[i + 8].1 = right[i];
            }
            i += 1;
        }
    }

    /// Rows for columns, eight by eight.
    #[inline(always)]
    fn turn8(self, v: &[__m256; 8]) -> [__m256; 8] {
        let x = self.0.avx;
        let mut q = *v;
        let mut i = 0;
        while i < 8 {
            let (a, b) = (x._mm256_unpacklo_ps(v[i], v[i + 1]), x._mm256_unpackhi_ps(v[i], v[i + 1]));
            let (c, d) = (x._mm256_unpacklo_ps(v[i + 2], v[i + 3]), x._mm256_unpackhi_ps(v[i + 2], v[i + 3]));
            q[i] = x._mm256_shuffle_ps::<0x44>(a, c);
            q[i + 1] = x._mm256_shuffle_ps::<0xEE>(a, c);
            q[i + 2] = x._mm256_shuffle_ps::<0x44>(b, d);
            q[i + 3] = x._mm256_shuffle_ps::<0xEE>(b, d);
            i += 4;
        }
        let mut out = q;
        let mut i = 0;
        while i < 4 {
            out[i] = x._mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]);
            out[i + 4] = x._mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]);
            i += 1;
        }
        out
    }
}

impl Lanes for Avx2 {
    const WIDE: bool = false;
    type F = F32x16;
    type I = U32x16;
    type M = Mask;

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        let v = self.0.avx._mm256_set1_ps(x);
        F32x16(v, v)
    }
    #[inline(always)]
    fn load(self, src: &Chunk) -> F32x16 {
        // SAFETY: `src` is sixteen readable f32; the loads need no alignment.
        unsafe {
            F32x16(self.0.avx._mm256_loadu_ps(src.as_ptr()), self.0.avx._mm256_loadu_ps(src.as_ptr().add(8)))
        }
    }
    #[inline(always)]
    fn store(self, dst: &mut Chunk, v: F32x16) {
        // SAFETY: `dst` is sixteen writable f32; the stores need no alignment.
        unsafe {
            self.0.avx._mm256_storeu_ps(dst.as_mut_ptr(), v.0);
            self.0.avx._mm256_storeu_ps(dst.as_mut_ptr().add(8), v.1);
        }
    }
    #[inline(always)]
    fn load_part(self, src: &[f32], fill: F32x16) -> F32x16 {
        let (x, (low, high)) = (self.0.avx, self.masks(src.len()));
        let p = src.as_ptr();
        // SAFETY: the masks cover the lanes that `src` has; masked lanes are not accessed, and the address of the
        // second half is only formed, by an operation that allows it to lie outside `src`.
        let (a, b) = unsafe { (x._mm256_maskload_ps(p, low), x._mm256_maskload_ps(p.wrapping_add(8), high)) };
        F32x16(
            x._mm256_blendv_ps(fill.0, a, x._mm256_castsi256_ps(low)),
            x._mm256_blendv_ps(fill.1, b, x._mm256_castsi256_ps(high)),
        )
    }
    #[inline(always)]
    fn load_end(self, src: &[f32], fill: F32x16) -> F32x16 {
        let n = src.len().min(LANES);
        let (x, (low, high)) = (self.0.avx, self.end_masks(n));
        let p = src.as_ptr().wrapping_sub(LANES - n);
        // SAFETY: the masks cover the lanes that `src` has, from lane `16 - n` on; masked lanes are not accessed, and
        // their addresses may lie before `src`.
        let (a, b) = unsafe { (x._mm256_maskload_ps(p, low), x._mm256_maskload_ps(p.wrapping_add(8), high)) };
        F32x16(
            x._mm256_blendv_ps(fill.0, a, x._mm256_castsi256_ps(low)),
            x._mm256_blendv_ps(fill.1, b, x._mm256_castsi256_ps(high)),
        )
    }
    #[inline(always)]
    fn before_line(self, data: &[f32]) -> usize {
        super::to_line(data)
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: F32x16) {
        let n = dst.len().min(LANES);
        let second = if n < 8 { v.0 } else { v.1 };
        let turned = self.eight_from(F32x16(v.0, second), Self::last_piece(n));
        self.store_pieces(&mut dst[..n], v.0, turned);
    }
    #[inline(always)]
    fn store_end(self, dst: &mut [f32], v: F32x16) {
        let n = dst.len().min(LANES);
        let few = n < 8;
        let (v, k) = if few { (F32x16(v.1, v.1), 8 - n) } else { (v, LANES - n) };
        let first = self.eight_from(v, k);
        let turned = if few { self.eight_from(F32x16(first, first), Self::last_piece(n)) } else { v.1 };
        self.store_pieces(&mut dst[..n], first, turned);
    }

    #[inline(always)]
    fn prefetch(self, vectors: &[Chunk], i: usize) {
        // A prefetch accesses nothing and cannot fault, wherever the address lies.
        self.0.sse._mm_prefetch::<_MM_HINT_T0>(vectors.as_ptr().wrapping_add(i).cast());
    }

    #[inline(always)]
    fn prefetch_far(self, vectors: &[Chunk], i: usize) {
        self.0.sse._mm_prefetch::<_MM_HINT_T1>(vectors.as_ptr().wrapping_add(i).cast());
    }

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_add_ps(a.0, b.0), self.0.avx._mm256_add_ps(a.1, b.1))
    }
    #[inline(always)]
    fn sub(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_sub_ps(a.0, b.0), self.0.avx._mm256_sub_ps(a.1, b.1))
    }
    #[inline(always)]
    fn mul(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_mul_ps(a.0, b.0), self.0.avx._mm256_mul_ps(a.1, b.1))
    }
    #[inline(always)]
    fn div(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_div_ps(a.0, b.0), self.0.avx._mm256_div_ps(a.1, b.1))
    }
    #[inline(always)]
    fn sqrt(self, a: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_sqrt_ps(a.0), self.0.avx._mm256_sqrt_ps(a.1))
    }
    #[inline(always)]
    fn mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        F32x16(self.0.fma._mm256_fmadd_ps(a.0, b.0, c.0), self.0.fma._mm256_fmadd_ps(a.1, b.1, c.1))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        F32x16(self.0.fma._mm256_fnmadd_ps(a.0, b.0, c.0), self.0.fma._mm256_fnmadd_ps(a.1, b.1, c.1))
    }
    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_max_ps(a.0, b.0), self.0.avx._mm256_max_ps(a.1, b.1))
    }
    #[inline(always)]
    fn min(self, a: F32x16, b: F32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_min_ps(a.0, b.0), self.0.avx._mm256_min_ps(a.1, b.1))
    }

    #[inline(always)]
    fn gt(self, a: F32x16, b: F32x16) -> Mask {
        let x = self.0.avx;
        Mask(x._mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0), x._mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1))
    }
    #[inline(always)]
    fn eq(self, a: F32x16, b: F32x16) -> Mask {
        let x = self.0.avx;
        Mask(x._mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, b.0), x._mm256_cmp_ps::<_CMP_EQ_OQ>(a.1, b.1))
    }
    #[inline(always)]
    fn select(self, mask: Mask, yes: F32x16, no: F32x16) -> F32x16 {
        let x = self.0.avx;
        F32x16(x._mm256_blendv_ps(no.0, yes.0, mask.0), x._mm256_blendv_ps(no.1, yes.1, mask.1))
    }
    #[inline(always)]
    fn keep(self, x: F32x16, bits: U32x16) -> F32x16 {
        let (x, bits) = (self.to_bits(x), self.and(self.to_bits(x), bits));
        // Zero where `bits` are, and negated where they are negative, which they are not.
        let i = self.0.avx2;
        self.from_bits(U32x16(i._mm256_sign_epi32(x.0, bits.0), i._mm256_sign_epi32(x.1, bits.1)))
    }
    #[inline(always)]
    fn mask_of(self, bits: u16) -> Mask {
        let (x, y) = (self.0.avx, self.0.avx2);
        let all = x._mm256_set1_epi32(bits as i32);
        let low = x._mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let high = x._mm256_setr_epi32(1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15);
        Mask(
            x._mm256_castsi256_ps(y._mm256_cmpeq_epi32(y._mm256_and_si256(all, low), low)),
            x._mm256_castsi256_ps(y._mm256_cmpeq_epi32(y._mm256_and_si256(all, high), high)),
        )
    }
    #[inline(always)]
    fn bits_of(self, mask: Mask) -> u16 {
        let x = self.0.avx;
        (x._mm256_movemask_ps(mask.0) | x._mm256_movemask_ps(mask.1) << 8) as u16
    }

    #[inline(always)]
    fn splat_u32(self, x: u32) -> U32x16 {
        let v = self.0.avx._mm256_set1_epi32(x as i32);
        U32x16(v, v)
    }
    #[inline(always)]
    fn to_bits(self, a: F32x16) -> U32x16 {
        U32x16(self.0.avx._mm256_castps_si256(a.0), self.0.avx._mm256_castps_si256(a.1))
    }
    #[inline(always)]
    fn from_bits(self, a: U32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_castsi256_ps(a.0), self.0.avx._mm256_castsi256_ps(a.1))
    }
    #[inline(always)]
    fn i32_to_f32(self, a: U32x16) -> F32x16 {
        F32x16(self.0.avx._mm256_cvtepi32_ps(a.0), self.0.avx._mm256_cvtepi32_ps(a.1))
    }
    #[inline(always)]
    fn add_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        U32x16(self.0.avx2._mm256_add_epi32(a.0, b.0), self.0.avx2._mm256_add_epi32(a.1, b.1))
    }
    #[inline(always)]
    fn sub_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        U32x16(self.0.avx2._mm256_sub_epi32(a.0, b.0), self.0.avx2._mm256_sub_epi32(a.1, b.1))
    }
    #[inline(always)]
    fn and(self, a: U32x16, b: U32x16) -> U32x16 {
        U32x16(self.0.avx2._mm256_and_si256(a.0, b.0), self.0.avx2._mm256_and_si256(a.1, b.1))
    }
    #[inline(always)]
    fn or(self, a: U32x16, b: U32x16) -> U32x16 {
        U32x16(self.0.avx2._mm256_or_si256(a.0, b.0), self.0.avx2._mm256_or_si256(a.1, b.1))
    }
    #[inline(always)]
    fn xor(self, a: U32x16, b: U32x16) -> U32x16 {
        U32x16(self.0.avx2._mm256_xor_si256(a.0, b.0), self.0.avx2._mm256_xor_si256(a.1, b.1))
    }
    #[inline(always)]
    fn shl(self, a: U32x16, n: u32) -> U32x16 {
        let n = self.0.avx._mm256_set1_epi32(n as i32);
        U32x16(self.0.avx2._mm256_sllv_epi32(a.0, n), self.0.avx2._mm256_sllv_epi32(a.1, n))
    }
    #[inline(always)]
    fn shr(self, a: U32x16, n: u32) -> U32x16 {
        let n = self.0.avx._mm256_set1_epi32(n as i32);
        U32x16(self.0.avx2._mm256_srlv_epi32(a.0, n), self.0.avx2._mm256_srlv_epi32(a.1, n))
    }
    #[inline(always)]
    fn sar(self, a: U32x16, n: u32) -> U32x16 {
        let n = self.0.avx._mm256_set1_epi32(n as i32);
        U32x16(self.0.avx2._mm256_srav_epi32(a.0, n), self.0.avx2._mm256_srav_epi32(a.1, n))
    }

    #[inline(always)]
    fn load_u16(self, src: &Half) -> U32x16 {
        let (t, p) = (self.0, src.as_ptr());
        // SAFETY: both halves of `src` are eight readable u16; the loads need no alignment.
        let (a, b) = unsafe { (t.sse2._mm_loadu_si128(p.cast()), t.sse2._mm_loadu_si128(p.add(8).cast())) };
        U32x16(t.avx2._mm256_cvtepu16_epi32(a), t.avx2._mm256_cvtepu16_epi32(b))
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut Half, v: U32x16) {
        let t = self.0;
        // The pack saturates, so the upper halves go first; it goes by halves of the registers, and the permutation puts
        // its quarters in order.
        let v = self.and(v, self.splat_u32(0xFFFF));
        let packed = t.avx2._mm256_permute4x64_epi64::<0xD8>(t.avx2._mm256_packus_epi32(v.0, v.1));
        // SAFETY: `dst` is sixteen writable u16; the store needs no alignment.
        unsafe { t.avx._mm256_storeu_si256(dst.as_mut_ptr().cast(), packed) }
    }
    #[inline(always)]
    fn load_bf16(self, src: &Half) -> F32x16 {
        let (t, p) = (self.0, src.as_ptr());
        // SAFETY: both halves of `src` are eight readable u16; the loads need no alignment.
        let (a, b) = unsafe { (t.sse2._mm_loadu_si128(p.cast()), t.sse2._mm_loadu_si128(p.add(8).cast())) };
        self.from_bits(self.shl(U32x16(t.avx2._mm256_cvtepu16_epi32(a), t.avx2._mm256_cvtepu16_epi32(b)), 16))
    }
    #[inline(always)]
    fn store_bf16(self, dst: &mut Half, v: F32x16) {
        let t = self.0;
        let (a, b) = (self.bf16_of(v.0), self.bf16_of(v.1));
        // The pack goes by halves of the registers; the permutation puts its quarters in order.
        let packed = t.avx2._mm256_permute4x64_epi64::<0xD8>(t.avx2._mm256_packus_epi32(a, b));
        // SAFETY: `dst` is sixteen writable u16; the store needs no alignment.
        unsafe { t.avx._mm256_storeu_si256(dst.as_mut_ptr().cast(), packed) }
    }

    #[inline(always)]
    fn transpose(self, v: &mut [F32x16; LANES]) {
        let mut w = *v;
        self.transpose8(v, &mut w, 0);
        self.transpose8(v, &mut w, 8);
        *v = w;
    }

    #[inline(always)]
    fn sum(self, v: F32x16) -> f32 {
        self.sum8(self.eight(v))
    }
    #[inline(always)]
    fn sum16(self, v: &[F32x16; LANES]) -> F32x16 {
        F32x16(self.sum_eight(v, 0), self.sum_eight(v, 8))
    }

    #[inline(always)]
    fn sum_quad(self, v: [F32x16; 4]) -> F32x16 {
        let x = self.0.avx;
        let (a, b) = (x._mm256_add_ps(v[0].0, v[0].1), x._mm256_add_ps(v[1].0, v[1].1));
        let (c, d) = (x._mm256_add_ps(v[2].0, v[2].1), x._mm256_add_ps(v[3].0, v[3].1));
        F32x16(
            x._mm256_add_ps(x._mm256_permute2f128_ps::<0x20>(a, b), x._mm256_permute2f128_ps::<0x31>(a, b)),
            x._mm256_add_ps(x._mm256_permute2f128_ps::<0x20>(c, d), x._mm256_permute2f128_ps::<0x31>(c, d)),
        )
    }
    #[inline(always)]
    fn sum_quads(self, v: &[F32x16; 4]) -> F32x16 {
        let (x, y) = (self.0.avx, self.0.avx2);
        // By quad within each vector's half; then by vector within each quad's.
        let low = self.sum_four_halves(v[0].0, v[1].0, v[2].0, v[3].0);
        let high = self.sum_four_halves(v[0].1, v[1].1, v[2].1, v[3].1);
        let order = x._mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
        let low = x._mm256_castps_pd(y._mm256_permutevar8x32_ps(low, order));
        let high = x._mm256_castps_pd(y._mm256_permutevar8x32_ps(high, order));
        F32x16(
            x._mm256_castpd_ps(x._mm256_unpacklo_pd(low, high)),
            x._mm256_castpd_ps(x._mm256_unpackhi_pd(low, high)),
        )
    }

    #[inline(always)]
    fn gather<I: Index>(self, g: GatherBlock<'_, I>) -> F32x16 {
        let t = self.0;
        if g.indices().len() < LANES {
            return self.gather_loads(g);
        }
        let at = g.indices().as_ptr();
        let table = g.table();
        let (low, high): (__m256i, __m256i) = if size_of::<I>() == 4 {
            // SAFETY: `at` points to sixteen indices of four bytes.
            unsafe { (t.avx._mm256_loadu_si256(at.cast()), t.avx._mm256_loadu_si256(at.add(8).cast())) }
        } else {
            // SAFETY: `at` points to sixteen indices of two bytes.
            let (a, b) =
                unsafe { (t.sse2._mm_loadu_si128(at.cast()), t.sse2._mm_loadu_si128(at.add(8).cast())) };
            (t.avx2._mm256_cvtepu16_epi32(a), t.avx2._mm256_cvtepu16_epi32(b))
        };
        // SAFETY: each index is below 2^31 and its value readable by the invariant of `GatherBlock`.
        unsafe {
            F32x16(t.avx2._mm256_i32gather_ps::<4>(table, low), t.avx2._mm256_i32gather_ps::<4>(table, high))
        }
    }
}
