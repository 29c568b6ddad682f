//! The plain loops that the kernels are measured against. Not part of the API: for benchmarks, tests and the report.
//!
//! Each comes twice: as it stands, built for the binary's baseline, and as its auto-vectorised twin, the same source
//! compiled by multiversion for the best instruction set of this CPU.

use multiversion::multiversion;

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
        #[multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
            "x86_64+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
        ))]
        #[allow(clippy::too_many_arguments)]
        pub fn $auto($($arg: $ty),*) $body
    };
}

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
