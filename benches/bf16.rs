//! `bf16_from_f32/<tier>/<values>`, `bf16_to_f32/...`, and `adamw_bf16/<tier>_<copy or split>/<parameters>` with gradients in
//! bf16, beside the naive loops (`naive`) and their auto-vectorised twins (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::adamw::{AdamW, AdamWConfig, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::naive::{AdamWConstants, bf16 as naive};
use hotlanes::{Tier, bf16, with_tier};

const SIZES: [usize; 3] = [4096, 65_536, 2_359_296];

fn wide(halves: &[u16]) -> Vec<f32> {
    halves.iter().map(|h| f32::from(*h)).collect()
}

fn conversions(c: &mut Criterion) {
    for n in SIZES {
        let x = common::data(n, 1);
        let (mut half, mut back) = (vec![7; n], vec![f32::NAN; n]);
        let mut group = c.benchmark_group("bf16_from_f32");
        group.throughput(Throughput::Bytes(6 * n as u64));
        naive::bf16_from_f32(&x, &mut half);
        let expected = half.clone();
        group
            .bench_function(BenchmarkId::new("naive", n), |b| b.iter(|| naive::bf16_from_f32(&x, &mut half)));
        group.bench_function(BenchmarkId::new("auto", n), |b| {
            b.iter(|| naive::bf16_from_f32_auto(&x, &mut half))
        });
        for tier in Tier::available() {
            with_tier(tier, || {
                half.fill(7);
                bf16::from_f32(&x, &mut half);
                assert!(half == expected, "bf16_from_f32 on {tier}");
                group.bench_function(BenchmarkId::new(tier.name(), n), |b| {
                    b.iter(|| bf16::from_f32(&x, &mut half))
                });
            })
            .expect("the tier is one of the available");
        }
        group.finish();

        let mut group = c.benchmark_group("bf16_to_f32");
        group.throughput(Throughput::Bytes(6 * n as u64));
        naive::bf16_to_f32(&half, &mut back);
        let expected = back.clone();
        group.bench_function(BenchmarkId::new("naive", n), |b| {
            b.iter(|| naive::bf16_to_f32(&half, &mut back))
        });
        group.bench_function(BenchmarkId::new("auto", n), |b| {
            b.iter(|| naive::bf16_to_f32_auto(&half, &mut back))
        });
        for tier in Tier::available() {
            with_tier(tier, || {
                back.fill(f32::NAN);
                bf16::to_f32(&half, &mut back);
                common::check("bf16_to_f32", tier.name(), &back, &expected, 0.0);
                group.bench_function(BenchmarkId::new(tier.name(), n), |b| {
                    b.iter(|| bf16::to_f32(&half, &mut back))
                });
            })
            .expect("the tier is one of the available");
        }
        group.finish();
    }
}

#[derive(Clone)]
struct State {
    param: Vec<f32>,
    high: Vec<u16>,
    low: Vec<u16>,
    grad: Vec<u16>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl State {
    fn new(n: usize) -> Self {
        let param = common::data(n, 1);
        let (mut high, mut low, mut grad) = (vec![7; n], vec![7; n], vec![7; n]);
        bf16::split(&param, &mut high, &mut low);
        bf16::from_f32(&common::data(n, 2), &mut grad);
        let v = common::data(n, 4).iter().map(|x| x * x).collect();
        State { param, high, low, grad, m: common::data(n, 3), v }
    }

    fn tensor(&mut self, split: bool) -> Bf16Tensor<'_> {
        let State { param, high, low, grad, m, v } = self;
        let param =
            if split { Bf16Param::Split { high, low } } else { Bf16Param::Copy { param, copy: high } };
        Bf16Tensor { param, grad: Gradient::Bf16(grad), m, v }
    }
}

const NAIVE: AdamWConstants =
    AdamWConstants { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: 10 };

fn adamw(c: &mut Criterion) {
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(10)).expect("the defaults are valid");
    let mut group = c.benchmark_group("adamw_bf16");
    for n in SIZES {
        group.throughput(Throughput::Elements(n as u64));
        let start = State::new(n);
        let mut expected = start.clone();
        let State { param, high, grad, m, v, .. } = &mut expected;
        naive::adamw_bf16(param, high, grad, m, v, NAIVE);
        let mut s = start.clone();
        group.bench_function(BenchmarkId::new("naive", n), |b| {
            b.iter(|| naive::adamw_bf16(&mut s.param, &mut s.high, &s.grad, &mut s.m, &mut s.v, NAIVE))
        });
        let mut s = start.clone();
        group.bench_function(BenchmarkId::new("auto", n), |b| {
            b.iter(|| naive::adamw_bf16_auto(&mut s.param, &mut s.high, &s.grad, &mut s.m, &mut s.v, NAIVE))
        });
        for (name, split) in [("copy", false), ("split", true)] {
            let mut same = common::SameBits::new();
            for tier in Tier::available() {
                with_tier(tier, || {
                    let mut s = start.clone();
                    step.update_bf16(s.tensor(split));
                    if split {
                        bf16::join(&s.high, &s.low, &mut s.param);
                    }
                    common::check("adamw_bf16 param", tier.name(), &s.param, &expected.param, 1e-5);
                    common::check("adamw_bf16 m", tier.name(), &s.m, &expected.m, 1e-5);
                    common::check("adamw_bf16 v", tier.name(), &s.v, &expected.v, 1e-4);
                    same.check("adamw_bf16", tier, &[&s.param, &s.m, &s.v, &wide(&s.high)]);
                    group.bench_function(BenchmarkId::new(format!("{tier}_{name}"), n), |b| {
                        b.iter(|| step.update_bf16(s.tensor(split)))
                    });
                })
                .expect("the tier is one of the available");
            }
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    conversions(&mut c);
    adamw(&mut c);
    c.final_summary();
}
