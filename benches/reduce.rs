//! `<reduction>/<tier>/<elements>`, `aggregate/<tier>/<buffers>x<elements>` and `clip_adamw/<tier>/<tensors>x<elements>`,
//! beside the naive loop (`naive`) and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::clip::{Clip, ClipConfig, clip_grad_norm};
use hotlanes::{Tier, naive, reduce, with_tier};

/// Two inputs, and room for the results.
#[derive(Clone)]
struct State {
    x: Vec<f32>,
    y: Vec<f32>,
    results: [f32; 2],
}

/// A reduction: its name, its slices, plain loop, twin, and kernel.
type Reduction = (&'static str, usize, [fn(&mut State); 3]);

const REDUCTIONS: [Reduction; 5] = [
    (
        "sum",
        1,
        [
            |s| naive::reduce::sum(&s.x, &mut s.results[0]),
            |s| naive::reduce::sum_auto(&s.x, &mut s.results[0]),
            |s| s.results[0] = reduce::sum(&s.x),
        ],
    ),
    (
        "dot",
        2,
        [
            |s| naive::reduce::dot(&s.x, &s.y, &mut s.results[0]),
            |s| naive::reduce::dot_auto(&s.x, &s.y, &mut s.results[0]),
            |s| s.results[0] = reduce::dot(&s.x, &s.y),
        ],
    ),
    (
        "norm",
        1,
        [
            |s| naive::reduce::norm(&s.x, &mut s.results[0]),
            |s| naive::reduce::norm_auto(&s.x, &mut s.results[0]),
            |s| s.results[0] = reduce::norm(&s.x),
        ],
    ),
    (
        "mean_var",
        1,
        [
            |s| {
                let [mean, variance] = &mut s.results;
                naive::reduce::mean_var(&s.x, mean, variance);
            },
            |s| {
                let [mean, variance] = &mut s.results;
                naive::reduce::mean_var_auto(&s.x, mean, variance);
            },
            |s| {
                let r = reduce::mean_var(&s.x);
                s.results = [r.mean, r.variance];
            },
        ],
    ),
    (
        "max",
        1,
        [
            |s| naive::reduce::max(&s.x, &mut s.results[0]),
            |s| naive::reduce::max_auto(&s.x, &mut s.results[0]),
            |s| s.results[0] = reduce::max(&s.x),
        ],
    ),
];

fn reductions(c: &mut Criterion) {
    for (name, slices, [plain, auto, kernel]) in REDUCTIONS {
        let mut group = c.benchmark_group(name);
        let sizes = [4096, 65_536, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 22, 1 << 25];
        for &n in sizes.iter().filter(|&&n| n < 10_000_000 || common::full()) {
            group.throughput(Throughput::Bytes((4 * slices * n) as u64));
            // All of one sign: a sum of nothing much would be compared with nothing much.
            let positive = |seed| common::data(n, seed).iter().map(|x| x + 1.5).collect();
            let mut s = State { x: positive(1), y: positive(2), results: [0.0; 2] };
            plain(&mut s);
            let expected = s.results;
            for (id, f) in [("naive", plain), ("auto", auto)] {
                group.bench_function(BenchmarkId::new(id, n), |b| b.iter(|| f(&mut s)));
            }
            let mut same = common::SameBits::new();
            for tier in Tier::available() {
                with_tier(tier, || {
                    kernel(&mut s);
                    // What the plain loop loses in one long f32 sum.
                    for (got, want) in s.results.iter().zip(expected) {
                        common::check(name, tier.name(), &[*got], &[want], 2e-2);
                    }
                    same.check(name, tier, &[&s.results]);
                    group.bench_function(BenchmarkId::new(tier.name(), n), |b| b.iter(|| kernel(&mut s)));
                })
                .expect("the tier is one of the available");
            }
        }
        group.finish();
    }
}

fn aggregate(c: &mut Criterion) {
    let mut group = c.benchmark_group("aggregate");
    for (k, n) in [(2, 65_536), (4, 65_536), (8, 65_536), (8, 1 << 20), (20, 65_536), (64, 65_536)] {
        let size = format!("{k}x{n}");
        let owned: Vec<Vec<f32>> = (0..k).map(|seed| common::data(n, seed as u64)).collect();
        let buffers: Vec<&[f32]> = owned.iter().map(|b| &b[..]).collect();
        let scale = 1.0 / k as f32;
        group.throughput(Throughput::Bytes((4 * (k + 1) * n) as u64));
        let (mut expected, mut dst) = (vec![0.0; n], vec![0.0; n]);
        naive::reduce::aggregate(&mut expected, &buffers, scale);
        group.bench_function(BenchmarkId::new("naive", &size), |b| {
            b.iter(|| naive::reduce::aggregate(&mut dst, &buffers, scale));
        });
        group.bench_function(BenchmarkId::new("auto", &size), |b| {
            b.iter(|| naive::reduce::aggregate_auto(&mut dst, &buffers, scale));
        });
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                dst.fill(f32::NAN);
                reduce::aggregate(&mut dst, &buffers, scale);
                common::check("aggregate", tier.name(), &dst, &expected, 1e-5);
                same.check("aggregate", tier, &[&dst]);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| {
                    b.iter(|| reduce::aggregate(&mut dst, &buffers, scale));
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

/// The optimizer's state of all tensors, one after the other.
#[derive(Clone)]
struct Training {
    param: Vec<f32>,
    grad: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Training {
    fn new(n: usize) -> Self {
        let v = common::data(n, 4).iter().map(|x| x * x).collect();
        Training { param: common::data(n, 1), grad: common::data(n, 2), m: common::data(n, 3), v }
    }

    /// The state cut into tensors of `len` parameters.
    fn tensors(&mut self, len: usize) -> Vec<AdamWTensor<'_>> {
        let moments = self.m.chunks_mut(len).zip(self.v.chunks_mut(len));
        (self.param.chunks_mut(len).zip(self.grad.chunks(len)).zip(moments))
            .map(|((param, grad), (m, v))| AdamWTensor { param, grad, m, v, v_max: None })
            .collect()
    }
}

const NAIVE: naive::AdamWConstants =
    naive::AdamWConstants { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: 10 };

fn naive_clip(s: &mut Training) {
    naive::reduce::clip_adamw(&mut s.param, &mut s.grad, &mut s.m, &mut s.v, 1.0, NAIVE);
}

fn naive_clip_auto(s: &mut Training) {
    naive::reduce::clip_adamw_auto(&mut s.param, &mut s.grad, &mut s.m, &mut s.v, 1.0, NAIVE);
}

fn clip(c: &mut Criterion) {
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(10)).expect("the defaults are valid");
    let clip = Clip::new(ClipConfig::default()).expect("the defaults are valid");
    let mut group = c.benchmark_group("clip_adamw");
    for (tensors, len) in [(36, 1024), (36, 65_536), (1, 2_359_296), (2304, 1024)] {
        let (n, size) = (tensors * len, format!("{tensors}x{len}"));
        group.throughput(Throughput::Elements(n as u64));
        let start = Training::new(n);
        let mut expected = start.clone();
        naive_clip(&mut expected);
        for (id, f) in [("naive", naive_clip as fn(&mut Training)), ("auto", naive_clip_auto)] {
            let mut s = start.clone();
            group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| f(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                let outcome = clip.step(&step, &mut s.tensors(len));
                assert!(!outcome.skipped && outcome.clip_factor < 1.0, "{outcome:?}");
                // The naive loop's constants are rounded to f32 first: 1 - 0.999 is off by 5e-5.
                common::check("clip_adamw param", tier.name(), &s.param, &expected.param, 1e-5);
                common::check("clip_adamw m", tier.name(), &s.m, &expected.m, 1e-5);
                common::check("clip_adamw v", tier.name(), &s.v, &expected.v, 1e-4);
                same.check("clip_adamw", tier, &[&s.param, &s.m, &s.v]);
                let mut tensors = s.tensors(len);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| {
                    b.iter(|| clip.step(&step, &mut tensors));
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

/// `clip_grad_norm/<tier>/<tensors>x<elements>`, with a norm that clips every time.
fn clip_alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("clip_grad_norm");
    let (tensors, len) = (36, 65_536);
    group.throughput(Throughput::Elements((tensors * len) as u64));
    let start = common::data(tensors * len, 1);
    let mut same = common::SameBits::new();
    for tier in Tier::available() {
        with_tier(tier, || {
            let mut grads = start.clone();
            let mut max_norm = 500.0;
            let mut clip = || {
                max_norm *= 0.999;
                let mut views: Vec<&mut [f32]> = grads.chunks_mut(len).collect();
                let outcome = clip_grad_norm(&mut views, max_norm).expect("above 0");
                assert!(outcome.clip_factor < 1.0 && !outcome.skipped, "{outcome:?}");
            };
            clip();
            clip();
            let mut norm = 0.0;
            naive::reduce::norm(&grads, &mut norm);
            common::check("clip_grad_norm", tier.name(), &[norm], &[500.0 * 0.999 * 0.999], 2e-2);
            same.check("clip_grad_norm", tier, &[&grads]);
            let mut clip = || {
                max_norm *= 0.999;
                let mut views: Vec<&mut [f32]> = grads.chunks_mut(len).collect();
                clip_grad_norm(&mut views, max_norm).expect("above 0")
            };
            group.bench_function(BenchmarkId::new(tier.name(), format!("{tensors}x{len}")), |b| {
                b.iter(&mut clip);
            });
        })
        .expect("the tier is one of the available");
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    reductions(&mut c);
    aggregate(&mut c);
    clip(&mut c);
    clip_alone(&mut c);
    c.final_summary();
}
