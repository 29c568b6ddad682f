//! Activations, each forward, with the slope and backward, in place too, and `exp` and `log`.

use hotlanes::activation::{self, Activation};
use hotlanes::naive::activation as naive;
use hotlanes::tuning::{ACTIVATION_PARALLEL, ACTIVATION_PIECE};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

const FORWARD: Case = Case {
    id: "",
    covers: &["activation::Activation::forward"],
    kernel: "",
    build: |_, _| unreachable!("each case has its own"),
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 400)] },
    threads: Threads::From {
        below: &[ACTIVATION_PARALLEL - 1],
        at: &[&[ACTIVATION_PARALLEL], &[5 * ACTIVATION_PIECE + 7]],
    },
    same_as: None,
    // The scalar tier emulates some thirty fused operations for each value: one and two groups of four vectors.
    counted: Counted::At { sizes: [&[64], &[128]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[1 << 20]], full: &[&[1 << 16]], bench: &[&[4096]] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const RARE: Timed = Timed::At { report: &[], full: &[&[1 << 20]], bench: &[&[1 << 16]] };
const IN_PLACE: Case = Case {
    counted: Counted::Not("the loop of the case that is not in place"),
    timed: Timed::Not("the loop of the case that is not in place"),
    twin: false,
    ..FORWARD
};

/// For each activation: forward, backward, and both in place; the forward with the slope.
macro_rules! table {
    ($($activation:ident $fwd:literal $bwd:literal $slope:literal $timed:expr;)*) => {
        pub(crate) const CASES: &[Case] = &[
            $(
                Case {
                    id: $fwd,
                    kernel: concat!(
                        "hotlanes::activation::kernel::Forward<hotlanes::activation::functions::",
                        stringify!($activation), ">"
                    ),
                    build: |size, m| forward(size, m, Activation::$activation),
                    timed: $timed,
                    ..FORWARD
                },
                Case {
                    id: $bwd,
                    covers: &["activation::Activation::backward"],
                    kernel: concat!(
                        "hotlanes::activation::kernel::Backward<hotlanes::activation::functions::",
                        stringify!($activation), ">"
                    ),
                    build: |size, m| backward(size, m, Activation::$activation),
                    timed: $timed,
                    ..FORWARD
                },
                Case {
                    id: $slope,
                    covers: &["activation::Activation::forward_with_slope"],
                    kernel: concat!(
                        "hotlanes::activation::kernel::ForwardSlope<hotlanes::activation::functions::",
                        stringify!($activation), ">"
                    ),
                    build: |size, m| forward_with_slope(size, m, Activation::$activation),
                    same_as: Some(($fwd, <[usize]>::to_vec)),
                    timed: $timed,
                    ..FORWARD
                },
                Case {
                    id: concat!($fwd, "_in_place"),
                    covers: &["activation::Activation::forward_in_place"],
                    build: |size, m| forward_in_place(size, m, Activation::$activation),
                    same_as: Some(($fwd, <[usize]>::to_vec)),
                    ..IN_PLACE
                },
                Case {
                    id: concat!($bwd, "_in_place"),
                    covers: &["activation::Activation::backward_in_place"],
                    build: |size, m| backward_in_place(size, m, Activation::$activation),
                    same_as: Some(($bwd, <[usize]>::to_vec)),
                    ..IN_PLACE
                },
            )*
            Case {
                id: "identity_fwd",
                build: |size, m| forward(size, m, Activation::Identity),
                threads: Threads::Never("a copy"),
                counted: Counted::Not("a copy"),
                timed: Timed::Not("a copy"),
                twin: false,
                ..FORWARD
            },
            Case {
                id: "identity_fwd_slope",
                covers: &["activation::Activation::forward_with_slope"],
                build: |size, m| forward_with_slope(size, m, Activation::Identity),
                threads: Threads::Never("a copy"),
                counted: Counted::Not("a copy"),
                timed: Timed::Not("a copy"),
                twin: false,
                ..FORWARD
            },
            Case {
                id: "identity_bwd",
                covers: &["activation::Activation::backward"],
                build: |size, m| backward(size, m, Activation::Identity),
                threads: Threads::Never("a copy"),
                counted: Counted::Not("a copy"),
                timed: Timed::Not("a copy"),
                twin: false,
                ..FORWARD
            },
            Case {
                id: "exp",
                covers: &["activation::exp"],
                kernel: "hotlanes::activation::kernel::Forward<hotlanes::activation::functions::Exp>",
                build: |size, m| function(m, m.input(size[0], 1), activation::exp, [naive::exp, naive::exp_auto]),
                timed: RARE,
                ..FORWARD
            },
            Case {
                id: "exp_in_place",
                covers: &["activation::exp_in_place"],
                build: |size, m| function_in_place(m, m.input(size[0], 1), activation::exp_in_place, naive::exp),
                same_as: Some(("exp", <[usize]>::to_vec)),
                ..IN_PLACE
            },
            Case {
                id: "log",
                covers: &["activation::log"],
                kernel: "hotlanes::activation::kernel::Forward<hotlanes::activation::functions::Log>",
                build: |size, m| function(m, m.positive(size[0], 1), activation::log, [naive::log, naive::log_auto]),
                timed: RARE,
                ..FORWARD
            },
            Case {
                id: "log_in_place",
                covers: &["activation::log_in_place"],
                build: |size, m| function_in_place(m, m.positive(size[0], 1), activation::log_in_place, naive::log),
                same_as: Some(("log", <[usize]>::to_vec)),
                ..IN_PLACE
            },
        ];
    };
}

table! {
    GeluTanh "gelu_tanh_fwd" "gelu_tanh_bwd" "gelu_tanh_fwd_slope" FORWARD.timed;
    GeluErf "gelu_erf_fwd" "gelu_erf_bwd" "gelu_erf_fwd_slope" FORWARD.timed;
    Silu "silu_fwd" "silu_bwd" "silu_fwd_slope" FORWARD.timed;
    Relu "relu_fwd" "relu_bwd" "relu_fwd_slope" RARE;
    SquaredRelu "squared_relu_fwd" "squared_relu_bwd" "squared_relu_fwd_slope" RARE;
    Sigmoid "sigmoid_fwd" "sigmoid_bwd" "sigmoid_fwd_slope" RARE;
    Tanh "tanh_fwd" "tanh_bwd" "tanh_fwd_slope" RARE;
}

/// A power of two 17, its argument 5, the reciprocal 14 where it is not divided, the product 1.
const FLOPS: f64 = 37.0;

fn work(n: usize, inputs: usize) -> Work {
    Work::sweep(4 * inputs * n, 4 * n, FLOPS * n as f64)
}

struct State {
    x: Buf,
    dy: Buf,
    out: Buf,
}

fn outputs(s: &mut State) -> Vec<Output<'_>> {
    vec![Output::rows("out", &mut s.out, 2e-6)]
}

fn forward(size: &[usize], m: &Memory, f: Activation) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        State { x: m.input(n, 1), dy: m.input(0, 2), out: m.output(n) },
        work(n, 1),
        move |s| f.forward(&s.x, &mut s.out),
        move |s, which| {
            pick!(which, naive::activation_forward, naive::activation_forward_auto)(f, &s.x, &mut s.out)
        },
        outputs,
    )
}

/// `x` is the slope's output too.
fn forward_with_slope(size: &[usize], m: &Memory, f: Activation) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        State { x: m.input(n, 1), dy: m.input(0, 2), out: m.output(n) },
        // The slope adds a product and a fused multiply-add.
        Work { working_set: 8 * n, ..Work::sweep(4 * n, 8 * n, (FLOPS + 3.0) * n as f64) },
        move |s| f.forward_with_slope(&mut s.x, &mut s.out),
        move |s, which| {
            let plain =
                pick!(which, naive::activation_forward_with_slope, naive::activation_forward_with_slope_auto);
            plain(f, &mut s.x, &mut s.out);
        },
        |s| vec![Output::rows("out", &mut s.out, 2e-6), Output::rows("slope", &mut s.x, 2e-6)],
    )
}

fn backward(size: &[usize], m: &Memory, f: Activation) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        State { x: m.input(n, 1), dy: m.input(n, 2), out: m.output(n) },
        work(n, 2),
        move |s| f.backward(&s.dy, &s.x, &mut s.out),
        move |s, which| {
            let plain = pick!(which, naive::activation_backward, naive::activation_backward_auto);
            plain(f, &s.dy, &s.x, &mut s.out);
        },
        outputs,
    )
}

/// `out` is the input too.
fn forward_in_place(size: &[usize], m: &Memory, f: Activation) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        State { x: m.input(0, 3), dy: m.input(0, 2), out: m.input(n, 1) },
        work(n, 1),
        move |s| f.forward_in_place(&mut s.out),
        move |s, _| {
            let x = s.out.to_vec();
            naive::activation_forward(f, &x, &mut s.out);
        },
        outputs,
    )
}

/// `out` is `dy` too.
fn backward_in_place(size: &[usize], m: &Memory, f: Activation) -> Box<dyn Run> {
    let [n] = dims(size);
    instance(
        State { x: m.input(n, 1), dy: m.input(0, 3), out: m.input(n, 2) },
        work(n, 2),
        move |s| f.backward_in_place(&mut s.out, &s.x),
        move |s, _| {
            let dy = s.out.to_vec();
            naive::activation_backward(f, &dy, &s.x, &mut s.out);
        },
        outputs,
    )
}

type Function = fn(&[f32], &mut [f32]);

fn function(m: &Memory, x: Buf, f: Function, plain: [Function; 2]) -> Box<dyn Run> {
    let n = x.len();
    instance(
        State { x, dy: m.input(0, 2), out: m.output(n) },
        work(n, 1),
        move |s| f(&s.x, &mut s.out),
        move |s, which| pick!(which, plain[0], plain[1])(&s.x, &mut s.out),
        outputs,
    )
}

fn function_in_place(m: &Memory, x: Buf, f: fn(&mut [f32]), plain: Function) -> Box<dyn Run> {
    let n = x.len();
    instance(
        State { x: m.input(0, 3), dy: m.input(0, 2), out: x },
        work(n, 1),
        move |s| f(&mut s.out),
        move |s, _| {
            let x = s.out.to_vec();
            plain(&x, &mut s.out);
        },
        outputs,
    )
}
