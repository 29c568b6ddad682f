//! Stochastic gradient descent, with momentum and Nesterov's.
//!
//! For a parameter `p` with gradient `g` and momentum buffer `b`:
//!
//! ```text
//! g = g / grad_scale                           (negated for `maximize`)
//! g = g + weight_decay * p                     L2
//! b = momentum * b + (1 - dampening) * g       at the first step b = g, whatever b was
//! d = b            Nesterov: g + momentum * b  without momentum: g
//! p = p - lr * d
//! ```
//!
//! These are the conventions of `torch.optim.SGD`: the learning rate stays outside the buffer, the first step is not
//! dampened. Momentum is from Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); its Nesterov
//! form from Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning"
//! (ICML 2013), as PyTorch writes it.
//!
//! # Rounding
//! Each line above is one fused multiply-add: `g = fma(weight_decay, p, g)`, `b = fma(momentum, b, (1 - dampening) g)`,
//! `d = fma(momentum, b, g)`, `p = fma(-lr, d, p)`. Constants are worked out in f64 and rounded to f32 once.
//!
//! Against the formulas in exact arithmetic, with u = 2^-24, `G` the sum of the moduli of the gradient's terms, and `r` the
//! `3u G` by which decay or a scale that is no power of two round it (else 0), one step is off by at most
//!
//! ```text
//! b    2u |momentum b| + 3u G + r
//! p    u |p| + 2u |lr d| + lr e        with e = 0;  Nesterov: 2u |momentum b| + u G + r;  without momentum: r
//! ```
//!
//! where `d` is that of the stored `b`. Overflow and underflow aside. Not the bits of PyTorch, which differ between its own
//! builds; `tests/oracle` holds both to account.
//!
//! # Momentum that fades
//! A new `b` below 2^-126 in modulus, a subnormal number, becomes 0, which takes the buffer of a parameter that has had no
//! gradient for long to its end: CPUs calculate with such numbers up to 30 times as slowly.
//!
//! # NaN and infinity
//! A NaN in `g`, `b` or `p` makes the parameter NaN; an infinite gradient makes it infinite, or NaN where another infinity
//! opposes it or `lr` is 0. Nothing is skipped. The first step does not look at `b`.

use crate::error::{HyperParamError, check_len};
use crate::parallel;
use crate::tensors::{Run, Tensor, Tensors};
use crate::tier::active;
use crate::tuning;

mod kernel;

/// The hyper-parameters. The defaults are PyTorch's: no momentum, no decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Learning rate, from 0 to 1e30.
    pub lr: f64,
    /// Factor of the buffer, from 0 to 1e12; 0 is descent without a buffer.
    pub momentum: f64,
    /// What is taken off the gradient's weight of 1 on its way into the buffer: at least 0, at most 1.
    pub dampening: f64,
    /// Weight decay, from 0 to 1e12, added to the gradient (L2).
    pub weight_decay: f64,
    /// Nesterov's momentum: it wants a momentum and no dampening.
    pub nesterov: bool,
    /// Follow the gradient instead of opposing it.
    pub maximize: bool,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            maximize: false,
        }
    }
}

/// The optimizer: hyper-parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    config: SgdConfig,
}

impl Sgd {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range, or the product or quotient of two.
    pub fn new(config: SgdConfig) -> Result<Self, HyperParamError> {
        let SgdConfig { lr, momentum, dampening, weight_decay, nesterov, .. } = config;
        HyperParamError::check_rate("lr", lr)?;
        HyperParamError::check_factor("momentum", momentum)?;
        HyperParamError::check_factor("weight_decay", weight_decay)?;
        let fits = (0.0..=1.0).contains(&dampening);
        HyperParamError::check(fits, "dampening", dampening, "must be at least 0 and at most 1")?;
        if nesterov {
            HyperParamError::check(momentum > 0.0, "momentum", momentum, "must be above 0 for Nesterov's")?;
            HyperParamError::check(dampening == 0.0, "dampening", dampening, "must be 0 for Nesterov's")?;
        }
        Ok(Sgd { config })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &SgdConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is out of range.
    pub fn with_lr(&self, lr: f64) -> Result<Self, HyperParamError> {
        Sgd::new(SgdConfig { lr, ..self.config })
    }

    /// Step number `step` (the first is 1), ready to be applied to any number of tensors. Only the first differs from the
    /// others.
    ///
    /// # Errors
    /// `step` is 0.
    pub fn at(&self, step: u64) -> Result<SgdStep, HyperParamError> {
        HyperParamError::check(
            step > 0,
            "step",
            step as f64,
            "must be at least 1: the first step is number 1",
        )?;
        Ok(self.step(step == 1))
    }

    /// A step without a check of anything.
    pub(crate) fn step(&self, first: bool) -> SgdStep {
        let c = &self.config;
        SgdStep {
            sign: if c.maximize { -1.0 } else { 1.0 },
            scale: if c.maximize { -1.0 } else { 1.0 },
            lr: c.lr as f32,
            momentum: c.momentum as f32,
            weight: (1.0 - c.dampening) as f32,
            l2: c.weight_decay as f32,
            // A momentum that is 0 in f32 alone still has its buffer.
            buffer: c.momentum > 0.0,
            nesterov: c.nesterov,
            first,
        }
    }

    /// Plain ascent, by factors that may be larger than [`Sgd::new`] takes.
    pub(crate) fn ascent(lr: f64, weight_decay: f64) -> SgdStep {
        Sgd { config: SgdConfig { lr, weight_decay, maximize: true, ..SgdConfig::default() } }.step(true)
    }
}

/// One tensor's parameter, gradient and momentum buffer, none of which may alias another (the borrow checker sees to it).
#[derive(Debug)]
pub struct SgdTensor<'a> {
    /// The parameter, updated in place.
    pub param: &'a mut [f32],
    /// Its gradient, as long.
    pub grad: &'a [f32],
    /// The momentum buffer, updated in place: as long with momentum, empty without.
    pub buffer: &'a mut [f32],
}

impl SgdTensor<'_> {
    #[track_caller]
    #[inline(always)]
    fn check(&self, has_buffer: bool) {
        let n = self.param.len();
        check_len("sgd", "grad", self.grad.len(), n, "param");
        if has_buffer {
            check_len("sgd", "buffer", self.buffer.len(), n, "param");
        } else {
            check_len("sgd", "buffer", self.buffer.len(), 0, "no momentum");
        }
    }
}

impl Tensor for SgdTensor<'_> {
    type Part<'a>
        = SgdTensor<'a>
    where
        Self: 'a;

    #[inline(always)]
    fn len(&self) -> usize {
        self.param.len()
    }

    #[inline(always)]
    fn whole(&mut self) -> SgdTensor<'_> {
        SgdTensor { param: self.param, grad: self.grad, buffer: self.buffer }
    }

    #[inline(always)]
    fn param<'p, 'a>(part: &'p SgdTensor<'a>) -> &'p [f32]
    where
        Self: 'a,
    {
        part.param
    }

    #[inline(always)]
    fn split_at<'a>(part: SgdTensor<'a>, at: usize) -> (SgdTensor<'a>, SgdTensor<'a>)
    where
        Self: 'a,
    {
        let (p0, p1) = part.param.split_at_mut(at);
        let (g0, g1) = part.grad.split_at(at);
        let (b0, b1) = part.buffer.split_at_mut(at.min(part.buffer.len()));
        (SgdTensor { param: p0, grad: g0, buffer: b0 }, SgdTensor { param: p1, grad: g1, buffer: b1 })
    }
}

/// One step of [`Sgd`], with its constants rounded to f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    sign: f32,
    scale: f32,
    lr: f32,
    momentum: f32,
    /// Of the gradient on its way into the buffer.
    weight: f32,
    l2: f32,
    buffer: bool,
    nesterov: bool,
    first: bool,
}

impl SgdStep {
    /// Divides every gradient by `grad_scale` first, as mixed-precision training asks for. The gradient itself is not
    /// written back. The division is a multiplication by the reciprocal, rounded to f32: exact for a power of two.
    ///
    /// # Errors
    /// `grad_scale` is below 1e-12, or its reciprocal is not a normal f32.
    pub fn unscale(self, grad_scale: f64) -> Result<Self, HyperParamError> {
        Ok(SgdStep { scale: HyperParamError::check_grad_scale(grad_scale)? * self.sign, ..self })
    }

    /// Updates one tensor. Any length, empty included; parallel from [`tuning::SGD_PARALLEL`] on.
    ///
    /// Deterministic: the same bits on every tier, for every thread count and however a tensor is cut. See the
    /// [module](self) for formula, error and NaN behaviour.
    ///
    /// # Panics
    /// If the slices' lengths do not fit.
    #[track_caller]
    pub fn update(&self, mut tensor: SgdTensor<'_>) {
        self.update_many(std::slice::from_mut(&mut tensor));
    }

    /// Updates many tensors in one call: one dispatch, and one balanced partition over the threads that cuts through
    /// tensors. The bits are those of [`SgdStep::update`] on each.
    ///
    /// # Panics
    /// If a tensor's slices do not fit each other.
    #[track_caller]
    pub fn update_many(&self, tensors: &mut [SgdTensor<'_>]) {
        for tensor in tensors.iter() {
            tensor.check(self.buffer);
        }
        let work = Run { step: self, active: active(), backwards: false, tensors: Tensors::new(tensors) };
        parallel::run(work, tuning::SGD_PARALLEL, tuning::SGD_PIECE);
    }
}
