//! Mean and variance: two passes over a block, of which the second finds it in the cache.

use super::BLOCK;
use super::sums::{Blocks, Last, Values, last, whole};
use crate::lanes::{Kernel, LANES, Lanes};

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
        let x = Blocks::of(self.x);
        let mut all = Statistics::EMPTY;
        let mut at = 0;
        if L::WIDE {
            while at + 2 <= x.whole.len() {
                let [a, b] = blocks::<L, 2>(l, &x, at);
                all = all.join(a).join(b);
                at += 2;
            }
        }
        while at < x.whole.len() {
            let [a] = blocks::<L, 1>(l, &x, at);
            all = all.join(a);
            at += 1;
        }
        let left = self.x.len() % BLOCK;
        if left != 0 {
            all = all.join(rest(l, x.last, left));
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

/// The statistics of `B` blocks from `at` on, together.
#[inline(always)]
fn blocks<L: Lanes, const B: usize>(l: L, x: &Blocks<'_>, at: usize) -> [Statistics; B] {
    let n = BLOCK as f32;
    let mut shift = whole::<L, Values, 1, B>(l, &[*x], at);
    let mut sums = [Deviations::new(l, 0.0); B];
    for b in 0..B {
        shift[b] /= n;
        sums[b] = Deviations::new(l, shift[b]);
    }
    let blocks = &x.whole[at..at + B];
    for g in 0..BLOCK / (4 * LANES) {
        for b in 0..B {
            for k in 0..4 {
                sums[b].add(l, k, l.load(&blocks[b][g][k]));
            }
        }
    }
    let mut out = [Statistics::EMPTY; B];
    for b in 0..B {
        out[b] = sums[b].statistics(l, shift[b], n as f64);
    }
    out
}

/// The statistics of the last `n` elements, less than a block.
#[inline(always)]
fn rest<L: Lanes>(l: L, x: Last<'_>, n: usize) -> Statistics {
    let shift = last::<L, Values, 1>(l, &[x]) / n as f32;
    let mut sums = Deviations::new(l, shift);
    for g in x.groups {
        for k in 0..4 {
            sums.add(l, k, l.load(&g[k]));
        }
    }
    for k in 0..4 {
        if k < x.single.len() {
            sums.add(l, k, l.load(&x.single[k]));
        }
        if k == x.single.len() && !x.rest.is_empty() {
            // The unused lanes deviate by nothing.
            sums.add(l, k, l.load_part(x.rest, sums.shift));
        }
    }
    sums.statistics(l, shift, n as f64)
}
