//! Buffers that start at a cache line.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;
/// Bytes of a page. A load waits for an earlier store at the same place of another page, and lines at the same place share a set
/// of the nearest cache.
const PAGE: usize = 4096;
/// Buffers of so many bytes start at a quarter of a page, each at the next one. The heap would put a second buffer a line further in
/// its page than the first, where Zen 4 takes up to 1.5 times as long to read the one and write the other with AVX-512.
const QUARTERED: usize = 4 * PAGE;

/// A buffer whose first value starts a cache line (64 bytes), so that no vector of sixteen `f32` lies across two
/// lines; from 16 KB on it starts a quarter of a page (1 KB), and the next one the next quarter: where two lie a few lines apart in
/// their pages, stores to one hold up loads from the other. A plain `Vec<f32>` starts 16 bytes off one where the system's allocator puts it there, as glibc does.
///
/// The bits of every kernel are the same on both; kernels that work on rows in the L1 and L2 caches are faster on this
/// one (the report's rows `vec` show by how much on a machine).
///
/// ```
/// use hotlanes::AlignedVec;
///
/// let mut x = AlignedVec::from(&[1.0f32, 2.0, 3.0][..]);
/// assert!(x.as_ptr().addr().is_multiple_of(64));
/// x[1] = 5.0;
/// assert_eq!(hotlanes::reduce::sum(&x), 9.0);
/// assert_eq!(*AlignedVec::<f32>::zeros(2), [0.0, 0.0]);
/// ```
///
/// It is made of safe code alone: a `Vec` with a line or a page to spare, of which it uses what begins at the right place.
pub struct AlignedVec<T = f32> {
    storage: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> AlignedVec<T> {
    /// `len` zeros (default values), which take memory when they are first written.
    pub fn zeros(len: usize) -> Self {
        let mut zeros = AlignedVec::default();
        zeros.allocate(len);
        zeros.len = len;
        zeros
    }

    /// The same, or `None` where the system has no memory for them.
    pub fn try_zeros(len: usize) -> Option<Self> {
        let mut storage = Vec::new();
        storage.try_reserve_exact(len.checked_add(Self::spare(len))?).ok()?;
        storage.resize(len + Self::spare(len), T::default());
        let start = Self::start_of(&storage, len);
        Some(AlignedVec { storage, start, len })
    }

    /// Gives it another length. What it then holds is unspecified; memory that it has it keeps.
    pub fn resize_for_overwrite(&mut self, len: usize) {
        if self.storage.len() < len + Self::spare(len).max(self.start) {
            self.allocate(len);
        }
        self.len = len;
    }

    /// Of how many bytes a buffer of `len` elements has a part to spare, so that it may start anywhere in it.
    fn boundary(len: usize) -> usize {
        if len.saturating_mul(size_of::<T>()) < QUARTERED { LINE } else { PAGE }
    }

    /// That part in elements.
    fn spare(len: usize) -> usize {
        Self::boundary(len) / size_of::<T>().clamp(1, LINE)
    }

    fn allocate(&mut self, len: usize) {
        // Not `resize`, which would copy.
        self.storage = vec![T::default(); len + Self::spare(len)];
        self.start = Self::start_of(&self.storage, len);
    }

    /// Where it starts. Elements that do not fit lines a whole number of times are merely not aligned.
    fn start_of(storage: &[T], len: usize) -> usize {
        static QUARTER: AtomicUsize = AtomicUsize::new(0);
        let boundary = Self::boundary(len);
        let place = if boundary == PAGE { QUARTER.fetch_add(1, Relaxed) % 4 * (PAGE / 4) } else { 0 };
        let (bytes, size) = (place.wrapping_sub(storage.as_ptr().addr()) % boundary, size_of::<T>().max(1));
        if bytes.is_multiple_of(size) && bytes / size < Self::spare(len) { bytes / size } else { 0 }
    }
}

impl<T> Default for AlignedVec<T> {
    fn default() -> Self {
        AlignedVec { storage: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Copy + Default> From<&[T]> for AlignedVec<T> {
    fn from(values: &[T]) -> Self {
        let mut copy = AlignedVec::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl<T: Copy + Default> Clone for AlignedVec<T> {
    fn clone(&self) -> Self {
        AlignedVec::from(&**self)
    }
}

impl<T> Deref for AlignedVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.storage[self.start..][..self.len]
    }
}

impl<T> DerefMut for AlignedVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.start..][..self.len]
    }
}

impl<T: fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for AlignedVec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_a_line_at_every_length() {
        fn check<T: Copy + Default + PartialEq + fmt::Debug>(value: T) {
            let mut buffer = AlignedVec::default();
            for len in [0, 1, 15, 16, 1000, 3, 5000, 20_000, 17_000, 21_000, 10] {
                buffer.resize_for_overwrite(len);
                buffer.fill(value);
                assert_eq!((buffer.len(), buffer.as_ptr().addr() % LINE), (len, 0));
                let tried = AlignedVec::<T>::try_zeros(len).expect("memory");
                assert_eq!((tried.len(), tried.as_ptr().addr() % LINE), (len, 0));
                if len * size_of::<T>() >= QUARTERED {
                    let four = [(); 4].map(|()| AlignedVec::<T>::zeros(len));
                    let starts = four.each_ref().map(|v| v.as_ptr().addr() % PAGE);
                    assert!(starts.iter().all(|s| s.is_multiple_of(PAGE / 4)), "{starts:?}");
                }
                let copy = buffer.clone();
                assert_eq!((&copy, copy.as_ptr().addr() % LINE), (&buffer, 0));
                let zeros = AlignedVec::<T>::zeros(len);
                assert!(
                    zeros.iter().all(|&x| x == T::default()) && zeros.as_ptr().addr().is_multiple_of(LINE)
                );
            }
        }
        check(1.5f32);
        check(7u8);
        check(9u16);
        check(-3i32);
        check(2.5f64);
    }
}
