//! Sparse matrices as the nets need them: random structures, with an exact number of connections where asked.

// Each test crate uses a part of it.
#![allow(dead_code)]

use hotlanes::Index;
use hotlanes::sparse::Csr;

use crate::common::Rng;

/// `n` of the columns below `cols`, ascending; each choice is as likely.
fn choose(rng: &mut Rng, n: usize, cols: usize) -> Vec<usize> {
    let mut left = n;
    let mut chosen = vec![];
    for c in 0..cols {
        if rng.below(cols - c) < left {
            chosen.push(c);
            left -= 1;
        }
    }
    chosen
}

/// A matrix with these numbers of connections in its rows, weights around 1.
pub fn with_rows<I: Index>(rng: &mut Rng, cols: usize, counts: &[usize]) -> Csr<I> {
    let (mut indptr, mut indices) = (vec![0], vec![]);
    for &n in counts {
        indices.extend(choose(rng, n, cols).into_iter().map(I::from_usize));
        indptr.push(indices.len());
    }
    let values = rng.vec(indices.len(), |rng| rng.spread(-4, 2));
    Csr::new(counts.len(), cols, indptr, indices, values).unwrap()
}

/// A matrix of exactly `nnz` connections, about as many in each row.
pub fn with_nnz<I: Index>(rng: &mut Rng, rows: usize, cols: usize, nnz: usize) -> Csr<I> {
    let counts: Vec<usize> = (0..rows).map(|r| nnz / rows + (r < nnz % rows) as usize).collect();
    with_rows(rng, cols, &counts)
}

/// A matrix of about this density. Between 0 and 1 it also has an empty and a full row and an empty column, if it has
/// room for them.
pub fn with_density<I: Index>(rng: &mut Rng, rows: usize, cols: usize, density: f32) -> Csr<I> {
    let mixed = density > 0.0 && density < 1.0 && rows > 3 && cols > 3;
    let (mut indptr, mut indices) = (vec![0], vec![]);
    for r in 0..rows {
        for c in 0..cols {
            let connected = match (mixed, r, c) {
                (true, 1, _) => false,
                (true, _, 2) => false,
                (true, 2, _) => true,
                _ => rng.unit() < density,
            };
            if connected {
                indices.push(I::from_usize(c));
            }
        }
        indptr.push(indices.len());
    }
    let values = rng.vec(indices.len(), |rng| rng.spread(-4, 2));
    Csr::new(rows, cols, indptr, indices, values).unwrap()
}
