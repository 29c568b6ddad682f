//! `rmsnorm_fwd/<tier>/<rows>x<features>` and `rmsnorm_bwd/...`, beside the naive loop (`naive`) and its auto-vectorised twin
//! (`auto`); then either norm with a residual, `rmsnorm_fwd_add/...`, `layernorm_bwd_add/...`, beside the separate steps
//! (`separate-<tier>`), which make two passes over memory.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::naive::rms;
use hotlanes::norm::{LayerNorm, RmsNorm};
use hotlanes::{Tier, with_tier};

const EPS: f32 = 1e-5;
const SIZES: [(usize, usize); 4] = [(256, 512), (2048, 512), (2048, 128), (4096, 64)];

/// What a forward and a backward read and write.
#[derive(Clone)]
struct State {
    features: usize,
    x: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
    dh: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    h: Vec<f32>,
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    scratch: Vec<f32>,
}

impl State {
    fn new(rows: usize, features: usize) -> Self {
        let n = rows * features;
        State {
            features,
            x: common::data(n, 1),
            residual: common::data(n, 2),
            dy: common::data(n, 3),
            dh: common::data(n, 4),
            gamma: common::data(features, 5),
            beta: common::data(features, 6),
            h: vec![0.0; n],
            y: vec![0.0; n],
            mean: vec![0.0; rows],
            rstd: vec![0.0; rows],
            dx: vec![0.0; n],
            dgamma: vec![0.0; features],
            dbeta: vec![0.0; features],
            scratch: vec![0.0; LayerNorm::new(features, 0.0).expect("valid").scratch_len(rows)],
        }
    }

    fn outputs(&self) -> [(&'static str, &[f32]); 7] {
        [
            ("h", &self.h),
            ("y", &self.y),
            ("mean", &self.mean),
            ("rstd", &self.rstd),
            ("dx", &self.dx),
            ("dgamma", &self.dgamma),
            ("dbeta", &self.dbeta),
        ]
    }

    fn rms(&self) -> RmsNorm {
        RmsNorm::new(self.features, EPS as f64).expect("valid")
    }

    fn layer(&self) -> LayerNorm {
        LayerNorm::new(self.features, EPS as f64).expect("valid")
    }
}

fn forward(s: &mut State) {
    s.rms().forward(&s.x, &s.gamma, &mut s.y, &mut s.rstd);
}

fn forward_naive(s: &mut State) {
    rms::rmsnorm_forward(&s.x, s.features, EPS, &s.gamma, &mut s.y, &mut s.rstd);
}

fn forward_auto(s: &mut State) {
    rms::rmsnorm_forward_auto(&s.x, s.features, EPS, &s.gamma, &mut s.y, &mut s.rstd);
}

fn backward(s: &mut State) {
    s.rms().backward(&s.dy, &s.x, &s.gamma, &s.rstd, &mut s.dx, &mut s.dgamma, &mut s.scratch);
}

fn backward_naive(s: &mut State) {
    rms::rmsnorm_backward(&s.dy, &s.x, s.features, &s.gamma, &s.rstd, &mut s.dx, &mut s.dgamma);
}

fn backward_auto(s: &mut State) {
    rms::rmsnorm_backward_auto(&s.dy, &s.x, s.features, &s.gamma, &s.rstd, &mut s.dx, &mut s.dgamma);
}

fn forward_add(s: &mut State) {
    s.rms().forward_add(&s.x, &s.residual, &s.gamma, &mut s.h, &mut s.y, &mut s.rstd);
}

fn forward_add_separate(s: &mut State) {
    rms::add_auto(&s.x, &s.residual, &mut s.h);
    s.rms().forward(&s.h, &s.gamma, &mut s.y, &mut s.rstd);
}

fn backward_add(s: &mut State) {
    let norm = s.rms();
    let State { h, dy, dh, gamma, rstd, dx, dgamma, scratch, .. } = s;
    norm.backward_add(dy, dh, h, gamma, rstd, dx, dgamma, scratch);
}

fn backward_add_separate(s: &mut State) {
    let norm = s.rms();
    let State { h, dy, dh, gamma, rstd, dx, dgamma, scratch, .. } = s;
    norm.backward(dy, h, gamma, rstd, dx, dgamma, scratch);
    rms::add_to_auto(dh, dx);
}

fn layernorm_forward_add(s: &mut State) {
    let norm = s.layer();
    let State { x, residual, gamma, beta, h, y, mean, rstd, .. } = s;
    norm.forward_add(x, residual, gamma, beta, h, y, mean, rstd);
}

fn layernorm_forward_add_separate(s: &mut State) {
    let norm = s.layer();
    let State { x, residual, gamma, beta, h, y, mean, rstd, .. } = s;
    rms::add_auto(x, residual, h);
    norm.forward(h, gamma, beta, y, mean, rstd);
}

fn layernorm_backward_add(s: &mut State) {
    let norm = s.layer();
    let State { h, dy, dh, gamma, mean, rstd, dx, dgamma, dbeta, scratch, .. } = s;
    norm.backward_add(dy, dh, h, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
}

fn layernorm_backward_add_separate(s: &mut State) {
    let norm = s.layer();
    let State { h, dy, dh, gamma, mean, rstd, dx, dgamma, dbeta, scratch, .. } = s;
    norm.backward(dy, h, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
    rms::add_to_auto(dh, dx);
}

/// A kernel or a loop.
type Run = fn(&mut State);

/// Runs on each tier; all give the same bits.
struct Tiers<'a> {
    name: &'a str,
    /// Runs first, for what a backward reads.
    before: Run,
    run: Run,
    arrays: usize,
}

/// RMSNorm beside its plain loops, the first of which says what is right.
fn bench(c: &mut Criterion, t: Tiers<'_>, loops: [(&str, Run); 2]) {
    let mut group = c.benchmark_group(t.name);
    for (rows, features) in SIZES {
        let size = format!("{rows}x{features}");
        group.throughput(Throughput::Bytes((4 * t.arrays * rows * features) as u64));
        let mut start = State::new(rows, features);
        (t.before)(&mut start);
        let mut expected = start.clone();
        loops[0].1(&mut expected);
        for (id, run) in loops {
            let mut s = start.clone();
            group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| run(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                (t.run)(&mut s);
                for ((what, got), (_, want)) in s.outputs().into_iter().zip(expected.outputs()) {
                    common::check(&format!("{} {what}", t.name), tier.name(), got, want, 2e-5);
                }
                same.check(t.name, tier, &s.outputs().map(|(_, values)| values));
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| b.iter(|| (t.run)(&mut s)));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

/// A norm with a residual beside its separate steps, which give the same bits on every tier.
fn bench_fused(c: &mut Criterion, t: Tiers<'_>, separate: Run) {
    let mut group = c.benchmark_group(t.name);
    for (rows, features) in SIZES {
        let size = format!("{rows}x{features}");
        group.throughput(Throughput::Bytes((4 * t.arrays * rows * features) as u64));
        let mut start = State::new(rows, features);
        (t.before)(&mut start);
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let name = tier.name();
                for (id, run) in [(format!("separate-{name}"), separate), (name.to_string(), t.run)] {
                    let mut s = start.clone();
                    run(&mut s);
                    assert!(s.outputs() != start.outputs(), "{id} did nothing");
                    same.check(t.name, tier, &s.outputs().map(|(_, values)| values));
                    group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| run(&mut s)));
                }
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    let nothing: Run = |_| ();
    let t = Tiers { name: "rmsnorm_fwd", before: nothing, run: forward, arrays: 2 };
    bench(&mut c, t, [("naive", forward_naive), ("auto", forward_auto)]);
    let t = Tiers { name: "rmsnorm_bwd", before: forward_naive, run: backward, arrays: 3 };
    bench(&mut c, t, [("naive", backward_naive), ("auto", backward_auto)]);
    let t = Tiers { name: "rmsnorm_fwd_add", before: nothing, run: forward_add, arrays: 4 };
    bench_fused(&mut c, t, forward_add_separate);
    let t = Tiers { name: "rmsnorm_bwd_add", before: forward_add_separate, run: backward_add, arrays: 4 };
    bench_fused(&mut c, t, backward_add_separate);
    let t = Tiers { name: "layernorm_fwd_add", before: nothing, run: layernorm_forward_add, arrays: 4 };
    bench_fused(&mut c, t, layernorm_forward_add_separate);
    let before = layernorm_forward_add_separate;
    let t = Tiers { name: "layernorm_bwd_add", before, run: layernorm_backward_add, arrays: 4 };
    bench_fused(&mut c, t, layernorm_backward_add_separate);
    c.final_summary();
}
