//! Scalar: the virtual vector is an array, in plain Rust. LLVM may use the target's baseline vectors for it.

use super::{BF16_NAN, Chunk, GatherBlock, Half, Index, LANES, Lanes, MAGIC, power_of_two};

/// The tier's token; there is nothing to prove.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// An array rather than a register.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(Chunk);

/// Sixteen integers.
#[derive(Clone, Copy)]
pub(crate) struct U32x16([u32; LANES]);

/// All ones where a lane holds, so that a select is three operations on bits.
#[derive(Clone, Copy)]
pub(crate) struct Mask([u32; LANES]);

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
    ($make:ident, $i:ident => $e:expr) => {{
        let mut out = [0; LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $e;
            $i += 1;
        }
        $make(out)
    }};
}

/// Whether whatever this is built for has the instruction.
const NATIVE: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// `a * b + c` with one rounding, whether or not the target has the instruction.
///
/// Without it, std's `mul_add` calls the C library, whose answer is not the same everywhere. Here the product is
/// exact in f64 (24 + 24 bits), the sum is rounded to odd at 53 bits, and a value rounded to odd with at least two
/// spare bits rounds to the correct f32 (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums").
#[inline(always)]
pub(crate) fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if NATIVE {
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

/// The same of sixteen, where it is emulated. A call, as each is some three hundred instructions: inlined, they were two thirds of
/// this library.
#[inline(never)]
fn emulated(a: &F32x16, b: &F32x16, c: &F32x16) -> F32x16 {
    each!(i => mul_add(a.0[i], b.0[i], c.0[i]))
}

impl Lanes for Scalar {
    const WIDE: bool = false;
    type F = F32x16;
    type I = U32x16;
    type M = Mask;

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
        if NATIVE { each!(i => mul_add(a.0[i], b.0[i], c.0[i])) } else { emulated(&a, &b, &c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        self.mul_add(each!(i => -a.0[i]), b, c)
    }
    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] })
    }
    #[inline(always)]
    fn min(self, a: F32x16, b: F32x16) -> F32x16 {
        each!(i => if a.0[i] < b.0[i] { a.0[i] } else { b.0[i] })
    }
    /// The product with each half of the power is exact, but for the last, which rounds.
    #[inline(always)]
    fn scale(self, v: F32x16, n: F32x16) -> F32x16 {
        // `as` would look for NaN.
        let mut power = [0; LANES];
        let mut i = 0;
        while i < LANES {
            power[i] = ((n.0[i] + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
            i += 1;
        }
        each!(i => v.0[i] * power_of_two(power[i] >> 1) * power_of_two(power[i].wrapping_sub(power[i] >> 1)))
    }

    #[inline(always)]
    fn gt(self, a: F32x16, b: F32x16) -> Mask {
        each!(Mask, i => if a.0[i] > b.0[i] { !0 } else { 0 })
    }
    #[inline(always)]
    fn eq(self, a: F32x16, b: F32x16) -> Mask {
        each!(Mask, i => if a.0[i] == b.0[i] { !0 } else { 0 })
    }
    #[inline(always)]
    fn select(self, mask: Mask, yes: F32x16, no: F32x16) -> F32x16 {
        each!(i => f32::from_bits(yes.0[i].to_bits() & mask.0[i] | no.0[i].to_bits() & !mask.0[i]))
    }
    #[inline(always)]
    fn keep(self, x: F32x16, bits: U32x16) -> F32x16 {
        each!(i => if x.0[i].to_bits() & bits.0[i] != 0 { x.0[i] } else { 0.0 })
    }
    #[inline(always)]
    fn mask_of(self, bits: u16) -> Mask {
        each!(Mask, i => 0u32.wrapping_sub(bits as u32 >> i & 1))
    }
    #[inline(always)]
    fn bits_of(self, mask: Mask) -> u16 {
        let mut bits = 0;
        let mut i = 0;
        while i < LANES {
            bits |= mask.0[i] & 1 << i;
            i += 1;
        }
        bits as u16
    }

    #[inline(always)]
    fn splat_u32(self, x: u32) -> U32x16 {
        U32x16([x; LANES])
    }
    #[inline(always)]
    fn to_bits(self, a: F32x16) -> U32x16 {
        each!(U32x16, i => a.0[i].to_bits())
    }
    #[inline(always)]
    fn from_bits(self, a: U32x16) -> F32x16 {
        each!(i => f32::from_bits(a.0[i]))
    }
    #[inline(always)]
    fn i32_to_f32(self, a: U32x16) -> F32x16 {
        each!(i => a.0[i] as i32 as f32)
    }
    #[inline(always)]
    fn add_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, i => a.0[i].wrapping_add(b.0[i]))
    }
    #[inline(always)]
    fn sub_u32(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, i => a.0[i].wrapping_sub(b.0[i]))
    }
    #[inline(always)]
    fn and(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, i => a.0[i] & b.0[i])
    }
    #[inline(always)]
    fn or(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, i => a.0[i] | b.0[i])
    }
    #[inline(always)]
    fn xor(self, a: U32x16, b: U32x16) -> U32x16 {
        each!(U32x16, i => a.0[i] ^ b.0[i])
    }
    #[inline(always)]
    fn shl(self, a: U32x16, n: u32) -> U32x16 {
        each!(U32x16, i => a.0[i].wrapping_shl(n))
    }
    #[inline(always)]
    fn shr(self, a: U32x16, n: u32) -> U32x16 {
        each!(U32x16, i => a.0[i].wrapping_shr(n))
    }
    #[inline(always)]
    fn sar(self, a: U32x16, n: u32) -> U32x16 {
        each!(U32x16, i => (a.0[i] as i32).wrapping_shr(n) as u32)
    }

    #[inline(always)]
    fn load_u16(self, src: &Half) -> U32x16 {
        each!(U32x16, i => src[i] as u32)
    }
    #[inline(always)]
    fn store_u16(self, dst: &mut Half, v: U32x16) {
        let mut i = 0;
        while i < LANES {
            dst[i] = v.0[i] as u16;
            i += 1;
        }
    }
    #[inline(always)]
    fn load_bf16(self, src: &Half) -> F32x16 {
        each!(i => f32::from_bits((src[i] as u32) << 16))
    }
    #[inline(always)]
    fn store_bf16(self, dst: &mut Half, v: F32x16) {
        let mut i = 0;
        while i < LANES {
            let bits = v.0[i].to_bits();
            // Half of the last place, less one where that is even: a carry rounds up.
            let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
            dst[i] = if v.0[i].is_nan() { BF16_NAN } else { rounded };
            i += 1;
        }
    }

    #[inline(always)]
    fn transpose(self, v: &mut [F32x16; LANES]) {
        let mut i = 0;
        while i < LANES {
            let mut j = 0;
            while j < i {
                let (a, b) = (v[i].0[j], v[j].0[i]);
                v[i].0[j] = b;
                v[j].0[i] = a;
                j += 1;
            }
            i += 1;
        }
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
    fn sum_quad(self, v: [F32x16; 4]) -> F32x16 {
        each!(i => {
            let (v, i) = (&v[i / 4].0, i % 4);
            (v[i] + v[i + 8]) + (v[i + 4] + v[i + 12])
        })
    }
    #[inline(always)]
    fn sum_quads(self, v: &[F32x16; 4]) -> F32x16 {
        each!(i => {
            let (v, at) = (&v[i / 4].0, i % 4 * 4);
            (v[at] + v[at + 2]) + (v[at + 1] + v[at + 3])
        })
    }

    #[inline(always)]
    fn gather<I: Index>(self, block: GatherBlock<'_, I>) -> F32x16 {
        self.gather_loads(block)
    }
}
