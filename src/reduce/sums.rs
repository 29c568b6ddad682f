//! Sums over one or two slices: blocks on f32 lanes, their results in f64.

use super::BLOCK;
use crate::lanes::{Chunk, Kernel, LANES, Lanes};

/// Accumulators of a block: the tiers with few registers have room for no more. AVX-512 takes two blocks together, since
/// two units with a latency of four ask for eight.
const ACC: usize = 4;

/// Vectors that go to the accumulators together.
pub(super) type Group = [Chunk; ACC];
/// A block of memory.
pub(super) type Block = [Group; BLOCK / (ACC * LANES)];

/// The sum of at most [`super::PIECE`] elements.
pub(super) struct Sum<'a> {
    pub(super) x: &'a [f32],
}

/// The sum of their squares.
pub(super) struct Squares<'a> {
    pub(super) x: &'a [f32],
}

/// The sum of the products of two slices of one length.
pub(super) struct Dot<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        piece::<L, Values, 1>(l, [self.x])
    }
}

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        piece::<L, ValuesSquared, 1>(l, [self.x])
    }
}

impl Kernel for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        piece::<L, Products, 2>(l, [self.x, self.y])
    }
}

/// What is added for the elements of `N` slices; zeros must add nothing.
pub(super) trait Term<L: Lanes, const N: usize> {
    fn add(l: L, sum: L::F, x: [L::F; N]) -> L::F;
}

pub(super) struct Values;
struct ValuesSquared;
struct Products;

impl<L: Lanes> Term<L, 1> for Values {
    #[inline(always)]
    fn add(l: L, sum: L::F, [x]: [L::F; 1]) -> L::F {
        l.add(sum, x)
    }
}

impl<L: Lanes> Term<L, 1> for ValuesSquared {
    #[inline(always)]
    fn add(l: L, sum: L::F, [x]: [L::F; 1]) -> L::F {
        l.mul_add(x, x, sum)
    }
}

impl<L: Lanes> Term<L, 2> for Products {
    #[inline(always)]
    fn add(l: L, sum: L::F, [x, y]: [L::F; 2]) -> L::F {
        l.mul_add(x, y, sum)
    }
}

/// A slice as whole blocks and what is left of one.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) whole: &'a [Block],
    pub(super) last: Last<'a>,
}

/// Less than a block: groups of vectors, single vectors and a rest.
#[derive(Clone, Copy)]
pub(super) struct Last<'a> {
    pub(super) groups: &'a [Group],
    pub(super) single: &'a [Chunk],
    pub(super) rest: &'a [f32],
}

impl<'a> Blocks<'a> {
    #[inline(always)]
    pub(super) fn of(x: &'a [f32]) -> Self {
        let (vectors, rest) = x.as_chunks();
        let (groups, single) = vectors.as_chunks();
        let (whole, groups) = groups.as_chunks();
        Blocks { whole, last: Last { groups, single, rest } }
    }
}

#[inline(always)]
fn piece<L: Lanes, T: Term<L, N>, const N: usize>(l: L, slices: [&[f32]; N]) -> f64 {
    let mut x = [Blocks::of(slices[0]); N];
    for s in 1..N {
        x[s] = Blocks::of(slices[s]);
    }
    let count = x[0].whole.len();
    let (mut total, mut at) = (0.0, 0);
    if L::WIDE {
        while at + 2 <= count {
            let [a, b] = whole::<L, T, N, 2>(l, &x, at);
            total += a as f64;
            total += b as f64;
            at += 2;
        }
    }
    while at < count {
        let [a] = whole::<L, T, N, 1>(l, &x, at);
        total += a as f64;
        at += 1;
    }
    if !slices[0].len().is_multiple_of(BLOCK) {
        let mut left = [x[0].last; N];
        for s in 1..N {
            left[s] = x[s].last;
        }
        total += last::<L, T, N>(l, &left) as f64;
    }
    total
}

/// The sums of `B` blocks from `at` on, together.
#[inline(always)]
pub(super) fn whole<L: Lanes, T: Term<L, N>, const N: usize, const B: usize>(
    l: L,
    x: &[Blocks<'_>; N],
    at: usize,
) -> [f32; B] {
    let mut blocks = [&x[0].whole[at..at + B]; N];
    for s in 1..N {
        blocks[s] = &x[s].whole[at..at + B];
    }
    let mut acc = [[l.splat(0.0); ACC]; B];
    for g in 0..BLOCK / (ACC * LANES) {
        for b in 0..B {
            for k in 0..ACC {
                let mut v = [l.load(&blocks[0][b][g][k]); N];
                for s in 1..N {
                    v[s] = l.load(&blocks[s][b][g][k]);
                }
                acc[b][k] = T::add(l, acc[b][k], v);
            }
        }
    }
    let mut sums = [0.0; B];
    for b in 0..B {
        sums[b] = fold(l, acc[b]);
    }
    sums
}

/// The sum of less than a block.
#[inline(always)]
pub(super) fn last<L: Lanes, T: Term<L, N>, const N: usize>(l: L, x: &[Last<'_>; N]) -> f32 {
    let zero = l.splat(0.0);
    let mut acc = [zero; ACC];
    let groups = x[0].groups.len();
    let mut group = [x[0].groups; N];
    for s in 1..N {
        group[s] = &x[s].groups[..groups];
    }
    for g in 0..groups {
        for k in 0..ACC {
            let mut v = [l.load(&group[0][g][k]); N];
            for s in 1..N {
                v[s] = l.load(&group[s][g][k]);
            }
            acc[k] = T::add(l, acc[k], v);
        }
    }
    let single = x[0].single.len();
    for k in 0..ACC {
        if k < single {
            let mut v = [l.load(&x[0].single[k]); N];
            for s in 1..N {
                v[s] = l.load(&x[s].single[k]);
            }
            acc[k] = T::add(l, acc[k], v);
        }
        if k == single && !x[0].rest.is_empty() {
            let mut v = [l.load_part(x[0].rest, zero); N];
            for s in 1..N {
                v[s] = l.load_part(x[s].rest, zero);
            }
            acc[k] = T::add(l, acc[k], v);
        }
    }
    fold(l, acc)
}

/// Accumulators, then lanes, by halving.
#[inline(always)]
fn fold<L: Lanes>(l: L, acc: [L::F; ACC]) -> f32 {
    l.sum(l.add(l.add(acc[0], acc[2]), l.add(acc[1], acc[3])))
}
