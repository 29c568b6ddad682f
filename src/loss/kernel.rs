//! The loop: one for all losses.

use super::PIECE;
use super::functions::Function;
use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::Halve;
use crate::reduce::BLOCK;
use crate::softmax::rows::{IN_PLACE, SUM};
use crate::tier::Active;

/// Vectors whose losses are added before they go to the accumulator: its chain of additions is then a quarter as long,
/// and four vectors take each operation together where the registers allow it.
const GROUP: usize = 4;
/// Groups in a block.
const GROUPS: usize = BLOCK / (GROUP * LANES);
/// Vectors ahead for which the loop prefetches: the CPU's own prefetch stops at a page's end.
const AHEAD: usize = 16;

type Group = [Chunk; GROUP];

/// Some elements. `MODE` says whether their gradient is written: not at all (`SUM`), to `dx` (`WRITE`), or over the
/// predictions, which then are in `dx` (`IN_PLACE`).
pub(super) struct Sweep<'a, F, const MODE: u8> {
    pub(super) active: Active,
    pub(super) function: F,
    pub(super) factor: f32,
    pub(super) x: &'a [f32],
    pub(super) target: &'a [f32],
    pub(super) dx: &'a mut [f32],
}

impl<F: Function, const MODE: u8> Halve for Sweep<'_, F, MODE> {
    fn halve(self) -> Result<(Self, Self), Self> {
        let pieces = self.target.len().div_ceil(PIECE);
        if pieces <= 1 {
            return Err(self);
        }
        let at = pieces / 2 * PIECE;
        let (x0, x1) = self.x.split_at(if MODE == IN_PLACE { 0 } else { at });
        let (t0, t1) = self.target.split_at(at);
        let (d0, d1) = self.dx.split_at_mut(if MODE == SUM { 0 } else { at });
        Ok((Sweep { x: x0, target: t0, dx: d0, ..self }, Sweep { x: x1, target: t1, dx: d1, ..self }))
    }
}

impl<F: Function, const MODE: u8> Sweep<'_, F, MODE> {
    /// The sum of a piece's losses. Not inlined: the gate wants one copy of the loop.
    #[inline(never)]
    pub(super) fn piece(self) -> f64 {
        dispatch(self.active, self)
    }
}

/// Groups, single vectors and a rest.
#[inline(always)]
fn cut(x: &[f32]) -> (&[Group], &[Chunk], &[f32]) {
    let (vectors, rest) = x.as_chunks();
    let (groups, single) = vectors.as_chunks();
    (groups, single, rest)
}

impl<F: Function, const MODE: u8> Kernel for Sweep<'_, F, MODE> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        let Sweep { function, x, target, dx, .. } = self;
        let (factor, zero, free) = (l.splat(self.factor), l.splat(0.0), l.splat(F::FREE));
        let (t, t_single, t_rest) = cut(target);
        let (x, x_single, x_rest) = cut(x);
        let (vectors, d_rest) = dx.as_chunks_mut();
        let (d, d_single) = vectors.as_chunks_mut::<GROUP>();

        // Re-sliced to one length, so that LLVM drops the bounds checks.
        let n = t.len();
        let x = if MODE == IN_PLACE { x } else { &x[..n] };
        let d = if MODE == SUM { d } else { &mut d[..n] };
        let (mut total, mut first) = (0.0, 0);
        while first < n {
            let end = n.min(first + GROUPS);
            let mut sum = zero;
            for g in first..end {
                for k in 0..GROUP {
                    let ahead = g * GROUP + k + AHEAD;
                    l.prefetch(t.as_flattened(), ahead);
                    if MODE != IN_PLACE {
                        l.prefetch(x.as_flattened(), ahead);
                    }
                    if MODE != SUM {
                        l.prefetch(d.as_flattened(), ahead);
                    }
                }
                sum = l.add(sum, group::<L, F, MODE>(l, function, factor, x, t, d, g));
            }
            total += l.sum(sum) as f64;
            first = end;
        }

        let mut sum = zero;
        for k in 0..t_single.len() {
            let p = l.load(if MODE == IN_PLACE { &d_single[k] } else { &x_single[k] });
            let [[loss], [gradient]] = function.terms::<L, 1, MODE>(l, [p], [l.load(&t_single[k])], factor);
            if MODE != SUM {
                l.store(&mut d_single[k], gradient);
            }
            sum = l.add(sum, loss);
        }
        if !t_rest.is_empty() {
            let p = l.load_part(if MODE == IN_PLACE { d_rest } else { x_rest }, free);
            let [[loss], [gradient]] =
                function.terms::<L, 1, MODE>(l, [p], [l.load_part(t_rest, zero)], factor);
            if MODE != SUM {
                l.store_part(d_rest, gradient);
            }
            sum = l.add(sum, loss);
        }
        total + l.sum(sum) as f64
    }
}

/// Group `g`: the sum of its vectors' losses, pairs first.
#[inline(always)]
fn group<L: Lanes, F: Function, const MODE: u8>(
    l: L,
    function: F,
    factor: L::F,
    x: &[Group],
    t: &[Group],
    d: &mut [Group],
    g: usize,
) -> L::F {
    if L::WIDE {
        let [a, b, c, d] = vectors::<L, F, GROUP, MODE>(l, function, factor, x, t, d, g, 0);
        return l.add(l.add(a, b), l.add(c, d));
    }
    let [a] = vectors::<L, F, 1, MODE>(l, function, factor, x, t, d, g, 0);
    let [b] = vectors::<L, F, 1, MODE>(l, function, factor, x, t, d, g, 1);
    let first = l.add(a, b);
    let [a] = vectors::<L, F, 1, MODE>(l, function, factor, x, t, d, g, 2);
    let [b] = vectors::<L, F, 1, MODE>(l, function, factor, x, t, d, g, 3);
    l.add(first, l.add(a, b))
}

/// The losses of `N` vectors of group `g`, from vector `k` on.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn vectors<L: Lanes, F: Function, const N: usize, const MODE: u8>(
    l: L,
    function: F,
    factor: L::F,
    x: &[Group],
    t: &[Group],
    d: &mut [Group],
    g: usize,
    k: usize,
) -> [L::F; N] {
    let (mut p, mut to) = ([factor; N], [factor; N]);
    for i in 0..N {
        p[i] = l.load(if MODE == IN_PLACE { &d[g][k + i] } else { &x[g][k + i] });
        to[i] = l.load(&t[g][k + i]);
    }
    let [losses, gradients] = function.terms::<L, N, MODE>(l, p, to, factor);
    if MODE != SUM {
        for i in 0..N {
            l.store(&mut d[g][k + i], gradients[i]);
        }
    }
    losses
}
