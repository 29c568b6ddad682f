//! The loops: sixteen nodes are turned, so that vector `i` has child `i` of each.

use crate::lanes::{Chunk, Kernel, LANES, Lanes};

/// Sums of nodes to their parents.
pub(super) struct Sums<'a> {
    pub(super) nodes: &'a [Chunk],
    pub(super) which: &'a [usize],
    pub(super) parents: &'a mut [Chunk],
}

#[inline(always)]
fn load<L: Lanes>(l: L, nodes: &[Chunk], which: &[usize; LANES]) -> [L::F; LANES] {
    let mut v = [l.splat(0.0); LANES];
    for j in 0..LANES {
        v[j] = l.load(&nodes[which[j]]);
    }
    v
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Sums { nodes, which, parents } = self;
        let (which, rest) = which.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for which in which {
            l.store(&mut sums, l.sum16(&load(l, nodes, which)));
            for j in 0..LANES {
                parents[which[j] / LANES][which[j] % LANES] = sums[j];
            }
        }
        for &i in rest {
            parents[i / LANES][i % LANES] = l.sum(l.load(&nodes[i]));
        }
    }
}

/// Numbers to the children in which they lie.
pub(super) struct Search<'a> {
    pub(super) nodes: &'a [Chunk],
    pub(super) at: &'a mut [usize],
    pub(super) high: &'a mut [f32],
    pub(super) low: &'a mut [f32],
}

/// Groups of sixteen whose children are kept until their places are written: sixteen places of nodes that live through
/// a search would be spilled, and put together again one by one.
const BLOCK: usize = 8;

/// Sixteen numbers, each the sum of two, of which the first is the sum rounded.
struct Numbers<L: Lanes> {
    high: L::F,
    low: L::F,
}

/// Where numbers lie in the left of two parts, of which `whole` is the rounded sum. The others lose `left`.
///
/// A right part of 0, or so small that the sum is `left`, gets none.
#[inline(always)]
fn in_left<L: Lanes>(l: L, numbers: &mut Numbers<L>, whole: L::F, left: L::F) -> L::M {
    let Numbers { high, low } = *numbers;
    // The difference with its error, exact where it is used (Dekker's Fast2Sum, twice): where `high` is not `left`,
    // their difference is not below `low`, so the sign of the sum is that of the exact difference.
    let less = l.sub(high, left);
    let error = l.sub(l.sub(high, less), left);
    let low_less = l.add(low, error);
    let rest = l.add(less, low_less);
    let rest_low = l.sub(low_less, l.sub(rest, less));
    let is_left = l.gt(l.splat(0.0), l.select(l.gt(whole, left), rest, l.splat(-1.0)));
    numbers.high = l.select(is_left, high, rest);
    numbers.low = l.select(is_left, low, rest_low);
    is_left
}

/// The first half of `v` where `is_left`, else the second.
#[inline(always)]
fn halve<L: Lanes, const N: usize, const HALF: usize>(l: L, is_left: L::M, v: &[L::F; N]) -> [L::F; HALF] {
    let mut half = [v[0]; HALF];
    for j in 0..HALF {
        half[j] = l.select(is_left, v[2 * j], v[2 * j + 1]);
    }
    half
}

/// The bit where `is_left` is false.
#[inline(always)]
fn bit<L: Lanes>(l: L, is_left: L::M, bit: u32) -> L::I {
    l.to_bits(l.select(is_left, l.splat(0.0), l.from_bits(l.splat_u32(bit))))
}

/// From sixteen nodes to children, as bits.
#[inline(always)]
fn step<L: Lanes>(l: L, nodes: &[Chunk], at: &[usize; LANES], numbers: &mut Numbers<L>) -> L::F {
    let mut ones = load(l, nodes, at);
    l.transpose(&mut ones);
    let (mut twos, mut fours, mut eights) = ([ones[0]; 8], [ones[0]; 4], [ones[0]; 2]);
    for j in 0..8 {
        twos[j] = l.add(ones[j], ones[j + 8]);
    }
    for j in 0..4 {
        fours[j] = l.add(twos[j], twos[j + 4]);
    }
    for j in 0..2 {
        eights[j] = l.add(fours[j], fours[j + 2]);
    }
    // The children from 0 on in steps of two or those from 1 on; of them those in steps of four; and so on.
    let first = in_left(l, numbers, l.add(eights[0], eights[1]), eights[0]);
    let [whole] = halve(l, first, &eights);
    let fours: [L::F; 2] = halve(l, first, &fours);
    let twos: [L::F; 4] = halve(l, first, &twos);
    let [a, b, c, d, e, f, g, h, ..] = ones;
    let lefts: [L::F; 4] = halve(l, first, &[a, b, c, d, e, f, g, h]);

    let second = in_left(l, numbers, whole, fours[0]);
    let [whole] = halve(l, second, &fours);
    let twos: [L::F; 2] = halve(l, second, &twos);
    let lefts: [L::F; 2] = halve(l, second, &lefts);

    let third = in_left(l, numbers, whole, twos[0]);
    let [whole] = halve(l, third, &twos);
    let [left] = halve(l, third, &lefts);

    let fourth = in_left(l, numbers, whole, left);
    let child = l.or(l.or(bit(l, first, 1), bit(l, second, 2)), l.or(bit(l, third, 4), bit(l, fourth, 8)));
    l.from_bits(child)
}

/// From places of nodes to those of children.
#[inline(always)]
fn enter(at: &mut [usize; LANES], children: &Chunk) {
    for (at, child) in at.iter_mut().zip(children) {
        *at = LANES * *at + child.to_bits() as usize;
    }
}

impl Kernel for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (at, at_rest) = self.at.as_chunks_mut::<LANES>();
        let n = at.len();
        let (high, high_rest) = self.high.as_chunks_mut::<LANES>();
        let (low, low_rest) = self.low.as_chunks_mut::<LANES>();
        let (high, low) = (&mut high[..n], &mut low[..n]);
        let mut children = [[0.0; LANES]; BLOCK];
        let mut from = 0;
        while from < n {
            let count = BLOCK.min(n - from);
            let (at, high) = (&mut at[from..from + count], &mut high[from..from + count]);
            let (low, children) = (&mut low[from..from + count], &mut children[..count]);
            for i in 0..count {
                let mut numbers = Numbers { high: l.load(&high[i]), low: l.load(&low[i]) };
                l.store(&mut children[i], step(l, self.nodes, &at[i], &mut numbers));
                l.store(&mut high[i], numbers.high);
                l.store(&mut low[i], numbers.low);
            }
            for i in 0..count {
                enter(&mut at[i], &children[i]);
            }
            from += BLOCK;
        }
        if !at_rest.is_empty() {
            // The lanes beyond search for 0 in the node of the first.
            let mut all = [at_rest[0]; LANES];
            all[..at_rest.len()].copy_from_slice(at_rest);
            let zero = l.splat(0.0);
            let mut numbers =
                Numbers { high: l.load_part(high_rest, zero), low: l.load_part(low_rest, zero) };
            l.store(&mut children[0], step(l, self.nodes, &all, &mut numbers));
            enter(&mut all, &children[0]);
            at_rest.copy_from_slice(&all[..at_rest.len()]);
            l.store_part(high_rest, numbers.high);
            l.store_part(low_rest, numbers.low);
        }
    }
}
