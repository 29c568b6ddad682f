//! bf16: what is loaded is exact, what is stored is the nearest, ties to even.

use super::*;
use crate::lanes::{BF16_NAN, Half};

struct Round<'a>(&'a Chunk, usize);

impl Kernel for Round<'_> {
    type Output = (Half, Half);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (Half, Half) {
        let (mut whole, mut part) = ([7; LANES], [7; LANES]);
        l.store_bf16(&mut whole, l.load(self.0));
        l.store_bf16_part(&mut part[..self.1], l.load(self.0));
        (whole, part)
    }
}

/// By distance: of the two neighbours the nearer, or the even one.
fn nearest(x: f32) -> u16 {
    if x.is_nan() {
        return BF16_NAN;
    }
    let low = (x.to_bits() >> 16) as u16;
    let (below, above) = (widen(low) as f64, widen(low + 1) as f64);
    // The infinity beyond the largest finite one counts as the next power of two.
    let above = if above.is_infinite() { power_of_two(128).copysign(above) } else { above };
    let (down, up) = ((x as f64 - below).abs(), (above - x as f64).abs());
    if x.is_infinite() || down < up || down == up && low.is_multiple_of(2) { low } else { low + 1 }
}

fn widen(half: u16) -> f32 {
    f32::from_bits((half as u32) << 16)
}

#[test]
fn stores_round_to_the_nearest_even() {
    let mut rng = Rng::new(7);
    let special = specials();
    for case in 0..cases(100_000) {
        let mut v = [0.0; LANES];
        for x in &mut v {
            *x = match case % 4 {
                0 => special[rng.below(special.len())],
                // Exactly between two, or next to it.
                1 => f32::from_bits((rng.any().to_bits() & 0xFFFF_0000) + 0x7FFF + rng.below(3) as u32),
                _ => rng.any(),
            };
        }
        let n = case % 17;
        on_each_tier(
            || Round(&v, n),
            |tier, (whole, part)| {
                for i in 0..LANES {
                    assert_eq!(whole[i], nearest(v[i]), "{tier}: {:e} ({:#x})", v[i], v[i].to_bits());
                    assert_eq!(part[i], if i < n { whole[i] } else { 7 }, "{tier}: lane {i} of {n}");
                }
            },
        );
    }
}

struct Widen<'a>(&'a Half, usize);

impl Kernel for Widen<'_> {
    type Output = (Chunk, Chunk);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (Chunk, Chunk) {
        let (mut whole, mut part) = ([0.0; LANES], [0.0; LANES]);
        l.store(&mut whole, l.load_bf16(self.0));
        l.store(&mut part, l.load_bf16_part(&self.0[..self.1]));
        (whole, part)
    }
}

#[test]
fn loads_are_exact() {
    let step = if cfg!(miri) { 64 } else { 1 };
    for start in (0..=u16::MAX).step_by(LANES).step_by(step) {
        let half: Half = std::array::from_fn(|i| start + i as u16);
        let n = start as usize / LANES % 17;
        on_each_tier(
            || Widen(&half, n),
            |tier, (whole, part)| {
                for i in 0..LANES {
                    assert_same(whole[i], widen(half[i]), (tier, half[i]));
                    assert_same(part[i], if i < n { widen(half[i]) } else { 0.0 }, (tier, i, n));
                }
            },
        );
    }
}

struct Words<'a>(&'a [u32; LANES], &'a Half);

impl Kernel for Words<'_> {
    type Output = (Half, Chunk);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (Half, Chunk) {
        let (mut half, mut wide) = ([7; LANES], self.0.map(f32::from_bits));
        l.store_u16(&mut half, l.to_bits(l.load(&wide)));
        l.store(&mut wide, l.from_bits(l.load_u16(self.1)));
        (half, wide)
    }
}

#[test]
fn sixteen_bits_are_stored_and_loaded_as_they_are() {
    let mut rng = Rng::new(8);
    for _ in 0..cases(10_000) {
        let words: [u32; LANES] = std::array::from_fn(|_| rng.any().to_bits());
        let half: Half = std::array::from_fn(|_| rng.any().to_bits() as u16);
        on_each_tier(
            || Words(&words, &half),
            |tier, (low, wide)| {
                assert_eq!(low, words.map(|w| w as u16), "{tier}");
                assert_eq!(wide.map(f32::to_bits), half.map(u32::from), "{tier}");
            },
        );
    }
}
