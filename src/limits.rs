//! The machine's limits, asked for with the same lanes as the kernels: loops that do nothing but read, copy,
//! update, multiply-add or take roots. They hold no clock: the caller times them and divides what they count by the seconds.
//!
//! Each runs on the active tier ([`with_tier`](crate::with_tier) chooses another) and on the calling thread only.

use std::hint::black_box;

use crate::error::check_len;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::tier::active;

/// Floating-point operations in one iteration of [`fma_chain`]: a fused multiply-add counts as two.
pub const FMA_FLOPS: usize = 2 * LANES * CHAINS * STEPS;

/// Square roots in one iteration of [`sqrt_chain`].
pub const SQRT_ROOTS: usize = LANES * ROOTS;

/// Sums `src`: `4 * src.len()` bytes read, none written.
///
/// The sum only keeps the loads alive; its order is fixed, so it has the same bits on every tier.
pub fn read(src: &[f32]) -> f32 {
    dispatch(active(), Read { src })
}

/// Copies `src` to `dst`: `4 * src.len()` bytes read and as many written, both counted.
///
/// Ordinary stores, as in the kernels, none that pass by the caches: so beyond the caches the memory also carries
/// each line of `dst` inwards before it is overwritten, and this traffic is not counted. A kernel that updates in
/// place is spared it: [`update`] is its limit.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn copy(src: &[f32], dst: &mut [f32]) {
    check_len("copy", "dst", dst.len(), src.len(), "src");
    dispatch(active(), Copy { src, dst });
}

/// Multiplies `values` by `factor` in place: `4 * values.len()` bytes read and as many written, both counted.
pub fn update(values: &mut [f32], factor: f32) {
    dispatch(active(), Update { values, factor });
}

/// Runs chains of `x = x * a + b` that depend only on themselves: `iterations *` [`FMA_FLOPS`] operations, no memory.
pub fn fma_chain(iterations: usize) -> f32 {
    dispatch(active(), FmaChain { iterations })
}

/// Takes square roots in chains that depend only on themselves: `iterations *` [`SQRT_ROOTS`] of them, no memory.
///
/// An optimizer step on data in cache is bound by this and not by the multipliers.
pub fn sqrt_chain(iterations: usize) -> f32 {
    dispatch(active(), SqrtChain { iterations })
}

struct Read<'a> {
    src: &'a [f32],
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        // Two accumulators, each fed by the sum of eight vectors: sixteen loads for one latency of the chain, and few
        // enough registers for NEON, where a vector takes four of them.
        let (vectors, rest) = self.src.as_chunks::<LANES>();
        let (blocks, single) = vectors.as_chunks::<16>();
        let (mut sum, mut other) = (l.splat(0.0), l.splat(0.0));
        for block in blocks {
            sum = l.add(sum, l.add(four(l, block, 0), four(l, block, 4)));
            other = l.add(other, l.add(four(l, block, 8), four(l, block, 12)));
        }
        for v in single {
            sum = l.add(sum, l.load(v));
        }
        if !rest.is_empty() {
            sum = l.add(sum, l.load_part(rest, l.splat(0.0)));
        }
        l.sum(l.add(sum, other))
    }
}

/// The sum of four vectors from `at` on.
#[inline(always)]
fn four<L: Lanes>(l: L, block: &[Chunk; 16], at: usize) -> L::F {
    let two = l.add(l.load(&block[at]), l.load(&block[at + 1]));
    l.add(l.add(two, l.load(&block[at + 2])), l.load(&block[at + 3]))
}

struct Copy<'a> {
    src: &'a [f32],
    dst: &'a mut [f32],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (src, src_rest) = self.src.as_chunks::<LANES>();
        let (dst, dst_rest) = self.dst.as_chunks_mut::<LANES>();
        let (src, src_single) = src.as_chunks::<4>();
        let (dst, dst_single) = dst.as_chunks_mut::<4>();
        for (s, d) in src.iter().zip(dst) {
            let v = [l.load(&s[0]), l.load(&s[1]), l.load(&s[2]), l.load(&s[3])];
            l.store(&mut d[0], v[0]);
            l.store(&mut d[1], v[1]);
            l.store(&mut d[2], v[2]);
            l.store(&mut d[3], v[3]);
        }
        for (s, d) in src_single.iter().zip(dst_single) {
            l.store(d, l.load(s));
        }
        if !src_rest.is_empty() {
            l.store_part(dst_rest, l.load_part(src_rest, l.splat(0.0)));
        }
    }
}

struct Update<'a> {
    values: &'a mut [f32],
    factor: f32,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let factor = l.splat(self.factor);
        let (vectors, rest) = self.values.as_chunks_mut::<LANES>();
        let (blocks, single) = vectors.as_chunks_mut::<4>();
        for b in blocks {
            for v in b {
                l.store(v, l.mul(l.load(v), factor));
            }
        }
        for v in single {
            l.store(v, l.mul(l.load(v), factor));
        }
        if !rest.is_empty() {
            let v = l.mul(l.load_part(rest, factor), factor);
            l.store_part(rest, v);
        }
    }
}

/// Chains of multiply-adds: twelve registers on AVX-512, where two units with a latency of four need eight.
const CHAINS: usize = 12;
/// Links of each chain in one iteration, so that the loop's own instructions weigh little.
const STEPS: usize = 5;

struct FmaChain {
    iterations: usize,
}

impl Kernel for FmaChain {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        if L::WIDE {
            chains::<L, CHAINS>(l, self.iterations, 0.0)
        } else {
            // Half of the chains at a time: twelve registers on AVX2, twenty-four on NEON, still more than the
            // units have in flight. The same work in all, so that a FLOP count needs no tier.
            const HALF: usize = CHAINS / 2;
            chains::<L, HALF>(l, self.iterations, 0.0) + chains::<L, HALF>(l, self.iterations, HALF as f32)
        }
    }
}

/// `N` chains that start at `from`, `from + 1` and so on: different values, or the compiler would merge them.
#[inline(always)]
fn chains<L: Lanes, const N: usize>(l: L, iterations: usize, from: f32) -> f32 {
    // The chains approach 1: neither overflow nor subnormal numbers.
    let (a, b) = (l.splat(0.75), l.splat(0.25));
    let mut x = [a; N];
    // Hidden from the compiler, which would leave out the chain that starts at 1 and stays there.
    let from = black_box(from);
    for (i, x) in x.iter_mut().enumerate() {
        *x = l.splat(from + i as f32);
    }
    for _ in 0..iterations {
        for _ in 0..STEPS {
            for x in &mut x {
                *x = l.mul_add(*x, a, b);
            }
        }
    }
    // Half of the chains at a time, as the narrow tiers take them: the same bits.
    let mut total = 0.0;
    for half in x.chunks(CHAINS / 2) {
        let mut sum = half[0];
        for x in &half[1..] {
            sum = l.add(sum, *x);
        }
        total += l.sum(sum);
    }
    total
}

/// Chains of roots: four vectors keep a divider busy that takes a root in about two thirds of its latency or more.
const ROOTS: usize = 4;

struct SqrtChain {
    iterations: usize,
}

impl Kernel for SqrtChain {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        // x = sqrt(x) + b alone would do, but settles at a number that some dividers are quicker with.
        let (a, b) = (l.splat(1.7), l.splat(0.3));
        let mut x = [a; ROOTS];
        for (i, x) in x.iter_mut().enumerate() {
            *x = l.splat(1.0 + i as f32);
        }
        for _ in 0..self.iterations {
            for x in &mut x {
                *x = l.mul_add(l.sqrt(*x), a, b);
            }
        }
        l.sum(l.add(l.add(x[0], x[1]), l.add(x[2], x[3])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tier, with_tier};

    #[test]
    fn the_same_on_every_tier() {
        let src: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let mut bits = Vec::new();
        for tier in Tier::available() {
            for n in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
                with_tier(tier, || {
                    let src = &src[..n];
                    let mut dst = vec![f32::NAN; n];
                    copy(src, &mut dst);
                    assert_eq!(src, dst, "{tier}, {n}");
                    update(&mut dst, 0.5);
                    assert!(src.iter().zip(&dst).all(|(s, d)| s * 0.5 == *d), "{tier}, {n}");
                    let sum: f64 = src.iter().map(|x| f64::from(*x)).sum();
                    assert!((f64::from(read(src)) - sum).abs() < 1e-4, "{tier}, {n}");
                })
                .unwrap();
            }
            bits.push(
                with_tier(tier, || {
                    [read(&src), fma_chain(4), fma_chain(20), sqrt_chain(9)].map(f32::to_bits)
                })
                .unwrap(),
            );
        }
        assert!(bits.windows(2).all(|w| w[0] == w[1]), "{bits:?}");
    }

    #[test]
    fn chains_settle() {
        for tier in Tier::available() {
            let x = with_tier(tier, || fma_chain(40)).unwrap();
            // Each lane of each chain has come to 1.
            assert!((x - (LANES * CHAINS) as f32).abs() < 1e-3, "{tier}: {x}");
        }
    }
}
