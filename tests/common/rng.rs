//! A generator of inputs, for the nets and for the unit tests of the lanes.

#![allow(dead_code)]

/// Splitmix64. Nothing here calls the C library, so the same inputs come out on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is far below 2^64: the bias does not matter here.
    pub fn below(&mut self, n: usize) -> usize {
        (self.u64() % n as u64) as usize
    }

    /// In [0, 1), with all 24 bits of an f32.
    pub fn unit(&mut self) -> f32 {
        (self.u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Any bits at all.
    pub fn any(&mut self) -> f32 {
        f32::from_bits(self.u64() as u32)
    }

    /// Near enough to a normal deviate: a sum of twelve uniform ones has mean 6 and variance 1.
    pub fn normal(&mut self) -> f32 {
        let mut sum = -6.0f64;
        for _ in 0..12 {
            sum += self.unit() as f64;
        }
        sum as f32
    }

    /// Of either sign, its exponent uniform over `low..high`: 2^low <= |x| < 2^high.
    pub fn spread(&mut self, low: i32, high: i32) -> f32 {
        let exponent = low + self.below((high - low) as usize) as i32;
        let sign = ((self.u64() & 1) as u32) << 31;
        let scale = f32::from_bits(((exponent + 127) as u32) << 23);
        f32::from_bits((1.0 + self.unit()).min(1.999_999_9).to_bits() | sign) * scale
    }

    pub fn vec(&mut self, n: usize, mut f: impl FnMut(&mut Rng) -> f32) -> Vec<f32> {
        (0..n).map(|_| f(self)).collect()
    }
}
