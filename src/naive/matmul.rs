//! Matrix products: three loops each, in the order that suits how their operands lie.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// `c = a b`, of `k` steps: rows of `b` are added up, which compilers vectorise.
    matmul, matmul_auto, (a: &[f32], b: &[f32], k: usize, n: usize, c: &mut [f32]) {
        for (a, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
            c.fill(0.0);
            for (x, b) in a.iter().zip(b.chunks_exact(n)) {
                for (c, y) in c.iter_mut().zip(b) {
                    *c += x * y;
                }
            }
        }
    }
}

twins! {
    /// A linear layer: `y = x w^T + bias`, each row of `w` with its `k` weights.
    linear, linear_auto, (x: &[f32], w: &[f32], bias: &[f32], k: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(k).zip(y.chunks_exact_mut(bias.len())) {
            for ((y, w), bias) in y.iter_mut().zip(w.chunks_exact(k)).zip(bias) {
                let mut sum = *bias;
                for (x, w) in x.iter().zip(w) {
                    sum += x * w;
                }
                *y = sum;
            }
        }
    }
}

twins! {
    /// The gradient of a linear layer's weights: `dw = dy^T x`, example after example. `dy` has `m` and `x` has `n`
    /// columns.
    weight_grad, weight_grad_auto, (dy: &[f32], x: &[f32], m: usize, n: usize, dw: &mut [f32]) {
        dw.fill(0.0);
        for (dy, x) in dy.chunks_exact(m).zip(x.chunks_exact(n)) {
            for (dy, dw) in dy.iter().zip(dw.chunks_exact_mut(n)) {
                for (dw, x) in dw.iter_mut().zip(x) {
                    *dw += dy * x;
                }
            }
        }
    }
}
