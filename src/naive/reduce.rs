//! Reductions as a plain loop does them: one accumulator, in order.

use super::{AdamWConstants, twins};
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// The sum.
    sum, sum_auto, (x: &[f32], result: &mut f32) {
        let mut total = 0.0;
        for x in x {
            total += x;
        }
        *result = total;
    }
}

twins! {
    /// The dot product.
    dot, dot_auto, (x: &[f32], y: &[f32], result: &mut f32) {
        let mut total = 0.0;
        for (x, y) in x.iter().zip(y) {
            total += x * y;
        }
        *result = total;
    }
}

twins! {
    /// The L2 norm.
    norm, norm_auto, (x: &[f32], result: &mut f32) {
        let mut total = 0.0;
        for x in x {
            total += x * x;
        }
        *result = total.sqrt();
    }
}

twins! {
    /// Mean and population variance, by Welford's update.
    mean_var, mean_var_auto, (x: &[f32], mean: &mut f32, variance: &mut f32) {
        let (mut average, mut m2) = (0.0f32, 0.0f32);
        for (i, x) in x.iter().enumerate() {
            let delta = x - average;
            average += delta / (i + 1) as f32;
            m2 += delta * (x - average);
        }
        *mean = average;
        *variance = m2 / x.len() as f32;
    }
}

twins! {
    /// The maximum; a NaN stays.
    max, max_auto, (x: &[f32], result: &mut f32) {
        let mut largest = f32::NEG_INFINITY;
        for &x in x {
            if x > largest || x.is_nan() {
                largest = x;
            }
        }
        *result = largest;
    }
}

twins! {
    /// `dst = scale * sum of the buffers`, a pass for each.
    aggregate, aggregate_auto, (dst: &mut [f32], buffers: &[&[f32]], scale: f32) {
        dst.copy_from_slice(buffers[0]);
        for buffer in &buffers[1..] {
            for (d, x) in dst.iter_mut().zip(*buffer) {
                *d += x;
            }
        }
        for d in dst {
            *d *= scale;
        }
    }
}

twins! {
    /// The sums of columns, a row after the other.
    column_sums, column_sums_auto, (x: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for row in x.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

twins! {
    /// Clips the gradient by its norm, in place, then takes an AdamW step. The norm of 2^21 values in one f32 would
    /// be off by more than the step allows for.
    clip_adamw, clip_adamw_auto,
    (param: &mut [f32], grad: &mut [f32], m: &mut [f32], v: &mut [f32], max_norm: f32, c: AdamWConstants) {
        let mut total = 0.0f64;
        for g in &*grad {
            total += (g * g) as f64;
        }
        let factor = (max_norm / (total.sqrt() as f32 + 1e-6)).min(1.0);
        let correction1 = 1.0 - c.beta1.powi(c.step);
        let correction2 = 1.0 - c.beta2.powi(c.step);
        for g in &mut *grad {
            *g *= factor;
        }
        for (((p, g), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
            *m = c.beta1 * *m + (1.0 - c.beta1) * *g;
            *v = c.beta2 * *v + (1.0 - c.beta2) * *g * *g;
            let update = (*m / correction1) / ((*v / correction2).sqrt() + c.eps);
            *p -= c.lr * (update + c.weight_decay * *p);
        }
    }
}
