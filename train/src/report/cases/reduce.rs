//! Reductions, aggregation, and clipping with an AdamW step.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor};
use hotlanes::clip::{Clip, ClipConfig};
use hotlanes::naive::{self, AdamWConstants};
use hotlanes::reduce;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::{Buffer, fill};

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (kernel, which) in [
        ("sum", Reduction::Sum),
        ("dot", Reduction::Dot),
        ("norm", Reduction::Norm),
        ("mean_var", Reduction::MeanVar),
        ("max", Reduction::Max),
    ] {
        for (default, n) in [(true, 65_536), (true, 1 << 20), (false, 1 << 22)] {
            rows.push(Row::new(kernel, n, default, move || Reduce::new(which, n)));
        }
    }
    for (default, k, n) in [(true, 4, 65_536), (false, 8, 1 << 20)] {
        rows.push(Row::new("aggregate", format!("{k}x{n}"), default, move || Aggregate::new(k, n)));
    }
    rows.push(Row::new("clip_adamw", "36x65536", true, || ClipAdamW::new(36, 65_536)));
    rows
}

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The dot product.
    Dot,
    /// The L2 norm.
    Norm,
    /// Mean and variance.
    MeanVar,
    /// The maximum.
    Max,
}

/// A reduction of one slice, or two.
pub struct Reduce {
    which: Reduction,
    x: Buffer,
    y: Buffer,
    results: [f32; 2],
}

impl Reduce {
    /// Slices of `n` elements.
    pub fn new(which: Reduction, n: usize) -> Self {
        let mut case =
            Reduce { which, x: Buffer::random(n, 1), y: Buffer::random(n, 2), results: [f32::NAN; 2] };
        // Of one sign: a sum of nothing much would be compared with nothing much.
        for x in case.x.iter_mut().chain(case.y.iter_mut()) {
            *x = x.abs() + 0.5;
        }
        case
    }
}

impl Case for Reduce {
    fn work(&self) -> Work {
        let n = self.x.len() as f64;
        let bytes = if self.which == Reduction::Dot { 8.0 * n } else { 4.0 * n };
        Work {
            items: bytes,
            unit: "GB/s",
            read: bytes,
            written: 0.0,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: match self.which {
                Reduction::Sum | Reduction::Max => n,
                Reduction::Dot | Reduction::Norm => 2.0 * n,
                // The mean 1, deviation 1, its sum 1, its square's 2.
                Reduction::MeanVar => 5.0 * n,
            },
            roots: 0.0,
            working_set: bytes as usize,
        }
    }

    fn reset(&mut self) {
        self.results = [f32::NAN; 2];
    }

    fn run(&mut self) {
        let one = |x| [x, 1.0];
        self.results = match self.which {
            Reduction::Sum => one(reduce::sum(&self.x)),
            Reduction::Dot => one(reduce::dot(&self.x, &self.y)),
            Reduction::Norm => one(reduce::norm(&self.x)),
            Reduction::Max => one(reduce::max(&self.x)),
            Reduction::MeanVar => {
                let r = reduce::mean_var(&self.x);
                [r.mean, r.variance]
            }
        };
    }

    fn run_plain(&mut self, which: Plain) {
        use naive::reduce as plain;
        let auto = which == Plain::Auto;
        let (x, y) = (&self.x, &self.y);
        let [result, second] = &mut self.results;
        *second = 1.0;
        match self.which {
            Reduction::Sum => (if auto { plain::sum_auto } else { plain::sum })(x, result),
            Reduction::Dot => (if auto { plain::dot_auto } else { plain::dot })(x, y, result),
            Reduction::Norm => (if auto { plain::norm_auto } else { plain::norm })(x, result),
            Reduction::Max => (if auto { plain::max_auto } else { plain::max })(x, result),
            Reduction::MeanVar => {
                (if auto { plain::mean_var_auto } else { plain::mean_var })(x, result, second)
            }
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        // What the plain loop loses in one long f32 sum.
        self.results
            .iter()
            .zip(["result", "second"])
            .map(|(r, name)| Output::new(name, std::slice::from_ref(r), 2e-2))
            .collect()
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// Buffers into one.
pub struct Aggregate {
    buffers: Vec<Buffer>,
    dst: Buffer,
}

impl Aggregate {
    /// `k` buffers of `n` elements.
    pub fn new(k: usize, n: usize) -> Self {
        Aggregate { buffers: (0..k).map(|i| Buffer::random(n, i as u32)).collect(), dst: Buffer::zeros(n) }
    }

    fn call(&mut self, f: impl Fn(&mut [f32], &[&[f32]], f32)) {
        let buffers: Vec<&[f32]> = self.buffers.iter().map(|b| &b[..]).collect();
        f(&mut self.dst, &buffers, 1.0 / buffers.len() as f32);
    }
}

impl Case for Aggregate {
    fn work(&self) -> Work {
        let (k, n) = (self.buffers.len() as f64, self.dst.len() as f64);
        Work {
            items: 4.0 * (k + 1.0) * n,
            unit: "GB/s",
            read: 4.0 * k * n,
            written: 4.0 * n,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: k * n,
            roots: 0.0,
            working_set: 4 * (self.buffers.len() + 1) * self.dst.len(),
        }
    }

    fn reset(&mut self) {
        self.dst.fill(f32::NAN);
    }

    fn run(&mut self) {
        self.call(reduce::aggregate);
    }

    fn run_plain(&mut self, which: Plain) {
        self.call(if which == Plain::Auto {
            naive::reduce::aggregate_auto
        } else {
            naive::reduce::aggregate
        });
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("dst", &self.dst, 1e-5)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// A clip and a step on tensors that lie one after the other.
pub struct ClipAdamW {
    clip: Clip,
    step: AdamWStep,
    constants: AdamWConstants,
    tensors: usize,
    param: Buffer,
    grad: Buffer,
    m: Buffer,
    v: Buffer,
}

/// The step's number: far enough for both bias corrections to matter.
const STEP: i32 = 10;

impl ClipAdamW {
    /// `tensors` of `n` parameters.
    pub fn new(tensors: usize, n: usize) -> Self {
        let config = AdamWConfig::default();
        let size = tensors * n;
        let mut case = ClipAdamW {
            clip: Clip::new(ClipConfig::default()).expect("the defaults are in range"),
            step: AdamW::new(config).and_then(|a| a.at(STEP as u64)).expect("the defaults are in range"),
            constants: AdamWConstants {
                lr: config.lr as f32,
                beta1: config.beta1 as f32,
                beta2: config.beta2 as f32,
                eps: config.eps as f32,
                weight_decay: config.weight_decay as f32,
                step: STEP,
            },
            tensors,
            param: Buffer::zeros(size),
            grad: Buffer::zeros(size),
            m: Buffer::zeros(size),
            v: Buffer::zeros(size),
        };
        case.reset();
        case
    }
}

impl Case for ClipAdamW {
    fn work(&self) -> Work {
        let n = self.param.len() as f64;
        Work {
            items: n,
            unit: "Gparam/s",
            // The gradient twice: beyond the caches its norm has to be known before it is used.
            read: 20.0 * n,
            written: 12.0 * n,
            in_place: true,
            repeated: 0.0,
            repeated_set: 0,
            // AdamW's 14, the norm 2, the factor 1.
            flops: 17.0 * n,
            roots: n,
            working_set: 16 * self.param.len(),
        }
    }

    fn reset(&mut self) {
        fill(&mut self.param, 1);
        fill(&mut self.m, 2);
        fill(&mut self.v, 3);
        fill(&mut self.grad, 4);
        for v in self.v.iter_mut() {
            *v = v.abs();
        }
    }

    fn run(&mut self) {
        let len = self.param.len() / self.tensors;
        let moments = self.m.chunks_mut(len).zip(self.v.chunks_mut(len));
        let mut tensors: Vec<AdamWTensor<'_>> =
            (self.param.chunks_mut(len).zip(self.grad.chunks(len)).zip(moments))
                .map(|((param, grad), (m, v))| AdamWTensor { param, grad, m, v, v_max: None })
                .collect();
        let outcome = self.clip.step(&self.step, &mut tensors);
        assert!(!outcome.skipped && outcome.clip_factor < 1.0, "{outcome:?}");
    }

    fn run_plain(&mut self, which: Plain) {
        let f =
            if which == Plain::Naive { naive::reduce::clip_adamw } else { naive::reduce::clip_adamw_auto };
        f(&mut self.param, &mut self.grad, &mut self.m, &mut self.v, 1.0, self.constants);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            Output::new("param", &self.param, 1e-5),
            Output::new("m", &self.m, 1e-5),
            Output::new("v", &self.v, 1e-5),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
