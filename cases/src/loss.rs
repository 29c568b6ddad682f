//! Elementwise losses: alone, with their gradient, and with the gradient over the predictions.

use hotlanes::loss::{Huber, Loss, PIECE};
use hotlanes::naive::loss as naive;
use hotlanes::reduce::BLOCK;
use hotlanes::tuning::LOSS_PARALLEL;

use crate::memory::{Buf, Memory};
use crate::run::{Output, Plain, Run, Work, instance, pick};
use crate::sizes::{Size, dims, label, lengths, product};
use crate::{Bits, Case, Counted, Threads, Timed};

/// For each loss: with its gradient, in place, and alone.
macro_rules! table {
    ($($id:literal $function:literal $loss:expr;)*) => {
        pub(crate) const CASES: &[Case] = &[
            $(
                Case {
                    id: $id,
                    kernel: concat!("hotlanes::loss::kernel::Sweep<hotlanes::loss::", $function, ", 1>"),
                    build: |size, m| losses(size, m, $loss, Kind::Both),
                    ..BOTH
                },
                Case {
                    id: concat!($id, "_in_place"),
                    covers: &["loss::Loss::forward_backward_in_place"],
                    kernel: concat!("hotlanes::loss::kernel::Sweep<hotlanes::loss::", $function, ", 2>"),
                    build: |size, m| losses(size, m, $loss, Kind::Over),
                    same_as: Some(($id, <[usize]>::to_vec)),
                    ..VARIANT
                },
                Case {
                    id: concat!($id, "_fwd"),
                    covers: &["loss::Loss::forward"],
                    kernel: concat!("hotlanes::loss::kernel::Sweep<hotlanes::loss::", $function, ", 0>"),
                    build: |size, m| losses(size, m, $loss, Kind::Forward),
                    same_as: Some(($id, <[usize]>::to_vec)),
                    ..VARIANT
                },
            )*
        ];
    };
}

table! {
    "mse" "functions::Mse" Loss::Mse;
    "l1" "functions::L1" Loss::L1;
    "huber" "Huber" Loss::Huber(Huber::new(DELTA).expect("a delta"));
    "bce_with_logits" "functions::BceWithLogits" Loss::BceWithLogits;
}

/// Inputs are around 1: differences lie on both sides of it.
const DELTA: f64 = 0.7;
const SCALE: f32 = 0.3;

const BOTH: Case = Case {
    id: "",
    covers: &["loss::Loss::forward_backward"],
    kernel: "",
    build: |_, _| unreachable!("each case has its own"),
    label,
    bits: Bits::At { sizes, random: &[(0, 700)] },
    threads: Threads::From {
        below: &[LOSS_PARALLEL - 1],
        at: &[&[LOSS_PARALLEL], &[LOSS_PARALLEL + PIECE + 7]],
    },
    same_as: None,
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "value" },
    timed: Timed::At { report: &[&[65_536], &[1 << 20]], full: &[&[1 << 22]], bench: &[&[4096]] },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const VARIANT: Case =
    Case { timed: Timed::At { report: &[], full: &[&[1 << 20]], bench: &[&[65_536]] }, twin: false, ..BOTH };

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Both,
    /// The gradient over the predictions.
    Over,
    /// The sum alone.
    Forward,
}

fn sizes() -> Vec<Size> {
    let mut all = lengths();
    all.extend([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 70, PIECE + 1].map(|n| vec![n]));
    all
}

struct State {
    x: Buf,
    target: Buf,
    dx: Buf,
    /// An f64 as the nearest f32 and what that leaves.
    sum: Buf,
}

fn losses(size: &[usize], m: &Memory, loss: Loss, kind: Kind) -> Box<dyn Run> {
    let [n] = dims(size);
    let written = if kind == Kind::Forward { 0 } else { 4 * n };
    let (value, gradient) = match loss {
        Loss::Mse => (3, 1),
        Loss::L1 => (3, 2),
        Loss::Huber(_) => (7, 1),
        // An exponential of 20, a logarithm of 19; with the gradient a quotient.
        Loss::BceWithLogits => (43, 5),
    };
    let flops = value + if kind == Kind::Forward { 0 } else { gradient };
    let state = State {
        x: m.input(n, 1),
        // Ordinary ones are from 0 to 1.
        target: m.positive(n, 2),
        dx: m.output(if kind == Kind::Both { n } else { 0 }),
        sum: m.output(2),
    };
    let work = Work {
        in_place: kind == Kind::Over,
        working_set: 8 * n + if kind == Kind::Both { 4 * n } else { 0 },
        ..Work::sweep(8 * n, written, (flops * n) as f64)
    };
    let run = move |s: &mut State| {
        let sum = match kind {
            Kind::Both => loss.forward_backward(&s.x, &s.target, SCALE, &mut s.dx),
            Kind::Over => loss.forward_backward_in_place(&mut s.x, &s.target, SCALE),
            Kind::Forward => loss.forward(&s.x, &s.target),
        };
        s.sum[0] = sum as f32;
        s.sum[1] = (sum - f64::from(s.sum[0])) as f32;
    };
    let outputs: fn(&mut State) -> Vec<Output<'_>> = match kind {
        Kind::Both => |s| vec![sum(&mut s.sum), dx(&mut s.dx)],
        Kind::Over => |s| vec![sum(&mut s.sum), dx(&mut s.x)],
        Kind::Forward => |s| vec![sum(&mut s.sum)],
    };
    instance(state, work, run, move |s, which| plain(s, loss, kind, which), outputs)
}

fn sum(values: &mut Buf) -> Output<'_> {
    // What the plain loop loses in one long f32 sum.
    Output::new("sum", values, 2e-2)
}

fn dx(values: &mut Buf) -> Output<'_> {
    Output::rows("dx", values, 1e-5)
}

fn plain(s: &mut State, loss: Loss, kind: Kind, which: Plain) {
    let [sum, rest] = &mut s.sum[..] else { unreachable!("two results") };
    *rest = 0.0;
    // The plain loops are not in place, and have no form without a gradient.
    let mut own = vec![0.0; if kind == Kind::Both { 0 } else { s.x.len() }];
    let dx = if kind == Kind::Both { &mut s.dx[..] } else { &mut own[..] };
    let f: Naive = match loss {
        Loss::Huber(_) => pick!(which, huber, huber_auto),
        Loss::Mse => pick!(which, naive::mse, naive::mse_auto),
        Loss::L1 => pick!(which, naive::l1, naive::l1_auto),
        Loss::BceWithLogits => pick!(which, naive::bce_with_logits, naive::bce_with_logits_auto),
    };
    f(&s.x, &s.target, SCALE, dx, sum);
    if kind == Kind::Over {
        s.x.copy_from_slice(&own);
    }
}

type Naive = fn(&[f32], &[f32], f32, &mut [f32], &mut f32);

fn huber(x: &[f32], target: &[f32], scale: f32, dx: &mut [f32], sum: &mut f32) {
    naive::huber(x, target, DELTA as f32, scale, dx, sum);
}

fn huber_auto(x: &[f32], target: &[f32], scale: f32, dx: &mut [f32], sum: &mut f32) {
    naive::huber_auto(x, target, DELTA as f32, scale, dx, sum);
}
