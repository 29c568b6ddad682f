//! The step's loop and its arithmetic.

use super::{LionStep, LionTensor};
use crate::lanes::{Chunk, LANES, Lanes};
use crate::tensors::Step;

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
    // Said once, so that the loops need no checks.
    let (grad, m) = (&grad[..n], &mut m[..n]);
    let mut i = 0;
    while i + GROUP <= n {
        for k in i..i + GROUP {
            one(l, c, param, grad, m, k);
        }
        i += GROUP;
    }
    while i < n {
        one(l, c, param, grad, m, i);
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

/// Updates vector `i`.
#[inline(always)]
fn one<L: Lanes>(l: L, c: &Constants<L>, param: &mut [Chunk], grad: &[Chunk], m: &mut [Chunk], i: usize) {
    let (p, new) = element(l, c, l.load(&param[i]), l.load(&grad[i]), l.load(&m[i]));
    l.store(&mut param[i], p);
    l.store(&mut m[i], new);
}

/// The new parameter and momentum of one vector.
#[inline(always)]
fn element<L: Lanes>(l: L, c: &Constants<L>, p: L::F, g: L::F, m: L::F) -> (L::F, L::F) {
    let zero = l.splat(0.0);
    let direction = l.mul_add(c.beta1, m, l.mul(c.w1, g));
    // What is neither above nor below zero is zero or NaN, and is added as it is.
    let step = l.select(l.gt(zero, direction), c.up, direction);
    let step = l.select(l.gt(direction, zero), c.down, step);
    (l.mul_add(c.decay, p, step), l.mul_add(c.beta2, m, l.mul(c.w2, g)))
}
