//! Cross-entropy against the formulas of its documentation, in f64.

use hotlanes::cross_entropy::{CrossEntropy, Reduction};

use crate::common::{Rng, assert_same, for_each_tier};
use crate::softmax::{U, levels, matrix, ratio, row, shapes, wide};

const NAMES: [&str; 3] = ["losses", "loss", "dlogits"];

/// What every form gave, which must agree.
struct Outputs {
    loss: f32,
    losses: Vec<f32>,
    dlogits: Vec<f32>,
}

fn run(ce: &CrossEntropy, x: &[f32], labels: &[u32], reduction: Reduction) -> Outputs {
    let (mut losses, mut dlogits) = (vec![f32::NAN; labels.len()], vec![f32::NAN; x.len()]);
    let loss = ce.forward_backward(x, labels, reduction, &mut dlogits, &mut losses).unwrap();
    let mut again = vec![f32::NAN; labels.len()];
    let forward = ce.forward(x, labels, reduction, &mut again).unwrap();
    assert_same(&again, &losses, "forward only");
    let mut over = x.to_vec();
    again.fill(f32::NAN);
    let in_place = ce.forward_backward_in_place(&mut over, labels, reduction, &mut again).unwrap();
    assert_same(&again, &losses, "in place");
    assert_same(&over, &dlogits, "in place");
    assert_same(&[forward, in_place], &[loss, loss], "the losses of all forms");
    Outputs { loss, losses, dlogits }
}

/// The largest error of each output over its bound.
fn errors(
    c: usize,
    x: &[f32],
    labels: &[u32],
    smoothing: f64,
    ignore: Option<u32>,
    scaled: bool,
) -> [f64; 3] {
    let ce = CrossEntropy::new(c, smoothing, ignore).unwrap();
    let counted = labels.iter().filter(|&&t| Some(t) != ignore).count();
    let (reduction, w) = if scaled {
        (Reduction::Scaled(0.3), 0.3f32 as f64)
    } else {
        (Reduction::Mean, 1.0 / counted as f64)
    };
    let got = run(&ce, x, labels, reduction);
    let (l, ln) = (levels(c), (c as f64).ln());
    let mut worst = [0.0; 3];
    let mut see = |k: usize, ratio: f64| worst[k] = f64::max(worst[k], ratio);
    let (mut sum, mut sum_bound) = (0.0, 0.0);
    let (keep, spread) = (1.0 - smoothing, smoothing / c as f64);
    for (r, &t) in labels.iter().enumerate() {
        let d = &got.dlogits[r * c..][..c];
        if Some(t) == ignore {
            assert!(got.losses[r] == 0.0 && d.iter().all(|d| *d == 0.0), "an ignored row");
            continue;
        }
        let x = wide(&x[r * c..][..c]);
        let exact = row(&x);
        let distance: f64 = x.iter().map(|x| exact.max - x).sum();
        let hit = exact.max - x[t as usize];
        let smooth = if smoothing > 0.0 { spread * distance } else { 0.0 };
        let want = exact.sum.ln() + keep * hit + smooth;
        if want == f64::INFINITY {
            assert_eq!(got.losses[r], f32::INFINITY, "the probability of a target is 0");
            sum = want;
        } else {
            let bound = U * (2.0 * exact.sum.ln() + ln + l + 4.0 * keep * hit + (l + 4.0) * smooth);
            see(0, ratio(got.losses[r], want, bound));
            sum += want;
            sum_bound += bound;
        }
        for j in 0..c {
            let here = if j == t as usize { keep } else { 0.0 };
            let p = exact.p[j];
            let near = if p == 0.0 { 0.0 } else { p * (exact.max - x[j] + ln + l + 6.0) };
            let bound = U * w * (near + 3.0 * spread + 3.0 * here) + w * f32::MIN_POSITIVE as f64;
            see(2, ratio(d[j], w * (p - spread - here), bound));
        }
    }
    if sum.is_finite() && w.is_finite() {
        let bound = w * (sum_bound + U * (levels(labels.len()) + 2.0) * sum);
        see(1, ratio(got.loss, w * sum, bound));
    } else {
        assert!(counted == 0 && got.loss.is_nan() || got.loss == f32::INFINITY, "{}", got.loss);
    }
    worst
}

#[test]
fn everything_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = [(0.0, (0, 0)); 3];
    for (i, (classes, rows)) in shapes().into_iter().enumerate() {
        let mut x = matrix(&mut rng, classes, rows);
        if i % 3 > 0 {
            // Infinite losses are seen in the other third.
            x.iter_mut().for_each(|x| *x = x.max(-2e4));
        }
        // One class more: its label is the ignored index.
        let ignored = i % 2 == 0;
        let labels: Vec<u32> = (0..rows).map(|_| rng.below(classes + ignored as usize) as u32).collect();
        let (smoothing, ignore) = ([0.0, 0.1, 0.9, 0.0][i % 4], ignored.then_some(classes as u32));
        for_each_tier(|tier| {
            let found = errors(classes, &x, &labels, smoothing, ignore, i % 5 == 0);
            for (k, error) in found.into_iter().enumerate() {
                let name = NAMES[k];
                assert!(error <= 1.0, "{tier} {rows} x {classes}: {name} off by {error} of its bound");
                if error > worst[k].0 {
                    worst[k] = (error, (rows, classes));
                }
            }
        });
    }
    for ((error, (rows, classes)), name) in worst.into_iter().zip(NAMES) {
        println!("{name}: largest error {error:.3} of its bound, at {rows} x {classes}");
        assert!(error > 0.1, "the bound of {name} is too loose to mean anything: {error}");
    }
}

#[test]
fn many_losses_are_summed_within_the_bound() {
    let mut rng = Rng::new(2);
    for rows in [65, 4097, if cfg!(debug_assertions) { 5000 } else { 70_000 }] {
        let x = rng.vec(3 * rows, |rng| rng.normal());
        let labels: Vec<u32> = (0..rows).map(|_| rng.below(3) as u32).collect();
        for_each_tier(|tier| {
            let [losses, loss, _] = errors(3, &x, &labels, 0.0, None, false);
            assert!(losses <= 1.0 && loss <= 1.0, "{tier} {rows}: {losses} {loss}");
        });
    }
}

#[test]
fn the_gradient_is_the_derivative_of_the_loss() {
    let mut rng = Rng::new(3);
    for (classes, smoothing) in [(1, 0.0), (2, 0.0), (5, 0.2), (9, 1.0), (7, 0.0)] {
        let (x, labels) = (rng.vec(3 * classes, |rng| rng.normal()), [0, classes as u32 - 1, u32::MAX]);
        let ce = CrossEntropy::new(classes, smoothing, Some(u32::MAX)).unwrap();
        let got = run(&ce, &x, &labels, Reduction::Mean);
        let loss = |x: &[f64]| {
            let of = |r: usize| {
                let p = row(&x[r * classes..][..classes]).p;
                let all = p.iter().map(|p| p.ln()).sum::<f64>() / classes as f64;
                -(1.0 - smoothing) * p[labels[r] as usize].ln() - smoothing * all
            };
            (of(0) + of(1)) / 2.0
        };
        assert!((loss(&wide(&x)) - got.loss as f64).abs() < 1e-6);
        for i in 0..x.len() {
            let (mut above, mut below) = (wide(&x), wide(&x));
            above[i] += 1e-5;
            below[i] -= 1e-5;
            let slope = (loss(&above) - loss(&below)) / 2e-5;
            assert!((slope - got.dlogits[i] as f64).abs() < 1e-6, "{classes}: {slope}, {}", got.dlogits[i]);
        }
    }
}
