//! Clipping by the global norm, alone and fused with AdamW.

use std::array::from_fn;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::clip::{Clip, ClipConfig, ClipOutcome, clip_grad_norm};
use hotlanes::naive::{self, AdamWConstants};
use hotlanes::tuning::{REDUCE_PARALLEL, REDUCE_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{MOST, Size, label, parts, parts_mut, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    FUSED,
    Case {
        id: "clip_adamw_unscale",
        build: |size, m| fused(size, m, UNSCALE),
        timed: Timed::Not("a variant of clip_adamw"),
        twin: false,
        ..FUSED
    },
    Case {
        id: "clip_adamw_below",
        build: |size, m| fused(size, m, ClipConfig { max_norm: 1e9, grad_scale: 1.0 }),
        timed: Timed::Not("a variant of clip_adamw"),
        twin: false,
        ..FUSED
    },
    Case {
        id: "clip",
        covers: &["clip::Clip::clip"],
        build: |size, m| scaling(size, m, true),
        // In the outcome alone.
        same_as: Some(("clip_adamw_unscale", <[usize]>::to_vec)),
        counted: Counted::Not("the loop of clip_scale"),
        ..SCALE
    },
    SCALE,
];

/// Sizes are the lengths of tensors.
const FUSED: Case = Case {
    id: "clip_adamw",
    covers: &["clip::Clip::step"],
    kernel: "hotlanes::tensors::Run<hotlanes::adamw::AdamWStep>",
    build: |size, m| fused(size, m, ClipConfig::default()),
    label: |size| match size {
        [first, .., last] if first == last => format!("{}x{first}", size.len()),
        _ => label(size),
    },
    bits: Bits::At { sizes: lists, random: &[(0, 40), (0, 1), (0, 700), (0, 3), (0, 40)] },
    threads: Threads::From {
        below: &[500, 0, 17, REDUCE_PARALLEL / 8],
        at: &[&[REDUCE_PARALLEL + 3], &[REDUCE_PIECE / 2; 9]],
    },
    same_as: None,
    counted: Counted::Not("the loops of norm and adamw_scaled"),
    timed: Timed::At { report: &[&[65_536; 36]], full: &[], bench: &[] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

/// A clip alone: its norm is counted by itself.
const SCALE: Case = Case {
    id: "clip_scale",
    covers: &["clip::clip_grad_norm"],
    kernel: "hotlanes::clip::scale::ScaleOne",
    build: |size, m| scaling(size, m, false),
    threads: Threads::From {
        below: &[500, 0, 17, REDUCE_PARALLEL / 2],
        at: &[&[REDUCE_PARALLEL + 3], &[REDUCE_PIECE / 2; 9]],
    },
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "value" },
    timed: Timed::At { report: &[], full: &[], bench: &[&[65_536], &[1 << 20]] },
    twin: false,
    ..FUSED
};

const UNSCALE: ClipConfig = ClipConfig { max_norm: 0.7, grad_scale: 48.0 };

fn lists() -> Vec<Size> {
    vec![vec![], vec![0, 1, 0], vec![33, 16, 7, 130], vec![1; 40], vec![500, 3, 77], vec![1000]]
}

/// The step's number: far enough for both bias corrections to matter.
const STEP: i32 = 10;

struct State {
    param: Buf,
    grad: Buf,
    m: Buf,
    v: Buf,
    /// Norm, factor, whether skipped; empty where the plain loop is timed, which does not tell.
    outcome: Buf,
}

/// What both calls tell.
fn tell(to: &mut [f32], outcome: ClipOutcome) {
    if to.is_empty() {
        return;
    }
    to.copy_from_slice(&[
        outcome.norm as f32,
        outcome.clip_factor as f32,
        f32::from(u8::from(outcome.skipped)),
    ]);
}

fn norm_of(grad: &[f32], scale: f64) -> f64 {
    grad.iter().map(|g| (f64::from(*g) / scale).powi(2)).sum::<f64>().sqrt()
}

/// The outcome's formula, which is PyTorch's: a factor of at most 1.
fn outcome(norm: f64, max_norm: f64) -> ClipOutcome {
    ClipOutcome { norm, clip_factor: (max_norm / (norm + 1e-6)).min(1.0), skipped: false }
}

fn fused(lengths: &[usize], m: &Memory, config: ClipConfig) -> Box<dyn Run> {
    let n: usize = lengths.iter().sum();
    let clip = Clip::new(config).expect("valid");
    let defaults = AdamWConfig::default();
    let step = AdamW::new(defaults).and_then(|a| a.at(STEP as u64)).expect("the defaults are valid");
    let lengths = lengths.to_vec();
    let size = n as f64;
    instance(
        State {
            param: m.input(n, 1),
            grad: m.input(n, 4),
            m: m.input(n, 2),
            v: m.positive(n, 3),
            outcome: m.output(if config == ClipConfig::default() { 0 } else { 3 }),
        },
        Work {
            items: size,
            unit: "Gparam/s",
            // The gradient twice: beyond the caches its norm has to be known before it is used.
            read: 20.0 * size,
            written: 12.0 * size,
            in_place: true,
            // AdamW's 14, the norm 2, the factor 1.
            flops: 17.0 * size,
            roots: size,
            working_set: 16 * n,
            ..Work::default()
        },
        move |s| {
            let (mut param, mut grad) = (parts_mut(&mut s.param, &lengths), parts(&s.grad, &lengths));
            let (mut m, mut v) = (parts_mut(&mut s.m, &lengths), parts_mut(&mut s.v, &lengths));
            let mut tensors: [AdamWTensor<'_>; MOST] = from_fn(|_| AdamWTensor {
                param: param.next().unwrap_or_default(),
                grad: grad.next().unwrap_or_default(),
                m: m.next().unwrap_or_default(),
                v: v.next().unwrap_or_default(),
                v_max: None,
            });
            tell(&mut s.outcome, clip.step(&step, &mut tensors[..lengths.len()]));
        },
        move |s, which| {
            let ClipConfig { max_norm, grad_scale } = config;
            let constants = AdamWConstants {
                lr: defaults.lr as f32,
                beta1: defaults.beta1 as f32,
                beta2: defaults.beta2 as f32,
                eps: defaults.eps as f32,
                weight_decay: defaults.weight_decay as f32,
                step: STEP,
            };
            let f = pick!(which, naive::reduce::clip_adamw, naive::reduce::clip_adamw_auto);
            if s.outcome.is_empty() {
                // It clips the gradient in place, which the kernel leaves alone.
                return f(&mut s.param, &mut s.grad, &mut s.m, &mut s.v, max_norm as f32, constants);
            }
            tell(&mut s.outcome, outcome(norm_of(&s.grad, grad_scale), max_norm));
            let mut grad: Vec<f32> = s.grad.iter().map(|g| g / grad_scale as f32).collect();
            f(&mut s.param, &mut grad, &mut s.m, &mut s.v, max_norm as f32, constants);
        },
        |s| {
            vec![
                Output::new("param", &mut s.param, 1e-5),
                Output::new("m", &mut s.m, 1e-5),
                Output::new("v", &mut s.v, 1e-5),
                Output::new("outcome", &mut s.outcome, 1e-5),
            ]
        },
    )
}

/// Clips the gradients in place, by `Clip` or by the function.
fn scaling(lengths: &[usize], m: &Memory, by_clip: bool) -> Box<dyn Run> {
    let n: usize = lengths.iter().sum();
    let ClipConfig { max_norm, grad_scale: scale } =
        if by_clip { UNSCALE } else { ClipConfig { max_norm: 0.5, grad_scale: 1.0 } };
    let clip = Clip::new(UNSCALE).expect("valid");
    let lengths = lengths.to_vec();
    instance(
        (m.input(n, 4), m.output(3)),
        Work::sweep(8 * n, 4 * n, 3.0 * n as f64),
        move |(grad, told): &mut (Buf, Buf)| {
            let mut grad = parts_mut(grad, &lengths);
            let mut grads: [&mut [f32]; MOST] = from_fn(|_| grad.next().unwrap_or_default());
            let grads = &mut grads[..lengths.len()];
            let outcome =
                if by_clip { clip.clip(grads) } else { clip_grad_norm(grads, max_norm).expect("above 0") };
            tell(told, outcome);
        },
        move |(grad, told), _| {
            let outcome = outcome(norm_of(grad, scale), max_norm);
            tell(told, outcome);
            let factor = (outcome.clip_factor / scale) as f32;
            grad.iter_mut().for_each(|g| *g *= factor);
        },
        |(grad, told)| vec![Output::new("grad", grad, 1e-5), Output::new("outcome", told, 1e-5)],
    )
}
