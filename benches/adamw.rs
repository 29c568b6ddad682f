//! `adamw/<tier>/<parameters>`, beside the naive loop (`naive`) and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::{Tier, naive, with_tier};

/// One tensor's state.
#[derive(Clone)]
struct State {
    param: Vec<f32>,
    grad: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl State {
    fn new(n: usize) -> Self {
        let v = common::data(n, 4).iter().map(|x| x * x).collect();
        State { param: common::data(n, 1), grad: common::data(n, 2), m: common::data(n, 3), v }
    }

    /// The state cut into tensors of `len` parameters.
    fn tensors(&mut self, len: usize) -> Vec<AdamWTensor<'_>> {
        let moments = self.m.chunks_mut(len).zip(self.v.chunks_mut(len));
        (self.param.chunks_mut(len).zip(self.grad.chunks(len)).zip(moments))
            .map(|((param, grad), (m, v))| AdamWTensor { param, grad, m, v, v_max: None })
            .collect()
    }

    fn tensor(&mut self) -> AdamWTensor<'_> {
        AdamWTensor { param: &mut self.param, grad: &self.grad, m: &mut self.m, v: &mut self.v, v_max: None }
    }
}

const NAIVE: naive::AdamWConstants =
    naive::AdamWConstants { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: 10 };

fn bench(c: &mut Criterion) {
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(10)).expect("the defaults are valid");
    let mut group = c.benchmark_group("adamw");
    let sizes = [4096, 65_536, 2_359_296, 33_554_432];
    for &n in sizes.iter().filter(|&&n| n < 10_000_000 || common::full()) {
        let start = State::new(n);
        let mut expected = start.clone();
        naive::adamw(&mut expected.param, &expected.grad, &mut expected.m, &mut expected.v, NAIVE);
        group.throughput(Throughput::Elements(n as u64));

        let mut s = start.clone();
        group.bench_function(BenchmarkId::new("naive", n), |b| {
            b.iter(|| naive::adamw(&mut s.param, &s.grad, &mut s.m, &mut s.v, NAIVE));
        });
        let mut s = start.clone();
        group.bench_function(BenchmarkId::new("auto", n), |b| {
            b.iter(|| naive::adamw_auto(&mut s.param, &s.grad, &mut s.m, &mut s.v, NAIVE));
        });
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                step.update(s.tensor());
                // The naive loop's constants are rounded to f32 first: 1 - 0.999 is off by 5e-5.
                common::check("adamw param", tier.name(), &s.param, &expected.param, 1e-5);
                common::check("adamw m", tier.name(), &s.m, &expected.m, 1e-5);
                common::check("adamw v", tier.name(), &s.v, &expected.v, 1e-4);
                same.check("adamw", tier, &[&s.param, &s.m, &s.v]);
                group
                    .bench_function(BenchmarkId::new(tier.name(), n), |b| b.iter(|| step.update(s.tensor())));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
    many(c);
}

/// `adamw_many/<tier>/2000x1000` beside `adamw_many/<tier>/1x2000000`: what cutting the work into tensors costs.
fn many(c: &mut Criterion) {
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(10)).expect("the defaults are valid");
    let mut group = c.benchmark_group("adamw_many");
    let n = 2_000_000;
    group.throughput(Throughput::Elements(n as u64));
    let start = State::new(n);
    let mut same = common::SameBits::new();
    for tier in Tier::available() {
        for (name, len) in [("1x2000000", n), ("2000x1000", 1000)] {
            with_tier(tier, || {
                let mut s = start.clone();
                step.update_many(&mut s.tensors(len));
                same.check("adamw_many", tier, &[&s.param, &s.m, &s.v]);
                let mut tensors = s.tensors(len);
                group.bench_function(BenchmarkId::new(tier.name(), name), |b| {
                    b.iter(|| step.update_many(&mut tensors));
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    bench(&mut c);
    c.final_summary();
}
