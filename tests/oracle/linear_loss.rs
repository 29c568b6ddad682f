//! Cross-entropy of a linear layer against its formulas in f64, and what it refuses.

use hotlanes::cross_entropy::{CrossEntropy, LINEAR_ROWS, LabelError, Reduction};

use crate::common::{Rng, for_each_tier, panic_message};
use crate::softmax::{row, wide};

/// Loss, losses, dx, dweights in f64; a label of `classes` is ignored.
fn exact(
    x: &[f32],
    w: &[f32],
    labels: &[u32],
    classes: usize,
    smoothing: f64,
) -> (f64, Vec<f64>, Vec<f64>, Vec<f64>) {
    let (x, w, features) = (wide(x), wide(w), w.len() / classes);
    let counted = labels.iter().filter(|&&t| t as usize != classes).count() as f64;
    let (mut losses, mut dx, mut dw) = (vec![0.0; labels.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    for (r, &t) in labels.iter().enumerate().filter(|&(_, &t)| t as usize != classes) {
        let x = &x[r * features..][..features];
        let logit = |j: usize| (0..features).map(|f| x[f] * w[j * features + f]).sum();
        let logits: Vec<f64> = (0..classes).map(logit).collect();
        let p = row(&logits).p;
        for j in 0..classes {
            let target = smoothing / classes as f64 + if j == t as usize { 1.0 - smoothing } else { 0.0 };
            losses[r] -= target * p[j].ln();
            let d = (p[j] - target) / counted;
            for f in 0..features {
                dx[r * features + f] += d * w[j * features + f];
                dw[j * features + f] += d * x[f];
            }
        }
    }
    (losses.iter().sum::<f64>() / counted, losses, dx, dw)
}

#[test]
fn it_is_the_loss_of_the_layer_and_its_gradients() {
    let mut rng = Rng::new(1);
    for (rows, features, classes, smoothing) in
        [(1, 3, 2, 0.0), (9, 5, 17, 0.1), (LINEAR_ROWS + 5, 4, 6, 0.0), (2 * LINEAR_ROWS + 1, 3, 11, 0.2)]
    {
        let x = rng.vec(rows * features, |rng| rng.normal());
        let w = rng.vec(classes * features, |rng| rng.normal());
        let mut labels: Vec<u32> = (0..rows).map(|_| rng.below(classes + 1) as u32).collect();
        labels[0] = 1;
        let ce = CrossEntropy::new(classes, smoothing, Some(classes as u32)).unwrap();
        let (loss, losses, dx, dw) = exact(&x, &w, &labels, classes, smoothing);
        for_each_tier(|tier| {
            let mut scratch = vec![f32::NAN; ce.linear_scratch_len()];
            let [mut l, mut a, mut b] = [rows, x.len(), w.len()].map(|n| vec![f32::NAN; n]);
            let reduction = Reduction::Mean;
            let got = ce
                .linear_forward_backward(&x, &w, &labels, reduction, &mut scratch, &mut l, &mut a, &mut b)
                .unwrap();
            for (name, got, want) in
                [("loss", &[got][..], &[loss][..]), ("losses", &l, &losses), ("dx", &a, &dx), ("dw", &b, &dw)]
            {
                let size = want.iter().fold(0.0, |a: f64, w| a.max(w.abs()));
                for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
                    let error = (g as f64 - w).abs();
                    assert!(error <= 2e-6 * size, "{tier} {rows} rows: {name} {i} is {g}, not {w}");
                }
            }
        });
    }
}

/// Sizes of weights, x, scratch, losses, dx, dweights: six labels, three classes, two features.
const LENGTHS: [usize; 6] = [6, 12, 3 * LINEAR_ROWS, 6, 12, 6];

fn run(labels: &[u32], lengths: [usize; 6], outputs: &mut [Vec<f32>; 4]) -> Result<f32, LabelError> {
    let ce = CrossEntropy::new(3, 0.0, Some(7)).unwrap();
    let [weights, x, ..] = lengths.map(|n| vec![0.5; n]);
    *outputs = [2, 3, 4, 5].map(|i| vec![9.0; lengths[i]]);
    let [scratch, losses, dx, dw] = outputs;
    ce.linear_forward_backward(&x, &weights, labels, Reduction::Mean, scratch, losses, dx, dw)
}

#[test]
fn a_wrong_label_is_named_and_nothing_is_written() {
    for_each_tier(|tier| {
        let mut outputs = Default::default();
        let error = run(&[0, 1, 7, 2, 3, 4], LENGTHS, &mut outputs).unwrap_err();
        assert_eq!(error, LabelError { row: 4, label: 3, classes: 3 }, "{tier}");
        assert!(outputs.iter().flatten().all(|&x| x == 9.0), "{tier}");
        assert!(run(&[0, 1, 7, 2, 0, 1], LENGTHS, &mut outputs).is_ok());
        assert!(outputs[1..].iter().flatten().all(|&x| x != 9.0), "{tier}");
    });
    // In a chunk that is not the first.
    let ce = CrossEntropy::new(3, 0.0, None).unwrap();
    let mut labels = vec![0; LINEAR_ROWS + 2];
    labels[LINEAR_ROWS + 1] = 3;
    let (x, mut dx, mut losses) =
        (vec![1.0; LINEAR_ROWS + 2], vec![9.0; LINEAR_ROWS + 2], vec![9.0; LINEAR_ROWS + 2]);
    let (mut scratch, mut dw) = (vec![9.0; ce.linear_scratch_len()], [9.0; 3]);
    let error = ce
        .linear_forward_backward(
            &x,
            &[1.0; 3],
            &labels,
            Reduction::Sum,
            &mut scratch,
            &mut losses,
            &mut dx,
            &mut dw,
        )
        .unwrap_err();
    assert_eq!(error.row, LINEAR_ROWS + 1);
    assert!([&dx, &losses, &scratch, &dw[..]].into_iter().all(|s: &[f32]| s.iter().all(|&x| x == 9.0)));
}

#[test]
fn without_rows_the_weights_gradient_is_zero_and_the_mean_is_none() {
    let mut outputs = Default::default();
    let loss = run(&[], [6, 0, 3 * LINEAR_ROWS, 0, 0, 6], &mut outputs).unwrap();
    assert!(loss.is_nan());
    assert_eq!(outputs[3], [0.0; 6]);
}

#[test]
fn lengths_must_fit() {
    let names = ["weights", "x", "scratch", "losses", "dx", "dweights"];
    for (i, name) in names.into_iter().enumerate() {
        let mut lengths = LENGTHS;
        lengths[i] += 1;
        let message = panic_message(|| {
            let _ = run(&[0; 6], lengths, &mut Default::default());
        });
        let want = format!("linear cross entropy: {name} has {} values, ", lengths[i]);
        assert!(message.starts_with(&want), "{message}");
    }
}
