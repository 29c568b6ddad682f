//! A sparse layer, forward and backward, on one example or a batch.

use std::borrow::Cow;

use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Plan};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, mix};

/// The report's rows; a batch of 1 takes the kernel for one example.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (kernel, backward) in [("sparse_fwd", false), ("sparse_bwd", true)] {
        for (default, inputs, outputs, density, batch) in [
            (true, 784, 128, 0.5, 1),
            (true, 784, 128, 0.5, 32),
            (false, 784, 128, 0.5, 512),
            (true, 784, 128, 0.1, 1),
            (true, 784, 128, 0.1, 32),
            (false, 784, 128, 0.1, 512),
            (false, 1024, 1024, 0.1, 1),
            (true, 1024, 1024, 0.1, 64),
            (false, 1024, 1024, 0.05, 128),
            (false, 1024, 1024, 0.01, 128),
        ] {
            let size = format!("{inputs}x{outputs}@{density}b{batch}");
            let build = move || Layer::new(backward, inputs, outputs, density, batch);
            rows.push(Row::new(kernel, size, default, build));
        }
    }
    rows
}

/// The layer with the data of both layouts: the kernels keep a batch as `[feature][example]`, the plain loops as
/// `[example][feature]`.
pub struct Layer {
    backward: bool,
    batch: usize,
    csr: Csr<u32>,
    plan: Plan,
    kernel: Data,
    connections: Vec<Connection>,
    plain: Data,
}

/// Activations and gradients in one layout.
struct Data {
    x: Buffer,
    y: Buffer,
    dy: Buffer,
    dx: Buffer,
    dvalues: Buffer,
}

impl Layer {
    /// Each of `inputs * outputs` connections is there with the probability `density`, the same ones each time.
    pub fn new(backward: bool, inputs: usize, outputs: usize, density: f64, batch: usize) -> Self {
        let (mut indptr, mut indices) = (vec![0], Vec::new());
        let bound = (density * f64::from(u32::MAX)) as u32;
        for row in 0..outputs {
            indices.extend(
                (0..inputs).filter(|c| mix((row * inputs + c) as u32 ^ 0x5eed) <= bound).map(|c| c as u32),
            );
            indptr.push(indices.len());
        }
        let values = Buffer::random(indices.len(), 1).to_vec();
        let connections =
            indices.iter().zip(&values).map(|(from, weight)| Connection { from: *from, weight: *weight });
        let connections = connections.collect();
        let csr = Csr::new(outputs, inputs, indptr, indices, values).expect("ascending and in range");

        let data = |x, dy| Data {
            x,
            y: Buffer::zeros(if backward { 0 } else { outputs * batch }),
            dy,
            dx: Buffer::zeros(if backward { inputs * batch } else { 0 }),
            dvalues: Buffer::zeros(if backward { csr.nnz() } else { 0 }),
        };
        let (x, dy) = (Buffer::random(inputs * batch, 2), Buffer::random(outputs * batch, 3));
        let plain = data(transposed(&x, inputs), transposed(&dy, outputs));
        Layer { backward, batch, plan: csr.plan(), kernel: data(x, dy), connections, plain, csr }
    }
}

/// A matrix of `rows` rows with its rows and columns exchanged.
fn transposed(from: &[f32], rows: usize) -> Buffer {
    let mut to = Buffer::zeros(from.len());
    let columns = from.len() / rows.max(1);
    for (i, row) in from.chunks_exact(columns.max(1)).enumerate() {
        for (j, x) in row.iter().enumerate() {
            to[j * rows + i] = *x;
        }
    }
    to
}

impl Case for Layer {
    fn work(&self) -> Work {
        let (nnz, batch) = (self.csr.nnz() as f64, self.batch as f64);
        let inputs = 4.0 * self.csr.cols() as f64 * batch;
        let outputs = 4.0 * self.csr.rows() as f64 * batch;
        // A weight and its index; a batch's backward goes by the transposed structure, which has two.
        let connection = if self.backward && self.batch > 1 { 12.0 } else { 8.0 };
        let (read, written, products) = if self.backward {
            (connection * nnz + inputs + outputs, inputs + 4.0 * nnz, 2.0)
        } else {
            (connection * nnz + inputs, outputs, 1.0)
        };
        let features = if self.backward { self.csr.rows() } else { self.csr.cols() };
        Work {
            // As in the PyTorch script: a connection of one example; the backward's two gradients of it are one item.
            items: nnz * batch,
            unit: "Gconn/s",
            read,
            written,
            in_place: false,
            // Each connection reads its examples' activations (backward: gradients) from a tile of all features.
            repeated: 4.0 * nnz * batch,
            repeated_set: 4 * features * self.batch.min(if self.backward { 32 } else { 64 }),
            flops: 2.0 * products * nnz * batch,
            roots: 0.0,
            working_set: (read + written) as usize,
        }
    }

    fn reset(&mut self) {
        for data in [&mut self.kernel, &mut self.plain] {
            for buffer in [&mut data.y, &mut data.dx, &mut data.dvalues] {
                buffer.fill(f32::NAN);
            }
        }
    }

    fn run(&mut self) {
        let Layer { batch, csr, plan, kernel: d, .. } = self;
        match (self.backward, *batch) {
            (false, 1) => csr.matvec(&d.x, &mut d.y),
            (false, batch) => csr.matmul(&d.x, batch, &mut d.y),
            (true, 1) => csr.matvec_backward(&d.x, &d.dy, Some(&mut d.dx), &mut d.dvalues),
            (true, batch) => {
                plan.matmul_backward(csr, &d.x, &d.dy, batch, Some(&mut d.dx), Some(&mut d.dvalues))
            }
        }
    }

    fn run_plain(&mut self, which: Plain) {
        let auto = which == Plain::Auto;
        let Layer { csr, connections, plain: d, .. } = self;
        if self.backward {
            let f = if auto { naive::sparse_backward_auto } else { naive::sparse_backward };
            f(csr.indptr(), connections, csr.cols(), &d.x, &d.dy, &mut d.dx, &mut d.dvalues);
        } else if self.batch == 1 {
            let f = if auto { naive::sparse_matvec_auto } else { naive::sparse_matvec };
            f(csr.indptr(), connections, &d.x, &mut d.y);
        } else {
            let f = if auto { naive::sparse_matmul_auto } else { naive::sparse_matmul };
            f(csr.indptr(), connections, csr.cols(), &d.x, &mut d.y);
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        let d = &self.kernel;
        if self.backward {
            vec![Output::new("dx", &d.dx, 1e-4), Output::new("dvalues", &d.dvalues, 1e-4)]
        } else {
            vec![Output::new("y", &d.y, 1e-4)]
        }
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        let d = &self.plain;
        let turned = |name, values: &[f32]| Output {
            name,
            values: Cow::Owned(transposed(values, self.batch).to_vec()),
            tolerance: 1e-4,
        };
        if self.backward {
            vec![turned("dx", &d.dx), Output::new("dvalues", &d.dvalues, 1e-4)]
        } else {
            vec![turned("y", &d.y)]
        }
    }
}
