//! `recip_each` is `1.0 / x`, bit for bit, on each tier: the AVX-512 tier has a way of its own.

use super::*;
use crate::tuning::with_division;

/// Reciprocals of all vectors, `N` at once; a rest of fewer than `N` is left out. The last field is `above`.
struct Reciprocals<'a, const N: usize>(&'a [Chunk], &'a mut [Chunk], bool);

impl<const N: usize> Kernel for Reciprocals<'_, N> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (from, to) = (self.0.as_chunks::<N>().0, self.1.as_chunks_mut::<N>().0);
        for k in 0..from.len() {
            let mut v = [l.splat(0.0); N];
            for i in 0..N {
                v[i] = l.load(&from[k][i]);
            }
            v = l.recip_each(v, self.2);
            for i in 0..N {
                l.store(&mut to[k][i], v[i]);
            }
        }
    }
}

/// How many vectors are taken in one dispatch.
const BLOCK: usize = 256;

/// Checks values handed in one after the other, on every tier, one vector at a time and four.
struct Checker {
    input: Vec<f32>,
    checked: u64,
}

impl Checker {
    fn new() -> Self {
        Checker { input: Vec::with_capacity(BLOCK * LANES), checked: 0 }
    }

    fn push(&mut self, x: f32) {
        self.input.push(x);
        if self.input.len() == BLOCK * LANES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let n = self.input.len();
        // Whole groups of four; what is added is an ordinary value.
        self.input.resize(n.next_multiple_of(4 * LANES), 1.5);
        check(&self.input, false);
        // What may be promised to be above: the rest is replaced by an ordinary value.
        let may = |x: f32| x.is_nan() || x >= f32::from_bits(FAST.start << 23);
        let above: Vec<f32> = self.input.iter().map(|&x| if may(x) { x } else { 1.5 }).collect();
        check(&above, true);
        self.checked += n as u64;
        self.input.clear();
    }

    fn finish(mut self) -> u64 {
        self.flush();
        self.checked
    }
}

fn check(input: &[f32], above: bool) {
    let from = input.as_chunks().0;
    for tier in Tier::available() {
        let (mut one, mut four) = (vec![[0.0; LANES]; from.len()], vec![[0.0; LANES]; from.len()]);
        with_division(false, || {
            with_tier(tier, || {
                dispatch(active(), Reciprocals::<1>(from, &mut one, above));
                dispatch(active(), Reciprocals::<4>(from, &mut four, above));
            })
        })
        .expect("an available tier");
        for ((x, a), b) in input.iter().zip(one.as_flattened()).zip(four.as_flattened()) {
            assert_same(*a, 1.0 / x, (tier, "one at a time", x, above));
            assert_same(*b, 1.0 / x, (tier, "four at a time", x, above));
        }
    }
}

/// The fast way's range, as exponent fields: 2^-63 to just below 2^65.
const FAST: std::ops::Range<u32> = 64..192;

#[test]
fn of_every_mantissa() {
    // All at one exponent: within the fast range another only scales operands, residues and result.
    let stride = if cfg!(miri) {
        100_003
    } else if cfg!(debug_assertions) {
        61
    } else {
        1
    };
    let mut checker = Checker::new();
    for mantissa in (0..1u32 << 23).step_by(stride) {
        checker.push(f32::from_bits(127 << 23 | mantissa));
    }
    assert!(checker.finish() >= (1 << 23) / stride as u64);
}

#[test]
fn at_every_exponent_of_both_signs() {
    let mut rng = Rng::new(5);
    let mut checker = Checker::new();
    for exponent in (0..=255u32).step_by(if cfg!(miri) { 17 } else { 1 }) {
        // Runs of one exponent, so that a whole group of vectors is inside the range, or out of it.
        for i in 0..cases(20_000).max(4 * LANES) as u32 {
            let mantissa = match i {
                0..8 => i,
                8..16 => 0x7F_FFFF - (i - 8),
                _ => rng.u64() as u32 & 0x7F_FFFF,
            };
            checker.push(f32::from_bits((i & 1) << 31 | exponent << 23 | mantissa));
        }
    }
    checker.finish();
}

#[test]
fn at_the_ends_of_the_fast_range() {
    // The last is the end where all are promised to be above its start.
    let ends = [FAST.start << 23, FAST.end << 23, 252 << 23];
    assert_eq!(
        ends.map(f32::from_bits),
        [1.0 / (1u64 << 63) as f32, (1u128 << 65) as f32, (1u128 << 125) as f32]
    );
    for end in ends {
        let around = if cfg!(miri) { 1 } else { 40 };
        for bits in end - around..end + around {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                // Alone in a group of four, among values in the middle of the range, and filling it.
                for at in 0..4 * LANES {
                    let mut group = [1.25; 4 * LANES];
                    group[at] = x;
                    check_group(&group);
                    if cfg!(debug_assertions) && at > 4 {
                        break;
                    }
                }
                check_group(&[x; 4 * LANES]);
            }
        }
    }
}

#[test]
fn of_special_values_in_each_lane() {
    for x in specials().into_iter().step_by(if cfg!(miri) { 5 } else { 1 }) {
        for at in (0..4 * LANES).step_by(if cfg!(miri) { 21 } else { 1 }) {
            let mut group: [f32; 4 * LANES] = std::array::from_fn(|i| 0.7 + i as f32);
            group[at] = x;
            check_group(&group);
        }
    }
}

fn check_group(group: &[f32; 4 * LANES]) {
    let mut checker = Checker::new();
    for &x in group {
        checker.push(x);
    }
    checker.finish();
}

/// All 2^32 of them: minutes in a release build.
#[test]
#[ignore = "long: cargo test --release --lib recip -- --ignored"]
fn of_every_f32() {
    let mut checker = Checker::new();
    for bits in 0..=u32::MAX {
        checker.push(f32::from_bits(bits));
    }
    assert_eq!(checker.finish(), 1 << 32);
}

#[cfg(hotlanes_avx512)]
#[test]
fn division_is_used_where_it_is_asked_for() {
    if !Tier::Avx512.is_available() {
        return eprintln!("NOT run here: this CPU lacks avx512");
    }
    for division in [true, false] {
        let divides = || active().divides();
        let inside = with_division(division, || with_tier(Tier::Avx512, divides)).unwrap();
        let outside = with_tier(Tier::Avx512, || with_division(division, divides)).unwrap();
        assert_eq!((inside, outside), (division, division));
    }
    assert_eq!(with_tier(Tier::Avx512, || active().divides()), Ok(crate::tuning::prefer_division()));
}
