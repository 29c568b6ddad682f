//! The sparse layer: one example by gather and by loads, a batch, and their backwards, with both index types.

use std::hint::black_box;

use hotlanes::Index;
use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Masked, Plan};
use hotlanes::tuning::with_one_sparse_sweep;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Sources of the layers that are sized by rows.
const COLS: usize = 256;
/// Connections of a row for one example: four vectors.
const EXAMPLE_ROW: usize = 64;
/// Connections of a row for a batch.
const BATCH_ROW: usize = 16;
/// Examples of a forward's batch: one tile of four vectors on AVX-512, two of two elsewhere.
const FWD_BATCH: usize = 64;
/// Destinations of the layers that are sized by sources, half of which each source is connected to: one block.
const ROWS: usize = 32;
/// Examples of a backward's batch: one tile of two vectors.
const BWD_BATCH: usize = 32;
const LR: f64 = 0.25;

/// One example, by rows, a multiple of sixteen whose sums are one transposition.
pub(super) const MATVEC: Case = Case {
    name: "sparse_matvec",
    kernel: "hotlanes::sparse::example::MatVec<u32>",
    sizes: [16, 32],
    elements_per_size: EXAMPLE_ROW,
    element: "connection",
    gather: true,
    forced: true,
    prepare: matvec::<u32>,
    twin: Some(matvec_twin),
};

/// The same with one load per value.
pub(super) const MATVEC_LOADS: Case = Case { name: "sparse_matvec_loads", gather: false, ..MATVEC };

/// One example with half the index traffic.
pub(super) const MATVEC_U16: Case = Case {
    name: "sparse_matvec_u16",
    kernel: "hotlanes::sparse::example::MatVec<u16>",
    prepare: matvec::<u16>,
    ..MATVEC
};

/// The same with one load per value.
pub(super) const MATVEC_U16_LOADS: Case =
    Case { name: "sparse_matvec_u16_loads", gather: false, ..MATVEC_U16 };

/// The backward of one example. It clears `dx` by the C library's memset: a constant.
pub(super) const EXAMPLE_BWD: Case = Case {
    name: "sparse_example_bwd",
    kernel: "hotlanes::sparse::example::Backward<u32>",
    prepare: |rows| example_backward::<u32>(rows, false),
    twin: Some(|rows| backward_twin(example_layer(rows), 1)),
    ..MATVEC
};

/// The same with one load per value.
pub(super) const EXAMPLE_BWD_LOADS: Case =
    Case { name: "sparse_example_bwd_loads", gather: false, ..EXAMPLE_BWD };

/// The backward of one example that steps.
pub(super) const EXAMPLE_BWD_SGD: Case = Case {
    name: "sparse_example_bwd_sgd",
    prepare: |rows| example_backward::<u32>(rows, true),
    twin: None,
    ..EXAMPLE_BWD
};

/// The backward of one example with half the index traffic.
pub(super) const EXAMPLE_BWD_U16: Case = Case {
    name: "sparse_example_bwd_u16",
    kernel: "hotlanes::sparse::example::Backward<u16>",
    prepare: |rows| example_backward::<u16>(rows, false),
    ..EXAMPLE_BWD
};

/// A batch, by rows.
pub(super) const MATMUL: Case = Case {
    name: "sparse_matmul",
    kernel: "hotlanes::sparse::batch::MatMul<u32>",
    sizes: [2, 4],
    elements_per_size: BATCH_ROW * FWD_BATCH,
    prepare: matmul::<u32>,
    twin: Some(matmul_twin),
    ..MATVEC
};

/// A batch with half the index traffic.
pub(super) const MATMUL_U16: Case = Case {
    name: "sparse_matmul_u16",
    kernel: "hotlanes::sparse::batch::MatMul<u16>",
    prepare: matmul::<u16>,
    ..MATMUL
};

/// The backward of a batch, both gradients in one sweep by source.
pub(super) const BWD: Case = Case {
    name: "sparse_bwd",
    kernel: "hotlanes::sparse::both::Both",
    sizes: [2, 4],
    elements_per_size: ROWS / 2 * BWD_BATCH,
    prepare: |cols| backward(cols, Wants { dx: true, dvalues: true }),
    twin: Some(|cols| backward_twin(source_layer(cols), BWD_BATCH)),
    ..MATVEC
};

/// The gradient of the inputs alone, by source.
pub(super) const BWD_DX: Case = Case {
    name: "sparse_bwd_dx",
    kernel: "hotlanes::sparse::inputs::Inputs",
    prepare: |cols| backward(cols, Wants { dx: true, dvalues: false }),
    twin: None,
    ..BWD
};

/// The gradient of the values alone, by row, for the first layer of a network.
pub(super) const BWD_DVALUES: Case = Case {
    name: "sparse_bwd_dvalues",
    kernel: "hotlanes::sparse::values::Values<u32>",
    elements_per_size: BATCH_ROW * BWD_BATCH,
    prepare: |rows| values_backward::<u32>(rows, false),
    twin: None,
    ..BWD
};

/// The same with half the index traffic.
pub(super) const BWD_DVALUES_U16: Case = Case {
    name: "sparse_bwd_dvalues_u16",
    kernel: "hotlanes::sparse::values::Values<u16>",
    prepare: |rows| values_backward::<u16>(rows, false),
    ..BWD_DVALUES
};

/// A step of the values alone.
pub(super) const BWD_SGD_FIRST: Case =
    Case { name: "sparse_bwd_sgd_first", prepare: |rows| values_backward::<u32>(rows, true), ..BWD_DVALUES };

/// The backward of a batch that steps, in one sweep: it gathers the values.
pub(super) const BWD_SGD: Case = Case { name: "sparse_bwd_sgd", prepare: backward_sgd, twin: None, ..BWD };

/// The same with one load per value.
pub(super) const BWD_SGD_LOADS: Case = Case { name: "sparse_bwd_sgd_loads", gather: false, ..BWD_SGD };

/// Destinations of the masked layers: one panel of eight vectors on AVX-512, two of four elsewhere.
const MASKED_ROWS: usize = 128;

/// One example over its sources that are not zero, a quarter of them.
pub(super) const MASKED: Case = Case {
    name: "sparse_masked",
    kernel: "hotlanes::sparse::masked::Forward",
    sizes: [16, 32],
    elements_per_size: MASKED_ROWS / 4,
    prepare: |cols| masked(cols, Masks::Forward),
    twin: None,
    ..MATVEC
};

/// A step without the inputs' gradient, for the first layer.
pub(super) const MASKED_SGD: Case = Case {
    name: "sparse_masked_sgd",
    kernel: "hotlanes::sparse::masked::Step",
    prepare: |cols| masked(cols, Masks::Sgd),
    ..MASKED
};

/// A step with the gradient of all inputs.
pub(super) const MASKED_SGD_DX: Case =
    Case { name: "sparse_masked_sgd_dx", prepare: |cols| masked(cols, Masks::SgdDx), ..MASKED_SGD };

/// A step with the gradient before the ReLU that the inputs came out of.
pub(super) const MASKED_SGD_RELU: Case =
    Case { name: "sparse_masked_sgd_relu", prepare: |cols| masked(cols, Masks::SgdRelu), ..MASKED_SGD };

/// A layer as a plain program keeps it.
struct Layer {
    rows: usize,
    cols: usize,
    indptr: Vec<usize>,
    connections: Vec<Connection>,
}

impl Layer {
    /// `row` gives the sources of a row's connections, ascending.
    fn new<R: Iterator<Item = usize>>(rows: usize, cols: usize, row: impl Fn(usize) -> R) -> Self {
        let (mut indptr, mut columns) = (vec![0], Vec::new());
        for r in 0..rows {
            columns.extend(row(r));
            indptr.push(columns.len());
        }
        let weights = data(columns.len(), 1);
        let connections =
            columns.iter().zip(weights).map(|(&c, weight)| Connection { from: c as u32, weight }).collect();
        Layer { rows, cols, indptr, connections }
    }

    fn csr<I: Index + TryFrom<u32>>(&self) -> Csr<I> {
        let index = |c: &Connection| I::try_from(c.from).ok().expect("few enough columns");
        let indices = self.connections.iter().map(index).collect();
        let values = self.connections.iter().map(|c| c.weight).collect();
        Csr::new(self.rows, self.cols, self.indptr.clone(), indices, values).expect("made in order")
    }
}

/// `each` connections to a row, one in each group of neighbouring sources.
fn row_layer(rows: usize, each: usize) -> Layer {
    let group = COLS / each;
    Layer::new(rows, COLS, |r| (0..each).map(move |k| k * group + (5 * r + 3 * k) % group))
}

fn example_layer(rows: usize) -> Layer {
    row_layer(rows, EXAMPLE_ROW)
}

/// Each source has one connection to each pair of destinations.
fn source_layer(cols: usize) -> Layer {
    Layer::new(ROWS, cols, |r| (0..cols).filter(move |c| r % 2 == (c + r / 2) % 2))
}

/// A layer, the activations of its two sides, `[example][feature]` as a plain program has them, and both gradients.
struct Plain {
    layer: Layer,
    x: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dvalues: Vec<f32>,
}

impl Plain {
    fn new(layer: Layer, batch: usize) -> Self {
        Plain {
            x: data(layer.cols * batch, 2),
            dy: data(layer.rows * batch, 3),
            y: vec![f32::NAN; layer.rows * batch],
            dx: vec![f32::NAN; layer.cols * batch],
            dvalues: vec![f32::NAN; layer.connections.len()],
            layer,
        }
    }

    /// All results, by the plain loops.
    fn expected(layer: Layer, batch: usize) -> Self {
        let mut s = Plain::new(layer, batch);
        let Plain { layer, x, dy, y, dx, dvalues } = &mut s;
        naive::sparse_matmul(&layer.indptr, &layer.connections, layer.cols, x, y);
        naive::sparse_backward(&layer.indptr, &layer.connections, layer.cols, x, dy, dx, dvalues);
        s
    }

    /// The values after a step.
    fn stepped(&self) -> Vec<f32> {
        let values = self.layer.connections.iter().map(|c| c.weight);
        values.zip(&self.dvalues).map(|(w, d)| w - LR as f32 * d).collect()
    }
}

/// `[example][feature]` to `[feature][example]`, as the kernels have it, or back.
fn transposed(from: &[f32], columns: usize) -> Vec<f32> {
    let rows = from.len() / columns;
    let mut to = vec![0.0; from.len()];
    for (r, row) in from.chunks_exact(columns).enumerate() {
        for c in 0..columns {
            to[c * rows + r] = row[c];
        }
    }
    to
}

fn matvec<I: Index + TryFrom<u32>>(rows: usize) -> Box<dyn Prepared> {
    let s = Plain::new(example_layer(rows), 1);
    prepared(
        (s.layer.csr::<I>(), s.x, s.y),
        |s| {
            let (csr, x, y) = black_box(s);
            csr.matvec(x, y);
        },
        move |(_, _, y)| close("y", y, &Plain::expected(example_layer(rows), 1).y, 1e-5),
    )
}

fn matvec_twin(rows: usize) -> Box<dyn Prepared> {
    prepared(
        Plain::new(example_layer(rows), 1),
        |s| {
            let Plain { layer, x, y, .. } = black_box(s);
            naive::sparse_matvec_auto(&layer.indptr, &layer.connections, x, y);
        },
        move |s| close("y", &s.y, &Plain::expected(example_layer(rows), 1).y, 1e-5),
    )
}

fn matmul<I: Index + TryFrom<u32>>(rows: usize) -> Box<dyn Prepared> {
    let s = Plain::new(row_layer(rows, BATCH_ROW), FWD_BATCH);
    prepared(
        (s.layer.csr::<I>(), transposed(&s.x, COLS), s.y),
        |s| {
            let (csr, x, y) = black_box(s);
            csr.matmul(x, FWD_BATCH, y);
        },
        move |(_, _, y)| {
            let want = Plain::expected(row_layer(rows, BATCH_ROW), FWD_BATCH);
            close("y", &transposed(y, FWD_BATCH), &want.y, 1e-5);
        },
    )
}

fn matmul_twin(rows: usize) -> Box<dyn Prepared> {
    prepared(
        Plain::new(row_layer(rows, BATCH_ROW), FWD_BATCH),
        |s| {
            let Plain { layer, x, y, .. } = black_box(s);
            naive::sparse_matmul_auto(&layer.indptr, &layer.connections, layer.cols, x, y);
        },
        move |s| close("y", &s.y, &Plain::expected(row_layer(rows, BATCH_ROW), FWD_BATCH).y, 1e-5),
    )
}

/// With `sgd` the values step; else their gradient is written.
fn example_backward<I: Index + TryFrom<u32>>(rows: usize, sgd: bool) -> Box<dyn Prepared> {
    let s = Plain::new(example_layer(rows), 1);
    prepared(
        (s.layer.csr::<I>(), s),
        move |state| {
            let (csr, Plain { x, dy, dx, dvalues, .. }) = black_box(state);
            if sgd {
                csr.matvec_backward_sgd(x, dy, LR, Some(dx)).expect("a valid learning rate");
            } else {
                csr.matvec_backward(x, dy, Some(dx), dvalues);
            }
        },
        move |(csr, s)| {
            let want = Plain::expected(example_layer(rows), 1);
            close("dx", &s.dx, &want.dx, 1e-5);
            if sgd {
                close("values", csr.values(), &want.stepped(), 1e-5);
            } else {
                close("dvalues", &s.dvalues, &want.dvalues, 1e-5);
            }
        },
    )
}

fn backward_twin(layer: Layer, batch: usize) -> Box<dyn Prepared> {
    prepared(
        Plain::new(layer, batch),
        |s| {
            let Plain { layer, x, dy, dx, dvalues, .. } = black_box(s);
            naive::sparse_backward_auto(&layer.indptr, &layer.connections, layer.cols, x, dy, dx, dvalues);
        },
        move |s| {
            let Plain { layer, x, dy, .. } = s;
            let (mut dx, mut dvalues) = (s.dx.clone(), s.dvalues.clone());
            let (indptr, connections) = (&layer.indptr, &layer.connections);
            naive::sparse_backward(indptr, connections, layer.cols, x, dy, &mut dx, &mut dvalues);
            close("dx", &s.dx, &dx, 1e-5);
            close("dvalues", &s.dvalues, &dvalues, 1e-5);
        },
    )
}

/// A batch as the kernels have it: `[feature][example]`.
struct Batch {
    csr: Csr<u32>,
    plan: Plan,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    dvalues: Vec<f32>,
}

impl Batch {
    fn new(cols: usize) -> Self {
        let s = Plain::new(source_layer(cols), BWD_BATCH);
        let csr: Csr<u32> = s.layer.csr();
        let (x, dy) = (transposed(&s.x, cols), transposed(&s.dy, ROWS));
        Batch { plan: csr.plan(), csr, x, dy, dx: s.dx, dvalues: s.dvalues }
    }

    fn check_dx(&self, want: &Plain) {
        close("dx", &transposed(&self.dx, BWD_BATCH), &want.dx, 1e-5);
    }
}

/// Which gradients a backward is asked for.
#[derive(Clone, Copy)]
struct Wants {
    dx: bool,
    dvalues: bool,
}

fn backward(cols: usize, wants: Wants) -> Box<dyn Prepared> {
    prepared(
        Batch::new(cols),
        move |s| {
            let Batch { csr, plan, x, dy, dx, dvalues } = black_box(s);
            let dx = wants.dx.then_some(&mut dx[..]);
            let dvalues = wants.dvalues.then_some(&mut dvalues[..]);
            with_one_sparse_sweep(true, || plan.matmul_backward(csr, x, dy, BWD_BATCH, dx, dvalues));
        },
        move |s| {
            let want = Plain::expected(source_layer(cols), BWD_BATCH);
            if wants.dx {
                s.check_dx(&want);
            }
            if wants.dvalues {
                close("dvalues", &s.dvalues, &want.dvalues, 1e-5);
            }
        },
    )
}

fn backward_sgd(cols: usize) -> Box<dyn Prepared> {
    prepared(
        Batch::new(cols),
        |s| {
            let Batch { csr, plan, x, dy, dx, .. } = black_box(s);
            with_one_sparse_sweep(true, || plan.matmul_backward_sgd(csr, x, dy, BWD_BATCH, LR, Some(dx)))
                .expect("a valid learning rate");
        },
        move |s| {
            let want = Plain::expected(source_layer(cols), BWD_BATCH);
            s.check_dx(&want);
            close("values", s.csr.values(), &want.stepped(), 1e-5);
        },
    )
}

/// The gradient of the values alone, or a step along it.
fn values_backward<I: Index + TryFrom<u32>>(rows: usize, sgd: bool) -> Box<dyn Prepared> {
    let s = Plain::new(row_layer(rows, BATCH_ROW), BWD_BATCH);
    let csr: Csr<I> = s.layer.csr();
    let (x, dy) = (transposed(&s.x, COLS), transposed(&s.dy, rows));
    prepared(
        (csr.plan(), csr, x, dy, s.dvalues),
        move |state| {
            let (plan, csr, x, dy, dvalues) = black_box(state);
            if sgd {
                plan.matmul_backward_sgd(csr, x, dy, BWD_BATCH, LR, None).expect("a valid learning rate");
            } else {
                plan.matmul_backward(csr, x, dy, BWD_BATCH, None, Some(dvalues));
            }
        },
        move |(_, csr, _, _, dvalues)| {
            let want = Plain::expected(row_layer(rows, BATCH_ROW), BWD_BATCH);
            if sgd {
                close("values", csr.values(), &want.stepped(), 1e-5);
            } else {
                close("dvalues", dvalues, &want.dvalues, 1e-5);
            }
        },
    )
}

/// What a masked layer is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Masks {
    Forward,
    Sgd,
    SgdDx,
    SgdRelu,
}

/// Every other place is a connection, every fourth source is not zero.
fn masked_plain(cols: usize) -> Plain {
    let layer = Layer::new(MASKED_ROWS, cols, |r| (0..cols).filter(move |c| (r + c) % 2 == 0));
    let mut s = Plain::new(layer, 1);
    for (c, x) in s.x.iter_mut().enumerate() {
        if c % 4 != 1 {
            *x = 0.0;
        }
    }
    let Plain { layer, x, dy, y, dx, dvalues } = &mut s;
    naive::sparse_matvec(&layer.indptr, &layer.connections, x, y);
    naive::sparse_backward(&layer.indptr, &layer.connections, layer.cols, x, dy, dx, dvalues);
    s
}

fn masked(cols: usize, what: Masks) -> Box<dyn Prepared> {
    let s = masked_plain(cols);
    let csr: Csr<u32> = s.layer.csr();
    let results = (vec![f32::NAN; MASKED_ROWS], vec![f32::NAN; cols]);
    prepared(
        (Masked::new(&csr), s.x, s.dy, results),
        move |state| {
            let (masked, x, dy, (y, dx)) = black_box(state);
            match what {
                Masks::Forward => masked.matvec(x, y),
                Masks::Sgd => masked.matvec_backward_sgd(x, dy, LR, None).expect("a valid learning rate"),
                Masks::SgdDx => {
                    masked.matvec_backward_sgd(x, dy, LR, Some(dx)).expect("a valid learning rate");
                }
                Masks::SgdRelu => {
                    masked.matvec_backward_sgd_relu(x, dy, LR, dx).expect("a valid learning rate");
                }
            }
        },
        move |(masked, x, _, (y, dx))| {
            let want = masked_plain(cols);
            if what == Masks::Forward {
                return close("y", y, &want.y, 1e-5);
            }
            let mut after = csr.clone();
            masked.write_values(&mut after);
            close("values", after.values(), &want.stepped(), 1e-5);
            if what == Masks::SgdDx {
                close("dx", dx, &want.dx, 1e-5);
            }
            if what == Masks::SgdRelu {
                let of_relu: Vec<f32> =
                    want.dx.iter().zip(x).map(|(dx, x)| if *x == 0.0 { 0.0 } else { *dx }).collect();
                close("dx", dx, &of_relu, 1e-5);
            }
        },
    )
}
