//! Memory to measure on: aligned to a cache line, and filled the same way each time.

use std::ops::{Deref, DerefMut};

/// Bytes in a cache line, to whose boundary each buffer is aligned: otherwise a figure would depend on where the
/// allocator happened to put the data.
const LINE: usize = 64;

/// A slice of `f32` that begins on a cache line.
pub struct Buffer {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let spare = LINE / size_of::<f32>();
        let memory = vec![0.0f32; len + spare];
        let start = memory.as_ptr().align_offset(LINE).min(spare);
        Buffer { memory, start, len }
    }

    /// `len` values from [`fill`].
    pub fn random(len: usize, seed: u32) -> Self {
        let mut buffer = Buffer::zeros(len);
        fill(&mut buffer, seed);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// Mixes the bits of `i` (Wellons' `lowbias32`), so that nearby numbers give unrelated ones.
pub fn mix(mut i: u32) -> u32 {
    i ^= i >> 16;
    i = i.wrapping_mul(0x7feb_352d);
    i ^= i >> 15;
    i = i.wrapping_mul(0x846c_a68b);
    i ^ (i >> 16)
}

/// Fills with values spread evenly over [-1, 1), the same for the same seed.
pub fn fill(values: &mut [f32], seed: u32) {
    let seed = mix(seed);
    for (i, v) in values.iter_mut().enumerate() {
        *v = (mix(seed.wrapping_add(i as u32)) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
}
