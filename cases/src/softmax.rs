//! Softmax and its logarithm, forward and backward: four rows together, and sixteen short ones.

use hotlanes::naive::loss as naive;
use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward, softmax_in_place};
use hotlanes::tuning::{SOFTMAX_LONG, SOFTMAX_PARALLEL, SOFTMAX_PIECE, SOFTMAX_SMALL};

use crate::memory::{Buf, Memory, Place};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{Size, dims, grid, label, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    SOFTMAX,
    Case {
        id: "softmax_small",
        bits: Bits::In("softmax_fwd"),
        counted: Counted::At { sizes: [&[16, 16], &[32, 16]], elements: product, element: "value" },
        timed: Timed::Not("softmax_fwd at fewer features"),
        ..SOFTMAX
    },
    Case {
        id: "softmax_in_place",
        covers: &["softmax::softmax_in_place"],
        kernel: "hotlanes::softmax::forward::Forward<1>",
        build: |size, m| rows(size, m, Kind::InPlace),
        same_as: Some(("softmax_fwd", <[usize]>::to_vec)),
        timed: Timed::Not("softmax_fwd over its input"),
        twin: false,
        ..SOFTMAX
    },
    Case {
        id: "log_softmax_fwd",
        covers: &["softmax::log_softmax"],
        kernel: "hotlanes::softmax::forward::Forward<2>",
        build: |size, m| rows(size, m, Kind::Log),
        timed: Timed::At { report: &[], full: &[&[2048, 512]], bench: &[&[256, 512]] },
        ..SOFTMAX
    },
    Case {
        id: "softmax_bwd",
        covers: &["softmax::softmax_backward"],
        kernel: "hotlanes::softmax::backward::Backward<false>",
        build: |size, m| rows(size, m, Kind::Backward),
        ..SOFTMAX
    },
    Case {
        id: "log_softmax_bwd",
        covers: &["softmax::log_softmax_backward"],
        kernel: "hotlanes::softmax::backward::Backward<true>",
        build: |size, m| rows(size, m, Kind::LogBackward),
        timed: Timed::At { report: &[], full: &[&[2048, 512]], bench: &[&[256, 512]] },
        ..SOFTMAX
    },
];

/// Sizes are rows and features.
const SOFTMAX: Case = Case {
    id: "softmax_fwd",
    covers: &["softmax::softmax"],
    kernel: "hotlanes::softmax::forward::Forward<0>",
    build: |size, m| rows(size, m, Kind::Forward),
    label,
    bits: Bits::At { sizes: shapes, random: &[(0, 40), (1, 300)] },
    threads: THREADS,
    same_as: None,
    counted: Counted::At { sizes: [&[4, 256], &[8, 256]], elements: product, element: "value" },
    timed: Timed::At {
        report: &[&[256, 512], &[2048, 512], &[2048, 65]],
        full: &[&[4096, 10], &[64, 32_768]],
        bench: &[],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

pub(crate) const THREADS: Threads = Threads::From {
    below: &[63, SOFTMAX_PARALLEL / 64],
    at: &[
        &[64, SOFTMAX_PARALLEL / 64],
        &[5, 2 * SOFTMAX_PIECE - 1],
        &[9, SOFTMAX_PIECE + 1],
        &[SOFTMAX_PARALLEL / 10 + 1, 10],
    ],
};

/// One vector of features and two; around the thresholds of short rows and of long ones.
pub(crate) fn shapes() -> Vec<Size> {
    let mut all = grid(&[0, 1, 3, 4, 5, 15, 16, 17, 21], &[1, 2, 10, 15, 16, 17, 31, 32, 33]);
    all.extend(grid(&[1, 4, 19], &[47, 63, 64, 65, 80, 112]));
    all.extend(grid(&[3, 15, 16, 17, 33], &[SOFTMAX_SMALL - 1, SOFTMAX_SMALL, SOFTMAX_SMALL + 1]));
    all.extend(grid(&[1, 5], &[SOFTMAX_LONG - 1, SOFTMAX_LONG, SOFTMAX_LONG + 1, 2 * SOFTMAX_LONG + 3]));
    all
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Forward,
    InPlace,
    Log,
    Backward,
    LogBackward,
}

struct State {
    /// `x`, or for a backward the forward's output.
    x: Buf,
    dy: Buf,
    out: Buf,
}

fn rows(size: &[usize], m: &Memory, kind: Kind) -> Box<dyn Run> {
    let [rows, features] = dims(size);
    let n = rows * features;
    let is_backward = matches!(kind, Kind::Backward | Kind::LogBackward);
    let mut x = m.input(if kind == Kind::InPlace { 0 } else { n }, 1);
    if is_backward {
        let logits = Memory::new(Place::Aligned, m.values()).input(n, 1);
        let forward = if kind == Kind::Backward { naive::softmax } else { naive::log_softmax };
        let mut y = logits.to_vec();
        forward(&logits, features, &mut y);
        x = m.copy(&y);
    }
    let out = if kind == Kind::InPlace { m.input(n, 1) } else { m.output(n) };
    let inputs = if is_backward { 2 } else { 1 };
    // An exponential is a subtraction, eleven multiply-adds and products, and its sum; then a product.
    let flops = if is_backward { 4.0 } else { 22.0 } * n as f64;
    instance(
        State { x, dy: m.input(if is_backward { n } else { 0 }, 2), out },
        Work::sweep(4 * inputs * n, 4 * n, flops),
        move |s| {
            let State { x, dy, out } = s;
            match kind {
                Kind::Forward => softmax(x, features, out),
                Kind::InPlace => softmax_in_place(out, features),
                Kind::Log => log_softmax(x, features, out),
                Kind::Backward => softmax_backward(dy, x, features, out),
                Kind::LogBackward => log_softmax_backward(dy, x, features, out),
            }
        },
        move |s, which| plain(s, features, kind, which),
        |s| vec![Output::rows("out", &mut s.out, 1e-4)],
    )
}

fn plain(s: &mut State, features: usize, kind: Kind, which: Plain) {
    let State { x, dy, out } = s;
    match kind {
        Kind::Forward => pick!(which, naive::softmax, naive::softmax_auto)(x, features, out),
        Kind::InPlace => {
            let x = out.to_vec();
            naive::softmax(&x, features, out);
        }
        Kind::Log => pick!(which, naive::log_softmax, naive::log_softmax_auto)(x, features, out),
        Kind::Backward => {
            pick!(which, naive::softmax_backward, naive::softmax_backward_auto)(dy, x, features, out);
        }
        Kind::LogBackward => {
            pick!(which, naive::log_softmax_backward, naive::log_softmax_backward_auto)(dy, x, features, out);
        }
    }
}
