//! The loops: one forward, one with the slope and one backward for all functions.

use std::marker::PhantomData;

use super::functions::{Function, Slope, product};
use crate::elementwise::Elementwise;
use crate::lanes::{Chunk, Kernel, Lanes};
use crate::tier::Active;

/// `y = f(x)`
pub(super) struct Forward<'a, F> {
    pub(super) active: Active,
    /// None: `y` holds it.
    pub(super) x: Option<&'a [f32]>,
    pub(super) y: &'a mut [f32],
    pub(super) function: PhantomData<F>,
}

/// `dx = dy f'(x)`
pub(super) struct Backward<'a, F> {
    pub(super) active: Active,
    /// None: `dx` holds it.
    pub(super) dy: Option<&'a [f32]>,
    pub(super) x: &'a [f32],
    pub(super) dx: &'a mut [f32],
    pub(super) function: PhantomData<F>,
}

/// `y = f(x)` and `x = f'(x)`
pub(super) struct ForwardSlope<'a, F> {
    pub(super) active: Active,
    pub(super) x: &'a mut [f32],
    pub(super) y: &'a mut [f32],
    pub(super) function: PhantomData<F>,
}

impl<F: Function> Elementwise for Forward<'_, F> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.y
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (x0, x1) = self.x.map(|x| x.split_at(at)).unzip();
        let (y0, y1) = self.y.split_at_mut(at);
        (Forward { x: x0, y: y0, ..self }, Forward { x: x1, y: y1, ..self })
    }
}

impl<F: Slope> Elementwise for Backward<'_, F> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.dx
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (dy0, dy1) = self.dy.map(|dy| dy.split_at(at)).unzip();
        let (x0, x1) = self.x.split_at(at);
        let (dx0, dx1) = self.dx.split_at_mut(at);
        (Backward { dy: dy0, x: x0, dx: dx0, ..self }, Backward { dy: dy1, x: x1, dx: dx1, ..self })
    }
}

impl<F: Slope> Elementwise for ForwardSlope<'_, F> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.y
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let ((x0, x1), (y0, y1)) = (self.x.split_at_mut(at), self.y.split_at_mut(at));
        (ForwardSlope { x: x0, y: y0, ..self }, ForwardSlope { x: x1, y: y1, ..self })
    }
}

/// How many vectors take each operation together where the registers allow it: a chain of thirty operations does not
/// overlap with the next by itself.
const GROUP: usize = 4;

/// How many vectors ahead the loops ask for their data: the CPU's own prefetch stops at a page's end.
const AHEAD: usize = 16;

/// `N` vectors from `at` on.
#[inline(always)]
fn load<L: Lanes, const N: usize>(l: L, from: &[Chunk], at: usize) -> [L::F; N] {
    let from = &from[at..at + N];
    let mut v = [l.splat(0.0); N];
    for i in 0..N {
        v[i] = l.load(&from[i]);
    }
    v
}

/// Whole vectors and the rest.
#[inline(always)]
fn cut(x: Option<&[f32]>) -> (Option<&[Chunk]>, Option<&[f32]>) {
    match x {
        Some(x) => {
            let (whole, rest) = x.as_chunks();
            (Some(whole), Some(rest))
        }
        None => (None, None),
    }
}

impl<F: Function> Kernel for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (x, x_rest) = cut(self.x);
        let (y, y_rest) = self.y.as_chunks_mut();
        // Asked once, not for each vector.
        match x {
            Some(x) => forward_all::<L, F, false>(l, x, y),
            None => forward_all::<L, F, true>(l, &[], y),
        }
        if !y_rest.is_empty() {
            let [v] = F::value(l, [l.load_part(x_rest.unwrap_or(y_rest), l.splat(0.0))]);
            l.store_part(y_rest, v);
        }
    }
}

#[inline(always)]
fn forward_all<L: Lanes, F: Function, const IN_PLACE: bool>(l: L, x: &[Chunk], y: &mut [Chunk]) {
    let n = y.len();
    let x = if IN_PLACE { x } else { &x[..n] };
    let mut at = 0;
    if L::WIDE {
        while at + GROUP <= n {
            forward::<L, F, GROUP, IN_PLACE>(l, x, y, at, None);
            at += GROUP;
        }
    } else if F::IN_TWO && n > 0 {
        let mut begun = F::begin(l, load(l, if IN_PLACE { y } else { x }, 0));
        while at + 1 < n {
            let next = F::begin(l, load(l, if IN_PLACE { y } else { x }, at + 1));
            forward::<L, F, 1, IN_PLACE>(l, x, y, at, Some(begun));
            begun = next;
            at += 1;
        }
        forward::<L, F, 1, IN_PLACE>(l, x, y, at, Some(begun));
        return;
    }
    while at < n {
        forward::<L, F, 1, IN_PLACE>(l, x, y, at, None);
        at += 1;
    }
}

#[inline(always)]
fn forward<L: Lanes, F: Function, const N: usize, const IN_PLACE: bool>(
    l: L,
    x: &[Chunk],
    y: &mut [Chunk],
    at: usize,
    begun: Option<[[L::F; N]; 2]>,
) {
    for i in 0..N {
        if !IN_PLACE {
            l.prefetch(x, at + i + AHEAD);
        }
        l.prefetch(y, at + i + AHEAD);
    }
    let x = load(l, if IN_PLACE { y } else { x }, at);
    let v = match begun {
        Some(begun) => F::end(l, x, begun),
        None => F::value(l, x),
    };
    let y = &mut y[at..at + N];
    for i in 0..N {
        l.store(&mut y[i], v[i]);
    }
}

impl<F: Slope> Kernel for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (dy, dy_rest) = cut(self.dy);
        let (x, x_rest) = self.x.as_chunks();
        let (dx, dx_rest) = self.dx.as_chunks_mut();
        match dy {
            Some(dy) => backward_all::<L, F, false>(l, dy, x, dx),
            None => backward_all::<L, F, true>(l, &[], x, dx),
        }
        if !dx_rest.is_empty() {
            let zero = l.splat(0.0);
            let dy = l.load_part(dy_rest.unwrap_or(dx_rest), zero);
            let [v] = F::gradient(l, [dy], [l.load_part(x_rest, zero)]);
            l.store_part(dx_rest, v);
        }
    }
}

#[inline(always)]
fn backward_all<L: Lanes, F: Slope, const IN_PLACE: bool>(l: L, dy: &[Chunk], x: &[Chunk], dx: &mut [Chunk]) {
    let n = dx.len();
    let (dy, x) = (if IN_PLACE { dy } else { &dy[..n] }, &x[..n]);
    let mut at = 0;
    if L::WIDE {
        while at + GROUP <= n {
            backward::<L, F, GROUP, IN_PLACE>(l, dy, x, dx, at, None);
            at += GROUP;
        }
    } else if F::IN_TWO && n > 0 {
        let mut begun = F::begin(l, load(l, x, 0));
        while at + 1 < n {
            let next = F::begin(l, load(l, x, at + 1));
            backward::<L, F, 1, IN_PLACE>(l, dy, x, dx, at, Some(begun));
            begun = next;
            at += 1;
        }
        backward::<L, F, 1, IN_PLACE>(l, dy, x, dx, at, Some(begun));
        return;
    }
    while at < n {
        backward::<L, F, 1, IN_PLACE>(l, dy, x, dx, at, None);
        at += 1;
    }
}

#[inline(always)]
fn backward<L: Lanes, F: Slope, const N: usize, const IN_PLACE: bool>(
    l: L,
    dy: &[Chunk],
    x: &[Chunk],
    dx: &mut [Chunk],
    at: usize,
    begun: Option<[[L::F; N]; 2]>,
) {
    for i in 0..N {
        if !IN_PLACE {
            l.prefetch(dy, at + i + AHEAD);
        }
        l.prefetch(x, at + i + AHEAD);
        l.prefetch(dx, at + i + AHEAD);
    }
    let dy = load::<L, N>(l, if IN_PLACE { dx } else { dy }, at);
    let x = load(l, x, at);
    let v = match begun {
        Some(begun) => product(l, dy, F::slope_end(l, x, begun)),
        None => F::gradient(l, dy, x),
    };
    let dx = &mut dx[at..at + N];
    for i in 0..N {
        l.store(&mut dx[i], v[i]);
    }
}

impl<F: Slope> Kernel for ForwardSlope<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (x, x_rest) = self.x.as_chunks_mut();
        let (y, y_rest) = self.y.as_chunks_mut();
        let n = y.len();
        // Re-sliced to one length, so that LLVM drops the bounds checks.
        let x = &mut x[..n];
        let mut at = 0;
        if L::WIDE {
            while at + GROUP <= n {
                forward_slope::<L, F, GROUP>(l, x, y, at);
                at += GROUP;
            }
        }
        while at < n {
            forward_slope::<L, F, 1>(l, x, y, at);
            at += 1;
        }
        if !y_rest.is_empty() {
            let ([value], [slope]) = F::value_and_slope(l, [l.load_part(x_rest, l.splat(0.0))]);
            l.store_part(y_rest, value);
            l.store_part(x_rest, slope);
        }
    }
}

#[inline(always)]
fn forward_slope<L: Lanes, F: Slope, const N: usize>(l: L, x: &mut [Chunk], y: &mut [Chunk], at: usize) {
    for i in 0..N {
        l.prefetch(x, at + i + AHEAD);
        l.prefetch(y, at + i + AHEAD);
    }
    let (value, slope) = F::value_and_slope(l, load::<L, N>(l, x, at));
    let (x, y) = (&mut x[at..at + N], &mut y[at..at + N]);
    for i in 0..N {
        l.store(&mut y[i], value[i]);
        l.store(&mut x[i], slope[i]);
    }
}
