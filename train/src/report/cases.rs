//! The kernels and sizes of the report: those of the PyTorch script that it is laid beside, and a few more.

mod adamw;
mod layernorm;
mod matmul;
mod sparse;

use std::borrow::Cow;

pub use matmul::Product;

/// The names that `--kernel` takes.
pub const KERNELS: [&str; 8] = [
    "adamw",
    "layernorm_fwd",
    "layernorm_bwd",
    "sparse_fwd",
    "sparse_bwd",
    "matmul",
    "linear",
    "linear_weight_grad",
];

/// What one run of a case has to do at least, whatever does it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// How much of `unit`'s subject one run gets through.
    pub items: f64,
    /// The unit of throughput: 1e9 items per second.
    pub unit: &'static str,
    /// Bytes read, each input once.
    pub read: f64,
    /// Bytes written, each output once.
    pub written: f64,
    /// Whether all that is written is also read.
    pub in_place: bool,
    /// Bytes that are read over and over, once for each connection.
    pub repeated: f64,
    /// How many different bytes those are.
    pub repeated_set: usize,
    /// Floating-point operations on multipliers and adders; a fused multiply-add is two.
    pub flops: f64,
    /// Square roots.
    pub roots: f64,
    /// Bytes that a run touches.
    pub working_set: usize,
}

/// One of the results of a run.
pub struct Output<'a> {
    /// What it is.
    pub name: &'static str,
    /// Its values.
    pub values: Cow<'a, [f32]>,
    /// By how much kernel and naive loop may differ, relative to the largest of the values.
    pub tolerance: f32,
}

impl<'a> Output<'a> {
    fn new(name: &'static str, values: &'a [f32], tolerance: f32) -> Self {
        Output { name, values: Cow::Borrowed(values), tolerance }
    }
}

/// Which of the plain loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// The naive loop, built for the binary's baseline.
    Naive,
    /// The same loop, vectorised by the compiler for this CPU.
    Auto,
}

/// A kernel at a size, with its data.
pub trait Case: Send {
    /// What one run has to do.
    fn work(&self) -> Work;
    /// Puts every input that a run changes back to what it was.
    fn reset(&mut self);
    /// Runs the kernel on the active tier.
    fn run(&mut self);
    /// Runs a plain loop.
    fn run_plain(&mut self, which: Plain);
    /// What the kernel gave.
    fn outputs(&self) -> Vec<Output<'_>>;
    /// What the plain loop gave, in the same order and layout.
    fn plain_outputs(&self) -> Vec<Output<'_>>;
}

/// A kernel and a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// One tensor of so many parameters.
    AdamW {
        /// Parameters.
        n: usize,
    },
    /// LayerNorm.
    LayerNorm {
        /// The gradient instead of the forward.
        backward: bool,
        /// Rows.
        rows: usize,
        /// Features of a row.
        features: usize,
    },
    /// A sparse layer.
    Sparse {
        /// The gradients instead of the forward.
        backward: bool,
        /// Sources.
        inputs: usize,
        /// Destinations.
        outputs: usize,
        /// The share of all possible connections that is there.
        density: f64,
        /// Examples; 1 takes the kernel for one example.
        batch: usize,
    },
    /// A matrix product.
    Matmul {
        /// What it is for.
        kind: Product,
        /// Rows of the result.
        rows: usize,
        /// Columns of the result.
        cols: usize,
        /// Multiply-adds for each result.
        k: usize,
    },
}

impl Shape {
    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        match self {
            Shape::AdamW { .. } => KERNELS[0],
            Shape::LayerNorm { backward, .. } => KERNELS[1 + *backward as usize],
            Shape::Sparse { backward, .. } => KERNELS[3 + *backward as usize],
            Shape::Matmul { kind, .. } => KERNELS[5 + *kind as usize],
        }
    }

    /// The size, as the report prints it.
    pub fn size(&self) -> String {
        match self {
            Shape::AdamW { n } => format!("{n}"),
            Shape::LayerNorm { rows, features, .. } => format!("{rows}x{features}"),
            Shape::Sparse { inputs, outputs, density, batch, .. } => {
                format!("{inputs}x{outputs}@{density}b{batch}")
            }
            Shape::Matmul { rows, cols, k, .. } => format!("{rows}x{cols}x{k}"),
        }
    }

    /// Makes the data.
    pub fn build(&self) -> Box<dyn Case> {
        match *self {
            Shape::AdamW { n } => Box::new(adamw::Step::new(n)),
            Shape::LayerNorm { backward: false, rows, features } => {
                Box::new(layernorm::Forward::new(rows, features))
            }
            Shape::LayerNorm { backward: true, rows, features } => {
                Box::new(layernorm::Backward::new(rows, features))
            }
            Shape::Sparse { backward, inputs, outputs, density, batch } => {
                Box::new(sparse::Layer::new(backward, inputs, outputs, density, batch))
            }
            Shape::Matmul { kind, rows, cols, k } => Box::new(matmul::Multiply::new(kind, rows, cols, k)),
        }
    }
}

/// The report's rows: a choice by default, all of them if `full`.
pub fn shapes(full: bool) -> impl Iterator<Item = Shape> {
    let adamw = [4096, 65_536, 2_359_296, 1 << 25].map(|n| (true, Shape::AdamW { n }));
    let norm = [false, true].into_iter().flat_map(|backward| {
        [
            (true, 256, 512),
            (true, 512, 512),
            (false, 1024, 512),
            (true, 2048, 512),
            (false, 2048, 128),
            (false, 1024, 768),
            (false, 256, 4096),
            (true, 4096, 64),
        ]
        .map(|(default, rows, features)| (default, Shape::LayerNorm { backward, rows, features }))
    });
    let sparse = [false, true].into_iter().flat_map(|backward| {
        [
            (true, 784, 128, 0.5, 1),
            (true, 784, 128, 0.5, 32),
            (false, 784, 128, 0.5, 512),
            (true, 784, 128, 0.1, 1),
            (true, 784, 128, 0.1, 32),
            (false, 784, 128, 0.1, 512),
            (false, 1024, 1024, 0.1, 1),
            (true, 1024, 1024, 0.1, 64),
            (false, 1024, 1024, 0.05, 128),
            (false, 1024, 1024, 0.01, 128),
        ]
        .map(|(default, inputs, outputs, density, batch)| {
            (default, Shape::Sparse { backward, inputs, outputs, density, batch })
        })
    });
    let matmul = [
        (true, Product::Plain, 256, 256, 256),
        (true, Product::Plain, 512, 512, 512),
        (false, Product::Plain, 1024, 1024, 1024),
        (false, Product::Plain, 1, 512, 512),
        (true, Product::Linear, 2048, 512, 128),
        (false, Product::Linear, 2048, 384, 128),
        (true, Product::WeightGrad, 128, 512, 2048),
    ]
    .map(|(default, kind, rows, cols, k)| (default, Shape::Matmul { kind, rows, cols, k }));
    let all = adamw.into_iter().chain(norm).chain(sparse).chain(matmul);
    all.filter(move |(default, _)| full || *default).map(|(_, shape)| shape)
}
