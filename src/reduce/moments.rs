//! Mean and variance: two passes over a block, of which the second finds it in the cache.

use super::BLOCK;
use super::sums::{Cut, Values, sums};
use crate::lanes::{Kernel, Lanes};

/// Number, mean and sum of squared deviations of some elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statistics {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Statistics {
    pub(super) const EMPTY: Self = Statistics { n: 0.0, mean: 0.0, m2: 0.0 };

    /// Those of the elements of both.
    #[inline(always)]
    pub(super) fn join(self, other: Self) -> Self {
        if self.n == 0.0 {
            return other;
        }
        let n = self.n + other.n;
        let (delta, share) = (other.mean - self.mean, other.n / n);
        Statistics {
            n,
            mean: self.mean + delta * share,
            m2: self.m2 + other.m2 + delta * delta * (self.n * share),
        }
    }

    /// Those of the elements times `factor`.
    pub(super) fn times(self, factor: f64) -> Self {
        Statistics { n: self.n, mean: self.mean * factor, m2: self.m2 * (factor * factor) }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.m2.is_finite()
    }

    pub(super) fn mean(&self) -> f64 {
        if self.n == 0.0 { f64::NAN } else { self.mean }
    }

    pub(super) fn variance(&self) -> f64 {
        self.m2 / self.n
    }
}

/// Of at most [`super::PIECE`] elements.
pub(super) struct Moments<'a> {
    pub(super) x: &'a [f32],
}

impl Kernel for Moments<'_> {
    type Output = Statistics;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Statistics {
        let (mut x, mut all) = (self.x, Statistics::EMPTY);
        while L::WIDE && x.len() >= 2 * BLOCK {
            let (one, rest) = x.split_at(BLOCK);
            let (two, rest) = rest.split_at(BLOCK);
            let [a, b] = blocks(l, [one, two]);
            all = all.join(a).join(b);
            x = rest;
        }
        while !x.is_empty() {
            let (one, rest) = x.split_at(BLOCK.min(x.len()));
            let [a] = blocks(l, [one]);
            all = all.join(a);
            x = rest;
        }
        all
    }
}

/// `sum(x - shift)` and `sum((x - shift)^2)` on two accumulators of each, which vectors take in turns.
#[derive(Clone, Copy)]
struct Deviations<L: Lanes> {
    shift: L::F,
    first: [L::F; 2],
    second: [L::F; 2],
}

impl<L: Lanes> Deviations<L> {
    #[inline(always)]
    fn new(l: L, shift: f32) -> Self {
        let zero = l.splat(0.0);
        Deviations { shift: l.splat(shift), first: [zero; 2], second: [zero; 2] }
    }

    /// Vector `k` of a group.
    #[inline(always)]
    fn add(&mut self, l: L, k: usize, x: L::F) {
        let d = l.sub(x, self.shift);
        self.first[k % 2] = l.add(self.first[k % 2], d);
        self.second[k % 2] = l.mul_add(d, d, self.second[k % 2]);
    }

    /// The statistics of the `n` elements around `shift`.
    #[inline(always)]
    fn statistics(self, l: L, shift: f32, n: f64) -> Statistics {
        let first = l.sum(l.add(self.first[0], self.first[1])) as f64;
        let second = l.sum(l.add(self.second[0], self.second[1])) as f64;
        // What rounding left in the shift corrects both.
        let left = first / n;
        let m2 = second - first * left;
        // Zero but for rounding, which must not make it negative; NaN stays.
        Statistics { n, mean: shift as f64 + left, m2: if m2 < 0.0 { 0.0 } else { m2 } }
    }
}

/// The statistics of `B` blocks of one length, together. Where they are cut changes no bit, as in a sum.
#[inline(always)]
fn blocks<L: Lanes, const B: usize>(l: L, x: [&[f32]; B]) -> [Statistics; B] {
    let n = x[0].len() as f32;
    let mut cut = [[Cut::of(l, x[0])]; B];
    for b in 1..B {
        cut[b] = [Cut::of(l, x[b])];
    }
    let mut shift = sums::<L, Values, 1, B>(l, &cut);
    let groups = cut[0][0].groups.len();
    let mut group = [cut[0][0].groups; B];
    let mut sums = [Deviations::new(l, 0.0); B];
    for b in 0..B {
        shift[b] /= n;
        sums[b] = Deviations::new(l, shift[b]);
        group[b] = &cut[b][0].groups[..groups];
        // The unused lanes deviate by nothing.
        if !cut[b][0].head.is_empty() {
            sums[b].add(l, 3, l.load_end(cut[b][0].head, sums[b].shift));
        }
    }
    for g in 0..groups {
        for b in 0..B {
            for k in 0..4 {
                sums[b].add(l, k, l.load(&group[b][g][k]));
            }
        }
    }
    let mut out = [Statistics::EMPTY; B];
    for b in 0..B {
        let [Cut { single, rest, .. }] = cut[b];
        for k in 0..4 {
            if k < single.len() {
                sums[b].add(l, k, l.load(&single[k]));
            }
            if k == single.len() && !rest.is_empty() {
                sums[b].add(l, k, l.load_part(rest, sums[b].shift));
            }
        }
        out[b] = sums[b].statistics(l, shift[b], n as f64);
    }
    out
}
