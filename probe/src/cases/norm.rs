//! LayerNorm: four rows together, sixteen short ones, and more rows than one chunk has.

use std::hint::black_box;

use hotlanes::naive;
use hotlanes::norm::LayerNorm;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows that are long to a vector, four at a time.
const LONG: usize = 256;
/// Rows below `tuning::NORM_SMALL`, sixteen at a time.
const SHORT: usize = 64;
/// One row more than a chunk has: two chunks.
const TWO_CHUNKS: usize = hotlanes::norm::ROWS_PER_CHUNK + 1;

/// The forward, by rows.
pub(super) const FORWARD: Case = Case {
    name: "layernorm_fwd",
    kernel: "hotlanes::norm::forward::Forward<true, false>",
    sizes: [4, 8],
    elements_per_size: LONG,
    element: "value",
    gather: true,
    forced: true,
    prepare: |rows| forward(rows, LONG, Rows::forward),
    twin: Some(|rows| forward(rows, LONG, Rows::forward_twin)),
};

/// The forward over short rows.
pub(super) const FORWARD_SMALL: Case = Case {
    name: "layernorm_fwd_small",
    sizes: [16, 32],
    elements_per_size: SHORT,
    prepare: |rows| forward(rows, SHORT, Rows::forward),
    twin: Some(|rows| forward(rows, SHORT, Rows::forward_twin)),
    ..FORWARD
};

/// The backward of one chunk of rows. It clears `dgamma` and `dbeta` by the C library's memset: a constant.
pub(super) const BACKWARD: Case = Case {
    name: "layernorm_bwd",
    kernel: "hotlanes::norm::backward::Backward<true, false>",
    prepare: |rows| backward(rows, LONG, Rows::backward),
    twin: Some(|rows| backward(rows, LONG, Rows::backward_twin)),
    ..FORWARD
};

/// The backward of short rows.
pub(super) const BACKWARD_SMALL: Case = Case {
    name: "layernorm_bwd_small",
    kernel: "hotlanes::norm::backward::Backward<true, false>",
    prepare: |rows| backward(rows, SHORT, Rows::backward),
    twin: Some(|rows| backward(rows, SHORT, Rows::backward_twin)),
    ..FORWARD_SMALL
};

/// The backward of two chunks, by features: the fewest rows there can be, short ones to keep them small.
pub(super) const BACKWARD_CHUNKS: Case = Case {
    name: "layernorm_bwd_chunks",
    kernel: "hotlanes::norm::backward::Backward<true, false>",
    sizes: [16, 32],
    elements_per_size: TWO_CHUNKS,
    prepare: chunks,
    twin: Some(|features| backward(TWO_CHUNKS, features, Rows::backward_twin)),
    ..FORWARD
};

/// The same runs: the sums of the chunks are added at their end.
pub(super) const ADD_CHUNKS: Case = Case {
    name: "layernorm_add_chunks",
    kernel: "hotlanes::norm::backward::AddChunks",
    twin: None,
    ..BACKWARD_CHUNKS
};

const EPS: f32 = 1e-5;

/// Rows, their gradients, and room for all results.
struct Rows {
    norm: LayerNorm,
    features: usize,
    x: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// `y` or `dx`
    out: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    scratch: Vec<f32>,
}

impl Rows {
    fn new(rows: usize, features: usize) -> Self {
        let norm = LayerNorm::new(features, EPS as f64).expect("valid");
        Rows {
            norm,
            features,
            x: data(rows * features, 1),
            dy: data(rows * features, 2),
            gamma: data(features, 3),
            beta: data(features, 4),
            mean: vec![f32::NAN; rows],
            rstd: vec![f32::NAN; rows],
            out: vec![f32::NAN; rows * features],
            dgamma: vec![f32::NAN; features],
            dbeta: vec![f32::NAN; features],
            scratch: vec![f32::NAN; norm.scratch_len(rows)],
        }
    }

    fn forward(&mut self) {
        let s = black_box(self);
        s.norm.forward(&s.x, &s.gamma, &s.beta, &mut s.out, &mut s.mean, &mut s.rstd);
    }

    fn forward_twin(&mut self) {
        let s = black_box(self);
        let (mean, rstd) = (&mut s.mean, &mut s.rstd);
        naive::layernorm_forward_auto(&s.x, s.features, EPS, &s.gamma, &s.beta, &mut s.out, mean, rstd);
    }

    fn backward(&mut self) {
        let s = black_box(self);
        let Rows { x, dy, gamma, mean, rstd, out, dgamma, dbeta, scratch, .. } = s;
        s.norm.backward(dy, x, gamma, mean, rstd, out, dgamma, dbeta, scratch);
    }

    fn backward_twin(&mut self) {
        let s = black_box(self);
        let Rows { x, dy, gamma, mean, rstd, out, dgamma, dbeta, .. } = s;
        naive::layernorm_backward_auto(dy, x, s.features, gamma, mean, rstd, out, dgamma, dbeta);
    }

    /// The same rows with the plain forward's results.
    fn plain_forward(&self) -> Rows {
        let mut s = Rows::new(self.mean.len(), self.features);
        let Rows { features, x, gamma, beta, out, mean, rstd, .. } = &mut s;
        naive::layernorm_forward(x, *features, EPS, gamma, beta, out, mean, rstd);
        s
    }

    /// The same rows with the plain backward's results.
    fn plain_backward(&self) -> Rows {
        let mut s = Rows::new(self.mean.len(), self.features);
        let Rows { features, x, dy, gamma, out, dgamma, dbeta, .. } = &mut s;
        naive::layernorm_backward(dy, x, *features, gamma, &self.mean, &self.rstd, out, dgamma, dbeta);
        s
    }
}

fn forward(rows: usize, features: usize, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    prepared(Rows::new(rows, features), run, |s| {
        let want = s.plain_forward();
        close("y", &s.out, &want.out, 1e-5);
        close("mean", &s.mean, &want.mean, 1e-5);
        close("rstd", &s.rstd, &want.rstd, 1e-5);
    })
}

fn chunks(features: usize) -> Box<dyn Prepared> {
    backward(TWO_CHUNKS, features, Rows::backward)
}

/// The backward of what the plain forward saved.
fn backward(rows: usize, features: usize, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    let mut start = Rows::new(rows, features);
    let saved = start.plain_forward();
    (start.mean, start.rstd) = (saved.mean, saved.rstd);
    prepared(start, run, |s| {
        let want = s.plain_backward();
        close("dx", &s.out, &want.out, 1e-5);
        close("dgamma", &s.dgamma, &want.dgamma, 1e-5);
        close("dbeta", &s.dbeta, &want.dbeta, 1e-5);
    })
}
