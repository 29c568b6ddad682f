//! The loops.

use crate::lanes::{Kernel, LANES, Lanes};

/// Bytes of a vector's bits.
const BYTES: usize = LANES / 8;

/// Up to sixteen bits, zeros above.
#[inline(always)]
fn last(bits: &[u8]) -> u16 {
    bits.iter().rev().fold(0, |all, &byte| all << 8 | u16::from(byte))
}

/// Bits to numbers.
pub(super) struct UnpackF32<'a> {
    pub(super) bits: &'a [u8],
    pub(super) out: &'a mut [f32],
}

impl Kernel for UnpackF32<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (one, zero) = (l.splat(1.0), l.splat(0.0));
        let (out, out_rest) = self.out.as_chunks_mut::<LANES>();
        let n = out.len();
        let (bits, bits_rest) = self.bits.split_at(BYTES * n);
        let bits = &bits.as_chunks::<BYTES>().0[..n];
        for i in 0..n {
            l.store(&mut out[i], l.select(l.mask_of(u16::from_le_bytes(bits[i])), one, zero));
        }
        if !out_rest.is_empty() {
            l.store_part(out_rest, l.select(l.mask_of(last(bits_rest)), one, zero));
        }
    }
}

/// Numbers to bits.
pub(super) struct Pack<'a> {
    pub(super) values: &'a [f32],
    pub(super) bits: &'a mut [u8],
}

/// Where `x` is 1; the bits of the other lanes are added to `others`.
#[inline(always)]
fn ones<L: Lanes>(l: L, x: L::F, others: &mut L::I) -> [u8; BYTES] {
    let is_one = l.eq(x, l.splat(1.0));
    *others = l.or(*others, l.to_bits(l.select(is_one, l.splat(0.0), x)));
    l.bits_of(is_one).to_le_bytes()
}

impl Kernel for Pack<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> bool {
        let (values, values_rest) = self.values.as_chunks::<LANES>();
        let n = values.len();
        let (bits, bits_rest) = self.bits.split_at_mut(BYTES * n);
        let bits = &mut bits.as_chunks_mut::<BYTES>().0[..n];
        let mut others = l.splat_u32(0);
        for i in 0..n {
            bits[i] = ones(l, l.load(&values[i]), &mut others);
        }
        if !values_rest.is_empty() {
            let last = ones(l, l.load_part(values_rest, l.splat(0.0)), &mut others);
            bits_rest.copy_from_slice(&last[..bits_rest.len()]);
        }
        let mut all = [0.0; LANES];
        l.store(&mut all, l.from_bits(others));
        all.iter().fold(0, |all, x| all | x.to_bits()) == 0
    }
}
