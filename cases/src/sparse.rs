//! The sparse layer: one example by gather and by loads, a batch, and their backwards, with both index types.

mod structure;

use hotlanes::Index;
use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Plan};
use hotlanes::tuning::{SPARSE_PARALLEL, with_one_sparse_sweep};

use crate::memory::{Buf, Memory};
use crate::run::{Content, Output, Run, Work, instance_apart, pick};
use crate::sizes::{Size, dims};
use crate::{Bits, Case, Counted, Element, Threads, Timed};

pub(crate) use structure::structure;
use structure::*;

pub(crate) const CASES: &[Case] = &[
    MATVEC,
    Case { id: "sparse_matvec_loads", gather: false, same_as: Some(("sparse_matvec", same)), ..VARIANT },
    Case {
        id: "sparse_matvec_u16",
        kernel: "hotlanes::sparse::example::MatVec<u16>",
        build: |size, m| layer::<u16>(size, m, Do::Forward, Way::One),
        same_as: Some(("sparse_matvec", same)),
        ..VARIANT
    },
    Case {
        id: "sparse_matvec_u16_loads",
        kernel: "hotlanes::sparse::example::MatVec<u16>",
        build: |size, m| layer::<u16>(size, m, Do::Forward, Way::One),
        gather: false,
        same_as: Some(("sparse_matvec", same)),
        ..VARIANT
    },
    // Connections that are looked up among neighbours, and a few that lie too far apart.
    Case {
        id: "sparse_matvec_near",
        bits: Bits::At { sizes: near, random: &[(0, 40), (64, 200), (40, 100), (1, 1)] },
        threads: Threads::Never("that of sparse_matvec"),
        counted: Counted::Not("more instructions than gathers are, which take longer"),
        timed: Timed::Not("the first row of sparse_matvec"),
        ..MATVEC
    },
    // It clears `dx` by the C library's memset: a constant.
    EXAMPLE_BWD,
    Case {
        id: "sparse_matvec_bwd_loads",
        gather: false,
        same_as: Some(("sparse_matvec_bwd", same)),
        timed: OTHER,
        twin: false,
        ..EXAMPLE_BWD
    },
    Case {
        id: "sparse_matvec_bwd_sgd",
        covers: &["sparse::Csr::matvec_backward_sgd"],
        build: |size, m| layer::<u32>(size, m, Do::Sgd { dx: true }, Way::One),
        timed: OTHER,
        twin: false,
        ..EXAMPLE_BWD
    },
    Case {
        id: "sparse_matvec_bwd_sgd_first",
        covers: &["sparse::Csr::matvec_backward_sgd"],
        build: |size, m| layer::<u32>(size, m, Do::Sgd { dx: false }, Way::One),
        same_as: Some(("sparse_matvec_bwd_sgd", same)),
        counted: Counted::Not("the loop of sparse_matvec_bwd_sgd"),
        timed: OTHER,
        twin: false,
        ..EXAMPLE_BWD
    },
    Case {
        id: "sparse_matvec_bwd_first",
        build: |size, m| layer::<u32>(size, m, Do::Backward { dx: false, dvalues: true }, Way::One),
        same_as: Some(("sparse_matvec_bwd", same)),
        counted: Counted::Not("the loop of sparse_matvec_bwd"),
        timed: OTHER,
        twin: false,
        ..EXAMPLE_BWD
    },
    Case {
        id: "sparse_matvec_bwd_u16",
        kernel: "hotlanes::sparse::example::Backward<u16>",
        build: |size, m| layer::<u16>(size, m, BOTH, Way::One),
        same_as: Some(("sparse_matvec_bwd", same)),
        timed: OTHER,
        ..EXAMPLE_BWD
    },
    MATMUL,
    Case {
        id: "sparse_matmul_u16",
        kernel: "hotlanes::sparse::batch::MatMul<u16>",
        build: |size, m| layer::<u16>(size, m, Do::Forward, Way::Batch),
        same_as: Some(("sparse_matmul", same)),
        timed: OTHER,
        ..MATMUL
    },
    PACKED,
    Case {
        id: "sparse_matmul_packed_u16",
        kernel: "hotlanes::sparse::batch::Packed<u16>",
        build: |size, m| layer::<u16>(size, m, Do::Forward, Way::Batch),
        same_as: Some(("sparse_matmul_packed", same)),
        ..PACKED
    },
    // One sweep or two, as the tier has it.
    Case {
        id: "sparse_matmul_bwd",
        build: |size, m| layer::<u32>(size, m, BOTH, Way::Batch),
        counted: Counted::Not("of one sweep and of two by themselves"),
        timed: MATMUL.timed,
        ..BWD
    },
    Case {
        id: "sparse_bwd_one_sweep",
        build: |size, m| layer::<u32>(size, m, BOTH, Way::Sweeps(1)),
        same_as: Some(("sparse_matmul_bwd", same)),
        ..BWD
    },
    Case {
        id: "sparse_bwd_two_sweeps",
        build: |size, m| layer::<u32>(size, m, BOTH, Way::Sweeps(2)),
        same_as: Some(("sparse_matmul_bwd", same)),
        counted: Counted::Not("the loops of sparse_bwd_dx and sparse_bwd_dvalues"),
        ..BWD
    },
    Case {
        id: "sparse_bwd_dx",
        kernel: "hotlanes::sparse::inputs::Inputs",
        build: |size, m| layer::<u32>(size, m, Do::Backward { dx: true, dvalues: false }, Way::Batch),
        same_as: Some(("sparse_matmul_bwd", same)),
        twin: false,
        ..BWD
    },
    DVALUES,
    Case {
        id: "sparse_bwd_dvalues_u16",
        kernel: "hotlanes::sparse::values::Values<u16>",
        build: |size, m| layer::<u16>(size, m, Do::Backward { dx: false, dvalues: true }, Way::Batch),
        ..DVALUES
    },
    Case {
        id: "sparse_bwd_sgd_first",
        covers: &["sparse::Plan::matmul_backward_sgd"],
        build: |size, m| layer::<u32>(size, m, Do::Sgd { dx: false }, Way::Batch),
        same_as: Some(("sparse_bwd_sgd", same)),
        ..DVALUES
    },
    // It gathers the values.
    SGD,
    Case { id: "sparse_bwd_sgd_loads", gather: false, same_as: Some(("sparse_bwd_sgd", same)), ..SGD },
    Case {
        id: "sparse_bwd_sgd_two_sweeps",
        build: |size, m| layer::<u32>(size, m, Do::Sgd { dx: true }, Way::Sweeps(2)),
        same_as: Some(("sparse_bwd_sgd", same)),
        counted: Counted::Not("the loops of sparse_bwd_dx and sparse_bwd_sgd_first"),
        ..SGD
    },
];

/// Sizes are destinations, sources, structure (see [`Structure`]) and examples.
const MATVEC: Case = Case {
    id: "sparse_matvec",
    covers: &["sparse::Csr::matvec"],
    kernel: "hotlanes::sparse::example::MatVec<u32>",
    build: |size, m| layer::<u32>(size, m, Do::Forward, Way::One),
    label: name,
    bits: Bits::At { sizes: || structures(&[1]), random: &[(0, 40), (0, 60), (0, 100), (1, 1)] },
    threads: Threads::From {
        below: &[511, SPARSE_PARALLEL / 512, 100, 1],
        at: &[&[512, SPARSE_PARALLEL / 512, 100, 1], &[700, 900, 85, 1]],
    },
    same_as: None,
    // Rows are a multiple of sixteen, whose sums are one transposition; their connections are not near each other.
    counted: Counted::At {
        sizes: [&[16, 256, EACH + 32, 1], &[32, 256, EACH + 32, 1]],
        elements: |size| size[0] * 32,
        element: "connection",
    },
    timed: Timed::At {
        report: &[&[128, 784, 50, 1], &[128, 784, 10, 1]],
        full: &[&[1024, 1024, 10, 1]],
        bench: &[],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const OTHER: Timed = Timed::Not("another way of a case that is timed");
const VARIANT: Case = Case { timed: OTHER, ..MATVEC };

const EXAMPLE_BWD: Case = Case {
    id: "sparse_matvec_bwd",
    covers: &["sparse::Csr::matvec_backward"],
    kernel: "hotlanes::sparse::example::Backward<u32>",
    build: |size, m| layer::<u32>(size, m, BOTH, Way::One),
    threads: Threads::Never("one example's backward is small"),
    ..MATVEC
};

const MATMUL: Case = Case {
    id: "sparse_matmul",
    covers: &["sparse::Csr::matmul"],
    kernel: "hotlanes::sparse::batch::MatMul<u32>",
    build: |size, m| layer::<u32>(size, m, Do::Forward, Way::Batch),
    bits: Bits::At { sizes: batches, random: &[(0, 40), (0, 60), (0, 100), (0, 70)] },
    threads: Threads::From {
        below: &[511, SPARSE_PARALLEL / 512 / 32, 100, 32],
        at: &[&[512, SPARSE_PARALLEL / 512 / 32, 100, 32], &[300, 50, 50, 180]],
    },
    counted: Counted::At {
        sizes: [&[2, 256, EACH + 16, 64], &[4, 256, EACH + 16, 64]],
        elements: |size| size[0] * 16 * size[3],
        element: "connection",
    },
    timed: Timed::At {
        report: &[&[128, 784, 50, 32], &[128, 784, 10, 32], &[1024, 1024, 10, 64]],
        full: &[&[128, 784, 50, 512], &[128, 784, 10, 512], &[1024, 1024, 5, 128], &[1024, 1024, 1, 128]],
        bench: &[],
    },
    ..MATVEC
};

/// Tiles are copied side by side first.
const PACKED: Case = Case {
    id: "sparse_matmul_packed",
    kernel: "hotlanes::sparse::batch::Packed<u32>",
    bits: Bits::At { sizes: packed, random: &[(12, 40), (1, 60), (100, 100), (256, 300)] },
    threads: Threads::Never("that of sparse_matmul"),
    counted: Counted::At {
        sizes: [&[32, 2, 100, 256], &[64, 2, 100, 256]],
        elements: |size| size[0] * size[1] * size[3],
        element: "connection",
    },
    timed: Timed::Not("the large batches of sparse_matmul"),
    twin: false,
    ..MATMUL
};

/// Both gradients, by source.
const BWD: Case = Case {
    covers: &["sparse::Plan::matmul_backward"],
    kernel: "hotlanes::sparse::both::Both",
    threads: Threads::From { below: &[511, SPARSE_PARALLEL / 512 / 32, 100, 32], at: &[&[300, 64, 50, 180]] },
    counted: Counted::At {
        sizes: [&[32, 2, HALF, 32], &[32, 4, HALF, 32]],
        elements: |size| size[1] * size[0] / 2 * size[3],
        element: "connection",
    },
    timed: OTHER,
    ..MATMUL
};

/// The gradient of the values alone, by row, for the first layer of a network.
const DVALUES: Case = Case {
    id: "sparse_bwd_dvalues",
    kernel: "hotlanes::sparse::values::Values<u32>",
    build: |size, m| layer::<u32>(size, m, Do::Backward { dx: false, dvalues: true }, Way::Batch),
    same_as: Some(("sparse_matmul_bwd", same)),
    counted: Counted::At {
        sizes: [&[2, 256, EACH + 16, 32], &[4, 256, EACH + 16, 32]],
        elements: |size| size[0] * 16 * size[3],
        element: "connection",
    },
    twin: false,
    ..BWD
};

const SGD: Case = Case {
    id: "sparse_bwd_sgd",
    covers: &["sparse::Plan::matmul_backward_sgd"],
    build: |size, m| layer::<u32>(size, m, Do::Sgd { dx: true }, Way::Sweeps(1)),
    twin: false,
    ..BWD
};

fn same(size: &[usize]) -> Size {
    size.to_vec()
}

#[derive(Clone, Copy, PartialEq)]
enum Do {
    Forward,
    Backward { dx: bool, dvalues: bool },
    Sgd { dx: bool },
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The kernel for one example.
    One,
    /// The kernels for batches; so many sweeps for both gradients.
    Batch,
    Sweeps(usize),
}

const BOTH: Do = Do::Backward { dx: true, dvalues: true };
const LR: f64 = 0.25;

/// A matrix whose values a step changes.
struct Weights<I: Index> {
    csr: Csr<I>,
    start: Vec<f32>,
    /// Whether values are an output.
    changes: bool,
}

impl<I: Index> Content for Weights<I> {
    fn values(&self) -> Vec<f32> {
        if self.changes { self.csr.values().to_vec() } else { vec![] }
    }

    fn bits(&self) -> Vec<u32> {
        Content::values(self).iter().map(|x| x.bits()).collect()
    }

    fn reset(&mut self) {
        self.csr.values_mut().copy_from_slice(&self.start);
    }
}

/// The kernels keep a batch as `[feature][example]`, the plain loops as `[example][feature]`.
struct Layer<I: Index> {
    weights: Weights<I>,
    plan: Plan,
    x: Buf,
    dy: Buf,
    y: Buf,
    dx: Buf,
    dvalues: Buf,
    connections: Vec<Connection>,
    plain: [Vec<f32>; 5],
    what: Do,
    batch: usize,
    /// Whether the kernel is that for one example.
    is_one: bool,
}

/// A matrix of `rows` rows with its rows and columns exchanged.
fn transposed(from: &[f32], rows: usize) -> Vec<f32> {
    let columns = from.len() / rows.max(1);
    (0..from.len()).map(|i| from[i % rows * columns + i / rows]).collect()
}

fn layer<I: Index + TryFrom<u32>>(size: &[usize], m: &Memory, what: Do, way: Way) -> Box<dyn Run> {
    let [rows, cols, _, batch] = dims(size);
    let (indptr, indices) = structure(size);
    let start = m.input(indices.len(), 1).to_vec();
    let connections: Vec<_> = indices
        .iter()
        .zip(&start)
        .map(|(from, weight)| Connection { from: *from, weight: *weight })
        .collect();
    let indices = indices.into_iter().map(|i| I::try_from(i).ok().expect("few columns")).collect();
    let csr = Csr::<I>::new(rows, cols, indptr, indices, start.clone()).expect("made in order");
    let (x, dy) = (m.input(cols * batch, 2), m.input(rows * batch, 3));
    let is_forward = what == Do::Forward;
    let (has_dx, has_dvalues) = match what {
        Do::Forward => (false, false),
        Do::Backward { dx, dvalues } => (dx, dvalues),
        Do::Sgd { dx } => (dx, false),
    };
    let nnz = csr.nnz();
    let room = |wanted: bool, n: usize| if wanted { n } else { 0 };
    let plain = [
        transposed(&x, cols),
        transposed(&dy, rows),
        vec![0.0; rows * batch],
        vec![0.0; cols * batch],
        vec![0.0; nnz],
    ];
    let state = Layer {
        plan: csr.plan(),
        weights: Weights { csr, start, changes: matches!(what, Do::Sgd { .. }) },
        x,
        dy,
        y: m.output(room(is_forward, rows * batch)),
        dx: m.output(room(has_dx, cols * batch)),
        dvalues: m.output(room(has_dvalues, nnz)),
        connections,
        plain,
        what,
        batch,
        is_one: way == Way::One,
    };
    instance_apart(
        state,
        work([rows, cols, nnz, batch], is_forward),
        move |s| match way {
            Way::Sweeps(n) => with_one_sparse_sweep(n == 1, || run(s)),
            Way::One | Way::Batch => run(s),
        },
        move |s, which| {
            let [x, dy, y, dx, dvalues] = &mut s.plain;
            let (indptr, cols) = (s.weights.csr.indptr(), s.weights.csr.cols());
            // Chunks of no features are no examples.
            if cols == 0 || rows == 0 || batch == 0 {
                return [y, dx, dvalues].into_iter().for_each(|out| out.fill(0.0));
            }
            match (is_forward, s.batch) {
                (true, 1) => pick!(which, naive::sparse_matvec, naive::sparse_matvec_auto)(
                    indptr,
                    &s.connections,
                    x,
                    y,
                ),
                (true, _) => {
                    pick!(which, naive::sparse_matmul, naive::sparse_matmul_auto)(
                        indptr,
                        &s.connections,
                        cols,
                        x,
                        y,
                    );
                }
                (false, _) => {
                    let f = pick!(which, naive::sparse_backward, naive::sparse_backward_auto);
                    f(indptr, &s.connections, cols, x, dy, dx, dvalues);
                }
            }
        },
        |s| {
            vec![
                Output::new("y", &mut s.y, 1e-4),
                Output::new("dx", &mut s.dx, 1e-4),
                Output::new("dvalues", &mut s.dvalues, 1e-4),
                Output::new("values", &mut s.weights, 1e-4),
            ]
        },
        |s| {
            let [_, _, y, dx, dvalues] = &s.plain;
            let some =
                |out: &Buf, values: &[f32]| if out.is_empty() { vec![] } else { transposed(values, s.batch) };
            let stepped = s.weights.start.iter().zip(dvalues).map(|(w, d)| w - LR as f32 * d);
            vec![
                some(&s.y, y),
                some(&s.dx, dx),
                if s.dvalues.is_empty() { vec![] } else { dvalues.clone() },
                if matches!(s.what, Do::Sgd { .. }) { stepped.collect() } else { vec![] },
            ]
        },
    )
}

fn run<I: Index>(s: &mut Layer<I>) {
    let Layer { weights: Weights { csr, .. }, plan, x, dy, y, dx, dvalues, what, batch, is_one, .. } = s;
    let batch = *batch;
    match (*what, *is_one) {
        (Do::Forward, true) => csr.matvec(x, y),
        (Do::Forward, false) => csr.matmul(x, batch, y),
        (Do::Backward { dx: has_dx, .. }, true) => {
            csr.matvec_backward(x, dy, has_dx.then_some(&mut dx[..]), dvalues)
        }
        (Do::Backward { dx: has_dx, dvalues: has_dvalues }, false) => {
            let (dx, dvalues) = (has_dx.then_some(&mut dx[..]), has_dvalues.then_some(&mut dvalues[..]));
            plan.matmul_backward(csr, x, dy, batch, dx, dvalues);
        }
        (Do::Sgd { dx: has_dx }, true) => {
            csr.matvec_backward_sgd(x, dy, LR, has_dx.then_some(dx)).expect("a valid learning rate");
        }
        (Do::Sgd { dx: has_dx }, false) => {
            let dx = has_dx.then_some(&mut dx[..]);
            plan.matmul_backward_sgd(csr, x, dy, batch, LR, dx).expect("a valid learning rate");
        }
    }
}

fn work([rows, cols, nnz, batch]: [usize; 4], is_forward: bool) -> Work {
    let connections = nnz as f64;
    let (inputs, outputs) = (4.0 * (cols * batch) as f64, 4.0 * (rows * batch) as f64);
    // A weight and its index; a batch's backward goes by the transposed structure, which has two.
    let connection = if !is_forward && batch > 1 { 12.0 } else { 8.0 };
    let (read, written, products) = if is_forward {
        (connection * connections + inputs, outputs, 1.0)
    } else {
        (connection * connections + inputs + outputs, inputs + 4.0 * connections, 2.0)
    };
    let features = if is_forward { cols } else { rows };
    Work {
        // As in the PyTorch script: a connection of one example; the backward's two gradients of it are one item.
        items: (nnz * batch) as f64,
        unit: "Gconn/s",
        read,
        written,
        // Each connection reads its examples' activations (backward: gradients) from a tile of all features.
        repeated: 4.0 * (nnz * batch) as f64,
        repeated_set: 4 * features * batch.min(if is_forward { 64 } else { 32 }),
        flops: 2.0 * products * (nnz * batch) as f64,
        working_set: (read + written) as usize,
        ..Work::default()
    }
}
