//! AVX-512: the virtual vector is one register.

use core::arch::x86_64::{
    __m256i, __m512, __m512i, __mmask16, _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_UNORD_Q, _MM_HINT_T0, _MM_HINT_T1,
};
use core::hint::black_box;

use pulp::x86::V4;

use super::avx2::Avx2;
use super::{BF16_NAN, Chunk, GatherBlock, Half, Index, LANES, Lanes, NEAR};

/// The tier's token: pulp's proof that the CPU has AVX-512 F, BW, CD, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512 {
    token: V4,
    /// Lanes 8 to 15.
    high: __mmask16,
    /// Lanes 2 and 3 of each quarter.
    upper_pairs: __mmask16,
    divides: bool,
}

/// Seeds of a reciprocal, by the top five bits of the mantissa: `SEEDS[i] - bits(x)`, as integers, is `bits(1 / x)`
/// with a relative error below 2^-6.4. Subtracting the whole of `x` settles the exponent and follows the curve within
/// an interval by a line.
static SEEDS: [[u32; LANES]; 2] = {
    let mut seeds = [[0; LANES]; 2];
    let mut i = 0;
    while i < 32 {
        // Centred at the interval's middle: the curve is convex, the line is not, and the ends err alike.
        let middle = 1.0 + (i as f32 + 0.5) / 32.0;
        seeds[i / LANES][i % LANES] = (1.0 / middle).to_bits() + middle.to_bits();
        i += 1;
    }
    // The mantissa of all ones is the one from which Newton's step can go wrong: its reciprocal lies a hair above the
    // middle of two f32, and from the lower one the step ends on that middle and rounds down. A larger seed makes the
    // value before the step round to the upper one; other offsets from 0x7DFB on do too, but not every one.
    seeds[1][15] += 0x8800;
    seeds
};

impl Avx512 {
    #[inline(always)]
    pub(super) fn new(token: V4, divides: bool) -> Self {
        // LLVM turns a blend by a known mask into a shuffle, and shuffles all wait for one port; so it must not know.
        let (high, upper_pairs) = black_box((0xFF00, 0xCCCC));
        Avx512 { token, high, upper_pairs, divides }
    }

    /// `[a.low + a.high | b.high + b.low]`: eight partial sums of each. A blend and one shuffle instead of two
    /// shuffles, which all wait for one port on Intel; a sum does not mind the order of its two terms.
    #[inline(always)]
    fn add_halves(self, a: __m512, b: __m512) -> __m512 {
        let f = self.token.avx512f;
        f._mm512_add_ps(f._mm512_mask_blend_ps(self.high, a, b), f._mm512_shuffle_f32x4::<0x4E>(a, b))
    }

    /// From two vectors that hold eight partial sums of two each, four partial sums of all four.
    #[inline(always)]
    fn add_quarters(self, p: __m512, q: __m512) -> __m512 {
        let f = self.token.avx512f;
        f._mm512_add_ps(f._mm512_shuffle_f32x4::<0x88>(p, q), f._mm512_shuffle_f32x4::<0xDD>(p, q))
    }

    /// From two vectors that hold four partial sums of four each, two partial sums of all eight; as `add_halves`.
    #[inline(always)]
    fn add_pairs(self, p: __m512, q: __m512) -> __m512 {
        let f = self.token.avx512f;
        f._mm512_add_ps(f._mm512_mask_blend_ps(self.upper_pairs, p, q), f._mm512_shuffle_ps::<0x4E>(p, q))
    }

    /// The first `n` lanes.
    #[inline(always)]
    fn mask(n: usize) -> __mmask16 {
        if n >= LANES { !0 } else { (1u32 << n).wrapping_sub(1) as __mmask16 }
    }
}

impl Lanes for Avx512 {
    const WIDE: bool = true;
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        self.token.avx512f._mm512_set1_ps(x)
    }
    #[inline(always)]
    fn load(self, src: &Chunk) -> __m512 {
        // SAFETY: `src` is sixteen readable f32; the load needs no alignment.
        unsafe { self.token.avx512f._mm512_loadu_ps(src.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, dst: &mut Chunk, v: __m512) {
        // SAFETY: `dst` is sixteen writable f32; the store needs no alignment.
        unsafe { self.token.avx512f._mm512_storeu_ps(dst.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_part(self, src: &[f32], fill: __m512) -> __m512 {
        // SAFETY: the mask covers the lanes that `src` has; masked lanes are not accessed.
        unsafe { self.token.avx512f._mm512_mask_loadu_ps(fill, Self::mask(src.len()), src.as_ptr()) }
    }
    #[inline(always)]
    fn load_end(self, src: &[f32], fill: __m512) -> __m512 {
        let n = src.len().min(LANES);
        let at = src.as_ptr().wrapping_sub(LANES - n);
        // SAFETY: the mask covers the lanes that `src` has, from lane `16 - n` on; masked lanes are not accessed, and
        // their addresses may lie before `src`.
        unsafe { self.token.avx512f._mm512_mask_loadu_ps(fill, !Self::mask(LANES - n), at) }
    }
    #[inline(always)]
    fn before_line(self, data: &[f32]) -> usize {
        super::to_line(data)
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: __m512) {
        // SAFETY: the mask covers the lanes that `dst` has; masked lanes are not accessed.
        unsafe { self.token.avx512f._mm512_mask_storeu_ps(dst.as_mut_ptr(), Self::mask(dst.len()), v) }
    }
    #[inline(always)]
    fn store_end(self, dst: &mut [f32], v: __m512) {
        let n = dst.len().min(LANES);
        let at = dst.as_mut_ptr().wrapping_sub(LANES - n);
        // SAFETY: as in `load_end`, of lanes that `dst` has.
        unsafe { self.token.avx512f._mm512_mask_storeu_ps(at, !Self::mask(LANES - n), v) }
    }

    #[inline(always)]
    fn prefetch(self, vectors: &[Chunk], i: usize) {
        // A prefetch accesses nothing and cannot fault, wherever the address lies.
        self.token.sse._mm_prefetch::<_MM_HINT_T0>(vectors.as_ptr().wrapping_add(i).cast());
    }

    #[inline(always)]
    fn prefetch_far(self, vectors: &[Chunk], i: usize) {
        // A prefetch accesses nothing and cannot fault, wherever the address lies.
        self.token.sse._mm_prefetch::<_MM_HINT_T1>(vectors.as_ptr().wrapping_add(i).cast());
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_add_ps(a, b)
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_sub_ps(a, b)
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_mul_ps(a, b)
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_div_ps(a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        self.token.avx512f._mm512_sqrt_ps(a)
    }
    #[inline(always)]
    fn divides(self) -> bool {
        self.divides
    }

    /// The divider gives sixteen quotients in 10 to 16 cycles on Intel, one at a time; nine pipelined operations give a
    /// reciprocal in five. They start from a table, not from an estimate instruction, whose bits differ between
    /// vendors, and end on the correctly rounded value: the unit test goes through every mantissa.
    #[inline(always)]
    fn recip_each<const N: usize>(self, x: [__m512; N], above: bool) -> [__m512; N] {
        let f = self.token.avx512f;
        let one = f._mm512_set1_ps(1.0);
        let mut y = x;
        if self.divides {
            for i in 0..N {
                y[i] = f._mm512_div_ps(one, x[i]);
            }
            return y;
        }
        // In 2^-63 <= |x| < 2^65 neither the reciprocal nor a residue leaves the normal range, and no zero, infinity or
        // NaN is among them.
        let in_range = if above {
            // As integers, what is negative or NaN is larger than any of them. Residues are those of x y, near 1 whatever x
            // is: the range ends where the reciprocal's does, at 2^125.
            let mut largest = f._mm512_castps_si512(x[0]);
            for i in 1..N {
                largest = f._mm512_max_epu32(largest, f._mm512_castps_si512(x[i]));
            }
            f._mm512_cmpge_epu32_mask(largest, f._mm512_set1_epi32(252 << 23)) == 0
        } else {
            // Exponents from 64 to 191 are those whose two top bits differ.
            let mut differ = f._mm512_set1_epi32(-1);
            for i in 0..N {
                let bits = f._mm512_castps_si512(x[i]);
                // differ & (bits ^ 2 bits)
                differ =
                    f._mm512_ternarylogic_epi32::<0b0110_0000>(differ, bits, f._mm512_add_epi32(bits, bits));
            }
            f._mm512_testn_epi32_mask(differ, f._mm512_set1_epi32(1 << 30)) == 0
        };
        if !in_range {
            for i in 0..N {
                y[i] = f._mm512_div_ps(one, x[i]);
            }
            return y;
        }
        // SAFETY: each row of the table is sixteen readable u32; the loads need no alignment.
        let (low, high) = unsafe {
            (f._mm512_loadu_epi32(SEEDS[0].as_ptr().cast()), f._mm512_loadu_epi32(SEEDS[1].as_ptr().cast()))
        };
        let mut e = x;
        for i in 0..N {
            let bits = f._mm512_castps_si512(x[i]);
            let seed = f._mm512_permutex2var_epi32(low, f._mm512_srli_epi32::<18>(bits), high);
            y[i] = f._mm512_castsi512_ps(f._mm512_sub_epi32(seed, bits));
        }
        // With e = 1 - x y, 1 / x = y / (1 - e) = y (1 + e + e^2 + e^3) up to e^4.
        for i in 0..N {
            e[i] = f._mm512_fnmadd_ps(x[i], y[i], one);
        }
        let mut t = e;
        for i in 0..N {
            t[i] = f._mm512_fmadd_ps(e[i], e[i], e[i]);
        }
        for i in 0..N {
            t[i] = f._mm512_fmadd_ps(e[i], t[i], e[i]);
        }
        for i in 0..N {
            y[i] = f._mm512_fmadd_ps(y[i], t[i], y[i]);
        }
        // Newton's step from a value that is all but rounded rounds it correctly.
        for i in 0..N {
            e[i] = f._mm512_fnmadd_ps(x[i], y[i], one);
        }
        for i in 0..N {
            y[i] = f._mm512_fmadd_ps(y[i], e[i], y[i]);
        }
        y
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.token.avx512f._mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.token.avx512f._mm512_fnmadd_ps(a, b, c)
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_max_ps(a, b)
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        self.token.avx512f._mm512_min_ps(a, b)
    }
    #[inline(always)]
    fn scale(self, v: __m512, n: __m512) -> __m512 {
        self.token.avx512f._mm512_scalef_ps(v, n)
    }
    #[inline(always)]
    fn scale_near(self, v: __m512, n: __m512, _: i32) -> __m512 {
        self.scale(v, n)
    }

    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        self.token.avx512f._mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b)
    }
    #[inline(always)]
    fn eq(self, a: __m512, b: __m512) -> __mmask16 {
        self.token.avx512f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b)
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        self.token.avx512f._mm512_mask_blend_ps(mask, no, yes)
    }
    #[inline(always)]
    fn keep(self, x: __m512, bits: __m512i) -> __m512 {
        let f = self.token.avx512f;
        f._mm512_maskz_mov_ps(f._mm512_test_epi32_mask(f._mm512_castps_si512(x), bits), x)
    }
    #[inline(always)]
    fn mask_of(self, bits: u16) -> __mmask16 {
        bits
    }
    #[inline(always)]
    fn bits_of(self, mask: __mmask16) -> u16 {
        mask
    }

    #[inline(always)]
    fn splat_u32(self, x: u32) -> __m512i {
        self.token.avx512f._mm512_set1_epi32(x as i32)
    }
    #[inline(always)]
    fn to_bits(self, a: __m512) -> __m512i {
        self.token.avx512f._mm512_castps_si512(a)
    }
    #[inline(always)]
    fn from_bits(self, a: __m512i) -> __m512 {
        self.token.avx512f._mm512_castsi512_ps(a)
    }
    #[inline(always)]
    fn i32_to_f32(self, a: __m512i) -> __m512 {
        self.token.avx512f._mm512_cvtepi32_ps(a)
    }
    #[inline(always)]
    fn add_u32(self, a: __m512i, b: __m512i) -> __m512i {
        self.token.avx512f._mm512_add_epi32(a, b)
    }
    #[inline(always)]
    fn sub_u32(self, a: __m512i, b: __m512i) -> __m512i {
        self.token.avx512f._mm512_sub_epi32(a, b)
    }
    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        self.token.avx512f._mm512_and_si512(a, b)
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        self.token.avx512f._mm512_or_si512(a, b)
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        self.token.avx512f._mm512_xor_si512(a, b)
    }
    #[inline(always)]
    fn shl(self, a: __m512i, n: u32) -> __m512i {
        self.token.avx512f._mm512_sllv_epi32(a, self.splat_u32(n))
    }
    #[inline(always)]
    fn shr(self, a: __m512i, n: u32) -> __m512i {
        self.token.avx512f._mm512_srlv_epi32(a, self.splat_u32(n))
    }
    #[inline(always)]
    fn sar(self, a: __m512i, n: u32) -> __m512i {
        self.token.avx512f._mm512_srav_epi32(a, self.splat_u32(n))
    }

    #[inline(always)]
    fn load_u16(self, src: &Half) -> __m512i {
        // SAFETY: `src` is sixteen readable u16; the load needs no alignment.
        let half = unsafe { self.token.avx._mm256_loadu_si256(src.as_ptr().cast()) };
        self.token.avx512f._mm512_cvtepu16_epi32(half)
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut Half, v: __m512i) {
        let half = self.token.avx512f._mm512_cvtepi32_epi16(v);
        // SAFETY: `dst` is sixteen writable u16; the store needs no alignment.
        unsafe { self.token.avx._mm256_storeu_si256(dst.as_mut_ptr().cast(), half) }
    }
    #[inline(always)]
    fn load_bf16(self, src: &Half) -> __m512 {
        // SAFETY: `src` is sixteen readable u16; the load needs no alignment.
        let half = unsafe { self.token.avx._mm256_loadu_si256(src.as_ptr().cast()) };
        let f = self.token.avx512f;
        f._mm512_castsi512_ps(f._mm512_slli_epi32::<16>(f._mm512_cvtepu16_epi32(half)))
    }
    /// By integers: the CPU's own conversion takes denormals for zero.
    #[inline(always)]
    fn store_bf16(self, dst: &mut Half, v: __m512) {
        let f = self.token.avx512f;
        let bits = f._mm512_castps_si512(v);
        // Half of the last place, less one where that is even: a carry rounds up.
        let even = f._mm512_and_si512(f._mm512_srli_epi32::<16>(bits), f._mm512_set1_epi32(1));
        let half = f._mm512_add_epi32(even, f._mm512_set1_epi32(0x7FFF));
        let rounded = f._mm512_srli_epi32::<16>(f._mm512_add_epi32(bits, half));
        let nan = f._mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let rounded = f._mm512_mask_blend_epi32(nan, rounded, f._mm512_set1_epi32(BF16_NAN as i32));
        // SAFETY: `dst` is sixteen writable u16; the store needs no alignment.
        unsafe {
            self.token.avx._mm256_storeu_si256(dst.as_mut_ptr().cast(), f._mm512_cvtepi32_epi16(rounded))
        }
    }

    #[inline(always)]
    fn transpose(self, v: &mut [__m512; LANES]) {
        let f = self.token.avx512f;
        // Four by four within the quarters, then the quarters themselves.
        let mut q = *v;
        let mut i = 0;
        while i < LANES {
            let (a, b) = (f._mm512_unpacklo_ps(v[i], v[i + 1]), f._mm512_unpackhi_ps(v[i], v[i + 1]));
            let (c, d) = (f._mm512_unpacklo_ps(v[i + 2], v[i + 3]), f._mm512_unpackhi_ps(v[i + 2], v[i + 3]));
            q[i] = f._mm512_shuffle_ps::<0x44>(a, c);
            q[i + 1] = f._mm512_shuffle_ps::<0xEE>(a, c);
            q[i + 2] = f._mm512_shuffle_ps::<0x44>(b, d);
            q[i + 3] = f._mm512_shuffle_ps::<0xEE>(b, d);
            i += 4;
        }
        let mut j = 0;
        while j < 4 {
            // Quarters 0 and 2, and 1 and 3, of rows from 0 and 4, and from 8 and 12.
            let (a, b) = (
                f._mm512_shuffle_f32x4::<0x88>(q[j], q[j + 4]),
                f._mm512_shuffle_f32x4::<0xDD>(q[j], q[j + 4]),
            );
            let (c, d) = (
                f._mm512_shuffle_f32x4::<0x88>(q[j + 8], q[j + 12]),
                f._mm512_shuffle_f32x4::<0xDD>(q[j + 8], q[j + 12]),
            );
            v[j] = f._mm512_shuffle_f32x4::<0x88>(a, c);
            v[j + 4] = f._mm512_shuffle_f32x4::<0x88>(b, d);
            v[j + 8] = f._mm512_shuffle_f32x4::<0xDD>(a, c);
            v[j + 12] = f._mm512_shuffle_f32x4::<0xDD>(b, d);
            j += 1;
        }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        let (low, high) = (
            self.token.avx512f._mm512_castps512_ps256(v),
            self.token.avx512dq._mm512_extractf32x8_ps::<1>(v),
        );
        Avx2(*self.token).sum8(self.token.avx._mm256_add_ps(low, high))
    }

    #[inline(always)]
    fn sum16(self, v: &[__m512; LANES]) -> __m512 {
        // The order of these pairs puts the sixteen sums in order at the end.
        let p0 = self.add_quarters(self.add_halves(v[0], v[4]), self.add_halves(v[8], v[12]));
        let p1 = self.add_quarters(self.add_halves(v[1], v[5]), self.add_halves(v[9], v[13]));
        let p2 = self.add_quarters(self.add_halves(v[2], v[6]), self.add_halves(v[10], v[14]));
        let p3 = self.add_quarters(self.add_halves(v[3], v[7]), self.add_halves(v[11], v[15]));
        let (q0, q1) = (self.add_pairs(p0, p1), self.add_pairs(p2, p3));
        let f = self.token.avx512f;
        f._mm512_add_ps(f._mm512_shuffle_ps::<0x88>(q0, q1), f._mm512_shuffle_ps::<0xDD>(q0, q1))
    }

    #[inline(always)]
    fn sum_quad(self, v: [__m512; 4]) -> __m512 {
        self.add_quarters(self.add_halves(v[0], v[1]), self.add_halves(v[2], v[3]))
    }
    #[inline(always)]
    fn sum_quads(self, v: &[__m512; 4]) -> __m512 {
        let f = self.token.avx512f;
        let (p, q) = (self.add_pairs(v[0], v[1]), self.add_pairs(v[2], v[3]));
        let sums = f._mm512_add_ps(f._mm512_shuffle_ps::<0x88>(p, q), f._mm512_shuffle_ps::<0xDD>(p, q));
        let order = f._mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        f._mm512_permutexvar_ps(order, sums)
    }

    #[inline(always)]
    fn gather<I: Index>(self, g: GatherBlock<'_, I>) -> __m512 {
        let t = self.token;
        let (at, n) = (g.indices().as_ptr(), g.indices().len());
        let zero = t.avx512f._mm512_setzero_ps();
        let mask = Self::mask(n);
        let index: __m512i = if size_of::<I>() == 4 {
            // SAFETY: the mask covers the `n` u32 that `at` points to; masked lanes are not accessed.
            unsafe { t.avx512f._mm512_maskz_loadu_epi32(mask, at.cast()) }
        } else {
            // SAFETY: the mask covers the `n` u16 that `at` points to; masked lanes are not accessed.
            let half: __m256i = unsafe { t.avx512bw._mm256_maskz_loadu_epi16(mask, at.cast()) };
            t.avx512f._mm512_cvtepu16_epi32(half)
        };
        // SAFETY: each index in the mask is below 2^31 and its value readable by the invariant of
        // `GatherBlock`; masked lanes are not accessed.
        unsafe { t.avx512f._mm512_mask_i32gather_ps::<4>(zero, mask, index, g.table().cast()) }
    }

    /// Two permutations of two vectors each.
    #[inline(always)]
    fn pick(self, from: &[Chunk; NEAR / LANES], at: &[u8; LANES]) -> __m512 {
        let t = self.token;
        // SAFETY: `at` is sixteen readable bytes; the load needs no alignment.
        let at = t.avx512f._mm512_cvtepu8_epi32(unsafe { t.sse2._mm_loadu_si128(at.as_ptr().cast()) });
        let [a, b, c, d] = from;
        // The upper bits are not looked at.
        let low = t.avx512f._mm512_permutex2var_ps(self.load(a), at, self.load(b));
        let high = t.avx512f._mm512_permutex2var_ps(self.load(c), at, self.load(d));
        t.avx512f._mm512_mask_blend_ps(t.avx512f._mm512_test_epi32_mask(at, self.splat_u32(32)), low, high)
    }
}
