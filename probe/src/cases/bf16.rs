//! bf16: the conversions, and AdamW on parameters that are kept in each of its ways.

use std::hint::black_box;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::bf16;
use hotlanes::naive::{self, AdamWConstants, bf16 as plain};

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// Rounding.
pub(super) const NARROW: Case = Case {
    name: "bf16_from_f32",
    kernel: "hotlanes::bf16::kernel::Narrow",
    sizes: [512, 1024],
    elements_per_size: 1,
    element: "value",
    gather: true,
    forced: true,
    prepare: |n| narrow(n, bf16::from_f32),
    twin: Some(|n| narrow(n, plain::bf16_from_f32_auto)),
};

/// The way back.
pub(super) const WIDEN: Case = Case {
    name: "bf16_to_f32",
    kernel: "hotlanes::bf16::kernel::Widen",
    prepare: |n| widen(n, bf16::to_f32),
    twin: Some(|n| widen(n, plain::bf16_to_f32_auto)),
    ..NARROW
};

/// The cut in two.
pub(super) const SPLIT: Case = Case {
    name: "bf16_split",
    kernel: "hotlanes::bf16::kernel::Split",
    prepare: |n| halves(n, true),
    twin: None,
    ..NARROW
};

/// And its inverse.
pub(super) const JOIN: Case = Case {
    name: "bf16_join",
    kernel: "hotlanes::bf16::kernel::Join",
    prepare: |n| halves(n, false),
    twin: None,
    ..NARROW
};

/// AdamW with f32 parameters and their copies, the gradient in bf16.
pub(super) const ADAMW_COPY: Case = Case {
    name: "adamw_bf16_copy",
    kernel: "hotlanes::adamw::mixed::Mixed",
    sizes: [256, 512],
    element: "parameter",
    prepare: |n| adamw(n, false, true),
    twin: Some(adamw_twin),
    ..NARROW
};

/// The same from a gradient in f32.
pub(super) const ADAMW_COPY_F32: Case =
    Case { name: "adamw_bf16_copy_f32", prepare: |n| adamw(n, false, false), twin: None, ..ADAMW_COPY };

/// AdamW on parameters that are cut in two, the gradient in bf16.
pub(super) const ADAMW_SPLIT: Case =
    Case { name: "adamw_bf16_split", prepare: |n| adamw(n, true, true), twin: None, ..ADAMW_COPY };

/// The same from a gradient in f32.
pub(super) const ADAMW_SPLIT_F32: Case =
    Case { name: "adamw_bf16_split_f32", prepare: |n| adamw(n, true, false), twin: None, ..ADAMW_COPY };

fn as_f32(halves: &[u16]) -> Vec<f32> {
    halves.iter().map(|h| f32::from(*h)).collect()
}

fn narrow(n: usize, run: impl Fn(&[f32], &mut [u16]) + 'static) -> Box<dyn Prepared> {
    prepared(
        (data(n, 1), vec![7; n]),
        move |s| {
            let (src, dst) = black_box(s);
            run(src, dst);
        },
        |(src, dst)| {
            let mut want = vec![7; src.len()];
            plain::bf16_from_f32(src, &mut want);
            close("bf16", &as_f32(dst), &as_f32(&want), 0.0);
        },
    )
}

fn widen(n: usize, run: impl Fn(&[u16], &mut [f32]) + 'static) -> Box<dyn Prepared> {
    let mut src = vec![7; n];
    bf16::from_f32(&data(n, 1), &mut src);
    prepared(
        (src, vec![f32::NAN; n]),
        move |s| {
            let (src, dst) = black_box(s);
            run(src, dst);
        },
        |(src, dst)| {
            let mut want = vec![f32::NAN; src.len()];
            plain::bf16_to_f32(src, &mut want);
            close("f32", dst, &want, 0.0);
        },
    )
}

fn halves(n: usize, split: bool) -> Box<dyn Prepared> {
    let (mut high, mut low) = (vec![7; n], vec![7; n]);
    if !split {
        bf16::split(&data(n, 1), &mut high, &mut low);
    }
    prepared(
        (data(n, 1), high, low, vec![f32::NAN; n]),
        move |s| {
            let (src, high, low, dst) = black_box(s);
            if split { bf16::split(src, high, low) } else { bf16::join(high, low, dst) }
        },
        |(src, high, low, _)| {
            let joined = |(h, l): (&u16, &u16)| {
                f32::from_bits(((*h as u32) << 16).wrapping_add_signed(*l as i16 as i32))
            };
            let dst: Vec<f32> = high.iter().zip(low).map(joined).collect();
            close("joined", &dst, src, 0.0);
        },
    )
}

const STEP: i32 = 10;

/// A tensor in the middle of training.
struct Tensor {
    param: Vec<f32>,
    high: Vec<u16>,
    low: Vec<u16>,
    grad: Vec<f32>,
    half: Vec<u16>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Tensor {
    fn new(n: usize) -> Self {
        let (param, mut grad) = (data(n, 1), data(n, 2));
        let (mut high, mut low, mut half) = (vec![7; n], vec![7; n], vec![7; n]);
        bf16::split(&param, &mut high, &mut low);
        bf16::from_f32(&grad, &mut half);
        bf16::to_f32(&half, &mut grad);
        let v = data(n, 4).into_iter().map(|x| 0.25 + x * x).collect();
        Tensor { param, high, low, grad, half, m: data(n, 3), v }
    }
}

fn adamw(n: usize, split: bool, half: bool) -> Box<dyn Prepared> {
    let step = AdamW::new(AdamWConfig::default()).and_then(|a| a.at(STEP as u64)).expect("valid");
    prepared(
        Tensor::new(n),
        move |s| {
            let Tensor { param, high, low, grad, half: half_grad, m, v } = black_box(s);
            step.update_bf16(Bf16Tensor {
                param: if split {
                    Bf16Param::Split { high, low }
                } else {
                    Bf16Param::Copy { param, copy: high }
                },
                grad: if half { Gradient::Bf16(half_grad) } else { Gradient::F32(grad) },
                m,
                v,
            });
        },
        move |s| {
            let mut want = Tensor::new(s.param.len());
            let Tensor { param, grad, m, v, .. } = &mut want;
            step.update(AdamWTensor { param, grad, m, v, v_max: None });
            let mut high = vec![7; s.param.len()];
            if split {
                bf16::split(&want.param, &mut high, &mut want.low);
                close("low", &as_f32(&s.low), &as_f32(&want.low), 0.0);
            } else {
                bf16::from_f32(&want.param, &mut high);
                close("param", &s.param, &want.param, 0.0);
            }
            close("high", &as_f32(&s.high), &as_f32(&high), 0.0);
            close("m", &s.m, &want.m, 0.0);
            close("v", &s.v, &want.v, 0.0);
        },
    )
}

fn adamw_twin(n: usize) -> Box<dyn Prepared> {
    let constants =
        AdamWConstants { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2, step: STEP };
    prepared(
        Tensor::new(n),
        move |s| {
            let Tensor { param, high, half, m, v, .. } = black_box(s);
            plain::adamw_bf16_auto(param, high, half, m, v, constants);
        },
        move |s| {
            let mut want = Tensor::new(s.param.len());
            let Tensor { param, grad, m, v, .. } = &mut want;
            naive::adamw(param, grad, m, v, constants);
            close("param", &s.param, &want.param, 1e-6);
            close("m", &s.m, &want.m, 1e-6);
            close("v", &s.v, &want.v, 1e-6);
        },
    )
}
