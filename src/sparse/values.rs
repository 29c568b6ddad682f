//! The gradient of a batch's values by destination: its gradient stays in registers, the values are contiguous, and
//! horizontal sums are taken sixteen at a time.

use crate::lanes::{Index, IndexList, Kernel, LANES, Lanes, Lookup, Rows, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// What becomes of the gradient of the values.
pub(super) enum To<'a> {
    /// It is written.
    Gradient(&'a mut [f32]),
    /// The values step against it by this learning rate.
    Sgd(&'a mut [f32], f32),
}

impl To<'_> {
    /// Takes the gradients of the connections from `k` on, at most sixteen.
    #[inline(always)]
    fn take<L: Lanes>(&mut self, l: L, k: usize, n: usize, dv: L::F) {
        match self {
            To::Gradient(to) => l.store_part(&mut to[k..k + n], dv),
            To::Sgd(w, lr) => {
                let w = &mut w[k..k + n];
                let stepped = l.neg_mul_add(l.splat(*lr), dv, l.load_part(w, l.splat(0.0)));
                l.store_part(w, stepped);
            }
        }
    }

    fn split_at(self, k: usize) -> (Self, Self) {
        match self {
            To::Gradient(to) => {
                let (a, b) = to.split_at_mut(k);
                (To::Gradient(a), To::Gradient(b))
            }
            To::Sgd(w, lr) => {
                let (a, b) = w.split_at_mut(k);
                (To::Sgd(a, lr), To::Sgd(b, lr))
            }
        }
    }
}

/// Some destinations.
pub(super) struct Values<'a, I: Index> {
    pub(super) active: Active,
    /// The starts of their connections, and the end.
    pub(super) indptr: &'a [usize],
    pub(super) indices: &'a IndexList<I>,
    /// The first one, which the values start with.
    pub(super) first: usize,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) batch: usize,
    pub(super) to: To<'a>,
}

impl<I: Index> Values<'_, I> {
    fn rows(&self) -> usize {
        self.indptr.len() - 1
    }
}

impl<I: Index> Work for Values<'_, I> {
    fn size(&self) -> usize {
        (self.indptr[self.rows()] - self.indptr[0]).saturating_mul(self.batch)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.rows() < 2 {
            return Err(self);
        }
        let middle = self.rows() / 2;
        let (to0, to1) = self.to.split_at(self.indptr[middle] - self.indptr[0]);
        Ok((
            Values { indptr: &self.indptr[..=middle], to: to0, ..self },
            Values { indptr: &self.indptr[middle..], first: self.first + middle, to: to1, ..self },
        ))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

/// Connections whose gradients are made together: they are whole when they are taken.
const RUN: usize = LANES;

impl<I: Index> Kernel for Values<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let base = self.indptr[0];
        let x = self.indices.rows(self.x, self.batch);
        for r in 0..self.indptr.len() - 1 {
            let (mut k, end) = (self.indptr[r], self.indptr[r + 1]);
            let dy = &self.dy[(self.first + r) * self.batch..][..self.batch];
            while k + RUN <= end {
                let dv = examples(l, x.range(k..k + RUN), RUN, dy);
                self.to.take(l, k - base, RUN, dv);
                k += RUN;
            }
            if k < end {
                let dv = examples(l, x.range(k..end), end - k, dy);
                self.to.take(l, k - base, end - k, dv);
            }
        }
    }
}

/// The gradients of `n` connections of one destination: sums over tiles of examples, one after the other.
#[inline(always)]
fn examples<L: Lanes, I: Index>(l: L, x: Rows<'_, I>, n: usize, dy: &[f32]) -> L::F {
    let mut dv = l.splat(0.0);
    let mut e = 0;
    while e + 2 * LANES <= dy.len() {
        dv = l.add(dv, tile::<L, I, 2, 32>(l, x.part(e), n, &dy[e..]));
        e += 2 * LANES;
    }
    if e + LANES <= dy.len() {
        dv = l.add(dv, tile::<L, I, 1, 16>(l, x.part(e), n, &dy[e..]));
        e += LANES;
    }
    if e < dy.len() {
        dv = l.add(dv, last_tile(l, x, n, &dy[e..], e));
    }
    dv
}

/// `T` vectors of examples, `W = 16 T`.
#[inline(always)]
fn tile<L: Lanes, I: Index, const T: usize, const W: usize>(
    l: L,
    x: Lookup<'_, I, W>,
    n: usize,
    dy: &[f32],
) -> L::F {
    let zero = l.splat(0.0);
    let (from, _) = dy[..W].as_chunks::<LANES>();
    let mut dy = [zero; T];
    for t in 0..T {
        dy[t] = l.load(&from[t]);
    }
    if n == RUN {
        let s0 = quad::<L, I, T, W>(l, x.quad(0), &dy);
        let s1 = quad::<L, I, T, W>(l, x.quad(1), &dy);
        let s2 = quad::<L, I, T, W>(l, x.quad(2), &dy);
        let s3 = quad::<L, I, T, W>(l, x.quad(3), &dy);
        return l.sum_quads(&[s0, s1, s2, s3]);
    }
    let mut sums = [zero; 4];
    for q in 0..n / 4 {
        sums[q % 4] = quad::<L, I, T, W>(l, x.quad(q), &dy);
    }
    // By name, so that the products stay in registers.
    let rest = n % 4;
    if rest > 0 {
        let x = x.after_quads();
        let p0 = product::<L, T, W>(l, x.row(0), &dy);
        let p1 = if rest > 1 { product::<L, T, W>(l, x.row(1), &dy) } else { zero };
        let p2 = if rest > 2 { product::<L, T, W>(l, x.row(2), &dy) } else { zero };
        sums[n / 4 % 4] = l.sum_quad([p0, p1, p2, zero]);
    }
    l.sum_quads(&sums)
}

/// What is left of the products of four connections.
#[inline(always)]
fn quad<L: Lanes, I: Index, const T: usize, const W: usize>(
    l: L,
    x: Lookup<'_, I, W>,
    dy: &[L::F; T],
) -> L::F {
    let p0 = product::<L, T, W>(l, x.row(0), dy);
    let p1 = product::<L, T, W>(l, x.row(1), dy);
    let p2 = product::<L, T, W>(l, x.row(2), dy);
    let p3 = product::<L, T, W>(l, x.row(3), dy);
    l.sum_quad([p0, p1, p2, p3])
}

/// A connection's product over a tile, in which all the tile's vectors are one.
#[inline(always)]
fn product<L: Lanes, const T: usize, const W: usize>(l: L, x: &[f32; W], dy: &[L::F; T]) -> L::F {
    let (x, _) = x.as_chunks::<LANES>();
    let mut product = l.mul(l.load(&x[0]), dy[0]);
    for t in 1..T {
        product = l.mul_add(l.load(&x[t]), dy[t], product);
    }
    product
}

/// The last examples from `e` on, fewer than sixteen: partial loads.
#[inline(always)]
fn last_tile<L: Lanes, I: Index>(l: L, x: Rows<'_, I>, n: usize, dy: &[f32], e: usize) -> L::F {
    let zero = l.splat(0.0);
    let dy = l.load_part(dy, zero);
    let mut products = [zero; LANES];
    for i in 0..n {
        products[i] = l.mul(l.load_part(&x.row(i)[e..], zero), dy);
    }
    l.sum16(&products)
}
