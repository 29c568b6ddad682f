//! The Lion optimizer step.
//!
//! For a parameter `p` with gradient `g` and momentum `m`:
//!
//! ```text
//! g = g / grad_scale                           (negated for `maximize`)
//! c = beta1 * m + (1 - beta1) * g
//! p = p * (1 - lr * weight_decay) - lr * sign(c)          sign(0) = 0
//! m = beta2 * m + (1 - beta2) * g
//! ```
//!
//! Chen, Liang, Huang and others, "Symbolic Discovery of Optimization Algorithms" (arXiv 2302.06675), algorithm 2; the
//! decay is the decoupled one of their code.
//!
//! # Rounding
//! `c = fma(beta1, m, w1 g)`, `m = fma(beta2, m, w2 g)`, where `w1` and `w2` are `1 - beta` over `grad_scale`, and
//! `p = fma(1 - lr weight_decay, p, -+ lr)`; each constant is worked out in f64 and rounded to f32 once.
//!
//! Against the formulas in exact arithmetic, with u = 2^-24: `m` is off by at most `3u (|beta2 m| + |(1 - beta2) g|)`. The
//! sign is right unless `|c|` is below `3u (|beta1 m| + |(1 - beta1) g|)`, that is, where its terms cancel; given the sign, `p`
//! is off by at most `2u (|p| + lr)`. Overflow and underflow aside.
//!
//! # Momentum that fades
//! A new `m` below 2^-126 in modulus, a subnormal number, becomes 0. A parameter without gradient then stays where it is but for
//! its decay, where `m` would otherwise end as a subnormal number that no further step makes smaller, whose sign goes on moving
//! it, and with which CPUs calculate up to 30 times as slowly.
//!
//! # NaN and infinity
//! A NaN in `g`, `m` or `p` makes the parameter NaN (PyTorch's `sign` gives 0 for a NaN). An infinite gradient moves the
//! parameter by `lr` like any other, and leaves an infinite `m`. Nothing is skipped. A step of zero may change the sign of
//! a zero.

use crate::error::{HyperParamError, check_len};
use crate::lanes::{Chunk, EXPONENT, LANES, Lanes};
use crate::parallel;
use crate::tensors::{Run, Step, Tensor, Tensors};
use crate::tier::active;
use crate::tuning;

/// The hyper-parameters. The defaults are the authors' code's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionConfig {
    /// Learning rate, from 0 to 1e30: a third to a tenth of AdamW's.
    pub lr: f64,
    /// Weight of the momentum in the step, in [0, 1).
    pub beta1: f64,
    /// Decay of the momentum, in [0, 1).
    pub beta2: f64,
    /// Decoupled weight decay, from 0 to 1e12, times `lr` at most 1e30.
    pub weight_decay: f64,
    /// Follow the gradient instead of opposing it.
    pub maximize: bool,
}

impl Default for LionConfig {
    fn default() -> Self {
        LionConfig { lr: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0, maximize: false }
    }
}

/// The optimizer: hyper-parameters that were checked. Its steps are all alike, so they need no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    config: LionConfig,
}

impl Lion {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range, or the product or quotient of two.
    pub fn new(config: LionConfig) -> Result<Self, HyperParamError> {
        let LionConfig { lr, beta1, beta2, weight_decay, .. } = config;
        HyperParamError::check_decay(lr, weight_decay)?;
        for (name, value) in [("beta1", beta1), ("beta2", beta2)] {
            HyperParamError::check_beta(name, value)?;
        }
        Ok(Lion { config })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &LionConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is out of range.
    pub fn with_lr(&self, lr: f64) -> Result<Self, HyperParamError> {
        Lion::new(LionConfig { lr, ..self.config })
    }

    /// A step, ready to be applied to any number of tensors.
    pub fn step(&self) -> LionStep {
        self.scaled(1.0)
    }

    /// A step that divides every gradient by `grad_scale` first, as mixed-precision training asks for. The gradient itself
    /// is not written back.
    ///
    /// # Errors
    /// `grad_scale` is below 1e-12, or its reciprocal is not a normal f32.
    pub fn step_unscaled(&self, grad_scale: f64) -> Result<LionStep, HyperParamError> {
        HyperParamError::check_grad_scale(grad_scale)?;
        Ok(self.scaled(grad_scale))
    }

    fn scaled(&self, grad_scale: f64) -> LionStep {
        let c = &self.config;
        let scale = if c.maximize { -grad_scale } else { grad_scale };
        LionStep {
            beta1: c.beta1 as f32,
            w1: ((1.0 - c.beta1) / scale) as f32,
            beta2: c.beta2 as f32,
            w2: ((1.0 - c.beta2) / scale) as f32,
            decay: (1.0 - c.lr * c.weight_decay) as f32,
            lr: c.lr as f32,
        }
    }
}

/// One tensor's parameter, gradient and momentum: three slices of equal length, none of which may alias another (the
/// borrow checker sees to it).
#[derive(Debug)]
pub struct LionTensor<'a> {
    /// The parameter, updated in place.
    pub param: &'a mut [f32],
    /// Its gradient.
    pub grad: &'a [f32],
    /// The momentum, updated in place; zeros before the first step.
    pub m: &'a mut [f32],
}

impl LionTensor<'_> {
    #[track_caller]
    #[inline(always)]
    fn check(&self) {
        let n = self.param.len();
        check_len("lion", "grad", self.grad.len(), n, "param");
        check_len("lion", "m", self.m.len(), n, "param");
    }
}

impl Tensor for LionTensor<'_> {
    type Part<'a>
        = LionTensor<'a>
    where
        Self: 'a;

    #[inline(always)]
    fn len(&self) -> usize {
        self.param.len()
    }

    #[inline(always)]
    fn whole(&mut self) -> LionTensor<'_> {
        LionTensor { param: self.param, grad: self.grad, m: self.m }
    }

    #[inline(always)]
    fn param<'p, 'a>(part: &'p LionTensor<'a>) -> &'p [f32]
    where
        Self: 'a,
    {
        part.param
    }

    #[inline(always)]
    fn split_at<'a>(part: LionTensor<'a>, at: usize) -> (LionTensor<'a>, LionTensor<'a>)
    where
        Self: 'a,
    {
        let (p0, p1) = part.param.split_at_mut(at);
        let (g0, g1) = part.grad.split_at(at);
        let (m0, m1) = part.m.split_at_mut(at);
        (LionTensor { param: p0, grad: g0, m: m0 }, LionTensor { param: p1, grad: g1, m: m1 })
    }
}

/// A step of [`Lion`], with its constants rounded to f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LionStep {
    beta1: f32,
    w1: f32,
    beta2: f32,
    w2: f32,
    decay: f32,
    lr: f32,
}

impl LionStep {
    /// Updates one tensor. Any length, empty included; parallel from [`tuning::LION_PARALLEL`] on.
    ///
    /// Deterministic: the same bits on every tier, for every thread count and however a tensor is cut. See the
    /// [module](self) for formula, error and NaN behaviour.
    ///
    /// # Panics
    /// If the slices' lengths differ.
    #[track_caller]
    pub fn update(&self, mut tensor: LionTensor<'_>) {
        self.update_many(std::slice::from_mut(&mut tensor));
    }

    /// Updates many tensors in one call: one dispatch, and one balanced partition over the threads that cuts through
    /// tensors. The bits are those of [`LionStep::update`] on each.
    ///
    /// # Panics
    /// If a tensor's slices differ in length.
    #[track_caller]
    pub fn update_many(&self, tensors: &mut [LionTensor<'_>]) {
        for tensor in tensors.iter() {
            tensor.check();
        }
        let work = Run { step: self, active: active(), backwards: false, tensors: Tensors::new(tensors) };
        parallel::run(work, tuning::LION_PARALLEL, tuning::LION_PIECE);
    }
}

impl Step for LionStep {
    type Tensor<'t> = LionTensor<'t>;
    type Constants<L: Lanes> = Constants<L>;

    #[inline(always)]
    fn constants<L: Lanes>(&self, l: L) -> Constants<L> {
        Constants::new(l, self)
    }

    #[inline(always)]
    fn update<'t, 'a, L: Lanes>(l: L, c: &Constants<L>, t: LionTensor<'a>)
    where
        't: 'a,
    {
        update(l, c, t);
    }
}

/// The step's constants, in all lanes.
#[derive(Clone, Copy)]
pub(crate) struct Constants<L: Lanes> {
    beta1: L::F,
    w1: L::F,
    beta2: L::F,
    w2: L::F,
    decay: L::F,
    /// What is added where `c` is negative, and where it is positive.
    up: L::F,
    down: L::F,
    /// A moment without any of these bits is subnormal, or zero.
    normal: L::I,
}

impl<L: Lanes> Constants<L> {
    #[inline(always)]
    fn new(l: L, s: &LionStep) -> Self {
        Constants {
            beta1: l.splat(s.beta1),
            w1: l.splat(s.w1),
            beta2: l.splat(s.beta2),
            w2: l.splat(s.w2),
            decay: l.splat(s.decay),
            up: l.splat(s.lr),
            down: l.splat(-s.lr),
            normal: l.splat_u32(EXPONENT),
        }
    }
}

/// How many vectors one turn of the loop takes.
const GROUP: usize = 4;

/// Whole vectors, then the rest as one vector, its unused lanes zero.
#[inline(always)]
fn update<L: Lanes>(l: L, c: &Constants<L>, t: LionTensor<'_>) {
    let (param, param_rest) = t.param.as_chunks_mut::<LANES>();
    let (grad, grad_rest) = t.grad.as_chunks::<LANES>();
    let (m, m_rest) = t.m.as_chunks_mut::<LANES>();
    let n = param.len();
    // Re-sliced to one length, so that LLVM drops the bounds checks.
    let (grad, m) = (&grad[..n], &mut m[..n]);
    let mut i = 0;
    while i + GROUP <= n {
        if L::WIDE {
            group::<L, GROUP>(l, c, param, grad, m, i);
        } else {
            for k in i..i + GROUP {
                group::<L, 1>(l, c, param, grad, m, k);
            }
        }
        i += GROUP;
    }
    while i < n {
        group::<L, 1>(l, c, param, grad, m, i);
        i += 1;
    }
    if !param_rest.is_empty() {
        let zero = l.splat(0.0);
        let (p, g) = (l.load_part(param_rest, zero), l.load_part(grad_rest, zero));
        let (p, m) = element(l, c, p, g, l.load_part(m_rest, zero));
        l.store_part(param_rest, p);
        l.store_part(m_rest, m);
    }
}

/// Updates `N` vectors from `i` on, which are loaded before any is stored: a store holds up a load at the same place of another page.
#[inline(always)]
fn group<L: Lanes, const N: usize>(
    l: L,
    c: &Constants<L>,
    param: &mut [Chunk],
    grad: &[Chunk],
    m: &mut [Chunk],
    i: usize,
) {
    let (param, grad, m) = (&mut param[i..i + N], &grad[i..i + N], &mut m[i..i + N]);
    let mut p = [l.splat(0.0); N];
    let mut new = p;
    for k in 0..N {
        (p[k], new[k]) = element(l, c, l.load(&param[k]), l.load(&grad[k]), l.load(&m[k]));
    }
    for k in 0..N {
        l.store(&mut param[k], p[k]);
        l.store(&mut m[k], new[k]);
    }
}

/// The new parameter and momentum of one vector.
#[inline(always)]
fn element<L: Lanes>(l: L, c: &Constants<L>, p: L::F, g: L::F, m: L::F) -> (L::F, L::F) {
    let zero = l.splat(0.0);
    let direction = l.mul_add(c.beta1, m, l.mul(c.w1, g));
    // What is neither above nor below zero is zero or NaN, and is added as it is.
    let step = l.select(l.gt(zero, direction), c.up, direction);
    let step = l.select(l.gt(direction, zero), c.down, step);
    (l.mul_add(c.decay, p, step), l.keep(l.mul_add(c.beta2, m, l.mul(c.w2, g)), c.normal))
}
