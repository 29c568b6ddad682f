//! Sizes of the sparse cases: what is connected, and how many examples.

use crate::memory::mix;
use crate::sizes::Size;

/// Up to here a structure is a density in per cent; with an empty and a full row and an empty column between 0 and 100.
pub(super) const PERCENT: usize = 100;
/// As many connections in each row as its number, from 0.
pub(super) const STAIRS: usize = 200;
/// Every other place.
pub(super) const HALF: usize = 201;
/// From here on: this many connections in each row, one in each group of neighbouring sources.
pub(super) const EACH: usize = 1000;

pub(super) fn name(size: &[usize]) -> String {
    let (rows, cols, batch) = (size[0], size[1], size[3]);
    match size[2] {
        percent @ 0..=PERCENT => format!("{cols}x{rows}@{}b{batch}", percent as f64 / 100.0),
        HALF => format!("{cols}x{rows}@halfb{batch}"),
        STAIRS => format!("{cols}x{rows}@stairsb{batch}"),
        each => format!("{cols}x{rows}@{}eachb{batch}", each - EACH),
    }
}

fn is_connected(size: &[usize], r: usize, c: usize) -> bool {
    let (rows, cols) = (size[0], size[1]);
    match size[2] {
        percent @ 0..=PERCENT => {
            let is_mixed = (1..PERCENT).contains(&percent) && rows > 3 && cols > 3 && rows * cols < 100_000;
            match (is_mixed, r, c) {
                (true, 1, _) => false,
                (true, _, 2) => false,
                (true, 2, _) => true,
                _ => {
                    let bound = (percent as f64 / 100.0 * f64::from(u32::MAX)) as u32;
                    percent == PERCENT || mix((r * cols + c) as u32 ^ 0x5eed) < bound
                }
            }
        }
        STAIRS => c < r,
        HALF => r % 2 == (c + r / 2) % 2,
        each => {
            let group = cols / (each - EACH);
            c < group * (each - EACH) && c % group == (5 * r + 3 * (c / group)) % group
        }
    }
}

/// The structure of a size: where each row begins, and its sources.
pub(crate) fn structure(size: &[usize]) -> (Vec<usize>, Vec<u32>) {
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for r in 0..size[0] {
        indices.extend((0..size[1]).filter(|&c| is_connected(size, r, c)).map(|c| c as u32));
        indptr.push(indices.len());
    }
    (indptr, indices)
}

pub(super) fn structures(batches: &[usize]) -> Vec<Size> {
    let all = [
        [5, 9, 0],
        [0, 3, 50],
        [1, 43, 70],
        [43, 1, 70],
        [17, 40, 1],
        [18, 21, 30],
        [16, 19, 100],
        [50, 60, STAIRS],
        [90, 11, 70],
    ];
    all.iter().flat_map(|s| batches.iter().map(move |b| [&s[..], &[*b]].concat())).collect()
}

pub(super) fn batches() -> Vec<Size> {
    let mut all = structures(&[0, 1, 17, 33, 64]);
    all.extend([2, 3, 7, 15, 16, 31, 32, 48, 63, 65, 96, 100].map(|b| vec![18, 21, 30, b]));
    // Three panels.
    all.extend([33, 64].map(|b| vec![5, 450, 50, b]));
    all
}

/// From as many columns as a window has; rows whose ends are in the last one.
pub(super) fn near() -> Vec<Size> {
    let all = [[16, 64, 100], [17, 65, 90], [33, 200, 60], [5, 784, 50], [2, 79, 100], [18, 96, HALF]];
    all.iter().map(|s| [&s[..], &[1]].concat()).collect()
}

/// Batches that are just worth packing, because they are large, because there are many rows, or because they are no whole
/// vectors (with AVX-512 only the last); whole tiles and partial ones.
pub(super) fn packed() -> Vec<Size> {
    let sizes: [[usize; 4]; 5] =
        [[16, 7, 100, 257], [40, 33, 50, 300], [64, 20, 100, 80], [12, 5, 100, 256], [70, 40, 90, 96]];
    sizes.iter().map(|s| s.to_vec()).collect()
}
