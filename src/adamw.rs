//! The AdamW optimizer step, and with it Adam (L2 decay) and AMSGrad.
//!
//! For a parameter `p` with gradient `g` and moments `m`, `v`, at step `t` (from 1):
//!
//! ```text
//! g  = g / grad_scale                          (negated for `maximize`)
//! p  = p * (1 - lr * weight_decay)             decoupled (AdamW)     | g = g + weight_decay * p   L2 (Adam)
//! m  = m + (1 - beta1) * (g - m)
//! v  = beta2 * v + (1 - beta2) * g * g
//! d  = sqrt(v) / sqrt(1 - beta2^t) + eps       AMSGrad: max(v_max, v) in place of v, kept in v_max
//! p  = p - lr / (1 - beta1^t) * m / d
//! ```
//!
//! The order of operations is PyTorch's (`torch.optim.AdamW`, fused CPU kernel): decay first, `eps` outside the root
//! and after the bias correction, hyper-parameters and bias corrections in f64. Decoupled weight decay is from
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101); AMSGrad from Reddi, Kale and
//! Kumar, "On the Convergence of Adam and Beyond" (arXiv 1904.09237).
//!
//! # Rounding
//! The products that feed a sum are fused: `m = fma(w1, g - m, m)` (for `beta1 <= 0.5`, `fma(-beta1, g - m, g)`, as
//! PyTorch's lerp does), `v = fma(w2 * g, g, beta2 * v)`. The step size `s = lr / (1 - beta1^t)` divides the denominator's
//! two constants: `d = fma(sqrt(v), 1 / (sqrt(1 - beta2^t) s), eps / s)`, `p = fma(-m, 1 / d, decay * p)`, but for one so
//! small or large (0, say) that it has to stay a factor. Root and reciprocal are correctly rounded, every constant is
//! rounded to f32 once.
//!
//! Against the formulas in exact arithmetic, with u = 2^-24, one step is off by at most `2u (|m| + |g|)` in `m`, `4u v` in
//! `v`, and `2.5u |p| + 5u |update|` in `p`, where the update is that of the stored `m` and `v` (7u where the step size stays
//! a factor). With L2 decay or a gradient scale that is no power of two the first two are `5u` and `10u`, and `|g|` stands
//! for the sum of its terms' moduli. Overflow and underflow aside. Not the bits of PyTorch, which differ between its own
//! builds; `tests/oracle` holds both to account.
//!
//! # Moments that fade
//! A new moment below 2^-126 in modulus, a subnormal number, becomes 0, which takes the moments of a parameter that has had no
//! gradient for long to their end: with them a step takes 13 (AVX-512) to 30 (AVX2) times as long on Intel CPUs. It is what
//! `torch.set_flush_denormal` does. Where `eps` is below `2^-63 / sqrt(1 - beta2^t)` (the default is far above), moments fade as
//! f32 does: beside such an `eps` their root counts.
//!
//! # NaN and infinity
//! A NaN in `g`, `m`, `v` or `p` makes the parameter NaN, and so does an infinite gradient; nothing is skipped. A `v` that
//! stays negative (never produced here) gives NaN. With `eps` 0 a parameter whose moments are zero becomes NaN, as in PyTorch: it is
//! 0 / 0. In AMSGrad a NaN in `v_max` alone gives way to `v`.

use crate::error::{HyperParamError, check_len};
use crate::parallel;
use crate::tensors::{Run, Tensor, Tensors};
use crate::tier::active;
use crate::tuning;

mod kernel;
mod mixed;

pub use mixed::{Bf16Param, Bf16Tensor, Gradient};

/// How weight decay enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WeightDecay {
    /// Off the parameter itself, scaled by the learning rate: AdamW.
    #[default]
    Decoupled,
    /// Added to the gradient, so that the moments see it: Adam with L2 regularisation.
    L2,
}

/// The hyper-parameters; the defaults are PyTorch's for AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate, from 0 to 1e30.
    pub lr: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the denominator: 0, or a normal f32.
    pub eps: f64,
    /// Weight decay, from 0 to 1e12, times `lr` at most 1e30.
    pub weight_decay: f64,
    /// How weight decay enters.
    pub decay: WeightDecay,
    /// Follow the gradient instead of opposing it.
    pub maximize: bool,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
            decay: WeightDecay::Decoupled,
            maximize: false,
        }
    }
}

/// The optimizer: hyper-parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    config: AdamWConfig,
}

impl AdamW {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range, or the product or quotient of two.
    pub fn new(config: AdamWConfig) -> Result<Self, HyperParamError> {
        let AdamWConfig { lr, beta1, beta2, eps, weight_decay, .. } = config;
        HyperParamError::check_decay(lr, weight_decay)?;
        HyperParamError::check_eps(eps)?;
        for (name, value) in [("beta1", beta1), ("beta2", beta2)] {
            HyperParamError::check_beta(name, value)?;
        }
        // The first step's size. Infinity times a moment of 0 would be NaN.
        let size = lr / (1.0 - beta1);
        HyperParamError::check(
            size <= f32::MAX as f64,
            "lr / (1 - beta1)",
            size,
            "must be within f32's range",
        )?;
        Ok(AdamW { config })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &AdamWConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is out of range.
    pub fn with_lr(&self, lr: f64) -> Result<Self, HyperParamError> {
        AdamW::new(AdamWConfig { lr, ..self.config })
    }

    /// Step number `step` (the first is 1), ready to be applied to any number of tensors.
    ///
    /// # Errors
    /// `step` is 0: its bias correction would divide by zero.
    pub fn at(&self, step: u64) -> Result<AdamWStep, HyperParamError> {
        HyperParamError::check(
            step > 0,
            "step",
            step as f64,
            "must be at least 1: the first step is number 1",
        )?;
        let c = &self.config;
        let correction1 = 1.0 - power(c.beta1, step);
        let correction2 = 1.0 - power(c.beta2, step);
        let decoupled = c.decay == WeightDecay::Decoupled;
        let sign = if c.maximize { -1.0 } else { 1.0 };
        let step_size = c.lr / correction1;
        let root_scale = 1.0 / correction2.sqrt();
        // Dividing the denominator by the step size saves a multiplication and its rounding. Where that would leave
        // f32's comfortable range, as for a learning rate of 0, the step size stays a factor of its own.
        let moderate = |x: f64| (1.0 / TWO_TO_60..TWO_TO_60).contains(&x);
        let fold = moderate(root_scale / step_size) && (c.eps == 0.0 || moderate(c.eps / step_size));
        let (divisor, factor) = if fold { (step_size, 1.0) } else { (1.0, step_size) };
        Ok(AdamWStep {
            sign,
            scale: sign,
            decay: if decoupled { (1.0 - c.lr * c.weight_decay) as f32 } else { 1.0 },
            l2: if decoupled { 0.0 } else { c.weight_decay as f32 },
            // Like PyTorch's lerp: the weight of modulus below one half, so that the difference stays small.
            lerp_from_grad: 1.0 - c.beta1 >= 0.5,
            w1: if 1.0 - c.beta1 >= 0.5 { -c.beta1 as f32 } else { (1.0 - c.beta1) as f32 },
            beta2: c.beta2 as f32,
            w2: (1.0 - c.beta2) as f32,
            root_scale: (root_scale / divisor) as f32,
            eps: (c.eps / divisor) as f32,
            factor: factor as f32,
        })
    }
}

/// Not by `powi`, whose last bit is not specified.
const TWO_TO_60: f64 = (1u64 << 60) as f64;

/// `base^exponent` by squaring: the C library's `pow` is not the same everywhere.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// One tensor's parameter, gradient and moments: four slices of equal length, none of which may alias another (the
/// borrow checker sees to it).
#[derive(Debug)]
pub struct AdamWTensor<'a> {
    /// The parameter, updated in place.
    pub param: &'a mut [f32],
    /// Its gradient.
    pub grad: &'a [f32],
    /// The first moment (PyTorch's `exp_avg`), updated in place; zeros before step 1.
    pub m: &'a mut [f32],
    /// The second moment (PyTorch's `exp_avg_sq`), updated in place; zeros before step 1.
    pub v: &'a mut [f32],
    /// For AMSGrad, the largest second moment so far, updated in place; zeros before step 1.
    pub v_max: Option<&'a mut [f32]>,
}

impl AdamWTensor<'_> {
    #[track_caller]
    #[inline(always)]
    pub(crate) fn check(&self) {
        let n = self.param.len();
        check_len("adamw", "grad", self.grad.len(), n, "param");
        check_len("adamw", "m", self.m.len(), n, "param");
        check_len("adamw", "v", self.v.len(), n, "param");
        if let Some(v_max) = &self.v_max {
            check_len("adamw", "v_max", v_max.len(), n, "param");
        }
    }
}

impl Tensor for AdamWTensor<'_> {
    type Part<'a>
        = AdamWTensor<'a>
    where
        Self: 'a;

    #[inline(always)]
    fn len(&self) -> usize {
        self.param.len()
    }

    #[inline(always)]
    fn whole(&mut self) -> AdamWTensor<'_> {
        AdamWTensor {
            param: self.param,
            grad: self.grad,
            m: self.m,
            v: self.v,
            v_max: self.v_max.as_deref_mut(),
        }
    }

    #[inline(always)]
    fn param<'p, 'a>(part: &'p AdamWTensor<'a>) -> &'p [f32]
    where
        Self: 'a,
    {
        part.param
    }

    #[inline(always)]
    fn split_at<'a>(part: AdamWTensor<'a>, at: usize) -> (AdamWTensor<'a>, AdamWTensor<'a>)
    where
        Self: 'a,
    {
        let (p0, p1) = part.param.split_at_mut(at);
        let (g0, g1) = part.grad.split_at(at);
        let (m0, m1) = part.m.split_at_mut(at);
        let (v0, v1) = part.v.split_at_mut(at);
        let (x0, x1) = part.v_max.map(|x| x.split_at_mut(at)).unzip();
        (
            AdamWTensor { param: p0, grad: g0, m: m0, v: v0, v_max: x0 },
            AdamWTensor { param: p1, grad: g1, m: m1, v: v1, v_max: x1 },
        )
    }
}

/// One step of [`AdamW`], with its constants worked out in f64 and rounded to f32 once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    sign: f32,
    scale: f32,
    decay: f32,
    l2: f32,
    lerp_from_grad: bool,
    w1: f32,
    beta2: f32,
    w2: f32,
    root_scale: f32,
    eps: f32,
    factor: f32,
}

impl AdamWStep {
    /// Divides every gradient by `grad_scale` first, as mixed-precision training asks for. The gradient itself is not
    /// written back. The division is a multiplication by the reciprocal, rounded to f32: exact for a power of two.
    ///
    /// # Errors
    /// `grad_scale` is below 1e-12, or its reciprocal is not a normal f32.
    pub fn unscale(self, grad_scale: f64) -> Result<Self, HyperParamError> {
        Ok(AdamWStep { scale: HyperParamError::check_grad_scale(grad_scale)? * self.sign, ..self })
    }

    /// Updates one tensor. Any length, empty included; parallel from [`tuning::ADAMW_PARALLEL`] on.
    ///
    /// Deterministic: the same bits on every tier, for every thread count and however a tensor is cut. See the
    /// [module](self) for formula, error and NaN behaviour.
    ///
    /// # Panics
    /// If the slices' lengths differ.
    #[track_caller]
    pub fn update(&self, mut tensor: AdamWTensor<'_>) {
        self.update_many(std::slice::from_mut(&mut tensor));
    }

    /// Updates many tensors in one call: one dispatch, and one balanced partition over the threads that cuts through
    /// tensors, so that 2000 small ones cost about what one large one does. The bits are those of
    /// [`AdamWStep::update`] on each.
    ///
    /// # Panics
    /// If a tensor's slices differ in length.
    #[track_caller]
    pub fn update_many(&self, tensors: &mut [AdamWTensor<'_>]) {
        self.update_in_order(tensors, false);
    }

    /// [`AdamWStep::update_many`], from the last tensor to the first if `backwards`.
    #[track_caller]
    pub(crate) fn update_in_order(&self, tensors: &mut [AdamWTensor<'_>], backwards: bool) {
        for tensor in tensors.iter() {
            tensor.check();
        }
        let work = Run { step: self, active: active(), backwards, tensors: Tensors::new(tensors) };
        parallel::run(work, tuning::ADAMW_PARALLEL, tuning::ADAMW_PIECE);
    }

    /// What the gradient is multiplied by, but for the sign that `maximize` gives it.
    pub(crate) fn grad_factor(&self) -> f64 {
        self.scale.abs() as f64
    }

    /// The step with another factor, rounded to f32, for the gradient.
    pub(crate) fn with_grad_factor(self, factor: f64) -> Self {
        AdamWStep { scale: factor as f32 * self.sign, ..self }
    }
}
