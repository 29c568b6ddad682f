//! `<activation>_fwd/<tier>/<elements>` and `<activation>_bwd/...`, beside the naive loop (`naive`, by the standard library's
//! functions) and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::activation::Activation;
use hotlanes::naive::activation as naive;
use hotlanes::{Tier, with_tier};

const SIZES: [usize; 3] = [4096, 1 << 16, 1 << 20];

/// One direction of a function: of the gradient (not used by the forward), the input and the output.
type Run = Box<dyn Fn(&[f32], &[f32], &mut [f32])>;

fn bench(c: &mut Criterion, name: &str, arrays: usize, kernel: Run, loops: [(&str, Run); 2]) {
    let mut group = c.benchmark_group(name);
    for n in SIZES {
        group.throughput(Throughput::Bytes((4 * arrays * n) as u64));
        let dy = common::data(n, 1);
        let x: Vec<f32> = common::data(n, 2).into_iter().map(|x| 4.0 * x).collect();
        let mut expected = vec![0.0; n];
        loops[0].1(&dy, &x, &mut expected);
        let mut y = vec![0.0; n];
        for (id, run) in &loops {
            group.bench_function(BenchmarkId::new(*id, n), |b| b.iter(|| run(&dy, &x, &mut y)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                kernel(&dy, &x, &mut y);
                common::check(name, tier.name(), &y, &expected, 2e-6);
                same.check(name, tier, &[&y]);
                group
                    .bench_function(BenchmarkId::new(tier.name(), n), |b| b.iter(|| kernel(&dy, &x, &mut y)));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    for a in Activation::ALL {
        bench(
            &mut c,
            &format!("{}_fwd", a.name()),
            2,
            Box::new(move |_, x, y| a.forward(x, y)),
            [
                ("naive", Box::new(move |_, x, y| naive::activation_forward(a, x, y))),
                ("auto", Box::new(move |_, x, y| naive::activation_forward_auto(a, x, y))),
            ],
        );
        bench(
            &mut c,
            &format!("{}_bwd", a.name()),
            3,
            Box::new(move |dy, x, dx| a.backward(dy, x, dx)),
            [
                ("naive", Box::new(move |dy, x, dx| naive::activation_backward(a, dy, x, dx))),
                ("auto", Box::new(move |dy, x, dx| naive::activation_backward_auto(a, dy, x, dx))),
            ],
        );
    }
    bench(
        &mut c,
        "exp",
        2,
        Box::new(|_, x, y| hotlanes::activation::exp(x, y)),
        [
            ("naive", Box::new(|_, x, y| naive::exp(x, y))),
            ("auto", Box::new(|_, x, y| naive::exp_auto(x, y))),
        ],
    );
    c.final_summary();
}
