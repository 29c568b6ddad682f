//! Elementwise losses against the formulas of their documentation, in f64.

use hotlanes::loss::{Huber, Loss, PIECE};
use hotlanes::reduce::BLOCK;

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::golden::{parse, relative};
use crate::settings::{data, walk};
use crate::softmax::{U, ratio};

/// 2^-149 and 2^-126.
const TINY: [f64; 2] = [f32::from_bits(1) as f64, f32::MIN_POSITIVE as f64];

fn huber(delta: f64) -> Loss {
    Loss::Huber(Huber::new(delta).unwrap())
}

fn all() -> [Loss; 7] {
    let [a, b, c, d] = [1.0, 0.7, 1e-3, 1e6].map(huber);
    [Loss::Mse, Loss::L1, a, b, c, d, Loss::BceWithLogits]
}

/// A loss and its gradient, and the bounds of both.
struct Exact {
    loss: f64,
    gradient: f64,
    loss_bound: f64,
    gradient_bound: f64,
}

fn exact(of: Loss, x: f64, t: f64) -> Exact {
    let d = x - t;
    let (loss, gradient) = match of {
        Loss::Mse => (d * d, 2.0 * d),
        Loss::L1 => (d.abs(), if d == 0.0 { 0.0 } else { d.signum() }),
        Loss::Huber(huber) => {
            let delta = huber.delta() as f64;
            let near = d.abs() <= delta;
            let loss = if near { 0.5 * d * d } else { delta * (d.abs() - 0.5 * delta) };
            (loss, d.clamp(-delta, delta))
        }
        Loss::BceWithLogits => {
            // Without the cancellations of x - x t and sigmoid(x) - t.
            let (far, e) = (if x > 0.0 { 1.0 - t } else { t }, (-x.abs()).exp());
            let gradient = far - e / (1.0 + e);
            (x.abs() * far + e.ln_1p(), if x > 0.0 { gradient } else { -gradient })
        }
    };
    let (loss_bound, gradient_bound) = match of {
        Loss::Mse => (3.0 * U * loss + TINY[0], 2.0 * U * gradient.abs()),
        Loss::L1 => (U * loss, 0.0),
        Loss::Huber(_) => (4.0 * U * loss + TINY[0], 2.0 * U * gradient.abs()),
        Loss::BceWithLogits => {
            let (far, e) = (if x > 0.0 { 1.0 - t } else { t }.abs(), (-x.abs()).exp());
            let q = e / (1.0 + e);
            (
                U * (2.0 * x.abs() * far + 5.0 * e.ln_1p()) + TINY[1],
                U * (2.0 * far + 5.0 * q + 2.0 * gradient.abs()) + TINY[1],
            )
        }
    };
    Exact { loss, gradient, loss_bound, gradient_bound }
}

/// What every form gave, which must agree.
fn run(loss: Loss, x: &[f32], target: &[f32], scale: f32) -> (f64, Vec<f32>) {
    let mut dx = vec![f32::NAN; x.len()];
    let sum = loss.forward_backward(x, target, scale, &mut dx);
    let mut over = x.to_vec();
    let in_place = loss.forward_backward_in_place(&mut over, target, scale);
    assert_same(&over, &dx, "in place");
    for other in [in_place, loss.forward(x, target)] {
        assert!(other.to_bits() == sum.to_bits() || other.is_nan() && sum.is_nan(), "{other}, not {sum}");
    }
    (sum, dx)
}

/// Makes a prediction and its target.
type Kind = fn(&mut Rng) -> (f32, f32);

const KINDS: [Kind; 7] = [
    |rng| (rng.normal(), rng.unit()),
    // Hard targets.
    |rng| (3.0 * rng.normal(), rng.below(2) as f32),
    // Logits over the whole range in which an exponential is no zero, and predictions far from their targets.
    |rng| (rng.uniform(-100.0, 100.0), rng.unit()),
    |rng| (rng.spread(-20, 20), rng.below(2) as f32),
    // Differences on both sides of the deltas.
    |rng| (1.0 + rng.spread(-12, 2), 1.0),
    |rng| (rng.spread(-126, -60), rng.below(2) as f32 * 0.5),
    // Squares that are subnormal.
    |rng| (rng.spread(-75, -62), 0.0),
];

fn pairs(rng: &mut Rng, kind: Kind, n: usize) -> (Vec<f32>, Vec<f32>) {
    (0..n).map(|_| kind(rng)).unzip()
}

#[test]
fn losses_and_gradients_are_within_their_bounds() {
    let mut rng = Rng::new(1);
    let n = if cfg!(debug_assertions) { 300 } else { 5000 };
    for loss in all() {
        let mut worst = [0.0f64; 2];
        for kind in KINDS {
            let (x, target) = pairs(&mut rng, kind, n);
            let scale = rng.spread(-3, 3);
            for_each_tier(|tier| {
                let (_, dx) = run(loss, &x, &target, scale);
                for i in 0..n {
                    let want = exact(loss, x[i] as f64, target[i] as f64);
                    // A sum of one is its loss.
                    let one = loss.forward(&x[i..=i], &target[i..=i]);
                    let bound = want.gradient_bound * scale.abs() as f64 + TINY[0];
                    let found = [
                        ratio(one as f32, want.loss, want.loss_bound),
                        ratio(dx[i], want.gradient * scale as f64, bound),
                    ];
                    for (worst, found) in worst.iter_mut().zip(found) {
                        let what = format!("{tier} {loss:?} of {} against {}", x[i], target[i]);
                        assert!(found <= 1.0, "{what}: {one} {}: {found} of the bound", dx[i]);
                        *worst = worst.max(found);
                    }
                }
            });
        }
        println!("{loss:?}: largest errors {worst:.3?} of the bounds");
        let exact = loss == Loss::L1;
        assert!(worst[0] > 0.3 && (exact || worst[1] > 0.3), "{loss:?}: bounds too loose: {worst:?}");
    }
}

#[test]
fn sums_are_within_their_bound_however_long() {
    let mut rng = Rng::new(2);
    let mut lengths: Vec<usize> = (1..=70).chain([127, 128, 1000]).collect();
    lengths.extend([BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 70, PIECE, 3 * PIECE + BLOCK + 17]);
    lengths.push(if cfg!(debug_assertions) { 1 << 17 } else { 1 << 24 });
    let mut worst = (0.0f64, 0, Loss::Mse);
    for loss in [Loss::Mse, Loss::L1, huber(0.7), Loss::BceWithLogits] {
        for &n in &lengths {
            // All alike, so that the roundings go one way; or as they come.
            let alike = (rng.uniform(0.5, 2.0), rng.unit());
            let ordinary = pairs(&mut rng, KINDS[0], n);
            for (x, target) in [(vec![alike.0; n], vec![alike.1; n]), ordinary] {
                let (mut want, mut bound) = (0.0, 0.0);
                for (&x, &t) in x.iter().zip(&target) {
                    let one = exact(loss, x as f64, t as f64);
                    want += one.loss;
                    bound += one.loss_bound + 70.0 * U * one.loss.abs();
                }
                for_each_tier(|tier| {
                    let error = (loss.forward(&x, &target) - want).abs() / bound;
                    assert!(error <= 1.0, "{tier}, {n} of {loss:?}: off by {error} of the bound");
                    if error > worst.0 {
                        worst = (error, n, loss);
                    }
                });
            }
        }
    }
    println!("largest error {:.3} of the bound, {} of {:?}", worst.0, worst.1, worst.2);
    assert!(worst.0 > 0.1);
}

/// The documented order, from the losses of single elements.
fn in_order(losses: &[f32]) -> f64 {
    let halves = |mut lanes: Vec<f32>| {
        while lanes.len() > 1 {
            let (a, b) = lanes.split_at(lanes.len() / 2);
            lanes = a.iter().zip(b).map(|(a, b)| a + b).collect();
        }
        lanes[0] as f64
    };
    let piece = |losses: &[f32]| {
        let mut total = 0.0f64;
        let (whole, rest) = losses.split_at(losses.len() / 64 * 64);
        for block in whole.chunks(BLOCK) {
            let mut lanes = vec![0.0f32; 16];
            for group in block.chunks(64) {
                for (i, lane) in lanes.iter_mut().enumerate() {
                    *lane += (group[i] + group[i + 16]) + (group[i + 32] + group[i + 48]);
                }
            }
            total += halves(lanes);
        }
        let mut lanes = vec![0.0f32; 16];
        for vector in rest.chunks(16) {
            lanes.iter_mut().zip(vector).for_each(|(lane, x)| *lane += x);
        }
        total + halves(lanes)
    };
    let pieces: Vec<f64> = losses.chunks(PIECE).map(piece).collect();
    fn tree(x: &[f64]) -> f64 {
        if x.len() == 1 { x[0] } else { tree(&x[..x.len() / 2]) + tree(&x[x.len() / 2..]) }
    }
    tree(&pieces)
}

#[test]
fn the_order_is_the_documented_one() {
    let mut rng = Rng::new(3);
    for loss in [Loss::Mse, Loss::L1, huber(0.7), Loss::BceWithLogits] {
        for n in [1, 15, 16, 63, 64, 100, 1000, BLOCK + 64, 2 * BLOCK + 33, PIECE, 4 * PIECE + BLOCK + 77] {
            let (x, target) = pairs(&mut rng, |rng| (rng.spread(-6, 6), rng.unit()), n);
            let losses: Vec<f32> =
                x.iter().zip(&target).map(|(&x, &t)| loss.forward(&[x], &[t]) as f32).collect();
            let want = in_order(&losses);
            for_each_tier(|tier| assert_eq!(run(loss, &x, &target, 1.0).0, want, "{tier} {loss:?} {n}"));
        }
    }
}

#[test]
fn the_gradient_is_the_derivative_of_the_loss() {
    let mut rng = Rng::new(4);
    for loss in all() {
        let (x, target) = pairs(&mut rng, KINDS[0], 50);
        let (_, dx) = run(loss, &x, &target, 1.0);
        let mut seen = 0;
        for i in 0..x.len() {
            let (x, t) = (x[i] as f64, target[i] as f64);
            // Where the formula has no corner nearby.
            let corner = match loss {
                Loss::L1 => 0.0,
                Loss::Huber(huber) => huber.delta() as f64,
                _ => f64::INFINITY,
            };
            if ((x - t).abs() - corner).abs() < 2e-5 {
                continue;
            }
            let slope = (exact(loss, x + 1e-5, t).loss - exact(loss, x - 1e-5, t).loss) / 2e-5;
            assert!((slope - dx[i] as f64).abs() < 1e-6, "{loss:?}: {slope}, {}", dx[i]);
            seen += 1;
        }
        assert!(seen > 40);
    }
}

#[test]
fn losses_follow_pytorch() {
    let sections = parse(include_str!("../golden/elementwise.txt"));
    let golden = &sections[0];
    let (x, target) = (golden.get("x"), golden.get("target"));
    let names = [("mse", Loss::Mse), ("l1", Loss::L1), ("huber", huber(1.5)), ("bce", Loss::BceWithLogits)];
    for (name, loss) in names {
        for_each_tier(|tier| {
            let (sum, dx) = run(loss, x, target, 1.0);
            for (key, got, bound) in
                [(name.to_owned(), vec![sum as f32], 2e-7), (format!("d{name}"), dx, 1.2e-7)]
            {
                let right = golden.get(&format!("{key}64"));
                let (error, torch) = (relative(&got, right), relative(golden.get(&key), right));
                println!("{tier} {key}: error {error:.1e}, PyTorch's {torch:.1e}");
                assert!(error <= bound, "{tier} {key}: error {error:e}");
            }
        });
    }
}

#[test]
fn extreme_logits_lose_nothing() {
    let bce = Loss::BceWithLogits;
    for_each_tier(|tier| {
        for (x, t, loss, gradient) in [
            (1e4, 1.0, 0.0, 0.0),
            (1e4, 0.0, 1e4, 1.0),
            (-1e4, 0.0, 0.0, 0.0),
            (-1e4, 1.0, 1e4, -1.0),
            (1e4, 0.5, 5e3, 0.5),
            (-1e4, 0.25, 2.5e3, -0.25),
            (1e30, 1.0, 0.0, 0.0),
            (-f32::MAX, 0.0, 0.0, 0.0),
            (f32::MAX, 0.0, f32::MAX as f64, 1.0),
        ] {
            let (sum, dx) = run(bce, &[x], &[t], 1.0);
            assert_eq!((sum, dx[0]), (loss, gradient), "{tier}: {x} against {t}");
        }
        // Of a vote that is right all digits stay, and either zero is one half.
        for (x, t, loss, gradient) in
            [(20.0, 1.0, 2.061_153_6e-9, -2.061_153_6e-9), (-20.0, 0.0, 2.061_153_6e-9, 2.061_153_6e-9)]
        {
            let (sum, dx) = run(bce, &[x], &[t], 1.0);
            assert!((sum / loss - 1.0).abs() < 1e-6, "{tier}: {x} against {t}: {sum}");
            assert!((dx[0] as f64 / gradient - 1.0).abs() < 1e-6, "{tier}: {x} against {t}: {}", dx[0]);
        }
        for x in [0.0, -0.0] {
            let (sum, dx) = run(bce, &[x; 3], &[0.0, 1.0, 0.25], 1.0);
            assert!((sum - 3.0 * std::f64::consts::LN_2).abs() < 1e-6, "{tier}: {sum}");
            assert_eq!(dx, [0.5, -0.5, 0.25], "{tier} {x}");
        }
    });
}

#[test]
fn nan_and_infinity_are_as_documented() {
    let inf = f32::INFINITY;
    let mut rng = Rng::new(5);
    for_each_tier(|tier| {
        for loss in all() {
            for n in [1, 5, 16, 64, 200] {
                let (x, target) = pairs(&mut rng, KINDS[0], n);
                let at = rng.below(n);
                let (_, plain) = run(loss, &x, &target, 0.5);
                for in_target in [false, true] {
                    let (mut x, mut target) = (x.clone(), target.clone());
                    if in_target {
                        target[at] = f32::NAN
                    } else {
                        x[at] = f32::NAN
                    }
                    let (sum, mut dx) = run(loss, &x, &target, 0.5);
                    assert!(sum.is_nan() && dx[at].is_nan(), "{tier} {loss:?}: {sum} {}", dx[at]);
                    dx[at] = plain[at];
                    assert_same(&dx, &plain, format!("{tier} {loss:?}: the others"));
                }
            }
            let gives = |x: f32, t: f32| {
                let (sum, dx) = run(loss, &[x], &[t], 0.5);
                (sum, dx[0])
            };
            let limit = match loss {
                Loss::Mse => inf,
                Loss::Huber(huber) => 0.5 * huber.delta(),
                _ => 0.5,
            };
            assert_eq!(gives(inf, 0.0), (f64::INFINITY, limit), "{tier} {loss:?}");
            if loss == Loss::BceWithLogits {
                assert_eq!(gives(-inf, 1.0), (f64::INFINITY, -limit), "{tier}");
                // Infinity times 0; the gradient is 0.
                for (x, t) in [(inf, 1.0), (-inf, 0.0)] {
                    let (sum, dx) = gives(x, t);
                    assert!(sum.is_nan() && dx == 0.0, "{tier}: {sum} {dx}");
                }
            } else {
                assert_eq!(gives(-inf, 0.0), (f64::INFINITY, -limit), "{tier} {loss:?}");
                let (sum, dx) = gives(inf, inf);
                assert!(sum.is_nan() && dx.is_nan(), "{tier} {loss:?}: {sum} {dx}");
            }
            assert_eq!(run(loss, &[], &[], 1.0), (0.0, vec![]), "{tier}");
        }
        // A square beyond f32's range.
        assert_eq!(run(Loss::Mse, &[1e20], &[0.0], 1e-3).0, f64::INFINITY, "{tier}");
        let (_, dx) = run(Loss::L1, &[2.0, -0.0, 0.0, -0.0, 1e-45], &[2.0, 0.0, 0.0, -0.0, 0.0], 3.0);
        assert_eq!(dx, [0.0, 0.0, 0.0, 0.0, 3.0], "{tier}");
    });
}

#[test]
fn a_wrong_length_panics_with_both() {
    for loss in all() {
        let mut out = [9.0; 3];
        let message = panic_message(|| _ = loss.forward(&[1.0; 3], &[1.0; 4]));
        assert_eq!(message, "loss forward: target has 4 values, x asks for 3");
        let message = panic_message(|| _ = loss.forward_backward(&[1.0; 3], &[1.0; 2], 1.0, &mut out));
        assert_eq!(message, "loss: target has 2 values, x asks for 3");
        let message = panic_message(|| _ = loss.forward_backward(&[1.0; 70], &[1.0; 70], 1.0, &mut out));
        assert_eq!(message, "loss: dx has 3 values, x asks for 70");
        let message = panic_message(|| _ = loss.forward_backward_in_place(&mut out, &[1.0; 64], 1.0));
        assert_eq!(message, "loss in place: target has 64 values, x asks for 3");
        assert_eq!(out, [9.0; 3], "nothing was done");
    }
}

#[test]
fn every_delta_works_or_is_refused() {
    assert_eq!(Huber::default().delta(), 1.0);
    for delta in [0.0, -1.0, 1e-39, 1.1e12, f64::NAN, f64::INFINITY] {
        let error = Huber::new(delta).unwrap_err();
        let rule = "must be a normal f32 above 0 and at most 1e12";
        assert_eq!(error.to_string(), format!("delta = {delta}: {rule}"));
    }
    walk("Huber", &1.0, &[("delta", |delta: &mut f64, x| *delta = x)], |&delta| {
        let loss = Loss::Huber(Huber::new(delta)?);
        let (x, target) = (data(200, 0), data(200, 70));
        let (sum, dx) = run(loss, &x, &target, 1.0);
        Ok([vec![sum as f32], dx].concat())
    });
}
