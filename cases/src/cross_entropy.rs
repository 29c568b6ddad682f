//! Cross-entropy with its gradient, and of a linear layer in chunks of rows.

use hotlanes::cross_entropy::{CrossEntropy, LINEAR_ROWS, Reduction};
use hotlanes::naive::loss as naive;
use hotlanes::tuning::MATMUL_PARALLEL;

use crate::memory::{Buf, Memory, mix};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{dims, label, product};
use crate::softmax::{THREADS, shapes};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    BOTH,
    Case {
        id: "cross_entropy_small",
        bits: Bits::In("cross_entropy"),
        counted: Counted::At { sizes: [&[16, 16], &[32, 16]], elements: product, element: "value" },
        timed: Timed::Not("cross_entropy at fewer classes"),
        ..BOTH
    },
    Case {
        id: "cross_entropy_smooth",
        kernel: "hotlanes::cross_entropy::kernel::Rows<1, true>",
        build: |size, m| rows(size, m, Kind::Both, 0.1),
        ..VARIANT
    },
    Case { id: "cross_entropy_in_place", same_as: Some(("cross_entropy", <[usize]>::to_vec)), ..OVER },
    Case {
        id: "cross_entropy_in_place_smooth",
        kernel: "hotlanes::cross_entropy::kernel::Rows<2, true>",
        build: |size, m| rows(size, m, Kind::Over, 0.1),
        same_as: Some(("cross_entropy_smooth", <[usize]>::to_vec)),
        ..OVER
    },
    Case { same_as: Some(("cross_entropy", <[usize]>::to_vec)), ..FORWARD },
    Case {
        id: "cross_entropy_fwd_smooth",
        kernel: "hotlanes::cross_entropy::kernel::Rows<0, true>",
        build: |size, m| rows(size, m, Kind::Forward, 0.1),
        same_as: Some(("cross_entropy_smooth", <[usize]>::to_vec)),
        ..FORWARD
    },
    // The sum of many rows' losses.
    Case {
        id: "cross_entropy_total",
        kernel: "hotlanes::cross_entropy::kernel::Total",
        bits: Bits::In("cross_entropy_fwd"),
        counted: Counted::At { sizes: [&[256, 2], &[512, 2]], elements: product, element: "value" },
        ..FORWARD
    },
    LINEAR,
];

/// Loss and gradient; sizes are rows and classes.
const BOTH: Case = Case {
    id: "cross_entropy",
    covers: &["cross_entropy::CrossEntropy::forward_backward"],
    kernel: "hotlanes::cross_entropy::kernel::Rows<1, false>",
    build: |size, m| rows(size, m, Kind::Both, 0.0),
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

const VARIANT: Case = Case { timed: Timed::Not("a variant of cross_entropy"), ..BOTH };

const OVER: Case = Case {
    covers: &["cross_entropy::CrossEntropy::forward_backward_in_place"],
    kernel: "hotlanes::cross_entropy::kernel::Rows<2, false>",
    build: |size, m| rows(size, m, Kind::Over, 0.0),
    twin: false,
    ..VARIANT
};

const FORWARD: Case = Case {
    id: "cross_entropy_fwd",
    covers: &["cross_entropy::CrossEntropy::forward"],
    kernel: "hotlanes::cross_entropy::kernel::Rows<0, false>",
    build: |size, m| rows(size, m, Kind::Forward, 0.0),
    twin: false,
    ..VARIANT
};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Both,
    /// The gradient over the logits.
    Over,
    /// The loss alone.
    Forward,
}

struct State {
    x: Buf,
    labels: Buf<u32>,
    dlogits: Buf,
    losses: Buf,
    loss: Buf,
}

/// Every seventh row is ignored where labels are smoothed.
const IGNORED: u32 = u32::MAX;

fn labels(rows: usize, classes: usize, ignore: bool, m: &Memory) -> Buf<u32> {
    let label = |r: usize| if ignore && r % 7 == 3 { IGNORED } else { mix(r as u32) % classes as u32 };
    m.copy(&(0..rows).map(label).collect::<Vec<_>>())
}

fn rows(size: &[usize], m: &Memory, kind: Kind, smoothing: f64) -> Box<dyn Run> {
    let [rows, classes] = dims(size);
    let n = rows * classes;
    // Ignored rows are no part of the plain loop: they are left to bits and oracle.
    let ignore = smoothing > 0.0 && m.values() != crate::Values::Ordinary;
    let ce = CrossEntropy::new(classes, smoothing, ignore.then_some(IGNORED)).expect("valid");
    let dlogits = match kind {
        Kind::Both => m.output(n),
        Kind::Over => m.input(n, 1),
        Kind::Forward => m.output(0),
    };
    let state = State {
        x: m.input(if kind == Kind::Over { 0 } else { n }, 1),
        labels: labels(rows, classes, ignore, m),
        dlogits,
        losses: m.output(rows),
        loss: m.output(1),
    };
    // An exponential is a subtraction, eleven multiply-adds and products, and its sum; then a product.
    let written = if kind == Kind::Forward { 0 } else { 4 * n };
    instance(
        state,
        Work::sweep(4 * n, written, 22.0 * n as f64),
        move |s| {
            let State { x, labels, dlogits, losses, loss } = s;
            loss[0] = match kind {
                Kind::Both => ce.forward_backward(x, labels, Reduction::Mean, dlogits, losses),
                Kind::Over => ce.forward_backward_in_place(dlogits, labels, Reduction::Mean, losses),
                Kind::Forward => ce.forward(x, labels, Reduction::Mean, losses),
            }
            .expect("labels in range");
        },
        move |s, which| {
            let State { x, labels, dlogits, losses, loss } = s;
            let f = pick!(which, naive::cross_entropy, naive::cross_entropy_auto);
            match kind {
                Kind::Both => f(x, labels, classes, smoothing as f32, dlogits, losses),
                Kind::Over => {
                    let x = dlogits.to_vec();
                    f(&x, labels, classes, smoothing as f32, dlogits, losses);
                }
                Kind::Forward => f(x, labels, classes, smoothing as f32, &mut x.to_vec(), losses),
            }
            loss[0] = losses.iter().sum::<f32>() / losses.len() as f32;
        },
        |s| {
            // The gradient and the mean are divided by the number of rows.
            vec![
                Output::new("dlogits", &mut s.dlogits, 1e-4),
                Output::rows("losses", &mut s.losses, 1e-5),
                Output::new("loss", &mut s.loss, 1e-4),
            ]
        },
    )
}

/// The loss of a linear layer; sizes are rows, features and classes.
const LINEAR: Case = Case {
    id: "linear_cross_entropy",
    covers: &["cross_entropy::CrossEntropy::linear_forward_backward"],
    build: linear,
    bits: Bits::At {
        sizes: || {
            let l = LINEAR_ROWS;
            let all = [
                [0, 3, 4],
                [1, 1, 1],
                [5, 17, 33],
                [l - 1, 5, 7],
                [l, 16, 10],
                [l + 1, 9, 3],
                [2 * l + 3, 4, 5],
            ];
            all.map(Vec::from).to_vec()
        },
        random: &[(0, 40), (1, 20), (1, 40)],
    },
    threads: Threads::From {
        below: &[16, 16, 16],
        at: &[&[LINEAR_ROWS + 5, MATMUL_PARALLEL / LINEAR_ROWS / 64 + 1, 129]],
    },
    counted: Counted::Not("the loops of matmul and cross_entropy"),
    timed: Timed::At { report: &[], full: &[], bench: &[&[1024, 128, 65]] },
    twin: false,
    ..BOTH
};

struct Linear {
    x: Buf,
    weights: Buf,
    labels: Buf<u32>,
    scratch: Buf,
    losses: Buf,
    dx: Buf,
    dweights: Buf,
    loss: Buf,
}

fn linear(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [rows, features, classes] = dims(size);
    let ce = CrossEntropy::new(classes, 0.1, None).expect("valid");
    instance(
        Linear {
            x: m.input(rows * features, 1),
            weights: m.input(classes * features, 2),
            labels: labels(rows, classes, false, m),
            scratch: m.output(ce.linear_scratch_len()),
            losses: m.output(rows),
            dx: m.output(rows * features),
            dweights: m.output(classes * features),
            loss: m.output(1),
        },
        Work::sweep(4 * rows * features, 4 * rows * features, 6.0 * product(size) as f64),
        move |s| {
            let Linear { x, weights, labels, scratch, losses, dx, dweights, loss } = s;
            let reduction = Reduction::Scaled(0.3);
            let result =
                ce.linear_forward_backward(x, weights, labels, reduction, scratch, losses, dx, dweights);
            loss[0] = result.expect("labels in range");
        },
        move |s, _| {
            let Linear { x, weights, labels, losses, dx, dweights, loss, .. } = s;
            let mut logits = vec![0.0; rows * classes];
            for (i, logit) in logits.iter_mut().enumerate() {
                let (r, c) = (i / classes, i % classes);
                *logit = (0..features).map(|k| x[r * features + k] * weights[c * features + k]).sum();
            }
            let mut d = logits.clone();
            naive::cross_entropy(&logits, labels, classes, 0.1, &mut d, losses);
            loss[0] = 0.3 * losses.iter().sum::<f32>();
            dx.fill(0.0);
            dweights.fill(0.0);
            for (i, d) in d.iter().enumerate() {
                let (r, c, d) = (i / classes, i % classes, d * 0.3 * rows as f32);
                for k in 0..features {
                    dx[r * features + k] += d * weights[c * features + k];
                    dweights[c * features + k] += d * x[r * features + k];
                }
            }
        },
        |s| {
            vec![
                Output::rows("losses", &mut s.losses, 1e-5),
                Output::rows("dx", &mut s.dx, 1e-4),
                Output::new("dweights", &mut s.dweights, 1e-4),
                Output::new("loss", &mut s.loss, 1e-5),
            ]
        },
    )
}
