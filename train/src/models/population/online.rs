//! Exact online learning: one example, one step, in the form that passes over pixels and nodes that are zero.

use std::ops::Range;

use hotlanes::HyperParamError;
use hotlanes::activation::Activation;
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::sparse::{Csr, Masked};

use super::network::Network;
use super::plan::groups;
use super::stream::Block;
use super::train::{Individual, SCALE};
use crate::shell::profile::{Work, op};
use hotlanes::AlignedVec;

/// A network in the form for one example at a time. It is made for a block of examples and gives its weights back after
/// it.
#[derive(Clone, Debug)]
pub struct Online {
    levels: Vec<Level>,
    inputs: usize,
    first_row: usize,
    outputs: usize,
    /// `[positions]`: what the nodes give on.
    acts: AlignedVec,
    /// `[rows]`: their sums before the activation.
    sums: AlignedVec,
    /// `[rows]`: the gradients of what the nodes give on, then of the sums.
    grads: AlignedVec,
    /// What one part adds to sums or gradients.
    part: AlignedVec,
    logits: Vec<f32>,
    loss: CrossEntropy,
}

#[derive(Clone, Debug)]
struct Level {
    rows: Range<usize>,
    groups: Vec<(Activation, Range<usize>)>,
    parts: Vec<Part>,
}

/// The connections of a level from inputs, which need no gradient, or from nodes.
#[derive(Clone, Debug)]
struct Part {
    /// The positions that are read: all between the first and the last.
    columns: Range<usize>,
    gradient: Gradient,
    csr: Csr<u16>,
    masked: Masked,
    /// Where each value stands in the network.
    slots: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gradient {
    /// Inputs.
    None,
    /// Nodes that are all ReLU: what is zero passes no gradient either.
    Relu,
    /// Nodes of any kind.
    Full,
}

impl Online {
    /// The network in this form.
    pub fn new(network: &Network) -> Self {
        let (first_row, inputs, outputs) = (network.first_row(), network.inputs(), network.outputs());
        let mut levels = Vec::new();
        for (i, bounds) in network.levels().windows(2).enumerate() {
            let rows = bounds[0]..bounds[1];
            // The constant goes with the inputs where there is nothing else, so that those levels are one part.
            let cut = if i == 0 { first_row } else { inputs };
            let parts = [0..cut, cut..first_row + rows.start];
            let parts = parts.into_iter().filter_map(|sources| Part::new(network, &rows, sources)).collect();
            levels.push(Level { groups: groups(network, rows.clone()), rows, parts });
        }
        let (mut acts, mut sums, mut grads) =
            (AlignedVec::default(), AlignedVec::default(), AlignedVec::default());
        acts.resize_for_overwrite(network.positions());
        acts[inputs] = 1.0;
        sums.resize_for_overwrite(network.rows());
        grads.resize_for_overwrite(network.rows());
        let loss = CrossEntropy::new(outputs, 0.0, None).expect("there are outputs");
        let logits = vec![0.0; outputs];
        Online {
            levels,
            inputs,
            first_row,
            outputs,
            acts,
            sums,
            grads,
            part: AlignedVec::default(),
            logits,
            loss,
        }
    }

    /// One example forward and backward, and the step of plain SGD on every connection; gives the loss from before the
    /// step.
    ///
    /// # Errors
    /// `lr` is not finite or negative.
    ///
    /// # Panics
    /// If the image has not as many pixels as there are inputs, or the label is no class.
    pub fn step(&mut self, image: &[u8], label: u32, lr: f64) -> Result<f32, HyperParamError> {
        // What a product passes over depends on the data: its work is not counted.
        let shape = [self.sums.len(), self.acts.len(), 1];
        op!("forward", None, shape, Work::default() => {
            self.unpack(image);
            self.forward();
        });
        let loss = op!("loss", None, [1, self.outputs, 0], Work::default() => self.loss(label));
        op!("backward and update", None, shape, Work::default() => self.backward(lr))?;
        Ok(loss)
    }

    fn unpack(&mut self, image: &[u8]) {
        hotlanes::convert::u8_to_f32(image, SCALE, &mut self.acts[..self.inputs]);
    }

    /// The loss, and its gradient into the outputs' places.
    fn loss(&mut self, label: u32) -> f32 {
        let first = self.sums.len() - self.outputs;
        self.logits.copy_from_slice(&self.sums[first..]);
        let mut loss = [0.0];
        let reduction = Reduction::Scaled(1.0);
        (self.loss.forward_backward_in_place(&mut self.logits, &[label], reduction, &mut loss))
            .expect("labels were checked when they were read");
        self.grads[..first].fill(0.0);
        self.grads[first..].copy_from_slice(&self.logits);
        loss[0]
    }

    fn forward(&mut self) {
        for level in &self.levels {
            let sums = &mut self.sums[level.rows.clone()];
            if level.parts.is_empty() {
                sums.fill(0.0);
            }
            for (i, part) in level.parts.iter().enumerate() {
                let x = &self.acts[part.columns.clone()];
                if i == 0 {
                    part.masked.matvec(x, sums);
                } else {
                    self.part.resize_for_overwrite(sums.len());
                    part.masked.matvec(x, &mut self.part);
                    add(sums, &self.part);
                }
            }
            for (activation, rows) in &level.groups {
                let y = &mut self.acts[self.first_row + rows.start..self.first_row + rows.end];
                activation.forward(&self.sums[rows.clone()], y);
            }
        }
    }

    fn backward(&mut self, lr: f64) -> Result<(), HyperParamError> {
        for level in self.levels.iter_mut().rev() {
            let (before, own) = self.grads.split_at_mut(level.rows.start);
            for (activation, rows) in &level.groups {
                let dy = &mut own[rows.start - level.rows.start..rows.end - level.rows.start];
                activation.backward_in_place(dy, &self.sums[rows.clone()]);
            }
            let dy = &own[..level.rows.len()];
            for part in &mut level.parts {
                let x = &self.acts[part.columns.clone()];
                self.part.resize_for_overwrite(x.len());
                match part.gradient {
                    Gradient::None => part.masked.matvec_backward_sgd(x, dy, lr, None)?,
                    Gradient::Relu => part.masked.matvec_backward_sgd_relu(x, dy, lr, &mut self.part)?,
                    Gradient::Full => part.masked.matvec_backward_sgd(x, dy, lr, Some(&mut self.part))?,
                }
                if part.gradient != Gradient::None {
                    // The constant, where it is the first column, takes no gradient.
                    let constant = usize::from(part.columns.start < self.first_row);
                    let start = part.columns.start + constant - self.first_row;
                    add(&mut before[start..part.columns.end - self.first_row], &self.part[constant..]);
                }
            }
        }
        Ok(())
    }

    /// Gives the weights back to the network that this was made from.
    ///
    /// # Panics
    /// If the network has another structure by now.
    pub fn store(&mut self, network: &mut Network) {
        let values = network.values_mut();
        for part in self.levels.iter_mut().flat_map(|level| &mut level.parts) {
            part.masked.write_values(&mut part.csr);
            for (&slot, &value) in part.slots.iter().zip(part.csr.values()) {
                values[slot as usize] = value;
            }
        }
    }
}

/// `a += b`, element by element.
fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

impl Part {
    /// The connections of some rows that read some positions, if there are any.
    fn new(network: &Network, rows: &Range<usize>, sources: Range<usize>) -> Option<Part> {
        let (mut indptr, mut slots) = (vec![0], Vec::new());
        for row in rows.clone() {
            let at = network.indptr()[row]..network.indptr()[row + 1];
            let read = &network.sources()[at.clone()];
            let start = read.partition_point(|&s| usize::from(s) < sources.start);
            let end = read.partition_point(|&s| usize::from(s) < sources.end);
            slots.extend((at.start + start..at.start + end).map(|slot| slot as u32));
            indptr.push(slots.len());
        }
        let source = |slot: &u32| usize::from(network.sources()[*slot as usize]);
        let first = slots.iter().map(source).min()?;
        let last = slots.iter().map(source).max()?;
        let indices = slots.iter().map(|slot| (source(slot) - first) as u16).collect();
        let values = slots.iter().map(|&slot| network.values()[slot as usize]).collect();
        let csr = Csr::new(rows.len(), last + 1 - first, indptr, indices, values).expect("rows are in order");
        let mut nodes =
            (first..=last).filter_map(|p| Some(&network.nodes()[p.checked_sub(network.first_row())?]));
        let gradient = match (last < network.first_row(), nodes.all(|n| n.activation == Activation::Relu)) {
            (true, _) => Gradient::None,
            (false, true) => Gradient::Relu,
            (false, false) => Gradient::Full,
        };
        Some(Part { columns: first..last + 1, gradient, masked: Masked::new(&csr), csr, slots })
    }
}

/// Trains on every example of a block, one step each, and adds the losses to the individual's.
///
/// # Errors
/// `lr` is not finite or negative.
///
/// # Panics
/// If the block is not one of single examples.
pub fn train(individual: &mut Individual, block: &Block, lr: f64) -> Result<(), HyperParamError> {
    assert_eq!(block.batch, 1, "online learning takes one example at a time");
    let mut online = Online::new(&individual.network);
    for (image, labels) in block.batches() {
        individual.steps += 1;
        individual.loss += f64::from(online.step(image, labels[0], lr)?);
    }
    online.store(&mut individual.network);
    Ok(())
}
