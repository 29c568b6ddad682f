//! Threefry on the lanes, and the loop over blocks of 32 elements: two vectors, one for each of its words.

use crate::lanes::{Chunk, Kernel, LANES, Lanes, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Elements that one call of the generator decides over.
const BLOCK: usize = 2 * LANES;

/// Some elements.
pub(super) struct Apply<'a> {
    pub(super) active: Active,
    pub(super) seed: u64,
    pub(super) keep: u32,
    pub(super) scale: f32,
    /// The first element's number.
    pub(super) offset: u64,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Work for Apply<'_> {
    fn size(&self) -> usize {
        self.x.len()
    }

    fn split(self) -> Result<(Self, Self), Self> {
        // Where a block starts, so that it is computed once; the bits would be the same anywhere.
        let half = self.x.len() / 2;
        let middle = half.saturating_sub(((self.offset + half as u64) % BLOCK as u64) as usize);
        if middle == 0 {
            return Err(self);
        }
        let (x0, x1) = self.x.split_at(middle);
        let (y0, y1) = self.y.split_at_mut(middle);
        let offset = self.offset + middle as u64;
        Ok((Apply { x: x0, y: y0, ..self }, Apply { x: x1, y: y1, offset, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let c = Constants::new(l, self.seed, self.keep, self.scale);
        let Apply { offset, x, y, .. } = self;
        let mut block = offset / BLOCK as u64;
        let skip = (offset % BLOCK as u64) as usize;
        let head = if skip == 0 { 0 } else { (BLOCK - skip).min(x.len()) };
        let ((first, x), (first_y, y)) = (x.split_at(head), y.split_at_mut(head));
        if !first.is_empty() {
            part(l, &c, block, skip, first, first_y);
            block += 1;
        }
        let (x, x_rest) = x.as_chunks::<BLOCK>();
        let (y, y_rest) = y.as_chunks_mut::<BLOCK>();
        let n = x.len();
        let y = &mut y[..n];
        for i in 0..n {
            let ((x, _), (y, _)) = (x[i].as_chunks::<LANES>(), y[i].as_chunks_mut::<LANES>());
            let (even, odd) = c.masks(l, block + i as u64);
            l.store(&mut y[0], c.kept(l, l.load(&x[0]), even));
            l.store(&mut y[1], c.kept(l, l.load(&x[1]), odd));
        }
        if !x_rest.is_empty() {
            part(l, &c, block + n as u64, 0, x_rest, y_rest);
        }
    }
}

/// Some elements of one block, from its element `skip` on: through a buffer of masks, with room for a load beyond the last.
#[inline(always)]
fn part<L: Lanes>(l: L, c: &Constants<L>, block: u64, skip: usize, x: &[f32], y: &mut [f32]) {
    let mut masks: [Chunk; 3] = [[0.0; LANES]; 3];
    let (even, odd) = c.masks(l, block);
    l.store(&mut masks[0], l.from_bits(even));
    l.store(&mut masks[1], l.from_bits(odd));
    let mut i = 0;
    while i < x.len() {
        let end = x.len().min(i + LANES);
        let (mask, _) = masks.as_flattened()[skip + i..].as_chunks::<LANES>();
        let x = l.load_part(&x[i..end], l.splat(0.0));
        l.store_part(&mut y[i..end], c.kept(l, x, l.to_bits(l.load(&mask[0]))));
        i = end;
    }
}

/// 0 to 15, as bits.
static LANE: Chunk = {
    let mut lane = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        lane[i] = f32::from_bits(i as u32);
        i += 1;
    }
    lane
};

/// What all blocks have in common, in all lanes.
#[derive(Clone, Copy)]
struct Constants<L: Lanes> {
    keys: Keys<L>,
    lane: L::I,
    keep: L::I,
    scale: L::F,
}

impl<L: Lanes> Constants<L> {
    #[inline(always)]
    fn new(l: L, seed: u64, keep: u32, scale: f32) -> Self {
        Constants {
            keys: Keys::new(l, [seed as u32, (seed >> 32) as u32]),
            lane: l.to_bits(l.load(&LANE)),
            keep: l.splat_u32(keep),
            scale: l.splat(scale),
        }
    }

    /// All ones for the kept elements of a block: the first sixteen, and the others.
    #[inline(always)]
    fn masks(&self, l: L, block: u64) -> (L::I, L::I) {
        // The lanes' numbers carry into nothing: the counter of the first is a multiple of sixteen.
        let counter = block * LANES as u64;
        let low = l.add_u32(l.splat_u32(counter as u32), self.lane);
        let high = l.splat_u32((counter >> 32) as u32);
        let (a, b) = self.keys.threefry(l, low, high);
        (self.mask(l, a), self.mask(l, b))
    }

    /// Both numbers are at most 2^31, so the difference's sign says which is larger.
    #[inline(always)]
    fn mask(&self, l: L, word: L::I) -> L::I {
        l.sar(l.sub_u32(l.shr(word, 1), self.keep), 31)
    }

    #[inline(always)]
    fn kept(&self, l: L, x: L::F, mask: L::I) -> L::F {
        l.from_bits(l.and(l.to_bits(l.mul(x, self.scale)), mask))
    }
}

/// What is added to the two words before the rounds, and after each four of them.
#[derive(Clone, Copy)]
struct Keys<L: Lanes> {
    /// The key and its parity.
    key: [L::I; 3],
    /// The parts of the key that go to the second word, with the number of their group of rounds.
    counted: [L::I; 5],
}

impl<L: Lanes> Keys<L> {
    #[inline(always)]
    fn new(l: L, key: [u32; 2]) -> Self {
        let [k0, k1] = key;
        let k2 = 0x1BD1_1BDA ^ k0 ^ k1;
        Keys {
            key: [l.splat_u32(k0), l.splat_u32(k1), l.splat_u32(k2)],
            counted: [
                l.splat_u32(k2.wrapping_add(1)),
                l.splat_u32(k0.wrapping_add(2)),
                l.splat_u32(k1.wrapping_add(3)),
                l.splat_u32(k2.wrapping_add(4)),
                l.splat_u32(k0.wrapping_add(5)),
            ],
        }
    }

    /// Threefry-2x32 with 20 rounds, of sixteen counters: their lower and their upper words.
    #[inline(always)]
    fn threefry(&self, l: L, low: L::I, high: L::I) -> (L::I, L::I) {
        let [k0, k1, k2] = self.key;
        let [c0, c1, c2, c3, c4] = self.counted;
        let x = (l.add_u32(low, k0), l.add_u32(high, k1));
        let x = inject(l, rounds_even(l, x), k1, c0);
        let x = inject(l, rounds_odd(l, x), k2, c1);
        let x = inject(l, rounds_even(l, x), k0, c2);
        let x = inject(l, rounds_odd(l, x), k1, c3);
        inject(l, rounds_even(l, x), k2, c4)
    }
}

#[inline(always)]
fn inject<L: Lanes>(l: L, (a, b): (L::I, L::I), to_a: L::I, to_b: L::I) -> (L::I, L::I) {
    (l.add_u32(a, to_a), l.add_u32(b, to_b))
}

#[inline(always)]
fn rounds_even<L: Lanes>(l: L, x: (L::I, L::I)) -> (L::I, L::I) {
    round(l, round(l, round(l, round(l, x, 13), 15), 26), 6)
}

#[inline(always)]
fn rounds_odd<L: Lanes>(l: L, x: (L::I, L::I)) -> (L::I, L::I) {
    round(l, round(l, round(l, round(l, x, 17), 29), 16), 24)
}

#[inline(always)]
fn round<L: Lanes>(l: L, (a, b): (L::I, L::I), rotation: u32) -> (L::I, L::I) {
    let a = l.add_u32(a, b);
    (a, l.xor(l.rotl(b, rotation), a))
}

#[cfg(test)]
mod tests;
