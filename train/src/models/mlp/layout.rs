//! Where each parameter lies in the one buffer of them all.

use std::ops::Range;

use crate::rng::Rng;
use hotlanes::AlignedVec;

/// Values of a cache line: where each tensor starts, so that no vector lies across two.
const LINE: usize = 16;

/// Purpose of the random numbers.
const PURPOSE: u64 = 0x6d6c_7000;

/// A linear layer: its weights are `[out][input]`, its bias `[out]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Values of a row that it takes.
    pub input: usize,
    /// Values of a row that it gives.
    pub out: usize,
    weights: usize,
    bias: usize,
}

impl Linear {
    /// Its weights' place.
    pub fn weights(&self) -> Range<usize> {
        self.weights..self.weights + self.input * self.out
    }

    /// Its bias' place.
    pub fn bias(&self) -> Range<usize> {
        self.bias..self.bias + self.out
    }
}

/// The layers, first to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    layers: Vec<Linear>,
    len: usize,
    /// Modules of `torch.nn.Sequential` from one linear layer to the next.
    stride: usize,
}

impl Layout {
    /// Of a model whose settings were checked.
    ///
    /// # Panics
    /// If there are more parameters than memory has addresses for.
    pub fn new(inputs: usize, hidden: &[usize], outputs: usize, dropout: bool) -> Self {
        let widths: Vec<usize> = [inputs].iter().chain(hidden).chain(&[outputs]).copied().collect();
        let mut len = 0;
        let mut place = |values: usize| {
            let start = len;
            len = (len + values).next_multiple_of(LINE);
            start
        };
        let layers = widths.windows(2).map(|w| {
            let (input, out) = (w[0], w[1]);
            Linear { input, out, weights: place(input * out), bias: place(out) }
        });
        Layout { layers: layers.collect(), len, stride: if dropout { 3 } else { 2 } }
    }

    /// The layers.
    pub fn layers(&self) -> &[Linear] {
        &self.layers
    }

    /// Features of a row.
    pub fn inputs(&self) -> usize {
        self.layers[0].input
    }

    /// Outputs of a row.
    pub fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].out
    }

    /// The most values that a row has in a hidden layer; 0 without one.
    pub fn widest(&self) -> usize {
        self.layers[1..].iter().map(|layer| layer.input).max().unwrap_or(0)
    }

    /// Values in the buffer. Those between tensors are 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Parameters.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| (layer.input + 1) * layer.out).sum()
    }

    /// Floating-point operations of the products of a training step on so many rows: forward, and backward to weights
    /// and, but for the first layer, inputs.
    pub fn flops(&self, rows: usize) -> f64 {
        let products =
            |(i, l): (usize, &Linear)| (if i == 0 { 2 } else { 3 }) as f64 * (l.input * l.out) as f64;
        2.0 * rows as f64 * self.layers.iter().enumerate().map(products).sum::<f64>()
    }

    /// Each tensor's name in the state of `torch.nn.Sequential(Linear, activation, Linear, ...)`, with a `Dropout`
    /// after each activation if there is dropout; its shape and place.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, Range<usize>)> + '_ {
        self.layers.iter().enumerate().flat_map(|(i, layer)| {
            let module = i * self.stride;
            [
                (format!("{module}.weight"), vec![layer.out, layer.input], layer.weights()),
                (format!("{module}.bias"), vec![layer.out], layer.bias()),
            ]
        })
    }

    /// The parameters before the first step, as PyTorch's `Linear` has them: uniform within `1 / sqrt(input)` of 0.
    /// Each layer has random numbers of its own.
    pub fn init(&self, seed: u64) -> AlignedVec {
        let mut params = self.zeros();
        for (i, layer) in self.layers.iter().enumerate() {
            let mut rng = Rng::new(seed, PURPOSE, i as u64, 0);
            let bound = 1.0 / (layer.input as f32).sqrt();
            for range in [layer.weights(), layer.bias()] {
                params[range].fill_with(|| bound * rng.symmetric());
            }
        }
        params
    }

    /// A buffer of zeros.
    pub fn zeros(&self) -> AlignedVec {
        AlignedVec::zeros(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_the_names_of_torch_and_lines_of_their_own() {
        let layout = Layout::new(5, &[64, 64, 64], 1, false);
        assert_eq!(layout.parameters(), 8769);
        let names: Vec<String> = layout.tensors().map(|t| t.0).collect();
        let want = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias", "6.weight", "6.bias"];
        assert_eq!(names, want);
        assert_eq!(Layout::new(5, &[64], 1, true).tensors().nth(2).unwrap().0, "3.weight");
        let mut end = 0;
        for (name, shape, place) in layout.tensors() {
            assert!(place.start % LINE == 0 && place.start >= end, "{name}");
            assert_eq!(place.len(), shape.iter().product::<usize>(), "{name}");
            end = place.end;
        }
        assert!(end <= layout.len());
        assert_eq!((layout.inputs(), layout.outputs(), layout.widest()), (5, 1, 64));
        // 2 (5 64 + ...) each way, but for the gradient of the features.
        assert_eq!(layout.flops(1), 2.0 * (2.0 * 320.0 + 3.0 * (4096.0 + 4096.0 + 64.0)));
    }

    #[test]
    fn the_first_parameters_are_those_of_pytorch() {
        let layout = Layout::new(4, &[100], 2, false);
        let params = layout.init(3);
        let first = &params[layout.layers()[0].weights()];
        assert!(first.iter().all(|w| w.abs() <= 0.5) && first.iter().any(|w| w.abs() > 0.45));
        let variance = first.iter().map(|w| w * w).sum::<f32>() / first.len() as f32;
        assert!((variance - 0.25 / 3.0).abs() < 0.01, "{variance}");
        assert_ne!(*params, *layout.init(4));
        // The padding stays 0: the optimizer passes over it.
        let used: usize = layout.parameters();
        assert_eq!(params.iter().filter(|w| **w != 0.0).count(), used);
    }

    #[test]
    fn a_linear_model_has_no_hidden_layer() {
        let layout = Layout::new(7, &[], 3, false);
        assert_eq!((layout.layers().len(), layout.widest(), layout.parameters()), (1, 0, 24));
    }
}
