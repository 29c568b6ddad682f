//! A case that is built: its run, its plain loop, its outputs and their comparison.

use std::hint::black_box;

use crate::memory::{Buf, Element};

/// Which of the plain loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// The naive loop, built for the binary's baseline.
    Naive,
    /// The same loop, vectorised by the compiler for the active tier; where there is none, the naive loop.
    Auto,
}

/// `pick!(which, naive, auto)`: one of two functions.
macro_rules! pick {
    ($which:expr, $naive:expr, $auto:expr) => {
        if $which == $crate::run::Plain::Naive { $naive } else { $auto }
    };
}
pub(crate) use pick;

/// The least that one run has to do, whatever does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Items of one run: the throughput's numerator.
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

impl Work {
    /// A sweep that reads and writes this many bytes, each once, measured in GB/s of both.
    pub fn sweep(read: usize, written: usize, flops: f64) -> Work {
        let (working_set, read, written) = (read + written, read as f64, written as f64);
        Work { items: read + written, unit: "GB/s", read, written, flops, working_set, ..Work::default() }
    }
}

/// One of the results of a run.
pub struct Output<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: &'a mut dyn Content,
    /// How far kernel and plain loop may differ, relative to the largest of the values.
    pub tolerance: f32,
    /// Whether the values of a smaller first number of the size are a prefix of these.
    pub is_prefix: bool,
}

impl<'a> Output<'a> {
    /// An output.
    pub fn new(name: &'static str, values: &'a mut dyn Content, tolerance: f32) -> Self {
        Output { name, values, tolerance, is_prefix: false }
    }

    /// One in which a row (an element, where the size is one number) depends on no other row: with fewer of them, the
    /// same values.
    pub fn rows(name: &'static str, values: &'a mut dyn Content, tolerance: f32) -> Self {
        Output { is_prefix: true, ..Output::new(name, values, tolerance) }
    }
}

/// The content of a buffer of any element.
pub trait Content {
    /// The values, for a comparison within a tolerance.
    fn values(&self) -> Vec<f32>;
    /// The bits, every NaN the same.
    fn bits(&self) -> Vec<u32>;
    /// Fills it as at first.
    fn reset(&mut self);
}

impl<T: Element> Content for Buf<T> {
    fn values(&self) -> Vec<f32> {
        self.iter().map(|x| x.to_f32()).collect()
    }

    fn bits(&self) -> Vec<u32> {
        // The tests' most frequent loop, which is unoptimised there: without iterators.
        let (values, mut bits) = (&**self, vec![0; self.len()]);
        let mut i = 0;
        while i < values.len() {
            bits[i] = values[i].bits();
            i += 1;
        }
        bits
    }

    fn reset(&mut self) {
        Buf::reset(self);
    }
}

/// A case at a size, with its data.
pub trait Run: Send {
    /// Calls the kernel once, on the active tier, and allocates nothing.
    fn run(&mut self);
    /// Runs a plain loop.
    fn plain(&mut self, which: Plain);
    /// Everything that a run changes, but scratch.
    fn outputs(&mut self) -> Vec<Output<'_>>;
    /// The plain loop's results, in the order and layout of the outputs.
    fn plain_values(&mut self) -> Vec<Vec<f32>> {
        self.outputs().iter().map(|o| o.values.values()).collect()
    }
    /// The work of one run.
    fn work(&self) -> Work;

    /// Puts everything that a run changes back to what it was.
    fn reset(&mut self) {
        for output in self.outputs() {
            output.values.reset();
        }
    }

    /// The bits of all outputs of one run from the start, on the active tier.
    fn result(&mut self) -> Vec<Vec<u32>> {
        self.reset();
        self.run();
        self.outputs().iter().map(|o| o.values.bits()).collect()
    }

    /// Runs the kernel and the naive loop from the start, and compares.
    ///
    /// # Errors
    /// A value that is further from the naive loop's than its output's tolerance, named.
    fn check(&mut self) -> Result<(), String> {
        self.reset();
        self.run();
        let got: Vec<Vec<f32>> = self.outputs().iter().map(|o| o.values.values()).collect();
        self.compare(&got)
    }

    /// Compares values of all outputs with the naive loop's, from the start.
    ///
    /// # Errors
    /// As [`Run::check`].
    fn compare(&mut self, got: &[Vec<f32>]) -> Result<(), String> {
        self.reset();
        self.plain(Plain::Naive);
        let want = self.plain_values();
        let outputs = self.outputs();
        assert_eq!(outputs.len(), want.len(), "a plain result for each output");
        for ((output, got), want) in outputs.iter().zip(got).zip(&want) {
            compare(output.name, got, want, output.tolerance)?;
        }
        Ok(())
    }
}

/// Compares with a tolerance relative to the largest of the expected values, or to 0.01 if that is more: a few values
/// of inputs around 1 may cancel. Equal bits are near, whatever they mean.
///
/// # Errors
/// The first value that is too far, or a NaN.
pub fn compare(name: &str, got: &[f32], want: &[f32], tolerance: f32) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{name} has {} values, the naive loop {}", got.len(), want.len()));
    }
    let largest = want.iter().fold(0.01f32, |a, x| a.max(x.abs()));
    let near = |got: f32, want: f32| {
        got == want || got.to_bits() == want.to_bits() || (got - want).abs() <= tolerance * largest
    };
    match got.iter().zip(want).position(|(g, w)| !near(*g, *w)) {
        None => Ok(()),
        Some(i) => Err(format!("{name}[{i}] is {}, the naive loop says {}", got[i], want[i])),
    }
}

/// A 64-bit hash of the outputs' bits, with their lengths: FNV's step on eight strands, as one is slow.
#[derive(Clone)]
pub struct Hash([u64; 8]);

impl Default for Hash {
    fn default() -> Self {
        Hash([0xcbf2_9ce4_8422_2325; 8])
    }
}

impl Hash {
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// Adds one output.
    pub fn add(&mut self, bits: &[u32]) {
        for block in bits.chunks(8) {
            for (h, x) in self.0.iter_mut().zip(block) {
                *h = (*h ^ u64::from(*x)).wrapping_mul(Self::PRIME);
            }
        }
        self.0[0] = (self.0[0] ^ bits.len() as u64).wrapping_mul(Self::PRIME);
    }

    /// The hash of all that was added.
    pub fn get(&self) -> u64 {
        // Joined with a rotation: a sum or a plain xor would not see two strands exchanged.
        self.0.iter().fold(0, |all, h| (all.rotate_left(5) ^ h).wrapping_mul(Self::PRIME | 1 << 63))
    }
}

type PlainValues<S> = fn(&mut S) -> Vec<Vec<f32>>;

/// A run made of its data and functions on it.
struct Instance<S, R, P> {
    state: S,
    work: Work,
    run: R,
    plain: P,
    outputs: fn(&mut S) -> Vec<Output<'_>>,
    plain_values: Option<PlainValues<S>>,
}

impl<S: Send, R: Fn(&mut S) + Send, P: Fn(&mut S, Plain) + Send> Run for Instance<S, R, P> {
    fn run(&mut self) {
        (self.run)(black_box(&mut self.state));
    }

    fn plain(&mut self, which: Plain) {
        (self.plain)(black_box(&mut self.state), which);
    }

    fn outputs(&mut self) -> Vec<Output<'_>> {
        (self.outputs)(&mut self.state)
    }

    fn plain_values(&mut self) -> Vec<Vec<f32>> {
        match self.plain_values {
            Some(values) => values(&mut self.state),
            None => self.outputs().iter().map(|o| o.values.values()).collect(),
        }
    }

    fn work(&self) -> Work {
        self.work
    }
}

/// A run whose plain loop writes to the same outputs.
pub fn instance<S: Send + 'static>(
    state: S,
    work: Work,
    run: impl Fn(&mut S) + Send + 'static,
    plain: impl Fn(&mut S, Plain) + Send + 'static,
    outputs: fn(&mut S) -> Vec<Output<'_>>,
) -> Box<dyn Run> {
    Box::new(Instance { state, work, run, plain, outputs, plain_values: None })
}

/// A run whose plain loop has outputs of its own, in another layout: `plain_values` gives them in the kernel's.
pub fn instance_apart<S: Send + 'static>(
    state: S,
    work: Work,
    run: impl Fn(&mut S) + Send + 'static,
    plain: impl Fn(&mut S, Plain) + Send + 'static,
    outputs: fn(&mut S) -> Vec<Output<'_>>,
    plain_values: PlainValues<S>,
) -> Box<dyn Run> {
    Box::new(Instance { state, work, run, plain, outputs, plain_values: Some(plain_values) })
}
