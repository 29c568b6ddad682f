//! Training one individual on a block of examples.

use std::sync::Mutex;

use hotlanes::HyperParamError;
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::convert;
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};
use hotlanes::sparse::Csr;

use super::network::Network;
use super::online;
use super::plan::{Level, Plans};
use super::stream::Block;
use crate::shell::profile::{Memory, Work, bytes, op, open, phase};
use hotlanes::AlignedVec;

/// A network, its plans, and how far it has come.
#[derive(Clone, Debug)]
pub struct Individual {
    /// The network.
    pub network: Network,
    /// Its plans, in step with its structure.
    pub plans: Plans,
    /// Optimizer steps so far.
    pub steps: u64,
    /// The sum of the losses of the examples since the generation began, each from before its step.
    pub loss: f64,
}

impl Individual {
    /// An untrained one.
    pub fn new(network: Network) -> Self {
        Individual { plans: Plans::new(&network), network, steps: 0, loss: 0.0 }
    }

    /// Whether its loss and its weights are finite; if not, it has diverged.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.network.values().iter().all(|w| w.is_finite())
    }
}

/// How weights follow gradients.
#[derive(Clone, Copy, Debug)]
pub enum Optimizer {
    /// Plain stochastic gradient descent; the gradient of a batch is the mean of its examples'.
    Sgd(Sgd),
    /// AdamW.
    AdamW(AdamW),
}

impl Optimizer {
    /// Plain SGD.
    ///
    /// # Errors
    /// `lr` is not finite or negative.
    pub fn sgd(lr: f64) -> Result<Self, HyperParamError> {
        Ok(Optimizer::Sgd(Sgd::new(SgdConfig { lr, ..Default::default() })?))
    }

    /// AdamW.
    ///
    /// # Errors
    /// `lr` or `weight_decay` is not finite or negative.
    pub fn adamw(lr: f64, weight_decay: f64) -> Result<Self, HyperParamError> {
        Ok(Optimizer::AdamW(AdamW::new(AdamWConfig { lr, weight_decay, ..Default::default() })?))
    }

    /// The work of a step on so many weights.
    fn work(&self, weights: usize) -> Work {
        match self {
            Optimizer::Sgd(_) => Work::of_values(2 * weights, 3 * weights),
            Optimizer::AdamW(_) => Work::of_values(14 * weights, 7 * weights),
        }
    }

    /// One step on all weights, which the plans hold; the first is number 1. The gradients of the nodes are there.
    pub(super) fn step(
        &self,
        network: &mut Network,
        plans: &mut Plans,
        batch: usize,
        step: u64,
        s: &mut Scratch,
    ) {
        // Not in the backward's sweep: there the weights are gathered one by one, which costs more than this pass.
        value_gradients(network, plans, batch, s);
        let number = "steps count from 1";
        let [_, m, v] = network.slots_mut();
        for (i, Level { csr, slots, .. }) in plans.levels.iter_mut().enumerate() {
            let (param, grad) = (csr.values_mut(), &s.dvalues[slots.clone()]);
            let n = slots.len();
            op!("update", i, [n, 0, 0], self.work(n) => match self {
                Optimizer::Sgd(sgd) => {
                    sgd.at(step).expect(number).update(SgdTensor { param, grad, buffer: &mut [] });
                }
                Optimizer::AdamW(adamw) => {
                    let (m, v) = (&mut m[slots.clone()], &mut v[slots.clone()]);
                    adamw.at(step).expect(number).update(AdamWTensor { param, grad, m, v, v_max: None });
                }
            });
        }
        plans.transpose();
    }
}

/// Room for one thread's activations and gradients; it grows to the largest individual that it meets.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// `[positions][batch]`: what the nodes give on.
    acts: AlignedVec,
    /// `[rows][batch]`: their sums before the activation.
    sums: AlignedVec,
    /// `[rows][batch]`: the gradients of the sums.
    grads: AlignedVec,
    /// `[connections]`
    dvalues: AlignedVec,
    /// `[batch][outputs]`
    logits: AlignedVec,
    /// `[batch]`
    losses: AlignedVec,
}

impl Scratch {
    /// Room for a network and a batch.
    pub(super) fn fit(&mut self, network: &Network, batch: usize) {
        self.acts.resize_for_overwrite(network.positions() * batch);
        self.sums.resize_for_overwrite(network.rows() * batch);
        self.grads.resize_for_overwrite(network.rows() * batch);
        self.dvalues.resize_for_overwrite(network.connections());
        self.logits.resize_for_overwrite(network.outputs() * batch);
        self.losses.resize_for_overwrite(batch);
    }

    /// What a level read, and the gradients of its sums.
    fn of_level(&self, network: &Network, level: &Level, batch: usize) -> (&[f32], &[f32]) {
        let before = network.first_row() + level.rows.start;
        let x = &self.acts[level.first_source * batch..before * batch];
        (x, &self.grads[level.rows.start * batch..level.rows.end * batch])
    }
}

/// Room for as many threads as come.
#[derive(Debug, Default)]
pub struct Rooms(Mutex<Vec<Scratch>>);

impl Rooms {
    /// Bytes of it; gradients are those of weights.
    pub(super) fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for room in self.0.lock().expect("nothing fails while it holds the lock").iter() {
            let Scratch { acts, sums, grads, dvalues, logits, losses } = room;
            memory.activations += bytes(acts) + bytes(sums);
            memory.gradients += bytes(dvalues);
            memory.scratch += bytes(grads) + bytes(logits) + bytes(losses);
        }
        memory
    }

    /// Calls `f` with room of its own, which is taken and given back, not held: within `f` a large batch may send the
    /// thread to another individual.
    ///
    /// # Panics
    /// If another call panicked.
    pub fn with<R>(&self, f: impl FnOnce(&mut Scratch) -> R) -> R {
        let lock = || self.0.lock().expect("nothing fails while it holds the lock");
        let mut scratch = lock().pop().unwrap_or_default();
        let result = f(&mut scratch);
        lock().push(scratch);
        result
    }
}

/// Floating-point operations of a logit's loss and gradient, about.
const LOSS_FLOPS: usize = 24;

/// The work of a product of a matrix' connections and a batch: bytes of weights, sources, and the values of rows and
/// columns.
fn products(csr: &Csr<u16>, batch: usize) -> Work {
    let connections = csr.values().len();
    let values = (csr.rows() + csr.cols()) * batch;
    let bytes = (4 + 2) * connections + 4 * values;
    Work { flops: (2 * connections * batch) as f64, bytes: bytes as f64 }
}

/// A product's sizes as a profile lists them.
fn sizes(csr: &Csr<u16>, batch: usize) -> [usize; 3] {
    [csr.rows(), csr.cols(), batch]
}

/// What a pixel of 255 becomes.
pub(super) const SCALE: f32 = 1.0 / 255.0;

/// Trains on the batches of a block, one step each, and adds the losses to the individual's. Batches of one example
/// with plain SGD are exact online learning.
pub fn train(individual: &mut Individual, block: &Block, optimizer: &Optimizer, scratch: &mut Scratch) {
    if let (1, Optimizer::Sgd(sgd)) = (block.batch, optimizer) {
        return online::train(individual, block, sgd.config().lr).expect("the optimizer has checked it");
    }
    let Individual { network, plans, steps, loss } = individual;
    scratch.fit(network, block.batch);
    plans.load(network.values());
    for (tile, labels) in block.batches() {
        *steps += 1;
        *loss += gradient(network, plans, tile, labels, scratch);
        optimizer.step(network, plans, block.batch, *steps, scratch);
    }
    plans.store(network.values_mut());
}

/// The gradient of the mean loss of a batch, in the order of the network's connections, and the sum of the losses. For
/// tests and for those who bring their own optimizer.
pub fn batch_gradient(individual: &mut Individual, block: &Block) -> (f64, Vec<f32>) {
    let mut scratch = Scratch::default();
    let Individual { network, plans, .. } = individual;
    scratch.fit(network, block.batch);
    plans.load(network.values());
    let (tile, labels) = block.batches().next().expect("a block with a batch");
    let loss = gradient(network, plans, tile, labels, &mut scratch);
    value_gradients(network, plans, block.batch, &mut scratch);
    (loss, scratch.dvalues.to_vec())
}

/// Forward and backward of a batch, to the gradients of all nodes; gives the sum of the losses.
pub(super) fn gradient(
    network: &Network,
    plans: &Plans,
    tile: &[u8],
    labels: &[u32],
    scratch: &mut Scratch,
) -> f64 {
    let batch = labels.len();
    unpack(network, tile, batch, scratch);
    forward(network, plans, batch, scratch);
    let loss = loss(network, labels, scratch);
    node_gradients(plans, batch, scratch);
    loss
}

/// The inputs and the constant.
fn unpack(network: &Network, tile: &[u8], batch: usize, s: &mut Scratch) {
    let n = tile.len();
    op!("pixels to f32", None, [n, 0, 0], Work { flops: n as f64, bytes: 5.0 * n as f64 } => {
        convert::u8_to_f32(tile, SCALE, &mut s.acts[..n]);
        s.acts[n..network.first_row() * batch].fill(1.0);
    });
}

/// All sums, and what the nodes give on.
fn forward(network: &Network, plans: &Plans, batch: usize, s: &mut Scratch) {
    let first = network.first_row();
    for (i, level) in plans.levels.iter().enumerate() {
        let (before, after) = s.acts.split_at_mut((first + level.rows.start) * batch);
        let _span = open!("forward", i, sizes(&level.csr, batch), products(&level.csr, batch));
        let x = &before[level.first_source * batch..];
        level.csr.matmul(x, batch, &mut s.sums[level.rows.start * batch..level.rows.end * batch]);
        for (activation, rows) in &level.groups {
            let y =
                &mut after[(rows.start - level.rows.start) * batch..(rows.end - level.rows.start) * batch];
            activation.forward(&s.sums[rows.start * batch..rows.end * batch], y);
        }
    }
}

/// Softmax cross-entropy of the outputs, and its gradient into theirs; gives the sum of the losses.
fn loss(network: &Network, labels: &[u32], s: &mut Scratch) -> f64 {
    let (batch, outputs) = (labels.len(), network.outputs());
    let n = batch * outputs;
    let _span = open!("loss", None, [batch, outputs, 0], Work::of_values(LOSS_FLOPS * n, 6 * n));
    let first = (network.rows() - outputs) * batch;
    for (c, sums) in s.sums[first..].chunks_exact(batch).enumerate() {
        for (e, &sum) in sums.iter().enumerate() {
            s.logits[e * outputs + c] = sum;
        }
    }
    let loss = CrossEntropy::new(outputs, 0.0, None).expect("there are outputs");
    loss.forward_backward_in_place(&mut s.logits, labels, Reduction::Mean, &mut s.losses)
        .expect("labels were checked when they were read");
    for (c, grads) in s.grads[first..].chunks_exact_mut(batch).enumerate() {
        for (e, grad) in grads.iter_mut().enumerate() {
            *grad = s.logits[e * outputs + c];
        }
    }
    s.losses.iter().map(|&l| f64::from(l)).sum()
}

/// The gradients of all sums, from the last level to the first.
fn node_gradients(plans: &Plans, batch: usize, s: &mut Scratch) {
    for (i, (level, back)) in plans.levels.iter().zip(&plans.back).enumerate().rev() {
        let _span = open!("backward: nodes", i, sizes(&back.csr, batch), products(&back.csr, batch));
        let (own, later) = s.grads.split_at_mut(level.rows.end * batch);
        let own = &mut own[level.rows.start * batch..];
        back.csr.matmul(later, batch, own);
        for (activation, rows) in &level.groups {
            let dy = &mut own[(rows.start - level.rows.start) * batch..(rows.end - level.rows.start) * batch];
            activation.backward_in_place(dy, &s.sums[rows.start * batch..rows.end * batch]);
        }
    }
}

/// The gradients of all weights. Inputs need none, and nodes have theirs from [`node_gradients`].
fn value_gradients(network: &Network, plans: &Plans, batch: usize, s: &mut Scratch) {
    let mut dvalues = std::mem::take(&mut s.dvalues);
    for (i, level) in plans.levels.iter().enumerate() {
        let _span = open!("backward: weights", i, sizes(&level.csr, batch), products(&level.csr, batch));
        let (x, dy) = s.of_level(network, level, batch);
        let dvalues = &mut dvalues[level.slots.clone()];
        level.plan.matmul_backward(&level.csr, x, dy, batch, None, Some(dvalues));
    }
    s.dvalues = dvalues;
}

/// What an individual makes of some data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Examples that it classifies rightly.
    pub correct: usize,
    /// Examples.
    pub examples: usize,
    /// Their mean loss.
    pub loss: f64,
}

impl Score {
    /// The share that is right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.examples.max(1) as f64
    }
}

/// Classifies the examples of some blocks; the batch-minor kernels, whatever the individual was trained by.
pub fn evaluate(individual: &mut Individual, blocks: &[Block], scratch: &mut Scratch) -> Score {
    phase!("evaluation" => score(individual, blocks, scratch))
}

fn score(individual: &mut Individual, blocks: &[Block], scratch: &mut Scratch) -> Score {
    let Individual { network, plans, .. } = individual;
    plans.load(network.values());
    let mut score = Score::default();
    let mut losses = 0.0;
    for block in blocks {
        scratch.fit(network, block.batch);
        for (tile, labels) in block.batches() {
            unpack(network, tile, block.batch, scratch);
            forward(network, plans, block.batch, scratch);
            let first = (network.rows() - network.outputs()) * block.batch;
            let sums = &scratch.sums[first..];
            for (e, &label) in labels.iter().enumerate() {
                let logit = |c: usize| sums[c * block.batch + e];
                let best = (1..network.outputs()).fold(0, |b, c| if logit(c) > logit(b) { c } else { b });
                score.correct += usize::from(best == label as usize);
            }
            losses += loss(network, labels, scratch);
            score.examples += labels.len();
        }
    }
    score.loss = losses / score.examples.max(1) as f64;
    score
}
