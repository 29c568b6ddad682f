//! The passes over values as they lie in memory: sums of squares, and the step of a vector.

use crate::elementwise::Elementwise;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Values whose squares are summed in f32; what such blocks give is added in f64.
pub(super) const BLOCK: usize = 1024;

/// Accumulators of such a sum: a block's vector `i` goes to number `i % ACC`.
pub(super) const ACC: usize = 4;

/// How an average takes what is new.
#[derive(Clone, Copy)]
pub(super) struct Average {
    pub(super) weight: f32,
    /// Whether it starts from what is new, less something.
    pub(super) from_new: bool,
}

impl Average {
    /// `old` moved towards `new`, by a weight that is in all lanes already.
    #[inline(always)]
    pub(super) fn toward<L: Lanes>(self, l: L, weight: L::F, old: L::F, new: L::F) -> L::F {
        let from = if self.from_new { new } else { old };
        l.mul_add(weight, l.sub(new, old), from)
    }
}

/// The accumulators' sum, in a fixed order.
#[inline(always)]
pub(super) fn total<L: Lanes>(l: L, acc: [L::F; ACC]) -> f32 {
    l.sum(l.add(l.add(acc[0], acc[2]), l.add(acc[1], acc[3])))
}

/// The sum of each block's squares.
pub(super) struct Squares<'a> {
    pub(super) active: Active,
    pub(super) x: &'a [f32],
    pub(super) sums: &'a mut [f32],
}

impl Work for Squares<'_> {
    fn size(&self) -> usize {
        self.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let middle = self.sums.len() / 2;
        if middle == 0 {
            return Err(self);
        }
        let (x0, x1) = self.x.split_at(middle * BLOCK);
        let (s0, s1) = self.sums.split_at_mut(middle);
        Ok((Squares { x: x0, sums: s0, ..self }, Squares { x: x1, sums: s1, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for b in 0..self.sums.len() {
            let x = &self.x[b * BLOCK..];
            self.sums[b] = squares(l, &x[..x.len().min(BLOCK)]);
        }
    }
}

/// The sum of a block's squares.
#[inline(always)]
fn squares<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<LANES>();
    let mut acc = [l.splat(0.0); ACC];
    let (groups, left) = x.as_chunks::<ACC>();
    for group in groups {
        for k in 0..ACC {
            let x = l.load(&group[k]);
            acc[k] = l.mul_add(x, x, acc[k]);
        }
    }
    // By name: an index that is only known at run time would put the accumulators into memory.
    for k in 0..ACC {
        if k < left.len() {
            let x = l.load(&left[k]);
            acc[k] = l.mul_add(x, x, acc[k]);
        }
        if k == left.len() && !rest.is_empty() {
            let x = l.load_part(rest, l.splat(0.0));
            acc[k] = l.mul_add(x, x, acc[k]);
        }
    }
    total(l, acc)
}

/// A vector's second moment and its `u`, with the sum of each block's squares of it.
pub(super) struct Units<'a> {
    pub(super) active: Active,
    pub(super) average: Average,
    /// The square of `eps1`.
    pub(super) least: f32,
    pub(super) grad: &'a [f32],
    pub(super) v: &'a mut [f32],
    pub(super) units: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
}

impl Work for Units<'_> {
    fn size(&self) -> usize {
        self.grad.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let middle = self.sums.len() / 2;
        if middle == 0 {
            return Err(self);
        }
        let at = middle * BLOCK;
        let (g0, g1) = self.grad.split_at(at);
        let (v0, v1) = self.v.split_at_mut(at);
        let (u0, u1) = self.units.split_at_mut(at);
        let (s0, s1) = self.sums.split_at_mut(middle);
        Ok((
            Units { grad: g0, v: v0, units: u0, sums: s0, ..self },
            Units { grad: g1, v: v1, units: u1, sums: s1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

/// A step's constants, in all lanes.
#[derive(Clone, Copy)]
struct Constants<L: Lanes> {
    average: Average,
    weight: L::F,
    least: L::F,
}

impl Kernel for Units<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let c = Constants {
            average: self.average,
            weight: l.splat(self.average.weight),
            least: l.splat(self.least),
        };
        for b in 0..self.sums.len() {
            let from = b * BLOCK;
            let to = self.grad.len().min(from + BLOCK);
            let units = &mut self.units[from..to];
            block(l, &c, &self.grad[from..to], &mut self.v[from..to], units);
            // A pass of its own over what is in the nearest cache: AVX2 has no registers for accumulators as well.
            self.sums[b] = squares(l, units);
        }
    }
}

#[inline(always)]
fn block<L: Lanes>(l: L, c: &Constants<L>, grad: &[f32], v: &mut [f32], units: &mut [f32]) {
    let (grad, grad_rest) = grad.as_chunks::<LANES>();
    let (v, v_rest) = v.as_chunks_mut::<LANES>();
    let (units, units_rest) = units.as_chunks_mut::<LANES>();
    let n = grad.len();
    let (v, units) = (&mut v[..n], &mut units[..n]);
    let mut i = 0;
    if L::WIDE {
        // Together, since the tier interleaves their reciprocals.
        while i + ACC <= n {
            some::<L, ACC>(l, c, grad, v, units, i);
            i += ACC;
        }
    }
    while i < n {
        some::<L, 1>(l, c, grad, v, units, i);
        i += 1;
    }
    if !grad_rest.is_empty() {
        let zero = l.splat(0.0);
        let g = l.load_part(grad_rest, zero);
        let ([v], [u]) = units_of(l, c, [g], [l.load_part(v_rest, zero)]);
        l.store_part(v_rest, v);
        l.store_part(units_rest, u);
    }
}

/// `N` vectors from `at` on.
#[inline(always)]
fn some<L: Lanes, const N: usize>(
    l: L,
    c: &Constants<L>,
    grad: &[Chunk],
    v: &mut [Chunk],
    units: &mut [Chunk],
    at: usize,
) {
    let (mut g, mut old) = ([c.least; N], [c.least; N]);
    for i in 0..N {
        g[i] = l.load(&grad[at + i]);
        old[i] = l.load(&v[at + i]);
    }
    let (new, u) = units_of(l, c, g, old);
    for i in 0..N {
        l.store(&mut v[at + i], new[i]);
        l.store(&mut units[at + i], u[i]);
    }
}

/// The new second moments and the `u` of gradients `g`.
#[inline(always)]
fn units_of<L: Lanes, const N: usize>(
    l: L,
    c: &Constants<L>,
    g: [L::F; N],
    v: [L::F; N],
) -> ([L::F; N], [L::F; N]) {
    let (mut new, mut root) = (v, v);
    for i in 0..N {
        new[i] = c.average.toward(l, c.weight, v[i], l.mul(g[i], g[i]));
        // In this order a NaN stays.
        root[i] = l.sqrt(l.max(c.least, new[i]));
    }
    // The root of `least` is `eps1`, at least 2^-63; infinite and NaN roots are the only ones to leave that range.
    let mut u = l.recip_each(root, true);
    for i in 0..N {
        u[i] = l.mul(g[i], u[i]);
    }
    (new, u)
}

/// `p = decay p + factor u`
pub(super) struct Descend<'a> {
    pub(super) active: Active,
    pub(super) param: &'a mut [f32],
    pub(super) units: &'a [f32],
    pub(super) decay: f32,
    pub(super) factor: f32,
}

impl Elementwise for Descend<'_> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.param
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (p0, p1) = self.param.split_at_mut(at);
        let (u0, u1) = self.units.split_at(at);
        (Descend { param: p0, units: u0, ..self }, Descend { param: p1, units: u1, ..self })
    }
}

impl Kernel for Descend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (decay, factor) = (l.splat(self.decay), l.splat(self.factor));
        let (param, param_rest) = self.param.as_chunks_mut::<LANES>();
        let (units, units_rest) = self.units.as_chunks::<LANES>();
        let n = param.len();
        let units = &units[..n];
        let mut i = 0;
        while i + ACC <= n {
            for k in i..i + ACC {
                let p = l.mul(decay, l.load(&param[k]));
                l.store(&mut param[k], l.mul_add(factor, l.load(&units[k]), p));
            }
            i += ACC;
        }
        while i < n {
            let p = l.mul(decay, l.load(&param[i]));
            l.store(&mut param[i], l.mul_add(factor, l.load(&units[i]), p));
            i += 1;
        }
        if !param_rest.is_empty() {
            let zero = l.splat(0.0);
            let p = l.mul(decay, l.load_part(param_rest, zero));
            let p = l.mul_add(factor, l.load_part(units_rest, zero), p);
            l.store_part(param_rest, p);
        }
    }
}
