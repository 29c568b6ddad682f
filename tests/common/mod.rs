//! What the nets share: inputs that are the same everywhere, hashes, tiers, guard zones, distances.

// Each test crate uses a part of it.
#![allow(dead_code, unused_imports)]

mod rng;

use hotlanes::{LANES, Tier, with_tier};
pub use hotlanes_cases::memory::SPECIALS;
pub use rng::Rng;

/// The bits, with every NaN as one: payloads are not promised.
pub fn canonical(x: f32) -> u32 {
    if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() }
}

/// 64-bit FNV-1a over the canonical bits of slices, in order, each with its length.
pub struct Hash(u64);

impl Hash {
    pub fn new() -> Self {
        Hash(0xCBF2_9CE4_8422_2325)
    }

    fn byte(&mut self, b: u8) {
        self.0 = (self.0 ^ b as u64).wrapping_mul(0x0000_0100_0000_01B3);
    }

    pub fn add(&mut self, values: &[f32]) -> &mut Self {
        for b in (values.len() as u64).to_le_bytes() {
            self.byte(b);
        }
        for &x in values {
            for b in canonical(x).to_le_bytes() {
                self.byte(b);
            }
        }
        self
    }

    pub fn get(&self) -> u64 {
        self.0
    }
}

/// Runs `f` once on each tier that this process can use. `tests/tiers.rs` sees to it that none is missing.
pub fn for_each_tier(mut f: impl FnMut(Tier)) {
    for tier in Tier::available() {
        with_tier(tier, || f(tier)).expect("an available tier");
    }
}

/// Fails with the first element that differs in its canonical bits.
#[track_caller]
pub fn assert_same(got: &[f32], want: &[f32], what: impl std::fmt::Display) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(
            canonical(g) == canonical(w),
            "{what}: element {i} of {} is {g:e} ({:#010x}), not {w:e} ({:#010x})",
            got.len(),
            g.to_bits(),
            w.to_bits()
        );
    }
}

/// The offsets from a cache line that a net tries: Miri takes the ends, since it sees every access by itself and is slow.
pub fn offsets() -> impl Iterator<Item = usize> + Clone {
    (0..=LANES).step_by(if cfg!(miri) { LANES } else { 1 })
}

/// Distance in units in the last place; zeros are equal, two NaNs are, one is infinitely far.
pub fn ulps(a: f32, b: f32) -> u64 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() && b.is_nan() { 0 } else { u64::MAX };
    }
    // The bits of either sign as one line of integers that runs through zero.
    let line = |x: f32| {
        let magnitude = (x.to_bits() & 0x7FFF_FFFF) as i64;
        if x.is_sign_negative() { -magnitude } else { magnitude }
    };
    line(a).abs_diff(line(b))
}

/// A slice inside a larger buffer of NaNs, `offset` elements past a cache line's start: a kernel that reads past the
/// slice poisons its result, one that writes past it is found by [`Guarded::assert_guards`].
pub struct Guarded {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Guarded {
    /// Two vectors of guard on each side, so that a whole vector too far stays inside.
    const GUARD: usize = 2 * LANES;
    /// A quiet NaN that no arithmetic makes.
    const NAN: u32 = 0x7FC5_A5A5;

    pub fn new(offset: usize, values: &[f32]) -> Self {
        let n = values.len();
        let mut buffer = vec![f32::from_bits(Self::NAN); LANES + Self::GUARD + offset + n + Self::GUARD];
        let aligned = (buffer.as_ptr() as usize).next_multiple_of(64) - buffer.as_ptr() as usize;
        let start = aligned / size_of::<f32>() + Self::GUARD + offset;
        buffer[start..start + n].copy_from_slice(values);
        Guarded { buffer, start, len: n }
    }

    pub fn get(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    #[track_caller]
    pub fn assert_guards(&self, what: impl std::fmt::Display) {
        for (i, x) in self.buffer.iter().enumerate() {
            let inside = (self.start..self.start + self.len).contains(&i);
            let at = i as isize - self.start as isize;
            assert!(
                inside || x.to_bits() == Self::NAN,
                "{what}: wrote {x:e} at {at} of a slice of {}",
                self.len
            );
        }
    }
}

/// Runs `f` and returns the message that it panics with.
#[track_caller]
pub fn panic_message(f: impl FnOnce()) -> String {
    let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("it should panic");
    match payload.downcast::<String>() {
        Ok(s) => *s,
        Err(other) => other.downcast::<&str>().expect("a message").to_string(),
    }
}
