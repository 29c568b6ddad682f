//! AdamW: one tensor by the plain loop and by the general one with its branches, and many in one call.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, WeightDecay};
use hotlanes::naive::{self, AdamWConstants};
use hotlanes::tuning::{ADAMW_PARALLEL, ADAMW_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{MOST, label, lengths, parts, parts_mut, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    ADAMW,
    // Decay in the gradient, and a gradient scale.
    Case {
        id: "adamw_l2",
        build: |size, m| {
            tensor(size, m, AdamWConfig { decay: WeightDecay::L2, ..Default::default() }, 128.0, false)
        },
        ..VARIANT
    },
    // A small `beta1`, whose first moment starts from the gradient.
    Case {
        id: "adamw_lerp",
        build: |size, m| tensor(size, m, AdamWConfig { beta1: 0.25, ..Default::default() }, 1.0, false),
        ..VARIANT
    },
    // Five streams.
    Case {
        id: "adamw_amsgrad",
        build: |size, m| tensor(size, m, AdamWConfig::default(), 1.0, true),
        ..VARIANT
    },
    // A gradient that is unscaled or clipped.
    Case {
        id: "adamw_scaled",
        build: |size, m| tensor(size, m, AdamWConfig::default(), 128.0, false),
        ..VARIANT
    },
    // No `eps`: denominators leave the range in which the AVX-512 tier has a way of its own to divide. And upward.
    Case {
        id: "adamw_amsgrad_no_eps",
        build: |size, m| {
            let config = AdamWConfig { eps: 0.0, weight_decay: 0.0, maximize: true, ..Default::default() };
            tensor(size, m, config, 1.0, true)
        },
        counted: Counted::Not("the instructions of adamw_amsgrad"),
        ..VARIANT
    },
    Case {
        id: "adamw_many",
        covers: &["adamw::AdamWStep::update_many"],
        build: many,
        bits: Bits::At {
            sizes: || vec![vec![], vec![0, 0, 0], vec![0, 1, 0, 33, 16, 0, 70]],
            random: &[(0, 40), (0, 1), (0, 700), (0, 3), (0, 40)],
        },
        threads: Threads::From {
            below: &[ADAMW_PARALLEL / 2 - 1, ADAMW_PARALLEL / 2],
            // Tensors of no elements where the cuts fall, and one that is cut inside.
            at: &[
                &[
                    0,
                    ADAMW_PARALLEL / 4,
                    0,
                    ADAMW_PARALLEL / 4,
                    0,
                    0,
                    ADAMW_PARALLEL / 4,
                    ADAMW_PARALLEL / 4,
                    0,
                ],
                &[1, ADAMW_PARALLEL / 2, 0, 17, ADAMW_PARALLEL, 15],
            ],
        },
        same_as: Some(("adamw", |size| vec![size.iter().sum()])),
        counted: Counted::Not("the loop of adamw"),
        timed: Timed::Not("the loop of adamw"),
        ..ADAMW
    },
];

const ADAMW: Case = Case {
    id: "adamw",
    covers: &["adamw::AdamWStep::update"],
    kernel: "hotlanes::tensors::Run<hotlanes::adamw::AdamWStep>",
    build: |size, m| tensor(size, m, AdamWConfig::default(), 1.0, false),
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::From {
        below: &[ADAMW_PARALLEL - 1],
        at: &[&[ADAMW_PARALLEL], &[ADAMW_PARALLEL + 1], &[5 * ADAMW_PIECE + 7]],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[512], &[1024]], elements: product, element: "parameter" },
    timed: Timed::At {
        report: &[&[4096], &[65_536], &[2_359_296], &[1 << 25]],
        full: &[],
        bench: &[&[32_768], &[131_072], &[524_288]],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const VARIANT: Case = Case { timed: Timed::Not("a variant of adamw"), twin: false, ..ADAMW };

/// Far enough for both bias corrections to matter.
const STEP: i32 = 10;

struct Tensor {
    param: Buf,
    grad: Buf,
    m: Buf,
    v: Buf,
    v_max: Buf,
}

fn state(n: usize, m: &Memory, amsgrad: bool) -> Tensor {
    Tensor {
        param: m.input(n, 1),
        grad: m.input(n, 2),
        m: m.input(n, 3),
        v: m.positive(n, 4),
        v_max: m.positive(if amsgrad { n } else { 0 }, 5),
    }
}

fn outputs(s: &mut Tensor) -> Vec<Output<'_>> {
    vec![
        // An update is at most some thousandths of a parameter here, and the naive constants are off by 1e-4.
        Output::rows("param", &mut s.param, 1e-5),
        Output::rows("m", &mut s.m, 1e-5),
        Output::rows("v", &mut s.v, 1e-5),
        Output::rows("v_max", &mut s.v_max, 1e-5),
    ]
}

fn work(n: usize) -> Work {
    Work {
        items: n as f64,
        unit: "Gparam/s",
        read: 16.0 * n as f64,
        written: 12.0 * n as f64,
        in_place: true,
        // Two moments 3 and 4, the denominator 2, the parameter 4 and its quotient 1; the root is apart.
        flops: 14.0 * n as f64,
        roots: n as f64,
        working_set: 16 * n,
        ..Work::default()
    }
}

/// One step on one tensor, whose gradients were multiplied by `scale`.
fn tensor(size: &[usize], m: &Memory, config: AdamWConfig, scale: f64, amsgrad: bool) -> Box<dyn Run> {
    let n = product(size);
    let step =
        AdamW::new(config).and_then(|o| o.at(STEP as u64)).and_then(|s| s.unscale(scale)).expect("valid");
    let is_default = config == AdamWConfig::default() && scale == 1.0 && !amsgrad;
    instance(
        state(n, m, amsgrad),
        work(n),
        move |s| {
            let Tensor { param, grad, m, v, v_max } = s;
            step.update(AdamWTensor { param, grad, m, v, v_max: amsgrad.then_some(v_max) });
        },
        move |s, which| if is_default { plain(s, which) } else { formula(s, &config, scale) },
        outputs,
    )
}

fn plain(s: &mut Tensor, which: Plain) {
    let config = AdamWConfig::default();
    let [lr, beta1, beta2, eps, weight_decay] =
        [config.lr, config.beta1, config.beta2, config.eps, config.weight_decay].map(|x| x as f32);
    let constants = AdamWConstants { lr, beta1, beta2, eps, weight_decay, step: STEP };
    pick!(which, naive::adamw, naive::adamw_auto)(&mut s.param, &s.grad, &mut s.m, &mut s.v, constants);
}

/// The paper's formula with every variant, in f64.
fn formula(s: &mut Tensor, config: &AdamWConfig, scale: f64) {
    let AdamWConfig { lr, beta1, beta2, eps, weight_decay, decay, maximize, .. } = *config;
    let (correction1, correction2) = (1.0 - beta1.powi(STEP), 1.0 - beta2.powi(STEP));
    for i in 0..s.param.len() {
        let [mut p, g, m, v] = [s.param[i], s.grad[i], s.m[i], s.v[i]].map(f64::from);
        let mut g = g / scale * if maximize { -1.0 } else { 1.0 };
        match decay {
            WeightDecay::Decoupled => p *= 1.0 - lr * weight_decay,
            WeightDecay::L2 => g += weight_decay * p,
        }
        let m = beta1 * m + (1.0 - beta1) * g;
        let v = beta2 * v + (1.0 - beta2) * g * g;
        let mut largest = v;
        if let Some(v_max) = s.v_max.get_mut(i) {
            largest = v.max((*v_max).into());
            *v_max = largest as f32;
        }
        p -= lr * (m / correction1) / ((largest / correction2).sqrt() + eps);
        (s.param[i], s.m[i], s.v[i]) = (p as f32, m as f32, v as f32);
    }
}

/// One step on a tensor for each length.
fn many(lengths: &[usize], m: &Memory) -> Box<dyn Run> {
    let n = lengths.iter().sum();
    let step = AdamW::new(AdamWConfig::default()).and_then(|o| o.at(STEP as u64)).expect("valid");
    let lengths = lengths.to_vec();
    instance(
        state(n, m, false),
        work(n),
        move |s| {
            let Tensor { param, grad, m, v, .. } = s;
            let (mut param, mut grad) = (parts_mut(param, &lengths), parts(grad, &lengths));
            let (mut m, mut v) = (parts_mut(m, &lengths), parts_mut(v, &lengths));
            // An array of as many as there may be: a run allocates nothing.
            let mut tensors: [AdamWTensor<'_>; MOST] = std::array::from_fn(|_| AdamWTensor {
                param: param.next().unwrap_or_default(),
                grad: grad.next().unwrap_or_default(),
                m: m.next().unwrap_or_default(),
                v: v.next().unwrap_or_default(),
                v_max: None,
            });
            step.update_many(&mut tensors[..lengths.len()]);
        },
        plain,
        outputs,
    )
}
