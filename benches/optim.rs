//! `sgd_momentum/<tier>/<parameters>`, `lion/...` and `adafactor/<tier>/<rows>x<cols>`, beside the naive loop (`naive`) and its
//! auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::adafactor::{Adafactor, AdafactorConfig, AdafactorTensor, SecondMoment, scratch_len_matrix};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::naive::optim;
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};
use hotlanes::{Tier, with_tier};

/// Parameter, gradient, buffer.
type State = [Vec<f32>; 3];

fn state(n: usize) -> State {
    [common::data(n, 1), common::data(n, 2), common::data(n, 3)]
}

type Plain<'a> = &'a dyn Fn(&mut State);

/// One optimizer on vectors: the plain loops, then the kernel on each tier.
fn elementwise(c: &mut Criterion, name: &str, plain: [(&str, Plain<'_>); 2], kernel: impl Fn(&mut State)) {
    let mut group = c.benchmark_group(name);
    let sizes = [4096, 65_536, 131_072, 262_144, 2_359_296, 33_554_432];
    for &n in sizes.iter().filter(|&&n| n < 10_000_000 || common::full()) {
        group.throughput(Throughput::Elements(n as u64));
        let mut expected = state(n);
        plain[0].1(&mut expected);
        for (name, f) in plain {
            let mut s = state(n);
            group.bench_function(BenchmarkId::new(name, n), |b| b.iter(|| f(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = state(n);
                kernel(&mut s);
                common::check(name, tier.name(), &s[0], &expected[0], 1e-6);
                common::check(name, tier.name(), &s[2], &expected[2], 1e-6);
                same.check(name, tier, &[&s[0], &s[2]]);
                group.bench_function(BenchmarkId::new(tier.name(), n), |b| b.iter(|| kernel(&mut s)));
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn sgd(c: &mut Criterion) {
    let config = SgdConfig { lr: 1e-3, momentum: 0.9, ..Default::default() };
    let step = Sgd::new(config).and_then(|o| o.at(2)).expect("valid");
    let naive = |[p, g, b]: &mut State| optim::sgd_momentum(p, g, b, 1e-3, 0.9);
    let auto = |[p, g, b]: &mut State| optim::sgd_momentum_auto(p, g, b, 1e-3, 0.9);
    elementwise(c, "sgd_momentum", [("naive", &naive), ("auto", &auto)], |[param, grad, buffer]| {
        step.update(SgdTensor { param, grad, buffer });
    });
}

fn lion(c: &mut Criterion) {
    let step = Lion::new(LionConfig { weight_decay: 0.1, ..Default::default() }).expect("valid").step();
    let naive = |[p, g, m]: &mut State| optim::lion(p, g, m, 1e-4, 0.9, 0.99, 0.1);
    let auto = |[p, g, m]: &mut State| optim::lion_auto(p, g, m, 1e-4, 0.9, 0.99, 0.1);
    elementwise(c, "lion", [("naive", &naive), ("auto", &auto)], |[param, grad, m]| {
        step.update(LionTensor { param, grad, m });
    });
}

/// A matrix with its moments and room for a step.
struct Matrix {
    param: Vec<f32>,
    grad: Vec<f32>,
    row: Vec<f32>,
    col: Vec<f32>,
    update: Vec<f32>,
    sums: Vec<f32>,
    scratch: Vec<f32>,
}

impl Matrix {
    fn new(rows: usize, cols: usize) -> Self {
        let square = |n, seed| common::data(n, seed).iter().map(|x| x * x).collect();
        Matrix {
            param: common::data(rows * cols, 1),
            grad: common::data(rows * cols, 2),
            row: square(rows, 3),
            col: square(cols, 4),
            update: vec![0.0; rows * cols],
            sums: vec![0.0; cols],
            scratch: vec![0.0; scratch_len_matrix(rows, cols)],
        }
    }
}

const STEP: i32 = 10;

fn adafactor(c: &mut Criterion) {
    let config = AdafactorConfig::default();
    let step = Adafactor::new(config).and_then(|o| o.at(STEP as u64)).expect("the defaults are valid");
    let constants = optim::AdafactorConstants {
        lr: config.lr as f32,
        weight: (STEP as f64).powf(config.beta2_decay) as f32,
        eps1: config.eps1 as f32,
        eps2: config.eps2 as f32,
        d: config.d as f32,
        step: STEP,
    };
    let mut group = c.benchmark_group("adafactor");
    for (rows, cols) in [(256, 256), (512, 512), (1536, 1536)] {
        let size = format!("{rows}x{cols}");
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let mut s = Matrix::new(rows, cols);
        let Matrix { param, grad, row, col, update, sums, .. } = &mut s;
        optim::adafactor_matrix(param, grad, row, col, update, sums, constants);
        let expected = [param.clone(), row.clone(), col.clone()];
        group.bench_function(BenchmarkId::new("naive", &size), |b| {
            b.iter(|| optim::adafactor_matrix(param, grad, row, col, update, sums, constants));
        });
        group.bench_function(BenchmarkId::new("auto", &size), |b| {
            b.iter(|| optim::adafactor_matrix_auto(param, grad, row, col, update, sums, constants));
        });
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let Matrix { mut param, grad, mut row, mut col, mut scratch, .. } = Matrix::new(rows, cols);
                let mut run = |param: &mut [f32], row: &mut [f32], col: &mut [f32]| {
                    let moment = SecondMoment::Factored { row, col };
                    step.update(AdafactorTensor { param, grad: &grad, moment }, &mut scratch);
                };
                run(&mut param, &mut row, &mut col);
                // The naive sums of 2 million squares in one f32 are off by more than the kernel's.
                common::check("adafactor param", tier.name(), &param, &expected[0], 1e-4);
                common::check("adafactor row", tier.name(), &row, &expected[1], 1e-5);
                common::check("adafactor col", tier.name(), &col, &expected[2], 1e-5);
                same.check("adafactor", tier, &[&param, &row, &col]);
                group.bench_function(BenchmarkId::new(tier.name(), &size), |b| {
                    b.iter(|| run(&mut param, &mut row, &mut col));
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    sgd(&mut c);
    lion(&mut c);
    adafactor(&mut c);
    c.final_summary();
}
