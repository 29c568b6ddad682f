//! RMSNorm, and both norms with a residual, whose bits are those of the separate steps.

use hotlanes::naive::{self, rms};
use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK, RmsNorm};
use hotlanes::tuning::NORM_PARALLEL;

use crate::memory::{Buf, Memory, Place};
use crate::norm::shapes;
use crate::run::{Output, Plain, Run, Work, instance};
use crate::sizes::{dims, label, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    Case {
        timed: Timed::At {
            report: &[&[256, 512], &[2048, 512]],
            full: &[&[2048, 128]],
            bench: &[&[64, 512]],
        },
        ..FORWARD
    },
    Case { id: "rmsnorm_fwd_small", bits: Bits::In("rmsnorm_fwd"), counted: SMALL, ..FORWARD },
    Case {
        timed: Timed::At {
            report: &[&[256, 512], &[2048, 512]],
            full: &[&[2048, 128]],
            bench: &[&[64, 512]],
        },
        ..BACKWARD
    },
    Case { id: "rmsnorm_bwd_small", bits: Bits::In("rmsnorm_bwd"), counted: SMALL, ..BACKWARD },
    Case {
        id: "rmsnorm_fwd_add",
        covers: &["norm::RmsNorm::forward_add"],
        kernel: "hotlanes::norm::forward::Forward<false, true>",
        build: |size, m| forward(size, m, RMS_ADD),
        ..FORWARD
    },
    Case {
        id: "rmsnorm_bwd_add",
        covers: &["norm::RmsNorm::backward_add"],
        kernel: "hotlanes::norm::backward::Backward<false, true>",
        build: |size, m| backward(size, m, RMS_ADD),
        ..BACKWARD
    },
    Case {
        id: "layernorm_fwd_add",
        covers: &["norm::LayerNorm::forward_add"],
        kernel: "hotlanes::norm::forward::Forward<true, true>",
        build: |size, m| forward(size, m, LAYER_ADD),
        ..FORWARD
    },
    Case {
        id: "layernorm_bwd_add",
        covers: &["norm::LayerNorm::backward_add"],
        kernel: "hotlanes::norm::backward::Backward<true, true>",
        build: |size, m| backward(size, m, LAYER_ADD),
        ..BACKWARD
    },
    // The same as separate steps.
    Case {
        id: "rmsnorm_fwd_steps",
        build: |size, m| forward(size, m, Norm { fused: false, ..RMS_ADD }),
        same_as: Some(("rmsnorm_fwd_add", <[usize]>::to_vec)),
        ..STEPS
    },
    Case {
        id: "rmsnorm_bwd_steps",
        build: |size, m| backward(size, m, Norm { fused: false, ..RMS_ADD }),
        same_as: Some(("rmsnorm_bwd_add", <[usize]>::to_vec)),
        ..STEPS
    },
    Case {
        id: "layernorm_fwd_steps",
        build: |size, m| forward(size, m, Norm { fused: false, ..LAYER_ADD }),
        same_as: Some(("layernorm_fwd_add", <[usize]>::to_vec)),
        ..STEPS
    },
    Case {
        id: "layernorm_bwd_steps",
        build: |size, m| backward(size, m, Norm { fused: false, ..LAYER_ADD }),
        same_as: Some(("layernorm_bwd_add", <[usize]>::to_vec)),
        ..STEPS
    },
];

const VARIANT: Timed = Timed::Not("as fast as the same norm without an addition, but for its traffic");
const SMALL: Counted = Counted::At { sizes: [&[16, 64], &[32, 64]], elements: product, element: "value" };

/// Sizes are rows and features. More chunks of rows than one are counted by LayerNorm's cases, for the same loop.
const FORWARD: Case = Case {
    id: "rmsnorm_fwd",
    covers: &["norm::RmsNorm::forward"],
    kernel: "hotlanes::norm::forward::Forward<false, false>",
    build: |size, m| forward(size, m, RMS),
    label,
    bits: Bits::At { sizes: shapes, random: &[(0, 40), (1, 300)] },
    threads: Threads::From {
        below: &[63, NORM_PARALLEL / 64],
        at: &[&[64, NORM_PARALLEL / 64], &[16 * ROWS_PER_CHUNK - 1, 131]],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[4, 256], &[8, 256]], elements: product, element: "value" },
    timed: VARIANT,
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const BACKWARD: Case = Case {
    id: "rmsnorm_bwd",
    covers: &["norm::RmsNorm::backward"],
    kernel: "hotlanes::norm::backward::Backward<false, false>",
    build: |size, m| backward(size, m, RMS),
    threads: Threads::From {
        below: &[2 * ROWS_PER_CHUNK, NORM_PARALLEL / ROWS_PER_CHUNK / 2 - 1],
        at: &[&[4 * ROWS_PER_CHUNK, NORM_PARALLEL / ROWS_PER_CHUNK / 4], &[16 * ROWS_PER_CHUNK - 1, 131]],
    },
    // Its longest loop takes a vector in one turn.
    counted: Counted::At { sizes: [&[4, 144], &[8, 144]], elements: product, element: "value" },
    ..FORWARD
};

const STEPS: Case = Case {
    covers: &[],
    threads: Threads::Never("another case's kernel"),
    counted: Counted::Not("another case's kernel"),
    timed: Timed::Not("another case's kernel"),
    twin: false,
    ..FORWARD
};

#[derive(Clone, Copy)]
struct Norm {
    layer: bool,
    add: bool,
    fused: bool,
}

const RMS: Norm = Norm { layer: false, add: false, fused: true };
const RMS_ADD: Norm = Norm { add: true, ..RMS };
const LAYER_ADD: Norm = Norm { layer: true, ..RMS_ADD };

/// PyTorch's default.
const EPS: f64 = 1e-5;

struct Rows {
    features: usize,
    x: Buf,
    residual: Buf,
    gamma: Buf,
    beta: Buf,
    h: Buf,
    y: Buf,
    mean: Buf,
    rstd: Buf,
}

impl Rows {
    fn new(rows: usize, features: usize, norm: Norm, m: &Memory) -> Self {
        let n = rows * features;
        let if_ = |is: bool, n| if is { n } else { 0 };
        Rows {
            features,
            x: m.input(n, 1),
            residual: m.input(if_(norm.add, n), 5),
            gamma: m.input(features, 2),
            beta: m.input(if_(norm.layer, features), 3),
            h: m.output(if_(norm.add, n)),
            y: m.output(n),
            mean: m.output(if_(norm.layer, rows)),
            rstd: m.output(rows),
        }
    }

    fn forward(&mut self, norm: Norm) {
        let Rows { features, x, residual, gamma, beta, h, y, mean, rstd } = self;
        let layer = LayerNorm::new(*features, EPS).expect("valid");
        let rms = RmsNorm::new(*features, EPS).expect("valid");
        match (norm.layer, norm.add && norm.fused) {
            (true, true) => layer.forward_add(x, residual, gamma, beta, h, y, mean, rstd),
            (false, true) => rms.forward_add(x, residual, gamma, h, y, rstd),
            (is_layer, false) => {
                if norm.add {
                    naive::rms::add(x, residual, h);
                }
                let x = if norm.add { h } else { x };
                if is_layer {
                    layer.forward(x, gamma, beta, y, mean, rstd)
                } else {
                    rms.forward(x, gamma, y, rstd)
                }
            }
        }
    }

    fn plain(&mut self, norm: Norm, which: Plain) {
        let Rows { features, x, residual, gamma, beta, h, y, mean, rstd } = self;
        let is_auto = which == Plain::Auto;
        if norm.add {
            (if is_auto { rms::add_auto } else { rms::add })(x, residual, h);
        }
        let (x, eps) = (if norm.add { h } else { x }, EPS as f32);
        if norm.layer {
            let f = if is_auto { naive::layernorm_forward_auto } else { naive::layernorm_forward };
            f(x, *features, eps, gamma, beta, y, mean, rstd);
        } else {
            let f = if is_auto { rms::rmsnorm_forward_auto } else { rms::rmsnorm_forward };
            f(x, *features, eps, gamma, y, rstd);
        }
    }
}

fn forward(size: &[usize], m: &Memory, norm: Norm) -> Box<dyn Run> {
    let [rows, features] = dims(size);
    let n = 4 * rows * features;
    let arrays = if norm.add { 2 } else { 1 };
    instance(
        Rows::new(rows, features, norm, m),
        // Squares 2, x-hat 1, gamma 1.
        Work { roots: rows as f64, ..Work::sweep(arrays * n, arrays * n, n as f64) },
        move |s| s.forward(norm),
        move |s, which| s.plain(norm, which),
        |s| {
            vec![
                Output::rows("h", &mut s.h, 0.0),
                Output::rows("y", &mut s.y, 1e-5),
                Output::rows("mean", &mut s.mean, 1e-5),
                Output::rows("rstd", &mut s.rstd, 1e-5),
            ]
        },
    )
}

struct Gradients {
    features: usize,
    dy: Buf,
    dh: Buf,
    x: Buf,
    gamma: Buf,
    mean: Buf,
    rstd: Buf,
    dx: Buf,
    dgamma: Buf,
    dbeta: Buf,
    scratch: Buf,
}

fn backward(size: &[usize], m: &Memory, norm: Norm) -> Box<dyn Run> {
    let [rows, features] = dims(size);
    let n = rows * features;
    let mut saved = Rows::new(rows, features, norm, &Memory::new(Place::Aligned, m.values()));
    saved.forward(norm);
    let layer = LayerNorm::new(features, EPS).expect("valid");
    let rms_norm = RmsNorm::new(features, EPS).expect("valid");
    let scratch = if norm.layer { layer.scratch_len(rows) } else { rms_norm.scratch_len(rows) };
    let state = Gradients {
        features,
        dy: m.input(n, 4),
        dh: m.input(if norm.add { n } else { 0 }, 6),
        x: m.copy(if norm.add { &saved.h } else { &saved.x }),
        gamma: m.input(features, 2),
        mean: m.copy(&saved.mean),
        rstd: m.copy(&saved.rstd),
        dx: m.output(n),
        dgamma: m.output(features),
        dbeta: m.output(if norm.layer { features } else { 0 }),
        scratch: m.output(scratch),
    };
    let inputs = if norm.add { 3 } else { 2 };
    instance(
        state,
        // x-hat 1, dy times gamma 1, its sum 2, dgamma 2, dx 4.
        Work::sweep(4 * inputs * n, 4 * n, 10.0 * n as f64),
        move |s| {
            let Gradients { dy, dh, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch, .. } = s;
            match (norm.layer, norm.add && norm.fused) {
                (true, true) => layer.backward_add(dy, dh, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch),
                (true, false) => layer.backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch),
                (false, true) => rms_norm.backward_add(dy, dh, x, gamma, rstd, dx, dgamma, scratch),
                (false, false) => rms_norm.backward(dy, x, gamma, rstd, dx, dgamma, scratch),
            }
            if norm.add && !norm.fused {
                rms::add_to(dh, dx);
            }
        },
        move |s, which| {
            let Gradients { features, dy, dh, x, gamma, mean, rstd, dx, dgamma, dbeta, .. } = s;
            let is_auto = which == Plain::Auto;
            if norm.layer {
                let f = if is_auto { naive::layernorm_backward_auto } else { naive::layernorm_backward };
                f(dy, x, *features, gamma, mean, rstd, dx, dgamma, dbeta);
            } else {
                let f = if is_auto { rms::rmsnorm_backward_auto } else { rms::rmsnorm_backward };
                f(dy, x, *features, gamma, rstd, dx, dgamma);
            }
            if norm.add {
                (if is_auto { rms::add_to_auto } else { rms::add_to })(dh, dx);
            }
        },
        |s| {
            vec![
                Output::rows("dx", &mut s.dx, 2e-4),
                Output::new("dgamma", &mut s.dgamma, 1e-4),
                Output::new("dbeta", &mut s.dbeta, 1e-4),
            ]
        },
    )
}
