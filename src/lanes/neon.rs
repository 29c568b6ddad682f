//! NEON: the virtual vector is four registers.

use core::arch::aarch64::{float32x4_t, uint32x4_t};

use super::{BF16_NAN, Chunk, GatherBlock, Half, Index, LANES, Lanes};

/// The tier's token: pulp's proof that the CPU has Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(super) pulp::aarch64::Neon);

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

/// The same in integers.
#[derive(Clone, Copy)]
pub(crate) struct U32x16(uint32x4_t, uint32x4_t, uint32x4_t, uint32x4_t);

/// All ones where a lane holds.
#[derive(Clone, Copy)]
pub(crate) struct Mask(uint32x4_t, uint32x4_t, uint32x4_t, uint32x4_t);

/// The same operation on each register.
macro_rules! each {
    ($lanes:ident.$op:ident($($arg:ident),+)) => {
        each!(F32x16, $lanes.$op($($arg),+))
    };
    ($make:ident, $lanes:ident.$op:ident($($arg:ident),+)) => {
        $make(
            $lanes.0.neon.$op($($arg.0),+),
            $lanes.0.neon.$op($($arg.1),+),
            $lanes.0.neon.$op($($arg.2),+),
            $lanes.0.neon.$op($($arg.3),+),
        )
    };
}

/// In lane `i` bit `i` alone.
static LANE_BITS: [u32; LANES] = {
    let mut bits = [0; LANES];
    let mut i = 0;
    while i < LANES {
        bits[i] = 1 << i;
        i += 1;
    }
    bits
};

#[inline(always)]
fn lane_bits(l: Neon) -> U32x16 {
    let (n, p) = (l.0.neon, LANE_BITS.as_ptr());
    // SAFETY: each load reads four of sixteen u32.
    unsafe { U32x16(n.vld1q_u32(p), n.vld1q_u32(p.add(4)), n.vld1q_u32(p.add(8)), n.vld1q_u32(p.add(12))) }
}

impl Neon {
    /// From sixteen lanes to four by halving twice: `(v[i] + v[i+8]) + (v[i+4] + v[i+12])`.
    #[inline(always)]
    fn four(self, v: F32x16) -> float32x4_t {
        let n = self.0.neon;
        n.vaddq_f32(n.vaddq_f32(v.0, v.2), n.vaddq_f32(v.1, v.3))
    }

    /// The sums of four vectors, from `v[from]` on, in order.
    #[inline(always)]
    fn sum_four(self, v: &[F32x16; LANES], from: usize) -> float32x4_t {
        let n = self.0.neon;
        let (a, b) = (self.four(v[from]), self.four(v[from + 1]));
        let (c, d) = (self.four(v[from + 2]), self.four(v[from + 3]));
        n.vpaddq_f32(self.add_pairs(a, b), self.add_pairs(c, d))
    }

    /// The sums of four registers of four lanes each, in order.
    #[inline(always)]
    fn sum_of_quad(self, v: F32x16) -> float32x4_t {
        self.0.neon.vpaddq_f32(self.add_pairs(v.0, v.1), self.add_pairs(v.2, v.3))
    }

    /// `[a0 + a2, a1 + a3, b0 + b2, b1 + b3]`
    #[inline(always)]
    fn add_pairs(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        let n = self.0.neon;
        let (x, y) = (n.vreinterpretq_f64_f32(a), n.vreinterpretq_f64_f32(b));
        n.vaddq_f32(n.vreinterpretq_f32_f64(n.vtrn1q_f64(x, y)), n.vreinterpretq_f32_f64(n.vtrn2q_f64(x, y)))
    }
}

/// The arithmetic of one register.
impl Neon {
    /// Each lane shifted left by `n`, or right by `-n` with zeros from above.
    #[inline(always)]
    fn shift(self, a: U32x16, n: i32) -> U32x16 {
        let (x, by) = (self.0.neon, self.0.neon.vdupq_n_s32(n));
        U32x16(x.vshlq_u32(a.0, by), x.vshlq_u32(a.1, by), x.vshlq_u32(a.2, by), x.vshlq_u32(a.3, by))
    }

    /// Rows for columns, four by four.
    #[inline(always)]
    fn turn4(self, a: float32x4_t, b: float32x4_t, c: float32x4_t, d: float32x4_t) -> [float32x4_t; 4] {
        let n = self.0.neon;
        let (p, q) =
            (n.vreinterpretq_f64_f32(n.vtrn1q_f32(a, b)), n.vreinterpretq_f64_f32(n.vtrn2q_f32(a, b)));
        let (r, s) =
            (n.vreinterpretq_f64_f32(n.vtrn1q_f32(c, d)), n.vreinterpretq_f64_f32(n.vtrn2q_f32(c, d)));
        [
            n.vreinterpretq_f32_f64(n.vtrn1q_f64(p, r)),
            n.vreinterpretq_f32_f64(n.vtrn1q_f64(q, s)),
            n.vreinterpretq_f32_f64(n.vtrn2q_f64(p, r)),
            n.vreinterpretq_f32_f64(n.vtrn2q_f64(q, s)),
        ]
    }
}

impl Lanes for Neon {
    const WIDE: bool = false;
    type F = F32x16;
    type I = U32x16;
    type M = Mask;

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        let v = self.0.neon.vdupq_n_f32(x);
        F32x16(v, v, v, v)
    }
    #[inline(always)]
    fn load(self, src: &Chunk) -> F32x16 {
        let (n, p) = (self.0.neon, src.as_ptr());
        // SAFETY: `src` is sixteen readable f32; the loads need no more than an f32's alignment.
        unsafe {
            F32x16(n.vld1q_f32(p), n.vld1q_f32(p.add(4)), n.vld1q_f32(p.add(8)), n.vld1q_f32(p.add(12)))
        }
    }
    #[inline(always)]
    fn store(self, dst: &mut Chunk, v: F32x16) {
        let (n, p) = (self.0.neon, dst.as_mut_ptr());
        // SAFETY: `dst` is sixteen writable f32; the stores need no more than an f32's alignment.
        unsafe {
            n.vst1q_f32(p, v.0);
            n.vst1q_f32(p.add(4), v.1);
            n.vst1q_f32(p.add(8), v.2);
            n.vst1q_f32(p.add(12), v.3);
        }
    }
    // NEON has no masked access: a tail goes through a buffer on the stack.
    #[inline(always)]
    fn load_part(self, src: &[f32], fill: F32x16) -> F32x16 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, fill);
        let n = src.len().min(LANES);
        lanes[..n].copy_from_slice(&src[..n]);
        self.load(&lanes)
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: F32x16) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        let n = dst.len().min(LANES);
        dst[..n].copy_from_slice(&lanes[..n]);
    }

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(self.vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(self.vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(self.vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(self.vdivq_f32(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: F32x16) -> F32x16 {
        each!(self.vsqrtq_f32(a))
    }
    #[inline(always)]
    fn mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        each!(self.vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        each!(self.vfmsq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        // vmaxq returns NaN where either is; the contract is `a > b ? a : b`.
        self.select(self.gt(a, b), a, b)
    }
    #[inline(always)]
    fn min(self, a: F32x16, b: F32x16) -> F32x16 {
        self.select(self.gt(b, a), a, b)
    }

    #[inline(always)]
    fn gt(self, a: F32x16, b: F32x16) -> Mask {
        each!(Mask, self.vcgtq_f32(a, b))
    }
    #[inline(always)]
    fn eq(self, a: F32x16, b: F32x16) -> Mask {
        each!(Mask, self.vceqq_f32(a, b))
    }
    #[inline(always)]
    fn select(self, mask: Mask, yes: F32x16, no: F32x16) -> F32x16 {
        each!(self.vbslq_f32(mask, yes, no))
    }
    #[inline(always)]
    fn keep(self, x: F32x16, bits: U32x16) -> F32x16 {
        let x = self.to_bits(x);
        let any = each!(U32x16, self.vtstq_u32(x, bits));
        self.from_bits(self.and(x, any))
    }
    #[inline(always)]
    fn mask_of(self, bits: u16) -> Mask {
        let (n, lanes, bits) = (self.0.neon, lane_bits(self), self.0.neon.vdupq_n_u32(bits as u32));
        Mask(
            n.vtstq_u32(bits, lanes.0),
            n.vtstq_u32(bits, lanes.1),
            n.vtstq_u32(bits, lanes.2),
            n.vtstq_u32(bits, lanes.3),
        )
    }
    #[inline(always)]
    fn bits_of(self, mask: Mask) -> u16 {
        let (n, lanes) = (self.0.neon, lane_bits(self));
        let low = n.vorrq_u32(n.vandq_u32(mask.0, lanes.0), n.vandq_u32(mask.1, lanes.1));
        let high = n.vorrq_u32(n.vandq_u32(mask.2, lanes.2), n.vandq_u32(mask.3, lanes.3));
        // No bit is in two lanes, so that the sum is the union.
        n.vaddvq_u32(n.vorrq_u32(low, high)) as u16
    }

    #[inline(always)]
    fn splat_u32(self, x: u32) -> U32x16 {
        let v = self.0.neon.vdupq_n_u32(x);
        U32x16(v, v, v, v)
    }
    #[inline(always)]
    fn to_bits(self, a: F32x16) -> U32x16 {
        each!(U32x16, self.vreinterpretq_u32_f32(a))
    }
    #[inline(always)]
    fn from_bits(self, a: U32x16) -> F32x16 {
        each!(self.vreinterpretq_f32_u32(a))
    }
    #[inline(always)]
    fn i32_to_f32(self, a: U32x16) -> F32x16 {
        let n = self.0.neon;
        F32x16(
            n.vcvtq_f32_s32(n.vreinterpretq_s32_u32(a.0)),
            n.vcvtq_f32_s32(n.vreinterpretq_s32_u32(a.1)),
            n.vcvtq_f32_s32(n.vreinterpretq_s32_u32(a.2)),
            n.vcvtq_f32_s32(n.vreinterpretq_s32_u32(a.3)),
        )
    }
    #[inline(always)]
    fn add_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, self.vaddq_u32(a, b))
    }
    #[inline(always)]
    fn sub_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, self.vsubq_u32(a, b))
    }
    #[inline(always)]
    fn and(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, self.vandq_u32(a, b))
    }
    #[inline(always)]
    fn or(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, self.vorrq_u32(a, b))
    }
    #[inline(always)]
    fn xor(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, self.veorq_u32(a, b))
    }
    // NEON shifts left by a signed count; LLVM makes an immediate of a constant one.
    #[inline(always)]
    fn shl(self, a: U32x16, n: u32) -> U32x16 {
        self.shift(a, n as i32)
    }
    #[inline(always)]
    fn shr(self, a: U32x16, n: u32) -> U32x16 {
        self.shift(a, -(n as i32))
    }
    #[inline(always)]
    fn sar(self, a: U32x16, n: u32) -> U32x16 {
        let (x, by) = (self.0.neon, self.0.neon.vdupq_n_s32(-(n as i32)));
        U32x16(
            x.vreinterpretq_u32_s32(x.vshlq_s32(x.vreinterpretq_s32_u32(a.0), by)),
            x.vreinterpretq_u32_s32(x.vshlq_s32(x.vreinterpretq_s32_u32(a.1), by)),
            x.vreinterpretq_u32_s32(x.vshlq_s32(x.vreinterpretq_s32_u32(a.2), by)),
            x.vreinterpretq_u32_s32(x.vshlq_s32(x.vreinterpretq_s32_u32(a.3), by)),
        )
    }

    #[inline(always)]
    fn load_u16(self, src: &Half) -> U32x16 {
        let (n, p) = (self.0.neon, src.as_ptr());
        // SAFETY: `src` is sixteen readable u16; the loads need no more than a u16's alignment.
        let (a, b) = unsafe { (n.vld1q_u16(p), n.vld1q_u16(p.add(8))) };
        U32x16(
            n.vmovl_u16(n.vget_low_u16(a)),
            n.vmovl_u16(n.vget_high_u16(a)),
            n.vmovl_u16(n.vget_low_u16(b)),
            n.vmovl_u16(n.vget_high_u16(b)),
        )
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut Half, v: U32x16) {
        let (n, p) = (self.0.neon, dst.as_mut_ptr());
        // SAFETY: `dst` is sixteen writable u16; the stores need no more than a u16's alignment.
        unsafe {
            n.vst1q_u16(p, n.vcombine_u16(n.vmovn_u32(v.0), n.vmovn_u32(v.1)));
            n.vst1q_u16(p.add(8), n.vcombine_u16(n.vmovn_u32(v.2), n.vmovn_u32(v.3)));
        }
    }
    #[inline(always)]
    fn load_bf16(self, src: &Half) -> F32x16 {
        let (n, p) = (self.0.neon, src.as_ptr());
        // SAFETY: `src` is sixteen readable u16; the loads need no more than a u16's alignment.
        let (a, b) = unsafe { (n.vld1q_u16(p), n.vld1q_u16(p.add(8))) };
        let wide = U32x16(
            n.vmovl_u16(n.vget_low_u16(a)),
            n.vmovl_u16(n.vget_high_u16(a)),
            n.vmovl_u16(n.vget_low_u16(b)),
            n.vmovl_u16(n.vget_high_u16(b)),
        );
        self.from_bits(self.shl(wide, 16))
    }
    #[inline(always)]
    fn store_bf16(self, dst: &mut Half, v: F32x16) {
        let (n, p) = (self.0.neon, dst.as_mut_ptr());
        let bits = self.to_bits(v);
        // Half of the last place, less one where that is even: a carry rounds up.
        let even = self.and(self.shr(bits, 16), self.splat_u32(1));
        let rounded = self.add_u32(bits, self.add_u32(even, self.splat_u32(0x7FFF)));
        let rounded = self.from_bits(self.shr(rounded, 16));
        let nan = self.from_bits(self.splat_u32(BF16_NAN as u32));
        let r = self.to_bits(self.select(self.eq(v, v), rounded, nan));
        // SAFETY: `dst` is sixteen writable u16; the stores need no more than a u16's alignment.
        unsafe {
            n.vst1q_u16(p, n.vcombine_u16(n.vmovn_u32(r.0), n.vmovn_u32(r.1)));
            n.vst1q_u16(p.add(8), n.vcombine_u16(n.vmovn_u32(r.2), n.vmovn_u32(r.3)));
        }
    }

    #[inline(always)]
    fn transpose(self, v: &mut [F32x16; LANES]) {
        let w = *v;
        let mut i = 0;
        while i < 4 {
            // Four rows give four columns' quarter `i`.
            let (a, b, c, d) = (w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
            let columns = [
                self.turn4(a.0, b.0, c.0, d.0),
                self.turn4(a.1, b.1, c.1, d.1),
                self.turn4(a.2, b.2, c.2, d.2),
                self.turn4(a.3, b.3, c.3, d.3),
            ];
            let mut j = 0;
            while j < LANES {
                let column = columns[j / 4][j % 4];
                match i {
                    0 => v[j].0 = column,
                    1 => v[j].1 = column,
                    2 => v[j].2 = column,
                    _ => v[j].3 = column,
                }
                j += 1;
            }
            i += 1;
        }
    }

    #[inline(always)]
    fn sum(self, v: F32x16) -> f32 {
        let n = self.0.neon;
        let four = self.four(v);
        // vpadds adds the two lanes that are left.
        n.vpadds_f32(n.vadd_f32(n.vget_low_f32(four), n.vget_high_f32(four)))
    }
    #[inline(always)]
    fn sum16(self, v: &[F32x16; LANES]) -> F32x16 {
        F32x16(self.sum_four(v, 0), self.sum_four(v, 4), self.sum_four(v, 8), self.sum_four(v, 12))
    }

    // NEON has no gather: sixteen loads.
    #[inline(always)]
    fn sum_quad(self, v: [F32x16; 4]) -> F32x16 {
        F32x16(self.four(v[0]), self.four(v[1]), self.four(v[2]), self.four(v[3]))
    }
    #[inline(always)]
    fn sum_quads(self, v: &[F32x16; 4]) -> F32x16 {
        F32x16(self.sum_of_quad(v[0]), self.sum_of_quad(v[1]), self.sum_of_quad(v[2]), self.sum_of_quad(v[3]))
    }

    #[inline(always)]
    fn gather<I: Index>(self, block: GatherBlock<'_, I>) -> F32x16 {
        self.gather_loads(block)
    }
}
