//! Softmax and its logarithm: one hash for all tiers, offsets and numbers of threads, and the hashes that it had.

use hotlanes::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward, softmax_in_place};
use hotlanes::tuning::{SOFTMAX_LONG, SOFTMAX_PARALLEL, SOFTMAX_PIECE, SOFTMAX_SMALL};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// y, the same in place, dx, log y, its dx
type Outputs = [Vec<f32>; 5];

/// Forward and backward of one input.
struct Case {
    features: usize,
    rows: usize,
    /// x, dy
    inputs: [Vec<f32>; 2],
}

/// Rows of logits: ordinary, far from zero, of a wide range, masked, constant, and where `special`, with anything.
pub fn logits(rng: &mut Rng, features: usize, rows: usize, special: bool) -> Vec<f32> {
    let mut x = vec![];
    for _ in 0..rows {
        let kind = rng.below(7);
        x.extend(rng.vec(features, |rng| match kind {
            0 => rng.spread(-20, 12),
            1 => 1e4 + rng.normal(),
            2 => rng.uniform(-110.0, 0.0),
            3 if rng.below(2) == 0 => f32::NEG_INFINITY,
            4 => 0.1,
            _ => rng.normal(),
        }));
    }
    for _ in 0..if special && rows > 0 { rows * features / 64 + 1 } else { 0 } {
        x[rng.below(rows * features)] = SPECIALS[rng.below(SPECIALS.len())];
    }
    x
}

impl Case {
    fn random(rng: &mut Rng, features: usize, rows: usize, special: bool) -> Self {
        let x = logits(rng, features, rows, special);
        let dy = rng.vec(features * rows, |rng| rng.spread(-6, 3));
        Case { features, rows, inputs: [x, dy] }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 7])
    }

    /// With each slice at its offset from a cache line, between guards of NaN.
    fn run_at(&self, offsets: [usize; 7]) -> Outputs {
        let n = self.features;
        let inputs: [Guarded; 2] = std::array::from_fn(|i| Guarded::new(offsets[i], &self.inputs[i]));
        let start = vec![f32::NAN; self.rows * n];
        let mut outputs: [Guarded; 5] = std::array::from_fn(|i| {
            Guarded::new(offsets[2 + i], if i == 1 { &self.inputs[0] } else { &start })
        });
        let [x, dy] = inputs.each_ref().map(|i| i.get());
        let [y, over, dx, log, dlog] = outputs.each_mut().map(|o| o.get_mut());
        softmax(x, n, y);
        softmax_in_place(over, n);
        softmax_backward(dy, y, n, dx);
        log_softmax(x, n, log);
        log_softmax_backward(dy, log, n, dlog);
        for (i, slice) in inputs.iter().chain(&outputs).enumerate() {
            slice.assert_guards(format_args!("{} x {n}, slice {i} of {offsets:?}", self.rows));
        }
        let outputs = outputs.map(|o| o.get().to_vec());
        assert_same(&outputs[1], &outputs[0], "in place");
        outputs
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in ["y", "y in place", "dx", "log y", "log dx"].into_iter().enumerate() {
        assert_same(&got[i], &want[i], format_args!("{what}: {name}"));
    }
}

/// Runs on all tiers, which must agree, and gives what they gave.
#[track_caller]
fn on_tiers(case: &Case) -> Outputs {
    let mut first: Option<Outputs> = None;
    for_each_tier(|tier| {
        let got = case.run();
        let want = first.get_or_insert_with(|| got.clone());
        assert_all_same(&got, want, &format!("{tier}, {} x {}", case.rows, case.features));
    });
    first.expect("there is a tier")
}

/// The shapes of a hash: counts of features, each with these rows.
pub type Shapes = (&'static [usize], &'static [usize]);

pub const SHAPES: [(&str, Shapes); 4] = [
    (
        "one and two vectors",
        (&[1, 2, 3, 5, 8, 10, 13, 15, 16, 17, 20, 29, 31, 32, 33], &[0, 1, 2, 3, 4, 5, 15, 16, 17, 21]),
    ),
    ("some vectors", (&[47, 48, 49, 63, 64, 65, 80, 96, 112], &[1, 4, 19])),
    ("the threshold", (&[SOFTMAX_SMALL - 1, SOFTMAX_SMALL, SOFTMAX_SMALL + 1], &[3, 15, 16, 17, 33])),
    (
        "long rows",
        (
            &[SOFTMAX_LONG - 1, SOFTMAX_LONG, SOFTMAX_LONG + 1, 4080, 4095, 4096, 4097, 4161, 8192, 8273],
            &[1, 5],
        ),
    ),
];

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [u64; 4] =
    [0xE6D9_7F57_3EDC_C266, 0xBBE6_3E5D_B30A_0C2E, 0x9D90_3EE2_FC91_987C, 0x9180_5895_A75B_AC68];

#[test]
fn the_hashes_are_golden() {
    let found = SHAPES.map(|(_, (all_features, all_rows))| {
        let mut hash = Hash::new();
        for &features in all_features {
            for &rows in all_rows {
                for special in [false, true] {
                    let mut rng = Rng::new((features * 1000 + rows) as u64);
                    for output in on_tiers(&Case::random(&mut rng, features, rows, special)) {
                        hash.add(&output);
                    }
                }
            }
        }
        hash.get()
    });
    let hashes = |h: [u64; 4]| SHAPES.map(|s| s.0).into_iter().zip(h).map(|(n, h)| format!("{n}: {h:#018x}"));
    assert!(hashes(found).eq(hashes(GOLDEN)), "{:#?}", hashes(found).collect::<Vec<_>>());
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    let shapes = [(1, 5), (33, 6), (131, 3), (10, 17), (65, 5)];
    for (features, rows) in shapes.into_iter().take(if cfg!(miri) { 2 } else { 5 }) {
        let case = Case::random(&mut rng, features, rows, false);
        for_each_tier(|tier| {
            let want = case.run();
            for offset in offsets() {
                // All together, and each where the others are not: 3 and 17 have no common divisor.
                for step in [0, 3] {
                    let offsets = std::array::from_fn(|i| (offset + i * step) % 17);
                    assert_all_same(&case.run_at(offsets), &want, &format!("{tier} {offsets:?}"));
                }
            }
        });
    }
}

/// Around the size from which there are threads, around a piece's size, and many short rows.
pub const THREADED: [(usize, usize); 4] = [
    (SOFTMAX_PARALLEL / 64, 63),
    (SOFTMAX_PARALLEL / 64, 64),
    (SOFTMAX_PIECE + 1, 5),
    (10, SOFTMAX_PARALLEL / 10 + 7),
];

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(2);
    for (features, rows) in THREADED {
        let case = Case::random(&mut rng, features, rows, features % 2 == 1);
        let mut first: Option<Outputs> = None;
        on_pools(|threads| {
            for_each_tier(|tier| {
                let got = case.run();
                let want = first.get_or_insert_with(|| got.clone());
                assert_all_same(&got, want, &format!("{tier}, {threads} threads, {rows} x {features}"));
            });
        });
    }
}

/// A row's results do not depend on the rows beside it, nor on how many are taken together.
#[test]
fn a_row_does_not_depend_on_the_others() {
    let mut rng = Rng::new(3);
    for features in [7, 16, SOFTMAX_SMALL, SOFTMAX_SMALL + 1, 300] {
        let case = Case::random(&mut rng, features, 37, true);
        for_each_tier(|tier| {
            let together = case.run();
            for row in 0..37 {
                let at = row * features..(row + 1) * features;
                let inputs = case.inputs.each_ref().map(|i| i[at.clone()].to_vec());
                let alone = Case { features, rows: 1, inputs }.run();
                for (alone, together) in alone.iter().zip(&together) {
                    assert_same(
                        alone,
                        &together[at.clone()],
                        format_args!("{tier}, row {row} of {features}"),
                    );
                }
            }
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_one_result(
        features in 1..300usize, rows in 0..40usize, special: bool, seed: u64, offset in 0..=16usize,
    ) {
        let case = Case::random(&mut Rng::new(seed), features, rows, special);
        let want = on_tiers(&case);
        let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
        assert_all_same(&case.run_at(offsets), &want, &format!("{offsets:?}"));
    }
}
