//! `layernorm_fwd/<tier>/<rows>x<features>` and `layernorm_bwd/...`, beside the naive loop (`naive`, Welford's update)
//! and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::norm::LayerNorm;
use hotlanes::{Tier, naive, with_tier};

const EPS: f32 = 1e-5;
const SIZES: [(usize, usize); 9] = [
    (64, 512),
    (256, 512),
    (512, 512),
    (1024, 512),
    (2048, 512),
    (2048, 128),
    (1024, 768),
    (256, 4096),
    (4096, 64),
];

/// What a forward and a backward read and write.
#[derive(Clone)]
struct State {
    x: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    scratch: Vec<f32>,
}

impl State {
    fn new(rows: usize, features: usize, norm: &LayerNorm) -> Self {
        let n = rows * features;
        State {
            x: common::data(n, 1),
            dy: common::data(n, 2),
            gamma: common::data(features, 3),
            beta: common::data(features, 4),
            y: vec![0.0; n],
            mean: vec![0.0; rows],
            rstd: vec![0.0; rows],
            dx: vec![0.0; n],
            dgamma: vec![0.0; features],
            dbeta: vec![0.0; features],
            scratch: vec![0.0; norm.scratch_len(rows)],
        }
    }

    fn forward(&mut self, norm: &LayerNorm) {
        norm.forward(&self.x, &self.gamma, &self.beta, &mut self.y, &mut self.mean, &mut self.rstd);
    }

    fn backward(&mut self, norm: &LayerNorm) {
        let State { x, dy, gamma, mean, rstd, dx, dgamma, dbeta, scratch, .. } = self;
        norm.backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
    }
}

/// A naive loop of either direction.
type Naive = fn(&mut State, usize);

fn forward(s: &mut State, features: usize) {
    naive::layernorm_forward(&s.x, features, EPS, &s.gamma, &s.beta, &mut s.y, &mut s.mean, &mut s.rstd);
}

fn forward_auto(s: &mut State, features: usize) {
    naive::layernorm_forward_auto(&s.x, features, EPS, &s.gamma, &s.beta, &mut s.y, &mut s.mean, &mut s.rstd);
}

fn backward(s: &mut State, features: usize) {
    let State { x, dy, gamma, mean, rstd, dx, dgamma, dbeta, .. } = s;
    naive::layernorm_backward(dy, x, features, gamma, mean, rstd, dx, dgamma, dbeta);
}

fn backward_auto(s: &mut State, features: usize) {
    let State { x, dy, gamma, mean, rstd, dx, dgamma, dbeta, .. } = s;
    naive::layernorm_backward_auto(dy, x, features, gamma, mean, rstd, dx, dgamma, dbeta);
}

fn bench(
    c: &mut Criterion,
    name: &str,
    loops: [(&str, Naive); 2],
    kernel: fn(&mut State, &LayerNorm),
    arrays: usize,
) {
    let mut group = c.benchmark_group(name);
    for (rows, features) in SIZES {
        let norm = LayerNorm::new(features, EPS as f64).expect("valid");
        let size = format!("{rows}x{features}");
        group.throughput(Throughput::Bytes((4 * arrays * rows * features) as u64));
        let mut start = State::new(rows, features, &norm);
        forward(&mut start, features);
        let mut expected = start.clone();
        loops[0].1(&mut expected, features);
        for (id, naive) in loops {
            let mut s = start.clone();
            group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| naive(&mut s, features)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                kernel(&mut s, &norm);
                for (what, got, want) in [
                    ("y", &s.y, &expected.y),
                    ("rstd", &s.rstd, &expected.rstd),
                    ("dx", &s.dx, &expected.dx),
                    ("dgamma", &s.dgamma, &expected.dgamma),
                    ("dbeta", &s.dbeta, &expected.dbeta),
                ] {
                    common::check(&format!("{name} {what}"), tier.name(), got, want, 2e-5);
                }
                same.check(name, tier, &[&s.y, &s.mean, &s.rstd, &s.dx, &s.dgamma, &s.dbeta]);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| {
                    b.iter(|| kernel(&mut s, &norm))
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    bench(&mut c, "layernorm_fwd", [("naive", forward), ("auto", forward_auto)], State::forward, 2);
    bench(&mut c, "layernorm_bwd", [("naive", backward), ("auto", backward_auto)], State::backward, 3);
    c.final_summary();
}
