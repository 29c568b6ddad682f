//! `sparse_fwd/<tier>/<in>x<out>@<density>b<batch>` and `sparse_bwd/...`, beside the naive loop (`naive`: an array of
//! `{from, weight}`, one accumulator, example by example) and its auto-vectorised twin (`auto`). `sparse_bwd/<tier>_first` leaves
//! out `dx`, as a first layer does. `sparse_online_fwd` and `sparse_online_sgd` take one example, a fifth of whose inputs are not zero.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Masked, Plan};
use hotlanes::{Tier, with_tier};

const SIZES: [(usize, usize, f32, usize); 9] = [
    (784, 128, 0.5, 1),
    (784, 128, 0.1, 1),
    (784, 128, 0.1, 32),
    (784, 128, 0.5, 32),
    (784, 128, 0.5, 512),
    (784, 128, 0.1, 512),
    (1024, 1024, 0.1, 64),
    (1024, 1024, 0.05, 128),
    (1024, 1024, 0.01, 128),
];

/// A layer in both layouts, and a batch in both layouts.
struct Layer {
    csr: Csr<u32>,
    plan: Plan,
    connections: Vec<Connection>,
    batch: usize,
    /// `[example][feature]`, for the naive loops.
    by_example: (Vec<f32>, Vec<f32>),
    /// `[feature][example]`, for the kernels.
    by_feature: (Vec<f32>, Vec<f32>),
}

/// `[rows][cols]` as `[cols][rows]`.
fn transpose(a: &[f32], cols: usize) -> Vec<f32> {
    let rows = a.len() / cols;
    (0..a.len()).map(|i| a[i % rows * cols + i / rows]).collect()
}

impl Layer {
    fn new(cols: usize, rows: usize, density: f32, batch: usize) -> Self {
        let (mut indptr, mut indices) = (vec![0], Vec::new());
        let chances = common::data(rows * cols, 1);
        for row in chances.chunks(cols) {
            indices.extend((0..cols as u32).filter(|&c| row[c as usize] < 2.0 * density - 1.0));
            indptr.push(indices.len());
        }
        let values = common::data(indices.len(), 2);
        let connections =
            indices.iter().zip(&values).map(|(&from, &weight)| Connection { from, weight }).collect();
        let csr = Csr::new(rows, cols, indptr, indices, values).expect("made in order");
        let by_example = (common::data(cols * batch, 3), common::data(rows * batch, 4));
        let by_feature = (transpose(&by_example.0, cols), transpose(&by_example.1, rows));
        Layer { plan: csr.plan(), csr, connections, batch, by_example, by_feature }
    }

    fn forward(&self, y: &mut [f32]) {
        match self.batch {
            1 => self.csr.matvec(&self.by_feature.0, y),
            batch => self.csr.matmul(&self.by_feature.0, batch, y),
        }
    }

    fn backward(&self, dx: &mut [f32], dvalues: &mut [f32]) {
        let (x, dy) = &self.by_feature;
        match self.batch {
            1 => self.csr.matvec_backward(x, dy, Some(dx), dvalues),
            batch => self.plan.matmul_backward(&self.csr, x, dy, batch, Some(dx), Some(dvalues)),
        }
    }
}

fn bench(c: &mut Criterion) {
    for (cols, rows, density, batch) in SIZES {
        let layer = Layer::new(cols, rows, density, batch);
        let size = format!("{cols}x{rows}@{density}b{batch}");
        forward(c, &layer, &size);
        backward(c, &layer, &size);
        if batch == 1 {
            online(c, &layer, &size);
        }
    }
}

fn forward(c: &mut Criterion, layer: &Layer, size: &str) {
    let (rows, cols) = (layer.csr.rows(), layer.csr.cols());
    let (indptr, x) = (layer.csr.indptr(), &layer.by_example.0);
    let mut group = c.benchmark_group("sparse_fwd");
    group.throughput(Throughput::Elements((layer.csr.nnz() * layer.batch) as u64));
    let mut y = vec![0.0; rows * layer.batch];
    // Outside the benchmark, which a filter may leave out.
    naive::sparse_matmul(indptr, &layer.connections, cols, x, &mut y);
    let expected = transpose(&y, rows);
    group.bench_function(BenchmarkId::new("naive", size), |b| {
        b.iter(|| naive::sparse_matmul(indptr, &layer.connections, cols, x, &mut y));
    });
    group.bench_function(BenchmarkId::new("auto", size), |b| {
        b.iter(|| naive::sparse_matmul_auto(indptr, &layer.connections, cols, x, &mut y));
    });
    let mut same = common::SameBits::new();
    for tier in Tier::available() {
        with_tier(tier, || {
            layer.forward(&mut y);
            common::check("sparse_fwd y", tier.name(), &y, &expected, 1e-5);
            same.check("sparse_fwd", tier, &[&y]);
            group.bench_function(BenchmarkId::new(tier.name(), size), |b| b.iter(|| layer.forward(&mut y)));
        })
        .expect("the tier is one of the available");
    }
    group.finish();
}

fn backward(c: &mut Criterion, layer: &Layer, size: &str) {
    let cols = layer.csr.cols();
    let (indptr, (x, dy)) = (layer.csr.indptr(), &layer.by_example);
    let mut group = c.benchmark_group("sparse_bwd");
    group.throughput(Throughput::Elements((layer.csr.nnz() * layer.batch) as u64));
    let (mut dx, mut dvalues) = (vec![0.0; cols * layer.batch], vec![0.0; layer.csr.nnz()]);
    naive::sparse_backward(indptr, &layer.connections, cols, x, dy, &mut dx, &mut dvalues);
    let expected = (transpose(&dx, cols), dvalues.clone());
    group.bench_function(BenchmarkId::new("naive", size), |b| {
        b.iter(|| naive::sparse_backward(indptr, &layer.connections, cols, x, dy, &mut dx, &mut dvalues));
    });
    group.bench_function(BenchmarkId::new("auto", size), |b| {
        b.iter(|| {
            naive::sparse_backward_auto(indptr, &layer.connections, cols, x, dy, &mut dx, &mut dvalues)
        });
    });
    let mut same = common::SameBits::new();
    for tier in Tier::available() {
        with_tier(tier, || {
            layer.backward(&mut dx, &mut dvalues);
            common::check("sparse_bwd dx", tier.name(), &dx, &expected.0, 1e-5);
            common::check("sparse_bwd dvalues", tier.name(), &dvalues, &expected.1, 1e-5);
            same.check("sparse_bwd", tier, &[&dx, &dvalues]);
            group.bench_function(BenchmarkId::new(tier.name(), size), |b| {
                b.iter(|| layer.backward(&mut dx, &mut dvalues));
            });
            if layer.batch > 1 {
                let Layer { csr, plan, batch, by_feature: (x, dy), .. } = layer;
                group.bench_function(BenchmarkId::new(format!("{}_first", tier.name()), size), |b| {
                    b.iter(|| plan.matmul_backward(csr, x, dy, *batch, None, Some(&mut dvalues)));
                });
                common::check("sparse_bwd dvalues alone", tier.name(), &dvalues, &expected.1, 1e-5);
            }
        })
        .expect("the tier is one of the available");
    }
    group.finish();
}

/// One example of whose inputs every fifth run of four is not zero.
fn online(c: &mut Criterion, layer: &Layer, size: &str) {
    let (rows, cols, indptr, lr) = (layer.csr.rows(), layer.csr.cols(), layer.csr.indptr(), 1e-3f32);
    let (mut x, dy) = (layer.by_example.0.clone(), &layer.by_example.1);
    x.iter_mut().enumerate().filter(|(i, _)| i / 4 % 5 != 0).for_each(|(_, x)| *x = 0.0);
    let (mut y, mut dx, mut stepped) = (vec![0.0; rows], vec![0.0; cols], layer.connections.clone());
    naive::sparse_matvec(indptr, &layer.connections, &x, &mut y);
    let expected = y.clone();
    naive::sparse::sparse_sgd(indptr, &mut stepped, &x, dy, lr, &mut dx);
    let expected_dx: Vec<f32> = dx.iter().zip(&x).map(|(&dx, &x)| if x == 0.0 { 0.0 } else { dx }).collect();
    let expected_values: Vec<f32> = stepped.iter().map(|c| c.weight).collect();

    let mut group = c.benchmark_group("sparse_online_fwd");
    group.throughput(Throughput::Elements(layer.csr.nnz() as u64));
    group.bench_function(BenchmarkId::new("naive", size), |b| {
        b.iter(|| naive::sparse_matvec(indptr, &layer.connections, &x, &mut y));
    });
    let masked = Masked::new(&layer.csr);
    for tier in Tier::available() {
        with_tier(tier, || {
            masked.matvec(&x, &mut y);
            common::check("sparse_online_fwd y", tier.name(), &y, &expected, 1e-5);
            group.bench_function(BenchmarkId::new(tier.name(), size), |b| {
                b.iter(|| masked.matvec(&x, &mut y))
            });
        })
        .expect("the tier is one of the available");
    }
    group.finish();

    let mut group = c.benchmark_group("sparse_online_sgd");
    group.throughput(Throughput::Elements(layer.csr.nnz() as u64));
    group.bench_function(BenchmarkId::new("naive", size), |b| {
        b.iter(|| naive::sparse::sparse_sgd(indptr, &mut stepped, &x, dy, lr, &mut dx));
    });
    for tier in Tier::available() {
        with_tier(tier, || {
            let (mut masked, mut after) = (Masked::new(&layer.csr), layer.csr.clone());
            let mut step =
                || masked.matvec_backward_sgd_relu(&x, dy, f64::from(lr), &mut dx).expect("a valid rate");
            step();
            masked.write_values(&mut after);
            common::check("sparse_online_sgd values", tier.name(), after.values(), &expected_values, 1e-5);
            common::check("sparse_online_sgd dx", tier.name(), &dx, &expected_dx, 1e-5);
            let mut step =
                || masked.matvec_backward_sgd_relu(&x, dy, f64::from(lr), &mut dx).expect("a valid rate");
            group.bench_function(BenchmarkId::new(tier.name(), size), |b| b.iter(&mut step));
        })
        .expect("the tier is one of the available");
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    bench(&mut c);
    c.final_summary();
}
