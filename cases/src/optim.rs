//! SGD, Lion and Adafactor: one tensor, and many in one call.

use std::array::from_fn;

use hotlanes::adafactor::{
    Adafactor, AdafactorConfig, AdafactorStep, AdafactorTensor, SecondMoment, scratch_len_matrix,
    scratch_len_vector,
};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::naive::optim;
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};
use hotlanes::tuning::{ADAFACTOR_PARALLEL, LION_PARALLEL, SGD_PARALLEL};

use crate::memory::{Buf, Memory};
use crate::run::{Output, Run, Work, instance, pick};
use crate::sizes::{MOST, Size, dims, label, lengths, parts, parts_mut, product};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    Case {
        id: "sgd_momentum",
        build: |size, m| sgd(size, m, HEAVY, 2, 1.0),
        timed: TIMED,
        twin: true,
        ..SGD
    },
    SGD,
    Case {
        id: "sgd_momentum_first",
        build: |size, m| sgd(size, m, HEAVY, 1, 1.0),
        counted: SAME_LOOP,
        ..SGD
    },
    Case {
        id: "sgd_nesterov",
        build: |size, m| sgd(size, m, SgdConfig { nesterov: true, ..HEAVY }, 2, 1.0),
        ..SGD
    },
    // The general loops: decay, and a gradient scale; dampened; upward.
    Case {
        id: "sgd_l2",
        build: |size, m| sgd(size, m, SgdConfig { weight_decay: 0.5, maximize: true, ..DESCENT }, 2, 8.0),
        ..SGD
    },
    Case {
        id: "sgd_momentum_l2",
        build: |size, m| sgd(size, m, SgdConfig { dampening: 0.25, weight_decay: 0.5, ..HEAVY }, 2, 8.0),
        ..SGD
    },
    Case {
        id: "sgd_nesterov_l2",
        build: |size, m| sgd(size, m, SgdConfig { weight_decay: 0.5, nesterov: true, ..HEAVY }, 2, 8.0),
        ..SGD
    },
    Case {
        id: "sgd_many",
        covers: &["sgd::SgdStep::update_many"],
        build: sgd_many,
        same_as: Some(("sgd_momentum", sum)),
        ..MANY
    },
    Case {
        id: "lion",
        covers: &["lion::Lion::step", "lion::LionStep::update"],
        kernel: "hotlanes::tensors::Run<hotlanes::lion::LionStep>",
        build: lion,
        timed: TIMED,
        twin: true,
        ..SGD
    },
    Case {
        id: "lion_many",
        covers: &["lion::LionStep::update_many"],
        kernel: "hotlanes::tensors::Run<hotlanes::lion::LionStep>",
        build: lion_many,
        same_as: Some(("lion", sum)),
        ..MANY
    },
    MATRIX,
    Case {
        id: "adafactor_first",
        build: |size, m| matrix(size, m, true),
        counted: SAME_LOOP,
        timed: Timed::Not("a variant of adafactor"),
        twin: false,
        ..MATRIX
    },
    // The same runs stand for all of its passes.
    Case { kernel: "hotlanes::adafactor::matrix::GradSquares", id: "adafactor_grad_squares", ..PASS },
    Case { kernel: "hotlanes::adafactor::matrix::Factor", id: "adafactor_factor", ..PASS },
    Case { kernel: "hotlanes::adafactor::matrix::UnitSquares", id: "adafactor_unit_squares", ..PASS },
    VECTOR,
    Case { kernel: "hotlanes::adafactor::flat::Units", id: "adafactor_units", ..VECTOR_PASS },
    Case { kernel: "hotlanes::adafactor::flat::Descend", id: "adafactor_descend", ..VECTOR_PASS },
    Case { same_as: Some(("adafactor", |size| size[..2].to_vec())), ..ADAFACTOR_MANY },
    Case {
        id: "adafactor_many_vector",
        same_as: Some(("adafactor_squares", |size| size[2..].to_vec())),
        ..ADAFACTOR_MANY
    },
];

const ADAFACTOR_MANY: Case = Case {
    id: "adafactor_many",
    covers: &["adafactor::AdafactorStep::update_many"],
    build: adafactor_many,
    bits: Bits::At {
        sizes: || vec![vec![7, 37, 90], vec![0, 3, 0], vec![1, 1, 1], vec![66, 16, 65]],
        random: &[(1, 10), (1, 40), (0, 90)],
    },
    threads: Threads::Never("a threshold of each tensor's own: adafactor has it"),
    counted: SAME_LOOP,
    timed: Timed::Not("the loops of adafactor"),
    twin: false,
    ..MATRIX
};

const SGD: Case = Case {
    id: "sgd",
    covers: &["sgd::SgdStep::update"],
    kernel: "hotlanes::tensors::Run<hotlanes::sgd::SgdStep>",
    build: |size, m| sgd(size, m, DESCENT, 2, 1.0),
    label,
    bits: Bits::At { sizes: lengths, random: &[(0, 700)] },
    threads: Threads::From { below: &[SGD_PARALLEL - 1], at: &[&[SGD_PARALLEL], &[SGD_PARALLEL + 1]] },
    same_as: None,
    counted: Counted::At { sizes: [&[256], &[512]], elements: product, element: "parameter" },
    timed: Timed::Not("a variant of sgd_momentum"),
    twin: false,
    gather: true,
    forced: true,
    scalar_stepped: true,
};

const SAME_LOOP: Counted = Counted::Not("the loop of another case");
const TIMED: Timed =
    Timed::At { report: &[&[65_536], &[2_359_296]], full: &[], bench: &[&[4096], &[131_072], &[262_144]] };

const MANY: Case = Case {
    bits: Bits::At {
        sizes: || vec![vec![], vec![0, 0, 0], vec![0, 1, 0, 33, 16, 0, 70]],
        random: &[(0, 40), (0, 1), (0, 700), (0, 3), (0, 40)],
    },
    threads: Threads::From {
        below: &[LION_PARALLEL / 2, 0, LION_PARALLEL / 2 - 1],
        at: &[&[LION_PARALLEL / 2, 0, 1, 0, 17, LION_PARALLEL / 2, 500, 500, 0]],
    },
    counted: SAME_LOOP,
    timed: Timed::Not("the loop of the single tensor"),
    ..SGD
};

/// A matrix; sizes are rows and columns. Counted is its last pass, by columns of four rows.
const MATRIX: Case = Case {
    id: "adafactor",
    covers: &["adafactor::AdafactorStep::update"],
    kernel: "hotlanes::adafactor::matrix::Apply",
    build: |size, m| matrix(size, m, false),
    bits: Bits::At { sizes: shapes, random: &[(1, 40), (1, 150)] },
    threads: Threads::From {
        below: &[127, ADAFACTOR_PARALLEL / 128],
        at: &[
            &[ADAFACTOR_PARALLEL / 256, 256],
            &[ADAFACTOR_PARALLEL / 100 + 1, 101],
            &[3, ADAFACTOR_PARALLEL / 2],
        ],
    },
    counted: Counted::At { sizes: [&[4, 64], &[4, 128]], elements: product, element: "parameter" },
    timed: Timed::At { report: &[&[256, 256], &[1536, 1536]], full: &[], bench: &[&[512, 512]] },
    twin: true,
    scalar_stepped: false,
    ..SGD
};

const PASS: Case = Case { bits: Bits::In("adafactor"), timed: Timed::Not("a pass of adafactor"), ..MATRIX };

/// A vector; counted is the rms of the parameter.
const VECTOR: Case = Case {
    id: "adafactor_squares",
    kernel: "hotlanes::adafactor::flat::Squares",
    build: vector,
    bits: Bits::At { sizes: || [lengths(), vec![vec![1030], vec![2085]]].concat(), random: &[(0, 1200)] },
    threads: Threads::From { below: &[ADAFACTOR_PARALLEL - 1], at: &[&[ADAFACTOR_PARALLEL + 5]] },
    counted: Counted::At { sizes: [&[128], &[256]], elements: product, element: "parameter" },
    timed: Timed::Not("vectors are small"),
    twin: false,
    ..MATRIX
};

const VECTOR_PASS: Case = Case { bits: Bits::In("adafactor_squares"), ..VECTOR };

/// Rows, columns and both around a vector's edges, and rows beyond a block of columns.
fn shapes() -> Vec<Size> {
    let mut all = vec![vec![65, 17], vec![129, 3], vec![3, 130], vec![2, 1030], vec![67, 53]];
    all.extend((1..=33).map(|n| vec![n % 7 + 1, n]));
    all
}

fn sum(size: &[usize]) -> Size {
    vec![size.iter().sum()]
}

const DESCENT: SgdConfig = SgdConfig {
    lr: 0.125,
    momentum: 0.0,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
    maximize: false,
};
const HEAVY: SgdConfig = SgdConfig { momentum: 0.875, ..DESCENT };

/// Parameter, gradient, and the optimizer's buffer.
struct State {
    param: Buf,
    grad: Buf,
    buffer: Buf,
}

impl State {
    fn new(n: usize, held: usize, m: &Memory) -> Self {
        State { param: m.input(n, 1), grad: m.input(n, 2), buffer: m.input(held, 3) }
    }

    fn outputs(&mut self) -> Vec<Output<'_>> {
        vec![Output::rows("param", &mut self.param, 1e-6), Output::rows("buffer", &mut self.buffer, 1e-6)]
    }

    /// The formula for each element: parameter, gradient and buffer to parameter and buffer.
    fn formula(&mut self, f: impl Fn(f64, f64, f64) -> (f64, f64)) {
        for i in 0..self.param.len() {
            let buffer = self.buffer.get(i).map_or(0.0, |b| f64::from(*b));
            let (p, b) = f(self.param[i].into(), self.grad[i].into(), buffer);
            self.param[i] = p as f32;
            if let Some(buffer) = self.buffer.get_mut(i) {
                *buffer = b as f32;
            }
        }
    }
}

fn work(n: usize, flops: usize) -> Work {
    let size = n as f64;
    Work {
        items: size,
        unit: "Gparam/s",
        read: 12.0 * size,
        written: 8.0 * size,
        in_place: true,
        flops: (flops * n) as f64,
        working_set: 12 * n,
        ..Work::default()
    }
}

/// A step whose gradients were multiplied by `scale`.
fn sgd(size: &[usize], m: &Memory, config: SgdConfig, number: u64, scale: f64) -> Box<dyn Run> {
    let [n] = dims(size);
    let step = Sgd::new(config).and_then(|o| o.at(number)).and_then(|s| s.unscale(scale)).expect("valid");
    let SgdConfig { lr, momentum, dampening, weight_decay, nesterov, maximize } = config;
    instance(
        State::new(n, if momentum > 0.0 { n } else { 0 }, m),
        work(n, 4),
        move |s| step.update(SgdTensor { param: &mut s.param, grad: &s.grad, buffer: &mut s.buffer }),
        move |s, which| {
            if config == HEAVY && number == 2 {
                let f = pick!(which, optim::sgd_momentum, optim::sgd_momentum_auto);
                return f(&mut s.param, &s.grad, &mut s.buffer, lr as f32, momentum as f32);
            }
            s.formula(|p, g, b| {
                let g = g / scale * if maximize { -1.0 } else { 1.0 } + weight_decay * p;
                let b = if number == 1 { g } else { momentum * b + (1.0 - dampening) * g };
                let update = match (momentum > 0.0, nesterov) {
                    (false, _) => g,
                    (true, false) => b,
                    (true, true) => g + momentum * b,
                };
                (p - lr * update, b)
            });
        },
        State::outputs,
    )
}

fn sgd_many(lengths: &[usize], m: &Memory) -> Box<dyn Run> {
    let n = lengths.iter().sum();
    let step = Sgd::new(HEAVY).and_then(|o| o.at(2)).expect("valid");
    let lengths = lengths.to_vec();
    instance(
        State::new(n, n, m),
        work(n, 4),
        move |s| {
            let (mut param, mut grad) = (parts_mut(&mut s.param, &lengths), parts(&s.grad, &lengths));
            let mut buffer = parts_mut(&mut s.buffer, &lengths);
            let mut tensors: [SgdTensor<'_>; MOST] = from_fn(|_| SgdTensor {
                param: param.next().unwrap_or_default(),
                grad: grad.next().unwrap_or_default(),
                buffer: buffer.next().unwrap_or_default(),
            });
            step.update_many(&mut tensors[..lengths.len()]);
        },
        |s, _| {
            optim::sgd_momentum(&mut s.param, &s.grad, &mut s.buffer, HEAVY.lr as f32, HEAVY.momentum as f32)
        },
        State::outputs,
    )
}

/// A rate at which thousands of repeated steps leave all values finite.
const LION: LionConfig = LionConfig { lr: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, maximize: false };

fn lion_loop(s: &mut State, auto: bool) {
    let [lr, beta1, beta2, decay] = [LION.lr, LION.beta1, LION.beta2, LION.weight_decay].map(|x| x as f32);
    let f = if auto { optim::lion_auto } else { optim::lion };
    f(&mut s.param, &s.grad, &mut s.buffer, lr, beta1, beta2, decay);
}

fn lion(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let step = Lion::new(LION).expect("valid").step();
    instance(
        State::new(n, n, m),
        // Three fused multiply-adds, two products and the comparisons.
        work(n, 10),
        move |s| step.update(LionTensor { param: &mut s.param, grad: &s.grad, m: &mut s.buffer }),
        |s, which| lion_loop(s, pick!(which, false, true)),
        State::outputs,
    )
}

fn lion_many(lengths: &[usize], m: &Memory) -> Box<dyn Run> {
    let n = lengths.iter().sum();
    let step = Lion::new(LION).expect("valid").step();
    let lengths = lengths.to_vec();
    instance(
        State::new(n, n, m),
        work(n, 10),
        move |s| {
            let (mut param, mut grad) = (parts_mut(&mut s.param, &lengths), parts(&s.grad, &lengths));
            let mut buffer = parts_mut(&mut s.buffer, &lengths);
            let mut tensors: [LionTensor<'_>; MOST] = from_fn(|_| LionTensor {
                param: param.next().unwrap_or_default(),
                grad: grad.next().unwrap_or_default(),
                m: buffer.next().unwrap_or_default(),
            });
            step.update_many(&mut tensors[..lengths.len()]);
        },
        |s, _| lion_loop(s, false),
        State::outputs,
    )
}

/// Far enough for the average to be of old and new.
const STEP: u64 = 10;

const DECAY: f64 = 0.1;

/// The tenth step without decay, or the first one, whose averages are those of the gradient, with it.
fn adafactor(first: bool) -> (AdafactorStep, optim::AdafactorConstants) {
    let number = if first { 1 } else { STEP };
    let weight_decay = if first { DECAY } else { 0.0 };
    let config = AdafactorConfig { weight_decay, ..Default::default() };
    let constants = optim::AdafactorConstants {
        lr: config.lr as f32,
        weight: (number as f64).powf(config.beta2_decay) as f32,
        eps1: config.eps1 as f32,
        eps2: config.eps2 as f32,
        d: config.d as f32,
        step: number as i32,
    };
    (Adafactor::new(config).and_then(|o| o.at(number)).expect("valid"), constants)
}

struct Matrix {
    param: Buf,
    grad: Buf,
    row: Buf,
    col: Buf,
    scratch: Buf,
    /// The plain loop's: an update as large as the parameter, and sums of a row's length.
    update: Buf,
    sums: Buf,
    first: bool,
}

impl Matrix {
    fn new(rows: usize, cols: usize, m: &Memory, first: bool) -> Self {
        Matrix {
            first,
            param: m.input(rows * cols, 1),
            grad: m.input(rows * cols, 2),
            row: m.positive(rows, 3),
            col: m.positive(cols, 4),
            scratch: m.output(scratch_len_matrix(rows, cols)),
            update: m.output(rows * cols),
            sums: m.output(cols),
        }
    }

    fn plain(&mut self, auto: bool) {
        let Matrix { param, grad, row, col, update, sums, .. } = self;
        let f = if auto { optim::adafactor_matrix_auto } else { optim::adafactor_matrix };
        let before = param.to_vec();
        f(param, grad, row, col, update, sums, adafactor(self.first).1);
        if self.first {
            let decay =
                |(p, before): (&mut f32, f32)| *p -= (AdafactorConfig::default().lr * DECAY) as f32 * before;
            param.iter_mut().zip(before).for_each(decay);
        }
    }

    fn outputs(&mut self) -> Vec<Output<'_>> {
        vec![
            // The plain sums run in one f32 from end to end.
            Output::new("param", &mut self.param, 1e-4),
            Output::new("row", &mut self.row, 1e-5),
            Output::new("col", &mut self.col, 1e-5),
        ]
    }
}

fn matrix(size: &[usize], m: &Memory, first: bool) -> Box<dyn Run> {
    let [rows, cols] = dims(size);
    let (step, _) = adafactor(first);
    let n = rows * cols;
    // The gradient three times, since each rms is needed before the next pass; the parameter twice.
    let work = Work { read: 20.0 * n as f64, written: 4.0 * n as f64, working_set: 8 * n, ..work(n, 17) };
    instance(
        Matrix::new(rows, cols, m, first),
        work,
        move |s| {
            let Matrix { param, grad, row, col, scratch, .. } = s;
            step.update(
                AdafactorTensor { param, grad, moment: SecondMoment::Factored { row, col } },
                scratch,
            );
        },
        |s, which| s.plain(pick!(which, false, true)),
        Matrix::outputs,
    )
}

struct Vector {
    param: Buf,
    grad: Buf,
    v: Buf,
    scratch: Buf,
}

impl Vector {
    fn new(n: usize, m: &Memory) -> Self {
        let scratch = m.output(scratch_len_vector(n));
        Vector { param: m.input(n, 1), grad: m.input(n, 2), v: m.positive(n, 3), scratch }
    }

    fn formula(&mut self) {
        let (weight, n) = (f64::from(adafactor(false).1.weight), self.param.len() as f64);
        let mut updates = vec![];
        for (v, g) in self.v.iter_mut().zip(self.grad.iter().map(|g| f64::from(*g))) {
            let new = f64::from(*v) + weight * (g * g - f64::from(*v));
            *v = new as f32;
            updates.push(g / new.sqrt());
        }
        let rms = |sum: f64| (sum / n).sqrt();
        let own = rms(self.param.iter().map(|p| f64::from(*p).powi(2)).sum()).max(1e-3);
        let factor = 0.01 * own / rms(updates.iter().map(|u| u * u).sum()).max(1.0);
        for (p, u) in self.param.iter_mut().zip(updates) {
            *p = (f64::from(*p) - factor * u) as f32;
        }
    }
}

fn vector(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [n] = dims(size);
    let (step, _) = adafactor(false);
    instance(
        Vector::new(n, m),
        work(n, 17),
        move |s| {
            let Vector { param, grad, v, scratch } = s;
            step.update(AdafactorTensor { param, grad, moment: SecondMoment::Unfactored { v } }, scratch);
        },
        |s, _| s.formula(),
        |s| vec![Output::new("vector", &mut s.param, 1e-6), Output::new("v", &mut s.v, 1e-6)],
    )
}

/// A matrix and a vector in one call; sizes are rows, columns and the vector's length.
fn adafactor_many(size: &[usize], m: &Memory) -> Box<dyn Run> {
    let [rows, cols, n] = dims(size);
    let (step, _) = adafactor(false);
    instance(
        (
            Matrix::new(rows, cols, m, false),
            Vector::new(n, m),
            m.output(scratch_len_matrix(rows, cols).max(scratch_len_vector(n))),
        ),
        work(rows * cols + n, 17),
        move |(a, b, scratch): &mut (Matrix, Vector, Buf)| {
            let moment = SecondMoment::Factored { row: &mut a.row, col: &mut a.col };
            let matrix = AdafactorTensor { param: &mut a.param, grad: &a.grad, moment };
            let moment = SecondMoment::Unfactored { v: &mut b.v };
            let vector = AdafactorTensor { param: &mut b.param, grad: &b.grad, moment };
            step.update_many(&mut [matrix, vector], scratch);
        },
        |(a, b, _), _| {
            if !a.param.is_empty() {
                a.plain(false);
            }
            b.formula();
        },
        |(a, b, _)| {
            let mut all = a.outputs();
            all.extend([Output::new("vector", &mut b.param, 1e-6), Output::new("v", &mut b.v, 1e-6)]);
            all
        },
    )
}
