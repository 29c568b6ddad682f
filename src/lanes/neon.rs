//! NEON: the virtual vector is four registers.

use core::arch::aarch64::float32x4_t;

use super::{Chunk, GatherBlock, Index, LANES, Lanes};

/// The tier's token: pulp's proof that the CPU has Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(super) pulp::aarch64::Neon);

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

/// The same operation on each register.
macro_rules! each {
    ($lanes:ident.$op:ident($($arg:ident),+)) => {
        F32x16(
            $lanes.0.neon.$op($($arg.0),+),
            $lanes.0.neon.$op($($arg.1),+),
            $lanes.0.neon.$op($($arg.2),+),
            $lanes.0.neon.$op($($arg.3),+),
        )
    };
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

    /// `[a0 + a2, a1 + a3, b0 + b2, b1 + b3]`
    #[inline(always)]
    fn add_pairs(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        let n = self.0.neon;
        let (x, y) = (n.vreinterpretq_f64_f32(a), n.vreinterpretq_f64_f32(b));
        n.vaddq_f32(n.vreinterpretq_f32_f64(n.vtrn1q_f64(x, y)), n.vreinterpretq_f32_f64(n.vtrn2q_f64(x, y)))
    }
}

impl Lanes for Neon {
    const WIDE: bool = false;
    type F = F32x16;

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
        let greater = F32x16Mask(
            self.0.neon.vcgtq_f32(a.0, b.0),
            self.0.neon.vcgtq_f32(a.1, b.1),
            self.0.neon.vcgtq_f32(a.2, b.2),
            self.0.neon.vcgtq_f32(a.3, b.3),
        );
        each!(self.vbslq_f32(greater, a, b))
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
    fn gather<I: Index>(self, block: GatherBlock<'_, I>) -> F32x16 {
        self.gather_loads(block)
    }
}

/// A mask of sixteen lanes.
#[derive(Clone, Copy)]
struct F32x16Mask(
    core::arch::aarch64::uint32x4_t,
    core::arch::aarch64::uint32x4_t,
    core::arch::aarch64::uint32x4_t,
    core::arch::aarch64::uint32x4_t,
);
