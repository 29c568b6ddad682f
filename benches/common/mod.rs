//! What the benchmarks share: data, and the check that a result is right before it is timed.
#![allow(dead_code)] // Each benchmark uses its part.

use std::time::Duration;

use criterion::Criterion;
use hotlanes::Tier;

/// Uniform in [-1, 1), the same on every machine.
pub fn data(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            // splitmix64 (Steele, Lea and Flood, 2014)
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Stops the benchmark where a kernel's result is not the naive loop's, to a tolerance relative to the largest value.
#[track_caller]
pub fn check(what: &str, tier: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what} on {tier}");
    let scale = want.iter().fold(f32::MIN_POSITIVE, |a, x| a.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "{what} on {tier}: value {i} is {g}, the naive loop gives {w}"
        );
    }
}

/// Stops the benchmark where tiers disagree in a bit.
pub struct SameBits(Option<(Tier, Vec<u32>)>);

impl SameBits {
    pub fn new() -> Self {
        SameBits(None)
    }

    #[track_caller]
    pub fn check(&mut self, what: &str, tier: Tier, outputs: &[&[f32]]) {
        let bits: Vec<u32> = outputs.iter().flat_map(|o| o.iter().map(|x| x.to_bits())).collect();
        match &self.0 {
            None => self.0 = Some((tier, bits)),
            Some((first, expected)) => {
                assert!(*expected == bits, "{what}: {tier} and {first} differ in bits")
            }
        }
    }
}

/// Whether the large sizes are wanted too: they take minutes and gigabytes.
pub fn full() -> bool {
    std::env::var_os("HOTLANES_BENCH_FULL").is_some()
}

pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args()
}
