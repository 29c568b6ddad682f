//! Softmax, cross-entropy and the elementwise losses as a plain program has them.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// The softmax of each row.
    softmax, softmax_auto, (x: &[f32], features: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(features).zip(y.chunks_exact_mut(features)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
            let mut sum = 0.0;
            for (x, y) in x.iter().zip(y.iter_mut()) {
                *y = (x - max).exp();
                sum += *y;
            }
            for y in y {
                *y /= sum;
            }
        }
    }
}

twins! {
    /// The logarithm of each row's softmax.
    log_softmax, log_softmax_auto, (x: &[f32], features: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(features).zip(y.chunks_exact_mut(features)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
            let sum: f32 = x.iter().map(|x| (x - max).exp()).sum();
            for (x, y) in x.iter().zip(y) {
                *y = x - max - sum.ln();
            }
        }
    }
}

twins! {
    /// The gradient of the softmax's input.
    softmax_backward, softmax_backward_auto, (dy: &[f32], y: &[f32], features: usize, dx: &mut [f32]) {
        let rows = dy.chunks_exact(features).zip(y.chunks_exact(features)).zip(dx.chunks_exact_mut(features));
        for ((dy, y), dx) in rows {
            let dot: f32 = dy.iter().zip(y).map(|(d, y)| d * y).sum();
            for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = y * (dy - dot);
            }
        }
    }
}

twins! {
    /// The gradient of the log-softmax's input.
    log_softmax_backward, log_softmax_backward_auto, (dy: &[f32], y: &[f32], features: usize, dx: &mut [f32]) {
        let rows = dy.chunks_exact(features).zip(y.chunks_exact(features)).zip(dx.chunks_exact_mut(features));
        for ((dy, y), dx) in rows {
            let sum: f32 = dy.iter().sum();
            for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = dy - y.exp() * sum;
            }
        }
    }
}

twins! {
    /// Mean cross-entropy without ignored rows: the rows' losses, and the gradient of the logits.
    cross_entropy, cross_entropy_auto,
    (logits: &[f32], labels: &[u32], classes: usize, smoothing: f32, dlogits: &mut [f32], losses: &mut [f32]) {
        let (n, spread) = (labels.len() as f32, smoothing / classes as f32);
        let rows = logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
        for ((x, d), (label, loss)) in rows.zip(labels.iter().zip(losses)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
            let (mut sum, mut distance) = (0.0, 0.0);
            for (x, d) in x.iter().zip(d.iter_mut()) {
                *d = (x - max).exp();
                sum += *d;
                distance += x - max;
            }
            *loss = sum.ln() - (1.0 - smoothing) * (x[*label as usize] - max) - spread * distance;
            for d in d.iter_mut() {
                *d = (*d / sum - spread) / n;
            }
            d[*label as usize] -= (1.0 - smoothing) / n;
        }
    }
}

twins! {
    /// The squared error: its sum, and its gradient times `scale`.
    mse, mse_auto, (x: &[f32], target: &[f32], scale: f32, dx: &mut [f32], sum: &mut f32) {
        *sum = 0.0;
        for ((x, t), dx) in x.iter().zip(target).zip(dx) {
            let d = x - t;
            *sum += d * d;
            *dx = 2.0 * d * scale;
        }
    }
}

twins! {
    /// The absolute error: its sum, and its gradient times `scale`.
    l1, l1_auto, (x: &[f32], target: &[f32], scale: f32, dx: &mut [f32], sum: &mut f32) {
        *sum = 0.0;
        for ((x, t), dx) in x.iter().zip(target).zip(dx) {
            let d = x - t;
            *sum += d.abs();
            *dx = if d > 0.0 { scale } else if d < 0.0 { -scale } else { 0.0 };
        }
    }
}

twins! {
    /// The Huber loss: its sum, and its gradient times `scale`.
    huber, huber_auto,
    (x: &[f32], target: &[f32], delta: f32, scale: f32, dx: &mut [f32], sum: &mut f32) {
        *sum = 0.0;
        for ((x, t), dx) in x.iter().zip(target).zip(dx) {
            let d = x - t;
            *sum += if d.abs() <= delta { 0.5 * d * d } else { delta * (d.abs() - 0.5 * delta) };
            *dx = d.clamp(-delta, delta) * scale;
        }
    }
}

twins! {
    /// Binary cross-entropy of logits: its sum, and its gradient times `scale`.
    bce_with_logits, bce_with_logits_auto,
    (x: &[f32], target: &[f32], scale: f32, dx: &mut [f32], sum: &mut f32) {
        *sum = 0.0;
        for ((x, t), dx) in x.iter().zip(target).zip(dx) {
            *sum += x.max(0.0) - x * t + (-x.abs()).exp().ln_1p();
            *dx = (1.0 / (1.0 + (-x).exp()) - t) * scale;
        }
    }
}
