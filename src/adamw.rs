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
//! The products that feed a sum are fused: `m = fma(w1, g - m, m)` (for `beta1 < 0.5`, `fma(-beta1, g - m, g)`, as
//! PyTorch's lerp does), `v = fma(beta2, v, (w2 * g) * g)`, `d = fma(sqrt(v), 1 / sqrt(1 - beta2^t), eps)`,
//! `p = fma(-step_size, m / d, decay * p)`; root and quotient are correctly rounded. Against the formulas in exact
//! arithmetic, with u = 2^-24 and every constant rounded to f32, one step is off by at most
//! `4u (|m| + |g|)` in `m`, `4u v` in `v`, and `2u |p| + 10u |p' - p|` in `p`, where the last term stands for the update
//! (`tests/oracle` measures it). Not the bits of PyTorch, which differ between its own builds.
//!
//! # NaN and infinity
//! A NaN in `g`, `m`, `v` or `p` makes the parameter NaN; an infinite gradient makes `m` infinite and `p` NaN. Nothing
//! is skipped. A negative `v` (never produced here) gives NaN.

use crate::error::{HyperParamError, check_len};
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::{self, Work};
use crate::tier::{Active, active};
use crate::tuning;

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
    /// Learning rate, at least 0.
    pub lr: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the denominator, at least 0.
    pub eps: f64,
    /// Weight decay, at least 0.
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
    /// Names the first one that is not finite or out of range.
    pub fn new(config: AdamWConfig) -> Result<Self, HyperParamError> {
        let AdamWConfig { lr, beta1, beta2, eps, weight_decay, .. } = config;
        for (name, value) in [("lr", lr), ("eps", eps), ("weight_decay", weight_decay)] {
            let fits = (0.0..=f32::MAX as f64).contains(&value);
            HyperParamError::check(fits, name, value, "must be finite, at least 0 and within f32's range")?;
        }
        for (name, value) in [("beta1", beta1), ("beta2", beta2)] {
            HyperParamError::check(
                (0.0..1.0).contains(&value),
                name,
                value,
                "must be at least 0 and below 1",
            )?;
        }
        Ok(AdamW { config })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &AdamWConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is not finite or negative.
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
        Ok(AdamWStep {
            sign: if c.maximize { -1.0 } else { 1.0 },
            scale: if c.maximize { -1.0 } else { 1.0 },
            decay: if decoupled { (1.0 - c.lr * c.weight_decay) as f32 } else { 1.0 },
            l2: if decoupled { 0.0 } else { c.weight_decay as f32 },
            // Like PyTorch's lerp: the weight of modulus below one half, so that the difference stays small.
            lerp_from_grad: 1.0 - c.beta1 >= 0.5,
            w1: if 1.0 - c.beta1 >= 0.5 { -c.beta1 as f32 } else { (1.0 - c.beta1) as f32 },
            beta2: c.beta2 as f32,
            w2: (1.0 - c.beta2) as f32,
            root_scale: (1.0 / correction2.sqrt()) as f32,
            eps: c.eps as f32,
            step_size: (c.lr / correction1) as f32,
        })
    }
}

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

impl<'a> AdamWTensor<'a> {
    #[track_caller]
    #[inline(always)]
    fn check(&self) {
        let n = self.param.len();
        check_len("adamw", "grad", self.grad.len(), n, "param");
        check_len("adamw", "m", self.m.len(), n, "param");
        check_len("adamw", "v", self.v.len(), n, "param");
        if let Some(v_max) = &self.v_max {
            check_len("adamw", "v_max", v_max.len(), n, "param");
        }
    }

    /// The same tensor for a shorter time.
    #[inline(always)]
    fn reborrow(&mut self) -> AdamWTensor<'_> {
        AdamWTensor {
            param: self.param,
            grad: self.grad,
            m: self.m,
            v: self.v,
            v_max: self.v_max.as_deref_mut(),
        }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (p0, p1) = self.param.split_at_mut(at);
        let (g0, g1) = self.grad.split_at(at);
        let (m0, m1) = self.m.split_at_mut(at);
        let (v0, v1) = self.v.split_at_mut(at);
        let (x0, x1) = self.v_max.map(|x| x.split_at_mut(at)).unzip();
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
    step_size: f32,
}

impl AdamWStep {
    /// Divides every gradient by `grad_scale` first, as mixed-precision training asks for. The gradient itself is not
    /// written back. The division is a multiplication by the reciprocal, rounded to f32: exact for a power of two.
    ///
    /// # Errors
    /// `grad_scale` is not positive, or its reciprocal is not a normal f32.
    pub fn unscale(self, grad_scale: f64) -> Result<Self, HyperParamError> {
        let reciprocal = (1.0 / grad_scale) as f32;
        let fits = grad_scale > 0.0 && reciprocal.is_normal();
        HyperParamError::check(
            fits,
            "grad_scale",
            grad_scale,
            "must be positive with a reciprocal in f32's range",
        )?;
        Ok(AdamWStep { scale: reciprocal * self.sign, ..self })
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
        let mut size = 0;
        for tensor in tensors.iter() {
            tensor.check();
            size += tensor.param.len();
        }
        let work = Run { step: self, active: active(), size, head: None, whole: tensors, tail: None };
        parallel::run(work, tuning::ADAMW_PARALLEL, tuning::ADAMW_PIECE);
    }
}

/// A run of tensors of which the first and the last may be cut.
struct Run<'a, 't> {
    step: &'a AdamWStep,
    active: Active,
    /// Elements in all.
    size: usize,
    head: Option<AdamWTensor<'a>>,
    whole: &'a mut [AdamWTensor<'t>],
    tail: Option<AdamWTensor<'a>>,
}

impl Work for Run<'_, '_> {
    fn size(&self) -> usize {
        self.size
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let Run { step, active, size, mut head, whole, mut tail } = self;
        // On a cache line's boundary, so that two threads do not share one; the bits would be the same anywhere.
        let middle = (size / 2).next_multiple_of(16).min(size);
        let left = |head, whole, tail| Run { step, active, size: middle, head, whole, tail };
        let right = |head, whole, tail| Run { step, active, size: size - middle, head, whole, tail };

        let mut before = 0;
        if let Some(tensor) = head.take() {
            before = tensor.param.len();
            if middle <= before {
                let (a, b) = tensor.split_at(middle);
                return Ok((left(Some(a), &mut [], None), right(Some(b), whole, tail)));
            }
            head = Some(tensor);
        }
        let mut cut = 0;
        while cut < whole.len() && before + whole[cut].param.len() < middle {
            before += whole[cut].param.len();
            cut += 1;
        }
        let (first, rest) = whole.split_at_mut(cut);
        match rest.split_first_mut() {
            Some((tensor, rest)) => {
                let (a, b) = tensor.reborrow().split_at(middle - before);
                Ok((left(head, first, Some(a)), right(Some(b), rest, tail)))
            }
            None => {
                let (a, b) = tail.take().map(|t| t.split_at(middle - before)).unzip();
                Ok((left(head, first, a), right(b, &mut [], None)))
            }
        }
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let c = Constants::new(l, self.step);
        if let Some(tensor) = self.head {
            update_one(l, &c, tensor);
        }
        for tensor in self.whole {
            update_one(l, &c, tensor.reborrow());
        }
        if let Some(tensor) = self.tail {
            update_one(l, &c, tensor);
        }
    }
}

/// The step's constants, in all lanes.
#[derive(Clone, Copy)]
struct Constants<L: Lanes> {
    scale: L::F,
    decay: L::F,
    l2: L::F,
    w1: L::F,
    beta2: L::F,
    w2: L::F,
    root_scale: L::F,
    eps: L::F,
    step_size: L::F,
    has_l2: bool,
    lerp_from_grad: bool,
}

impl<L: Lanes> Constants<L> {
    #[inline(always)]
    fn new(l: L, s: &AdamWStep) -> Self {
        Constants {
            scale: l.splat(s.scale),
            decay: l.splat(s.decay),
            l2: l.splat(s.l2),
            w1: l.splat(s.w1),
            beta2: l.splat(s.beta2),
            w2: l.splat(s.w2),
            root_scale: l.splat(s.root_scale),
            eps: l.splat(s.eps),
            step_size: l.splat(s.step_size),
            // PyTorch skips a zero L2 term too: fma(0, p, g) would turn an infinite p into NaN.
            has_l2: s.l2 != 0.0,
            lerp_from_grad: s.lerp_from_grad,
        }
    }
}

#[inline(always)]
fn update_one<L: Lanes>(l: L, c: &Constants<L>, t: AdamWTensor<'_>) {
    match t.v_max {
        // The usual case has a loop of its own, without the two branches.
        None if !c.has_l2 && !c.lerp_from_grad => {
            update::<L, true, false>(l, c, t.param, t.grad, t.m, t.v, &mut [])
        }
        None => update::<L, false, false>(l, c, t.param, t.grad, t.m, t.v, &mut []),
        Some(v_max) => update::<L, false, true>(l, c, t.param, t.grad, t.m, t.v, v_max),
    }
}

/// Whole vectors, then the rest as one vector in a buffer, its unused lanes zero.
#[inline(always)]
fn update<L: Lanes, const PLAIN: bool, const AMSGRAD: bool>(
    l: L,
    c: &Constants<L>,
    param: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    v_max: &mut [f32],
) {
    let (param, param_rest) = param.as_chunks_mut();
    let (grad, grad_rest) = grad.as_chunks();
    let (m, m_rest) = m.as_chunks_mut();
    let (v, v_rest) = v.as_chunks_mut();
    let (v_max, v_max_rest) = v_max.as_chunks_mut();
    let n = param.len();
    // Said once, so that the loops need no checks.
    let (grad, m, v) = (&grad[..n], &mut m[..n], &mut v[..n]);
    let v_max = if AMSGRAD { &mut v_max[..n] } else { v_max };
    whole::<L, PLAIN, AMSGRAD>(l, c, Vectors { param, grad, m, v, v_max });

    if !param_rest.is_empty() {
        let zero = l.splat(0.0);
        let mut buffer = [[0.0; LANES]; 5];
        let [p, g, m, v, max] = &mut buffer;
        l.store(p, l.load_part(param_rest, zero));
        l.store(g, l.load_part(grad_rest, zero));
        l.store(m, l.load_part(m_rest, zero));
        l.store(v, l.load_part(v_rest, zero));
        l.store(max, l.load_part(v_max_rest, zero));
        let mut one = Vectors {
            param: std::slice::from_mut(p),
            grad: std::slice::from_ref(g),
            m: std::slice::from_mut(m),
            v: std::slice::from_mut(v),
            v_max: std::slice::from_mut(max),
        };
        let d = moments::<L, 1, PLAIN, AMSGRAD>(l, c, &mut one, 0);
        parameter::<L, 1>(l, c, &mut one, 0, d);
        l.store_part(param_rest, l.load(p));
        l.store_part(m_rest, l.load(m));
        l.store_part(v_rest, l.load(v));
        if AMSGRAD {
            l.store_part(v_max_rest, l.load(max));
        }
    }
}

/// The whole vectors of a tensor: equally many in each slice, but `v_max` only with AMSGrad.
struct Vectors<'a> {
    param: &'a mut [Chunk],
    grad: &'a [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    v_max: &'a mut [Chunk],
}

/// The loop.
#[inline(always)]
fn whole<L: Lanes, const PLAIN: bool, const AMSGRAD: bool>(l: L, c: &Constants<L>, mut s: Vectors<'_>) {
    let n = s.param.len();
    let mut i = 0;
    if L::WIDE && n >= 2 * GROUP {
        // The root occupies the divider for twelve cycles a vector, the rest both multipliers for as long. Out-of-order
        // execution alone does not overlap them: the reciprocal's chain fills the scheduler while it waits for its
        // root. So four vectors take each operation together, and the roots of the next four start before it.
        let mut d = moments::<L, GROUP, PLAIN, AMSGRAD>(l, c, &mut s, 0);
        while i + 2 * GROUP <= n {
            let next = moments::<L, GROUP, PLAIN, AMSGRAD>(l, c, &mut s, i + GROUP);
            parameter::<L, GROUP>(l, c, &mut s, i, d);
            d = next;
            i += GROUP;
        }
        parameter::<L, GROUP>(l, c, &mut s, i, d);
        i += GROUP;
    }
    while i < n {
        let d = moments::<L, 1, PLAIN, AMSGRAD>(l, c, &mut s, i);
        parameter::<L, 1>(l, c, &mut s, i, d);
        i += 1;
    }
}

/// How many vectors take each operation together where the registers allow it.
const GROUP: usize = 4;

/// Updates the moments of `N` vectors from `at` on, and returns the denominators.
#[inline(always)]
fn moments<L: Lanes, const N: usize, const PLAIN: bool, const AMSGRAD: bool>(
    l: L,
    c: &Constants<L>,
    s: &mut Vectors<'_>,
    at: usize,
) -> [L::F; N] {
    let (param, grad) = (&s.param[at..at + N], &s.grad[at..at + N]);
    let (m, v) = (&mut s.m[at..at + N], &mut s.v[at..at + N]);
    let mut d = [c.eps; N];
    for i in 0..N {
        let mut g = l.mul(l.load(&grad[i]), c.scale);
        if !PLAIN && c.has_l2 {
            g = l.mul_add(c.l2, l.load(&param[i]), g);
        }
        let old = l.load(&m[i]);
        let from = if !PLAIN && c.lerp_from_grad { g } else { old };
        l.store(&mut m[i], l.mul_add(c.w1, l.sub(g, old), from));
        let mut second = l.mul_add(c.beta2, l.load(&v[i]), l.mul(l.mul(c.w2, g), g));
        l.store(&mut v[i], second);
        if AMSGRAD {
            let v_max = &mut s.v_max[at + i];
            second = l.max(l.load(v_max), second);
            l.store(v_max, second);
        }
        d[i] = l.mul_add(l.sqrt(second), c.root_scale, c.eps);
    }
    d
}

/// Updates the parameters of `N` vectors from `at` on, whose denominators are `d`.
#[inline(always)]
fn parameter<L: Lanes, const N: usize>(l: L, c: &Constants<L>, s: &mut Vectors<'_>, at: usize, d: [L::F; N]) {
    let (param, m) = (&mut s.param[at..at + N], &s.m[at..at + N]);
    let r = l.recip_each(d);
    for i in 0..N {
        let update = l.mul(l.load(&m[i]), r[i]);
        let p = l.neg_mul_add(c.step_size, update, l.mul(l.load(&param[i]), c.decay));
        l.store(&mut param[i], p);
    }
}
