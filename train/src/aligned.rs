//! Buffers that start at a cache line, so that no vector of sixteen lies across two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A `Vec<f32>` whose first value starts a cache line. What it holds after a change of length is unspecified.
#[derive(Debug, Default)]
pub struct Aligned {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Gives it another length; it never shrinks in memory.
    pub fn resize(&mut self, len: usize) {
        let room = len + LINE / size_of::<f32>();
        if self.storage.len() < room {
            self.storage.resize(room, 0.0);
            // Where no offset can be told (Miri may say so) the buffer is merely not aligned.
            let offset = self.storage.as_ptr().align_offset(LINE);
            self.start = if offset < LINE / size_of::<f32>() { offset } else { 0 };
        }
        self.len = len;
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut copy = Aligned::default();
        copy.resize(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.storage[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_a_line_at_every_length() {
        let mut buffer = Aligned::default();
        for len in [0, 1, 15, 16, 1000, 3, 5000] {
            buffer.resize(len);
            buffer.fill(len as f32);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % LINE), (len, 0));
            let copy = buffer.clone();
            assert_eq!((&*copy, copy.as_ptr() as usize % LINE), (&*buffer, 0));
        }
    }
}
