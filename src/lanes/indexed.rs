//! Proofs about indices, made once, so that a hot loop needs no check and stays sound.
//!
//! - [`IndexList`]: indices that are all below a bound. [`Csr`](crate::sparse::Csr) checks them on construction.
//! - [`Lookup`], [`Rows`] and [`Accumulate`]: such indices over a table that was found long enough, read or added to
//!   without a check each.
//! - [`Permutation`] and [`Slots`]: positions that are all different, so that disjoint ranges of them can be
//!   written through from different threads.

use std::marker::PhantomData;
use std::ops::Range;

use super::LANES;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

/// The integer type of sparse indices: `u32`, or `u16` for half the index traffic where the bound allows it.
pub trait Index: sealed::Sealed + Copy + Ord + Send + Sync + 'static {
    /// The largest bound that indices of this type can stay below. x86's gather takes signed 32-bit indices, so
    /// `u32` is limited to 2^31 - 1 on every tier.
    const MAX_BOUND: usize;
    /// The type's name, for messages.
    const NAME: &'static str;

    /// The index as a `usize`; lossless.
    fn to_usize(self) -> usize;
    /// `i` as this type.
    ///
    /// # Panics
    /// If `i` does not fit; below [`Index::MAX_BOUND`] it does.
    fn from_usize(i: usize) -> Self;
}

impl Index for u16 {
    const MAX_BOUND: usize = u16::MAX as usize + 1;
    const NAME: &'static str = "u16";

    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
    fn from_usize(i: usize) -> Self {
        u16::try_from(i).expect("index fits u16: its bound was checked")
    }
}

impl Index for u32 {
    const MAX_BOUND: usize = i32::MAX as usize;
    const NAME: &'static str = "u32";

    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
    fn from_usize(i: usize) -> Self {
        u32::try_from(i).expect("index fits u32: its bound was checked")
    }
}

/// Owned indices, each below `bound`, which is at most `I::MAX_BOUND`. The fields never change after the check.
#[derive(Clone, Debug)]
pub(crate) struct IndexList<I> {
    indices: Box<[I]>,
    bound: usize,
}

impl<I: Index> IndexList<I> {
    /// Checks every index; `Err` is the position of the first one that is not below `bound`.
    ///
    /// # Panics
    /// If `bound` exceeds `I::MAX_BOUND`: the caller reports that as an error of its own.
    pub(crate) fn new(indices: Box<[I]>, bound: usize) -> Result<Self, usize> {
        assert!(bound <= I::MAX_BOUND, "bound {bound} exceeds {} of {}", I::MAX_BOUND, I::NAME);
        match indices.iter().position(|i| i.to_usize() >= bound) {
            Some(at) => Err(at),
            None => Ok(IndexList { indices, bound }),
        }
    }

    /// The indices.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[I] {
        &self.indices
    }

    /// What every index is below.
    #[inline(always)]
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    /// Pairs the indices with a table of rows: index `i` stands for `table[i * stride + offset ..][.. W]`.
    ///
    /// # Panics
    /// If the row of the largest possible index does not lie in the table.
    #[inline(always)]
    pub(crate) fn over<'a, const W: usize>(
        &'a self,
        table: &'a [f32],
        stride: usize,
        offset: usize,
    ) -> Lookup<'a, I, W> {
        if let Some(last) = self.bound.checked_sub(1) {
            let end =
                last.checked_mul(stride).and_then(|x| x.checked_add(offset)).and_then(|x| x.checked_add(W));
            assert!(end.is_some_and(|e| e <= table.len()), "a row of an index lies outside the table");
        }
        Lookup { indices: &self.indices, table, stride, offset, mask: 0 }
    }

    /// Pairs the indices with rows side by side; of a `RING`, whose rows are used in turns, index `i` stands for row `i % n`
    /// of `n`, a power of two.
    ///
    /// # Panics
    /// If the number of rows of a `RING` is no power of two, or that of others below the indices' bound.
    #[inline(always)]
    pub(crate) fn among<'a, const W: usize, const RING: bool>(
        &'a self,
        rows: &'a [[f32; W]],
    ) -> Lookup<'a, I, W, RING> {
        let n = rows.len();
        assert!(if RING { n.is_power_of_two() } else { self.bound <= n }, "{n} rows are too few or uneven");
        let (table, mask) = (rows.as_flattened(), n.wrapping_sub(1));
        Lookup { indices: &self.indices, table, stride: W, offset: 0, mask }
    }

    /// Pairs the indices with a table of whole rows: index `i` stands for `table[i * stride ..][.. stride]`.
    ///
    /// # Panics
    /// If the row of the largest possible index does not lie in the table.
    #[inline(always)]
    pub(crate) fn rows<'a>(&'a self, table: &'a [f32], stride: usize) -> Rows<'a, I> {
        let end = self.bound.checked_mul(stride);
        assert!(end.is_some_and(|e| e <= table.len()), "a row of an index lies outside the table");
        Rows { indices: &self.indices, table, stride }
    }

    /// Pairs the indices with values to be added to.
    ///
    /// # Panics
    /// If there are fewer values than the indices' bound.
    #[inline(always)]
    pub(crate) fn accumulate<'a>(&'a self, values: &'a mut [f32]) -> Accumulate<'a, I> {
        assert!(self.bound <= values.len(), "an index lies outside the values");
        Accumulate { indices: &self.indices, values }
    }
}

/// Indices over a table of rows, `W` values wide, whose every row was found to lie inside the table; those of a `RING` are
/// taken in turns.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a, I, const W: usize, const RING: bool = false> {
    // Invariant, from `IndexList::over`, `IndexList::among` or `Rows::part`: for each i in indices, or for any i & mask in
    // a ring, i * stride + offset + W <= table.len().
    indices: &'a [I],
    table: &'a [f32],
    stride: usize,
    offset: usize,
    mask: usize,
}

impl<'a, I: Index, const W: usize, const RING: bool> Lookup<'a, I, W, RING> {
    /// The lookup of a range of the indices.
    #[inline(always)]
    pub(crate) fn range(self, range: Range<usize>) -> Self {
        Lookup { indices: &self.indices[range], ..self }
    }

    #[cfg(test)]
    pub(crate) fn len(self) -> usize {
        self.indices.len()
    }

    /// Indices `4 q` to `4 q + 3`, whose number is then known: their rows need no check.
    #[inline(always)]
    pub(crate) fn quad(self, q: usize) -> Self {
        Lookup { indices: &self.indices.as_chunks::<4>().0[q], ..self }
    }

    /// What the quads leave over.
    #[inline(always)]
    pub(crate) fn after_quads(self) -> Self {
        Lookup { indices: self.indices.as_chunks::<4>().1, ..self }
    }

    /// The row that index `k` stands for. The check of `k` folds away in a [`Lookup::quad`].
    #[inline(always)]
    pub(crate) fn row(self, k: usize) -> &'a [f32; W] {
        let i = self.indices[k].to_usize();
        let start = if RING { i & self.mask } else { i } * self.stride + self.offset;
        // SAFETY: start + W <= table.len() by the invariant of `Lookup`, established in `IndexList::over` and
        // `IndexList::among`; the multiplication cannot overflow since the largest row lies in the table.
        unsafe { &*self.table.as_ptr().add(start).cast::<[f32; W]>() }
    }
}

impl<'a, I: Index> Lookup<'a, I, 1> {
    /// The `n` indices from `k`, at most sixteen, for one gather.
    #[inline(always)]
    pub(crate) fn block(self, k: usize, n: usize) -> GatherBlock<'a, I> {
        // Known where the lookup was made, so that the check folds away.
        assert!(self.stride == 1 && self.offset == 0 && n <= LANES, "a gather reads a plain vector");
        GatherBlock { indices: &self.indices[k..k + n], table: self.table.as_ptr(), _table: PhantomData }
    }
}

/// Indices over a table of whole rows, every one of which was found to lie inside the table.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, I> {
    // Invariant, from `IndexList::rows`: for each i in indices, (i + 1) * stride <= table.len().
    indices: &'a [I],
    table: &'a [f32],
    stride: usize,
}

impl<'a, I: Index> Rows<'a, I> {
    /// `W` values of each row from `offset` on.
    ///
    /// # Panics
    /// If a row does not have them.
    #[inline(always)]
    pub(crate) fn part<const W: usize>(self, offset: usize) -> Lookup<'a, I, W> {
        assert!(W <= self.stride && offset <= self.stride - W, "a part of a row lies outside it");
        // The invariant of `Lookup`: the part lies inside the row, which lies inside the table.
        Lookup { indices: self.indices, table: self.table, stride: self.stride, offset, mask: 0 }
    }

    /// The rows of a range of the indices.
    #[inline(always)]
    pub(crate) fn range(self, range: Range<usize>) -> Self {
        Rows { indices: &self.indices[range], ..self }
    }

    /// The row that index `k` stands for.
    #[inline(always)]
    pub(crate) fn row(self, k: usize) -> &'a [f32] {
        let start = self.indices[k].to_usize() * self.stride;
        // SAFETY: the row lies inside the table by the invariant of `Rows`; the multiplication cannot overflow since it
        // did not for the bound.
        unsafe { std::slice::from_raw_parts(self.table.as_ptr().add(start), self.stride) }
    }
}

/// Indices over values that are added to, each of which was found to lie inside.
pub(crate) struct Accumulate<'a, I> {
    // Invariant, from `IndexList::accumulate`: each index is below values.len().
    indices: &'a [I],
    values: &'a mut [f32],
}

impl<I: Index> Accumulate<'_, I> {
    /// Adds `v` to the values that the indices from `k` on stand for, one after the other.
    #[inline(always)]
    pub(crate) fn add(&mut self, k: usize, v: &[f32]) {
        for (i, &v) in self.indices[k..k + v.len()].iter().zip(v) {
            // SAFETY: the index is below values.len() by the invariant of `Accumulate`.
            unsafe { *self.values.get_unchecked_mut(i.to_usize()) += v }
        }
    }
}

/// At most sixteen indices into a table, each below the table's length and below 2^31.
#[derive(Clone, Copy)]
pub(crate) struct GatherBlock<'a, I> {
    // Invariant, from `Lookup` with stride 1 and offset 0 or from `Slots`: each index is below 2^31, and the value it
    // stands for may be read for 'a. A pointer, since other threads may own the values between (see `Slots`).
    indices: &'a [I],
    table: *const f32,
    _table: PhantomData<&'a f32>,
}

impl<'a, I: Index> GatherBlock<'a, I> {
    #[inline(always)]
    pub(crate) fn indices(self) -> &'a [I] {
        self.indices
    }

    /// The table, for a gather instruction; only x86 has one.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    #[inline(always)]
    pub(crate) fn table(self) -> *const f32 {
        self.table
    }

    /// The value for lane `i`; `i` must be one of the block's.
    #[inline(always)]
    pub(crate) fn get(self, i: usize) -> f32 {
        let at = self.indices[i].to_usize();
        // SAFETY: the value may be read, by the invariant of `GatherBlock`.
        unsafe { *self.table.add(at) }
    }
}

/// A permutation of `0..len`: positions that are all different.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    list: IndexList<u32>,
}

impl Permutation {
    /// Checks that every position below the length occurs once.
    ///
    /// # Panics
    /// If one does not: only this crate's own counting sort makes permutations.
    pub(crate) fn new(slots: Box<[u32]>) -> Self {
        let mut seen = vec![false; slots.len()];
        for &s in &slots {
            let seen = &mut seen[s as usize];
            assert!(!*seen, "slot {s} occurs twice");
            *seen = true;
        }
        let bound = slots.len();
        let list = IndexList::new(slots, bound).expect("every slot was used to index above");
        Permutation { list }
    }

    /// The positions as indices, to read values through.
    #[inline(always)]
    pub(crate) fn as_list(&self) -> &IndexList<u32> {
        &self.list
    }

    /// Pairs the permutation with the rows it permutes, each `stride` values long, to read and write through.
    ///
    /// # Panics
    /// If there are not as many rows as positions.
    pub(crate) fn slots<'a>(&'a self, values: &'a mut [f32], stride: usize) -> Slots<'a> {
        let slots = self.list.as_slice();
        assert_eq!(
            slots.len().checked_mul(stride),
            Some(values.len()),
            "a permutation permutes as many rows as it has"
        );
        Slots { slots, stride, values: values.as_mut_ptr(), _values: PhantomData }
    }
}

/// Rows in a permuted order, or a range of that order: element `k` is row `slots[k]`.
pub(crate) struct Slots<'a> {
    // Invariant, from `Permutation::slots`: each slot's row lies inside the values, and no two `Slots` that are alive
    // share a slot (the permutation's positions are all different, and `split_at` hands each of them to one side).
    slots: &'a [u32],
    stride: usize,
    values: *mut f32,
    _values: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Slots` is an exclusive borrow of the rows in its slots, which no other one shares.
unsafe impl Send for Slots<'_> {}

impl<'a> Slots<'a> {
    /// Cuts the order at `k`; the two sides share no row.
    pub(crate) fn split_at(self, k: usize) -> (Slots<'a>, Slots<'a>) {
        let (a, b) = self.slots.split_at(k);
        (Slots { slots: a, ..self }, Slots { slots: b, ..self })
    }

    /// Row `k`.
    #[inline(always)]
    pub(crate) fn row(&mut self, k: usize) -> &mut [f32] {
        let start = self.slots[k] as usize * self.stride;
        // SAFETY: the row lies inside the values and is ours alone, by the invariant of `Slots`; the borrow of `self`
        // keeps it so.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(start), self.stride) }
    }

    /// Sets the elements from `k` on, where rows are single values.
    #[inline(always)]
    pub(crate) fn set(&mut self, k: usize, v: &[f32]) {
        assert_eq!(self.stride, 1, "a scatter writes single values");
        for (&slot, &v) in self.slots[k..k + v.len()].iter().zip(v) {
            // SAFETY: the slot's value is inside and ours alone, by the invariant of `Slots`.
            unsafe { *self.values.add(slot as usize) = v }
        }
    }

    /// The `n` elements from `k`, at most sixteen, for one gather, where rows are single values.
    #[inline(always)]
    pub(crate) fn block(&self, k: usize, n: usize) -> GatherBlock<'_, u32> {
        assert!(self.stride == 1 && n <= LANES, "a gather reads single values");
        GatherBlock { indices: &self.slots[k..k + n], table: self.values, _table: PhantomData }
    }
}
