//! `softmax/<tier>/<rows>x<features>`, `softmax_bwd/...`, `log_softmax/...`, `log_softmax_bwd/...` and `cross_entropy/...`
//! (loss and gradient), beside the naive loop (`naive`) and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::naive::loss as naive;
use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};
use hotlanes::{Tier, with_tier};

const SIZES: [(usize, usize); 6] =
    [(256, 512), (2048, 512), (2048, 128), (2048, 65), (4096, 10), (64, 32_768)];

#[derive(Clone)]
struct State {
    n: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    log: Vec<f32>,
    dy: Vec<f32>,
    labels: Vec<u32>,
    out: Vec<f32>,
    losses: Vec<f32>,
}

impl State {
    fn new(rows: usize, n: usize) -> Self {
        let x = common::data(rows * n, 1);
        let (mut y, mut log) = (x.clone(), x.clone());
        naive::softmax(&x, n, &mut y);
        naive::log_softmax(&x, n, &mut log);
        State {
            n,
            x,
            y,
            log,
            dy: common::data(rows * n, 2),
            labels: (0..rows).map(|r| (r * 7919 % n) as u32).collect(),
            out: vec![0.0; rows * n],
            losses: vec![0.0; rows],
        }
    }
}

fn cross_entropy(s: &mut State) {
    let ce = CrossEntropy::new(s.n, 0.0, None).expect("valid");
    ce.forward_backward(&s.x, &s.labels, Reduction::Mean, &mut s.out, &mut s.losses).expect("in range");
}

/// The naive loop, its twin and the kernel.
type Loops = [fn(&mut State); 3];

fn bench(c: &mut Criterion, name: &str, arrays: usize, [plain, auto, kernel]: Loops) {
    let mut group = c.benchmark_group(name);
    for (rows, n) in SIZES {
        let size = format!("{rows}x{n}");
        group.throughput(Throughput::Bytes((4 * arrays * rows * n) as u64));
        let start = State::new(rows, n);
        let mut expected = start.clone();
        plain(&mut expected);
        for (id, f) in [("naive", plain), ("auto", auto)] {
            let mut s = start.clone();
            group.bench_function(BenchmarkId::new(id, &size), |b| b.iter(|| f(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                kernel(&mut s);
                common::check(name, tier.name(), &s.out, &expected.out, 1e-4);
                common::check(name, tier.name(), &s.losses, &expected.losses, 1e-5);
                same.check(name, tier, &[&s.out, &s.losses]);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| b.iter(|| kernel(&mut s)));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    let loops: Loops = [
        |s| naive::softmax(&s.x, s.n, &mut s.out),
        |s| naive::softmax_auto(&s.x, s.n, &mut s.out),
        |s| softmax(&s.x, s.n, &mut s.out),
    ];
    bench(&mut c, "softmax", 2, loops);
    let loops: Loops = [
        |s| naive::softmax_backward(&s.dy, &s.y, s.n, &mut s.out),
        |s| naive::softmax_backward_auto(&s.dy, &s.y, s.n, &mut s.out),
        |s| softmax_backward(&s.dy, &s.y, s.n, &mut s.out),
    ];
    bench(&mut c, "softmax_bwd", 3, loops);
    let loops: Loops = [
        |s| naive::log_softmax(&s.x, s.n, &mut s.out),
        |s| naive::log_softmax_auto(&s.x, s.n, &mut s.out),
        |s| log_softmax(&s.x, s.n, &mut s.out),
    ];
    bench(&mut c, "log_softmax", 2, loops);
    let loops: Loops = [
        |s| naive::log_softmax_backward(&s.dy, &s.log, s.n, &mut s.out),
        |s| naive::log_softmax_backward_auto(&s.dy, &s.log, s.n, &mut s.out),
        |s| log_softmax_backward(&s.dy, &s.log, s.n, &mut s.out),
    ];
    bench(&mut c, "log_softmax_bwd", 3, loops);
    let loops: Loops = [
        |s| naive::cross_entropy(&s.x, &s.labels, s.n, 0.0, &mut s.out, &mut s.losses),
        |s| naive::cross_entropy_auto(&s.x, &s.labels, s.n, 0.0, &mut s.out, &mut s.losses),
        cross_entropy,
    ];
    bench(&mut c, "cross_entropy", 2, loops);
    c.final_summary();
}
