//! Plain loops of the optimizers beside AdamW.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// SGD with momentum, after the first step.
    sgd_momentum, sgd_momentum_auto,
    (param: &mut [f32], grad: &[f32], buffer: &mut [f32], lr: f32, momentum: f32) {
        for ((p, g), b) in param.iter_mut().zip(grad).zip(buffer) {
            *b = momentum * *b + g;
            *p -= lr * *b;
        }
    }
}

twins! {
    /// Lion as the paper has it.
    lion, lion_auto,
    (param: &mut [f32], grad: &[f32], m: &mut [f32], lr: f32, beta1: f32, beta2: f32, weight_decay: f32) {
        for ((p, g), m) in param.iter_mut().zip(grad).zip(m) {
            let c = beta1 * *m + (1.0 - beta1) * g;
            let sign = if c > 0.0 { 1.0 } else if c < 0.0 { -1.0 } else { c };
            *p -= lr * (sign + weight_decay * *p);
            *m = beta2 * *m + (1.0 - beta2) * g;
        }
    }
}

/// The constants of an Adafactor step, as a plain loop would take them.
#[derive(Clone, Copy, Debug)]
pub struct AdafactorConstants {
    /// Bound of the relative step.
    pub lr: f32,
    /// Weight of what is new in the averages.
    pub weight: f32,
    /// The least denominator.
    pub eps1: f32,
    /// The least rms of a parameter.
    pub eps2: f32,
    /// The rms from which an update is clipped.
    pub d: f32,
    /// Number of the step, from 1.
    pub step: i32,
}

twins! {
    /// Adafactor of a matrix, pass by pass; `update` has room for one as large as the parameter, `sums` for a row.
    adafactor_matrix, adafactor_matrix_auto,
    (param: &mut [f32], grad: &[f32], row: &mut [f32], col: &mut [f32], update: &mut [f32], sums: &mut [f32],
     c: AdafactorConstants) {
        let (rows, cols, n) = (row.len() as f32, col.len() as f32, grad.len() as f32);
        sums.fill(0.0);
        for (grad, row) in grad.chunks_exact(col.len()).zip(&mut *row) {
            let mut sum = 0.0;
            for (g, s) in grad.iter().zip(&mut *sums) {
                sum += g * g;
                *s += g * g;
            }
            *row += c.weight * (sum / cols - *row);
        }
        for (col, sum) in col.iter_mut().zip(sums) {
            *col += c.weight * (*sum / rows - *col);
        }
        let mut mean = 0.0;
        for row in &*row {
            mean += *row;
        }
        let mean = (mean / rows).max(c.eps1);
        let mut squares = 0.0;
        let all = update.chunks_exact_mut(col.len()).zip(grad.chunks_exact(col.len())).zip(&*row);
        for ((update, grad), row) in all {
            for ((u, g), col) in update.iter_mut().zip(grad).zip(&*col) {
                *u = g / (row * col / mean).max(c.eps1 * c.eps1).sqrt();
                squares += *u * *u;
            }
        }
        let mut own = 0.0;
        for p in &*param {
            own += p * p;
        }
        let rho = c.lr.min(1.0 / (c.step as f32).sqrt());
        let alpha = (own / n).sqrt().max(c.eps2) * rho;
        let factor = alpha / ((squares / n).sqrt() / c.d).max(1.0);
        for (p, u) in param.iter_mut().zip(update) {
            *p -= factor * *u;
        }
    }
}

twins! {
    /// `y += a x`
    add_scaled, add_scaled_auto, (a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

twins! {
    /// `y += w (x - y)`
    lerp, lerp_auto, (w: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += w * (x - *y);
        }
    }
}

twins! {
    /// `y *= x`
    multiply, multiply_auto, (x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y *= x;
        }
    }
}
