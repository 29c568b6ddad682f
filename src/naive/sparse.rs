//! A sparse layer in exact online SGD, as a plain program has it.

use super::{Connection, twins};
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// A step of one example on the weights alone, for the first layer of a network; the connections of destination `r` are
    /// `indptr[r]..indptr[r + 1]`.
    sparse_sgd_first, sparse_sgd_first_auto,
    (indptr: &[usize], connections: &mut [Connection], x: &[f32], dy: &[f32], lr: f32) {
        for (dy, ends) in dy.iter().zip(indptr.windows(2)) {
            for c in &mut connections[ends[0]..ends[1]] {
                c.weight -= lr * (x[c.from as usize] * dy);
            }
        }
    }
}

twins! {
    /// The same with the gradient of the inputs, scattered.
    sparse_sgd, sparse_sgd_auto,
    (indptr: &[usize], connections: &mut [Connection], x: &[f32], dy: &[f32], lr: f32, dx: &mut [f32]) {
        dx.fill(0.0);
        for (dy, ends) in dy.iter().zip(indptr.windows(2)) {
            for c in &mut connections[ends[0]..ends[1]] {
                dx[c.from as usize] += c.weight * dy;
                c.weight -= lr * (x[c.from as usize] * dy);
            }
        }
    }
}
