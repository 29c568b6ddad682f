//! Sizes: a few numbers each, whose meaning is the case's own.

use hotlanes::LANES;

/// The numbers of a size: `[n]`, `[rows, features]`, ...
pub type Size = Vec<usize>;

/// The numbers of a size, as an array.
///
/// # Panics
/// If there are not `N` of them.
#[track_caller]
pub fn dims<const N: usize>(size: &[usize]) -> [usize; N] {
    size.try_into().unwrap_or_else(|_| panic!("a size of {N} numbers, not {size:?}"))
}

/// The numbers with a cross between them: `256x512`.
pub fn label(size: &[usize]) -> String {
    let all: Vec<_> = size.iter().map(usize::to_string).collect();
    all.join("x")
}

/// The product of the numbers.
pub fn product(size: &[usize]) -> usize {
    size.iter().product()
}

/// Lengths around one, two, four and eight vectors, and one of many.
pub fn lengths() -> Vec<Size> {
    let short = 0..=2 * LANES + 1;
    short
        .chain(4 * LANES - 1..=4 * LANES + 2)
        .chain(8 * LANES - 1..=8 * LANES + 2)
        .chain([1000])
        .map(|n| vec![n])
        .collect()
}

/// Each of `first` with each of `second`.
pub fn grid(first: &[usize], second: &[usize]) -> Vec<Size> {
    first.iter().flat_map(|&a| second.iter().map(move |&b| vec![a, b])).collect()
}

/// Tensors in one call, at most.
pub const MOST: usize = 64;

/// A slice cut into parts of these lengths.
pub fn parts<'a, T>(mut all: &'a [T], lengths: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    lengths.iter().map(move |&n| {
        let (part, rest) = all.split_at(n);
        all = rest;
        part
    })
}

/// A slice cut into parts of these lengths.
pub fn parts_mut<'a, T>(mut all: &'a mut [T], lengths: &'a [usize]) -> impl Iterator<Item = &'a mut [T]> {
    lengths.iter().map(move |&n| all.split_off_mut(..n).expect("the lengths' sum is the slice's"))
}
