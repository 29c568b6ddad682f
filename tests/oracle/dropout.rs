//! Dropout: each element's decision from its number, by the plain generator; and that the decisions look random.

use hotlanes::dropout::Dropout;
use hotlanes::naive::layers::threefry2x32;

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::settings::{data, walk};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

const SEED: u64 = 0x0123_4567_89AB_CDEF;

/// The upper 31 bits of an element's word, as its documentation has it.
fn number(seed: u64, element: u64) -> u32 {
    let counter = 16 * (element / 32) + element % 16;
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    threefry2x32(halves(seed), halves(counter))[(element / 16 % 2) as usize] >> 1
}

#[test]
fn an_element_is_decided_by_its_number() {
    let mut rng = Rng::new(1);
    for (p, offset, len) in [
        (0.5, 0, 200),
        (0.1, 32, 65),
        (0.9, 7, 100),
        (0.0, 1, 50),
        // Counters that need more than 32 bits, and the last one there is.
        (0.3, (1 << 33) - 40, 100),
        (0.5, u64::MAX - 70, 70),
        (1.0 - 1e-12, 5, 100),
    ] {
        let dropout = Dropout::new(p, SEED).unwrap();
        let x = rng.vec(len, |rng| rng.spread(-8, 8));
        for_each_tier(|tier| {
            let (mut y, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            dropout.forward(&x, &mut y, offset);
            dropout.backward(&x, &mut dx, offset);
            assert_same(&dx, &y, format!("{tier}, p = {p}: the backward has the forward's mask"));
            for i in 0..len {
                let kept =
                    (number(SEED, offset + i as u64) as f64) < dropout.keep_probability() * 2f64.powi(31);
                let want = if kept { x[i] as f64 / (1.0 - p) } else { 0.0 };
                let bound = if kept { 2.0 * U * want.abs() } else { 0.0 };
                let error = (y[i] as f64 - want).abs();
                assert!(error <= bound, "{tier}, p = {p}, element {i}: {} instead of {want}", y[i]);
                assert!(kept || y[i].to_bits() == 0, "{tier}: a dropped element is +0");
            }
        });
    }
}

#[test]
fn a_dropped_element_is_zero_whatever_it_was() {
    let dropout = Dropout::new(0.5, 3).unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
        for_each_tier(|tier| {
            let mut y = [1.0; 77];
            dropout.forward(&[value; 77], &mut y, 9);
            for (i, y) in y.into_iter().enumerate() {
                let kept = number(3, 9 + i as u64) < 1 << 30;
                let want = if kept { value } else { 0.0 };
                assert_same(&[y], &[want], format!("{tier}, {value}, element {i}"));
            }
        });
    }
}

#[test]
fn the_probability_is_the_nearest_there_is() {
    for p in [0.0, 1e-10, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999, 1.0 - 1e-9, 1.0 - f64::EPSILON] {
        let dropout = Dropout::new(p, 0).unwrap();
        let off = dropout.keep_probability() - (1.0 - p);
        assert!(off.abs() <= 2f64.powi(-32), "p = {p}: off by {off:e}");
        assert_eq!(dropout.scale(), (1.0 / (1.0 - p)) as f32);
    }
    assert_eq!(Dropout::new(0.0, 0).unwrap().keep_probability(), 1.0);
}

/// +1 for kept elements and the mean taken off: a sum of products of independent ones is normal, nearly.
fn signs(seed: u64, p: f64, n: usize) -> Vec<f64> {
    let dropout = Dropout::new(p, seed).unwrap();
    let mut y = vec![f32::NAN; n];
    dropout.forward(&vec![1.0; n], &mut y, 0);
    y.iter().map(|&y| (y != 0.0) as u8 as f64 - dropout.keep_probability()).collect()
}

/// Everything here is fixed by the seeds: a generator that passes will pass again.
#[test]
fn the_mask_looks_random() {
    let n = if cfg!(miri) { 1 << 10 } else { 1 << 17 };
    // Of some two hundred normal deviates none should be this far out: one in ten thousand runs would have one.
    let far = 5.0;
    for (seed, p) in [(0, 0.5), (1, 0.1), (SEED, 0.1), (u64::MAX, 0.75)] {
        let s = signs(seed, p, n);
        let variance = p * (1.0 - p);
        let mean = s.iter().sum::<f64>() / (n as f64 * variance).sqrt();
        assert!(mean.abs() < far, "seed {seed}, p {p}: the mean is {mean} deviations off");
        // Neighbours, the other word, the next block, rows of powers of two.
        for lag in (1..=40).chain([48, 64, 128, 256, 512]) {
            let sum: f64 = s.iter().zip(&s[lag..]).map(|(a, b)| a * b).sum();
            let deviations = sum / ((n - lag) as f64).sqrt() / variance;
            assert!(deviations.abs() < far, "seed {seed}, p {p}: lag {lag}, {deviations} deviations");
        }
        // Another seed, and one that differs in a bit of its upper half.
        for other in [seed.wrapping_add(1), seed ^ 1 << 40] {
            let sum: f64 = s.iter().zip(signs(other, p, n)).map(|(a, b)| a * b).sum();
            let deviations = sum / (n as f64).sqrt() / variance;
            assert!(deviations.abs() < far, "seeds {seed} and {other}, p {p}: {deviations} deviations");
        }
        // Each lane of a block by itself.
        for lane in 0..32 {
            let sum: f64 = s.iter().skip(lane).step_by(32).sum();
            let deviations = sum / (n as f64 / 32.0 * variance).sqrt();
            assert!(deviations.abs() < far, "seed {seed}, p {p}: lane {lane}, {deviations} deviations");
        }
    }
}

#[test]
fn bad_parameters_are_named() {
    for p in [-0.1, -f64::MIN_POSITIVE, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        let error = Dropout::new(p, 0).unwrap_err();
        assert_eq!((error.name, error.value.to_bits()), ("p", p.to_bits()));
        assert_eq!(error.to_string(), format!("p = {p}: must be at least 0 and below 1"));
    }
    let a = Dropout::new(0.5, 7).unwrap();
    assert_eq!(a, Dropout::new(0.5, 8).unwrap().with_seed(7));
}

#[test]
fn a_wrong_length_panics_with_both() {
    let dropout = Dropout::new(0.5, 7).unwrap();
    let message = panic_message(|| dropout.forward(&[0.0; 3], &mut [0.0; 4], 0));
    assert_eq!(message, "dropout forward: y has 4 values, x asks for 3");
    let message = panic_message(|| dropout.backward(&[0.0; 3], &mut [0.0; 2], 0));
    assert_eq!(message, "dropout backward: dx has 2 values, dy asks for 3");
    let message = panic_message(|| dropout.forward(&[0.0; 3], &mut [0.0; 3], u64::MAX - 2));
    assert_eq!(message, format!("dropout forward: offset {} leaves no numbers for 3 elements", u64::MAX - 2));
}

#[test]
fn every_setting_works_or_is_refused() {
    walk("Dropout", &0.1, &[("p", |c: &mut f64, x| *c = x)], |&p| {
        let dropout = Dropout::new(p, 7)?;
        let (x, mut y, mut dx) = (data(100, 0), vec![9.0; 100], vec![9.0; 100]);
        dropout.forward(&x, &mut y, 3);
        dropout.backward(&x, &mut dx, u64::MAX - 100);
        Ok([y, dx, vec![dropout.scale(), dropout.keep_probability() as f32]].concat())
    });
}
