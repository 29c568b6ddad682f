//! AdamW: the plain loop, and the general one with its branches.

use std::hint::black_box;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor, WeightDecay};
use hotlanes::naive;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// The usual step: decoupled decay, no scale. 512 parameters are seven turns of AVX-512's loop by four vectors.
pub(super) const PLAIN: Case = Case {
    name: "adamw",
    kernel: "hotlanes::tensors::Run<hotlanes::adamw::AdamWStep>",
    sizes: [512, 1024],
    elements_per_size: 1,
    element: "parameter",
    gather: true,
    forced: true,
    prepare: |n| Tensor::new(n, AdamWConfig::default(), 1.0, false).prepare(),
    twin: Some(twin),
};

/// The general loop: decay in the gradient, and a gradient scale.
pub(super) const L2: Case = Case {
    name: "adamw_l2",
    prepare: |n| {
        Tensor::new(n, AdamWConfig { decay: WeightDecay::L2, ..Default::default() }, 128.0, false).prepare()
    },
    twin: None,
    ..PLAIN
};

/// The general loop with a small `beta1`, whose first moment starts from the gradient.
pub(super) const LERP: Case = Case {
    name: "adamw_lerp",
    prepare: |n| Tensor::new(n, AdamWConfig { beta1: 0.25, ..Default::default() }, 1.0, false).prepare(),
    twin: None,
    ..PLAIN
};

/// AMSGrad: five streams.
pub(super) const AMSGRAD: Case = Case {
    name: "adamw_amsgrad",
    prepare: |n| Tensor::new(n, AdamWConfig::default(), 1.0, true).prepare(),
    twin: None,
    ..PLAIN
};

/// The usual step on a gradient that is unscaled or clipped.
pub(super) const SCALED: Case = Case {
    name: "adamw_scaled",
    prepare: |n| Tensor::new(n, AdamWConfig::default(), 128.0, false).prepare(),
    twin: None,
    ..PLAIN
};

const STEP: i32 = 10;

/// A tensor before its step, and a copy of it that takes the step.
struct Tensor {
    config: AdamWConfig,
    scale: f64,
    step: AdamWStep,
    start: Vectors,
    end: Vectors,
    amsgrad: bool,
}

#[derive(Clone)]
struct Vectors {
    param: Vec<f32>,
    grad: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    v_max: Vec<f32>,
}

impl Vectors {
    fn new(n: usize) -> Self {
        let positive = |seed| data(n, seed).into_iter().map(|x| 0.25 + x * x).collect();
        Vectors { param: data(n, 1), grad: data(n, 2), m: data(n, 3), v: positive(4), v_max: positive(5) }
    }
}

impl Tensor {
    /// `scale` is what the gradients were multiplied by.
    fn new(n: usize, config: AdamWConfig, scale: f64, amsgrad: bool) -> Self {
        let step = AdamW::new(config).and_then(|o| o.at(STEP as u64)).and_then(|s| s.unscale(scale));
        let start = Vectors::new(n);
        let end = start.clone();
        Tensor { config, scale, step: step.expect("valid hyper-parameters"), start, end, amsgrad }
    }

    fn prepare(self) -> Box<dyn Prepared> {
        prepared(self, Tensor::run, Tensor::check)
    }

    fn run(&mut self) {
        let Vectors { param, grad, m, v, v_max } = &mut self.end;
        let v_max = self.amsgrad.then_some(&mut v_max[..]);
        self.step.update(black_box(AdamWTensor { param, grad, m, v, v_max }));
    }

    /// Against the formulas of `hotlanes::adamw` in f64.
    fn check(&self) {
        let AdamWConfig { lr, beta1, beta2, eps, weight_decay, decay, .. } = self.config;
        let (correction1, correction2) = (1.0 - beta1.powi(STEP), 1.0 - beta2.powi(STEP));
        let mut want = self.start.clone();
        for i in 0..want.param.len() {
            let [mut p, mut g, m, v, v_max] =
                [want.param[i], want.grad[i], want.m[i], want.v[i], want.v_max[i]].map(f64::from);
            g /= self.scale;
            match decay {
                WeightDecay::Decoupled => p *= 1.0 - lr * weight_decay,
                WeightDecay::L2 => g += weight_decay * p,
            }
            let m = beta1 * m + (1.0 - beta1) * g;
            let v = beta2 * v + (1.0 - beta2) * g * g;
            let v_max = if self.amsgrad { v_max.max(v) } else { v };
            p -= lr * (m / correction1) / ((v_max / correction2).sqrt() + eps);
            (want.param[i], want.m[i], want.v[i]) = (p as f32, m as f32, v as f32);
            if self.amsgrad {
                want.v_max[i] = v_max as f32;
            }
        }
        let (got, want) = (&self.end, &want);
        assert_ne!(got.param, self.start.param, "no parameter has moved");
        close("param", &got.param, &want.param, 1e-6);
        close("m", &got.m, &want.m, 1e-6);
        close("v", &got.v, &want.v, 1e-6);
        close("v_max", &got.v_max, &want.v_max, 1e-6);
    }
}

fn twin(n: usize) -> Box<dyn Prepared> {
    let constants = naive::AdamWConstants {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 1e-2,
        step: STEP,
    };
    prepared(
        Vectors::new(n),
        move |s| {
            let Vectors { param, grad, m, v, .. } = black_box(s);
            naive::adamw_auto(param, grad, m, v, constants);
        },
        move |s| {
            let mut want = Vectors::new(s.param.len());
            naive::adamw(&mut want.param, &want.grad, &mut want.m, &mut want.v, constants);
            close("param", &s.param, &want.param, 1e-6);
            close("m", &s.m, &want.m, 1e-6);
            close("v", &s.v, &want.v, 1e-6);
        },
    )
}
