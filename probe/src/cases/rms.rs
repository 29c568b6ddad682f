//! RMSNorm, four rows together and sixteen short ones, and both norms with a residual. Small, since the scalar tier emulates
//! each fused multiply-add; more chunks than one are LayerNorm's case, for the same loop.

use std::hint::black_box;

use hotlanes::naive::{self, rms};
use hotlanes::norm::{LayerNorm, RmsNorm};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rows that are long to a vector, four at a time; the forward's sums take four vectors in one turn.
const LONG: usize = 256;
/// The same for the backward, whose longest loop takes a vector in one turn: above `tuning::NORM_SMALL`.
const MIDDLE: usize = 144;
/// Rows below `tuning::NORM_SMALL`, sixteen at a time.
const SHORT: usize = 64;

/// The forward, by rows.
pub(super) const FORWARD: Case = Case {
    name: "rmsnorm_fwd",
    kernel: "hotlanes::norm::forward::Forward<false, false>",
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
    name: "rmsnorm_fwd_small",
    sizes: [16, 32],
    elements_per_size: SHORT,
    prepare: |rows| forward(rows, SHORT, Rows::forward),
    twin: Some(|rows| forward(rows, SHORT, Rows::forward_twin)),
    ..FORWARD
};

/// The backward. It clears `dgamma` by the C library's memset: a constant.
pub(super) const BACKWARD: Case = Case {
    name: "rmsnorm_bwd",
    kernel: "hotlanes::norm::backward::Backward<false, false>",
    elements_per_size: MIDDLE,
    prepare: |rows| backward(rows, MIDDLE, Rows::backward),
    twin: Some(|rows| backward(rows, MIDDLE, Rows::backward_twin)),
    ..FORWARD
};

/// The backward of short rows.
pub(super) const BACKWARD_SMALL: Case = Case {
    name: "rmsnorm_bwd_small",
    kernel: "hotlanes::norm::backward::Backward<false, false>",
    prepare: |rows| backward(rows, SHORT, Rows::backward),
    twin: Some(|rows| backward(rows, SHORT, Rows::backward_twin)),
    ..FORWARD_SMALL
};

/// The forward with a residual.
pub(super) const FORWARD_ADD: Case = Case {
    name: "rmsnorm_fwd_add",
    kernel: "hotlanes::norm::forward::Forward<false, true>",
    prepare: |rows| forward_add(rows, false, Rows::forward_add),
    twin: Some(|rows| forward_add(rows, false, Rows::forward_add_twin)),
    ..FORWARD
};

/// The backward with a residual's gradient.
pub(super) const BACKWARD_ADD: Case = Case {
    name: "rmsnorm_bwd_add",
    kernel: "hotlanes::norm::backward::Backward<false, true>",
    prepare: |rows| backward_add(rows, false, Rows::backward_add),
    twin: Some(|rows| backward_add(rows, false, Rows::backward_add_twin)),
    ..BACKWARD
};

/// LayerNorm's forward with a residual.
pub(super) const LAYERNORM_FORWARD_ADD: Case = Case {
    name: "layernorm_fwd_add",
    kernel: "hotlanes::norm::forward::Forward<true, true>",
    prepare: |rows| forward_add(rows, true, Rows::layernorm_forward_add),
    twin: Some(|rows| forward_add(rows, true, Rows::layernorm_forward_add_twin)),
    ..FORWARD
};

/// LayerNorm's backward with a residual's gradient.
pub(super) const LAYERNORM_BACKWARD_ADD: Case = Case {
    name: "layernorm_bwd_add",
    kernel: "hotlanes::norm::backward::Backward<true, true>",
    prepare: |rows| backward_add(rows, true, Rows::layernorm_backward_add),
    twin: Some(|rows| backward_add(rows, true, Rows::layernorm_backward_add_twin)),
    ..BACKWARD
};

const EPS: f32 = 1e-5;

/// Rows, their gradients, and room for all results.
#[derive(Clone)]
struct Rows {
    features: usize,
    x: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
    dh: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    h: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// `y` or `dx`
    out: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
}

impl Rows {
    fn new(rows: usize, features: usize) -> Self {
        let nan = |n: usize| vec![f32::NAN; n];
        let size = rows * features;
        Rows {
            features,
            x: data(size, 1),
            residual: data(size, 2),
            dy: data(size, 3),
            dh: data(size, 4),
            gamma: data(features, 5),
            beta: data(features, 6),
            h: nan(size),
            mean: nan(rows),
            rstd: nan(rows),
            out: nan(size),
            dgamma: nan(features),
            dbeta: nan(features),
        }
    }

    fn rms(&self) -> RmsNorm {
        RmsNorm::new(self.features, EPS as f64).expect("valid")
    }

    fn layer(&self) -> LayerNorm {
        LayerNorm::new(self.features, EPS as f64).expect("valid")
    }

    fn forward(&mut self) {
        let s = black_box(self);
        s.rms().forward(&s.x, &s.gamma, &mut s.out, &mut s.rstd);
    }

    fn forward_twin(&mut self) {
        let s = black_box(self);
        rms::rmsnorm_forward_auto(&s.x, s.features, EPS, &s.gamma, &mut s.out, &mut s.rstd);
    }

    fn backward(&mut self) {
        let s = black_box(self);
        s.rms().backward(&s.dy, &s.x, &s.gamma, &s.rstd, &mut s.out, &mut s.dgamma, &mut []);
    }

    fn backward_twin(&mut self) {
        let s = black_box(self);
        rms::rmsnorm_backward_auto(&s.dy, &s.x, s.features, &s.gamma, &s.rstd, &mut s.out, &mut s.dgamma);
    }

    fn forward_add(&mut self) {
        let s = black_box(self);
        s.rms().forward_add(&s.x, &s.residual, &s.gamma, &mut s.h, &mut s.out, &mut s.rstd);
    }

    fn forward_add_twin(&mut self) {
        let s = black_box(self);
        rms::add_auto(&s.x, &s.residual, &mut s.h);
        rms::rmsnorm_forward_auto(&s.h, s.features, EPS, &s.gamma, &mut s.out, &mut s.rstd);
    }

    fn backward_add(&mut self) {
        let s = black_box(self);
        let norm = s.rms();
        let Rows { h, dy, dh, gamma, rstd, out, dgamma, .. } = s;
        norm.backward_add(dy, dh, h, gamma, rstd, out, dgamma, &mut []);
    }

    fn backward_add_twin(&mut self) {
        let s = black_box(self);
        let Rows { h, dy, dh, gamma, rstd, out, dgamma, .. } = s;
        rms::rmsnorm_backward_auto(dy, h, s.features, gamma, rstd, out, dgamma);
        rms::add_to_auto(dh, out);
    }

    fn layernorm_forward_add(&mut self) {
        let s = black_box(self);
        let norm = s.layer();
        let Rows { x, residual, gamma, beta, h, out, mean, rstd, .. } = s;
        norm.forward_add(x, residual, gamma, beta, h, out, mean, rstd);
    }

    fn layernorm_forward_add_twin(&mut self) {
        let s = black_box(self);
        let Rows { x, residual, gamma, beta, h, out, mean, rstd, .. } = s;
        rms::add_auto(x, residual, h);
        naive::layernorm_forward_auto(h, s.features, EPS, gamma, beta, out, mean, rstd);
    }

    fn layernorm_backward_add(&mut self) {
        let s = black_box(self);
        let norm = s.layer();
        let Rows { h, dy, dh, gamma, mean, rstd, out, dgamma, dbeta, .. } = s;
        norm.backward_add(dy, dh, h, gamma, mean, rstd, out, dgamma, dbeta, &mut []);
    }

    fn layernorm_backward_add_twin(&mut self) {
        let s = black_box(self);
        let Rows { h, dy, dh, gamma, mean, rstd, out, dgamma, dbeta, .. } = s;
        naive::layernorm_backward_auto(dy, h, s.features, gamma, mean, rstd, out, dgamma, dbeta);
        rms::add_to_auto(dh, out);
    }

    /// The same rows with the plain forward's results, of `x` or of its sum with the residual.
    fn plain_forward(&self, add: bool, mean_too: bool) -> Rows {
        let mut s = Rows::new(self.rstd.len(), self.features);
        let Rows { x, residual, gamma, beta, h, out, mean, rstd, .. } = &mut s;
        if add {
            rms::add(x, residual, h);
        } else {
            h.copy_from_slice(x);
        }
        if mean_too {
            naive::layernorm_forward(h, self.features, EPS, gamma, beta, out, mean, rstd);
        } else {
            rms::rmsnorm_forward(h, self.features, EPS, gamma, out, rstd);
        }
        s
    }

    /// These rows with the plain backward's results.
    fn plain_backward(&self, add: bool, mean_too: bool) -> Rows {
        let mut s = self.clone();
        let Rows { x, h, dy, dh, gamma, mean, rstd, out, dgamma, dbeta, .. } = &mut s;
        let x = if add { h } else { x };
        if mean_too {
            naive::layernorm_backward(dy, x, self.features, gamma, mean, rstd, out, dgamma, dbeta);
        } else {
            rms::rmsnorm_backward(dy, x, self.features, gamma, rstd, out, dgamma);
        }
        if add {
            rms::add_to(dh, out);
        }
        s
    }
}

fn forward(rows: usize, features: usize, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    prepared(Rows::new(rows, features), run, |s| {
        let want = s.plain_forward(false, false);
        close("y", &s.out, &want.out, 1e-5);
        close("rstd", &s.rstd, &want.rstd, 1e-5);
    })
}

fn forward_add(rows: usize, mean_too: bool, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    prepared(Rows::new(rows, LONG), run, move |s| {
        let want = s.plain_forward(true, mean_too);
        close("h", &s.h, &want.h, 0.0);
        close("y", &s.out, &want.out, 1e-5);
        close("rstd", &s.rstd, &want.rstd, 1e-5);
        if mean_too {
            close("mean", &s.mean, &want.mean, 1e-5);
        }
    })
}

/// The backward of what the plain forward saved.
fn backward(rows: usize, features: usize, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    let start = cleared(Rows::new(rows, features).plain_forward(false, false));
    prepared(start, run, |s| check_backward(s, false, false))
}

fn backward_add(rows: usize, mean_too: bool, run: impl Fn(&mut Rows) + 'static) -> Box<dyn Prepared> {
    let start = cleared(Rows::new(rows, MIDDLE).plain_forward(true, mean_too));
    prepared(start, run, move |s| check_backward(s, true, mean_too))
}

fn cleared(mut s: Rows) -> Rows {
    s.out.fill(f32::NAN);
    s
}

fn check_backward(s: &Rows, add: bool, mean_too: bool) {
    let want = s.plain_backward(add, mean_too);
    close("dx", &s.out, &want.out, 1e-5);
    close("dgamma", &s.dgamma, &want.dgamma, 1e-5);
    if mean_too {
        close("dbeta", &s.dbeta, &want.dbeta, 1e-5);
    }
}
