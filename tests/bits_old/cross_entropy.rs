//! Cross-entropy: one hash for all tiers, offsets and numbers of threads, and the hashes that it had.

use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;
use crate::softmax::{SHAPES, THREADED, logits};

/// Losses of the rows, gradient, and the loss.
type Outputs = [Vec<f32>; 3];

struct Case {
    ce: CrossEntropy,
    reduction: Reduction,
    x: Vec<f32>,
    labels: Vec<u32>,
}

impl Case {
    fn random(rng: &mut Rng, classes: usize, rows: usize, special: bool) -> Self {
        let x = logits(rng, classes, rows, special);
        let ignore = [None, Some(u32::MAX), Some(0)][rng.below(3)];
        let labels = (0..rows)
            .map(|_| match ignore {
                Some(ignore) if rng.below(4) == 0 => ignore,
                _ => rng.below(classes) as u32,
            })
            .collect();
        let reduction = [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.3)][rng.below(3)];
        let ce = CrossEntropy::new(classes, [0.0, 0.1][rng.below(2)], ignore).unwrap();
        Case { ce, reduction, x, labels }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 3])
    }

    /// All forms, which must agree, with each slice at its offset from a cache line, between guards of NaN.
    fn run_at(&self, offsets: [usize; 3]) -> Outputs {
        let Case { ce, reduction, x, labels } = self;
        let rows = vec![f32::NAN; labels.len()];
        let logits = Guarded::new(offsets[0], x);
        let mut dlogits = Guarded::new(offsets[1], &vec![f32::NAN; x.len()]);
        let mut over = Guarded::new(offsets[1], x);
        let mut losses = [(); 3].map(|()| Guarded::new(offsets[2], &rows));
        let [a, b, c] = losses.each_mut().map(|l| l.get_mut());
        let found = [
            ce.forward_backward(logits.get(), labels, *reduction, dlogits.get_mut(), a).unwrap(),
            ce.forward(logits.get(), labels, *reduction, b).unwrap(),
            ce.forward_backward_in_place(over.get_mut(), labels, *reduction, c).unwrap(),
        ];
        for slice in losses.iter().chain([&logits, &dlogits, &over]) {
            slice.assert_guards(format_args!("{} x {}, {offsets:?}", labels.len(), ce.classes()));
        }
        let [a, b, c] = losses.each_ref().map(|l| l.get());
        assert_same(b, a, "forward only: losses");
        assert_same(c, a, "in place: losses");
        assert_same(over.get(), dlogits.get(), "in place: dlogits");
        assert_same(&found, &[found[0]; 3], "the loss of all forms");
        [a.to_vec(), dlogits.get().to_vec(), vec![found[0]]]
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in ["losses", "dlogits", "loss"].into_iter().enumerate() {
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
        assert_all_same(&got, want, &format!("{tier}, {} x {}", case.labels.len(), case.ce.classes()));
    });
    first.expect("there is a tier")
}

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [u64; 4] =
    [0x0F28_448D_0B1B_67A3, 0xAB38_74DB_F064_B90B, 0x0333_7295_ADDD_2194, 0x1EB8_ABD6_CE93_C748];

#[test]
fn the_hashes_are_golden() {
    let found = SHAPES.map(|(_, (all_classes, all_rows))| {
        let mut hash = Hash::new();
        for &classes in all_classes {
            for &rows in all_rows {
                for special in [false, true] {
                    let mut rng = Rng::new((classes * 1000 + rows) as u64);
                    for output in on_tiers(&Case::random(&mut rng, classes, rows, special)) {
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
    for (classes, rows) in shapes.into_iter().take(if cfg!(miri) { 2 } else { 5 }) {
        let case = Case::random(&mut rng, classes, rows, false);
        for_each_tier(|tier| {
            let want = case.run();
            for offset in offsets() {
                for step in [0, 3] {
                    let offsets = std::array::from_fn(|i| (offset + i * step) % 17);
                    assert_all_same(&case.run_at(offsets), &want, &format!("{tier} {offsets:?}"));
                }
            }
        });
    }
}

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(2);
    for (classes, rows) in THREADED {
        let case = Case::random(&mut rng, classes, rows, classes % 2 == 1);
        let mut first: Option<Outputs> = None;
        on_pools(|threads| {
            for_each_tier(|tier| {
                let got = case.run();
                let want = first.get_or_insert_with(|| got.clone());
                assert_all_same(&got, want, &format!("{tier}, {threads} threads, {rows} x {classes}"));
            });
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_has_one_result(
        classes in 1..300usize, rows in 0..40usize, special: bool, seed: u64, offset in 0..=16usize,
    ) {
        let case = Case::random(&mut Rng::new(seed), classes, rows, special);
        let want = on_tiers(&case);
        let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
        assert_all_same(&case.run_at(offsets), &want, &format!("{offsets:?}"));
    }
}
