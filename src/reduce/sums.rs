//! Sums over one or two slices: blocks on f32 lanes, their results in f64.
//!
//! The accumulators are a ring of 64 places, of which each adds every 64th element. Halving adds opposite places, so a ring
//! that is turned has the same sum, bit for bit: a block may begin with the elements before a cache line, and what is at
//! place 0 is then element `head`.

use super::BLOCK;
use crate::lanes::{Chunk, Kernel, Lanes};

/// Accumulators of a block: the tiers with few registers have room for no more. AVX-512 takes two blocks together, since
/// two units with a latency of four ask for eight.
const ACC: usize = 4;

/// Vectors that go to the accumulators together.
type Group = [Chunk; ACC];
/// From this many elements on the cut of a block at a line pays.
const CUT: usize = 256;

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

/// At most a block, as what lies before the first line, whole vectors, and the rest.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    /// Less than a vector: the last places of the ring.
    pub(super) head: &'a [f32],
    pub(super) groups: &'a [Group],
    /// Fewer than a group.
    pub(super) single: &'a [Chunk],
    pub(super) rest: &'a [f32],
}

impl<'a> Cut<'a> {
    /// After `head` elements.
    #[inline(always)]
    fn after(head: usize, x: &'a [f32]) -> Self {
        let (head, x) = x.split_at(head);
        let (vectors, rest) = x.as_chunks();
        let (groups, single) = vectors.as_chunks();
        Cut { head, groups, single, rest }
    }

    /// At the first line of `x`.
    #[inline(always)]
    pub(super) fn of<L: Lanes>(l: L, x: &'a [f32]) -> Self {
        Cut::after(if x.len() < CUT { 0 } else { l.before_line(x) }, x)
    }

    /// Of slices of one length, at the first line of the first.
    #[inline(always)]
    fn of_each<L: Lanes, const N: usize>(l: L, x: [&'a [f32]; N]) -> [Self; N] {
        let mut cut = [Cut::of(l, x[0]); N];
        for s in 1..N {
            cut[s] = Cut::after(cut[0].head.len(), x[s]);
        }
        cut
    }
}

#[inline(always)]
fn piece<L: Lanes, T: Term<L, N>, const N: usize>(l: L, mut x: [&[f32]; N]) -> f64 {
    let mut total = 0.0;
    while L::WIDE && x[0].len() >= 2 * BLOCK {
        let blocks = [Cut::of_each(l, first(&mut x, BLOCK)), Cut::of_each(l, first(&mut x, BLOCK))];
        let [a, b] = sums::<L, T, N, 2>(l, &blocks);
        total += a as f64;
        total += b as f64;
    }
    while !x[0].is_empty() {
        let n = BLOCK.min(x[0].len());
        let [a] = sums::<L, T, N, 1>(l, &[Cut::of_each(l, first(&mut x, n))]);
        total += a as f64;
    }
    total
}

/// Takes the first `n` elements of each slice.
#[inline(always)]
fn first<'a, const N: usize>(x: &mut [&'a [f32]; N], n: usize) -> [&'a [f32]; N] {
    let mut taken = *x;
    for s in 0..N {
        (taken[s], x[s]) = x[s].split_at(n);
    }
    taken
}

/// The sums of `B` blocks of one length, together.
#[inline(always)]
pub(super) fn sums<L: Lanes, T: Term<L, N>, const N: usize, const B: usize>(
    l: L,
    x: &[[Cut<'_>; N]; B],
) -> [f32; B] {
    let zero = l.splat(0.0);
    let groups = x[0][0].groups.len();
    let mut group = [[x[0][0].groups; N]; B];
    let mut acc = [[zero; ACC]; B];
    for b in 0..B {
        for s in 0..N {
            group[b][s] = &x[b][s].groups[..groups];
        }
        if !x[b][0].head.is_empty() {
            let mut v = [zero; N];
            for s in 0..N {
                v[s] = l.load_end(x[b][s].head, zero);
            }
            acc[b][ACC - 1] = T::add(l, zero, v);
        }
    }
    for g in 0..groups {
        for b in 0..B {
            for k in 0..ACC {
                let mut v = [zero; N];
                for s in 0..N {
                    v[s] = l.load(&group[b][s][g][k]);
                }
                acc[b][k] = T::add(l, acc[b][k], v);
            }
        }
    }
    let mut sums = [0.0; B];
    for b in 0..B {
        let single = x[b][0].single.len();
        for k in 0..ACC {
            let mut v = [zero; N];
            if k < single {
                for s in 0..N {
                    v[s] = l.load(&x[b][s].single[k]);
                }
                acc[b][k] = T::add(l, acc[b][k], v);
            }
            if k == single && !x[b][0].rest.is_empty() {
                for s in 0..N {
                    v[s] = l.load_part(x[b][s].rest, zero);
                }
                acc[b][k] = T::add(l, acc[b][k], v);
            }
        }
        sums[b] = fold(l, acc[b]);
    }
    sums
}

/// Accumulators, then lanes, by halving.
#[inline(always)]
fn fold<L: Lanes>(l: L, acc: [L::F; ACC]) -> f32 {
    l.sum(l.add(l.add(acc[0], acc[2]), l.add(acc[1], acc[3])))
}
