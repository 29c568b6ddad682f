//! `dropout/<tier>/<elements>`, beside the naive loop (`naive`) and its auto-vectorised twin (`auto`). The backward is the
//! same loop.

mod common;

use criterion::{BenchmarkId, Throughput};
use hotlanes::dropout::Dropout;
use hotlanes::naive::dropout as naive;
use hotlanes::{Tier, with_tier};

const SEED: u64 = 0x0123_4567_89AB_CDEF;

fn main() {
    let mut c = common::criterion();
    let dropout = Dropout::new(0.1, SEED).expect("valid");
    let keep = (dropout.keep_probability() * 2f64.powi(31)) as u32;
    let mut group = c.benchmark_group("dropout");
    let sizes = [4096, 32_768, 65_536, 1 << 18, 1 << 20, 1 << 25];
    for &n in sizes.iter().filter(|&&n| n < 10_000_000 || common::full()) {
        group.throughput(Throughput::Bytes(8 * n as u64));
        let (x, mut y) = (common::data(n, 1), vec![0.0; n]);
        naive::dropout(&x, keep, dropout.scale(), SEED, &mut y);
        let expected = y.clone();
        type Naive = fn(&[f32], u32, f32, u64, &mut [f32]);
        for (id, f) in [("naive", naive::dropout as Naive), ("auto", naive::dropout_auto)] {
            group.bench_function(BenchmarkId::new(id, n), |b| {
                b.iter(|| f(&x, keep, dropout.scale(), SEED, &mut y))
            });
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                y.fill(f32::NAN);
                dropout.forward(&x, &mut y, 0);
                common::check("dropout", tier.name(), &y, &expected, 0.0);
                same.check("dropout", tier, &[&y]);
                group.bench_function(BenchmarkId::new(tier.name(), n), |b| {
                    b.iter(|| dropout.forward(&x, &mut y, 0))
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
    c.final_summary();
}
