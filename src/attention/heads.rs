//! Queries, keys and values as they are handed over: rows by batch, head and place in the sequence.

use super::tiles::Lines;
use crate::lanes::{HeadsBlock, heads_extent};

/// How many rows there are along each dimension, and how many values a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadsShape {
    /// Examples.
    pub batch: usize,
    /// Heads of an example.
    pub heads: usize,
    /// Length of the sequence.
    pub seq: usize,
    /// Values in a row: the size of a head.
    pub dim: usize,
}

impl HeadsShape {
    fn rows(self) -> [usize; 3] {
        [self.batch, self.heads, self.seq]
    }

    /// `[batch][heads][seq][dim]`
    fn contiguous(self) -> Strides {
        let head = self.seq.saturating_mul(self.dim);
        Strides { batch: self.heads.saturating_mul(head), head, seq: self.dim }
    }

    /// `[batch][seq][heads][dim]`
    fn interleaved(self) -> Strides {
        let seq = self.heads.saturating_mul(self.dim);
        Strides { batch: self.seq.saturating_mul(seq), head: self.dim, seq }
    }

    #[track_caller]
    fn check(self, len: usize) {
        let size = [self.batch, self.heads, self.seq, self.dim].into_iter().try_fold(1, usize::checked_mul);
        assert!(size == Some(len), "heads: {len} values do not make {self:?}");
    }
}

/// How far rows lie apart, in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From an example to the next.
    pub batch: usize,
    /// From a head to the next.
    pub head: usize,
    /// From a place in the sequence to the next.
    pub seq: usize,
}

impl Strides {
    fn list(self) -> [usize; 3] {
        [self.batch, self.head, self.seq]
    }
}

/// Rows to be read: queries, keys, values, or a gradient.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    // Invariant: the rows of `shape`, `strides` apart, lie inside the data.
    data: &'a [f32],
    shape: HeadsShape,
    strides: Strides,
}

impl<'a> Heads<'a> {
    /// `[batch][heads][seq][dim]`
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn new(data: &'a [f32], shape: HeadsShape) -> Self {
        shape.check(data.len());
        Heads { data, shape, strides: shape.contiguous() }
    }

    /// `[batch][seq][heads][dim]`, as a matrix product leaves it. [`Heads::split`] takes queries, keys and values apart where
    /// one product made all of them.
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn interleaved(data: &'a [f32], shape: HeadsShape) -> Self {
        shape.check(data.len());
        Heads { data, shape, strides: shape.interleaved() }
    }

    /// Rows that lie `strides` apart. What lies between them is not read.
    ///
    /// # Panics
    /// If a row reaches beyond the data.
    #[track_caller]
    pub fn with_strides(data: &'a [f32], shape: HeadsShape, strides: Strides) -> Self {
        let (rows, len) = (shape.rows(), data.len());
        let fits = heads_extent(rows, shape.dim, strides.list()).is_some_and(|end| end <= len);
        assert!(fits, "heads: {shape:?}, {strides:?} apart, do not fit {len} values");
        Heads { data, shape, strides }
    }

    /// The first `at` heads, and the others.
    ///
    /// # Panics
    /// If there are not so many.
    #[track_caller]
    pub fn split(self, at: usize) -> (Self, Self) {
        let heads = self.shape.heads;
        assert!(at <= heads, "heads: {at} of {heads}");
        // The start of no heads may lie beyond the end.
        let from = at.saturating_mul(self.strides.head).min(self.data.len());
        let first = Heads { shape: HeadsShape { heads: at, ..self.shape }, ..self };
        let second =
            Heads { data: &self.data[from..], shape: HeadsShape { heads: heads - at, ..self.shape }, ..self };
        (first, second)
    }

    /// The shape.
    pub fn shape(&self) -> HeadsShape {
        self.shape
    }

    /// The rows of a batch's head; of no rows, the start may lie beyond the end.
    #[inline(always)]
    pub(super) fn head(&self, b: usize, h: usize) -> Lines<'a> {
        let from = b * self.strides.batch + h * self.strides.head;
        Lines { data: self.data.get(from..).unwrap_or(&[]), stride: self.strides.seq }
    }
}

/// Rows to be written: the output, or a gradient.
pub struct HeadsMut<'a>(pub(super) HeadsBlock<'a>);

impl<'a> HeadsMut<'a> {
    /// `[batch][heads][seq][dim]`
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn new(data: &'a mut [f32], shape: HeadsShape) -> Self {
        shape.check(data.len());
        Self::with_strides(data, shape, shape.contiguous())
    }

    /// `[batch][seq][heads][dim]`; see [`Heads::interleaved`].
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[track_caller]
    pub fn interleaved(data: &'a mut [f32], shape: HeadsShape) -> Self {
        shape.check(data.len());
        Self::with_strides(data, shape, shape.interleaved())
    }

    /// Rows that lie `strides` apart. What lies between them is left alone.
    ///
    /// # Panics
    /// If rows overlap, or one reaches beyond the data.
    #[track_caller]
    pub fn with_strides(data: &'a mut [f32], shape: HeadsShape, strides: Strides) -> Self {
        HeadsMut(HeadsBlock::new(data, shape.rows(), shape.dim, strides.list()))
    }

    /// The first `at` heads, and the others.
    ///
    /// # Panics
    /// If there are not so many.
    #[track_caller]
    pub fn split(self, at: usize) -> (Self, Self) {
        let heads = self.0.shape()[1];
        assert!(at <= heads, "heads: {at} of {heads}");
        let (first, second) = self.0.split(1, at);
        (HeadsMut(first), HeadsMut(second))
    }

    /// The shape.
    pub fn shape(&self) -> HeadsShape {
        let [batch, heads, seq] = self.0.shape();
        HeadsShape { batch, heads, seq, dim: self.0.dim() }
    }

    /// The same rows for as long as these are borrowed.
    pub fn reborrow(&mut self) -> HeadsMut<'_> {
        HeadsMut(self.0.reborrow())
    }
}
