//! The virtual vector: sixteen `f32` lanes, the same on every tier, and the one dispatch above a kernel's loop.
//!
//! A kernel is a struct of borrowed slices with one generic [`Kernel::run`]. It sees one register on AVX-512, two on
//! AVX2, four on NEON and an array on scalar. Every operation here is IEEE-754 binary32, rounded to nearest even,
//! and gives the same bits on each tier; the order of a reduction is fixed by [`Lanes::sum`].
//!
//! This folder is the only room with intrinsics and `unsafe`. The trap to know: a closure, an iterator adaptor or a
//! function that is not inlined into `run` loses the target features, and each intrinsic becomes a call. So helpers
//! are `#[inline(always)]` functions and hot loops are plain `for` loops.

// The safe operations of a tier's token are pulp's; what is unsafe here is loads, stores and proofs about indices.
// The AVX-512 tier ends its sums with the AVX2 tier's.
#[cfg(any(hotlanes_avx2, hotlanes_avx512))]
mod avx2;
#[cfg(hotlanes_avx512)]
mod avx512;
mod block;
pub(crate) mod environment;
mod indexed;
#[cfg(hotlanes_neon)]
mod neon;
#[cfg(any(hotlanes_scalar, test))]
mod scalar;
mod stack;
#[cfg(test)]
mod tests;

pub(crate) use block::{Block, HeadsBlock, extent, heads_extent};
pub use indexed::Index;
pub(crate) use indexed::{Accumulate, GatherBlock, IndexList, Lookup, Permutation, Rows, Slots};

pub(crate) use stack::{PanelStack, Source, Stack};

use crate::tier::{Active, Tier};

/// How many `f32` lanes the virtual vector has.
pub const LANES: usize = 16;

/// One vector's worth of memory.
pub(crate) type Chunk = [f32; LANES];

/// Neighbouring values that [`Lanes::pick`] picks from.
pub(crate) const NEAR: usize = 4 * LANES;

/// One vector's worth of bf16 in memory, as bits.
pub(crate) type Half = [u16; LANES];
/// The bits of which a normal `f32` has one at least, and a subnormal one or zero none.
pub(crate) const EXPONENT: u32 = 0x7F80_0000;

/// 1.5 * 2^23: a sum with it is rounded to a whole number, which lies in its low bits.
pub(crate) const MAGIC: f32 = 12_582_912.0;
/// With the exponent's bias, so that the low bits are that number's exponent field.
pub(crate) const BIASED: f32 = MAGIC + 127.0;

/// `2^n` for `n` from -126 to 127; some number for others.
#[inline(always)]
pub(crate) const fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32).wrapping_shl(23))
}

/// The one NaN that [`Lanes::store_bf16`] writes.
#[cfg_attr(not(any(hotlanes_scalar, hotlanes_neon, test)), allow(dead_code))]
const BF16_NAN: u16 = 0x7FC0;

/// Sixteen `f32` lanes on one tier. The value is the proof that this CPU has the tier's instructions.
pub(crate) trait Lanes: Copy + Send + Sync {
    /// Whether sixteen lanes times eight accumulators fit the register file, so that wider blocks pay.
    const WIDE: bool;
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen integers of 32 bits; each operation says whether it takes them as signed.
    type I: Copy;
    /// One truth for each lane.
    type M: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Loads sixteen lanes from memory of any alignment.
    fn load(self, src: &Chunk) -> Self::F;
    /// Stores sixteen lanes to memory of any alignment.
    fn store(self, dst: &mut Chunk, v: Self::F);
    /// Loads `src.len()` lanes (at most sixteen) and takes the rest from `fill`. Reads nothing beyond `src`.
    fn load_part(self, src: &[f32], fill: Self::F) -> Self::F;
    /// Stores the first `dst.len()` lanes. Writes nothing beyond `dst`.
    fn store_part(self, dst: &mut [f32], v: Self::F);
    /// Loads `src.len()` lanes (at most sixteen) into the last ones and takes those before from `fill`. Reads nothing
    /// beyond `src`.
    #[inline(always)]
    fn load_end(self, src: &[f32], fill: Self::F) -> Self::F {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, fill);
        let n = src.len().min(LANES);
        lanes[LANES - n..].copy_from_slice(&src[..n]);
        self.load(&lanes)
    }
    /// Stores the last `dst.len()` lanes (at most sixteen). Writes nothing beyond `dst`.
    #[inline(always)]
    fn store_end(self, dst: &mut [f32], v: Self::F) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, v);
        let n = dst.len().min(LANES);
        dst[..n].copy_from_slice(&lanes[LANES - n..]);
    }
    /// How many of `data` lie before the first boundary of a cache line, where accesses across one cost time; else 0.
    #[inline(always)]
    fn before_line(self, data: &[f32]) -> usize {
        let _ = data;
        0
    }
    /// Asks for vector `i` before it is needed, where the tier can; `i` may lie beyond the end.
    #[inline(always)]
    fn prefetch(self, vectors: &[Chunk], i: usize) {
        let _ = (vectors, i);
    }

    /// The same for the L2 cache: what is needed much later would only be in the way of the L1 cache.
    #[inline(always)]
    fn prefetch_far(self, vectors: &[Chunk], i: usize) {
        let _ = (vectors, i);
    }

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`, correctly rounded
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// Whether [`recip_each`](Lanes::recip_each) divides.
    #[inline(always)]
    fn divides(self) -> bool {
        true
    }
    /// `1 / x`, correctly rounded, of several vectors at once: a tier may interleave them. `above` promises that each `x`
    /// is NaN or at least 2^-63, which saves a check.
    #[inline(always)]
    fn recip_each<const N: usize>(self, mut x: [Self::F; N], above: bool) -> [Self::F; N] {
        let _ = above;
        let one = self.splat(1.0);
        for x in &mut x {
            *x = self.div(one, *x);
        }
        x
    }
    /// `sqrt(a)`, correctly rounded
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a * b + c` with one rounding
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b` with one rounding
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `a > b`, else `b`; so `b` where either is NaN
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `a < b`, else `b`; so `b` where either is NaN
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `v * 2^n` with one rounding, also where the result is denormal, for `|v|` from 1/2 to 2, 0 or infinite, and whole `n`
    /// from -240 to 240. NaN where `v` is, whatever `n` is.
    #[inline(always)]
    fn scale(self, v: Self::F, n: Self::F) -> Self::F {
        // The product with each half of the power is exact, but for the last, which rounds. `half` is n / 2, rounded to a
        // whole number, and `rest` what n has beside it, each with `BIASED` added.
        let half = self.mul_add(n, self.splat(0.5), self.splat(BIASED));
        let rest = self.sub(n, self.sub(half, self.splat(2.0 * BIASED)));
        self.mul(self.mul(v, self.power_of(half)), self.power_of(rest))
    }
    /// [`Lanes::scale`] for `|v|` below 2 and `n + up` from -125 to 127: half the work where there is no instruction for it.
    #[inline(always)]
    fn scale_near(self, v: Self::F, n: Self::F, up: i32) -> Self::F {
        let power = self.power_of(self.add(n, self.splat(BIASED + up as f32)));
        self.mul(self.mul(v, power), self.splat(power_of_two(-up)))
    }
    /// `2^n` of `n + BIASED`, for `n` from -126 to 127; some number for others.
    #[inline(always)]
    fn power_of(self, biased: Self::F) -> Self::F {
        self.from_bits(self.shl(self.to_bits(biased), 23))
    }
    /// `|a|`
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.from_bits(self.and(self.to_bits(a), self.splat_u32(0x7FFF_FFFF)))
    }

    /// Whether `a > b`: false where either is NaN
    fn gt(self, a: Self::F, b: Self::F) -> Self::M;
    /// Whether `a == b`: false where either is NaN
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// `yes` where `mask` holds, else `no`
    fn select(self, mask: Self::M, yes: Self::F, no: Self::F) -> Self::F;
    /// `x` where it has any of these bits, else 0. The topmost must be none of them.
    fn keep(self, x: Self::F, bits: Self::I) -> Self::F;
    /// Lane `i` holds where bit `i` is set.
    fn mask_of(self, bits: u16) -> Self::M;
    /// Bit `i` is set where lane `i` holds.
    fn bits_of(self, mask: Self::M) -> u16;

    /// All lanes `x`.
    fn splat_u32(self, x: u32) -> Self::I;
    /// The bits of each lane.
    fn to_bits(self, a: Self::F) -> Self::I;
    /// The `f32` of these bits.
    // The token comes first, as in every operation.
    #[allow(clippy::wrong_self_convention)]
    fn from_bits(self, a: Self::I) -> Self::F;
    /// The nearest `f32` of each lane as a signed integer; exact up to 2^24.
    fn i32_to_f32(self, a: Self::I) -> Self::F;
    /// `a + b`, wrapping
    fn add_u32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`, wrapping
    fn sub_u32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a & b`
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a | b`
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a ^ b`
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a << n`, for `n` below 32
    fn shl(self, a: Self::I, n: u32) -> Self::I;
    /// `a >> n` with zeros from above, for `n` below 32
    fn shr(self, a: Self::I, n: u32) -> Self::I;
    /// `a >> n` with copies of the sign from above, for `n` below 32
    fn sar(self, a: Self::I, n: u32) -> Self::I;
    /// `a` rotated left by `n`, from 1 to 31
    #[inline(always)]
    fn rotl(self, a: Self::I, n: u32) -> Self::I {
        self.or(self.shl(a, n), self.shr(a, 32 - n))
    }

    /// Sixteen integers of 16 bits, with zeros above.
    fn load_u16(self, src: &Half) -> Self::I;
    /// The lower 16 bits of each lane.
    fn store_u16(self, dst: &mut Half, v: Self::I);
    /// Sixteen bf16, which are exact in `f32`.
    fn load_bf16(self, src: &Half) -> Self::F;
    /// The nearest bf16, ties to even; every NaN as the same one, 0x7FC0. Denormals are kept.
    fn store_bf16(self, dst: &mut Half, v: Self::F);
    /// [`Lanes::load_bf16`] of `src.len()` lanes (at most sixteen), the rest zero.
    #[inline(always)]
    fn load_bf16_part(self, src: &[u16]) -> Self::F {
        let mut lanes = [0; LANES];
        let n = src.len().min(LANES);
        lanes[..n].copy_from_slice(&src[..n]);
        self.load_bf16(&lanes)
    }
    /// [`Lanes::store_bf16`] of the first `dst.len()` lanes.
    #[inline(always)]
    fn store_bf16_part(self, dst: &mut [u16], v: Self::F) {
        let mut lanes = [0; LANES];
        self.store_bf16(&mut lanes, v);
        let n = dst.len().min(LANES);
        dst[..n].copy_from_slice(&lanes[..n]);
    }

    /// Rows for columns: lane `j` of vector `i` goes to lane `i` of vector `j`.
    fn transpose(self, v: &mut [Self::F; LANES]);

    /// The sum of the lanes by halving: `v[i] + v[i+8]`, then `+4`, `+2`, `+1`.
    fn sum(self, v: Self::F) -> f32;
    /// [`Lanes::sum`] of each of sixteen vectors, by transposition: lane `i` is `sum(v[i])`, bit for bit.
    fn sum16(self, v: &[Self::F; LANES]) -> Self::F;

    /// [`Lanes::sum`] of sixteen vectors in two steps, of which this is the first two halvings of four of them: lanes `4 j` to
    /// `4 j + 3` are what is left of vector `j`.
    fn sum_quad(self, v: [Self::F; 4]) -> Self::F;
    /// The other two halvings: lane `4 q + j` is the sum of vector `j` of quad `q`.
    fn sum_quads(self, v: &[Self::F; 4]) -> Self::F;

    /// The block's values, and zero in the lanes that it has no index for; by the CPU's gather instruction where
    /// there is one.
    fn gather<I: Index>(self, block: GatherBlock<'_, I>) -> Self::F;

    /// Lane `i` is value `at[i] % 64` of four neighbouring vectors.
    #[inline(always)]
    fn pick(self, from: &[Chunk; NEAR / LANES], at: &[u8; LANES]) -> Self::F {
        let mut lanes = [0.0; LANES];
        for i in 0..LANES {
            lanes[i] = from.as_flattened()[at[i] as usize % NEAR];
        }
        self.load(&lanes)
    }

    /// [`Lanes::gather`] by one load per lane, for CPUs whose gather is slow (see `tuning::prefer_gather`).
    #[inline(always)]
    fn gather_loads<I: Index>(self, block: GatherBlock<'_, I>) -> Self::F {
        let n = block.indices().len();
        let mut lanes = [0.0; LANES];
        if n == LANES {
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = block.get(i);
            }
        } else {
            for (i, lane) in lanes[..n].iter_mut().enumerate() {
                *lane = block.get(i);
            }
        }
        self.load(&lanes)
    }
}

/// A kernel: borrowed arguments, and one body for all tiers.
pub(crate) trait Kernel {
    /// What the kernel returns.
    type Output;

    /// The body; `#[inline(always)]`, or it loses the tier's instructions.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// [`Lanes::before_line`] of a tier.
pub(crate) fn before_line(active: Active, data: &[f32]) -> usize {
    if matches!(active.tier(), Tier::Avx2 | Tier::Avx512) { to_line(data) } else { 0 }
}

/// How many values after the start of `data` a cache line begins, be they its own or not: 0 to 15.
#[inline(always)]
fn to_line(data: &[f32]) -> usize {
    (data.as_ptr().addr() / size_of::<f32>()).wrapping_neg() % LANES
}

/// Lets pulp run a kernel inside a function that has the tier's instructions enabled.
#[cfg(any(hotlanes_avx2, hotlanes_avx512))]
struct OnTier<L, K>(L, K);

#[cfg(any(hotlanes_avx2, hotlanes_avx512))]
impl<L: Lanes, K: Kernel> pulp::NullaryFnOnce for OnTier<L, K> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.1.run(self.0)
    }
}

/// Runs `kernel` on the tier: the one real call between a public function and its loop.
#[inline(always)]
pub(crate) fn dispatch<K: Kernel>(active: Active, kernel: K) -> K::Output {
    environment::debug_check();
    match active.tier() {
        #[cfg(hotlanes_avx512)]
        Tier::Avx512 => {
            // SAFETY: `Active` is made only by `Active::check`, which found that this CPU has the tier, or stands
            // for the tier that the whole binary was compiled for.
            let token = unsafe { pulp::x86::V4::new_unchecked() };
            token.vectorize(OnTier(avx512::Avx512::new(token, active.divides()), kernel))
        }
        #[cfg(hotlanes_avx2)]
        Tier::Avx2 => {
            // SAFETY: as above.
            let token = unsafe { pulp::x86::V3::new_unchecked() };
            token.vectorize(OnTier(avx2::Avx2(token), kernel))
        }
        #[cfg(hotlanes_neon)]
        Tier::Neon => {
            // SAFETY: as above.
            let token = unsafe { pulp::aarch64::Neon::new_unchecked() };
            on_neon(neon::Neon(token), kernel)
        }
        #[cfg(hotlanes_scalar)]
        Tier::Scalar => on_scalar(kernel),
        // `Active::check` refuses a tier that was not compiled in.
        #[allow(unreachable_patterns)]
        tier => unreachable!("the tier {tier} was found available but is not compiled in"),
    }
}

/// A call of its own, as on the other tiers, so that machine code and counts can be told apart by symbol.
#[cfg(hotlanes_scalar)]
#[inline(never)]
fn on_scalar<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(scalar::Scalar)
}

/// A call of its own here too. NEON is the target's baseline (`build.rs` asks for it), so every function has its
/// instructions, and there is nothing for pulp to enable.
#[cfg(hotlanes_neon)]
#[inline(never)]
fn on_neon<K: Kernel>(lanes: neon::Neon, kernel: K) -> K::Output {
    kernel.run(lanes)
}
