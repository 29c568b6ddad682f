//! The step on bf16 parameters, whose f32 values are kept beside them. The arithmetic is that of the f32 step.

use super::AdamWStep;
use super::kernel::{Constants, Grads, Params, Vectors, moments, parameter, whole};
use crate::bf16::{joined, split_of};
use crate::elementwise::Elementwise;
use crate::error::check_len;
use crate::lanes::{Chunk, Half, Kernel, LANES, Lanes};
use crate::tier::{Active, active};
use crate::{parallel, tuning};

/// bf16 parameters, as bits, with what makes them exact f32 values between the steps. A small update would be lost in a
/// bf16's eight bits.
#[derive(Debug)]
pub enum Bf16Param<'a> {
    /// f32 parameters, and a bf16 copy of each, rounded to the nearest, ties to even: 6 bytes a parameter.
    Copy {
        /// The parameter, updated in place.
        param: &'a mut [f32],
        /// Overwritten.
        copy: &'a mut [u16],
    },
    /// The same values in 4 bytes a parameter, as [`bf16::split`](crate::bf16::split) cuts them: the nearest bf16, ties away
    /// from zero, and the 16 bits that it lacks.
    Split {
        /// The bf16, updated in place.
        high: &'a mut [u16],
        /// What they lack, updated in place.
        low: &'a mut [u16],
    },
}

/// A gradient.
#[derive(Clone, Copy, Debug)]
pub enum Gradient<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In bf16, as bits.
    Bf16(&'a [u16]),
}

impl<'a> Gradient<'a> {
    fn len(&self) -> usize {
        match self {
            Gradient::F32(g) => g.len(),
            Gradient::Bf16(g) => g.len(),
        }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Gradient::F32(g) => {
                let (a, b) = g.split_at(at);
                (Gradient::F32(a), Gradient::F32(b))
            }
            Gradient::Bf16(g) => {
                let (a, b) = g.split_at(at);
                (Gradient::Bf16(a), Gradient::Bf16(b))
            }
        }
    }
}

/// One tensor of bf16 parameters: slices of equal length.
#[derive(Debug)]
pub struct Bf16Tensor<'a> {
    /// The parameter, updated in place.
    pub param: Bf16Param<'a>,
    /// Its gradient.
    pub grad: Gradient<'a>,
    /// The first moment, updated in place; zeros before step 1.
    pub m: &'a mut [f32],
    /// The second moment, updated in place; zeros before step 1.
    pub v: &'a mut [f32],
}

impl AdamWStep {
    /// Updates one tensor of bf16 parameters. The f32 values, in either form, and the moments have the bits that
    /// [`AdamWStep::update`] gives them from the same gradient in f32. Any length, empty included; parallel from
    /// [`tuning::ADAMW_PARALLEL`] on. A parameter that becomes NaN is 0x7FC0 in bf16, and with `Split` in f32, too.
    ///
    /// # Panics
    /// If the slices' lengths differ.
    #[track_caller]
    pub fn update_bf16(&self, tensor: Bf16Tensor<'_>) {
        let n = match &tensor.param {
            Bf16Param::Copy { param, copy } => {
                check_len("adamw bf16", "copy", copy.len(), param.len(), "param");
                param.len()
            }
            Bf16Param::Split { high, low } => {
                check_len("adamw bf16", "low", low.len(), high.len(), "high");
                high.len()
            }
        };
        check_len("adamw bf16", "grad", tensor.grad.len(), n, "the parameter");
        check_len("adamw bf16", "m", tensor.m.len(), n, "the parameter");
        check_len("adamw bf16", "v", tensor.v.len(), n, "the parameter");
        let work = Mixed { step: self, active: active(), tensor };
        parallel::run(work, tuning::ADAMW_PARALLEL, tuning::ADAMW_PIECE);
    }
}

/// A part of a tensor.
struct Mixed<'a> {
    step: &'a AdamWStep,
    active: Active,
    tensor: Bf16Tensor<'a>,
}

impl Elementwise for Mixed<'_> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.tensor.m
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Mixed { step, active, tensor: Bf16Tensor { param, grad, m, v } } = self;
        let (p0, p1) = match param {
            Bf16Param::Copy { param, copy } => {
                let ((p0, p1), (c0, c1)) = (param.split_at_mut(at), copy.split_at_mut(at));
                (Bf16Param::Copy { param: p0, copy: c0 }, Bf16Param::Copy { param: p1, copy: c1 })
            }
            Bf16Param::Split { high, low } => {
                let ((h0, h1), (l0, l1)) = (high.split_at_mut(at), low.split_at_mut(at));
                (Bf16Param::Split { high: h0, low: l0 }, Bf16Param::Split { high: h1, low: l1 })
            }
        };
        let ((g0, g1), (m0, m1), (v0, v1)) = (grad.split_at(at), m.split_at_mut(at), v.split_at_mut(at));
        (
            Mixed { step, active, tensor: Bf16Tensor { param: p0, grad: g0, m: m0, v: v0 } },
            Mixed { step, active, tensor: Bf16Tensor { param: p1, grad: g1, m: m1, v: v1 } },
        )
    }
}

/// f32 vectors, and where their bf16 go.
struct Copied<'a> {
    param: &'a mut [Chunk],
    copy: &'a mut [Half],
}

impl<L: Lanes> Params<L> for Copied<'_> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.param.len()
    }
    #[inline(always)]
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F {
        l.load(&self.param[at..at + N][i])
    }
    #[inline(always)]
    fn store<const N: usize>(&mut self, l: L, at: usize, i: usize, p: L::F) {
        l.store(&mut self.param[at..at + N][i], p);
        l.store_bf16(&mut self.copy[at..at + N][i], p);
    }
    #[inline(always)]
    fn prefetch(&self, l: L, i: usize) {
        l.prefetch(self.param, i);
    }
}

/// The halves of f32 vectors.
struct Split<'a> {
    high: &'a mut [Half],
    low: &'a mut [Half],
}

impl<L: Lanes> Params<L> for Split<'_> {
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.high.len()
    }
    #[inline(always)]
    fn load<const N: usize>(&self, l: L, at: usize, i: usize) -> L::F {
        joined(l, &self.high[at..at + N][i], &self.low[at..at + N][i])
    }
    #[inline(always)]
    fn store<const N: usize>(&mut self, l: L, at: usize, i: usize, p: L::F) {
        split_of(l, p, &mut self.high[at..at + N][i], &mut self.low[at..at + N][i]);
    }
    /// Streams of half the bytes are left to the CPU.
    #[inline(always)]
    fn prefetch(&self, _: L, _: usize) {}
}

impl Kernel for Mixed<'_> {
    type Output = ();

    /// Whole vectors, then the rest as one vector in buffers, its unused lanes zero.
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let c = Constants::new(l, self.step);
        let Bf16Tensor { param, grad, m, v } = self.tensor;
        let (m, m_rest) = m.as_chunks_mut::<LANES>();
        let (v, v_rest) = v.as_chunks_mut::<LANES>();
        let (rest, zero) = (m_rest.len(), l.splat(0.0));
        let mut last = Last::new();
        if rest > 0 {
            l.store(&mut last.m, l.load_part(m_rest, zero));
            l.store(&mut last.v, l.load_part(v_rest, zero));
            match grad {
                Gradient::F32(g) => l.store(&mut last.g, l.load_part(&g[g.len() - rest..], zero)),
                Gradient::Bf16(g) => l.store(&mut last.g, l.load_bf16_part(&g[g.len() - rest..])),
            }
        }
        match param {
            Bf16Param::Copy { param, copy } => {
                let (param, param_rest) = param.as_chunks_mut::<LANES>();
                let (copy, copy_rest) = copy.as_chunks_mut::<LANES>();
                let n = param.len();
                let copy = &mut copy[..n];
                each(l, &c, Copied { param, copy }, grad, m, v);
                if rest > 0 {
                    l.store(&mut last.p, l.load_part(param_rest, zero));
                    let Last { p, g, m, v, high, .. } = &mut last;
                    let param = Copied { param: std::slice::from_mut(p), copy: std::slice::from_mut(high) };
                    one(l, &c, param, g, m, v);
                    l.store_part(param_rest, l.load(&last.p));
                    copy_rest.copy_from_slice(&last.high[..rest]);
                }
            }
            Bf16Param::Split { high, low } => {
                let (high, high_rest) = high.as_chunks_mut::<LANES>();
                let (low, low_rest) = low.as_chunks_mut::<LANES>();
                let n = high.len();
                let low = &mut low[..n];
                each(l, &c, Split { high, low }, grad, m, v);
                if rest > 0 {
                    last.high[..rest].copy_from_slice(high_rest);
                    last.low[..rest].copy_from_slice(low_rest);
                    let Last { g, m, v, high, low, .. } = &mut last;
                    let param = Split { high: std::slice::from_mut(high), low: std::slice::from_mut(low) };
                    one(l, &c, param, g, m, v);
                    high_rest.copy_from_slice(&last.high[..rest]);
                    low_rest.copy_from_slice(&last.low[..rest]);
                }
            }
        }
        if rest > 0 {
            l.store_part(m_rest, l.load(&last.m));
            l.store_part(v_rest, l.load(&last.v));
        }
    }
}

/// Buffers for the last vector, which is not whole.
struct Last {
    p: Chunk,
    g: Chunk,
    m: Chunk,
    v: Chunk,
    high: Half,
    low: Half,
}

impl Last {
    #[inline(always)]
    fn new() -> Self {
        let (f, h) = ([0.0; LANES], [0; LANES]);
        Last { p: f, g: f, m: f, v: f, high: h, low: h }
    }
}

/// The loop for the gradient's kind and the step's.
#[inline(always)]
fn each<L: Lanes>(
    l: L,
    c: &Constants<L>,
    param: impl Params<L>,
    grad: Gradient<'_>,
    m: &mut [Chunk],
    v: &mut [Chunk],
) {
    let n = param.vectors();
    // Said once, so that the loops need no checks.
    let (m, v) = (&mut m[..n], &mut v[..n]);
    match grad {
        Gradient::F32(g) => {
            let (g, _) = g.as_chunks::<LANES>();
            plain_or_not(l, c, Vectors { param, grad: &g[..n], m, v, v_max: &mut [] });
        }
        Gradient::Bf16(g) => {
            let (g, _) = g.as_chunks::<LANES>();
            plain_or_not(l, c, Vectors { param, grad: &g[..n], m, v, v_max: &mut [] });
        }
    }
}

#[inline(always)]
fn plain_or_not<L: Lanes>(l: L, c: &Constants<L>, s: Vectors<'_, impl Params<L>, impl Grads<L>>) {
    if c.plain && !c.scaled {
        whole::<L, true, false, false>(l, c, s)
    } else {
        whole::<L, false, true, false>(l, c, s)
    }
}

/// One vector, by the general step: where the plain one would do, its factors are 1.
#[inline(always)]
fn one<L: Lanes>(l: L, c: &Constants<L>, param: impl Params<L>, grad: &Chunk, m: &mut Chunk, v: &mut Chunk) {
    let mut s = Vectors {
        param,
        grad: std::slice::from_ref(grad),
        m: std::slice::from_mut(m),
        v: std::slice::from_mut(v),
        v_max: &mut [],
    };
    let d = moments::<L, 1, false, true, false>(l, c, &mut s, 0);
    parameter::<L, 1, false>(l, c, &mut s, 0, d);
}
