//! Embedding against its formula, and what it does with ids and slices that do not fit.

use hotlanes::embedding::{EmbeddingError, EmbeddingIndices, EmbeddingPlan};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::golden::parse;

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

pub fn random_ids(rng: &mut Rng, n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|_| rng.below(vocab) as u32).collect()
}

/// Ids of which one half is the same: the longest chains of additions.
fn skewed_ids(rng: &mut Rng, n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|_| if rng.below(2) == 0 { vocab as u32 / 2 } else { rng.below(vocab) as u32 }).collect()
}

/// (positions, vocab, features)
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (5, 3, 7),
    (40, 9, 16),
    (33, 100, 17),
    (300, 5, 33),
    (64, 1000, 48),
    (500, 2, 3),
    (7, 4, 130),
];

#[test]
fn the_forward_is_exact() {
    let mut rng = Rng::new(1);
    for (n, vocab, features) in SHAPES {
        let ids = random_ids(&mut rng, n, vocab);
        let table = rng.vec(vocab * features, |rng| rng.any());
        let small = rng.vec(vocab * features, |rng| rng.spread(-8, 4));
        let rows = 1 + rng.below(n + 2);
        let positions = rng.vec(rows * features, |rng| rng.spread(-8, 4));
        let want: Vec<f32> =
            ids.iter().flat_map(|&id| &table[id as usize * features..][..features]).copied().collect();
        // A sum of two in f64 and its rounding to f32 are as one rounding.
        let with_positions: Vec<f32> = (0..n * features)
            .map(|i| {
                let (row, column) = (i / features, i % features);
                let x = small[ids[row] as usize * features + column] as f64;
                (x + positions[row % rows * features + column] as f64) as f32
            })
            .collect();
        let indices = EmbeddingIndices::new(&ids, vocab).unwrap();
        for_each_tier(|tier| {
            let what = format!("{tier}, {n} of {vocab} x {features}");
            let mut y = vec![f32::NAN; n * features];
            indices.forward(&table, features, &mut y);
            assert_same(&y, &want, &what);
            indices.forward_with_positions(&small, &positions, features, &mut y);
            assert_same(&y, &with_positions, format!("{what}, with {rows} positions"));
        });
    }
}

/// The largest error over its bound; `dtable` is what there was before.
fn error(ids: &[u32], features: usize, dy: &[f32], before: &[f32], after: &[f32]) -> f64 {
    let mut want: Vec<f64> = before.iter().map(|&x| x as f64).collect();
    let mut size: Vec<f64> = want.iter().map(|x| x.abs()).collect();
    let mut count = vec![0.0; before.len()];
    for (i, &id) in ids.iter().enumerate() {
        for c in 0..features {
            let (at, dy) = (id as usize * features + c, dy[i * features + c] as f64);
            want[at] += dy;
            size[at] += dy.abs();
            count[at] += 1.0;
        }
    }
    let mut worst: f64 = 0.0;
    for i in 0..before.len() {
        let error = (after[i] as f64 - want[i]).abs();
        assert!(error.is_finite(), "value {i} is {}", after[i]);
        // A row that no id names has no error.
        let bound = count[i] * U * size[i];
        worst = worst.max(if error == 0.0 { 0.0 } else { error / bound });
    }
    worst
}

#[test]
fn the_backward_is_within_its_bound() {
    let mut rng = Rng::new(2);
    let mut worst: f64 = 0.0;
    for (n, vocab, features) in SHAPES {
        for skewed in [false, true] {
            let ids = if skewed { skewed_ids(&mut rng, n, vocab) } else { random_ids(&mut rng, n, vocab) };
            // Of one sign, so that the roundings of a sum grow with it.
            let sign = if rng.below(2) == 0 { 0.0 } else { -1.0 };
            let dy = rng.vec(n * features, |rng| rng.uniform(sign, 1.0));
            let before = rng.vec(vocab * features, |rng| rng.spread(-8, 4));
            let plan = EmbeddingPlan::new(&EmbeddingIndices::new(&ids, vocab).unwrap());
            for_each_tier(|tier| {
                let mut dtable = before.clone();
                plan.backward(&dy, features, &mut dtable);
                let error = error(&ids, features, &dy, &before, &dtable);
                assert!(error <= 1.0, "{tier}, {n} of {vocab} x {features}: off by {error} of the bound");
                worst = worst.max(error);
            });
        }
    }
    println!("embedding dtable: largest error {worst:.3} of its bound");
    assert!(worst > 0.2, "the bound is too loose to mean anything: {worst}");
}

/// What the forward does to a table, the backward does to a gradient the other way round: <y, dy> = <table, dtable>.
#[test]
fn the_backward_is_the_derivative_of_the_forward() {
    let mut rng = Rng::new(3);
    // Whole numbers, so that no sum is rounded and the two are equal.
    let whole = |rng: &mut Rng| rng.below(17) as f32 - 8.0;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a * b) as f64).sum::<f64>();
    for (n, vocab, features) in SHAPES {
        let ids = random_ids(&mut rng, n, vocab);
        let rows = 1 + rng.below(n);
        let indices = EmbeddingIndices::new(&ids, vocab).unwrap();
        let places: Vec<u32> = (0..n).map(|i| (i % rows) as u32).collect();
        let places = EmbeddingPlan::new(&EmbeddingIndices::new(&places, rows).unwrap());
        let table = rng.vec(vocab * features, whole);
        let positions = rng.vec(rows * features, whole);
        let dy = rng.vec(n * features, whole);
        for_each_tier(|tier| {
            let mut y = vec![f32::NAN; n * features];
            indices.forward_with_positions(&table, &positions, features, &mut y);
            let (mut dtable, mut dpositions) = (vec![0.0; table.len()], vec![0.0; positions.len()]);
            EmbeddingPlan::new(&indices).backward(&dy, features, &mut dtable);
            places.backward(&dy, features, &mut dpositions);
            let back = dot(&table, &dtable) + dot(&positions, &dpositions);
            assert_eq!(dot(&y, &dy), back, "{tier}, {n} of {vocab} x {features}");
        });
    }
}

#[test]
fn the_gradient_of_a_row_that_no_id_names_is_not_touched() {
    let indices = EmbeddingIndices::new(&[3, 1, 3], 5).unwrap();
    let plan = EmbeddingPlan::new(&indices);
    assert_eq!(plan.distinct(), [1, 3]);
    for_each_tier(|tier| {
        let mut dtable = [f32::NAN, 1.0, f32::INFINITY, 2.0, f32::NAN];
        plan.backward(&[10.0, 20.0, f32::NAN], 1, &mut dtable);
        assert_same(&dtable, &[f32::NAN, 21.0, f32::INFINITY, f32::NAN, f32::NAN], tier);
    });
}

#[test]
fn bad_ids_are_named() {
    for (ids, vocab, position) in [(&[0, 1, 5, 9][..], 5, 2), (&[0], 0, 0), (&[u32::MAX, 0], 7, 0)] {
        let error = EmbeddingIndices::new(ids, vocab).unwrap_err();
        assert_eq!(error, EmbeddingError::OutOfRange { position, id: ids[position], vocab });
        let message = format!("position {position}: id {} must be below {vocab}", ids[position]);
        assert_eq!(error.to_string(), message);
    }
    let mut indices = EmbeddingIndices::new(&[1, 2], 3).unwrap();
    assert!(indices.set(&[0, 3]).is_err());
    assert_eq!((indices.ids(), indices.vocab()), (&[1, 2][..], 3), "they stay what they were");
    indices.set(&[0]).unwrap();
    assert_eq!(indices.ids(), [0]);
    let error = EmbeddingError::TooMany { positions: 9, max: 8 };
    assert_eq!(error.to_string(), "9 positions: at most 8 can be counted");
}

#[test]
fn nothing_at_all_is_fine() {
    for_each_tier(|_| {
        let none = EmbeddingIndices::new(&[], 2).unwrap();
        none.forward(&[1.0; 6], 3, &mut []);
        let mut dtable = [1.0; 6];
        EmbeddingPlan::new(&none).backward(&[], 3, &mut dtable);
        assert_eq!(dtable, [1.0; 6]);
        let empty_rows = EmbeddingIndices::new(&[0, 1], 2).unwrap();
        empty_rows.forward(&[], 0, &mut []);
        empty_rows.forward_with_positions(&[], &[], 0, &mut []);
        EmbeddingPlan::new(&empty_rows).backward(&[], 0, &mut []);
    });
}

#[test]
fn a_wrong_length_panics_with_both() {
    // Two positions, three rows of four.
    let indices = EmbeddingIndices::new(&[2, 0], 3).unwrap();
    let plan = EmbeddingPlan::new(&indices);
    let forward =
        |table: usize, y: usize| panic_message(|| indices.forward(&vec![0.0; table], 4, &mut vec![0.0; y]));
    let positions = |positions: usize| {
        panic_message(|| indices.forward_with_positions(&[0.0; 12], &vec![0.0; positions], 4, &mut [0.0; 8]))
    };
    let backward =
        |dy: usize, dtable: usize| panic_message(|| plan.backward(&vec![0.0; dy], 4, &mut vec![0.0; dtable]));
    for wrong in [0, 1, 4, 9, 1 << 12] {
        let message = |name, what, n| format!("embedding {name} has {wrong} values, {what} asks for {n}");
        assert_eq!(forward(wrong, 8), message("forward: table", "vocab x features", 12));
        assert_eq!(forward(12, wrong), message("forward: y", "positions x features", 8));
        assert_eq!(backward(wrong, 12), message("backward: dy", "positions x features", 8));
        assert_eq!(backward(8, wrong), message("backward: dtable", "vocab x features", 12));
    }
    for wrong in [0, 1, 3, 5, 9] {
        let message =
            format!("embedding forward: positions has {wrong} values, must be one or more rows of 4");
        assert_eq!(positions(wrong), message);
    }
}

#[test]
fn it_follows_pytorch() {
    let cases = parse(include_str!("../golden/embedding.txt"));
    assert_eq!(cases.len(), 4, "what precedes the first case, and three");
    for case in &cases[1..] {
        let [n, vocab, features] = ["n", "vocab", "features"].map(|key| case.number(key) as usize);
        let ids: Vec<u32> = case.get("ids").iter().map(|&id| id as u32).collect();
        assert_eq!(ids.len(), n);
        let indices = EmbeddingIndices::new(&ids, vocab).unwrap();
        for_each_tier(|tier| {
            let mut y = vec![f32::NAN; n * features];
            indices.forward(case.get("table"), features, &mut y);
            assert_same(&y, case.get("y"), tier);
            indices.forward_with_positions(case.get("table"), case.get("positions"), features, &mut y);
            assert_same(&y, case.get("y_positions"), tier);
            let zeros = vec![0.0; vocab * features];
            let mut dtable = zeros.clone();
            EmbeddingPlan::new(&indices).backward(case.get("dy"), features, &mut dtable);
            // Both are sums of the same terms, each within the bound of the exact one.
            let dy = case.get("dy");
            let ours = error(&ids, features, dy, &zeros, &dtable);
            let torch = error(&ids, features, dy, &zeros, case.get("dtable"));
            println!("{tier} {n} of {vocab} x {features}: {ours:.3} of the bound, PyTorch's {torch:.3}");
            assert!(ours <= 1.0 && torch <= 1.0, "{tier}: {ours}, PyTorch's {torch}");
        });
    }
}
