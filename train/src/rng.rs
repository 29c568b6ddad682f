//! Random numbers that depend on a seed and on what they are for, never on which thread draws them.
//!
//! The draws are written here and not taken from a library of distributions: those may change their results between
//! versions, and a run must be repeatable from its seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A stream of random numbers (ChaCha with 8 rounds).
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream for one purpose: the same four numbers always give the same stream, different ones unrelated streams.
    pub fn new(seed: u64, purpose: u64, epoch: u64, individual: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose, epoch, individual]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Rng(ChaCha8Rng::from_seed(key))
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, each as likely as the next to within 2^-32.
    ///
    /// # Panics
    /// If `n` is 0 or above 2^32.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0 && n as u64 <= 1 << 32, "a random number below {n}");
        // The high word of a product instead of a remainder; rejecting would only mend a bias of n / 2^64.
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number in [0, 1), a multiple of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// A number in [-1, 1).
    pub fn symmetric(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    /// Mean 0, variance 1, near to normal and never beyond 4.9: the sum of eight uniform numbers. No logarithm, whose bits
    /// differ between C libraries.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..8).map(|_| self.symmetric()).sum();
        sum * 0.612_372_4 // sqrt(3 / 8)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// Permutes a slice, each order as likely as the next (Fisher and Yates).
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for i in (1..slice.len()).rev() {
            slice.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_differ() {
        let first = |a, b, c, d| Rng::new(a, b, c, d).bits();
        assert_eq!(first(1, 2, 3, 4), first(1, 2, 3, 4));
        let all = [(1, 2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)]
            .map(|(a, b, c, d)| first(a, b, c, d));
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a));
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(7, 0, 0, 0);
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|_| rng.normal().into()).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        let hits = (0..n).filter(|_| rng.chance(0.25)).count() as f64 / n as f64;
        assert!((hits - 0.25).abs() < 0.015, "{hits}");
        let mut counts = [0; 5];
        (0..n).for_each(|_| counts[rng.below(5)] += 1);
        assert!(counts.iter().all(|&c| (c as f64 / n as f64 - 0.2).abs() < 0.015), "{counts:?}");
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut x: Vec<usize> = (0..100).collect();
        Rng::new(1, 1, 1, 1).shuffle(&mut x);
        assert!(x.windows(2).any(|p| p[0] > p[1]));
        x.sort_unstable();
        assert!(x.into_iter().eq(0..100));
    }
}
