//! Digits drawn by the program, so that a fresh machine has something to learn.

use super::idx::{CLASSES, Data};
use crate::rng::Rng;

/// Pixels along a side.
const SIDE: usize = 28;
/// Pixels of an image.
pub const FEATURES: usize = SIDE * SIDE;
/// Purpose of the random numbers.
const PURPOSE: u64 = 0x6469_6769_7473;

/// The strokes of each digit, in a square from -1 to 1 with y downwards.
const STROKES: [&[&[(f32, f32)]]; CLASSES] = [
    &[&[(0.0, -1.0), (0.55, -0.6), (0.6, 0.5), (0.0, 1.0), (-0.55, 0.6), (-0.6, -0.5), (0.0, -1.0)]],
    &[&[(-0.4, -0.6), (0.1, -1.0), (0.1, 1.0)]],
    &[&[(-0.6, -0.6), (0.0, -1.0), (0.55, -0.5), (-0.6, 1.0), (0.65, 0.95)]],
    &[&[(-0.55, -0.9), (0.2, -1.0), (0.5, -0.5), (-0.1, -0.05), (0.55, 0.45), (0.1, 1.0), (-0.6, 0.8)]],
    &[&[(0.3, 1.0), (0.25, -1.0), (-0.65, 0.3), (0.7, 0.25)]],
    &[&[(0.55, -1.0), (-0.45, -0.95), (-0.5, -0.1), (0.3, -0.15), (0.55, 0.45), (0.1, 1.0), (-0.6, 0.85)]],
    &[&[(0.4, -1.0), (-0.4, -0.2), (-0.5, 0.6), (0.0, 1.0), (0.5, 0.6), (0.2, 0.05), (-0.45, 0.35)]],
    &[&[(-0.6, -0.95), (0.6, -1.0), (-0.1, 1.0)], &[(-0.3, 0.0), (0.45, 0.0)]],
    &[&[(0.0, -1.0), (0.45, -0.55), (-0.45, 0.5), (0.0, 1.0), (0.45, 0.5), (-0.45, -0.55), (0.0, -1.0)]],
    &[&[(0.5, -0.4), (0.0, -0.05), (-0.5, -0.5), (0.0, -1.0), (0.5, -0.6), (0.4, 0.3), (0.1, 1.0)]],
];

/// `count` images of 28 x 28 pixels, sheared, stretched, moved, of varied thickness, and with noise. Each ten in a row
/// are the ten digits in an order of their own, so that every fifth image can be any digit.
pub fn draw(count: usize, seed: u64) -> Data {
    let mut data = Data { features: SIDE * SIDE, pixels: Vec::new(), labels: Vec::new() };
    let mut order: [usize; CLASSES] = std::array::from_fn(|digit| digit);
    for i in 0..count {
        if i % CLASSES == 0 {
            Rng::new(seed, PURPOSE, 1, (i / CLASSES) as u64).shuffle(&mut order);
        }
        let label = order[i % CLASSES];
        let mut rng = Rng::new(seed, PURPOSE, 0, i as u64);
        data.pixels.extend_from_slice(&image(STROKES[label], &mut rng));
        data.labels.push(label as u8);
    }
    data
}

fn image(strokes: &[&[(f32, f32)]], rng: &mut Rng) -> [u8; SIDE * SIDE] {
    let centre = (SIDE - 1) as f32 / 2.0;
    let (across, down) = (7.0 + 1.5 * rng.symmetric(), 9.0 + 1.2 * rng.symmetric());
    let (shear, slope) = (0.35 * rng.symmetric(), 0.2 * rng.symmetric());
    let (dx, dy) = (2.0 * rng.symmetric(), 2.0 * rng.symmetric());
    let thickness = 1.3 + 0.6 * rng.symmetric();
    let mut segments = Vec::new();
    for stroke in strokes {
        let points: Vec<(f32, f32)> = stroke
            .iter()
            .map(|&(x, y)| {
                let (x, y) = (x + 0.12 * rng.symmetric(), y + 0.12 * rng.symmetric());
                (centre + dx + across * (x - shear * y), centre + dy + down * (y + slope * x))
            })
            .collect();
        segments.extend(points.windows(2).map(|p| (p[0], p[1])));
    }
    let mut pixels = [0; SIDE * SIDE];
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let at = ((i % SIDE) as f32, (i / SIDE) as f32);
        let nearest = segments.iter().map(|&(a, b)| distance(at, a, b)).fold(f32::MAX, f32::min);
        // Ink to the stroke's edge, then off over one pixel.
        let ink = (thickness + 0.5 - nearest).clamp(0.0, 1.0);
        let noise = if ink > 0.0 { 0.15 * rng.symmetric() } else { 0.0 };
        *pixel = (255.0 * (ink * (1.0 + noise)).clamp(0.0, 1.0)) as u8;
    }
    pixels
}

/// From a point to a segment.
fn distance(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (ux, uy) = (b.0 - a.0, b.1 - a.1);
    let (vx, vy) = (p.0 - a.0, p.1 - a.1);
    let along = ((vx * ux + vy * uy) / (ux * ux + uy * uy).max(1e-6)).clamp(0.0, 1.0);
    let (x, y) = (vx - along * ux, vy - along * uy);
    (x * x + y * y).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_at_equal_distances_has_all_digits() {
        let labels = draw(3000, 1).labels;
        for step in 1..=10 {
            for first in 0..step {
                let mut seen = [false; CLASSES];
                labels.iter().skip(first).step_by(step).for_each(|&label| seen[usize::from(label)] = true);
                assert_eq!(seen, [true; CLASSES], "each {step}th from {first} on");
            }
        }
        assert!(
            labels.chunks(CLASSES).all(|ten| ten.iter().map(|&label| u32::from(label)).sum::<u32>() == 45)
        );
    }

    #[test]
    fn digits_are_repeatable_and_have_ink() {
        let a = draw(30, 5);
        assert_eq!(a, draw(30, 5));
        assert_ne!(a, draw(30, 6));
        for i in 0..a.len() {
            let ink = a.image(i).iter().filter(|&&p| p > 0).count();
            assert!((30..400).contains(&ink), "image {i}: {ink} pixels");
        }
    }
}
