//! Muon: one matrix by either side, and its products over threads.

use hotlanes::muon::{Muon, MuonConfig, MuonScale, MuonTensor};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance};
use crate::sizes::{dims, label, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    MUON,
    Case {
        id: "muon_match_rms",
        build: |size, m| {
            matrix(size, m, MuonConfig { nesterov: false, scale: MuonScale::MatchRmsAdamw, ..CONFIG })
        },
        ..VARIANT
    },
    Case {
        id: "muon_no_momentum",
        build: |size, m| matrix(size, m, MuonConfig { momentum: 0.0, weight_decay: 0.0, ..CONFIG }),
        ..VARIANT
    },
];

/// Sizes are rows and columns. Its loops are other kernels' own: what is counted here is the whole step, by the kernel that
/// most of it runs in.
const MUON: Case = Case {
    id: "muon",
    covers: &["muon::Muon::update"],
    kernel: "hotlanes::matmul::kernel::Plain",
    build: |size, m| matrix(size, m, CONFIG),
    label,
    bits: Bits::At {
        sizes: || {
            [[1, 1], [3, 0], [2, 17], [17, 2], [16, 16], [5, 33], [33, 5], [26, 40]].map(Vec::from).to_vec()
        },
        random: &[(1, 30), (1, 30)],
    },
    // 2^23 multiplications to a product.
    threads: Threads::From { below: &[64, 64], at: &[&[210, 208]] },
    same_as: None,
    counted: Counted::At { sizes: [&[24, 24], &[40, 40]], elements: product, element: "parameter" },
    timed: Timed::At { report: &[&[256, 256]], full: &[&[1024, 1024]], bench: &[&[128, 512]] },
    twin: false,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const VARIANT: Case = Case {
    threads: Threads::Never("the products are those of muon"),
    counted: Counted::Not("the loops of muon"),
    timed: Timed::Not("a variant of muon"),
    ..MUON
};

const CONFIG: MuonConfig =
    MuonConfig { lr: 0.1, momentum: 0.95, nesterov: true, weight_decay: 0.1, scale: MuonScale::Original };

struct State {
    param: Buf,
    grad: Buf,
    buffer: Buf,
    scratch: Buf,
}

fn matrix(size: &[usize], m: &Memory, config: MuonConfig) -> Box<dyn Run> {
    let [rows, cols] = dims(size);
    let muon = Muon::new(config).expect("valid");
    let n = rows * cols;
    let side = rows.min(cols);
    instance(
        State {
            param: m.input(n, 1),
            grad: m.input(n, 2),
            buffer: m.input(if config.momentum > 0.0 { n } else { 0 }, 3),
            scratch: m.output(muon.scratch_len(rows, cols)),
        },
        Work {
            items: n as f64,
            unit: "Gparam/s",
            read: 12.0 * n as f64,
            written: 8.0 * n as f64,
            in_place: true,
            // Five iterations of three products each.
            flops: 5.0 * 2.0 * (side * side * (2 * rows.max(cols) + side)) as f64,
            working_set: 20 * n,
            ..Work::default()
        },
        move |s| {
            let State { param, grad, buffer, scratch } = s;
            muon.update(MuonTensor { rows, cols, param, grad, buffer }, scratch);
        },
        move |s, _| formula(s, rows, cols, &config),
        |s| {
            // Five iterations from different roundings.
            vec![Output::new("param", &mut s.param, 1e-4), Output::new("buffer", &mut s.buffer, 1e-6)]
        },
    )
}

/// The authors' formula in f64, with the Gram matrix of rows.
fn formula(s: &mut State, rows: usize, cols: usize, config: &MuonConfig) {
    let MuonConfig { lr, momentum, nesterov, weight_decay, scale } = *config;
    let mut x: Vec<f64> = s.grad.iter().map(|g| f64::from(*g)).collect();
    for (x, b) in x.iter_mut().zip(s.buffer.iter_mut()) {
        let new = momentum * f64::from(*b) + *x;
        *b = new as f32;
        *x = if nesterov { *x + momentum * new } else { new };
    }
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-7;
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..5 {
        let gram = times(&x, &turned(&x, rows, cols), [rows, cols, rows]);
        let square = times(&gram, &gram, [rows, rows, rows]);
        let mut p: Vec<f64> = gram.iter().zip(&square).map(|(a, b)| -4.7750 * a + 2.0315 * b).collect();
        (0..rows).for_each(|i| p[i * rows + i] += 3.4445);
        x = times(&p, &x, [rows, rows, cols]);
    }
    let (rows, cols) = (rows as f64, cols as f64);
    let scale = match scale {
        MuonScale::Original => (rows / cols).max(1.0).sqrt(),
        MuonScale::MatchRmsAdamw => 0.2 * rows.max(cols).sqrt(),
    };
    for (p, x) in s.param.iter_mut().zip(x) {
        *p = (f64::from(*p) * (1.0 - lr * weight_decay) - lr * scale * x) as f32;
    }
}

fn turned(x: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
}

fn times(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let one = |i: usize| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
    (0..m * n).map(one).collect()
}
