//! The loops of the conversions, and the cut of an f32 in two on the lanes.

use crate::lanes::{Half, Kernel, LANES, Lanes};

/// The bf16 nearest to each lane, ties away from zero, and the lower halves of the lanes.
#[inline(always)]
pub(crate) fn split_of<L: Lanes>(l: L, x: L::F, high: &mut Half, low: &mut Half) {
    // Others could be rounded to infinity, or past the sign to zero.
    let x = l.select(l.eq(x, x), x, l.splat(f32::from_bits(0x7FC0_0000)));
    let bits = l.to_bits(x);
    l.store_u16(high, l.shr(l.add_u32(bits, l.splat_u32(0x8000)), 16));
    l.store_u16(low, bits);
}

/// What [`split_of`] cut.
#[inline(always)]
pub(crate) fn joined<L: Lanes>(l: L, high: &Half, low: &Half) -> L::F {
    // The lower half as a signed number: where it is negative, the upper one was rounded up.
    let low = l.sar(l.shl(l.load_u16(low), 16), 16);
    l.from_bits(l.add_u32(l.shl(l.load_u16(high), 16), low))
}

/// Rounding to bf16.
pub(super) struct Narrow<'a> {
    pub(super) src: &'a [f32],
    pub(super) dst: &'a mut [u16],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (src, src_rest) = self.src.as_chunks::<LANES>();
        let (dst, dst_rest) = self.dst.as_chunks_mut::<LANES>();
        let n = src.len();
        let dst = &mut dst[..n];
        for i in 0..n {
            l.store_bf16(&mut dst[i], l.load(&src[i]));
        }
        if !src_rest.is_empty() {
            l.store_bf16_part(dst_rest, l.load_part(src_rest, l.splat(0.0)));
        }
    }
}

/// The way back.
pub(super) struct Widen<'a> {
    pub(super) src: &'a [u16],
    pub(super) dst: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (src, src_rest) = self.src.as_chunks::<LANES>();
        let (dst, dst_rest) = self.dst.as_chunks_mut::<LANES>();
        let n = src.len();
        let dst = &mut dst[..n];
        for i in 0..n {
            l.store(&mut dst[i], l.load_bf16(&src[i]));
        }
        if !src_rest.is_empty() {
            l.store_part(dst_rest, l.load_bf16_part(src_rest));
        }
    }
}

/// The cut.
pub(super) struct Split<'a> {
    pub(super) src: &'a [f32],
    pub(super) high: &'a mut [u16],
    pub(super) low: &'a mut [u16],
}

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (src, src_rest) = self.src.as_chunks::<LANES>();
        let (high, high_rest) = self.high.as_chunks_mut::<LANES>();
        let (low, low_rest) = self.low.as_chunks_mut::<LANES>();
        let n = src.len();
        let (high, low) = (&mut high[..n], &mut low[..n]);
        for i in 0..n {
            split_of(l, l.load(&src[i]), &mut high[i], &mut low[i]);
        }
        if !src_rest.is_empty() {
            let (mut h, mut w) = ([0; LANES], [0; LANES]);
            split_of(l, l.load_part(src_rest, l.splat(0.0)), &mut h, &mut w);
            high_rest.copy_from_slice(&h[..src_rest.len()]);
            low_rest.copy_from_slice(&w[..src_rest.len()]);
        }
    }
}

/// And its inverse.
pub(super) struct Join<'a> {
    pub(super) high: &'a [u16],
    pub(super) low: &'a [u16],
    pub(super) dst: &'a mut [f32],
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (high, high_rest) = self.high.as_chunks::<LANES>();
        let (low, low_rest) = self.low.as_chunks::<LANES>();
        let (dst, dst_rest) = self.dst.as_chunks_mut::<LANES>();
        let n = dst.len();
        let (high, low) = (&high[..n], &low[..n]);
        for i in 0..n {
            l.store(&mut dst[i], joined(l, &high[i], &low[i]));
        }
        if !dst_rest.is_empty() {
            let (mut h, mut w) = ([0; LANES], [0; LANES]);
            h[..dst_rest.len()].copy_from_slice(high_rest);
            w[..dst_rest.len()].copy_from_slice(low_rest);
            l.store_part(dst_rest, joined(l, &h, &w));
        }
    }
}
