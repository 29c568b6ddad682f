//! bf16: rounding, and AdamW on bf16 parameters from gradients in bf16.

use std::borrow::Cow;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::bf16;
use hotlanes::naive::{AdamWConstants, bf16 as naive};

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, fill};

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (default, n) in [(true, 65_536), (true, 2_359_296), (false, 1 << 25)] {
        rows.push(Row::new("bf16_from_f32", n, default, move || Narrow::new(n)));
        rows.push(Row::new("adamw_bf16_copy", n, default, move || Step::new(false, n)));
        rows.push(Row::new("adamw_bf16_split", n, default, move || Step::new(true, n)));
    }
    rows
}

/// bf16 as an output of a case.
fn halves<'a>(name: &'static str, values: &[u16], tolerance: f32) -> Output<'a> {
    let mut wide = vec![0.0; values.len()];
    bf16::to_f32(values, &mut wide);
    Output { name, values: Cow::Owned(wide), tolerance }
}

/// Rounding to bf16.
pub struct Narrow {
    x: Buffer,
    half: Vec<u16>,
}

impl Narrow {
    /// `n` values.
    pub fn new(n: usize) -> Self {
        Narrow { x: Buffer::random(n, 1), half: vec![0; n] }
    }
}

impl Case for Narrow {
    fn work(&self) -> Work {
        let n = self.x.len();
        Work {
            items: 6.0 * n as f64,
            unit: "GB/s",
            read: 4.0 * n as f64,
            written: 2.0 * n as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: 0.0,
            roots: 0.0,
            working_set: 6 * n,
        }
    }

    fn reset(&mut self) {
        self.half.fill(0x7FC0);
    }

    fn run(&mut self) {
        bf16::from_f32(&self.x, &mut self.half);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::bf16_from_f32 } else { naive::bf16_from_f32_auto };
        f(&self.x, &mut self.half);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![halves("bf16", &self.half, 0.0)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// A step; the plain loops keep an f32 parameter and a copy.
pub struct Step {
    split: bool,
    step: AdamWStep,
    constants: AdamWConstants,
    param: Buffer,
    high: Vec<u16>,
    low: Vec<u16>,
    grad: Vec<u16>,
    m: Buffer,
    v: Buffer,
}

const STEP: i32 = 10;

impl Step {
    /// `n` parameters.
    pub fn new(split: bool, n: usize) -> Self {
        let config = AdamWConfig::default();
        let step = AdamW::new(config).and_then(|a| a.at(STEP as u64)).expect("the defaults are in range");
        let mut grad = vec![0; n];
        bf16::from_f32(&Buffer::random(n, 4), &mut grad);
        let mut case = Step {
            split,
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
            high: vec![0; n],
            low: vec![0; n],
            grad,
            m: Buffer::zeros(n),
            v: Buffer::zeros(n),
        };
        case.reset();
        case
    }
}

impl Case for Step {
    fn work(&self) -> Work {
        let n = self.m.len() as f64;
        // The copy is written alone; halves are read and written.
        let (read, written) = if self.split { (14.0, 12.0) } else { (14.0, 14.0) };
        Work {
            items: n,
            unit: "Gparam/s",
            read: read * n,
            written: written * n,
            in_place: true,
            repeated: 0.0,
            repeated_set: 0,
            // As the step in f32.
            flops: 14.0 * n,
            roots: n,
            working_set: if self.split { 14 } else { 16 } * self.m.len(),
        }
    }

    fn reset(&mut self) {
        fill(&mut self.param, 1);
        fill(&mut self.m, 2);
        fill(&mut self.v, 3);
        for v in self.v.iter_mut() {
            *v = v.abs();
        }
        bf16::split(&self.param, &mut self.high, &mut self.low);
    }

    fn run(&mut self) {
        let Step { split, step, param, high, low, grad, m, v, .. } = self;
        let param =
            if *split { Bf16Param::Split { high, low } } else { Bf16Param::Copy { param, copy: high } };
        step.update_bf16(Bf16Tensor { param, grad: Gradient::Bf16(grad), m, v });
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::adamw_bf16 } else { naive::adamw_bf16_auto };
        f(&mut self.param, &mut self.high, &self.grad, &mut self.m, &mut self.v, self.constants);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            // Values that differ in a last bit may round to neighbours.
            halves("bf16", &self.high, 0.01),
            Output::new("m", &self.m, 1e-5),
            Output::new("v", &self.v, 1e-5),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
