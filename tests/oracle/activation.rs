//! Activations against PyTorch and finite differences, and what they do with values that are not ordinary. Their errors against
//! f64 are bounded in `src/math/tests.rs`, at every f32.

use hotlanes::activation::{Activation, exp, exp_in_place, log, log_in_place};

use hotlanes::axpy::multiply;

use crate::common::{Rng, SPECIALS, assert_same, for_each_tier, panic_message};
use crate::golden::parse;

fn forward(a: Activation, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    a.forward(x, &mut y);
    y
}

fn backward(a: Activation, dy: &[f32], x: &[f32]) -> Vec<f32> {
    let mut dx = vec![f32::NAN; x.len()];
    a.backward(dy, x, &mut dx);
    dx
}

/// Values and slopes.
fn forward_with_slope(a: Activation, x: &[f32]) -> [Vec<f32>; 2] {
    let (mut slope, mut y) = (x.to_vec(), vec![f32::NAN; x.len()]);
    a.forward_with_slope(&mut slope, &mut y);
    [y, slope]
}

fn product(x: &[f32], y: &[f32]) -> Vec<f32> {
    let mut product = y.to_vec();
    multiply(x, &mut product);
    product
}

/// The largest error in units of 2^-24 of the larger of the value and `floor`.
fn error(got: &[f32], want: &[f32], floor: &[f64]) -> f64 {
    assert_eq!((got.len(), floor.len()), (want.len(), want.len()));
    let one = |((&g, &w), &floor): ((&f32, &f32), &f64)| {
        let apart = (g as f64 - w as f64).abs();
        if apart == 0.0 { 0.0 } else { apart / f64::max(w.abs() as f64, floor) * (1 << 24) as f64 }
    };
    got.iter().zip(want).zip(floor).map(one).fold(0.0, f64::max)
}

#[test]
fn activations_follow_pytorch() {
    let sections = parse(include_str!("../golden/activation.txt"));
    let (inputs, cases) = sections.split_first().unwrap();
    let (x, dy) = (inputs.get("x"), inputs.get("dy"));
    assert_eq!(cases.len(), Activation::ALL.len());
    for (case, a) in cases.iter().zip(Activation::ALL) {
        assert_eq!(case.name(), a.name());
        // PyTorch's tails lose all digits against 1.
        let size: Vec<f64> = x.iter().map(|x| x.abs().min(1.0) as f64).collect();
        let slope: Vec<f64> = dy.iter().map(|dy| dy.abs() as f64).collect();
        for_each_tier(|tier| {
            let [y, f] = forward_with_slope(a, x);
            let one_sweep = [("y", y, &size), ("dx", product(&f, dy), &slope)];
            let each = [("y", forward(a, x), &size), ("dx", backward(a, dy, x), &slope)];
            for (name, got, floor) in each.into_iter().chain(one_sweep) {
                let right = case.get(&format!("{name}64"));
                let (ours, torch) = (error(&got, right, floor), error(case.get(name), right, floor));
                println!("{} {tier} {name}: error {ours:.2} u, PyTorch's {torch:.2} u", a.name());
                assert!(ours <= 8.0, "{} {tier} {name}: {ours} u", a.name());
                let apart = error(&got, case.get(name), floor);
                assert!(apart <= 1.01 * (ours + torch), "{} {tier}: {apart} u from PyTorch", a.name());
            }
        });
    }
}

#[test]
fn the_backward_is_the_derivative_of_the_forward() {
    let x: Vec<f32> = (0..160).map(|i| (i as f32 - 79.5) / 16.0).collect();
    let h = 1.0 / 64.0;
    let shifted = |by: f32| x.iter().map(|x| x + by).collect::<Vec<f32>>();
    for a in Activation::ALL {
        let slope = backward(a, &vec![1.0; x.len()], &x);
        let [f1, b1, f2, b2] = [h, -h, 2.0 * h, -2.0 * h].map(|by| forward(a, &shifted(by)));
        for i in 0..x.len() {
            // The kinks lie between the points, but not between all of a stencil's.
            if matches!(a, Activation::Relu | Activation::SquaredRelu) && x[i].abs() <= 2.0 * h {
                continue;
            }
            // Of fourth order.
            let want = (8.0 * (f1[i] - b1[i]) - (f2[i] - b2[i])) / (12.0 * h);
            let apart = (slope[i] - want).abs();
            assert!(apart < 1e-4, "{}'({}) = {}, differences say {want}", a.name(), x[i], slope[i]);
        }
    }
}

/// The errors of values and slopes are those of [`Activation::forward`] and [`Activation::backward`], as their bits
/// are.
#[test]
fn one_sweep_has_the_bits_of_forward_and_backward() {
    let mut rng = Rng::new(4);
    for n in [0, 1, 15, 16, 17, 63, 64, 65, 1000] {
        let mut x = rng.vec(n, |rng| rng.any());
        // Most of `any` is far from where functions bend.
        x.iter_mut().step_by(2).for_each(|x| *x = rng.spread(-3, 6));
        let mut dy = rng.vec(n, |rng| rng.any());
        if n == 1000 {
            // Each special value with each, and beside the ends of the functions' ranges.
            let pairs = SPECIALS.iter().flat_map(|&x| SPECIALS.map(|dy| (x, dy)));
            x.iter_mut().zip(&mut dy).zip(pairs).for_each(|((x, dy), pair)| (*x, *dy) = pair);
            let ends = [-88.5, -88.0, -89.0, -10.5, -10.0, -11.0, 6.75, 25.0, 100.0, 106.0, 12.0, 54.0];
            x[300..312].copy_from_slice(&ends);
        }
        for_each_tier(|tier| {
            for a in Activation::ALL {
                let what = format!("{} {tier}", a.name());
                let [y, slope] = forward_with_slope(a, &x);
                assert_same(&y, &forward(a, &x), &what);
                assert_same(&slope, &backward(a, &vec![1.0; n], &x), &what);
                let mut want = backward(a, &dy, &x);
                // A product where the backward has no look at `dy`.
                let off = |i: &usize| a == Activation::Relu && x[*i] <= 0.0;
                (0..n).filter(off).for_each(|i| want[i] = dy[i] * 0.0);
                assert_same(&product(&slope, &dy), &want, &what);
            }
        });
    }
}

#[test]
fn the_ends_are_as_documented() {
    let x = [f32::NEG_INFINITY, -f32::MAX, -1e20, -200.0, 0.0, -0.0, 200.0, 1e20, f32::MAX, f32::INFINITY];
    let zeros = [0.0f32; 4];
    for_each_tier(|tier| {
        for a in Activation::ALL {
            let (y, slope) = (forward(a, &x), backward(a, &[1.0; 10], &x));
            let what = format!("{tier} {}", a.name());
            use Activation::*;
            let (low, mid, high) = match a {
                Relu | Silu | GeluTanh | GeluErf => (zeros, 0.0, [x[6], x[7], x[8], x[9]]),
                SquaredRelu => (zeros, 0.0, [4e4, f32::INFINITY, f32::INFINITY, f32::INFINITY]),
                Sigmoid => (zeros, 0.5, [1.0; 4]),
                Tanh => ([-1.0; 4], 0.0, [1.0; 4]),
                Identity => ([x[0], x[1], x[2], x[3]], 0.0, [x[6], x[7], x[8], x[9]]),
            };
            assert_eq!((&y[..4], &y[6..]), (&low[..], &high[..]), "{what}");
            assert!(y[4] == mid && y[5] == mid, "{what}: {:?}", &y[4..6]);
            let (low, high) = match a {
                Identity => (1.0, [1.0; 4]),
                Sigmoid | Tanh => (0.0, [0.0; 4]),
                SquaredRelu => (0.0, [400.0, 2e20, f32::INFINITY, f32::INFINITY]),
                _ => (0.0, [1.0; 4]),
            };
            // GELU erf's density is that of its last argument.
            let near = if a == GeluErf { 1e-24 } else { 3e-36 };
            assert!(slope[..4].iter().all(|s| (s - low).abs() < near), "{what}: {:?}", &slope[..4]);
            assert_eq!(slope[6..], high, "{what}");
        }
        let mut y = [f32::NAN; 5];
        exp(&[f32::NEG_INFINITY, -104.0, 0.0, 88.8, f32::INFINITY], &mut y);
        assert_same(&y, &[0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY], tier);
        log(&[-1.0, -0.0, 0.0, 1.0, f32::INFINITY], &mut y);
        let minus = f32::NEG_INFINITY;
        assert_same(&y, &[f32::NAN, minus, minus, 0.0, f32::INFINITY], tier);
    });
}

#[test]
fn a_nan_stays_one_and_stays_alone() {
    let mut x = [0.5; 70];
    x[37] = f32::NAN;
    for_each_tier(|tier| {
        for a in Activation::ALL {
            for y in [forward(a, &x), backward(a, &[1.0; 70], &x), backward(a, &x, &[0.5; 70])] {
                // The identity's gradient does not look at x.
                let lost = a == Activation::Identity && y == [1.0; 70];
                assert!(y[37].is_nan() || lost, "{tier} {}", a.name());
                assert!(y.iter().enumerate().all(|(i, y)| i == 37 || *y == *y), "{tier} {}", a.name());
            }
        }
        for f in [exp_in_place, log_in_place] {
            let mut y = x;
            f(&mut y);
            assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i == 37)), "{tier}");
        }
    });
}

#[test]
fn a_wrong_length_panics_with_both() {
    let a = Activation::Silu;
    let message = |name: &str| format!("{name} has 3 values, x asks for 2");
    let (two, mut three) = ([1.0; 2], [1.0; 3]);
    assert_eq!(panic_message(|| a.forward(&two, &mut three)), message("activation forward: y"));
    let mut x = two;
    let got = panic_message(|| a.forward_with_slope(&mut x, &mut three));
    assert_eq!(got, message("activation forward with slope: y"));
    assert_eq!(panic_message(|| exp(&two, &mut three)), message("exp: y"));
    assert_eq!(panic_message(|| log(&two, &mut three)), message("log: y"));
    assert_eq!(
        panic_message(|| a.backward(&[0.0; 3], &two, &mut [0.0; 2])),
        message("activation backward: dy")
    );
    assert_eq!(panic_message(|| a.backward(&two, &two, &mut three)), message("activation backward: dx"));
    assert_eq!(panic_message(|| a.backward_in_place(&mut three, &two)), message("activation backward: dy"));
    assert_eq!(three, [1.0; 3], "nothing was done");
}
