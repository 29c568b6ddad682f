//! `sparse_fwd/<tier>/<in>x<out>@<density>b<batch>` and `sparse_bwd/...`, beside the naive loop (`naive`: an array of
//! `{from, weight}`, one accumulator, example by example) and its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Plan};
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
