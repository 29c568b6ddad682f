//! The loss of a linear layer in chunks of rows has the bits of all logits at once.

use hotlanes::cross_entropy::{CrossEntropy, LINEAR_ROWS, Reduction};
use hotlanes::matmul::{Mat, MatMut, matmul};

use crate::common::{Rng, assert_same, for_each_tier};

/// Losses, `dx`, `dweights`, and the loss.
type Outputs = [Vec<f32>; 4];

fn nan(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

fn in_chunks(ce: &CrossEntropy, reduction: Reduction, x: &[f32], weights: &[f32], labels: &[u32]) -> Outputs {
    let mut scratch = nan(ce.linear_scratch_len());
    let [mut losses, mut dx, mut dw] = [labels.len(), x.len(), weights.len()].map(nan);
    let loss = ce.linear_forward_backward(
        x,
        weights,
        labels,
        reduction,
        &mut scratch,
        &mut losses,
        &mut dx,
        &mut dw,
    );
    [losses, dx, dw, vec![loss.unwrap()]]
}

fn in_steps(ce: &CrossEntropy, reduction: Reduction, x: &[f32], weights: &[f32], labels: &[u32]) -> Outputs {
    let (rows, classes) = (labels.len(), ce.classes());
    let features = weights.len() / classes;
    let (xm, w) = (Mat::new(x, rows, features), Mat::new(weights, classes, features));
    let [mut logits, mut dlogits] = [(); 2].map(|()| nan(rows * classes));
    let [mut losses, mut dx, mut dw] = [rows, x.len(), weights.len()].map(nan);
    matmul(xm, w.t(), MatMut::new(&mut logits, rows, classes));
    let loss = ce.forward_backward(&logits, labels, reduction, &mut dlogits, &mut losses).unwrap();
    let d = Mat::new(&dlogits, rows, classes);
    matmul(d, w, MatMut::new(&mut dx, rows, features));
    matmul(d.t(), xm, MatMut::new(&mut dw, classes, features));
    [losses, dx, dw, vec![loss]]
}

#[test]
fn chunks_have_the_bits_of_the_steps() {
    let mut rng = Rng::new(1);
    let l = LINEAR_ROWS;
    for [rows, features, classes] in [
        [0, 3, 5],
        [1, 1, 1],
        [5, 0, 4],
        [7, 5, 33],
        [l - 1, 17, 10],
        [l, 4, 19],
        [l + 1, 9, 65],
        [2 * l + 3, 20, 31],
    ] {
        let ignore = [None, Some(0)][rng.below(2)];
        let ce = CrossEntropy::new(classes, [0.0, 0.1][rng.below(2)], ignore).unwrap();
        let reduction = [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.3)][rng.below(3)];
        let x = rng.vec(rows * features, |rng| rng.normal());
        let weights = rng.vec(classes * features, |rng| rng.normal());
        let labels: Vec<u32> = (0..rows).map(|_| rng.below(classes) as u32).collect();
        let mut first: Option<Outputs> = None;
        for_each_tier(|tier| {
            let steps = in_steps(&ce, reduction, &x, &weights, &labels);
            let want = first.get_or_insert(steps);
            let got = in_chunks(&ce, reduction, &x, &weights, &labels);
            for (got, want) in got.iter().zip(want) {
                assert_same(got, want, format_args!("{tier}, {rows} x {features}, {classes} classes"));
            }
        });
    }
}
