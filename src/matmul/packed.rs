//! Right operands that are kept packed.

use super::pack::{Panels, pack};
use super::{Element, Mat};
use crate::lanes::{Chunk, Half, Kernel, LANES, Lanes, Source, dispatch};
use crate::tier::active;

/// A right operand that is packed once and used many times, such as the weights of a layer in one of their orientations.
///
/// ```
/// use hotlanes::matmul::{Mat, MatMut, Packed, matmul};
///
/// let (x, w) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.5, 2.0, 1.0, -1.0]); // x is 2 x 2, w is 3 x 2
/// let mut forward = Packed::new(2, 3);
/// forward.pack(Mat::new(&w, 3, 2).t());
/// let mut y = [0.0; 6];
/// matmul(Mat::new(&x, 2, 2), &forward, MatMut::new(&mut y, 2, 3));
/// assert_eq!(y, [1.0, 4.5, -1.0, 3.0, 9.5, -1.0]);
/// ```
#[derive(Debug)]
pub struct Packed {
    // Invariant: from `start` on, a panel of `rows` vectors for each sixteen columns; columns beyond `cols` are zero.
    rows: usize,
    cols: usize,
    /// Where a cache line starts: a vector that lies across two takes twice as long to load.
    start: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    F32(Box<[f32]>),
    /// As bits.
    Bf16(Box<[u16]>),
}

impl Clone for Packed {
    fn clone(&self) -> Self {
        let mut copy = Packed::room(self.rows, self.cols, self.is_bf16());
        match (copy.vectors_mut(), self.vectors()) {
            (VectorsMut::F32(to), Vectors::F32(from)) => to.copy_from_slice(from),
            (VectorsMut::Bf16(to), Vectors::Bf16(from)) => to.copy_from_slice(from),
            _ => unreachable!("both are of a kind"),
        }
        copy
    }
}

impl Packed {
    /// Room for an operand of `rows` (k) by `cols` (n), all zero. This, [`Packed::bf16`] and a clone are what allocates
    /// here.
    ///
    /// # Panics
    /// If it has more values than a usize can say.
    #[track_caller]
    pub fn new(rows: usize, cols: usize) -> Self {
        Packed::room(rows, cols, false)
    }

    /// The same in half the memory: values are kept as bf16, to which [`Packed::pack`] rounds them (to nearest, ties to even,
    /// every NaN as one; a bf16 operand stays as it is but for its NaNs). A product widens them on the way, exactly. A product of
    /// few rows takes as long as the memory needs to hand them over, so half as long from beyond the caches.
    ///
    /// # Panics
    /// If it has more values than a usize can say.
    #[track_caller]
    pub fn bf16(rows: usize, cols: usize) -> Self {
        Packed::room(rows, cols, true)
    }

    #[track_caller]
    fn room(rows: usize, cols: usize, is_bf16: bool) -> Self {
        let line = size_of::<Chunk>() / if is_bf16 { 2 } else { 4 };
        let len =
            cols.div_ceil(LANES).checked_mul(rows).and_then(|n| n.checked_mul(LANES)?.checked_add(line));
        let Some(len) = len else {
            panic!("packed: {rows} rows of {cols} columns are more values than a usize can say");
        };
        // Where no offset can be told (Miri may say so) the panels are merely not aligned.
        let start = |offset: usize| if offset < line { offset } else { 0 };
        if is_bf16 {
            let values = vec![0; len].into_boxed_slice();
            let start = start(values.as_ptr().align_offset(size_of::<Chunk>()));
            Packed { rows, cols, start, values: Values::Bf16(values) }
        } else {
            let values = vec![0.0; len].into_boxed_slice();
            let start = start(values.as_ptr().align_offset(size_of::<Chunk>()));
            Packed { rows, cols, start, values: Values::F32(values) }
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether values are kept as bf16.
    pub fn is_bf16(&self) -> bool {
        matches!(self.values, Values::Bf16(_))
    }

    /// Packs a matrix in place of what was packed before. It may be transposed, and bf16.
    ///
    /// # Panics
    /// If the matrix has another shape.
    #[track_caller]
    pub fn pack<T: Element>(&mut self, b: Mat<'_, T>) {
        assert!(
            b.rows() == self.rows && b.cols() == self.cols,
            "packed: a matrix of {} x {} does not fit room for {} x {}",
            b.rows(),
            b.cols(),
            self.rows,
            self.cols
        );
        if self.rows > 0 {
            dispatch(active(), Pack { b, vectors: self.vectors_mut() });
        }
    }

    /// All panels, one behind the other.
    #[inline(always)]
    pub(super) fn vectors(&self) -> Vectors<'_> {
        let count = self.cols.div_ceil(LANES) * self.rows;
        match &self.values {
            Values::F32(values) => Vectors::F32(&values[self.start..].as_chunks().0[..count]),
            Values::Bf16(values) => Vectors::Bf16(&values[self.start..].as_chunks().0[..count]),
        }
    }

    fn vectors_mut(&mut self) -> VectorsMut<'_> {
        let (start, count) = (self.start, self.cols.div_ceil(LANES) * self.rows);
        match &mut self.values {
            Values::F32(values) => VectorsMut::F32(&mut values[start..].as_chunks_mut().0[..count]),
            Values::Bf16(values) => VectorsMut::Bf16(&mut values[start..].as_chunks_mut().0[..count]),
        }
    }

    /// Panel `q`: sixteen columns of all rows, of what is kept as f32.
    #[inline(always)]
    pub(super) fn panel(&self, q: usize) -> &[Chunk] {
        match self.vectors() {
            Vectors::F32(vectors) => &vectors[q * self.rows..][..self.rows],
            Vectors::Bf16(_) => unreachable!("bf16 is widened"),
        }
    }

    /// Steps of panels of bf16, from row `p0` and panel `q0` on.
    #[inline(always)]
    pub(super) fn widened(&self, p0: usize, q0: usize) -> Widened<'_> {
        match self.vectors() {
            Vectors::F32(_) => unreachable!("f32 is read where it lies"),
            Vectors::Bf16(vectors) => Widened { vectors: &vectors[q0 * self.rows + p0..], rows: self.rows },
        }
    }
}

/// The panels of an operand.
pub(super) enum Vectors<'a> {
    F32(&'a [Chunk]),
    Bf16(&'a [Half]),
}

/// The same, to be written.
enum VectorsMut<'a> {
    F32(&'a mut [Chunk]),
    Bf16(&'a mut [Half]),
}

/// Panels of bf16 as f32.
pub(super) struct Widened<'a> {
    vectors: &'a [Half],
    rows: usize,
}

impl Source for Widened<'_> {
    type Step = usize;

    #[inline(always)]
    fn step<L: Lanes>(&self, _: L, p: usize) -> usize {
        p
    }

    #[inline(always)]
    fn vector<L: Lanes>(&self, l: L, p: usize, q: usize) -> L::F {
        l.load_bf16(&self.vectors[q * self.rows + p])
    }
}

/// A panel of bf16 that is kept, from its first vector on; the only one.
impl Panels for &mut [Half] {
    #[inline(always)]
    fn push<L: Lanes>(&mut self, l: L, _: usize, vector: L::F) {
        let (next, rest) = std::mem::take(self).split_first_mut().expect("room for every row");
        l.store_bf16(next, vector);
        *self = rest;
    }

    #[inline(always)]
    fn fill<L: Lanes>(&mut self, _: L, _: (usize, usize), _: &impl Source) -> usize {
        0
    }
}

/// Packs all panels.
struct Pack<'a, T> {
    b: Mat<'a, T>,
    vectors: VectorsMut<'a>,
}

impl<T: Element> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let k = self.b.rows();
        match self.vectors {
            VectorsMut::F32(vectors) => {
                for (q, mut panel) in vectors.chunks_exact_mut(k).enumerate() {
                    pack(l, self.b, (0, k), (q * LANES, 1), &mut panel);
                }
            }
            VectorsMut::Bf16(vectors) => {
                for (q, mut panel) in vectors.chunks_exact_mut(k).enumerate() {
                    pack(l, self.b, (0, k), (q * LANES, 1), &mut panel);
                }
            }
        }
    }
}
