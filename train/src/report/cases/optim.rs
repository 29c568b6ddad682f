//! One step of SGD, Lion or Adafactor on one tensor.

use hotlanes::adafactor::{
    Adafactor, AdafactorConfig, AdafactorStep, AdafactorTensor, SecondMoment, scratch_len_matrix,
};
use hotlanes::lion::{Lion, LionConfig, LionStep, LionTensor};
use hotlanes::naive::optim;
use hotlanes::sgd::{Sgd, SgdConfig, SgdStep, SgdTensor};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, fill};

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (kernel, lion) in [("sgd_momentum", false), ("lion", true)] {
        for n in [65_536, 2_359_296] {
            rows.push(Row::new(kernel, n, true, move || Elementwise::new(n, lion)));
        }
    }
    for n in [256, 1536] {
        rows.push(Row::new("adafactor", format!("{n}x{n}"), true, move || Matrix::new(n, n)));
    }
    rows
}

/// A rate at which thousands of repeated steps leave all values finite.
const LR: f32 = 1e-4;
const BETAS: [f32; 2] = [0.9, 0.99];
const DECAY: f32 = 0.1;

enum Step {
    Sgd(SgdStep),
    Lion(LionStep),
}

/// SGD with momentum, or Lion: parameter, gradient and one buffer.
pub struct Elementwise {
    step: Step,
    param: Buffer,
    grad: Buffer,
    buffer: Buffer,
}

impl Elementwise {
    /// `n` parameters, in the middle of training.
    pub fn new(n: usize, lion: bool) -> Self {
        let step = if lion {
            let config = LionConfig {
                lr: LR as f64,
                beta1: BETAS[0] as f64,
                beta2: BETAS[1] as f64,
                weight_decay: DECAY as f64,
                maximize: false,
            };
            Step::Lion(Lion::new(config).expect("valid").step())
        } else {
            let config = SgdConfig { lr: LR as f64, momentum: BETAS[0] as f64, ..Default::default() };
            Step::Sgd(Sgd::new(config).and_then(|o| o.at(2)).expect("valid"))
        };
        let mut case = Elementwise {
            step,
            param: Buffer::zeros(n),
            grad: Buffer::random(n, 4),
            buffer: Buffer::zeros(n),
        };
        case.reset();
        case
    }
}

impl Case for Elementwise {
    fn work(&self) -> Work {
        let n = self.param.len() as f64;
        Work {
            items: n,
            unit: "Gparam/s",
            read: 12.0 * n,
            written: 8.0 * n,
            in_place: true,
            repeated: 0.0,
            repeated_set: 0,
            // Two fused multiply-adds; Lion has three, two products and its comparisons.
            flops: if matches!(self.step, Step::Sgd(_)) { 4.0 * n } else { 10.0 * n },
            roots: 0.0,
            working_set: 12 * self.param.len(),
        }
    }

    fn reset(&mut self) {
        fill(&mut self.param, 1);
        fill(&mut self.buffer, 2);
    }

    fn run(&mut self) {
        let (param, grad, buffer) = (&mut self.param[..], &self.grad[..], &mut self.buffer[..]);
        match self.step {
            Step::Sgd(step) => step.update(SgdTensor { param, grad, buffer }),
            Step::Lion(step) => step.update(LionTensor { param, grad, m: buffer }),
        }
    }

    fn run_plain(&mut self, which: Plain) {
        let naive = which == Plain::Naive;
        let (param, grad, buffer) = (&mut self.param[..], &self.grad[..], &mut self.buffer[..]);
        if matches!(self.step, Step::Sgd(_)) {
            let f = if naive { optim::sgd_momentum } else { optim::sgd_momentum_auto };
            f(param, grad, buffer, LR, BETAS[0]);
        } else {
            let f = if naive { optim::lion } else { optim::lion_auto };
            f(param, grad, buffer, LR, BETAS[0], BETAS[1], DECAY);
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("param", &self.param, 1e-6), Output::new("buffer", &self.buffer, 1e-6)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// The step's number.
const STEP: u64 = 10;

/// Adafactor on a matrix.
pub struct Matrix {
    step: AdafactorStep,
    constants: optim::AdafactorConstants,
    param: Buffer,
    grad: Buffer,
    row: Buffer,
    col: Buffer,
    scratch: Buffer,
    /// Room for the plain loop: an update as large as the parameter, and sums of a row's length.
    update: Buffer,
    sums: Buffer,
}

impl Matrix {
    /// `rows` times `cols` parameters.
    pub fn new(rows: usize, cols: usize) -> Self {
        let config = AdafactorConfig::default();
        let mut case = Matrix {
            step: Adafactor::new(config).and_then(|o| o.at(STEP)).expect("the defaults are valid"),
            constants: optim::AdafactorConstants {
                lr: config.lr as f32,
                weight: (STEP as f64).powf(config.beta2_decay) as f32,
                eps1: config.eps1 as f32,
                eps2: config.eps2 as f32,
                d: config.d as f32,
                step: STEP as i32,
            },
            param: Buffer::zeros(rows * cols),
            grad: Buffer::random(rows * cols, 4),
            row: Buffer::zeros(rows),
            col: Buffer::zeros(cols),
            scratch: Buffer::zeros(scratch_len_matrix(rows, cols)),
            update: Buffer::zeros(rows * cols),
            sums: Buffer::zeros(cols),
        };
        case.reset();
        case
    }
}

impl Case for Matrix {
    fn work(&self) -> Work {
        let n = self.param.len() as f64;
        Work {
            items: n,
            unit: "Gparam/s",
            // The gradient three times, since each rms is needed before the next pass; the parameter twice.
            read: 20.0 * n,
            written: 4.0 * n,
            in_place: true,
            repeated: 0.0,
            repeated_set: 0,
            flops: 17.0 * n,
            roots: 0.0,
            working_set: 8 * self.param.len(),
        }
    }

    fn reset(&mut self) {
        fill(&mut self.param, 1);
        fill(&mut self.row, 2);
        fill(&mut self.col, 3);
        for x in self.row.iter_mut().chain(self.col.iter_mut()) {
            *x = x.abs();
        }
    }

    fn run(&mut self) {
        let moment = SecondMoment::Factored { row: &mut self.row, col: &mut self.col };
        let tensor = AdafactorTensor { param: &mut self.param, grad: &self.grad, moment };
        self.step.update(tensor, &mut self.scratch);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { optim::adafactor_matrix } else { optim::adafactor_matrix_auto };
        f(
            &mut self.param,
            &self.grad,
            &mut self.row,
            &mut self.col,
            &mut self.update,
            &mut self.sums,
            self.constants,
        );
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            // The plain sums run in one f32 from end to end.
            Output::new("param", &self.param, 1e-4),
            Output::new("row", &self.row, 1e-5),
            Output::new("col", &self.col, 1e-5),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
