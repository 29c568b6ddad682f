//! The kernels and sizes of the report: those of the PyTorch script that it is laid beside, and a few more.

mod activation;
mod adamw;
mod attention;
mod bf16;
mod dropout;
mod embedding;
mod layernorm;
mod loss;
mod matmul;
mod optim;
mod reduce;
mod rmsnorm;
mod sparse;
mod sparse_online;

use std::borrow::Cow;

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
pub struct Row {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The size, as the report prints it.
    pub size: String,
    /// Whether the report has it without `--full`.
    pub default: bool,
    build: Box<dyn Fn() -> Box<dyn Case>>,
}

impl Row {
    fn new<C: Case + 'static>(
        kernel: &'static str,
        size: impl ToString,
        default: bool,
        build: impl Fn() -> C + 'static,
    ) -> Self {
        Row { kernel, size: size.to_string(), default, build: Box::new(move || Box::new(build())) }
    }

    /// Makes the data.
    pub fn build(&self) -> Box<dyn Case> {
        (self.build)()
    }
}

/// All rows, family by family.
pub fn rows() -> Vec<Row> {
    let mut rows = adamw::rows();
    rows.extend(layernorm::rows());
    rows.extend(rmsnorm::rows());
    rows.extend(sparse::rows());
    rows.extend(sparse_online::rows());
    rows.extend(reduce::rows());
    rows.extend(embedding::rows());
    rows.extend(dropout::rows());
    rows.extend(bf16::rows());
    rows.extend(optim::rows());
    rows.extend(activation::rows());
    rows.extend(loss::rows());
    rows.extend(matmul::rows());
    rows.extend(attention::rows());
    rows
}

/// The names that `--kernel` takes.
pub fn kernels() -> Vec<&'static str> {
    let mut names = vec![];
    for row in rows() {
        if !names.contains(&row.kernel) {
            names.push(row.kernel);
        }
    }
    names
}
