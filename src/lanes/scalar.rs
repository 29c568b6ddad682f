//! Scalar: the virtual vector is an array, in plain Rust. LLVM may use the target's baseline vectors for it.

use super::{Chunk, GatherBlock, Index, LANES, Lanes};

/// The tier's token; there is nothing to prove.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// An array rather than a register.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(Chunk);

/// The same operation on each lane. A loop, not `from_fn` or a closure: those are not always inlined.
macro_rules! each {
    ($i:ident => $e:expr) => {{
        let mut out = [0.0; LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $e;
            $i += 1;
        }
        F32x16(out)
    }};
}

/// `a * b + c` with one rounding, whether or not the target has the instruction.
///
/// Without it, std's `mul_add` calls the C library, whose answer is not the same everywhere. Here the product is
/// exact in f64 (24 + 24 bits), the sum is rounded to odd at 53 bits, and a value rounded to odd with at least two
/// spare bits rounds to the correct f32 (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums").
#[inline(always)]
pub(crate) fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        return a.mul_add(b, c);
    }
    let (product, c) = (a as f64 * b as f64, c as f64);
    let sum = product + c;
    // Knuth's TwoSum: sum + error is exactly product + c. NaN for infinities, which the comparisons below pass over.
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // Inexact and even: the odd neighbour on the error's side. Away from zero if both have the same sign.
    let away = (error > 0.0) == (sum > 0.0);
    let inexact = (error > 0.0) | (error < 0.0);
    let step = (inexact & (bits & 1 == 0)) as u64;
    let odd = if away { bits.wrapping_add(step) } else { bits.wrapping_sub(step) };
    f64::from_bits(odd) as f32
}

impl Lanes for Scalar {
    const WIDE: bool = false;
    type F = F32x16;

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        F32x16([x; LANES])
    }
    #[inline(always)]
    fn load(self, src: &Chunk) -> F32x16 {
        F32x16(*src)
    }
    #[inline(always)]
    fn store(self, dst: &mut Chunk, v: F32x16) {
        *dst = v.0;
    }
    #[inline(always)]
    fn load_part(self, src: &[f32], fill: F32x16) -> F32x16 {
        let mut lanes = fill.0;
        let n = src.len().min(LANES);
        lanes[..n].copy_from_slice(&src[..n]);
        F32x16(lanes)
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: F32x16) {
        let n = dst.len().min(LANES);
        dst[..n].copy_from_slice(&v.0[..n]);
    }

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => a.0[i] + b.0[i])
    }
    #[inline(always)]
    fn sub(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => a.0[i] - b.0[i])
    }
    #[inline(always)]
    fn mul(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => a.0[i] * b.0[i])
    }
    #[inline(always)]
    fn div(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => a.0[i] / b.0[i])
    }
    #[inline(always)]
    fn sqrt(self, a: F32x16) -> F32x16 {
        each!(i => a.0[i].sqrt())
    }
    #[inline(always)]
    fn mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        each!(i => mul_add(a.0[i], b.0[i], c.0[i]))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        each!(i => mul_add(-a.0[i], b.0[i], c.0[i]))
    }
    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] })
    }

    #[inline(always)]
    fn sum(self, v: F32x16) -> f32 {
        let mut v = v.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
    #[inline(always)]
    fn sum16(self, v: &[F32x16; LANES]) -> F32x16 {
        each!(i => self.sum(v[i]))
    }

    #[inline(always)]
    fn gather<I: Index>(self, block: GatherBlock<'_, I>) -> F32x16 {
        self.gather_loads(block)
    }
}
