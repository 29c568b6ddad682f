//! Two slices, element by element: gradients that accumulate, moving averages of weights, products.
//!
//! ```text
//! add_scaled: y[i] = fma(a, x[i], y[i])             (y += a x, BLAS's axpy)
//! lerp:       y[i] = fma(w, x[i] - y[i], y[i])      (y += w (x - y), PyTorch's lerp for w below 1/2)
//! multiply:   y[i] = x[i] y[i]
//! ```
//!
//! An element's bits depend on its two values and the weight alone. `x` and `y` are as long; they cannot overlap.
//!
//! # Accuracy
//! [`add_scaled`] and [`multiply`] are the exact result rounded once: 0.5 ULP. [`lerp`] rounds the difference too:
//! with u = 2^-24 the error is at most `u (|y'| + |w (x - y)|)`, with y' the result, and 2^-150 where that
//! underflows. With `w` of 1 it gives `x` only where the difference is exact.
//!
//! # NaN and infinity
//! A NaN in `x`, `y` or the weight makes the result NaN, as 0 times infinity and infinity less infinity do. A difference beyond
//! f32's range makes it infinite.

use crate::elementwise::Elementwise;
use crate::error::check_len;
use crate::lanes::{Chunk, Kernel, LANES, Lanes};
use crate::tier::{Active, active};
use crate::{parallel, tuning};

/// `y += a x`. Parallel from [`tuning::AXPY_PARALLEL`] elements on.
///
/// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formula, error and NaN
/// behaviour.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn add_scaled(a: f32, x: &[f32], y: &mut [f32]) {
    check_len("add_scaled", "x", x.len(), y.len(), "y");
    run(AddScaled(a), x, y);
}

/// `y += w (x - y)`: towards `x` by the share `w`, an exponential moving average. Parallel from [`tuning::AXPY_PARALLEL`]
/// elements on.
///
/// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formula, error and NaN
/// behaviour.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn lerp(w: f32, x: &[f32], y: &mut [f32]) {
    check_len("lerp", "x", x.len(), y.len(), "y");
    run(Lerp(w), x, y);
}

/// `y *= x`. Parallel from [`tuning::AXPY_PARALLEL`] elements on.
///
/// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formula, error and
/// NaN behaviour.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn multiply(x: &[f32], y: &mut [f32]) {
    check_len("multiply", "x", x.len(), y.len(), "y");
    run(Multiply, x, y);
}

/// What becomes of `y`.
trait Operation: Copy + Send {
    fn apply<L: Lanes>(self, l: L, x: L::F, y: L::F) -> L::F;
}

#[derive(Clone, Copy)]
struct AddScaled(f32);
#[derive(Clone, Copy)]
struct Lerp(f32);
#[derive(Clone, Copy)]
struct Multiply;

impl Operation for AddScaled {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, x: L::F, y: L::F) -> L::F {
        l.mul_add(l.splat(self.0), x, y)
    }
}

impl Operation for Lerp {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, x: L::F, y: L::F) -> L::F {
        l.mul_add(l.splat(self.0), l.sub(x, y), y)
    }
}

impl Operation for Multiply {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, x: L::F, y: L::F) -> L::F {
        l.mul(x, y)
    }
}

fn run<O: Operation>(operation: O, x: &[f32], y: &mut [f32]) {
    let work = Axpy { active: active(), operation, x, y };
    parallel::run(work, tuning::AXPY_PARALLEL, tuning::AXPY_PIECE);
}

struct Axpy<'a, O> {
    active: Active,
    operation: O,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<O: Operation> Elementwise for Axpy<'_, O> {
    fn active(&self) -> Active {
        self.active
    }

    fn written(&self) -> &[f32] {
        self.y
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let ((x0, x1), (y0, y1)) = (self.x.split_at(at), self.y.split_at_mut(at));
        (Axpy { x: x0, y: y0, ..self }, Axpy { x: x1, y: y1, ..self })
    }
}

/// How many vectors one turn of the loop takes.
const GROUP: usize = 4;

impl<O: Operation> Kernel for Axpy<'_, O> {
    type Output = ();

    /// Whole vectors, then the rest as one vector, its unused lanes zero.
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let operation = self.operation;
        let (y, y_rest) = self.y.as_chunks_mut::<LANES>();
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let n = y.len();
        // Re-sliced to one length, so that LLVM drops the bounds checks.
        let x = &x[..n];
        let mut i = 0;
        while i + GROUP <= n {
            group::<L, O, GROUP>(l, operation, x, y, i);
            i += GROUP;
        }
        while i < n {
            group::<L, O, 1>(l, operation, x, y, i);
            i += 1;
        }
        if !y_rest.is_empty() {
            let zero = l.splat(0.0);
            let v = operation.apply(l, l.load_part(x_rest, zero), l.load_part(y_rest, zero));
            l.store_part(y_rest, v);
        }
    }
}

/// `N` vectors from `i` on, which are loaded before any is stored: a store holds up a load at the same place of another page, up
/// to 1.5 times as long on Zen 4.
#[inline(always)]
fn group<L: Lanes, O: Operation, const N: usize>(l: L, operation: O, x: &[Chunk], y: &mut [Chunk], i: usize) {
    let (x, y) = (&x[i..i + N], &mut y[i..i + N]);
    let mut v = [l.splat(0.0); N];
    for k in 0..N {
        v[k] = operation.apply(l, l.load(&x[k]), l.load(&y[k]));
    }
    for k in 0..N {
        l.store(&mut y[k], v[k]);
    }
}
