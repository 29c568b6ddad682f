//! `embedding_fwd/<tier>/<vocab>x<features>n<positions>`, `embedding_fwd_pos/...` with position rows, and
//! `embedding_bwd/...`, beside the naive loop (`naive`) and its auto-vectorised twin (`auto`). The backward is what a dense
//! gradient takes: zeros, the plan of the batch, the sums; its `rebuild` is the plan alone.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::naive::embedding as naive;
use hotlanes::{Tier, with_tier};

const SIZES: [(usize, usize, usize); 4] =
    [(1000, 64, 4096), (1000, 512, 1024), (50_257, 256, 16_384), (50_257, 768, 8192)];

#[derive(Clone)]
struct State {
    features: usize,
    indices: EmbeddingIndices,
    plan: EmbeddingPlan,
    table: Vec<f32>,
    positions: Vec<f32>,
    dy: Vec<f32>,
    /// `y` or `dtable`
    out: Vec<f32>,
}

impl State {
    fn new(vocab: usize, features: usize, n: usize, backward: bool) -> Self {
        let id = |x: &f32| ((x + 1.0) / 2.0 * vocab as f32) as u32;
        let ids: Vec<u32> = common::data(n, 1).iter().map(id).collect();
        let indices = EmbeddingIndices::new(&ids, vocab).expect("below vocab");
        State {
            features,
            plan: EmbeddingPlan::new(&indices),
            indices,
            table: common::data(if backward { 0 } else { vocab * features }, 2),
            positions: common::data(n / 4 * features, 3),
            dy: common::data(if backward { n * features } else { 0 }, 4),
            out: vec![0.0; features * if backward { vocab } else { n }],
        }
    }

    fn forward(&mut self) {
        self.indices.forward(&self.table, self.features, &mut self.out);
    }

    fn forward_with_positions(&mut self) {
        let State { indices, table, positions, features, out, .. } = self;
        indices.forward_with_positions(table, positions, *features, out);
    }

    fn backward(&mut self) {
        self.out.fill(0.0);
        self.plan.rebuild(&self.indices);
        self.plan.backward(&self.dy, self.features, &mut self.out);
    }
}

/// A kernel, or a naive loop.
type Run = fn(&mut State);

fn bench(c: &mut Criterion, name: &str, loops: [(&str, Run); 2], kernel: Run, backward: bool) {
    let mut group = c.benchmark_group(name);
    for (vocab, features, n) in SIZES.into_iter().filter(|s| s.0 * s.1 < 20_000_000 || common::full()) {
        let size = format!("{vocab}x{features}n{n}");
        group.throughput(Throughput::Bytes((8 * n * features) as u64));
        let mut s = State::new(vocab, features, n, backward);
        loops[0].1(&mut s);
        let expected = s.out.clone();
        for (id, naive) in loops {
            group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| naive(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                s.out.fill(f32::NAN);
                kernel(&mut s);
                common::check(name, tier.name(), &s.out, &expected, 0.0);
                same.check(name, tier, &[&s.out]);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| b.iter(|| kernel(&mut s)));
            })
            .expect("the tier is one of the available");
        }
        if backward {
            group.bench_function(BenchmarkId::new("rebuild", &size), |b| {
                b.iter(|| s.plan.rebuild(&s.indices))
            });
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    let naive: Run = |s| naive::embedding_forward(s.indices.ids(), &s.table, &[], s.features, &mut s.out);
    let auto: Run = |s| naive::embedding_forward_auto(s.indices.ids(), &s.table, &[], s.features, &mut s.out);
    bench(&mut c, "embedding_fwd", [("naive", naive), ("auto", auto)], State::forward, false);
    let naive: Run =
        |s| naive::embedding_forward(s.indices.ids(), &s.table, &s.positions, s.features, &mut s.out);
    let auto: Run =
        |s| naive::embedding_forward_auto(s.indices.ids(), &s.table, &s.positions, s.features, &mut s.out);
    let kernel = State::forward_with_positions;
    bench(&mut c, "embedding_fwd_pos", [("naive", naive), ("auto", auto)], kernel, false);
    let naive: Run = |s| naive::embedding_backward(s.indices.ids(), &s.dy, s.features, &mut s.out);
    let auto: Run = |s| naive::embedding_backward_auto(s.indices.ids(), &s.dy, s.features, &mut s.out);
    bench(&mut c, "embedding_bwd", [("naive", naive), ("auto", auto)], State::backward, true);
    c.final_summary();
}
