//! Softmax, forward and backward, and cross-entropy with its gradient.

use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::naive::loss as naive;
use hotlanes::softmax::{softmax, softmax_backward};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut all = vec![];
    for (kernel, kind) in [
        ("softmax_fwd", Kind::Softmax),
        ("softmax_bwd", Kind::SoftmaxBackward),
        ("cross_entropy", Kind::CrossEntropy),
    ] {
        for (default, rows, n) in
            [(true, 256, 512), (true, 2048, 512), (true, 2048, 65), (false, 4096, 10), (false, 64, 32_768)]
        {
            all.push(Row::new(kernel, format!("{rows}x{n}"), default, move || Rows::new(kind, rows, n)));
        }
    }
    all
}

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The softmax.
    Softmax,
    /// Its gradient.
    SoftmaxBackward,
    /// Mean cross-entropy, and its gradient.
    CrossEntropy,
}

/// Rows; each runner overwrites the same outputs.
pub struct Rows {
    kind: Kind,
    n: usize,
    /// `x`, or for the backward its softmax.
    x: Buffer,
    /// For the backward.
    dy: Buffer,
    labels: Vec<u32>,
    out: Buffer,
    losses: Buffer,
}

impl Rows {
    /// `rows` rows of `n` features.
    pub fn new(kind: Kind, rows: usize, n: usize) -> Self {
        let mut x = Buffer::random(rows * n, 1);
        let backward = kind == Kind::SoftmaxBackward;
        if backward {
            let logits = Buffer::random(rows * n, 1);
            naive::softmax(&logits, n, &mut x);
        }
        let entropy = kind == Kind::CrossEntropy;
        Rows {
            kind,
            n,
            x,
            dy: Buffer::random(if backward { rows * n } else { 0 }, 2),
            labels: (0..rows).map(|r| (r * 7919 % n) as u32).collect(),
            out: Buffer::zeros(rows * n),
            losses: Buffer::zeros(if entropy { rows } else { 0 }),
        }
    }
}

impl Case for Rows {
    fn work(&self) -> Work {
        let (n, bytes) = (self.out.len() as f64, 4 * self.out.len());
        // As in the PyTorch script: each input once, the output once.
        let inputs = if self.kind == Kind::SoftmaxBackward { 2 } else { 1 };
        Work {
            items: (4 * (inputs + 1)) as f64 * n,
            unit: "GB/s",
            read: (inputs * bytes) as f64,
            written: bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            // An exponential is a subtraction, eleven multiply-adds and products, and its sum; then a product.
            flops: if inputs == 2 { 4.0 } else { 22.0 } * n,
            roots: 0.0,
            working_set: (inputs + 1) * bytes,
        }
    }

    fn reset(&mut self) {
        self.out.fill(f32::NAN);
        self.losses.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Rows { kind, n, x, dy, labels, out, losses } = self;
        match kind {
            Kind::Softmax => softmax(x, *n, out),
            Kind::SoftmaxBackward => softmax_backward(dy, x, *n, out),
            Kind::CrossEntropy => {
                let ce = CrossEntropy::new(*n, 0.0, None).expect("in range");
                ce.forward_backward(x, labels, Reduction::Mean, out, losses).expect("in range");
            }
        }
    }

    fn run_plain(&mut self, which: Plain) {
        let naive = which == Plain::Naive;
        let Rows { kind, n, x, dy, labels, out, losses } = self;
        match kind {
            Kind::Softmax => (if naive { naive::softmax } else { naive::softmax_auto })(x, *n, out),
            Kind::SoftmaxBackward => {
                let f = if naive { naive::softmax_backward } else { naive::softmax_backward_auto };
                f(dy, x, *n, out);
            }
            Kind::CrossEntropy => {
                let f = if naive { naive::cross_entropy } else { naive::cross_entropy_auto };
                f(x, labels, *n, 0.0, out, losses);
            }
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        let mut outputs = vec![Output::new("out", &self.out, 1e-4)];
        if self.kind == Kind::CrossEntropy {
            outputs.push(Output::new("losses", &self.losses, 1e-5));
        }
        outputs
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
