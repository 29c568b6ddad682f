//! Activations, forward and backward.

use hotlanes::activation::Activation;
use hotlanes::naive::activation as naive;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (kernel, activation, backward) in [
        ("gelu_tanh_fwd", Activation::GeluTanh, false),
        ("gelu_tanh_bwd", Activation::GeluTanh, true),
        ("gelu_erf_fwd", Activation::GeluErf, false),
        ("gelu_erf_bwd", Activation::GeluErf, true),
        ("silu_fwd", Activation::Silu, false),
        ("silu_bwd", Activation::Silu, true),
    ] {
        for (default, n) in [(false, 1 << 16), (true, 1 << 20)] {
            rows.push(Row::new(kernel, n, default, move || Elementwise::new(activation, backward, n)));
        }
    }
    rows
}

/// Either direction; each runner overwrites the same output.
pub struct Elementwise {
    activation: Activation,
    backward: bool,
    x: Buffer,
    /// Empty for the forward.
    dy: Buffer,
    out: Buffer,
}

impl Elementwise {
    /// `n` elements.
    pub fn new(activation: Activation, backward: bool, n: usize) -> Self {
        let dy = if backward { Buffer::random(n, 2) } else { Buffer::zeros(0) };
        Elementwise { activation, backward, x: Buffer::random(n, 1), dy, out: Buffer::zeros(n) }
    }
}

impl Case for Elementwise {
    fn work(&self) -> Work {
        let (n, arrays) = (self.x.len(), if self.backward { 3 } else { 2 });
        Work {
            // As in the PyTorch script: each array once.
            items: (4 * arrays * n) as f64,
            unit: "GB/s",
            read: (4 * (arrays - 1) * n) as f64,
            written: (4 * n) as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            // A power of two 17, its argument 5, the reciprocal 14 where it is not divided, the product 1.
            flops: 37.0 * n as f64,
            roots: 0.0,
            working_set: 4 * arrays * n,
        }
    }

    fn reset(&mut self) {
        self.out.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Elementwise { activation, backward, x, dy, out } = self;
        if *backward { activation.backward(dy, x, out) } else { activation.forward(x, out) }
    }

    fn run_plain(&mut self, which: Plain) {
        let Elementwise { activation, backward, x, dy, out } = self;
        match (*backward, which) {
            (false, Plain::Naive) => naive::activation_forward(*activation, x, out),
            (false, Plain::Auto) => naive::activation_forward_auto(*activation, x, out),
            (true, Plain::Naive) => naive::activation_backward(*activation, dy, x, out),
            (true, Plain::Auto) => naive::activation_backward_auto(*activation, dy, x, out),
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new(if self.backward { "dx" } else { "y" }, &self.out, 2e-6)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
