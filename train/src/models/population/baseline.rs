//! What the kernels are compared with: the loop of earlier work, an array of `{source, weight}` structs with one
//! accumulator, one example at a time, forward, backward and SGD step.
//!
//! It uses the C library's functions where nodes are not ReLU, so its bits are not promised.

use hotlanes::activation::Activation;

use super::network::Network;

/// A connection as the loop reads it: eight bytes.
#[derive(Clone, Copy, Debug)]
struct Connection {
    source: u32,
    weight: f32,
}

/// One individual of the baseline.
#[derive(Clone, Debug)]
pub struct Baseline {
    inputs: usize,
    first_row: usize,
    outputs: usize,
    activations: Vec<Activation>,
    indptr: Vec<usize>,
    connections: Vec<Connection>,
    acts: Vec<f32>,
    grads: Vec<f32>,
}

impl Baseline {
    /// The network in the loop's form.
    pub fn new(network: &Network) -> Self {
        let pairs = network.sources().iter().zip(network.values());
        Baseline {
            inputs: network.inputs(),
            first_row: network.first_row(),
            outputs: network.outputs(),
            activations: network.nodes().iter().map(|n| n.activation).collect(),
            indptr: network.indptr().to_vec(),
            connections: pairs.map(|(&s, &weight)| Connection { source: s.into(), weight }).collect(),
            acts: vec![0.0; network.positions()],
            grads: vec![0.0; network.positions()],
        }
    }

    /// The weights, in the network's order.
    pub fn weights(&self) -> Vec<f32> {
        self.connections.iter().map(|c| c.weight).collect()
    }

    /// One example forward and backward with an SGD step; gives the loss. With `INPUT_GRADS` the gradients of the
    /// inputs are computed as well, as the earlier loop did, which treats all connections alike.
    pub fn step<const INPUT_GRADS: bool>(&mut self, x: &[f32], label: u32, lr: f32) -> f32 {
        self.forward(x);
        let loss = self.loss(label);
        self.backward::<INPUT_GRADS>(lr);
        loss
    }

    pub(super) fn forward(&mut self, x: &[f32]) {
        self.acts[..self.inputs].copy_from_slice(x);
        self.acts[self.inputs] = 1.0;
        for row in 0..self.activations.len() {
            let mut sum = 0.0;
            for c in &self.connections[self.indptr[row]..self.indptr[row + 1]] {
                sum += c.weight * self.acts[c.source as usize];
            }
            self.acts[self.first_row + row] = match self.activations[row] {
                Activation::Relu => sum.max(0.0),
                Activation::Sigmoid => 1.0 / (1.0 + (-sum).exp()),
                Activation::Tanh => sum.tanh(),
                _ => sum,
            };
        }
    }

    /// Softmax cross-entropy, its gradient into the outputs' places.
    pub(super) fn loss(&mut self, label: u32) -> f32 {
        let first = self.acts.len() - self.outputs;
        self.grads.fill(0.0);
        let logits = &self.acts[first..];
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let mut sum = 0.0;
        for (grad, logit) in self.grads[first..].iter_mut().zip(logits) {
            *grad = (logit - max).exp();
            sum += *grad;
        }
        self.grads[first..].iter_mut().for_each(|g| *g /= sum);
        self.grads[first + label as usize] -= 1.0;
        sum.ln() + max - logits[label as usize]
    }

    pub(super) fn backward<const INPUT_GRADS: bool>(&mut self, lr: f32) {
        for row in (0..self.activations.len()).rev() {
            let (y, dy) = (self.acts[self.first_row + row], self.grads[self.first_row + row]);
            let delta = match self.activations[row] {
                Activation::Relu => {
                    if y > 0.0 {
                        dy
                    } else {
                        0.0
                    }
                }
                Activation::Sigmoid => dy * y * (1.0 - y),
                Activation::Tanh => dy * (1.0 - y * y),
                _ => dy,
            };
            let mut connections = &mut self.connections[self.indptr[row]..self.indptr[row + 1]];
            if !INPUT_GRADS {
                // Sources ascend, so those that are inputs come first.
                let inputs = connections.partition_point(|c| (c.source as usize) < self.first_row);
                let (from_inputs, others) = connections.split_at_mut(inputs);
                for c in from_inputs {
                    c.weight -= lr * delta * self.acts[c.source as usize];
                }
                connections = others;
            }
            for c in connections {
                self.grads[c.source as usize] += c.weight * delta;
                c.weight -= lr * delta * self.acts[c.source as usize];
            }
        }
    }
}
