//! The plain loops that the kernels are measured against. Not part of the API: for benchmarks, tests and the report.
//!
//! Each comes twice: as it stands, built for the binary's baseline, and as its auto-vectorised twin, the same source
//! compiled once per tier and run on the one that is active, so that kernel and twin have the same instructions to
//! choose from. The twin of the scalar tier is the baseline's loop again.

pub mod loss;
pub mod reduce;

use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod bits;
pub mod layers;
pub mod matmul;
pub mod nonzero;
pub mod optim;
pub mod rms;
pub mod sparse;
pub mod sumtree;

/// The constants of an AdamW step, as a plain loop would take them.
#[derive(Clone, Copy, Debug)]
pub struct AdamWConstants {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Number of the step, from 1.
    pub step: i32,
}

macro_rules! twins {
    ($(#[$doc:meta])* $name:ident, $auto:ident, ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[inline(never)]
        #[allow(clippy::too_many_arguments)]
        pub fn $name($($arg: $ty),*) $body

        $(#[$doc])*
        /// The auto-vectorised twin.
        #[allow(clippy::too_many_arguments)]
        pub fn $auto($($arg: $ty),*) {
            struct Twin<T>(T);

            // The body has no use for the lanes: it is here to be compiled with the tier's instructions. LLVM does not
            // see that what a tuple holds cannot overlap, so its loops look once before they start; they are the same.
            impl Kernel for Twin<($($ty,)*)> {
                type Output = ();

                #[inline(always)]
                fn run<L: Lanes>(self, _: L) {
                    let Twin(($($arg,)*)) = self;
                    $body
                }
            }

            dispatch(active(), Twin(($($arg,)*)))
        }
    };
}
pub(crate) use twins;

twins! {
    /// AdamW as the paper has it, one parameter at a time.
    adamw, adamw_auto, (param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], c: AdamWConstants) {
        let correction1 = 1.0 - c.beta1.powi(c.step);
        let correction2 = 1.0 - c.beta2.powi(c.step);
        for (((p, g), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
            *m = c.beta1 * *m + (1.0 - c.beta1) * g;
            *v = c.beta2 * *v + (1.0 - c.beta2) * g * g;
            let update = (*m / correction1) / ((*v / correction2).sqrt() + c.eps);
            *p -= c.lr * (update + c.weight_decay * *p);
        }
    }
}

twins! {
    /// LayerNorm over rows of `features`, mean and variance by Welford's update.
    layernorm_forward, layernorm_forward_auto,
    (x: &[f32], features: usize, eps: f32, gamma: &[f32], beta: &[f32], y: &mut [f32], mean: &mut [f32],
     rstd: &mut [f32]) {
        let rows = x.chunks_exact(features).zip(y.chunks_exact_mut(features));
        for ((x, y), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
            let (mut average, mut m2) = (0.0f32, 0.0f32);
            for (i, x) in x.iter().enumerate() {
                let delta = x - average;
                average += delta / (i + 1) as f32;
                m2 += delta * (x - average);
            }
            *mean = average;
            *rstd = 1.0 / (m2 / features as f32 + eps).sqrt();
            for (((y, x), g), b) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = (x - *mean) * *rstd * g + b;
            }
        }
    }
}

twins! {
    /// The gradients of LayerNorm: of its input, and of `gamma` and `beta` summed over the rows.
    layernorm_backward, layernorm_backward_auto,
    (dy: &[f32], x: &[f32], features: usize, gamma: &[f32], mean: &[f32], rstd: &[f32], dx: &mut [f32],
     dgamma: &mut [f32], dbeta: &mut [f32]) {
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        let n = features as f32;
        let rows = dy.chunks_exact(features).zip(x.chunks_exact(features)).zip(dx.chunks_exact_mut(features));
        for (((dy, x), dx), (mean, rstd)) in rows.zip(mean.iter().zip(rstd)) {
            let (mut a, mut b) = (0.0f32, 0.0f32);
            for i in 0..features {
                let hat = (x[i] - mean) * rstd;
                a += dy[i] * gamma[i];
                b += dy[i] * gamma[i] * hat;
                dgamma[i] += dy[i] * hat;
                dbeta[i] += dy[i];
            }
            for i in 0..features {
                let hat = (x[i] - mean) * rstd;
                dx[i] = rstd * (dy[i] * gamma[i] - a / n - hat * b / n);
            }
        }
    }
}

/// One connection of a sparse layer as a plain program keeps it: source and weight side by side, eight bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Connection {
    /// The source it comes from.
    pub from: u32,
    /// Its weight.
    pub weight: f32,
}

twins! {
    /// One example through a sparse layer; the connections of destination `r` are `indptr[r]..indptr[r + 1]`.
    sparse_matvec, sparse_matvec_auto,
    (indptr: &[usize], connections: &[Connection], x: &[f32], y: &mut [f32]) {
        for (y, ends) in y.iter_mut().zip(indptr.windows(2)) {
            let mut sum = 0.0;
            for c in &connections[ends[0]..ends[1]] {
                sum += c.weight * x[c.from as usize];
            }
            *y = sum;
        }
    }
}

twins! {
    /// A batch through a sparse layer, example by example: `x` is `[example][cols]`, `y` is `[example][rows]`.
    sparse_matmul, sparse_matmul_auto,
    (indptr: &[usize], connections: &[Connection], cols: usize, x: &[f32], y: &mut [f32]) {
        let rows = indptr.len() - 1;
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(rows)) {
            for (y, ends) in y.iter_mut().zip(indptr.windows(2)) {
                let mut sum = 0.0;
                for c in &connections[ends[0]..ends[1]] {
                    sum += c.weight * x[c.from as usize];
                }
                *y = sum;
            }
        }
    }
}

twins! {
    /// The gradients of a sparse layer, example by example: of its inputs, scattered, and of its weights, summed over
    /// the examples. `x` and `dx` are `[example][cols]`, `dy` is `[example][rows]`; one example makes it the backward
    /// of [`sparse_matvec`].
    sparse_backward, sparse_backward_auto,
    (indptr: &[usize], connections: &[Connection], cols: usize, x: &[f32], dy: &[f32], dx: &mut [f32],
     dvalues: &mut [f32]) {
        let rows = indptr.len() - 1;
        dx.fill(0.0);
        dvalues.fill(0.0);
        let examples = x.chunks_exact(cols).zip(dy.chunks_exact(rows)).zip(dx.chunks_exact_mut(cols));
        for ((x, dy), dx) in examples {
            for (dy, ends) in dy.iter().zip(indptr.windows(2)) {
                let range = ends[0]..ends[1];
                for (c, dv) in connections[range.clone()].iter().zip(&mut dvalues[range]) {
                    dx[c.from as usize] += c.weight * dy;
                    *dv += x[c.from as usize] * dy;
                }
            }
        }
    }
}
