//! Glue between data and kernels: conversions that LLVM vectorises by itself, compiled by multiversion for several
//! instruction sets and chosen at run time.
//!
//! Elementwise with one rounding each, so the bits cannot depend on the choice, which is multiversion's own and not that
//! of [`tier`](crate::tier()).

use multiversion::multiversion;

use crate::error::check_len;
use crate::lanes::environment;

/// `dst[i] = src[i] * scale`: pixels or other bytes as features, for example with `scale` 1/255. Correctly rounded. On
/// the calling thread.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn u8_to_f32(src: &[u8], scale: f32, dst: &mut [f32]) {
    check_len("u8_to_f32", "dst", dst.len(), src.len(), "src");
    environment::debug_check();
    u8_to_f32_loop(src, scale, dst);
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
))]
fn u8_to_f32_loop(src: &[u8], scale: f32, dst: &mut [f32]) {
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = s as f32 * scale;
    }
}

/// `x[i] *= factor`: unscaling gradients, averaging. Correctly rounded. On the calling thread.
pub fn scale(x: &mut [f32], factor: f32) {
    environment::debug_check();
    scale_loop(x, factor);
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
    "x86_64+avx2+fma+bmi1+bmi2+lzcnt+popcnt",
))]
fn scale_loop(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every byte, and lengths around the widest vector.
    #[test]
    fn bytes_and_scaling_are_those_of_the_plain_loop() {
        for len in (0..=70).chain([256, 1000]) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 256) as u8).collect();
            let mut floats = vec![f32::NAN; len];
            u8_to_f32(&bytes, 1.0 / 255.0, &mut floats);
            for (f, b) in floats.iter().zip(&bytes) {
                assert_eq!(f.to_bits(), (*b as f32 * (1.0 / 255.0)).to_bits());
            }
            let before = floats.clone();
            scale(&mut floats, -3.3);
            for (f, b) in floats.iter().zip(&before) {
                assert_eq!(f.to_bits(), (b * -3.3).to_bits());
            }
        }
        assert!((0..=255).all(|b: u8| {
            let mut f = [0.0];
            u8_to_f32(&[b], 1.0, &mut f);
            f[0] == b as f32
        }));
    }

    #[test]
    #[should_panic(expected = "u8_to_f32: dst has 2 values, src asks for 3")]
    fn lengths_must_match() {
        u8_to_f32(&[1, 2, 3], 1.0, &mut [0.0; 2]);
    }
}
