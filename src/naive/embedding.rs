//! Embedding.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// Rows of the table by id, with a row of `positions` added where there are any.
    embedding_forward, embedding_forward_auto,
    (ids: &[u32], table: &[f32], positions: &[f32], features: usize, y: &mut [f32]) {
        for (i, (&id, y)) in ids.iter().zip(y.chunks_exact_mut(features)).enumerate() {
            let row = &table[id as usize * features..][..features];
            if positions.is_empty() {
                y.copy_from_slice(row);
            } else {
                let added = &positions[i * features % positions.len()..][..features];
                for ((y, x), p) in y.iter_mut().zip(row).zip(added) {
                    *y = x + p;
                }
            }
        }
    }
}

twins! {
    /// The gradient of the table from zeros, position by position.
    embedding_backward, embedding_backward_auto, (ids: &[u32], dy: &[f32], features: usize, dtable: &mut [f32]) {
        dtable.fill(0.0);
        for (&id, dy) in ids.iter().zip(dy.chunks_exact(features)) {
            for (d, dy) in dtable[id as usize * features..][..features].iter_mut().zip(dy) {
                *d += dy;
            }
        }
    }
}
