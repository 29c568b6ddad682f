//! A training step: forward, backward, optimizer. A batch is cut into chunks of rows by its size alone, so threads
//! change no bit; nothing is allocated once the engine is made.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotlanes::activation::Activation;
use hotlanes::adamw::{AdamW, AdamWTensor};
use hotlanes::axpy::multiply;
use hotlanes::dropout::Dropout;
use hotlanes::matmul::{Epilogue, Mat, MatMut, matmul, matmul_with};
use hotlanes::reduce::{aggregate, column_sums};
use rayon::prelude::*;

use super::head::{Head, Targets};
use super::layout::{Layout, Linear};
use super::settings::{LossKind, Settings};
use crate::rng::Rng;
use crate::shell::parts::Parts;
use crate::shell::profile::{Memory, Work, op, region};
use crate::shell::settings::SettingError;
use hotlanes::AlignedVec;

/// Chunks of a batch at most: each has a gradient of its own.
const MOST_CHUNKS: usize = 16;
/// Rows of a chunk at least. Adding a chunk's gradient to the others' costs a fortieth of making it.
const CHUNK_ROWS: usize = 256;

/// Purpose of the random numbers of dropout.
const DROPOUT: u64 = 0x6d6c_7001;

/// Rows of a chunk in batches of so many.
pub fn chunk_rows(batch: usize) -> usize {
    CHUNK_ROWS.max(batch.div_ceil(MOST_CHUNKS).next_multiple_of(16))
}

/// The memory of an engine of such a model and batch, on the threads of the current pool.
pub fn memory_needed(layout: &Layout, batch: usize) -> Memory {
    let (size, parameters) = (chunk_rows(batch), 4.0 * layout.len() as f64);
    let chunks = batch.div_ceil(size);
    let rows = (chunks.min(rayon::current_num_threads()) * size.min(batch)) as f64;
    let hidden: f64 = layout.layers()[1..].iter().map(|layer| layer.input as f64).sum();
    Memory {
        parameters,
        gradients: if chunks > 1 { chunks as f64 + 1.0 } else { 1.0 } * parameters,
        optimizer: 2.0 * parameters,
        activations: 4.0 * rows * (2.0 * hidden + layout.outputs() as f64),
        scratch: 4.0 * rows * (2.0 * layout.widest() as f64 + 1.0),
        data: 0.0,
    }
}

/// What a forward pass computes with.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) layout: &'a Layout,
    pub(super) params: &'a [f32],
    pub(super) activation: Activation,
}

impl Model<'_> {
    /// The outputs of some rows, without dropout; `hidden` has two buffers of rows by the widest layer.
    pub(super) fn outputs(&self, x: &[f32], rows: usize, [a, b]: &mut [AlignedVec; 2], out: &mut [f32]) {
        let layers = self.layout.layers();
        let last = layers.len() - 1;
        let (mut from, mut to) = (a, b);
        for (i, layer) in layers.iter().enumerate() {
            let input = if i == 0 { x } else { &from[..rows * layer.input] };
            if i == last {
                self.linear(i, input, rows, out);
            } else {
                let z = &mut to[..rows * layer.out];
                self.linear(i, input, rows, z);
                let n = z.len();
                op!("activation: forward", i, [rows, layer.out, 0], of_activation(n, 2) => {
                    self.activation.forward_in_place(z);
                });
                std::mem::swap(&mut from, &mut to);
            }
        }
    }

    /// `z = x W^T + bias`.
    fn linear(&self, i: usize, x: &[f32], rows: usize, z: &mut [f32]) {
        let Linear { input, out, .. } = self.layout.layers()[i];
        let (weights, bias) = self.of(i);
        op!("linear: forward", i, [rows, out, input], of_product(rows, out, input) => {
            let (x, w) = (Mat::new(x, rows, input), Mat::new(weights, out, input).t());
            let epilogue = Epilogue { bias: Some(bias), ..Epilogue::default() };
            matmul_with(x, w, MatMut::new(z, rows, out), epilogue);
        });
    }

    fn of(&self, i: usize) -> (&[f32], &[f32]) {
        let layer = &self.layout.layers()[i];
        (&self.params[layer.weights()], &self.params[layer.bias()])
    }
}

/// The work of a product.
fn of_product(m: usize, n: usize, k: usize) -> Work {
    Work::of_values(2 * m * n * k, m * k + k * n + m * n)
}

/// Floating-point operations of an activation's value, of a loss, and of a parameter's update, about.
const ACTIVATION_FLOPS: usize = 20;
const LOSS_FLOPS: usize = 4;
const ADAMW_FLOPS: usize = 14;

/// The work of an activation of so many values, each of which reads or writes `each` numbers.
fn of_activation(n: usize, each: usize) -> Work {
    Work::of_values(ACTIVATION_FLOPS * n, each * n)
}

/// What decides the mathematics of a chunk beside its rows.
#[derive(Clone, Copy)]
struct Pass<'a> {
    model: Model<'a>,
    head: &'a Head,
    /// What gradients are multiplied by.
    weight: f32,
    /// Dropout after each hidden layer, if there is any.
    masks: &'a [Dropout],
}

/// The rows of a chunk in the making, and what its backward reads again.
struct Scratch {
    /// Of each hidden layer: its values, then the activation's slopes at them, and what the next layer takes.
    slope: Vec<AlignedVec>,
    a: Vec<AlignedVec>,
    /// The outputs, then their gradient.
    out: AlignedVec,
    /// Gradients of a layer's values.
    da: [AlignedVec; 2],
    losses: Vec<f32>,
}

impl Scratch {
    fn new(layout: &Layout, rows: usize) -> Self {
        let zeros = |values: usize| AlignedVec::zeros(rows * values);
        let each = || layout.layers()[1..].iter().map(|layer| zeros(layer.input)).collect();
        Scratch {
            slope: each(),
            a: each(),
            out: zeros(layout.outputs()),
            da: [(); 2].map(|()| zeros(layout.widest())),
            losses: vec![0.0; rows],
        }
    }

    /// The sum of the losses of a chunk's rows, the first of which is number `first` of the batch, and their gradient.
    fn run(&mut self, pass: Pass<'_>, chunk: &mut Chunk, x: &[f32], targets: Targets<'_>, first: usize) {
        self.forward(pass, x, targets.rows(), first);
        let (rows, outputs) = (targets.rows(), pass.model.layout.outputs());
        let n = rows * outputs;
        let (out, losses) = (&mut self.out[..n], &mut self.losses[..rows]);
        chunk.loss = op!("loss", None, [rows, outputs, 0], Work::of_values(LOSS_FLOPS * n, 3 * n) => {
            pass.head.gradient(out, targets, pass.weight, losses)
        });
        self.backward(pass, &mut chunk.gradient, x, (rows, first));
    }

    fn forward(&mut self, Pass { model, masks, .. }: Pass<'_>, x: &[f32], rows: usize, first: usize) {
        let Scratch { slope, a, out, da: [room, _], .. } = self;
        let (last, hidden) = model.layout.layers().split_last().expect("there is a layer");
        for (i, &Linear { input, out, .. }) in hidden.iter().enumerate() {
            let n = rows * out;
            let (before, after) = a.split_at_mut(i);
            let x = before.last().map_or(x, |a| &a[..rows * input]);
            let (z, a) = (&mut slope[i][..n], &mut after[0][..n]);
            model.linear(i, x, rows, z);
            let mask = masks.get(i);
            let activated = if mask.is_some() { &mut room[..n] } else { &mut *a };
            op!("activation: forward", i, [rows, out, 0], of_activation(n, 3) => {
                model.activation.forward_with_slope(z, activated);
            });
            if let Some(mask) = mask {
                op!("dropout", i, [rows, out, 0], Work::of_values(n, 2 * n) => {
                    mask.forward(&room[..n], a, (first * out) as u64);
                });
            }
        }
        let x = a.last().map_or(x, |a| &a[..rows * last.input]);
        model.linear(hidden.len(), x, rows, &mut out[..rows * last.out]);
    }

    fn backward(
        &mut self,
        Pass { model, masks, .. }: Pass<'_>,
        gradient: &mut [f32],
        x: &[f32],
        (rows, first): (usize, usize),
    ) {
        let Scratch { slope, a, out: outputs, da, .. } = self;
        let [mut dz_room, mut dx_room] = da.each_mut();
        let layers = model.layout.layers();
        for (i, layer) in layers.iter().enumerate().rev() {
            let &Linear { input, out, .. } = layer;
            let dz = if i + 1 == layers.len() { &outputs[..rows * out] } else { &dz_room[..rows * out] };
            let n = rows * input;
            let x = if i == 0 { x } else { &a[i - 1][..n] };
            op!("linear: weight gradient", i, [out, input, rows], of_product(out, input, rows) => {
                let dw = MatMut::new(&mut gradient[layer.weights()], out, input);
                matmul(Mat::new(dz, rows, out).t(), Mat::new(x, rows, input), dw);
            });
            op!("bias gradient", i, [rows, out, 0], Work::of_values(rows * out, rows * out) => {
                column_sums(dz, &mut gradient[layer.bias()], false);
            });
            // Nothing asks for the gradient of the features.
            if i == 0 {
                return;
            }
            op!("linear: input gradient", i, [rows, input, out], of_product(rows, input, out) => {
                let w = Mat::new(model.of(i).0, out, input);
                matmul(Mat::new(dz, rows, out), w, MatMut::new(&mut dx_room[..n], rows, input));
            });
            match masks.get(i - 1) {
                None => std::mem::swap(&mut dz_room, &mut dx_room),
                Some(mask) => op!("dropout", i - 1, [rows, input, 0], Work::of_values(n, 2 * n) => {
                    mask.backward(&dx_room[..n], &mut dz_room[..n], (first * input) as u64);
                }),
            }
            op!("activation: backward", i - 1, [rows, input, 0], Work::of_values(n, 3 * n) => {
                multiply(&slope[i - 1][..n], &mut dz_room[..n]);
            });
        }
    }
}

/// What a chunk of rows comes to.
struct Chunk {
    loss: f64,
    gradient: AlignedVec,
}

/// A model in training.
pub struct Engine {
    layout: Layout,
    activation: Activation,
    dropout: Option<Dropout>,
    seed: u64,
    head: Head,
    optimizer: AdamW,
    params: AlignedVec,
    m: AlignedVec,
    v: AlignedVec,
    steps: u64,
    /// Rows of a batch, and of a chunk.
    rows: usize,
    chunk_rows: usize,
    chunks: Vec<Chunk>,
    /// One for each thread that works on chunks: fewer stay in its cache.
    scratch: Mutex<Vec<Scratch>>,
    /// The sum of the chunks' gradients, where there is more than one.
    gradient: AlignedVec,
    /// One mask for each hidden layer.
    masks: Vec<Dropout>,
}

impl Engine {
    /// For batches of up to `batch` rows. Allocates all that steps need.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn new(layout: Layout, settings: &Settings, loss: LossKind) -> Result<Self, SettingError> {
        let (rows, chunk_rows) = (settings.batch, chunk_rows(settings.batch));
        let dropout =
            (settings.dropout > 0.0).then(|| Dropout::new(settings.dropout, settings.seed)).transpose()?;
        let chunks = (0..rows.div_ceil(chunk_rows)).map(|_| Chunk { loss: 0.0, gradient: layout.zeros() });
        let chunks: Vec<Chunk> = chunks.collect();
        let threads = chunks.len().min(rayon::current_num_threads());
        let scratch = (0..threads).map(|_| Scratch::new(&layout, chunk_rows.min(rows))).collect();
        Ok(Engine {
            activation: settings.activation.kernel(),
            seed: settings.seed,
            head: Head::new(loss, settings.delta, layout.outputs())?,
            optimizer: settings.optimizer(settings.lr)?,
            params: layout.init(settings.seed),
            m: layout.zeros(),
            v: layout.zeros(),
            steps: 0,
            rows,
            chunk_rows,
            gradient: if chunks.len() > 1 { layout.zeros() } else { AlignedVec::default() },
            masks: dropout.map_or(Vec::new(), |mask| vec![mask; layout.layers().len() - 1]),
            dropout,
            chunks,
            scratch: Mutex::new(scratch),
            layout,
        })
    }

    /// Where each parameter lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The loss.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of its buffers.
    pub fn memory(&self) -> Memory {
        memory_needed(&self.layout, self.rows)
    }

    /// The parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The moments, and how many steps have been taken.
    pub fn state(&self) -> (&[f32], &[f32], u64) {
        (&self.m, &self.v, self.steps)
    }

    /// Continues from this state.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn restore(&mut self, params: &[f32], m: &[f32], v: &[f32], steps: u64) {
        self.params.copy_from_slice(params);
        self.m.copy_from_slice(m);
        self.v.copy_from_slice(v);
        self.steps = steps;
    }

    /// The mean loss of a batch, and its gradient: [`Engine::gradient`].
    ///
    /// # Panics
    /// If there are no rows, more than a batch has, or not as many features.
    pub fn gradients(&mut self, x: &[f32], targets: Targets<'_>) -> f64 {
        let rows = targets.rows();
        assert!(rows > 0 && rows <= self.rows, "a batch of {rows} rows: must be from 1 to {}", self.rows);
        let (inputs, size) = (self.layout.inputs(), self.chunk_rows);
        assert_eq!(x.len(), rows * inputs, "{} features of {rows} rows", x.len());
        if let Some(dropout) = self.dropout {
            let (seed, step) = (self.seed, self.steps);
            for (layer, mask) in self.masks.iter_mut().enumerate() {
                *mask = dropout.with_seed(Rng::new(seed, DROPOUT, step, layer as u64).bits());
            }
        }
        let model = Model { layout: &self.layout, params: &self.params, activation: self.activation };
        let weight = (1.0 / rows as f64) as f32;
        let pass = Pass { model, head: &self.head, weight, masks: &self.masks };
        let count = rows.div_ceil(size);
        let (scratch, room) = (&self.scratch, size.min(self.rows));
        let run = |(i, chunk): (usize, &mut Chunk)| {
            let own: Range<usize> = i * size..rows.min((i + 1) * size);
            // A pool with more threads than there were at first has more of them.
            let free = lock(scratch).pop();
            let mut free = free.unwrap_or_else(|| Scratch::new(model.layout, room));
            let x = &x[own.start * inputs..own.end * inputs];
            free.run(pass, chunk, x, targets.of(own.clone()), own.start);
            lock(scratch).push(free);
        };
        let chunks = &mut self.chunks[..count];
        if count == 1 || rayon::current_num_threads() == 1 {
            chunks.iter_mut().enumerate().for_each(run);
        } else {
            let parts = Parts::new(count, rows.is_multiple_of(size));
            region!("chunks" => chunks.par_iter_mut().enumerate().with_max_len(1).for_each(|chunk| {
                parts.run(|| run(chunk));
            }));
        }
        let loss: f64 = chunks.iter().map(|chunk| chunk.loss).sum();
        if count > 1 {
            let mut buffers: [&[f32]; MOST_CHUNKS] = [&[]; MOST_CHUNKS];
            buffers.iter_mut().zip(&*chunks).for_each(|(buffer, chunk)| *buffer = &chunk.gradient);
            let n = self.layout.len();
            op!("sum of chunks", None, [count, n, 0], Work::of_values(count * n, (count + 1) * n) => {
                aggregate(&mut self.gradient, &buffers[..count], 1.0);
            });
            // A batch of one chunk leaves it there.
            std::mem::swap(&mut self.gradient, &mut self.chunks[0].gradient);
        }
        loss / rows as f64
    }

    /// The gradient of the last batch's mean loss.
    pub fn gradient(&self) -> &[f32] {
        &self.chunks[0].gradient
    }

    /// A step of the optimizer with [`Engine::gradient`].
    ///
    /// # Panics
    /// If `lr` is not finite or negative.
    pub fn step(&mut self, lr: f64) {
        self.steps += 1;
        let step = self.optimizer.with_lr(lr).and_then(|optimizer| optimizer.at(self.steps));
        let step = step.unwrap_or_else(|e| panic!("{e}"));
        let n = self.params.len();
        op!("AdamW", None, [n, 0, 0], Work::of_values(ADAMW_FLOPS * n, 7 * n) => {
            step.update(AdamWTensor {
                param: &mut self.params,
                grad: &self.chunks[0].gradient,
                m: &mut self.m,
                v: &mut self.v,
                v_max: None,
            });
        });
    }
}

/// No data is left half written by a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_depend_on_the_batch_alone() {
        assert_eq!([1, 256, 257, 4096, 4097, 65_536].map(chunk_rows), [256, 256, 256, 256, 272, 4096]);
        assert!((1..20_000).all(|batch: usize| batch.div_ceil(chunk_rows(batch)) <= MOST_CHUNKS));
    }
}
