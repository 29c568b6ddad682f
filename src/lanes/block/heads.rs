//! Rows that are written to, in three dimensions that lie however they lie.

use core::marker::PhantomData;

use super::Block;

/// Rows of side-by-side values, by batch, head and place in the sequence, borrowed exclusively; it can be cut along each.
pub(crate) struct HeadsBlock<'a> {
    // Invariant, from `HeadsBlock::new`: for each (b, h, s) below `shape`, the `dim` values from the dot product of it and
    // `strides` on may be read and written for 'a, and no two rows share one. No two blocks that are alive do: the cuts
    // below hand each row to one side.
    data: *mut f32,
    shape: [usize; 3],
    dim: usize,
    strides: [usize; 3],
    _data: PhantomData<&'a mut f32>,
}

// SAFETY: it is an exclusive borrow of its values, which no other one shares.
unsafe impl Send for HeadsBlock<'_> {}

/// How many values such rows reach over; `None` where that is beyond a usize.
pub(crate) fn heads_extent(shape: [usize; 3], dim: usize, strides: [usize; 3]) -> Option<usize> {
    if dim == 0 || shape.contains(&0) {
        return Some(0);
    }
    let mut end = dim;
    for (n, stride) in shape.into_iter().zip(strides) {
        end = end.checked_add((n - 1).checked_mul(stride)?)?;
    }
    Some(end)
}

/// Whether no two rows share a value: from the smallest stride to the largest, each steps over all that lies within it.
fn is_disjoint(shape: [usize; 3], dim: usize, strides: [usize; 3]) -> bool {
    let mut axes = [0, 1, 2].map(|a| (strides[a], shape[a]));
    axes.sort_unstable();
    if dim == 0 {
        return true;
    }
    let mut within = dim;
    for (stride, n) in axes {
        if n > 1 {
            if stride < within {
                return false;
            }
            // Rows that reach beyond a usize lie in no memory.
            match (n - 1).checked_mul(stride).and_then(|x| x.checked_add(within)) {
                Some(reach) => within = reach,
                None => return false,
            }
        }
    }
    true
}

impl<'a> HeadsBlock<'a> {
    /// Rows of `dim` values, as many as `shape` says, `strides` apart along each of its dimensions.
    ///
    /// # Panics
    /// If rows overlap or reach beyond the data.
    #[track_caller]
    pub(crate) fn new(data: &'a mut [f32], shape: [usize; 3], dim: usize, strides: [usize; 3]) -> Self {
        let len = data.len();
        let fits = heads_extent(shape, dim, strides).is_some_and(|end| end <= len);
        assert!(fits, "heads: {shape:?} rows of {dim} values, {strides:?} apart, do not fit {len} values");
        let disjoint = shape.contains(&0) || is_disjoint(shape, dim, strides);
        assert!(disjoint, "heads: {shape:?} rows of {dim} values, {strides:?} apart, overlap");
        // Rows without values may be any distance apart: none, so that no address lies beyond the data.
        let strides = if dim == 0 { [0; 3] } else { strides };
        HeadsBlock { data: data.as_mut_ptr(), shape, dim, strides, _data: PhantomData }
    }

    /// How many batches, heads and places in the sequence there are.
    #[inline(always)]
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    #[inline(always)]
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The first `at` along an axis, and the others.
    pub(crate) fn split(self, axis: usize, at: usize) -> (Self, Self) {
        let n = self.shape[axis];
        assert!(at <= n, "{at} of {n}");
        let (mut first, mut second) = (self.shape, self.shape);
        first[axis] = at;
        second[axis] = n - at;
        // An address only: it may lie beyond the values if no row is left.
        let data = self.data.wrapping_add(at.wrapping_mul(self.strides[axis]));
        (HeadsBlock { shape: first, ..self }, HeadsBlock { shape: second, data, ..self })
    }

    /// The same rows for as long as this is borrowed.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> HeadsBlock<'_> {
        HeadsBlock { _data: PhantomData, ..*self }
    }

    /// Sets all values to 0.
    pub(crate) fn fill_zero(mut self) {
        let [batches, heads, rows] = self.shape;
        if self.shape.contains(&0) {
            return;
        }
        for b in 0..batches {
            for h in 0..heads {
                let mut head = self.head(b, h);
                for i in 0..rows {
                    head.row(i).fill(0.0);
                }
            }
        }
    }

    /// The rows of a batch's head, a row for each place in the sequence.
    #[inline(always)]
    pub(crate) fn head(&mut self, b: usize, h: usize) -> Block<'_> {
        let [batches, heads, rows] = self.shape;
        assert!(b < batches && h < heads, "head {h} of {heads}, batch {b} of {batches}");
        // An address only, inside the data if there are rows; no product overflowed in `HeadsBlock::new` then.
        let from = b.wrapping_mul(self.strides[0]).wrapping_add(h.wrapping_mul(self.strides[1]));
        // Its rows are rows of this, disjoint, and exclusively ours while `self` is borrowed: the invariant of `Block`.
        Block {
            data: self.data.wrapping_add(from),
            rows,
            cols: self.dim,
            stride: self.strides[2],
            _data: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_the_strides_say() {
        // [batch 2][seq 3][heads 4][dim 5], of which heads 1 to 3 are left.
        let mut data = vec![0.0; 2 * 3 * 4 * 5];
        let all = HeadsBlock::new(&mut data, [2, 4, 3], 5, [60, 5, 20]);
        let (_, mut rest) = all.split(1, 1);
        assert_eq!((rest.shape(), rest.dim()), ([2, 3, 3], 5));
        for b in 0..2 {
            for h in 0..3 {
                for s in 0..3 {
                    rest.head(b, h).row(s).fill((100 * b + 10 * (h + 1) + s) as f32);
                }
            }
        }
        for (i, x) in data.into_iter().enumerate() {
            let (b, s, h) = (i / 60, i / 20 % 3, i / 5 % 4);
            assert_eq!(x, if h == 0 { 0.0 } else { (100 * b + 10 * h + s) as f32 }, "value {i}");
        }
    }

    #[test]
    fn each_axis_can_be_cut() {
        for axis in 0..3 {
            let mut data = vec![0.0; 2 * 3 * 4 * 5];
            let (mut a, mut b) = HeadsBlock::new(&mut data, [2, 3, 4], 5, [60, 20, 5]).split(axis, 1);
            for (part, value) in [(&mut a, 1.0), (&mut b, 2.0)] {
                let [batches, heads, rows] = part.shape();
                for i in 0..batches * heads * rows {
                    for x in part.head(i / rows / heads, i / rows % heads).row(i % rows) {
                        *x += value;
                    }
                }
            }
            for (i, x) in data.into_iter().enumerate() {
                let place = [i / 60, i / 20 % 3, i / 5 % 4][axis];
                assert_eq!(x, if place < 1 { 1.0 } else { 2.0 }, "axis {axis}, value {i}");
            }
        }
    }

    #[test]
    fn overlapping_rows_are_refused() {
        assert!(is_disjoint([2, 3, 4], 5, [60, 20, 5]));
        assert!(is_disjoint([2, 3, 4], 5, [60, 5, 15]));
        assert!(is_disjoint([1, 1, 4], 5, [0, 0, 5]));
        assert!(!is_disjoint([2, 3, 4], 5, [59, 20, 5]));
        assert!(!is_disjoint([2, 3, 4], 5, [60, 20, 4]));
        assert!(!is_disjoint([2, 1, 4], 5, [0, 20, 5]));
    }

    #[test]
    fn strides_beyond_a_usize() {
        let most = usize::MAX;
        assert!(!is_disjoint([3, 2, 2], 5, [most, most, most]));
        assert!(!is_disjoint([3, 2, 2], 5, [most, most / 2, 5]));
        // Rows without values: wherever they are, no address lies beyond the data.
        for strides in [[most; 3], [0, 0, most], [most / 2, most / 4, 1 << 20]] {
            let mut data = [7.0; 3];
            let mut rows = HeadsBlock::new(&mut data, [2, 3, 4], 0, strides);
            let inside = rows.data as usize..=rows.data.wrapping_add(3) as usize;
            for b in 0..2 {
                for h in 0..3 {
                    for i in 0..4 {
                        let mut head = rows.head(b, h);
                        assert!(head.row(i).is_empty() && inside.contains(&(head.row(i).as_ptr() as usize)));
                    }
                }
            }
            let (mut a, mut b) = rows.split(2, 3);
            assert!(a.head(1, 2).row(2).is_empty() && b.head(1, 2).row(0).is_empty());
        }
    }

    #[test]
    #[should_panic(expected = "do not fit 119 values")]
    fn rows_beyond_the_data_are_refused() {
        HeadsBlock::new(&mut [0.0; 119], [2, 3, 4], 5, [60, 20, 5]);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn rows_that_overlap_are_refused() {
        HeadsBlock::new(&mut [0.0; 120], [2, 3, 4], 5, [40, 20, 5]);
    }
}
