//! LayerNorm: one hash for all tiers, offsets and numbers of threads, and the hashes that it had.

use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK};
use hotlanes::tuning::{NORM_PARALLEL, NORM_PIECE, NORM_SMALL};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// Forward and backward of one input.
struct Case {
    features: usize,
    rows: usize,
    eps: f64,
    /// x, dy, gamma, beta
    inputs: [Vec<f32>; 4],
}

/// y, mean, rstd, dx, dgamma, dbeta
type Outputs = [Vec<f32>; 6];

impl Case {
    /// Rows of all kinds: small and large, far from zero, denormal, constant, and where `special`, with infinities and
    /// NaN.
    fn random(rng: &mut Rng, features: usize, rows: usize, special: bool) -> Self {
        let (mut x, mut dy) = (vec![], vec![]);
        for _ in 0..rows {
            let kind = rng.below(8);
            x.extend(rng.vec(features, |rng| match kind {
                0 => rng.spread(-20, 20),
                1 => 1e4 + rng.normal(),
                2 => f32::from_bits(rng.below(1 << 23) as u32),
                3 => 0.1,
                _ => rng.normal(),
            }));
            dy.extend(rng.vec(features, |rng| rng.spread(-6, 3)));
        }
        // A few, so that most rows and columns stay of numbers.
        for _ in 0..if special { rows * features / 64 + 1 } else { 0 } {
            if let Some(i) = (rows * features).checked_sub(1) {
                x[rng.below(i + 1)] = SPECIALS[rng.below(SPECIALS.len())];
                dy[rng.below(i + 1)] = SPECIALS[rng.below(SPECIALS.len())];
            }
        }
        let eps = [1e-5, 0.0, 1e-3][rng.below(3)];
        let gamma = rng.vec(features, |rng| rng.spread(-3, 2));
        let beta = rng.vec(features, |rng| rng.spread(-6, 1));
        Case { features, rows, eps, inputs: [x, dy, gamma, beta] }
    }

    fn run(&self) -> Outputs {
        self.run_at([0; 11])
    }

    /// With each slice at its offset from a cache line, between guards of NaN: the four inputs, the six outputs, the
    /// scratch.
    fn run_at(&self, offsets: [usize; 11]) -> Outputs {
        let norm = LayerNorm::new(self.features, self.eps).unwrap();
        let (size, rows, features) = (self.rows * self.features, self.rows, self.features);
        let lengths = [size, rows, rows, size, features, features, norm.scratch_len(rows)];
        let inputs: [Guarded; 4] = std::array::from_fn(|i| Guarded::new(offsets[i], &self.inputs[i]));
        let mut outputs: [Guarded; 7] =
            std::array::from_fn(|i| Guarded::new(offsets[4 + i], &vec![f32::NAN; lengths[i]]));
        let [x, dy, gamma, beta] = inputs.each_ref().map(|i| i.get());
        let [y, mean, rstd, dx, dgamma, dbeta, scratch] = outputs.each_mut().map(|o| o.get_mut());
        norm.forward(x, gamma, beta, y, mean, rstd);
        norm.backward(dy, x, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
        for (i, slice) in inputs.iter().chain(&outputs).enumerate() {
            slice.assert_guards(format_args!("{rows} x {features}, slice {i} of {offsets:?}"));
        }
        std::array::from_fn(|i| outputs[i].get().to_vec())
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in ["y", "mean", "rstd", "dx", "dgamma", "dbeta"].into_iter().enumerate() {
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
type Shapes = (&'static [usize], &'static [usize]);

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [(&str, Shapes, u64); 5] = [
    (
        "one and two vectors",
        (&[1, 2, 3, 5, 8, 13, 15, 16, 17, 20, 29, 31, 32, 33], &[0, 1, 2, 3, 4, 5, 15, 16, 17, 21]),
        0x5AE5_2F25_3E42_B4AB,
    ),
    ("some vectors", (&[47, 48, 49, 63, 64, 65, 80, 96, 112], &[1, 4, 19]), 0xCFA6_8BB0_FA0F_AF75),
    (
        "the threshold",
        (&[NORM_SMALL - 1, NORM_SMALL, NORM_SMALL + 1], &[3, 15, 16, 17, 31, 32, 33]),
        0x628E_8685_E8E1_2EE9,
    ),
    (
        "chunks of rows",
        (
            &[5, 16, 33],
            &[
                ROWS_PER_CHUNK - 1,
                ROWS_PER_CHUNK,
                ROWS_PER_CHUNK + 1,
                2 * ROWS_PER_CHUNK,
                5 * ROWS_PER_CHUNK + 1,
            ],
        ),
        0x121B_3E10_F464_B32D,
    ),
    (
        "blocks of a row",
        (&[4079, 4080, 4081, 4095, 4096, 4097, 4112, 8191, 8192, 8193, 8208], &[1]),
        0x3FC9_C0CD_0898_927F,
    ),
];

#[test]
fn the_hashes_are_golden() {
    let mut found = vec![];
    for (name, (all_features, all_rows), _) in GOLDEN {
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
        found.push((name, hash.get()));
    }
    let hashes = |h: &[(&str, u64)]| h.iter().map(|(n, h)| format!("{n}: {h:#018x}")).collect::<Vec<_>>();
    assert_eq!(hashes(&found), hashes(&GOLDEN.map(|(name, _, hash)| (name, hash))));
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    let shapes = [(1, 5), (33, 6), (131, 3), (15, 17), (64, 5), (17, 129)];
    for (features, rows) in shapes.into_iter().take(if cfg!(miri) { 3 } else { 6 }) {
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

#[test]
fn threads_change_nothing() {
    // Around the size from which there are threads, around a piece's size, and chunks of rows with a rest.
    let shapes = [
        (NORM_PARALLEL / 64, 63),
        (NORM_PARALLEL / 64, 64),
        (2 * NORM_PIECE - 1, 3),
        (NORM_PIECE, 4),
        (NORM_PIECE + 1, 5),
        (131, 4 * ROWS_PER_CHUNK - 1),
        (128, 5 * ROWS_PER_CHUNK + 1),
    ];
    let mut rng = Rng::new(2);
    for (features, rows) in shapes {
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
    for features in [7, 16, NORM_SMALL, NORM_SMALL + 1, 300] {
        let case = Case::random(&mut rng, features, 37, true);
        for_each_tier(|tier| {
            let [y, mean, rstd, dx, ..] = case.run();
            for row in 0..37 {
                let at = row * features..(row + 1) * features;
                let mut one = Case { rows: 1, inputs: case.inputs.clone(), ..case };
                one.inputs[0] = case.inputs[0][at.clone()].to_vec();
                one.inputs[1] = case.inputs[1][at.clone()].to_vec();
                let alone = one.run();
                let together = [&y[at.clone()], &mean[row..=row], &rstd[row..=row], &dx[at]];
                for (alone, together) in alone.iter().zip(together) {
                    assert_same(alone, together, format_args!("{tier}, row {row} of {features}"));
                }
            }
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

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
