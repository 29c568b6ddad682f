//! Sparse layers in exact online SGD, one example after the other, over sources that are not zero.

use hotlanes::naive::{self, Connection, sparse as plain};
use hotlanes::sparse::{Csr, Masked};

use crate::memory::{Buf, Memory, mix};
use crate::run::{Content, Output, Run, Work, instance_apart, pick};
use crate::sizes::dims;
use crate::sparse::structure;
use crate::{Bits, Case, Counted, Element, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    Case {
        timed: Timed::At {
            report: &[&[128, 784, 10, 19, 32], &[64, 128, 50, 50, 32]],
            full: &[],
            bench: &[],
        },
        ..FORWARD
    },
    // A step without the inputs' gradient, for the first layer.
    Case {
        id: "sparse_online_sgd",
        build: |size, m| layer(size, m, Do::First),
        timed: Timed::At { report: &[&[128, 784, 10, 19, 32]], full: &[], bench: &[] },
        ..STEP
    },
    // A step with the gradient of all inputs.
    Case { id: "sparse_online_sgd_dx", build: |size, m| layer(size, m, Do::All), ..STEP },
    // A step with the gradient before the ReLU that the inputs came out of.
    Case {
        id: "sparse_online_sgd_relu",
        covers: &["sparse::Masked::matvec_backward_sgd_relu"],
        build: |size, m| layer(size, m, Do::Relu),
        timed: Timed::At { report: &[&[64, 128, 50, 50, 32]], full: &[], bench: &[] },
        ..STEP
    },
];

/// Sizes are destinations, sources, structure, per cent of sources that are not zero (19 of MNIST's pixels, half of a ReLU's
/// outputs), and examples, one after the other.
const FORWARD: Case = Case {
    id: "sparse_online_fwd",
    covers: &["sparse::Masked::matvec"],
    kernel: "hotlanes::sparse::masked::Forward",
    build: |size, m| layer(size, m, Do::Forward),
    label: |size| format!("{}x{}@{}n{}b{}", size[1], size[0], size[2] as f64 / 100.0, size[3], size[4]),
    bits: Bits::At {
        sizes: || {
            let rows = [0, 1, 15, 16, 17, 31, 33, 64, 65, 127, 128, 129, 200];
            let cols = [0, 1, 16, 17, 33];
            let mut all: Vec<_> =
                rows.iter().flat_map(|r| cols.iter().map(move |c| vec![*r, *c, 40, 60, 1])).collect();
            all.extend([255, 256, 257, 520].map(|c| vec![20, c, 40, 40, 2]));
            all
        },
        random: &[(0, 150), (0, 60), (0, 100), (0, 100), (0, 3)],
    },
    threads: Threads::Never("one example at a time is small"),
    same_as: None,
    // One panel of eight vectors on AVX-512, two of four elsewhere; a quarter of the sources.
    counted: Counted::At {
        sizes: [&[128, 16, 50, QUARTER, 1], &[128, 32, 50, QUARTER, 1]],
        elements: |size| size[1] * size[0] / 4,
        element: "connection",
    },
    timed: Timed::Not("another way of sparse_online_sgd"),
    twin: false,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const STEP: Case = Case {
    covers: &[
        "sparse::Masked::matvec_backward_sgd",
        "sparse::Masked::read_values",
        "sparse::Masked::write_values",
    ],
    kernel: "hotlanes::sparse::masked::Step",
    ..FORWARD
};

/// In place of a per cent: every fourth source.
const QUARTER: usize = 1000;
const LR: f64 = 0.125;

#[derive(Clone, Copy, PartialEq)]
enum Do {
    Forward,
    First,
    All,
    Relu,
}

/// The weights of the kernel, which go to and from the matrix by masks.
struct Weights {
    masked: Masked,
    csr: Csr<u32>,
    changes: bool,
}

impl Content for Weights {
    fn values(&self) -> Vec<f32> {
        let mut csr = self.csr.clone();
        self.masked.write_values(&mut csr);
        if self.changes { csr.values().to_vec() } else { vec![] }
    }

    fn bits(&self) -> Vec<u32> {
        Content::values(self).iter().map(|x| x.bits()).collect()
    }

    fn reset(&mut self) {
        self.masked.read_values(&self.csr);
    }
}

struct Layer {
    weights: Weights,
    x: Buf,
    dy: Buf,
    /// Outputs or input gradients of all examples.
    to: Buf,
    connections: Vec<Connection>,
    plain_to: Vec<f32>,
}

fn layer(size: &[usize], m: &Memory, what: Do) -> Box<dyn Run> {
    let [rows, cols, _, percent, examples] = dims(size);
    let (indptr, indices) = structure(&size[..3]);
    let values = m.input(indices.len(), 1).to_vec();
    let csr = Csr::new(rows, cols, indptr, indices, values).expect("made in order");
    let mut x = m.input(cols * examples, 2).to_vec();
    for (i, x) in x.iter_mut().enumerate() {
        // Runs of five, as strokes of a pen are.
        let visited =
            if percent == QUARTER { i % 4 == 1 } else { mix((i as u32 / 5) ^ 0xace) % 100 < percent as u32 };
        *x = if !visited {
            0.0
        } else if *x == 0.0 {
            0.01
        } else {
            *x
        };
    }
    let n = match what {
        Do::Forward => rows,
        Do::First => 0,
        Do::All | Do::Relu => cols,
    } * examples;
    let visited = x.iter().filter(|x| **x != 0.0).count();
    let state = Layer {
        weights: Weights { masked: Masked::new(&csr), csr, changes: what != Do::Forward },
        x: m.copy(&x),
        dy: m.input(rows * examples, 3),
        to: m.output(n),
        connections: vec![],
        plain_to: vec![0.0; n],
    };
    instance_apart(
        state,
        work(size, visited, what),
        move |s| {
            let Layer { weights: Weights { masked, .. }, x, dy, to, .. } = s;
            for i in 0..examples {
                let (x, dy) = (&x[i * cols..][..cols], &dy[i * rows..][..rows]);
                match what {
                    Do::Forward => masked.matvec(x, &mut to[i * rows..][..rows]),
                    Do::First => masked.matvec_backward_sgd(x, dy, LR, None).expect("a valid rate"),
                    Do::All => {
                        let dx = &mut to[i * cols..][..cols];
                        masked.matvec_backward_sgd(x, dy, LR, Some(dx)).expect("a valid rate");
                    }
                    Do::Relu => {
                        let dx = &mut to[i * cols..][..cols];
                        masked.matvec_backward_sgd_relu(x, dy, LR, dx).expect("a valid rate");
                    }
                }
            }
        },
        move |s, which| {
            let Layer { weights: Weights { csr, .. }, x, dy, connections, plain_to: to, .. } = s;
            let indptr = csr.indptr();
            let both = csr.indices().iter().zip(csr.values());
            connections.clear();
            connections.extend(both.map(|(&from, &weight)| Connection { from, weight }));
            for i in 0..examples {
                let (x, dy) = (&x[i * cols..][..cols], &dy[i * rows..][..rows]);
                match what {
                    Do::Forward => {
                        let y = &mut to[i * rows..][..rows];
                        pick!(which, naive::sparse_matvec, naive::sparse_matvec_auto)(
                            indptr,
                            connections,
                            x,
                            y,
                        );
                    }
                    Do::First => {
                        let f = pick!(which, plain::sparse_sgd_first, plain::sparse_sgd_first_auto);
                        f(indptr, connections, x, dy, LR as f32);
                    }
                    Do::All | Do::Relu => {
                        let dx = &mut to[i * cols..][..cols];
                        let f = pick!(which, plain::sparse_sgd, plain::sparse_sgd_auto);
                        f(indptr, connections, x, dy, LR as f32, dx);
                        for (dx, x) in dx.iter_mut().zip(x).filter(|(_, x)| what == Do::Relu && **x == 0.0) {
                            *dx = *x;
                        }
                    }
                }
            }
        },
        |s| vec![Output::new("to", &mut s.to, 1e-4), Output::new("values", &mut s.weights, 1e-4)],
        |s| {
            let weights = s.connections.iter().map(|c| c.weight);
            vec![s.plain_to.clone(), if s.weights.changes { weights.collect() } else { vec![] }]
        },
    )
}

fn work(size: &[usize], visited: usize, what: Do) -> Work {
    let [rows, cols, percent, _, examples] = dims(size);
    let padded = rows.next_multiple_of(16) as f64;
    let nnz = (rows * cols) as f64 * percent as f64 / 100.0;
    // The rows of the sources that are not zero, again for each example.
    let weights = 4.0 * padded * visited as f64;
    let inputs = 4.0 * ((rows + cols) * examples) as f64;
    let to = 4.0 * (if what == Do::Forward { rows } else { cols } * examples) as f64;
    let is_step = what != Do::Forward;
    Work {
        // All connections that there are: passing some over is a gain.
        items: nnz * examples as f64,
        unit: "Gconn/s",
        read: inputs + weights,
        written: to + if is_step { weights } else { 0.0 },
        repeated: weights,
        repeated_set: (4.0 * padded * cols as f64) as usize,
        flops: padded * visited as f64 * if is_step { 5.0 } else { 2.0 },
        working_set: (4.0 * padded * cols as f64 + inputs) as usize,
        ..Work::default()
    }
}
