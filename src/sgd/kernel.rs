//! The step's loop and its arithmetic.

use super::{SgdStep, SgdTensor};
use crate::lanes::{Chunk, EXPONENT, LANES, Lanes};
use crate::tensors::Step;

impl Step for SgdStep {
    type Tensor<'t> = SgdTensor<'t>;
    type Constants<L: Lanes> = Constants<L>;

    #[inline(always)]
    fn constants<L: Lanes>(&self, l: L) -> Constants<L> {
        Constants::new(l, self)
    }

    #[inline(always)]
    fn update<'t, 'a, L: Lanes>(l: L, c: &Constants<L>, t: SgdTensor<'a>)
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
    l2: L::F,
    momentum: L::F,
    weight: L::F,
    lr: L::F,
    /// A buffer without any of these bits is subnormal, or zero.
    normal: L::I,
    has_l2: bool,
    first: bool,
    buffer: bool,
    nesterov: bool,
    /// Neither scale, L2 nor dampening, and not the first step.
    plain: bool,
}

impl<L: Lanes> Constants<L> {
    #[inline(always)]
    fn new(l: L, s: &SgdStep) -> Self {
        Constants {
            scale: l.splat(s.scale),
            l2: l.splat(s.l2),
            momentum: l.splat(s.momentum),
            weight: l.splat(s.weight),
            lr: l.splat(s.lr),
            normal: l.splat_u32(EXPONENT),
            // PyTorch skips a zero L2 term too: fma(0, p, g) would turn an infinite p into NaN.
            has_l2: s.l2 != 0.0,
            first: s.first,
            buffer: s.buffer,
            nesterov: s.nesterov,
            plain: s.scale == 1.0 && s.l2 == 0.0 && s.weight == 1.0 && !(s.buffer && s.first),
        }
    }
}

#[inline(always)]
fn update_one<L: Lanes>(l: L, c: &Constants<L>, t: SgdTensor<'_>) {
    match (c.buffer, c.nesterov, c.plain) {
        (false, _, true) => update::<L, false, false, true>(l, c, t),
        (false, _, false) => update::<L, false, false, false>(l, c, t),
        (true, false, true) => update::<L, true, false, true>(l, c, t),
        (true, false, false) => update::<L, true, false, false>(l, c, t),
        (true, true, true) => update::<L, true, true, true>(l, c, t),
        (true, true, false) => update::<L, true, true, false>(l, c, t),
    }
}

/// How many vectors one turn of the loop takes.
const GROUP: usize = 4;

/// Whole vectors, then the rest as one vector, its unused lanes zero.
#[inline(always)]
fn update<L: Lanes, const BUFFER: bool, const NESTEROV: bool, const PLAIN: bool>(
    l: L,
    c: &Constants<L>,
    t: SgdTensor<'_>,
) {
    let (param, param_rest) = t.param.as_chunks_mut::<LANES>();
    let (grad, grad_rest) = t.grad.as_chunks::<LANES>();
    let (buffer, buffer_rest) = t.buffer.as_chunks_mut::<LANES>();
    let n = param.len();
    // Said once, so that the loops need no checks.
    let grad = &grad[..n];
    let buffer = if BUFFER { &mut buffer[..n] } else { buffer };
    let zero = l.splat(0.0);

    let mut i = 0;
    while i + GROUP <= n {
        if L::WIDE {
            group::<L, GROUP, BUFFER, NESTEROV, PLAIN>(l, c, param, grad, buffer, i);
        } else {
            for k in i..i + GROUP {
                group::<L, 1, BUFFER, NESTEROV, PLAIN>(l, c, param, grad, buffer, k);
            }
        }
        i += GROUP;
    }
    while i < n {
        group::<L, 1, BUFFER, NESTEROV, PLAIN>(l, c, param, grad, buffer, i);
        i += 1;
    }
    if !param_rest.is_empty() {
        let old = if BUFFER { l.load_part(buffer_rest, zero) } else { zero };
        let (p, g) = (l.load_part(param_rest, zero), l.load_part(grad_rest, zero));
        let (p, b) = element::<L, BUFFER, NESTEROV, PLAIN>(l, c, p, g, old);
        l.store_part(param_rest, p);
        if BUFFER {
            l.store_part(buffer_rest, b);
        }
    }
}

/// Updates `N` vectors from `i` on. They are loaded before any is stored: a store holds up a load at the same place of another
/// page, up to 1.8 times as long on Zen 4 where what is written lies a line further in its page than what is read.
#[inline(always)]
fn group<L: Lanes, const N: usize, const BUFFER: bool, const NESTEROV: bool, const PLAIN: bool>(
    l: L,
    c: &Constants<L>,
    param: &mut [Chunk],
    grad: &[Chunk],
    buffer: &mut [Chunk],
    i: usize,
) {
    let (param, grad) = (&mut param[i..i + N], &grad[i..i + N]);
    let buffer = if BUFFER { &mut buffer[i..i + N] } else { buffer };
    let mut p = [l.splat(0.0); N];
    let mut b = p;
    for k in 0..N {
        let old = if BUFFER { l.load(&buffer[k]) } else { l.splat(0.0) };
        (p[k], b[k]) = element::<L, BUFFER, NESTEROV, PLAIN>(l, c, l.load(&param[k]), l.load(&grad[k]), old);
    }
    for k in 0..N {
        l.store(&mut param[k], p[k]);
        if BUFFER {
            l.store(&mut buffer[k], b[k]);
        }
    }
}

/// The new parameter and buffer of one vector.
#[inline(always)]
fn element<L: Lanes, const BUFFER: bool, const NESTEROV: bool, const PLAIN: bool>(
    l: L,
    c: &Constants<L>,
    p: L::F,
    mut g: L::F,
    mut b: L::F,
) -> (L::F, L::F) {
    if !PLAIN {
        g = l.mul(g, c.scale);
        if c.has_l2 {
            g = l.mul_add(c.l2, p, g);
        }
    }
    let mut d = g;
    if BUFFER {
        if PLAIN {
            b = l.mul_add(c.momentum, b, g);
        } else if c.first {
            b = g;
        } else {
            b = l.mul_add(c.momentum, b, l.mul(c.weight, g));
        }
        b = l.keep(b, c.normal);
        d = if NESTEROV { l.mul_add(c.momentum, b, g) } else { b };
    }
    (l.neg_mul_add(c.lr, d, p), b)
}
