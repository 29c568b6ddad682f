//! Matrix products.

use hotlanes::activation::Activation;
use hotlanes::matmul::{Epilogue, Mat, MatMut, matmul, matmul_with};
use hotlanes::naive::activation as gelu;
use hotlanes::naive::matmul as naive;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let mut all = vec![];
    for (default, kernel, kind, rows, cols, k) in [
        (true, "matmul", Product::Plain, 256, 256, 256),
        (true, "matmul", Product::Plain, 512, 512, 512),
        (false, "matmul", Product::Plain, 1024, 1024, 1024),
        (false, "matmul", Product::Plain, 1, 512, 512),
        (true, "linear", Product::Linear, 2048, 512, 128),
        (false, "linear", Product::Linear, 2048, 384, 128),
        (true, "linear_gelu", Product::LinearGelu, 2048, 512, 128),
        (false, "linear_gelu", Product::LinearGelu, 2048, 384, 128),
        (true, "linear_weight_grad", Product::WeightGrad, 128, 512, 2048),
    ] {
        let size = format!("{rows}x{cols}x{k}");
        all.push(Row::new(kernel, size, default, move || Multiply::new(kind, rows, cols, k)));
    }
    all
}

/// What a product is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Itself: both operands as they are.
    Plain,
    /// A linear layer: its weights are stored as the transpose of the right operand, and there is a bias.
    Linear,
    /// The same, with GELU (by the hyperbolic tangent) of the results.
    LinearGelu,
    /// The gradient of a linear layer's weights: the left operand is a transpose.
    WeightGrad,
}

/// A product; each runner overwrites the same result.
pub struct Multiply {
    kind: Product,
    rows: usize,
    cols: usize,
    k: usize,
    a: Buffer,
    b: Buffer,
    bias: Buffer,
    c: Buffer,
}

impl Multiply {
    /// `rows` by `cols` results of `k` multiply-adds each.
    pub fn new(kind: Product, rows: usize, cols: usize, k: usize) -> Self {
        Multiply {
            kind,
            rows,
            cols,
            k,
            a: Buffer::random(rows * k, 1),
            b: Buffer::random(k * cols, 2),
            bias: Buffer::random(cols, 3),
            c: Buffer::zeros(rows * cols),
        }
    }
}

impl Case for Multiply {
    fn work(&self) -> Work {
        let flops = 2.0 * self.c.len() as f64 * self.k as f64;
        Work {
            items: flops,
            unit: "Gflop/s",
            read: 4.0 * (self.a.len() + self.b.len()) as f64,
            written: 4.0 * self.c.len() as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops,
            roots: 0.0,
            working_set: 4 * (self.a.len() + self.b.len() + self.c.len()),
        }
    }

    fn reset(&mut self) {
        self.c.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Multiply { kind, rows, cols, k, ref a, ref b, ref bias, ref mut c } = *self;
        let c = MatMut::new(c, rows, cols);
        match kind {
            Product::Plain => matmul(Mat::new(a, rows, k), Mat::new(b, k, cols), c),
            Product::Linear | Product::LinearGelu => {
                let gelu = kind == Product::LinearGelu;
                let activation = if gelu { Activation::GeluTanh } else { Activation::Identity };
                let epilogue = Epilogue { bias: Some(bias), activation, ..Epilogue::default() };
                matmul_with(Mat::new(a, rows, k), Mat::new(b, cols, k).t(), c, epilogue);
            }
            Product::WeightGrad => matmul(Mat::new(a, k, rows).t(), Mat::new(b, k, cols), c),
        }
    }

    fn run_plain(&mut self, which: Plain) {
        let Multiply { kind, rows, cols, k, ref a, ref b, ref bias, ref mut c } = *self;
        match (kind, which) {
            (Product::Plain, Plain::Naive) => naive::matmul(a, b, k, cols, c),
            (Product::Plain, Plain::Auto) => naive::matmul_auto(a, b, k, cols, c),
            (Product::Linear, Plain::Naive) => naive::linear(a, b, bias, k, c),
            (Product::Linear, Plain::Auto) => naive::linear_auto(a, b, bias, k, c),
            (Product::LinearGelu, _) => {
                if which == Plain::Naive {
                    naive::linear(a, b, bias, k, c);
                } else {
                    naive::linear_auto(a, b, bias, k, c);
                }
                let x = c.to_vec();
                let gelu = if which == Plain::Naive {
                    gelu::activation_forward
                } else {
                    gelu::activation_forward_auto
                };
                gelu(Activation::GeluTanh, &x, c);
            }
            (Product::WeightGrad, Plain::Naive) => naive::weight_grad(a, b, rows, cols, c),
            (Product::WeightGrad, Plain::Auto) => naive::weight_grad_auto(a, b, rows, cols, c),
        }
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("c", &self.c, 1e-4)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
