//! `add_scaled`, `lerp` and `multiply` against f64, with the bounds of their documentation.

use hotlanes::axpy::{add_scaled, lerp, multiply};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};

const U: f64 = 1.0 / (1 << 24) as f64;

#[test]
fn errors_are_within_the_bounds() {
    let mut rng = Rng::new(1);
    for n in [0, 1, 15, 16, 17, 70, 1000] {
        for weight in [0.0, 1.0, -0.5, 0.1, 1e-3, 3e5] {
            let (x, before) = (rng.vec(n, |rng| rng.spread(-12, 12)), rng.vec(n, |rng| rng.spread(-12, 12)));
            for_each_tier(|tier| {
                let (mut sum, mut mean) = (before.clone(), before.clone());
                add_scaled(weight, &x, &mut sum);
                lerp(weight, &x, &mut mean);
                for i in 0..n {
                    let [w, x, y] = [weight, x[i], before[i]].map(f64::from);
                    // The exact result has at most 53 + 24 bits between these magnitudes: f64's rounding is nothing beside u.
                    let exact = y + w * x;
                    let off = (f64::from(sum[i]) - exact).abs();
                    assert!(
                        off <= U * exact.abs() * (1.0 + 1e-6) + 1e-45,
                        "{tier}: {y} + {w} * {x} is {}",
                        sum[i]
                    );
                    let (exact, got) = (y + w * (x - y), f64::from(mean[i]));
                    let bound = U * (got.abs() + (w * (x - y)).abs()) * (1.0 + 1e-6) + 1e-45;
                    assert!((got - exact).abs() <= bound, "{tier}: {y} to {x} by {w} is {got}");
                }
            });
        }
    }
}

#[test]
fn a_product_is_rounded_once() {
    let mut rng = Rng::new(3);
    for n in [0, 1, 15, 16, 17, 70, 1000] {
        let (x, before) = (rng.vec(n, |rng| rng.any()), rng.vec(n, |rng| rng.any()));
        // Exact in f64, whose range is wide enough too.
        let want: Vec<f32> =
            x.iter().zip(&before).map(|(&x, &y)| (f64::from(x) * f64::from(y)) as f32).collect();
        for_each_tier(|tier| {
            let mut y = before.clone();
            multiply(&x, &mut y);
            assert_same(&y, &want, format_args!("{tier}: multiply"));
        });
    }
}

#[test]
fn each_element_is_rounded_as_documented() {
    let mut rng = Rng::new(2);
    let (x, before) = (rng.vec(333, |rng| rng.any()), rng.vec(333, |rng| rng.any()));
    for_each_tier(|tier| {
        let (mut sum, mut mean) = (before.clone(), before.clone());
        add_scaled(0.3, &x, &mut sum);
        lerp(0.3, &x, &mut mean);
        let fused: Vec<f32> = x.iter().zip(&before).map(|(x, y)| 0.3f32.mul_add(*x, *y)).collect();
        let towards: Vec<f32> = x.iter().zip(&before).map(|(x, y)| 0.3f32.mul_add(x - y, *y)).collect();
        assert_same(&sum, &fused, format_args!("{tier}: add_scaled"));
        assert_same(&mean, &towards, format_args!("{tier}: lerp"));
    });
}

#[test]
fn a_wrong_length_panics_with_both() {
    let message = panic_message(|| add_scaled(1.0, &[0.0; 3], &mut [0.0; 4]));
    assert!(message.contains("add_scaled") && message.contains('3') && message.contains('4'), "{message}");
    let message = panic_message(|| lerp(1.0, &[0.0; 5], &mut [0.0; 4]));
    assert!(message.contains("lerp") && message.contains('5') && message.contains('4'), "{message}");
    let message = panic_message(|| multiply(&[0.0; 6], &mut [0.0; 4]));
    assert!(message.contains("multiply") && message.contains('6') && message.contains('4'), "{message}");
}
