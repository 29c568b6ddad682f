//! Cross-entropy of a linear layer, in chunks of rows: the bits of the separate steps on the whole batch.

use hotlanes::cross_entropy::{CrossEntropy, LINEAR_ROWS, Reduction};
use hotlanes::matmul::{Mat, MatMut, matmul};

use crate::common::{Guarded, Hash, Rng, assert_same, for_each_tier};
use crate::pools::on_pools;

/// Losses, dx, dweights, and the loss.
type Outputs = [Vec<f32>; 4];

struct Case {
    ce: CrossEntropy,
    reduction: Reduction,
    x: Vec<f32>,
    weights: Vec<f32>,
    labels: Vec<u32>,
}

impl Case {
    fn random(rng: &mut Rng, [rows, features, classes]: [usize; 3]) -> Self {
        let ignore = [None, Some(0)][rng.below(2)];
        let ce = CrossEntropy::new(classes, [0.0, 0.1][rng.below(2)], ignore).unwrap();
        let reduction = [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.3)][rng.below(3)];
        let x = rng.vec(rows * features, |rng| rng.normal());
        let weights = rng.vec(classes * features, |rng| rng.normal());
        let labels = (0..rows).map(|_| rng.below(classes) as u32).collect();
        Case { ce, reduction, x, weights, labels }
    }

    fn features(&self) -> usize {
        self.weights.len() / self.ce.classes()
    }

    fn run_at(&self, offset: usize) -> Outputs {
        let Case { ce, reduction, x, weights, labels } = self;
        let nan = |n: usize, k: usize| Guarded::new((offset + 3 * k) % 17, &vec![f32::NAN; n]);
        let mut scratch = nan(ce.linear_scratch_len(), 0);
        let mut out = [labels.len(), x.len(), weights.len()].map(|n| nan(n, n % 5));
        let [losses, dx, dw] = out.each_mut().map(|o| o.get_mut());
        let loss = ce
            .linear_forward_backward(x, weights, labels, *reduction, scratch.get_mut(), losses, dx, dw)
            .unwrap();
        scratch.assert_guards("scratch");
        for slice in &out {
            slice.assert_guards("an output");
        }
        let [losses, dx, dw] = out.each_ref().map(|o| o.get().to_vec());
        [losses, dx, dw, vec![loss]]
    }

    /// All logits at once, step by step.
    fn steps(&self) -> Outputs {
        let Case { ce, reduction, x, weights, labels } = self;
        let (rows, classes, features) = (labels.len(), ce.classes(), self.features());
        let (xm, w) = (Mat::new(x, rows, features), Mat::new(weights, classes, features));
        let [mut logits, mut dlogits] = [(); 2].map(|()| vec![f32::NAN; rows * classes]);
        let [mut losses, mut dx, mut dw] = [rows, x.len(), weights.len()].map(|n| vec![f32::NAN; n]);
        matmul(xm, w.t(), MatMut::new(&mut logits, rows, classes));
        let loss = ce.forward_backward(&logits, labels, *reduction, &mut dlogits, &mut losses).unwrap();
        let d = Mat::new(&dlogits, rows, classes);
        matmul(d, w, MatMut::new(&mut dx, rows, features));
        matmul(d.t(), xm, MatMut::new(&mut dw, classes, features));
        [losses, dx, dw, vec![loss]]
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in ["losses", "dx", "dweights", "loss"].into_iter().enumerate() {
        assert_same(&got[i], &want[i], format_args!("{what}: {name}"));
    }
}

/// Rows, features, classes: around one and two chunks, and nothing at all.
const SHAPES: [[usize; 3]; 10] = [
    [0, 3, 5],
    [1, 1, 1],
    [5, 0, 4],
    [7, 5, 33],
    [LINEAR_ROWS - 1, 17, 10],
    [LINEAR_ROWS, 4, 19],
    [LINEAR_ROWS + 1, 9, 65],
    [2 * LINEAR_ROWS, 3, 7],
    [2 * LINEAR_ROWS + 3, 20, 31],
    [3 * LINEAR_ROWS + 77, 2, 4],
];

#[test]
fn chunks_have_the_bits_of_the_steps() {
    let mut rng = Rng::new(1);
    for shape in SHAPES.into_iter().take(if cfg!(miri) { 4 } else { 10 }) {
        for turn in 0..if cfg!(debug_assertions) { 2 } else { 6 } {
            let case = Case::random(&mut rng, shape);
            let mut first: Option<Outputs> = None;
            for_each_tier(|tier| {
                let want = first.get_or_insert_with(|| case.steps());
                assert_all_same(&case.run_at(5 * turn), want, &format!("{tier}, {shape:?}"));
                assert_all_same(&case.steps(), want, &format!("steps, {tier}, {shape:?}"));
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    // Products and rows of one chunk that are spread, and a second chunk.
    let shape = if cfg!(miri) { [9, 3, 5] } else { [LINEAR_ROWS + 40, 24, 600] };
    let case = Case::random(&mut Rng::new(2), shape);
    let want = case.steps();
    on_pools(|threads| {
        for_each_tier(|tier| assert_all_same(&case.run_at(0), &want, &format!("{tier}, {threads} threads")));
    });
}

/// Changing it is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: u64 = 0x7C90_DE54_E57B_C3C1;

#[test]
fn the_hash_is_golden() {
    let mut rng = Rng::new(3);
    let cases = [[LINEAR_ROWS + 9, 6, 21], [40, 19, 50]].map(|shape| Case::random(&mut rng, shape));
    for_each_tier(|tier| {
        let mut hash = Hash::new();
        for output in cases.iter().flat_map(|case| case.run_at(0)) {
            hash.add(&output);
        }
        assert_eq!(hash.get(), GOLDEN, "{tier}: {:#018x}", hash.get());
    });
}
