//! Hashes: FNV tells data and states apart by mistake, SHA-256 also against intent.

use sha2::{Digest as _, Sha256};

/// The hash of nothing (64-bit FNV-1a).
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues with one number.
pub fn add(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3)
}

/// The hash of bytes.
pub fn bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(START, |hash, &byte| add(hash, byte.into()))
}

/// A value's bits, in which all NaNs are one: their sign and payload differ between CPUs.
pub fn bits(value: f32) -> u32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() }
}

/// Continues with words.
pub fn words(hash: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    // A bit that only moves up through products would never reach the low half: fold it down.
    words.into_iter().fold(hash, |hash, word| {
        let next = add(hash, word);
        next ^ next >> 32
    })
}

/// Continues with the bits of numbers.
pub fn floats(hash: u64, values: &[f32]) -> u64 {
    words(hash, values.iter().map(|&v| bits(v).into()))
}

/// SHA-256 of parts, each with its length, so that no byte can move from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Sha(Sha256);

impl Sha {
    /// Adds a part.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The hash in hexadecimal.
    pub fn hex(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_and_sees_every_bit() {
        assert_eq!(bytes(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(bytes(b"foobar"), 0x8594_4171_f739_67e8);
        let base = floats(START, &[1.0, 2.0]);
        for bit in 0..32 {
            let flipped = f32::from_bits(1.0_f32.to_bits() ^ 1 << bit);
            assert_ne!(floats(START, &[flipped, 2.0]), base);
            assert_ne!(floats(START, &[flipped, 2.0]) as u32, base as u32, "the low half too");
        }
        assert_ne!(floats(START, &[2.0, 1.0]), base);
        assert_ne!(floats(START, &[0.0]), floats(START, &[-0.0]));
        let payload = f32::from_bits(0xffc0_1234);
        assert_eq!(floats(START, &[f32::NAN, -f32::NAN]), floats(START, &[payload, f32::NAN]));
        assert_ne!(floats(START, &[f32::NAN]), floats(START, &[f32::INFINITY]));
    }

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: &[&str]| parts.iter().fold(Sha::default(), |sha, p| sha.part(p.as_bytes())).hex();
        // sha256sum of eight zero bytes.
        assert_eq!(of(&[""]), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
