//! Softmax and cross-entropy as a plain program has them.

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
