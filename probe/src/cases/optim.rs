//! SGD, Lion and Adafactor.

use std::hint::black_box;

use hotlanes::adafactor::{Adafactor, AdafactorConfig, AdafactorStep, AdafactorTensor, SecondMoment};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::naive::optim;
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Descent without a buffer.
pub(super) const SGD: Case = Case {
    name: "sgd",
    kernel: "hotlanes::tensors::Run<hotlanes::sgd::SgdStep>",
    sizes: [256, 512],
    elements_per_size: 1,
    element: "parameter",
    gather: true,
    forced: true,
    prepare: |n| sgd(n, DESCENT, 1.0),
    twin: None,
};

/// Momentum after the first step.
pub(super) const SGD_MOMENTUM: Case = Case {
    name: "sgd_momentum",
    prepare: |n| sgd(n, SgdConfig { momentum: MOMENTUM as f64, ..DESCENT }, 1.0),
    twin: Some(sgd_twin),
    ..SGD
};

/// Nesterov's.
pub(super) const SGD_NESTEROV: Case = Case {
    name: "sgd_nesterov",
    prepare: |n| sgd(n, SgdConfig { momentum: MOMENTUM as f64, nesterov: true, ..DESCENT }, 1.0),
    ..SGD
};

/// The general loops: decay, and a gradient scale.
pub(super) const SGD_L2: Case =
    Case { name: "sgd_l2", prepare: |n| sgd(n, SgdConfig { weight_decay: 0.5, ..DESCENT }, 8.0), ..SGD };

/// The same with momentum, dampened.
pub(super) const SGD_MOMENTUM_L2: Case = Case {
    name: "sgd_momentum_l2",
    prepare: |n| {
        let config = SgdConfig { momentum: MOMENTUM as f64, dampening: 0.25, weight_decay: 0.5, ..DESCENT };
        sgd(n, config, 8.0)
    },
    ..SGD
};

/// The same of Nesterov's.
pub(super) const SGD_NESTEROV_L2: Case = Case {
    name: "sgd_nesterov_l2",
    prepare: |n| {
        let config = SgdConfig { momentum: MOMENTUM as f64, weight_decay: 0.5, nesterov: true, ..DESCENT };
        sgd(n, config, 8.0)
    },
    ..SGD
};

/// Lion has one loop.
pub(super) const LION: Case = Case {
    name: "lion",
    kernel: "hotlanes::tensors::Run<hotlanes::lion::LionStep>",
    prepare: |n| lion(n, false),
    twin: Some(|n| lion(n, true)),
    ..SGD
};

/// Adafactor on a matrix of four rows, by columns. The same runs stand for all of its passes.
pub(super) const ADAFACTOR_GRAD_SQUARES: Case = Case {
    name: "adafactor_grad_squares",
    kernel: "hotlanes::adafactor::matrix::GradSquares",
    sizes: [64, 128],
    elements_per_size: ROWS,
    prepare: |cols| matrix(cols, false),
    twin: Some(|cols| matrix(cols, true)),
    ..SGD
};

/// From the sums to their roots.
pub(super) const ADAFACTOR_FACTOR: Case = Case {
    name: "adafactor_factor",
    kernel: "hotlanes::adafactor::matrix::Factor",
    ..ADAFACTOR_GRAD_SQUARES
};

/// The rms of the update.
pub(super) const ADAFACTOR_UNIT_SQUARES: Case = Case {
    name: "adafactor_unit_squares",
    kernel: "hotlanes::adafactor::matrix::UnitSquares",
    ..ADAFACTOR_GRAD_SQUARES
};

/// The step of a matrix.
pub(super) const ADAFACTOR_APPLY: Case =
    Case { name: "adafactor_apply", kernel: "hotlanes::adafactor::matrix::Apply", ..ADAFACTOR_GRAD_SQUARES };

/// The rms of the parameter.
pub(super) const ADAFACTOR_SQUARES: Case = Case {
    name: "adafactor_squares",
    kernel: "hotlanes::adafactor::flat::Squares",
    sizes: [128, 256],
    elements_per_size: 1,
    prepare: vector,
    twin: None,
    ..ADAFACTOR_GRAD_SQUARES
};

/// A vector's second moment.
pub(super) const ADAFACTOR_UNITS: Case =
    Case { name: "adafactor_units", kernel: "hotlanes::adafactor::flat::Units", ..ADAFACTOR_SQUARES };

/// The step of a vector.
pub(super) const ADAFACTOR_DESCEND: Case =
    Case { name: "adafactor_descend", kernel: "hotlanes::adafactor::flat::Descend", ..ADAFACTOR_SQUARES };

const DESCENT: SgdConfig = SgdConfig {
    lr: 0.125,
    momentum: 0.0,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
    maximize: false,
};
const MOMENTUM: f32 = 0.875;

/// Parameter, gradient, and what the optimizer keeps of it.
#[derive(Clone)]
struct Vectors {
    param: Vec<f32>,
    grad: Vec<f32>,
    kept: Vec<f32>,
}

impl Vectors {
    fn new(n: usize) -> Self {
        Vectors { param: data(n, 1), grad: data(n, 2), kept: data(n, 3) }
    }

    /// What the formulas give for each element of new data, by a function of its three values.
    fn check(&self, f: impl Fn(f64, f64, f64) -> (f64, f64)) {
        let mut want = Vectors::new(self.param.len());
        for i in 0..want.param.len() {
            let [p, g, b] = [want.param[i], want.grad[i], want.kept[i]].map(f64::from);
            let (p, b) = f(p, g, b);
            (want.param[i], want.kept[i]) = (p as f32, b as f32);
        }
        close("param", &self.param, &want.param, 1e-6);
        close("buffer", &self.kept, &want.kept, 1e-6);
    }
}

/// The second step; `scale` is what the gradients were multiplied by.
fn sgd(n: usize, config: SgdConfig, scale: f64) -> Box<dyn Prepared> {
    let step = Sgd::new(config).and_then(|o| o.at(2)).and_then(|s| s.unscale(scale)).expect("valid");
    let SgdConfig { lr, momentum, dampening, weight_decay, nesterov, .. } = config;
    prepared(
        Vectors::new(n),
        move |s| {
            let Vectors { param, grad, kept } = black_box(s);
            let buffer = if momentum > 0.0 { &mut kept[..] } else { &mut [] };
            step.update(SgdTensor { param, grad, buffer });
        },
        move |s| {
            s.check(|p, g, b| {
                let g = g / scale + weight_decay * p;
                if momentum == 0.0 {
                    return (p - lr * g, b);
                }
                let b = momentum * b + (1.0 - dampening) * g;
                (p - lr * if nesterov { g + momentum * b } else { b }, b)
            });
        },
    )
}

fn sgd_twin(n: usize) -> Box<dyn Prepared> {
    let (lr, momentum) = (DESCENT.lr, MOMENTUM as f64);
    prepared(
        Vectors::new(n),
        move |s| {
            let Vectors { param, grad, kept } = black_box(s);
            optim::sgd_momentum_auto(param, grad, kept, lr as f32, MOMENTUM);
        },
        move |s| {
            s.check(|p, g, b| {
                let b = momentum * b + g;
                (p - lr * b, b)
            });
        },
    )
}

fn lion(n: usize, twin: bool) -> Box<dyn Prepared> {
    let config = LionConfig { lr: 0.125, weight_decay: 0.5, ..Default::default() };
    let LionConfig { lr, beta1, beta2, weight_decay, .. } = config;
    let step = Lion::new(config).expect("valid").step();
    prepared(
        Vectors::new(n),
        move |s| {
            let Vectors { param, grad, kept: m } = black_box(s);
            if twin {
                let [lr, beta1, beta2, weight_decay] = [lr, beta1, beta2, weight_decay].map(|x| x as f32);
                optim::lion_auto(param, grad, m, lr, beta1, beta2, weight_decay);
            } else {
                step.update(LionTensor { param, grad, m });
            }
        },
        move |s| {
            s.check(|p, g, m| {
                let sign = (beta1 * m + (1.0 - beta1) * g).signum();
                (p * (1.0 - lr * weight_decay) - lr * sign, beta2 * m + (1.0 - beta2) * g)
            });
        },
    )
}

const ROWS: usize = 4;
const STEP: u64 = 10;

/// A matrix of four rows, or one column of a vector, with room for its step.
struct Factored {
    step: AdafactorStep,
    constants: optim::AdafactorConstants,
    v: Vectors,
    row: Vec<f32>,
    col: Vec<f32>,
    scratch: Vec<f32>,
    sums: Vec<f32>,
}

impl Factored {
    fn new(rows: usize, cols: usize) -> Self {
        let config = AdafactorConfig::default();
        let step = Adafactor::new(config).and_then(|o| o.at(STEP)).expect("the defaults are valid");
        let constants = optim::AdafactorConstants {
            lr: config.lr as f32,
            weight: (STEP as f64).powf(config.beta2_decay) as f32,
            eps1: config.eps1 as f32,
            eps2: config.eps2 as f32,
            d: config.d as f32,
            step: STEP as i32,
        };
        let positive = |n, seed| data(n, seed).into_iter().map(|x| 0.25 + x * x).collect();
        let scratch = hotlanes::adafactor::scratch_len_matrix(rows, cols).max(rows * cols);
        let scratch = vec![f32::NAN; scratch.max(hotlanes::adafactor::scratch_len_vector(rows * cols))];
        let (row, col) = (positive(rows, 4), positive(cols, 5));
        Factored { step, constants, v: Vectors::new(rows * cols), row, col, scratch, sums: vec![0.0; cols] }
    }

    fn plain(&mut self, f: Plain) {
        let s = black_box(self);
        let n = s.v.param.len();
        let update = &mut s.scratch[..n];
        f(&mut s.v.param, &s.v.grad, &mut s.row, &mut s.col, update, &mut s.sums, s.constants);
    }
}

/// One of the plain loops.
type Plain =
    fn(&mut [f32], &[f32], &mut [f32], &mut [f32], &mut [f32], &mut [f32], optim::AdafactorConstants);

fn matrix(cols: usize, twin: bool) -> Box<dyn Prepared> {
    prepared(
        Factored::new(ROWS, cols),
        move |s| {
            if twin {
                return s.plain(optim::adafactor_matrix_auto);
            }
            let Factored { step, v, row, col, scratch, .. } = black_box(s);
            let moment = SecondMoment::Factored { row, col };
            step.update(AdafactorTensor { param: &mut v.param, grad: &v.grad, moment }, scratch);
        },
        |s| {
            let mut want = Factored::new(ROWS, s.col.len());
            want.plain(optim::adafactor_matrix);
            close("param", &s.v.param, &want.v.param, 1e-5);
            close("row", &s.row, &want.row, 1e-5);
            close("col", &s.col, &want.col, 1e-5);
            assert_ne!(s.v.param, Vectors::new(s.v.param.len()).param, "no parameter has moved");
        },
    )
}

/// A vector's step against a plain loop in f64.
fn vector(n: usize) -> Box<dyn Prepared> {
    prepared(
        Factored::new(n, 1),
        |s| {
            let Factored { step, v, row, scratch, .. } = black_box(s);
            let moment = SecondMoment::Unfactored { v: row };
            step.update(AdafactorTensor { param: &mut v.param, grad: &v.grad, moment }, scratch);
        },
        |s| {
            let mut want = Factored::new(s.row.len(), 1);
            let n = want.row.len() as f64;
            let weight = want.constants.weight as f64;
            let mut updates = vec![0.0; want.row.len()];
            for (i, u) in updates.iter_mut().enumerate() {
                let (g, v) = (want.v.grad[i] as f64, want.row[i] as f64);
                let v = v + weight * (g * g - v);
                (want.row[i], *u) = (v as f32, g / v.sqrt());
            }
            let rms = |sum: f64| (sum / n).sqrt();
            let own = rms(want.v.param.iter().map(|&p| p as f64 * p as f64).sum());
            let factor = 0.01 * own / rms(updates.iter().map(|u| u * u).sum()).max(1.0);
            for (p, u) in want.v.param.iter_mut().zip(updates) {
                *p = (*p as f64 - factor * u) as f32;
            }
            close("param", &s.v.param, &want.v.param, 1e-6);
            close("v", &s.row, &want.row, 1e-6);
            assert_ne!(s.v.param, Vectors::new(s.v.param.len()).param, "no parameter has moved");
        },
    )
}
