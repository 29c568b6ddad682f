//! RMSNorm's plain loops, and what adds a residual around either norm.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// RMSNorm over rows of `features`.
    rmsnorm_forward, rmsnorm_forward_auto,
    (x: &[f32], features: usize, eps: f32, gamma: &[f32], y: &mut [f32], rstd: &mut [f32]) {
        let rows = x.chunks_exact(features).zip(y.chunks_exact_mut(features));
        for ((x, y), rstd) in rows.zip(rstd) {
            let mut squares = 0.0f32;
            for x in x {
                squares += x * x;
            }
            *rstd = 1.0 / (squares / features as f32 + eps).sqrt();
            for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                *y = x * *rstd * g;
            }
        }
    }
}

twins! {
    /// The gradients of RMSNorm: of its input, and of `gamma` summed over the rows.
    rmsnorm_backward, rmsnorm_backward_auto,
    (dy: &[f32], x: &[f32], features: usize, gamma: &[f32], rstd: &[f32], dx: &mut [f32], dgamma: &mut [f32]) {
        dgamma.fill(0.0);
        let n = features as f32;
        let rows = dy.chunks_exact(features).zip(x.chunks_exact(features)).zip(dx.chunks_exact_mut(features));
        for (((dy, x), dx), rstd) in rows.zip(rstd) {
            let mut b = 0.0f32;
            for i in 0..features {
                let hat = x[i] * rstd;
                b += dy[i] * gamma[i] * hat;
                dgamma[i] += dy[i] * hat;
            }
            for i in 0..features {
                dx[i] = rstd * (dy[i] * gamma[i] - x[i] * rstd * b / n);
            }
        }
    }
}

twins! {
    /// `sum = a + b`
    add, add_auto, (a: &[f32], b: &[f32], sum: &mut [f32]) {
        for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
            *sum = a + b;
        }
    }
}

twins! {
    /// `sum += a`
    add_to, add_to_auto, (a: &[f32], sum: &mut [f32]) {
        for (sum, a) in sum.iter_mut().zip(a) {
            *sum += a;
        }
    }
}
