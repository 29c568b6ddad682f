//! A block of a matrix that is written to: rows that lie apart, and columns that other threads may own the neighbours of.

mod heads;

use core::marker::PhantomData;

pub(crate) use heads::{HeadsBlock, heads_extent};

/// `rows` rows of `cols` values, `stride` apart, borrowed exclusively; it can be cut both ways.
pub(crate) struct Block<'a> {
    // Invariant, from `Block::new`: for each row i, the `cols` values from data + i * stride may be read and written for
    // 'a, and no two blocks that are alive share one (the cuts below hand each value to one side).
    data: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    _data: PhantomData<&'a mut f32>,
}

// SAFETY: a `Block` is an exclusive borrow of its values, which no other one shares.
unsafe impl Send for Block<'_> {}

/// How many values a matrix of this shape reaches over; `None` where that is beyond a usize.
pub(crate) fn extent(rows: usize, cols: usize, stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 { Some(0) } else { (rows - 1).checked_mul(stride)?.checked_add(cols) }
}

impl<'a> Block<'a> {
    /// The block at the start of `data`.
    ///
    /// # Panics
    /// If rows overlap or reach beyond the data.
    #[track_caller]
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        let len = data.len();
        assert!(
            (cols <= stride || rows <= 1) && extent(rows, cols, stride).is_some_and(|end| end <= len),
            "a matrix of {rows} rows and {cols} columns, {stride} apart, does not fit {len} values"
        );
        // Rows without values may be any distance apart: none, so that no address lies beyond the data.
        let stride = if cols == 0 { 0 } else { stride };
        Block { data: data.as_mut_ptr(), rows, cols, stride, _data: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// The first `at` rows, and the others.
    pub(crate) fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "{at} of {} rows", self.rows);
        // An address only: it may lie beyond the values if no row is left.
        let data = self.data.wrapping_add(at * self.stride);
        (Block { rows: at, ..self }, Block { data, rows: self.rows - at, ..self })
    }

    /// The first `at` columns, and the others.
    pub(crate) fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "{at} of {} columns", self.cols);
        let data = self.data.wrapping_add(at);
        (Block { cols: at, ..self }, Block { data, cols: self.cols - at, ..self })
    }

    /// The same block for as long as this one is borrowed.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Block<'_> {
        Block { _data: PhantomData, ..*self }
    }

    /// Row `i`.
    #[inline(always)]
    pub(crate) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // SAFETY: the row's values are readable, writable and ours alone by the invariant of `Block`; the borrow of `self`
        // keeps it so. i * stride did not overflow in `Block::new`.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols) }
    }
}
