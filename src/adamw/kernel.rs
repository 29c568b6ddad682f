//! The step's loop and its arithmetic.

use super::{AdamWStep, AdamWTensor};
use crate::lanes::{Chunk, EXPONENT, Half, LANES, Lanes};
use crate::tensors::Step;

impl Step for AdamWStep {
    type Tensor<'t> = AdamWTensor<'t>;
    type Constants<L: Lanes> = Constants<L>;

    #[inline(always)]
    fn constants<L: Lanes>(&self, l: L) -> Constants<L> {
        Constants::new(l, self)
    }

    #[inline(always)]
    fn update<'t, 'a, L: Lanes>(l: L, c: &Constants<L>, t: AdamWTensor<'a>)
    where
        't: 'a,
    {
        update_one(l, c, t);
    }
}

/// The step's constants, in all lanes.
#[derive(Clone, Copy)]
pub(crate) struct Constants<L: Lanes> {
    scale: L::F,
    decay: L::F,
    l2: L::F,
    w1: L::F,
    beta2: L::F,
    w2: L::F,
    root_scale: L::F,
    eps: L::F,
    factor: L::F,
    has_l2: bool,
    lerp_from_grad: bool,
    /// Neither L2 nor a lerp from the gradient, and no factor of the step but 1.
    pub(super) plain: bool,
    /// Whether the gradient has a scale but 1.
    pub(super) scaled: bool,
    /// Whether denominators are at least 2^-63, since `eps` is: a root is not negative.
    above: bool,
    /// A moment without any of these bits becomes 0: a subnormal one, with which CPUs calculate up to 30 times as slowly,
    /// unless its root is no less than `eps`.
    kept: L::I,
}

/// 2^-63, the root of the smallest normal number.
const ROOT: f32 = f32::from_bits(64 << 23);

impl<L: Lanes> Constants<L> {
    #[inline(always)]
    pub(super) fn new(l: L, s: &AdamWStep) -> Self {
        Constants {
            scale: l.splat(s.scale),
            decay: l.splat(s.decay),
            l2: l.splat(s.l2),
            w1: l.splat(s.w1),
            beta2: l.splat(s.beta2),
            w2: l.splat(s.w2),
            root_scale: l.splat(s.root_scale),
            eps: l.splat(s.eps),
            factor: l.splat(s.factor),
            // PyTorch skips a zero L2 term too: fma(0, p, g) would turn an infinite p into NaN.
            has_l2: s.l2 != 0.0,
            lerp_from_grad: s.lerp_from_grad,
            plain: s.l2 == 0.0 && !s.lerp_from_grad && s.factor == 1.0,
            scaled: s.scale != 1.0,
            above: s.eps >= ROOT,
            kept: l.splat_u32(if s.eps >= s.root_scale * ROOT { EXPONENT } else { !0 >> 1 }),
        }
    }
}

#[inline(always)]
fn update_one<L: Lanes>(l: L, c: &Constants<L>, t: AdamWTensor<'_>) {
    match t.v_max {
        // The usual case has a loop of its own, without the branches and the factors of 1, and so has the same with a
        // gradient that is clipped or unscaled.
        None if c.plain && !c.scaled => {
            update::<L, true, false, false>(l, c, t.param, t.grad, t.m, t.v, &mut [])
        }
        None if c.plain => update::<L, true, true, false>(l, c, t.param, t.grad, t.m, t.v, &mut []),
        None => update::<L, false, true, false>(l, c, t.param, t.grad, t.m, t.v, &mut []),
        Some(v_max) => update::<L, false, true, true>(l, c, t.param, t.grad, t.m, t.v, v_max),
    }
}

/// Whole vectors, then the rest as one vector in a buffer, its unused lanes zero.
#[inline(always)]
fn update<L: Lanes, const PLAIN: bool, const SCALED: bool, const AMSGRAD: bool>(
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
    whole::<L, PLAIN, SCALED, AMSGRAD>(l, c, Vectors { param, grad, m, v, v_max });

    if !param_rest.is_empty() {
        let zero = l.splat(0.0);
        let mut buffer = [[0.0; LANES]; 5];
        let [p, g, m, v, max] = &mut buffer;
        l.store(p, l.load_part(param_rest, zero));
        l.store(g, l.load_part(grad_rest, zero));
        l.store(m, l.load_part(m_rest, zero));
        l.store(v, l.load_part(v_rest, zero));
        // Else its slice is empty, and no lanes are loaded from there.
        if AMSGRAD {
            l.store(max, l.load_part(v_max_rest, zero));
        }
        let mut one = Vectors {
            param: std::slice::from_mut(p),
            grad: std::slice::from_ref(g),
            m: std::slice::from_mut(m),
            v: std::slice::from_mut(v),
            v_max: std::slice::from_mut(max),
        };
        let d = moments::<L, 1, PLAIN, SCALED, AMSGRAD>(l, c, &mut one, 0);
        parameter::<L, 1, PLAIN>(l, c, &mut one, 0, d);
        l.store_part(param_rest, l.load(p));
        l.store_part(m_rest, l.load(m));
        l.store_part(v_rest, l.load(v));
        if AMSGRAD {
            l.store_part(v_max_rest, l.load(max));
        }
    }
}

/// The parameters of a tensor's whole vectors, however they are kept. A vector is named by the first of the `N` that are
/// taken together and its place among them, so that the bounds are checked once for all.
pub(super) trait Params<L: Lanes> {
    fn vectors(&self) -> usize;
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F;
    fn store<const N: usize>(&mut self, l: L, at: usize, i: usize, p: L::F);
    fn prefetch(&self, l: L, i: usize);
}

/// The same of gradients.
pub(super) trait Grads<L: Lanes> {
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F;
    fn prefetch(&self, l: L, i: usize);
}

impl<L: Lanes> Params<L> for &mut [Chunk] {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F {
        l.load(&self[at..at + N][i])
    }
    #[inline(always)]
    fn store<const N: usize>(&mut self, l: L, at: usize, i: usize, p: L::F) {
        l.store(&mut self[at..at + N][i], p);
    }
    #[inline(always)]
    fn prefetch(&self, l: L, i: usize) {
        l.prefetch(self, i);
    }
}

impl<L: Lanes> Grads<L> for &[Chunk] {
    #[inline(always)]
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F {
        l.load(&self[at..at + N][i])
    }
    #[inline(always)]
    fn prefetch(&self, l: L, i: usize) {
        l.prefetch(self, i);
    }
}

impl<L: Lanes> Grads<L> for &[Half] {
    #[inline(always)]
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F {
        l.load_bf16(&self[at..at + N][i])
    }
    /// A stream of half the bytes is left to the CPU.
    #[inline(always)]
    fn prefetch(&self, _: L, _: usize) {}
}

/// The whole vectors of a tensor: equally many in each slice, but `v_max` only with AMSGrad.
pub(super) struct Vectors<'a, P, G> {
    pub(super) param: P,
    pub(super) grad: G,
    pub(super) m: &'a mut [Chunk],
    pub(super) v: &'a mut [Chunk],
    pub(super) v_max: &'a mut [Chunk],
}

/// The loop.
#[inline(always)]
pub(super) fn whole<L: Lanes, const PLAIN: bool, const SCALED: bool, const AMSGRAD: bool>(
    l: L,
    c: &Constants<L>,
    mut s: Vectors<'_, impl Params<L>, impl Grads<L>>,
) {
    let n = s.param.vectors();
    let mut i = 0;
    if L::WIDE && n >= 2 * GROUP {
        // The root occupies the divider for twelve cycles a vector, the rest both multipliers for as long. Out-of-order
        // execution alone does not overlap them: the reciprocal's chain fills the scheduler while it waits for its
        // root. So four vectors take each operation together, and the roots of the next four start before it.
        let mut d = moments::<L, GROUP, PLAIN, SCALED, AMSGRAD>(l, c, &mut s, 0);
        while i + 2 * GROUP <= n {
            let next = moments::<L, GROUP, PLAIN, SCALED, AMSGRAD>(l, c, &mut s, i + GROUP);
            parameter::<L, GROUP, PLAIN>(l, c, &mut s, i, d);
            d = next;
            i += GROUP;
        }
        parameter::<L, GROUP, PLAIN>(l, c, &mut s, i, d);
        i += GROUP;
    }
    while i < n {
        let d = moments::<L, 1, PLAIN, SCALED, AMSGRAD>(l, c, &mut s, i);
        parameter::<L, 1, PLAIN>(l, c, &mut s, i, d);
        i += 1;
    }
}

/// How many vectors ahead the step asks for its data: 1 KiB in each of four streams. The CPU's own prefetch stops at a
/// page's end; against none, this is 10% faster from memory, 1% from L3, and 1% slower from L2.
const AHEAD: usize = 16;

/// How many vectors take each operation together where the registers allow it.
const GROUP: usize = 4;

/// Updates the moments of `N` vectors from `at` on, and returns the denominators.
#[inline(always)]
pub(super) fn moments<
    L: Lanes,
    const N: usize,
    const PLAIN: bool,
    const SCALED: bool,
    const AMSGRAD: bool,
>(
    l: L,
    c: &Constants<L>,
    s: &mut Vectors<'_, impl Params<L>, impl Grads<L>>,
    at: usize,
) -> [L::F; N] {
    for i in 0..N {
        s.param.prefetch(l, at + i + AHEAD);
        s.grad.prefetch(l, at + i + AHEAD);
        l.prefetch(s.m, at + i + AHEAD);
        l.prefetch(s.v, at + i + AHEAD);
    }
    let (param, grad) = (&s.param, &s.grad);
    let (m, v) = (&mut s.m[at..at + N], &mut s.v[at..at + N]);
    let mut d = [c.eps; N];
    for i in 0..N {
        let mut g = grad.load::<N>(l, at, i);
        if SCALED {
            g = l.mul(g, c.scale);
        }
        if !PLAIN && c.has_l2 {
            g = l.mul_add(c.l2, param.load::<N>(l, at, i), g);
        }
        let old = l.load(&m[i]);
        let from = if !PLAIN && c.lerp_from_grad { g } else { old };
        l.store(&mut m[i], l.keep(l.mul_add(c.w1, l.sub(g, old), from), c.kept));
        let mut second = l.keep(l.mul_add(l.mul(c.w2, g), g, l.mul(c.beta2, l.load(&v[i]))), c.kept);
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
pub(super) fn parameter<L: Lanes, const N: usize, const PLAIN: bool>(
    l: L,
    c: &Constants<L>,
    s: &mut Vectors<'_, impl Params<L>, impl Grads<L>>,
    at: usize,
    d: [L::F; N],
) {
    let (param, m) = (&mut s.param, &s.m[at..at + N]);
    let r = l.recip_each(d, c.above);
    for i in 0..N {
        let m = l.load(&m[i]);
        let m = if PLAIN { m } else { l.mul(m, c.factor) };
        let p = l.neg_mul_add(m, r[i], l.mul(param.load::<N>(l, at, i), c.decay));
        param.store::<N>(l, at, i, p);
    }
}
