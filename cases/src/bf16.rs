//! bf16: the conversions, and AdamW on parameters that are kept in each of its ways.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::bf16;
use hotlanes::naive::{AdamWConstants, bf16 as naive};
use hotlanes::tuning::{ADAMW_PARALLEL, ADAMW_PIECE};

use crate::memory::{Buf, Memory, Place};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    NARROW,
    Case {
        id: "bf16_to_f32",
        covers: &["bf16::to_f32"],
        kernel: "hotlanes::bf16::kernel::Widen",
        build: widen,
        timed: Timed::At { report: &[], full: &[&[2_359_296]], bench: &[&[65_536]] },
        ..NARROW
    },
    Case {
        id: "bf16_split",
        covers: &["bf16::split"],
        kernel: "hotlanes::bf16::kernel::Split",
        build: split,
        timed: Timed::At { report: &[], full: &[&[2_359_296]], bench: &[&[65_536]] },
        twin: false,
        ..NARROW
    },
    Case {
        id: "bf16_join",
        covers: &["bf16::join"],
        kernel: "hotlanes::bf16::kernel::Join",
        build: join,
        timed: Timed::At { report: &[], full: &[&[2_359_296]], bench: &[&[65_536]] },
        twin: false,
        ..NARROW
    },
    Case { id: "adamw_bf16_copy", build: |size, m| adamw(size, m, false, true), twin: true, ..ADAMW },
    Case {
        id: "adamw_bf16_copy_f32",
        build: |size, m| adamw(size, m, false, false),
        timed: Timed::Not("a variant of adamw_bf16_copy"),
        ..ADAMW
    },
    Case { id: "adamw_bf16_split", build: |size, m| adamw(size, m, true, true), ..ADAMW },
    Case {
        id: "adamw_bf16_split_f32",
        build: |size, m| adamw(size, m, true, false),
        timed: Timed::Not("a variant of adamw_bf16_split"),
        ..ADAMW
    },
];

const NARROW: Case = Case {
    id: "bf16_from_f32",
    covers: &["bf16::from_f32"],
    kernel: "hotlanes::bf16::kernel::Narrow",
    build: narrow,
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::Never("a conversion is as fast as memory on one thread"),
    same_as: None,
    counted: Counted::At { sizes: [&[512], &[1024]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[65_536], &[2_359_296]], full: &[&[1 << 25]], bench: &[] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const ADAMW: Case = Case {
    covers: &["adamw::AdamWStep::update_bf16"],
    kernel: "hotlanes::adamw::mixed::Mixed",
    scalar_stepped: false,
    threads: Threads::From { below: &[ADAMW_PARALLEL - 1], at: &[&[ADAMW_PARALLEL], &[5 * ADAMW_PIECE + 7]] },
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "parameter" },
    twin: false,
    ..NARROW
};

fn narrow(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.input(n, 1), m.output::<u16>(n)),
        Work::sweep(4 * n, 2 * n, 0.0),
        |(x, half): &mut (Buf, Buf<u16>)| bf16::from_f32(x, half),
        |(x, half), which| pick!(which, naive::bf16_from_f32, naive::bf16_from_f32_auto)(x, half),
        |(_, half)| vec![Output::rows("half", half, 0.0)],
    )
}

fn widen(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.bf16(n, 1), m.output(n)),
        Work::sweep(2 * n, 4 * n, 0.0),
        |(half, x): &mut (Buf<u16>, Buf)| bf16::to_f32(half, x),
        |(half, x), which| pick!(which, naive::bf16_to_f32, naive::bf16_to_f32_auto)(half, x),
        |(_, x)| vec![Output::rows("x", x, 0.0)],
    )
}

/// The halves of a value: its nearest bf16, and the signed rest of its bits.
fn halves(x: f32) -> [u16; 2] {
    let mut high = [0];
    naive::bf16_from_f32(&[x], &mut high);
    [high[0], (x.to_bits().wrapping_sub(u32::from(high[0]) << 16)) as u16]
}

fn split(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.input(n, 1), m.output::<u16>(n), m.output::<u16>(n)),
        Work::sweep(4 * n, 4 * n, 0.0),
        |(x, high, low): &mut (Buf, Buf<u16>, Buf<u16>)| bf16::split(x, high, low),
        |(x, high, low), _| {
            for (i, x) in x.iter().enumerate() {
                [high[i], low[i]] = halves(*x);
            }
        },
        |(_, high, low)| vec![Output::rows("high", high, 0.0), Output::rows("low", low, 0.0)],
    )
}

fn join(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        (m.bf16(n, 1), m.bf16(n, 2), m.output(n)),
        Work::sweep(4 * n, 4 * n, 0.0),
        |(high, low, x): &mut (Buf<u16>, Buf<u16>, Buf)| bf16::join(high, low, x),
        |(high, low, x), _| {
            for (i, x) in x.iter_mut().enumerate() {
                *x = f32::from_bits((u32::from(high[i]) << 16).wrapping_add_signed((low[i] as i16).into()));
            }
        },
        |(_, _, x)| vec![Output::rows("x", x, 0.0)],
    )
}

const STEP: i32 = 10;

struct Tensor {
    /// Empty where it is split.
    param: Buf,
    high: Buf<u16>,
    low: Buf<u16>,
    grad: Buf,
    half: Buf<u16>,
    m: Buf,
    v: Buf,
}

/// A step on halves or on an f32 parameter with a copy, from a gradient in bf16 or f32.
fn adamw(size: &[usize], m: &Memory, is_split: bool, half: bool) -> Box<dyn Run> {
    let [n] = dims(size);
    let step = AdamW::new(AdamWConfig::default()).and_then(|a| a.at(STEP as u64)).expect("valid");
    let param = Memory::new(Place::Aligned, m.values()).input(n, 1);
    let all: Vec<[u16; 2]> = param.iter().map(|x| halves(*x)).collect();
    let [high, low] = [0, 1].map(|k| all.iter().map(|h| h[k]).collect::<Vec<_>>());
    let state = Tensor {
        param: m.input(if is_split { 0 } else { n }, 1),
        high: m.copy(&high),
        low: m.copy(if is_split { &low } else { &[] }),
        grad: m.input(if half { 0 } else { n }, 4),
        half: m.bf16(if half { n } else { 0 }, 4),
        m: m.input(n, 2),
        v: m.positive(n, 3),
    };
    // The copy is written alone; halves are read and written.
    let (written, set) = if is_split { (12, 14) } else { (14, 16) };
    let work = Work {
        items: n as f64,
        unit: "Gparam/s",
        read: 14.0 * n as f64,
        written: (written * n) as f64,
        in_place: true,
        // As the step in f32.
        flops: 14.0 * n as f64,
        roots: n as f64,
        working_set: set * n,
        ..Work::default()
    };
    instance(
        state,
        work,
        move |s| {
            let Tensor { param, high, low, grad, half: half_grad, m, v } = s;
            step.update_bf16(Bf16Tensor {
                param: if is_split {
                    Bf16Param::Split { high, low }
                } else {
                    Bf16Param::Copy { param, copy: high }
                },
                grad: if half { Gradient::Bf16(half_grad) } else { Gradient::F32(grad) },
                m,
                v,
            });
        },
        move |s, which| {
            let Tensor { param, high, low, grad, half: half_grad, m, v } = s;
            if which == Plain::Auto || (!is_split && half && n >= 1 << 15) {
                let d = AdamWConfig::default();
                let [lr, beta1, beta2, eps, weight_decay] =
                    [d.lr, d.beta1, d.beta2, d.eps, d.weight_decay].map(|x| x as f32);
                let constants = AdamWConstants { lr, beta1, beta2, eps, weight_decay, step: STEP };
                let f = pick!(which, naive::adamw_bf16, naive::adamw_bf16_auto);
                return f(param, high, half_grad, m, v, constants);
            }
            // The step in f32 is another kernel, with the same bits; the halves by themselves.
            let grad: Vec<f32> = match half {
                true => half_grad.iter().map(|h| f32::from_bits(u32::from(*h) << 16)).collect(),
                false => grad.to_vec(),
            };
            let mut whole = param.to_vec();
            if is_split {
                let one =
                    |(h, l): (&u16, &u16)| (u32::from(*h) << 16).wrapping_add_signed((*l as i16).into());
                whole = high.iter().zip(low.iter()).map(one).map(f32::from_bits).collect();
            }
            step.update(AdamWTensor { param: &mut whole, grad: &grad, m, v, v_max: None });
            for (i, x) in whole.into_iter().enumerate() {
                let [h, l] = halves(x);
                high[i] = h;
                if is_split {
                    low[i] = l;
                } else {
                    param[i] = x;
                }
            }
        },
        |s| {
            vec![
                Output::rows("param", &mut s.param, 1e-5),
                // Values that differ in a last bit may round to neighbours.
                Output::rows("high", &mut s.high, 0.01),
                Output::rows("low", &mut s.low, 0.0),
                Output::rows("m", &mut s.m, 1e-5),
                Output::rows("v", &mut s.v, 1e-5),
            ]
        },
    )
}
