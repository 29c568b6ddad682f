//! RMSNorm, forward and backward.

use hotlanes::naive::rms;
use hotlanes::norm::RmsNorm;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let sizes = [(true, 256, 512), (true, 2048, 512), (false, 2048, 128)];
    let size = |rows, features| format!("{rows}x{features}");
    let forward = sizes.map(|(d, r, f)| Row::new("rmsnorm_fwd", size(r, f), d, move || Forward::new(r, f)));
    let backward = sizes.map(|(d, r, f)| Row::new("rmsnorm_bwd", size(r, f), d, move || Backward::new(r, f)));
    forward.into_iter().chain(backward).collect()
}

/// As in the PyTorch script.
const EPS: f64 = 1e-5;

/// The forward; each runner overwrites the same outputs.
pub struct Forward {
    norm: RmsNorm,
    x: Buffer,
    gamma: Buffer,
    y: Buffer,
    rstd: Buffer,
}

impl Forward {
    /// `rows` rows of `features` features.
    pub fn new(rows: usize, features: usize) -> Self {
        Forward {
            norm: RmsNorm::new(features, EPS).expect("in range"),
            x: Buffer::random(rows * features, 1),
            gamma: Buffer::random(features, 2),
            y: Buffer::zeros(rows * features),
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
            // The squares 2, x-hat 1, gamma 1.
            flops: 4.0 * n,
            roots: self.rstd.len() as f64,
            working_set: 2 * bytes,
        }
    }

    fn reset(&mut self) {
        self.y.fill(f32::NAN);
        self.rstd.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Forward { norm, x, gamma, y, rstd } = self;
        norm.forward(x, gamma, y, rstd);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { rms::rmsnorm_forward } else { rms::rmsnorm_forward_auto };
        let Forward { norm, x, gamma, y, rstd } = self;
        f(x, norm.features(), EPS as f32, gamma, y, rstd);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("y", &self.y, 1e-5), Output::new("rstd", &self.rstd, 1e-5)]
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
            // dy times gamma 1, its sum with x 2, x-hat 1, dgamma 2, dx 3.
            flops: 9.0 * n,
            roots: 0.0,
            working_set: 3 * bytes,
        }
    }

    fn reset(&mut self) {
        for buffer in [&mut self.dx, &mut self.dgamma, &mut self.scratch] {
            buffer.fill(f32::NAN);
        }
    }

    fn run(&mut self) {
        let Backward { forward: f, dy, dx, dgamma, scratch } = self;
        f.norm.backward(dy, &f.x, &f.gamma, &f.rstd, dx, dgamma, scratch);
    }

    fn run_plain(&mut self, which: Plain) {
        let run = if which == Plain::Naive { rms::rmsnorm_backward } else { rms::rmsnorm_backward_auto };
        let Backward { forward: f, dy, dx, dgamma, .. } = self;
        run(dy, &f.x, f.norm.features(), &f.gamma, &f.rstd, dx, dgamma);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("dx", &self.dx, 1e-4), Output::new("dgamma", &self.dgamma, 1e-4)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
