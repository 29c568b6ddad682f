//! Random numbers that depend on the seed and the number of the draw, never on the thread.

/// A stream of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014:
/// the finalizer of SplitMix64 on a counter).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rng(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

impl Rng {
    /// The stream of a draw.
    pub(crate) fn new(seed: u64, draw: u64) -> Rng {
        Rng(mix(mix(seed.wrapping_add(GOLDEN)) ^ mix(draw.wrapping_mul(GOLDEN).wrapping_add(1))))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `n`, which must not be 0; each as likely as the next to within `n / 2^64`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_streams_differ() {
        let first = |seed, draw| Rng::new(seed, draw).bits();
        let mut all: Vec<_> = (0..100).flat_map(|seed| (0..100).map(move |draw| first(seed, draw))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
        let mut counts = [0u32; 10];
        for draw in 0..1000 {
            let mut rng = Rng::new(3, draw);
            (0..100).for_each(|_| counts[rng.below(10)] += 1);
        }
        // Mean 10000, deviation 95.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 500), "{counts:?}");
        let mut rng = Rng::new(1, 1);
        let mean = (0..10_000).map(|_| rng.unit()).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
