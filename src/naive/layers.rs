//! Dropout and embedding.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

/// Threefry-2x32 with 20 rounds, as the paper has it.
#[inline(always)]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let key = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(key[0]), counter[1].wrapping_add(key[1])];
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        x[0] = x[0].wrapping_add(key[(group + 1) % 3]);
        x[1] = x[1].wrapping_add(key[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    x
}

twins! {
    /// Dropout from offset 0 over whole blocks of 32 elements: one is kept where the upper 31 bits of its word are below
    /// `keep`.
    dropout, dropout_auto, (x: &[f32], keep: u32, scale: f32, seed: u64, y: &mut [f32]) {
        let key = [seed as u32, (seed >> 32) as u32];
        for (block, (x, y)) in x.chunks_exact(32).zip(y.chunks_exact_mut(32)).enumerate() {
            for lane in 0..16 {
                let counter = block as u64 * 16 + lane as u64;
                let words = threefry2x32(key, [counter as u32, (counter >> 32) as u32]);
                for word in 0..2 {
                    let i = 16 * word + lane;
                    y[i] = if words[word] >> 1 < keep { x[i] * scale } else { 0.0 };
                }
            }
        }
    }
}

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
