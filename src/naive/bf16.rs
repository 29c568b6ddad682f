//! bf16.

use super::{AdamWConstants, twins};
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

/// The nearest bf16, ties to even.
#[inline(always)]
fn nearest(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { 0x7FC0 } else { (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16 }
}

twins! {
    /// Rounding to bf16.
    bf16_from_f32, bf16_from_f32_auto, (src: &[f32], dst: &mut [u16]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = nearest(*s);
        }
    }
}

twins! {
    /// The way back.
    bf16_to_f32, bf16_to_f32_auto, (src: &[u16], dst: &mut [f32]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits((*s as u32) << 16);
        }
    }
}

twins! {
    /// AdamW on f32 parameters with a copy in bf16, from a gradient in bf16.
    adamw_bf16, adamw_bf16_auto,
    (param: &mut [f32], copy: &mut [u16], grad: &[u16], m: &mut [f32], v: &mut [f32], c: AdamWConstants) {
        let correction1 = 1.0 - c.beta1.powi(c.step);
        let correction2 = 1.0 - c.beta2.powi(c.step);
        for ((((p, copy), g), m), v) in param.iter_mut().zip(copy).zip(grad).zip(m).zip(v) {
            let g = f32::from_bits((*g as u32) << 16);
            *m = c.beta1 * *m + (1.0 - c.beta1) * g;
            *v = c.beta2 * *v + (1.0 - c.beta2) * g * g;
            let update = (*m / correction1) / ((*v / correction2).sqrt() + c.eps);
            *p -= c.lr * (update + c.weight_decay * *p);
            *copy = nearest(*p);
        }
    }
}
