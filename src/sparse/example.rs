//! One example: gathers.

use std::ops::Range;

use super::check_lr;
use super::csr::Csr;
use super::near::{Near, window};
use crate::error::{HyperParamError, check_len};
use crate::lanes::{
    Accumulate, GatherBlock, Index, IndexList, Kernel, LANES, Lanes, Lookup, Stack, dispatch,
};
use crate::parallel::{self, Work};
use crate::tier::{Active, active};
use crate::tuning;

impl<I: Index> Csr<I> {
    /// `y = W x` for one example: `x` is `[cols]`, `y` is `[rows]` and overwritten. Sixteen connections of a row at a
    /// time, by the CPU's gather or by single loads, whichever is faster on it ([`tuning::prefer_gather`]); the bits are
    /// the same. Parallel from [`tuning::SPARSE_PARALLEL`] connections on.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matvec(&self, x: &[f32], y: &mut [f32]) {
        check_len("sparse matvec", "x", x.len(), self.cols(), "cols");
        check_len("sparse matvec", "y", y.len(), self.rows(), "rows");
        let gather = tuning::prefer_gather();
        let work = MatVec { active: active(), csr: self, first: 0, gather, x, y };
        parallel::run(work, tuning::SPARSE_PARALLEL, tuning::SPARSE_PIECE);
    }

    /// The gradients of one example: `x` is `[cols]`, `dy` is `[rows]`; `dx` (`[cols]`) and `dvalues` (`[nnz]`) are
    /// overwritten. `dx` may be left out, as it is for the first layer of a network. Always on the calling thread: a
    /// single example's additions to `dx` go one after the other.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matvec_backward(&self, x: &[f32], dy: &[f32], dx: Option<&mut [f32]>, dvalues: &mut [f32]) {
        check_len("sparse backward", "dvalues", dvalues.len(), self.nnz(), "the matrix");
        let to = To::Gradient { values: self.values(), dvalues };
        run_backward(self.indptr(), self.index_list(), x, dy, dx, to);
    }

    /// The exact online step for one example: the gradient of its inputs, and one step of plain SGD on the values in
    /// the same sweep, `values -= lr * dvalues`, where `dx` (`[cols]`, may be left out) is that of the values before.
    ///
    /// # Errors
    /// `lr` is out of range: from 0 to 1e30.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matvec_backward_sgd(
        &mut self,
        x: &[f32],
        dy: &[f32],
        lr: f64,
        dx: Option<&mut [f32]>,
    ) -> Result<(), HyperParamError> {
        let lr = check_lr(lr)?;
        let (indptr, indices, values) = self.parts_mut();
        run_backward(indptr, indices, x, dy, dx, To::Sgd { values, lr });
        Ok(())
    }
}

/// Some rows of one example.
struct MatVec<'a, I: Index> {
    active: Active,
    csr: &'a Csr<I>,
    /// The row of `y[0]`.
    first: usize,
    gather: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<I: Index> Work for MatVec<'_, I> {
    fn size(&self) -> usize {
        self.csr.indptr()[self.first + self.y.len()] - self.csr.indptr()[self.first]
    }

    fn split(self) -> Result<(Self, Self), Self> {
        if self.y.len() < 2 {
            return Err(self);
        }
        let middle = self.y.len() / 2;
        let (y0, y1) = self.y.split_at_mut(middle);
        Ok((MatVec { y: y0, ..self }, MatVec { y: y1, first: self.first + middle, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl<I: Index> Kernel for MatVec<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let near = if L::WIDE { self.csr.near() } else { None };
        match (near, self.gather) {
            (Some(near), true) => near_rows::<L, I, true>(l, self, near),
            (Some(near), false) => near_rows::<L, I, false>(l, self, near),
            (None, true) => rows::<L, I, true, false>(l, self, None),
            (None, false) => rows::<L, I, false, false>(l, self, None),
        }
    }
}

/// Vectors of an example for which there is room: 16 KB, on the stack.
const ROOM: usize = 256;

/// Reads the example from a line's start, wherever it lies: all of a row's windows would lie across lines.
#[inline(always)]
fn near_rows<L: Lanes, I: Index, const GATHER: bool>(l: L, a: MatVec<'_, I>, near: &Near) {
    let mut room = Stack::<ROOM>::new();
    let mut x = a.x;
    if l.before_line(x) > 0 && x.len() <= ROOM * LANES {
        let (whole, rest) = x.as_chunks::<LANES>();
        for v in whole {
            room.push(v);
        }
        if !rest.is_empty() {
            let mut last = [0.0; LANES];
            l.store(&mut last, l.load_part(rest, l.splat(0.0)));
            room.push(&last);
        }
        x = &room.values()[..x.len()];
    }
    rows::<L, I, GATHER, true>(l, MatVec { x, ..a }, Some(near));
}

#[inline(always)]
fn rows<L: Lanes, I: Index, const GATHER: bool, const PICKS: bool>(
    l: L,
    a: MatVec<'_, I>,
    near: Option<&Near>,
) {
    let x = a.csr.index_list().over::<1>(a.x, 1, 0);
    let zero = l.splat(0.0);
    let (blocks, rest) = a.y.as_chunks_mut::<LANES>();
    let mut row = a.first;
    // Sixteen rows' horizontal sums are one transposition.
    for y in blocks {
        let mut sums = [zero; LANES];
        for sum in &mut sums {
            *sum = row_of::<L, I, GATHER, PICKS>(l, a.csr, x, a.x, near, row);
            row += 1;
        }
        l.store(y, l.sum16(&sums));
    }
    for y in rest {
        *y = l.sum(row_of::<L, I, GATHER, PICKS>(l, a.csr, x, a.x, near, row));
        row += 1;
    }
}

/// A row's sum in sixteen lanes: connection `k` of the row goes to lane `k % 16`.
#[inline(always)]
fn row_of<L: Lanes, I: Index, const GATHER: bool, const PICKS: bool>(
    l: L,
    csr: &Csr<I>,
    x: Lookup<'_, I, 1>,
    all: &[f32],
    near: Option<&Near>,
    row: usize,
) -> L::F {
    let at = csr.row(row);
    let x = x.range(at.clone());
    let (whole, rest) = csr.values()[at].as_chunks::<LANES>();
    let (bases, places) = match near {
        Some(near) if PICKS => near.row(row),
        _ => (&[][..], &[][..]),
    };
    let count = if PICKS { whole.len() + usize::from(!rest.is_empty()) } else { 0 };
    let (bases, places) = (&bases[..count], &places[..count]);
    let zero = l.splat(0.0);
    let mut acc = zero;
    for q in 0..whole.len() {
        if PICKS {
            l.prefetch(whole, q + 16);
        }
        let x = match if PICKS { window(all, bases[q]) } else { None } {
            Some(near) => l.pick(near, &places[q]),
            None => gather::<L, I, GATHER>(l, x.block(LANES * q, LANES)),
        };
        acc = l.mul_add(l.load(&whole[q]), x, acc);
    }
    if !rest.is_empty() {
        // Lanes without a connection are zero on both sides.
        let q = whole.len();
        let x = match if PICKS { window(all, bases[q]) } else { None } {
            Some(near) => l.select(l.mask_of((1 << rest.len()) - 1), l.pick(near, &places[q]), zero),
            None => gather::<L, I, GATHER>(l, x.block(LANES * q, rest.len())),
        };
        acc = l.mul_add(l.load_part(rest, zero), x, acc);
    }
    acc
}

#[inline(always)]
pub(super) fn gather<L: Lanes, I: Index, const GATHER: bool>(l: L, block: GatherBlock<'_, I>) -> L::F {
    if GATHER { l.gather(block) } else { l.gather_loads(block) }
}

/// The backward by destination: values and their gradients are contiguous, only `x` is gathered and `dx` added to.
struct Backward<'a, I: Index> {
    gather: bool,
    indptr: &'a [usize],
    x: Lookup<'a, I, 1>,
    dy: &'a [f32],
    dx: Option<Accumulate<'a, I>>,
    to: To<'a>,
}

/// The values, and what becomes of their gradient.
enum To<'a> {
    /// It is written.
    Gradient { values: &'a [f32], dvalues: &'a mut [f32] },
    /// The values step against it.
    Sgd { values: &'a mut [f32], lr: f32 },
}

/// Checks the lengths and runs the kernel.
#[track_caller]
fn run_backward<I: Index>(
    indptr: &[usize],
    indices: &IndexList<I>,
    x: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    to: To<'_>,
) {
    check_len("sparse backward", "x", x.len(), indices.bound(), "cols");
    check_len("sparse backward", "dy", dy.len(), indptr.len() - 1, "rows");
    let dx = match dx {
        None => None,
        Some(dx) => {
            check_len("sparse backward", "dx", dx.len(), indices.bound(), "cols");
            dx.fill(0.0);
            Some(indices.accumulate(dx))
        }
    };
    let kernel = Backward { gather: tuning::prefer_gather(), indptr, x: indices.over(x, 1, 0), dy, dx, to };
    dispatch(active(), kernel);
}

impl<I: Index> Kernel for Backward<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if self.gather { backward::<L, I, true>(l, self) } else { backward::<L, I, false>(l, self) }
    }
}

#[inline(always)]
fn backward<L: Lanes, I: Index, const GATHER: bool>(l: L, mut a: Backward<'_, I>) {
    let zero = l.splat(0.0);
    for (row, &d) in a.dy.iter().enumerate() {
        let (mut k, end) = (a.indptr[row], a.indptr[row + 1]);
        let d = l.splat(d);
        while k + LANES <= end {
            let at = k..k + LANES;
            connections::<L, I, GATHER>(l, &mut a, at, d, zero);
            k += LANES;
        }
        if k < end {
            connections::<L, I, GATHER>(l, &mut a, k..end, d, zero);
        }
    }
}

/// Up to sixteen connections of one destination, whose gradient is `d`.
#[inline(always)]
fn connections<L: Lanes, I: Index, const GATHER: bool>(
    l: L,
    a: &mut Backward<'_, I>,
    at: Range<usize>,
    d: L::F,
    zero: L::F,
) {
    let n = at.len();
    let x = gather::<L, I, GATHER>(l, a.x.block(at.start, n));
    let w = match &mut a.to {
        To::Gradient { values, dvalues } => {
            // From zero, as a batch's sum starts: so the sign of a zero is the same.
            l.store_part(&mut dvalues[at.clone()], l.add(zero, l.mul(x, d)));
            l.load_part(&values[at.clone()], zero)
        }
        To::Sgd { values, lr } => {
            let w = l.load_part(&values[at.clone()], zero);
            let gradient = l.add(zero, l.mul(x, d));
            l.store_part(&mut values[at.clone()], l.neg_mul_add(l.splat(*lr), gradient, w));
            w
        }
    };
    if let Some(dx) = &mut a.dx {
        let mut products = [0.0; LANES];
        l.store(&mut products, l.mul(w, d));
        dx.add(at.start, &products[..n]);
    }
}
