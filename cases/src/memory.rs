//! Memory whose place and values the driver chooses: aligned, as a `Vec` lies, off a cache line, or between guard
//! zones.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use hotlanes::LANES;

/// Bytes in a cache line, and in a page.
const LINE: usize = 64;
const PAGE: usize = 4096;
/// Elements of guard on each side: a whole vector too far stays inside.
const GUARD: usize = 2 * LANES;

/// Where buffers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As an `AlignedVec`: at the start of a cache line, from 16 KB on at a quarter of a page, each buffer of a case at the next.
    Aligned,
    /// Where the allocator puts a `Vec`.
    Plain,
    /// This many elements past the start of a cache line.
    Offset(usize),
    /// Between guard zones of NaN, each buffer of a case at an offset of its own that follows from this one. A read
    /// past the end poisons a result; a write is found when the buffer is dropped.
    Guarded(usize),
}

/// Which values inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Uniform in [-1, 1).
    Ordinary,
    /// Finite: runs of all magnitudes, constants, subnormals, values far from zero.
    Wild,
    /// Ordinary ones with zeros, subnormals, huge values, infinities and NaN among them.
    Special,
}

impl Values {
    /// All of them.
    pub const ALL: [Values; 3] = [Values::Ordinary, Values::Wild, Values::Special];
}

/// Values that take a kernel off its usual path.
pub const SPECIALS: [f32; 14] = [
    0.0,
    -0.0,
    f32::from_bits(1),
    f32::from_bits(0x007F_FFFF),
    f32::MIN_POSITIVE,
    1e-30,
    -1e-20,
    1.0,
    -3e20,
    1e30,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Makes buffers.
pub struct Memory {
    place: Place,
    values: Values,
    name: Rc<str>,
    made: Cell<usize>,
}

impl Memory {
    /// Buffers at `place` with `values`.
    pub fn new(place: Place, values: Values) -> Self {
        Memory { place, values, name: Rc::from(""), made: Cell::new(0) }
    }

    /// Aligned buffers with ordinary values.
    pub fn aligned() -> Self {
        Memory::new(Place::Aligned, Values::Ordinary)
    }

    /// Plain vectors with ordinary values.
    pub fn plain() -> Self {
        Memory::new(Place::Plain, Values::Ordinary)
    }

    /// The same kind of memory, whose faults name its user.
    pub fn named(&self, name: String) -> Memory {
        let name = if self.name.is_empty() { name } else { format!("{name} {}", self.name) };
        Memory { place: self.place, values: self.values, name: name.into(), made: Cell::new(0) }
    }

    /// The values of inputs.
    pub fn values(&self) -> Values {
        self.values
    }

    /// `n` values of the driver's choice, the same for the same `seed`; value `i` does not depend on `n`.
    pub fn input(&self, n: usize, seed: u32) -> Buf {
        self.make(n, Fill::Input(seed, self.values))
    }

    /// Their absolute values: second moments, variances.
    pub fn positive(&self, n: usize, seed: u32) -> Buf {
        self.make(n, Fill::Positive(seed, self.values))
    }

    /// Ordinary values, whatever the driver chose.
    pub fn ordinary(&self, n: usize, seed: u32) -> Buf {
        self.make(n, Fill::Input(seed, Values::Ordinary))
    }

    /// The upper halves of `n` values: bf16, rounded toward zero.
    pub fn bf16(&self, n: usize, seed: u32) -> Buf<u16> {
        self.make(n, Fill::Input(seed, self.values))
    }

    /// `n` NaNs, to be overwritten: results and scratch.
    pub fn output<T: Element>(&self, n: usize) -> Buf<T> {
        self.make(n, Fill::Guard)
    }

    /// A copy of `values`.
    pub fn copy<T: Element>(&self, values: &[T]) -> Buf<T> {
        self.make(values.len(), Fill::Copy(values.into()))
    }

    fn make<T: Element>(&self, len: usize, fill: Fill<T>) -> Buf<T> {
        let number = self.made.get();
        self.made.set(number + 1);
        let quartered = self.place == Place::Aligned && len * size_of::<T>() >= 4 * PAGE;
        let (boundary, place) = if quartered { (PAGE, number % 4 * (PAGE / 4)) } else { (LINE, 0) };
        let from = boundary / size_of::<T>();
        let (guard, offset) = match self.place {
            Place::Aligned | Place::Plain => (0, 0),
            Place::Offset(offset) => (0, offset),
            // Seventeen has no common divisor with three: every offset comes up.
            Place::Guarded(offset) => (GUARD, (offset + 3 * number) % (LANES + 1)),
        };
        let spare = if self.place == Place::Plain { 0 } else { from + offset };
        let memory = vec![T::GUARD; spare + len + 2 * guard];
        let start = if spare == 0 {
            0
        } else {
            place.wrapping_sub(memory.as_ptr().addr()) % boundary / size_of::<T>() + guard + offset
        };
        let guarded = (guard > 0).then(|| format!("{}, buffer {number}", self.name));
        let mut buf = Buf { memory, start, len, fill, guarded };
        buf.reset();
        buf
    }
}

/// A type that buffers hold.
pub trait Element: Copy + Send + PartialEq + 'static {
    /// Fills guard zones and outputs: a NaN where there is one.
    const GUARD: Self;
    /// The element for a generated value.
    fn from_f32(x: f32) -> Self;
    /// Its value, for comparisons within a tolerance.
    fn to_f32(self) -> f32;
    /// Its bits, every NaN the same: payloads are not promised.
    fn bits(self) -> u32;
}

impl Element for f32 {
    // A quiet NaN that no arithmetic makes.
    const GUARD: f32 = f32::from_bits(0x7FC5_A5A5);

    fn from_f32(x: f32) -> f32 {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }

    fn bits(self) -> u32 {
        let bits = self.to_bits();
        if bits & 0x7FFF_FFFF > 0x7F80_0000 { 0x7FC0_0000 } else { bits }
    }
}

/// bf16.
impl Element for u16 {
    const GUARD: u16 = 0x7FC5;

    fn from_f32(x: f32) -> u16 {
        // Truncation must not make an infinity of a NaN.
        if x.is_nan() { 0x7FC0 } else { (x.to_bits() >> 16) as u16 }
    }

    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    fn bits(self) -> u32 {
        if self.to_f32().is_nan() { 0x7FC0 } else { self.into() }
    }
}

macro_rules! integers {
    ($($t:ty: $guard:expr),*) => {
        $(impl Element for $t {
            const GUARD: $t = $guard;

            fn from_f32(x: f32) -> $t {
                x as $t
            }

            fn to_f32(self) -> f32 {
                self as f32
            }

            fn bits(self) -> u32 {
                self as u32
            }
        })*
    };
}
integers!(u8: 0xA5, u32: 0x7FC5_A5A5, i32: 0x7FC5_A5A5, usize: 0x7FC5_A5A5);

/// How a buffer was filled, so that it can be again.
enum Fill<T> {
    Input(u32, Values),
    Positive(u32, Values),
    Copy(Box<[T]>),
    Guard,
}

/// A slice at a place.
pub struct Buf<T: Element = f32> {
    memory: Vec<T>,
    start: usize,
    len: usize,
    fill: Fill<T>,
    guarded: Option<String>,
}

impl<T: Element> Buf<T> {
    /// Fills it as at first.
    pub fn reset(&mut self) {
        let place = &mut self.memory[self.start..self.start + self.len];
        match &self.fill {
            Fill::Input(seed, values) => generate(place, *seed, *values, |x| x),
            Fill::Positive(seed, values) => generate(place, *seed, *values, f32::abs),
            Fill::Copy(values) => return place.copy_from_slice(values),
            Fill::Guard => return place.fill(T::GUARD),
        }
        // Tests reset a buffer for each tier: unoptimised, a copy is many times as fast as to generate the values
        // again.
        if cfg!(debug_assertions) {
            self.fill = Fill::Copy((&*place).into());
        }
    }
}

impl<T: Element> Deref for Buf<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T: Element> DerefMut for Buf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl<T: Element> Drop for Buf<T> {
    fn drop(&mut self) {
        let Some(name) = self.guarded.as_ref().filter(|_| !std::thread::panicking()) else { return };
        let end = self.start + self.len;
        for (first, guard) in [(0, &self.memory[..self.start]), (end, &self.memory[end..])] {
            for (i, x) in guard.iter().enumerate() {
                let at = (first + i) as isize - self.start as isize;
                let same = x.to_f32().to_bits() == T::GUARD.to_f32().to_bits();
                assert!(same, "{name}: wrote at {at} of a slice of {}", self.len);
            }
        }
    }
}

/// Mixes the bits of `i` (Wellons' `lowbias32`), so that nearby numbers give unrelated ones.
pub fn mix(mut i: u32) -> u32 {
    i ^= i >> 16;
    i = i.wrapping_mul(0x7feb_352d);
    i ^= i >> 15;
    i = i.wrapping_mul(0x846c_a68b);
    i ^ (i >> 16)
}

/// Uniform in [-1, 1).
pub fn uniform(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
}

fn generate<T: Element>(place: &mut [T], seed: u32, values: Values, map: impl Fn(f32) -> f32) {
    let seed = mix(seed);
    for i in 0..place.len() {
        place[i] = T::from_f32(map(value(seed, i as u32, values)));
    }
}

/// Value `i` of a seed.
fn value(seed: u32, i: u32, values: Values) -> f32 {
    let bits = mix(seed.wrapping_add(i));
    let ordinary = uniform(bits);
    // ±1 to ±2 times a power of two from `low` to `high`.
    let spread = |low: i32, high: i32| {
        let exponent = low + (mix(bits) % (high - low + 1) as u32) as i32;
        f32::from_bits((bits & 0x807F_FFFF) | ((exponent + 127) as u32) << 23)
    };
    match values {
        Values::Ordinary => ordinary,
        // Runs whose length has no divisor in common with that of a vector.
        Values::Wild => match mix(seed ^ mix(i / 61)) % 8 {
            0 => spread(-20, 20),
            1 => 1e4 + ordinary,
            2 => f32::from_bits(bits & 0x807F_FFFF),
            3 => 0.1,
            4 => spread(-126, -100),
            _ => ordinary,
        },
        Values::Special => match mix(bits ^ 0x5bd1_e995) % 64 {
            0 => SPECIALS[mix(bits) as usize % SPECIALS.len()],
            1 => spread(60, 126),
            2 => spread(-126, -70),
            _ => ordinary,
        },
    }
}
