//! Matrices as they are handed over: a slice, a shape, and how far its rows lie apart.

use super::Element;
use crate::lanes::{Block, extent};

/// A matrix to be read, with rows of side-by-side values, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T = f32> {
    // Invariant, from `Mat::with_stride`: the lines, `stride` apart and `line_len` long, lie inside the data.
    data: &'a [T],
    lines: usize,
    line_len: usize,
    stride: usize,
    transposed: bool,
}

impl<'a, T: Element> Mat<'a, T> {
    /// `rows` by `cols` values, row after row.
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        let len = data.len();
        assert!(
            rows.checked_mul(cols) == Some(len),
            "matrix: {len} values, {rows} rows of {cols} columns ask for {}",
            rows as u128 * cols as u128
        );
        Mat { data, lines: rows, line_len: cols, stride: cols, transposed: false }
    }

    /// `rows` by `cols` values, each row `stride` values after the one before it. What lies between is not read.
    ///
    /// # Panics
    /// If the last row reaches beyond the data.
    #[track_caller]
    pub fn with_stride(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        let len = data.len();
        assert!(
            extent(rows, cols, stride).is_some_and(|end| end <= len),
            "matrix: {rows} rows of {cols} columns, {stride} apart, do not fit {len} values"
        );
        Mat { data, lines: rows, line_len: cols, stride, transposed: false }
    }

    /// The transpose; nothing moves.
    pub fn t(self) -> Self {
        Mat { transposed: !self.transposed, ..self }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        if self.transposed { self.line_len } else { self.lines }
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        if self.transposed { self.lines } else { self.line_len }
    }

    /// Whether columns, not rows, are side-by-side values.
    #[inline(always)]
    pub(crate) fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// How far lines lie apart.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The `n` values of line `i` from `from` on: of a row, or of a column if transposed.
    #[inline(always)]
    pub(crate) fn line(&self, i: usize, from: usize, n: usize) -> &'a [T] {
        // A line of no values may begin anywhere.
        if n == 0 { &[] } else { &self.data[i * self.stride + from..][..n] }
    }

    /// All values from `from` of line `i` on, and how far lines lie apart.
    #[inline(always)]
    pub(crate) fn lines_from(&self, i: usize, from: usize) -> (&'a [T], usize) {
        // Of no lines the start may lie beyond the end.
        (&self.data[(i * self.stride + from).min(self.data.len())..], self.stride)
    }

    /// The rows from `from` on, `n` of them.
    pub(crate) fn rows_range(self, from: usize, n: usize) -> Self {
        self.range(!self.transposed, from, n)
    }

    /// The columns from `from` on, `n` of them.
    pub(crate) fn cols_range(self, from: usize, n: usize) -> Self {
        self.range(self.transposed, from, n)
    }

    fn range(self, of_lines: bool, from: usize, n: usize) -> Self {
        if of_lines {
            // The start of no lines may lie beyond the end.
            let start = (from * self.stride).min(self.data.len());
            Mat { data: &self.data[start..], lines: n, ..self }
        } else {
            Mat { data: &self.data[from.min(self.data.len())..], line_len: n, ..self }
        }
    }
}

/// An operand of either kind of values, so that a kernel is compiled once for both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'a> {
    F32(Mat<'a>),
    Bf16(Mat<'a, u16>),
}

impl Operand<'_> {
    pub(crate) fn is_transposed(&self) -> bool {
        match self {
            Operand::F32(mat) => mat.is_transposed(),
            Operand::Bf16(mat) => mat.is_transposed(),
        }
    }

    pub(crate) fn cols(&self) -> usize {
        match self {
            Operand::F32(mat) => mat.cols(),
            Operand::Bf16(mat) => mat.cols(),
        }
    }

    /// The rows from `from` on, `n` of them.
    pub(crate) fn rows_range(self, from: usize, n: usize) -> Self {
        match self {
            Operand::F32(mat) => Operand::F32(mat.rows_range(from, n)),
            Operand::Bf16(mat) => Operand::Bf16(mat.rows_range(from, n)),
        }
    }

    /// The columns from `from` on, `n` of them.
    pub(crate) fn cols_range(self, from: usize, n: usize) -> Self {
        match self {
            Operand::F32(mat) => Operand::F32(mat.cols_range(from, n)),
            Operand::Bf16(mat) => Operand::Bf16(mat.cols_range(from, n)),
        }
    }
}

/// A matrix to be written, with rows of side-by-side values.
pub struct MatMut<'a>(pub(crate) Block<'a>);

impl<'a> MatMut<'a> {
    /// `rows` by `cols` values, row after row.
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        let _ = Mat::new(data, rows, cols);
        MatMut(Block::new(data, rows, cols, cols))
    }

    /// `rows` by `cols` values, each row `stride` values after the one before it. What lies between is left alone.
    ///
    /// # Panics
    /// If rows overlap, or the last one reaches beyond the data.
    #[track_caller]
    pub fn with_stride(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        MatMut(Block::new(data, rows, cols, stride))
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.0.rows()
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.0.cols()
    }

    /// The same matrix for as long as this one is borrowed.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut(self.0.reborrow())
    }
}
