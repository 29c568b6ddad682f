//! RMSNorm, and both norms with a residual: one hash for all tiers, offsets and numbers of threads, the hashes that they
//! had, and for the fused kernels the bits of the separate steps.

use hotlanes::norm::{LayerNorm, ROWS_PER_CHUNK, RmsNorm};
use hotlanes::tuning::{NORM_PARALLEL, NORM_PIECE, NORM_SMALL};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Rms,
    RmsAdd,
    LayerAdd,
}

const KERNELS: [Kernel; 3] = [Kernel::Rms, Kernel::RmsAdd, Kernel::LayerAdd];

/// Forward and backward of one input.
struct Case {
    features: usize,
    rows: usize,
    eps: f64,
    /// x, residual, dy, dh, gamma, beta
    inputs: [Vec<f32>; 6],
}

const NAMES: [&str; 7] = ["h", "y", "mean", "rstd", "dx", "dgamma", "dbeta"];

/// As named; empty is what a kernel does not have.
type Outputs = [Vec<f32>; 7];

impl Case {
    /// Rows of all kinds: small and large, far from zero, denormal, constant, zero, and where `special`, with infinities
    /// and NaN.
    fn random(rng: &mut Rng, features: usize, rows: usize, special: bool) -> Self {
        let [mut x, mut residual, mut dy, mut dh] = [(); 4].map(|()| vec![]);
        for _ in 0..rows {
            let kind = rng.below(9);
            let value = |rng: &mut Rng| match kind {
                0 => rng.spread(-20, 20),
                1 => 1e4 + rng.normal(),
                2 => f32::from_bits(rng.below(1 << 23) as u32),
                3 => 0.1,
                4 => 0.0,
                _ => rng.normal(),
            };
            x.extend(rng.vec(features, value));
            residual.extend(rng.vec(features, value));
            dy.extend(rng.vec(features, |rng| rng.spread(-6, 3)));
            dh.extend(rng.vec(features, |rng| rng.spread(-6, 3)));
        }
        // A few, so that most rows and columns stay of numbers.
        for _ in 0..if special { rows * features / 64 + 1 } else { 0 } {
            if let Some(i) = (rows * features).checked_sub(1) {
                for matrix in [&mut x, &mut residual, &mut dy, &mut dh] {
                    matrix[rng.below(i + 1)] = SPECIALS[rng.below(SPECIALS.len())];
                }
            }
        }
        let eps = [1e-5, 0.0, 1e-3][rng.below(3)];
        let gamma = rng.vec(features, |rng| rng.spread(-3, 2));
        let beta = rng.vec(features, |rng| rng.spread(-6, 1));
        Case { features, rows, eps, inputs: [x, residual, dy, dh, gamma, beta] }
    }

    fn norms(&self) -> (LayerNorm, RmsNorm) {
        (LayerNorm::new(self.features, self.eps).unwrap(), RmsNorm::new(self.features, self.eps).unwrap())
    }

    fn run(&self, kernel: Kernel) -> Outputs {
        self.run_at(kernel, [0; 14])
    }

    /// With each slice at its offset from a cache line, between guards of NaN: the six inputs, the seven outputs, the
    /// scratch.
    fn run_at(&self, kernel: Kernel, offsets: [usize; 14]) -> Outputs {
        let (layer, rms) = self.norms();
        let (size, rows, n) = (self.rows * self.features, self.rows, self.features);
        let lengths = match kernel {
            Kernel::Rms => [0, size, 0, rows, size, n, 0, rms.scratch_len(rows)],
            Kernel::RmsAdd => [size, size, 0, rows, size, n, 0, rms.scratch_len(rows)],
            Kernel::LayerAdd => [size, size, rows, rows, size, n, n, layer.scratch_len(rows)],
        };
        let inputs: [Guarded; 6] = std::array::from_fn(|i| Guarded::new(offsets[i], &self.inputs[i]));
        let mut outputs: [Guarded; 8] =
            std::array::from_fn(|i| Guarded::new(offsets[6 + i], &vec![f32::NAN; lengths[i]]));
        let [x, residual, dy, dh, gamma, beta] = inputs.each_ref().map(|i| i.get());
        let [h, y, mean, rstd, dx, dgamma, dbeta, scratch] = outputs.each_mut().map(|o| o.get_mut());
        match kernel {
            Kernel::Rms => {
                rms.forward(x, gamma, y, rstd);
                rms.backward(dy, x, gamma, rstd, dx, dgamma, scratch);
            }
            Kernel::RmsAdd => {
                rms.forward_add(x, residual, gamma, h, y, rstd);
                rms.backward_add(dy, dh, h, gamma, rstd, dx, dgamma, scratch);
            }
            Kernel::LayerAdd => {
                layer.forward_add(x, residual, gamma, beta, h, y, mean, rstd);
                layer.backward_add(dy, dh, h, gamma, mean, rstd, dx, dgamma, dbeta, scratch);
            }
        }
        for (i, slice) in inputs.iter().chain(&outputs).enumerate() {
            slice.assert_guards(format_args!("{kernel:?}, {rows} x {n}, slice {i} of {offsets:?}"));
        }
        std::array::from_fn(|i| outputs[i].get().to_vec())
    }

    /// The fused kernel's outputs by an addition, the norm, its backward and another addition.
    fn separate(&self, kernel: Kernel) -> Outputs {
        let (layer, rms) = self.norms();
        let [x, residual, dy, dh, gamma, beta] = &self.inputs;
        let h: Vec<f32> = x.iter().zip(residual).map(|(x, r)| x + r).collect();
        let nan = |n: usize| vec![f32::NAN; n];
        let (mut y, mut rstd, mut dx) = (nan(h.len()), nan(self.rows), nan(h.len()));
        let (mut mean, mut dgamma, mut dbeta) = (vec![], nan(self.features), vec![]);
        let mut scratch = nan(layer.scratch_len(self.rows));
        if kernel == Kernel::LayerAdd {
            (mean, dbeta) = (nan(self.rows), nan(self.features));
            layer.forward(&h, gamma, beta, &mut y, &mut mean, &mut rstd);
            let (dg, db) = (&mut dgamma, &mut dbeta);
            layer.backward(dy, &h, gamma, &mean, &rstd, &mut dx, dg, db, &mut scratch);
        } else {
            rms.forward(&h, gamma, &mut y, &mut rstd);
            rms.backward(dy, &h, gamma, &rstd, &mut dx, &mut dgamma, &mut scratch);
        }
        for (dx, dh) in dx.iter_mut().zip(dh) {
            *dx += dh;
        }
        [h, y, mean, rstd, dx, dgamma, dbeta]
    }
}

#[track_caller]
fn assert_all_same(got: &Outputs, want: &Outputs, what: &str) {
    for (i, name) in NAMES.into_iter().enumerate() {
        assert_same(&got[i], &want[i], format_args!("{what}: {name}"));
    }
}

/// Runs on all tiers, which must agree, and gives what they gave.
#[track_caller]
fn on_tiers(case: &Case, kernel: Kernel) -> Outputs {
    let mut first: Option<Outputs> = None;
    for_each_tier(|tier| {
        let got = case.run(kernel);
        let want = first.get_or_insert_with(|| got.clone());
        assert_all_same(&got, want, &format!("{kernel:?} on {tier}, {} x {}", case.rows, case.features));
    });
    first.expect("there is a tier")
}

/// The shapes of a hash: counts of features, each with these rows.
type Shapes = (&'static [usize], &'static [usize]);

/// One and two vectors, some, the threshold; chunks of rows; blocks of a row.
const SHAPES: [Shapes; 4] = [
    (&[1, 2, 5, 13, 15, 16, 17, 31, 32, 33], &[0, 1, 3, 4, 5, 15, 16, 21]),
    (&[48, 63, 65, 80, NORM_SMALL - 1, NORM_SMALL, NORM_SMALL + 1], &[3, 17, 32]),
    (&[5, 16, 33], &[ROWS_PER_CHUNK, ROWS_PER_CHUNK + 1, 3 * ROWS_PER_CHUNK + 1]),
    (&[4079, 4080, 4095, 4096, 4097, 8192, 8208], &[1]),
];

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [[u64; 4]; 3] = [
    [0xB0ED_B01B_463A_8904, 0x5E99_E004_35F4_56B1, 0x9FC6_668D_750B_97B6, 0x8FFB_5748_1780_E0DC],
    [0xCEEF_D596_2D56_1C3A, 0x123E_A487_8F3A_77FA, 0xC6EC_CA99_5392_FABB, 0x66C4_543C_0E99_F705],
    [0x5174_D1DA_EE89_0D97, 0xC951_87F1_B8DB_DA2E, 0x5A6E_92CC_4A26_4959, 0x0507_EAE8_6D3E_CFB4],
];

#[test]
fn the_hashes_are_golden() {
    let found = KERNELS.map(|kernel| {
        SHAPES.map(|(all_features, all_rows)| {
            let mut hash = Hash::new();
            for &features in all_features {
                for &rows in all_rows {
                    for special in [false, true] {
                        let mut rng = Rng::new((features * 1000 + rows) as u64);
                        let case = Case::random(&mut rng, features, rows, special);
                        let got = on_tiers(&case, kernel);
                        if kernel != Kernel::Rms {
                            let what = format!("{kernel:?} in separate steps, {rows} x {features}");
                            assert_all_same(&got, &case.separate(kernel), &what);
                        }
                        for output in got {
                            hash.add(&output);
                        }
                    }
                }
            }
            hash.get()
        })
    });
    assert!(found == GOLDEN, "{found:#018x?}, not {GOLDEN:#018x?}");
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    let shapes = [(33, 6), (15, 17), (131, 3), (17, 129)];
    for (features, rows) in shapes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let case = Case::random(&mut rng, features, rows, false);
        for kernel in KERNELS {
            for_each_tier(|tier| {
                let want = case.run(kernel);
                for offset in offsets() {
                    // Each where the others are not: 3 and 17 have no common divisor.
                    let offsets = std::array::from_fn(|i| (offset + i * 3) % 17);
                    let what = format!("{kernel:?} on {tier} {offsets:?}");
                    assert_all_same(&case.run_at(kernel, offsets), &want, &what);
                }
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    // Around the size from which there are threads, around a piece's size, and chunks of rows with a rest.
    let shapes = [(NORM_PARALLEL / 64, 64), (NORM_PIECE + 1, 9), (257, 4 * ROWS_PER_CHUNK + 1)];
    let mut rng = Rng::new(2);
    for (features, rows) in shapes {
        let case = Case::random(&mut rng, features, rows, features % 2 == 1);
        for kernel in KERNELS {
            let mut first: Option<Outputs> = None;
            on_pools(|threads| {
                for_each_tier(|tier| {
                    let got = case.run(kernel);
                    let want = first.get_or_insert_with(|| got.clone());
                    let what = format!("{kernel:?} on {tier}, {threads} threads, {rows} x {features}");
                    assert_all_same(&got, want, &what);
                });
            });
        }
    }
}

/// A row's results do not depend on the rows beside it, nor on how many are taken together.
#[test]
fn a_row_does_not_depend_on_the_others() {
    let mut rng = Rng::new(3);
    for features in [7, NORM_SMALL, NORM_SMALL + 1] {
        let case = Case::random(&mut rng, features, 37, true);
        for kernel in KERNELS {
            for_each_tier(|tier| {
                let together = case.run(kernel);
                for row in 0..37 {
                    let at = row * features..(row + 1) * features;
                    let mut one = Case { rows: 1, inputs: case.inputs.clone(), ..case };
                    for i in 0..4 {
                        one.inputs[i] = case.inputs[i][at.clone()].to_vec();
                    }
                    let alone = one.run(kernel);
                    // All but the sums over rows.
                    for i in 0..5 {
                        let together = match (together[i].len(), i) {
                            (0, _) => continue,
                            (_, 2 | 3) => &together[i][row..=row],
                            _ => &together[i][at.clone()],
                        };
                        let what =
                            format_args!("{kernel:?} on {tier}, row {row} of {features}: {}", NAMES[i]);
                        assert_same(&alone[i], together, what);
                    }
                }
            });
        }
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
        for kernel in KERNELS {
            let want = on_tiers(&case, kernel);
            let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
            assert_all_same(&case.run_at(kernel, offsets), &want, &format!("{kernel:?} {offsets:?}"));
        }
    }
}
