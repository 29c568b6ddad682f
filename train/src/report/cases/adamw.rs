//! One AdamW step on one tensor.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor};
use hotlanes::naive::{self, AdamWConstants};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, fill};

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let sizes = [4096, 65_536, 2_359_296, 1 << 25];
    sizes.map(|n| Row::new("adamw", n, true, move || Step::new(n))).into()
}

/// A tensor with its optimizer state, in the middle of training. Every runner works on the same memory; what a step
/// costs does not depend on the values.
pub struct Step {
    step: AdamWStep,
    constants: AdamWConstants,
    param: Buffer,
    grad: Buffer,
    m: Buffer,
    v: Buffer,
}

/// The step's number: far enough for both bias corrections to matter.
const STEP: i32 = 10;

impl Step {
    /// `n` parameters.
    pub fn new(n: usize) -> Self {
        let config = AdamWConfig::default();
        let step = AdamW::new(config).and_then(|a| a.at(STEP as u64)).expect("the defaults are in range");
        let mut case = Step {
            step,
            constants: AdamWConstants {
                lr: config.lr as f32,
                beta1: config.beta1 as f32,
                beta2: config.beta2 as f32,
                eps: config.eps as f32,
                weight_decay: config.weight_decay as f32,
                step: STEP,
            },
            param: Buffer::zeros(n),
            grad: Buffer::random(n, 4),
            m: Buffer::zeros(n),
            v: Buffer::zeros(n),
        };
        case.reset();
        case
    }
}

impl Case for Step {
    fn work(&self) -> Work {
        let n = self.param.len() as f64;
        Work {
            items: n,
            unit: "Gparam/s",
            read: 16.0 * n,
            written: 12.0 * n,
            in_place: true,
            // Two moments 3 and 4, the denominator 2, the parameter 4 and its quotient 1; the root is apart.
            repeated: 0.0,
            repeated_set: 0,
            flops: 14.0 * n,
            roots: n,
            working_set: 16 * self.param.len(),
        }
    }

    fn reset(&mut self) {
        fill(&mut self.param, 1);
        fill(&mut self.m, 2);
        fill(&mut self.v, 3);
        for v in self.v.iter_mut() {
            *v = v.abs();
        }
    }

    fn run(&mut self) {
        self.step.update(AdamWTensor {
            param: &mut self.param,
            grad: &self.grad,
            m: &mut self.m,
            v: &mut self.v,
            v_max: None,
        });
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::adamw } else { naive::adamw_auto };
        f(&mut self.param, &self.grad, &mut self.m, &mut self.v, self.constants);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            // An update is at most some thousandths of a parameter here, and the naive constants are off by 1e-4.
            Output::new("param", &self.param, 1e-5),
            Output::new("m", &self.m, 1e-5),
            Output::new("v", &self.v, 1e-5),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
