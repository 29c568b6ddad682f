//! One example at a time, by source: the matrix with its gaps filled by zeros, and a bit for each place.

use super::check_lr;
use super::csr::Csr;
use crate::error::{HyperParamError, check_len};
use crate::lanes::{Chunk, Index, Kernel, LANES, Lanes, dispatch};
use crate::tier::active;

/// A sparse layer for exact online SGD: one example at a time, sources that are zero passed over.
///
/// It holds the matrix by source, each source's weights to all destinations side by side with zeros where there is no
/// connection, and a bitmap of the connections. So it takes `4 * cols * rows` bytes whatever the density (rows rounded
/// up to sixteen), and pays from some 5% on while that fits the L2 cache: no index is read, nothing is gathered or
/// scattered, and no loop has a length that the CPU cannot foresee. The pixels of MNIST are to 81% zero, and so is about half of what
/// a ReLU gives: these sources are not visited at all.
///
/// # Bits
/// `y[r]` is summed over the sources in ascending order by fused multiply-adds, from zero; to pass over a source that
/// is zero gives the bits that a visit would, whatever the sign of the zero, as long as its weights and `dy` are finite. `dx[c]` is
/// summed over sixteen lanes, destination `r` in lane `r % 16`; a value's step is that of
/// [`Csr::matvec_backward_sgd`], bit for bit, where a source is not zero. Always on the calling thread.
///
/// # Accuracy
/// With u = 2^-24, `y` errs by at most `n u` times the sum of its `n` products' moduli, `dx` by `(rows / 16 + 5) u` times
/// that of its products. A step's gradient has one rounding; the step adds that of `lr` to f32 and one of its own.
///
/// # NaN and infinity
/// A source of zero passes on nothing, also where a weight is infinite or NaN, and nothing is learned from it. An
/// infinity or NaN in `x` or `dy` may reach destinations and sources without a connection, as NaN: gaps multiply as
/// zeros. Their weights stay zero.
#[derive(Clone, Debug)]
pub struct Masked {
    rows: usize,
    cols: usize,
    /// Vectors to a source.
    width: usize,
    /// By source; zero where there is no connection.
    values: Box<[Line]>,
    /// Which of each vector's places are connections.
    masks: Box<[u16]>,
    /// The structure's fingerprint.
    fingerprint: u64,
}

/// A vector in a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line(Chunk);

impl Masked {
    /// The matrix in this form, with its values.
    pub fn new<I: Index>(csr: &Csr<I>) -> Self {
        let (rows, cols) = (csr.rows(), csr.cols());
        let width = rows.div_ceil(LANES);
        let len = width.checked_mul(cols).expect("rows x cols can be counted");
        let mut masks = vec![0u16; len];
        for r in 0..rows {
            for c in &csr.indices()[csr.row(r)] {
                masks[c.to_usize() * width + r / LANES] |= 1 << (r % LANES);
            }
        }
        let values = vec![Line([0.0; LANES]); len].into();
        let mut masked =
            Masked { rows, cols, width, values, masks: masks.into(), fingerprint: csr.fingerprint() };
        masked.read_values(csr);
        masked
    }

    /// Destinations.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sources.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Takes the values of a matrix of the same structure.
    ///
    /// # Panics
    /// If its structure is another.
    #[track_caller]
    pub fn read_values<I: Index>(&mut self, csr: &Csr<I>) {
        self.check(csr);
        for r in 0..self.rows {
            let at = csr.row(r);
            for (c, v) in csr.indices()[at.clone()].iter().zip(&csr.values()[at]) {
                self.values[c.to_usize() * self.width + r / LANES].0[r % LANES] = *v;
            }
        }
    }

    /// Gives the values to a matrix of the same structure.
    ///
    /// # Panics
    /// If its structure is another.
    #[track_caller]
    pub fn write_values<I: Index>(&self, csr: &mut Csr<I>) {
        self.check(csr);
        for r in 0..self.rows {
            let at = csr.row(r);
            let (_, indices, values) = csr.parts_mut();
            for (c, v) in indices.as_slice()[at.clone()].iter().zip(&mut values[at]) {
                *v = self.values[c.to_usize() * self.width + r / LANES].0[r % LANES];
            }
        }
    }

    #[track_caller]
    fn check<I: Index>(&self, csr: &Csr<I>) {
        assert!(self.fingerprint == csr.fingerprint(), "sparse masked: the matrix has another structure");
    }

    /// `y = W x`: `x` is `[cols]`, `y` is `[rows]` and overwritten.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matvec(&self, x: &[f32], y: &mut [f32]) {
        check_len("sparse matvec", "x", x.len(), self.cols, "cols");
        check_len("sparse matvec", "y", y.len(), self.rows, "rows");
        dispatch(active(), Forward { values: &self.values, width: self.width, x, y });
    }

    /// The exact online step: one step of plain SGD on the values, `values -= lr * x dy`, and the gradient of all inputs
    /// where it is asked for, that of the values before. `x` is `[cols]`, `dy` is `[rows]`; `dx` is `[cols]`, overwritten, and may be left
    /// out, as it is for the first layer of a network.
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
        let inputs = match dx {
            Some(dx) => Inputs::All(dx),
            None => Inputs::None,
        };
        self.step(x, dy, lr, inputs)
    }

    /// The same for `x` that came out of a ReLU, whose backward is in it: `dx` is the gradient of what went into the
    /// ReLU, 0 where `x` is zero. So such a source is not visited here either.
    ///
    /// # Errors
    /// `lr` is out of range: from 0 to 1e30.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn matvec_backward_sgd_relu(
        &mut self,
        x: &[f32],
        dy: &[f32],
        lr: f64,
        dx: &mut [f32],
    ) -> Result<(), HyperParamError> {
        self.step(x, dy, lr, Inputs::NonZero(dx))
    }

    #[track_caller]
    fn step(&mut self, x: &[f32], dy: &[f32], lr: f64, dx: Inputs<'_>) -> Result<(), HyperParamError> {
        check_len("sparse backward", "x", x.len(), self.cols, "cols");
        check_len("sparse backward", "dy", dy.len(), self.rows, "rows");
        if let Inputs::All(dx) | Inputs::NonZero(dx) = &dx {
            check_len("sparse backward", "dx", dx.len(), self.cols, "cols");
        }
        let lr = check_lr(lr)?;
        dispatch(
            active(),
            Step { values: &mut self.values, masks: &self.masks, width: self.width, x, dy, lr, dx },
        );
        Ok(())
    }
}

/// Sources that are looked at together: which of them are zero is found first, so that the loop over the others does
/// not branch on the data.
const SOURCES: usize = 256;

/// Sources in ascending order.
struct List {
    sources: [u32; SOURCES],
    len: usize,
}

impl List {
    /// Those of `x`'s sources, at most [`SOURCES`], from `first` on, that are not zero, or those that are.
    #[inline(always)]
    fn find<L: Lanes>(&mut self, l: L, x: &[f32], first: usize, zero: bool) {
        self.len = 0;
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut at = first as u32;
        for x in whole {
            self.add(zeros(l, l.load(x), zero), at);
            at += LANES as u32;
        }
        if !rest.is_empty() {
            let of_rest = (1 << rest.len()) - 1;
            self.add(zeros(l, l.load_part(rest, l.splat(0.0)), zero) & of_rest, at);
        }
    }

    #[inline(always)]
    fn add(&mut self, mut bits: u16, at: u32) {
        while bits != 0 {
            self.sources[self.len % SOURCES] = at + bits.trailing_zeros();
            self.len += 1;
            bits &= bits - 1;
        }
    }

    #[inline(always)]
    fn get(&self) -> &[u32] {
        &self.sources[..self.len]
    }
}

/// Which lanes are zero, or which are not.
#[inline(always)]
fn zeros<L: Lanes>(l: L, x: L::F, zero: bool) -> u16 {
    let bits = l.bits_of(l.eq(x, l.splat(0.0)));
    if zero { bits } else { !bits }
}

struct Forward<'a> {
    values: &'a [Line],
    width: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut list = List { sources: [0; SOURCES], len: 0 };
        if self.x.is_empty() {
            self.y.fill(0.0);
        }
        let x = self.x;
        for (chunk, part) in x.chunks(SOURCES).enumerate() {
            list.find(l, part, chunk * SOURCES, false);
            let place = Place { first: chunk == 0, last: (chunk + 1) * SOURCES >= x.len() };
            let mut at = 0;
            // As many accumulators as leave room for a weight.
            while L::WIDE && at + 8 <= self.width {
                panel::<L, 8>(l, &mut self, list.get(), at, place);
                at += 8;
            }
            while at + 4 <= self.width {
                panel::<L, 4>(l, &mut self, list.get(), at, place);
                at += 4;
            }
            while at < self.width {
                panel::<L, 1>(l, &mut self, list.get(), at, place);
                at += 1;
            }
        }
    }
}

/// Which of `x`'s chunks is at hand.
#[derive(Clone, Copy)]
struct Place {
    first: bool,
    last: bool,
}

/// `P` vectors of destinations from vector `at` on, over the sources of the list.
#[inline(always)]
fn panel<L: Lanes, const P: usize>(l: L, a: &mut Forward<'_>, list: &[u32], at: usize, place: Place) {
    let zero = l.splat(0.0);
    let y = &mut a.y[at * LANES..];
    let len = y.len().min(P * LANES);
    let y = &mut y[..len];
    let mut acc = [zero; P];
    if !place.first {
        for j in 0..P {
            acc[j] = l.load_part(&y[j * LANES..len.min((j + 1) * LANES)], zero);
        }
    }
    for &source in list {
        let x = l.splat(a.x[source as usize]);
        let w: &[Line; P] =
            a.values[source as usize * a.width + at..].first_chunk().expect("the panel's lines");
        for j in 0..P {
            acc[j] = l.mul_add(x, l.load(&w[j].0), acc[j]);
        }
    }
    for j in 0..P {
        // A product too small for f32 may have left a negative zero, to which another zero would have been added.
        let sum = if place.last { l.add(acc[j], zero) } else { acc[j] };
        l.store_part(&mut y[j * LANES..len.min((j + 1) * LANES)], sum);
    }
}

/// Whose gradients are wanted.
enum Inputs<'a> {
    None,
    All(&'a mut [f32]),
    /// Zero for sources that are zero.
    NonZero(&'a mut [f32]),
}

struct Step<'a> {
    values: &'a mut [Line],
    masks: &'a [u16],
    width: usize,
    x: &'a [f32],
    dy: &'a [f32],
    lr: f32,
    dx: Inputs<'a>,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut list = List { sources: [0; SOURCES], len: 0 };
        let (x, inputs) = (self.x, core::mem::replace(&mut self.dx, Inputs::None));
        match inputs {
            Inputs::None => {
                for (chunk, part) in x.chunks(SOURCES).enumerate() {
                    list.find(l, part, chunk * SOURCES, false);
                    sources::<L, false, true>(l, &mut self, list.get(), &mut []);
                }
            }
            Inputs::NonZero(dx) => {
                dx.fill(0.0);
                for (chunk, part) in x.chunks(SOURCES).enumerate() {
                    list.find(l, part, chunk * SOURCES, false);
                    sources::<L, true, true>(l, &mut self, list.get(), dx);
                }
            }
            Inputs::All(dx) => {
                for (chunk, part) in x.chunks(SOURCES).enumerate() {
                    list.find(l, part, chunk * SOURCES, false);
                    sources::<L, true, true>(l, &mut self, list.get(), dx);
                    list.find(l, part, chunk * SOURCES, true);
                    sources::<L, true, false>(l, &mut self, list.get(), dx);
                }
            }
        }
    }
}

/// The sources of the list, sixteen at a time: their horizontal sums are one transposition.
#[inline(always)]
fn sources<L: Lanes, const DX: bool, const STEP: bool>(l: L, a: &mut Step<'_>, list: &[u32], dx: &mut [f32]) {
    let zero = l.splat(0.0);
    let mut sums = [zero; LANES];
    let mut out = [0.0; LANES];
    for block in list.chunks(LANES) {
        for (i, &c) in block.iter().enumerate() {
            sums[i] = source::<L, DX, STEP>(l, a, c as usize);
        }
        if DX {
            l.store(&mut out, l.sum16(&sums));
            for (i, &c) in block.iter().enumerate() {
                dx[c as usize] = out[i];
            }
        }
    }
}

/// One source: its values step, and the sum of their products with `dy` in sixteen lanes is returned.
#[inline(always)]
fn source<L: Lanes, const DX: bool, const STEP: bool>(l: L, a: &mut Step<'_>, c: usize) -> L::F {
    let (x, lr, mut sum) = (l.splat(a.x[c]), l.splat(a.lr), l.splat(0.0));
    let at = c * a.width..(c + 1) * a.width;
    let (lines, masks) = (&mut a.values[at.clone()], &a.masks[at]);
    let (dy, rest) = a.dy.as_chunks::<LANES>();
    let n = dy.len();
    let (whole, last) = lines.split_at_mut(n);
    for ((line, mask), dy) in whole.iter_mut().zip(masks).zip(dy) {
        line_of::<L, DX, STEP>(l, line, *mask, x, lr, l.load(dy), &mut sum);
    }
    if let Some(line) = last.first_mut() {
        line_of::<L, DX, STEP>(l, line, masks[n], x, lr, l.load_part(rest, l.splat(0.0)), &mut sum);
    }
    sum
}

#[inline(always)]
fn line_of<L: Lanes, const DX: bool, const STEP: bool>(
    l: L,
    line: &mut Line,
    mask: u16,
    x: L::F,
    lr: L::F,
    dy: L::F,
    sum: &mut L::F,
) {
    let w = l.load(&line.0);
    if DX {
        *sum = l.mul_add(w, dy, *sum);
    }
    if STEP {
        // From zero, as a batch's sum starts: so the sign of a zero is the same. Where there is no connection the gradient is 0
        // and `w`, which is 0, stays: chosen after the step, it would be a masked store for the compiler, which AVX2 of AMD has
        // slow.
        let zero = l.splat(0.0);
        let gradient = l.select(l.mask_of(mask), l.add(zero, l.mul(x, dy)), zero);
        l.store(&mut line.0, l.neg_mul_add(lr, gradient, w));
    }
}
