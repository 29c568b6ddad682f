//! The loop.

use crate::lanes::{Chunk, Kernel, LANES, Lanes};

/// Vectors that are looked at together: most have nothing.
const TOGETHER: usize = 4;

/// Values that are not +0.
pub(super) struct Find<'a> {
    pub(super) values: &'a [f32],
    pub(super) indices: &'a mut [u16],
    pub(super) found: &'a mut [f32],
}

/// A bit for each lane that has any: of integers, as -0 equals 0.
#[inline(always)]
fn not_zero<L: Lanes>(l: L, bits: L::I) -> u16 {
    !l.bits_of(l.eq(l.i32_to_f32(bits), l.splat(0.0)))
}

/// Appends the values whose bits are set. `at` is the index of the first.
#[inline(always)]
fn append(
    lanes: &Chunk,
    mut bits: u16,
    at: usize,
    indices: &mut [u16],
    found: &mut [f32],
    count: &mut usize,
) {
    while bits != 0 {
        let lane = bits.trailing_zeros() as usize % LANES;
        if *count < indices.len() {
            indices[*count] = (at + lane) as u16;
            found[*count] = lanes[lane];
        }
        *count += 1;
        bits &= bits - 1;
    }
}

impl Kernel for Find<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> usize {
        let Find { values, indices, found } = self;
        let found = &mut found[..indices.len()];
        let mut count = 0;
        let (vectors, rest) = values.as_chunks::<LANES>();
        let (groups, vectors) = vectors.as_chunks::<TOGETHER>();
        for i in 0..groups.len() {
            let group = &groups[i];
            let mut v = [l.splat_u32(0); TOGETHER];
            for j in 0..TOGETHER {
                v[j] = l.to_bits(l.load(&group[j]));
            }
            if not_zero(l, l.or(l.or(v[0], v[1]), l.or(v[2], v[3]))) != 0 {
                for j in 0..TOGETHER {
                    let at = (i * TOGETHER + j) * LANES;
                    append(&group[j], not_zero(l, v[j]), at, indices, found, &mut count);
                }
            }
        }
        let at = groups.len() * TOGETHER * LANES;
        for i in 0..vectors.len() {
            let bits = not_zero(l, l.to_bits(l.load(&vectors[i])));
            append(&vectors[i], bits, at + i * LANES, indices, found, &mut count);
        }
        if !rest.is_empty() {
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            let bits = not_zero(l, l.to_bits(l.load(&last)));
            append(&last, bits, values.len() - rest.len(), indices, found, &mut count);
        }
        count
    }
}
