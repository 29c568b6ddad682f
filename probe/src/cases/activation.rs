//! Activations, each forward and backward, and `exp` and `log`. The scalar tier emulates some thirty fused operations for each
//! value, so the sizes are one and two groups of four vectors.

use std::hint::black_box;

use hotlanes::activation::{self, Activation};
use hotlanes::naive::activation as naive;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

/// A function of `dy`, `x` and the output.
type Run = fn(&[f32], &[f32], &mut [f32]);

/// What a run reads and writes.
struct Vectors {
    x: Vec<f32>,
    dy: Vec<f32>,
    out: Vec<f32>,
}

/// `offset` is added to values between -2 and 2.
fn prepare(n: usize, offset: f32, run: Run, plain: Run) -> Box<dyn Prepared> {
    let x = data(n, 1).into_iter().map(|x| 2.0 * x + offset).collect();
    let start = Vectors { x, dy: data(n, 2), out: vec![f32::NAN; n] };
    let call = move |s: &mut Vectors| {
        let Vectors { x, dy, out } = black_box(s);
        run(dy, x, out);
    };
    prepared(start, call, move |s| {
        let mut want = vec![f32::NAN; n];
        plain(&s.dy, &s.x, &mut want);
        close("result", &s.out, &want, 2e-6);
    })
}

const FORWARD: Case = Case {
    name: "",
    kernel: "",
    sizes: [64, 128],
    elements_per_size: 1,
    element: "value",
    gather: true,
    forced: true,
    prepare: |_| unreachable!("each case has its own"),
    twin: None,
};

/// A forward and a backward case.
macro_rules! cases {
    ($($forward:ident $backward:ident $activation:ident $fwd:literal $bwd:literal;)*) => {
        $(
            /// The forward.
            pub(super) const $forward: Case = Case {
                name: $fwd,
                kernel: concat!("hotlanes::activation::kernel::Forward<hotlanes::activation::functions::", stringify!($activation), ">"),
                prepare: |n| prepare(
                    n,
                    0.0,
                    |_, x, y| Activation::$activation.forward(x, y),
                    |_, x, y| naive::activation_forward(Activation::$activation, x, y),
                ),
                twin: Some(|n| prepare(
                    n,
                    0.0,
                    |_, x, y| naive::activation_forward_auto(Activation::$activation, x, y),
                    |_, x, y| naive::activation_forward(Activation::$activation, x, y),
                )),
                ..FORWARD
            };

            /// The backward.
            pub(super) const $backward: Case = Case {
                name: $bwd,
                kernel: concat!("hotlanes::activation::kernel::Backward<hotlanes::activation::functions::", stringify!($activation), ">"),
                prepare: |n| prepare(
                    n,
                    0.0,
                    |dy, x, dx| Activation::$activation.backward(dy, x, dx),
                    |dy, x, dx| naive::activation_backward(Activation::$activation, dy, x, dx),
                ),
                twin: Some(|n| prepare(
                    n,
                    0.0,
                    |dy, x, dx| naive::activation_backward_auto(Activation::$activation, dy, x, dx),
                    |dy, x, dx| naive::activation_backward(Activation::$activation, dy, x, dx),
                )),
                ..FORWARD
            };
        )*
    };
}

cases! {
    RELU_FWD RELU_BWD Relu "relu_fwd" "relu_bwd";
    SQUARED_RELU_FWD SQUARED_RELU_BWD SquaredRelu "squared_relu_fwd" "squared_relu_bwd";
    SILU_FWD SILU_BWD Silu "silu_fwd" "silu_bwd";
    GELU_TANH_FWD GELU_TANH_BWD GeluTanh "gelu_tanh_fwd" "gelu_tanh_bwd";
    GELU_ERF_FWD GELU_ERF_BWD GeluErf "gelu_erf_fwd" "gelu_erf_bwd";
    SIGMOID_FWD SIGMOID_BWD Sigmoid "sigmoid_fwd" "sigmoid_bwd";
    TANH_FWD TANH_BWD Tanh "tanh_fwd" "tanh_bwd";
}

/// `e^x`
pub(super) const EXP: Case = Case {
    name: "exp",
    kernel: "hotlanes::activation::kernel::Forward<hotlanes::activation::functions::Exp>",
    prepare: |n| prepare(n, 0.0, |_, x, y| activation::exp(x, y), |_, x, y| naive::exp(x, y)),
    twin: Some(|n| prepare(n, 0.0, |_, x, y| naive::exp_auto(x, y), |_, x, y| naive::exp(x, y))),
    ..FORWARD
};

/// The logarithm.
pub(super) const LOG: Case = Case {
    name: "log",
    kernel: "hotlanes::activation::kernel::Forward<hotlanes::activation::functions::Log>",
    prepare: |n| prepare(n, 3.0, |_, x, y| activation::log(x, y), |_, x, y| naive::log(x, y)),
    twin: Some(|n| prepare(n, 3.0, |_, x, y| naive::log_auto(x, y), |_, x, y| naive::log(x, y))),
    ..FORWARD
};
