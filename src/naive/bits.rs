//! Zeros and ones as bits.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// Bits to numbers.
    bits_unpack_f32, bits_unpack_f32_auto, (bits: &[u8], out: &mut [f32]) {
        for (eight, byte) in out.chunks_mut(8).zip(bits) {
            for (i, x) in eight.iter_mut().enumerate() {
                *x = f32::from(byte >> i & 1);
            }
        }
    }
}

twins! {
    /// Numbers to bits; `good` becomes 1 if all are +0 or 1, else 0.
    bits_pack_f32, bits_pack_f32_auto, (values: &[f32], bits: &mut [u8], good: &mut [u32]) {
        let mut all = true;
        for (eight, byte) in values.chunks(8).zip(bits) {
            *byte = 0;
            for (i, x) in eight.iter().enumerate() {
                *byte |= u8::from(*x == 1.0) << i;
                all &= x.to_bits() == 0 || *x == 1.0;
            }
        }
        good[0] = u32::from(all);
    }
}
