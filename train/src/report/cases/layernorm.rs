//! LayerNorm, forward and backward.

use hotlanes::naive;
use hotlanes::norm::LayerNorm;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let sizes = [
        (true, 256, 512),
        (true, 512, 512),
        (false, 1024, 512),
        (true, 2048, 512),
        (false, 2048, 128),
        (false, 1024, 768),
        (false, 256, 4096),
        (true, 4096, 64),
    ];
    let size = |rows, features| format!("{rows}x{features}");
    let forward = sizes.map(|(d, r, f)| Row::new("layernorm_fwd", size(r, f), d, move || Forward::new(r, f)));
    let backward =
        sizes.map(|(d, r, f)| Row::new("layernorm_bwd", size(r, f), d, move || Backward::new(r, f)));
    forward.into_iter().chain(backward).collect()
}

/// PyTorch's default.
const EPS: f64 = 1e-5;

/// The forward; each runner overwrites the same outputs.
pub struct Forward {
    norm: LayerNorm,
    x: Buffer,
    gamma: Buffer,
    beta: Buffer,
    y: Buffer,
    mean: Buffer,
    rstd: Buffer,
}

impl Forward {
    /// `rows` rows of `features` features.
    pub fn new(rows: usize, features: usize) -> Self {
        Forward {
            norm: LayerNorm::new(features, EPS).expect("in range"),
            x: Buffer::random(rows * features, 1),
            gamma: Buffer::random(features, 2),
            beta: Buffer::random(features, 3),
            y: Buffer::zeros(rows * features),
            mean: Buffer::zeros(rows),
            rstd: Buffer::zeros(rows),
        }
    }
}

impl Case for Forward {
    fn work(&self) -> Work {
        let (n, bytes) = (self.x.len() as f64, 4 * self.x.len());
        Work {
            // As in the PyTorch script: x once and y once.
            items: 8.0 * n,
            unit: "GB/s",
            read: bytes as f64,
            written: bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            // The mean 1, the variance 3, x-hat 2, gamma and beta 2.
            flops: 8.0 * n,
            roots: self.mean.len() as f64,
            working_set: 2 * bytes,
        }
    }

    fn reset(&mut self) {
        self.y.fill(f32::NAN);
        self.mean.fill(f32::NAN);
        self.rstd.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Forward { norm, x, gamma, beta, y, mean, rstd } = self;
        norm.forward(x, gamma, beta, y, mean, rstd);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::layernorm_forward } else { naive::layernorm_forward_auto };
        let Forward { norm, x, gamma, beta, y, mean, rstd } = self;
        f(x, norm.features(), EPS as f32, gamma, beta, y, mean, rstd);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            Output::new("y", &self.y, 1e-5),
            Output::new("mean", &self.mean, 1e-5),
            Output::new("rstd", &self.rstd, 1e-5),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// The backward; each runner overwrites the same outputs.
pub struct Backward {
    forward: Forward,
    dy: Buffer,
    dx: Buffer,
    dgamma: Buffer,
    dbeta: Buffer,
    scratch: Buffer,
}

impl Backward {
    /// `rows` rows of `features` features.
    pub fn new(rows: usize, features: usize) -> Self {
        let mut forward = Forward::new(rows, features);
        forward.run();
        // Only what the backward reads is kept, or the working set would be larger than said.
        forward.y = Buffer::zeros(0);
        let scratch = forward.norm.scratch_len(rows);
        Backward {
            forward,
            dy: Buffer::random(rows * features, 4),
            dx: Buffer::zeros(rows * features),
            dgamma: Buffer::zeros(features),
            dbeta: Buffer::zeros(features),
            scratch: Buffer::zeros(scratch),
        }
    }
}

impl Case for Backward {
    fn work(&self) -> Work {
        let (n, bytes) = (self.dx.len() as f64, 4 * self.dx.len());
        Work {
            // As in the PyTorch script: dy and x once, dx once.
            items: 12.0 * n,
            unit: "GB/s",
            read: 2.0 * bytes as f64,
            written: bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            // x-hat 2, dy times gamma 1, its two sums 3, dgamma 2, dbeta 1, dx 4.
            flops: 13.0 * n,
            roots: 0.0,
            working_set: 3 * bytes,
        }
    }

    fn reset(&mut self) {
        for buffer in [&mut self.dx, &mut self.dgamma, &mut self.dbeta, &mut self.scratch] {
            buffer.fill(f32::NAN);
        }
    }

    fn run(&mut self) {
        let Backward { forward: f, dy, dx, dgamma, dbeta, scratch } = self;
        f.norm.backward(dy, &f.x, &f.gamma, &f.mean, &f.rstd, dx, dgamma, dbeta, scratch);
    }

    fn run_plain(&mut self, which: Plain) {
        let run =
            if which == Plain::Naive { naive::layernorm_backward } else { naive::layernorm_backward_auto };
        let Backward { forward: f, dy, dx, dgamma, dbeta, .. } = self;
        run(dy, &f.x, f.norm.features(), &f.gamma, &f.mean, &f.rstd, dx, dgamma, dbeta);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            Output::new("dx", &self.dx, 1e-4),
            Output::new("dgamma", &self.dgamma, 1e-4),
            Output::new("dbeta", &self.dbeta, 1e-4),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
