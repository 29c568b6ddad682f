//! A sparse layer in exact online SGD, one example after the other, most of whose inputs are zero.

use hotlanes::naive::{self, Connection};
use hotlanes::sparse::{Csr, Masked};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, mix};

/// Examples of a run.
const EXAMPLES: usize = 32;
const LR: f32 = 1e-3;

/// What a run does to each example.
#[derive(Clone, Copy, PartialEq)]
enum Do {
    Forward,
    /// The step of a first layer, without the gradient of the inputs.
    First,
    /// The step of a layer after a ReLU.
    Hidden,
}

/// The report's rows. The size ends in the per cent of inputs that are not zero: 19 of MNIST's pixels, half of a ReLU's
/// outputs.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    let layers = [(784, 128, 0.1, 19), (128, 64, 0.5, 50)];
    for (kernel, what) in [("sparse_online_fwd", Do::Forward), ("sparse_online_sgd", Do::First)] {
        for (inputs, outputs, density, percent) in layers {
            let what = if what == Do::First && inputs == 128 { Do::Hidden } else { what };
            let size = format!("{inputs}x{outputs}@{density}n{percent}");
            rows.push(Row::new(kernel, size, true, move || {
                Layer::new(what, inputs, outputs, density, percent)
            }));
        }
    }
    rows
}

/// The layer as the kernel has it and as a plain program does.
struct Layer {
    what: Do,
    csr: Csr<u32>,
    masked: Masked,
    connections: Vec<Connection>,
    x: Buffer,
    dy: Buffer,
    visited: usize,
    kernel: Results,
    plain: Results,
}

/// Outputs or input gradients of all examples, and the values in the end.
struct Results {
    rows: Buffer,
    values: Csr<u32>,
}

impl Layer {
    fn new(what: Do, inputs: usize, outputs: usize, density: f64, percent: u32) -> Self {
        let (mut indptr, mut indices) = (vec![0], Vec::new());
        let bound = (density * f64::from(u32::MAX)) as u32;
        for row in 0..outputs {
            let chosen = (0..inputs).filter(|c| mix((row * inputs + c) as u32 ^ 0x5eed) <= bound);
            indices.extend(chosen.map(|c| c as u32));
            indptr.push(indices.len());
        }
        let values = Buffer::random(indices.len(), 1).to_vec();
        let csr = Csr::new(outputs, inputs, indptr, indices, values).expect("ascending and in range");
        let mut x = Buffer::random(inputs * EXAMPLES, 2);
        // Runs of five, as strokes of a pen are.
        for (i, x) in x.iter_mut().enumerate() {
            *x = if mix((i as u32 / 5) ^ 0xace) % 100 < percent { x.abs() + 0.01 } else { 0.0 };
        }
        let n = if what == Do::Forward { outputs } else { inputs } * EXAMPLES;
        let results = || Results { rows: Buffer::zeros(n), values: csr.clone() };
        let (kernel, plain) = (results(), results());
        let mut layer = Layer {
            what,
            masked: Masked::new(&csr),
            connections: vec![],
            visited: x.iter().filter(|x| **x != 0.0).count(),
            x,
            dy: Buffer::random(outputs * EXAMPLES, 3),
            kernel,
            plain,
            csr,
        };
        layer.reset();
        layer
    }
}

impl Case for Layer {
    fn work(&self) -> Work {
        let (rows, cols) = (self.csr.rows().next_multiple_of(16) as f64, self.csr.cols() as f64);
        let (examples, visited) = (EXAMPLES as f64, self.visited as f64);
        // The rows of the sources that are not zero, again for each example.
        let weights = 4.0 * rows * visited;
        let inputs = 4.0 * (self.x.len() + self.dy.len()) as f64;
        let step = self.what != Do::Forward;
        Work {
            // All connections that there are: what is passed over is gained.
            items: self.csr.nnz() as f64 * examples,
            unit: "Gconn/s",
            read: inputs + weights,
            written: 4.0 * self.kernel.rows.len() as f64 + if step { weights } else { 0.0 },
            in_place: false,
            repeated: weights,
            repeated_set: (4.0 * rows * cols) as usize,
            flops: rows * visited * if step { 5.0 } else { 2.0 },
            roots: 0.0,
            working_set: (4.0 * rows * cols + inputs) as usize,
        }
    }

    fn reset(&mut self) {
        self.masked.read_values(&self.csr);
        self.connections.clear();
        let both = self.csr.indices().iter().zip(self.csr.values());
        self.connections.extend(both.map(|(&from, &weight)| Connection { from, weight }));
        for results in [&mut self.kernel, &mut self.plain] {
            results.rows.fill(0.0);
        }
    }

    fn run(&mut self) {
        let (rows, cols) = (self.csr.rows(), self.csr.cols());
        let examples = self.x.chunks_exact(cols).zip(self.dy.chunks_exact(rows));
        let lr = f64::from(LR);
        for (i, (x, dy)) in examples.enumerate() {
            let to = &mut self.kernel.rows;
            match self.what {
                Do::Forward => self.masked.matvec(x, &mut to[i * rows..][..rows]),
                Do::First => self.masked.matvec_backward_sgd(x, dy, lr, None).expect("a valid rate"),
                Do::Hidden => self
                    .masked
                    .matvec_backward_sgd_relu(x, dy, lr, &mut to[i * cols..][..cols])
                    .expect("a valid rate"),
            }
        }
        self.masked.write_values(&mut self.kernel.values);
    }

    fn run_plain(&mut self, which: Plain) {
        let (rows, cols) = (self.csr.rows(), self.csr.cols());
        let auto = which == Plain::Auto;
        let (indptr, connections) = (self.csr.indptr(), &mut self.connections);
        let examples = self.x.chunks_exact(cols).zip(self.dy.chunks_exact(rows));
        for (i, (x, dy)) in examples.enumerate() {
            let to = &mut self.plain.rows;
            match self.what {
                Do::Forward => {
                    let f = if auto { naive::sparse_matvec_auto } else { naive::sparse_matvec };
                    f(indptr, connections, x, &mut to[i * rows..][..rows]);
                }
                Do::First => {
                    let f = if auto {
                        naive::sparse::sparse_sgd_first_auto
                    } else {
                        naive::sparse::sparse_sgd_first
                    };
                    f(indptr, connections, x, dy, LR);
                }
                Do::Hidden => {
                    let dx = &mut to[i * cols..][..cols];
                    let f = if auto { naive::sparse::sparse_sgd_auto } else { naive::sparse::sparse_sgd };
                    f(indptr, connections, x, dy, LR, dx);
                    for (dx, x) in dx.iter_mut().zip(x) {
                        *dx = if *x == 0.0 { 0.0 } else { *dx };
                    }
                }
            }
        }
        for (value, c) in self.plain.values.values_mut().iter_mut().zip(&*connections) {
            *value = c.weight;
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        self.plain_or_kernel(&self.kernel)
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.plain_or_kernel(&self.plain)
    }
}

impl Layer {
    fn plain_or_kernel<'a>(&self, results: &'a Results) -> Vec<Output<'a>> {
        let values = Output::new("values", results.values.values(), 1e-4);
        match self.what {
            Do::Forward => vec![Output::new("y", &results.rows, 1e-4)],
            Do::First => vec![values],
            Do::Hidden => vec![Output::new("dx", &results.rows, 1e-4), values],
        }
    }
}
