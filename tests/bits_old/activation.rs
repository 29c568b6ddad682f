//! Activations: one hash for all tiers, offsets and numbers of threads, in place or not, and the hashes that they had.

use hotlanes::LANES;
use hotlanes::activation::{Activation, exp, exp_in_place, log, log_in_place};
use hotlanes::tuning::{ACTIVATION_PARALLEL, ACTIVATION_PIECE};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// Forward and backward of one input by an activation, or, where there is none, `exp` and `log`.
struct Case {
    activation: Option<Activation>,
    x: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    /// Values of all kinds, around the ends of the ranges too.
    fn random(rng: &mut Rng, activation: Option<Activation>, n: usize) -> Self {
        let value = |rng: &mut Rng| match rng.below(8) {
            0 => rng.any(),
            1 => SPECIALS[rng.below(SPECIALS.len())],
            2 => rng.uniform(-110.0, 110.0),
            3 => rng.uniform(-16.0, 16.0),
            4 => rng.spread(-20, 20),
            _ => rng.normal(),
        };
        Case { activation, x: rng.vec(n, value), dy: rng.vec(n, |rng| rng.spread(-6, 3)) }
    }

    fn forward(&self, x: &[f32], y: &mut [f32]) {
        match self.activation {
            Some(a) => a.forward(x, y),
            None => exp(x, y),
        }
    }

    /// The logarithm has the place of a backward.
    fn backward(&self, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        match self.activation {
            Some(a) => a.backward(dy, x, dx),
            None => log(x, dx),
        }
    }

    /// The output and the gradient.
    fn run(&self) -> [Vec<f32>; 2] {
        self.run_at([0; 4])
    }

    /// With each slice at its offset from a cache line, between guards of NaN.
    fn run_at(&self, offsets: [usize; 4]) -> [Vec<f32>; 2] {
        let nan = vec![f32::NAN; self.x.len()];
        let inputs = [Guarded::new(offsets[0], &self.x), Guarded::new(offsets[1], &self.dy)];
        let mut outputs = [Guarded::new(offsets[2], &nan), Guarded::new(offsets[3], &nan)];
        self.forward(inputs[0].get(), outputs[0].get_mut());
        self.backward(inputs[1].get(), inputs[0].get(), outputs[1].get_mut());
        for slice in inputs.iter().chain(&outputs) {
            slice.assert_guards(format_args!("{:?}, {} values", self.activation, self.x.len()));
        }
        outputs.map(|o| o.get().to_vec())
    }

    fn in_place(&self, offsets: [usize; 4]) -> [Vec<f32>; 2] {
        let x = Guarded::new(offsets[0], &self.x);
        let mut y = Guarded::new(offsets[2], &self.x);
        let other = if self.activation.is_some() { &self.dy } else { &self.x };
        let mut dy = Guarded::new(offsets[1], other);
        match self.activation {
            Some(a) => {
                a.forward_in_place(y.get_mut());
                a.backward_in_place(dy.get_mut(), x.get());
            }
            None => {
                exp_in_place(y.get_mut());
                log_in_place(dy.get_mut());
            }
        }
        for slice in [&x, &y, &dy] {
            slice.assert_guards(format_args!("{:?} in place, {} values", self.activation, self.x.len()));
        }
        [y.get().to_vec(), dy.get().to_vec()]
    }
}

#[track_caller]
fn assert_all_same(got: &[Vec<f32>; 2], want: &[Vec<f32>; 2], what: &str) {
    assert_same(&got[0], &want[0], format_args!("{what}: y"));
    assert_same(&got[1], &want[1], format_args!("{what}: dx"));
}

/// Runs on all tiers, in place and not, which must agree, and gives what they gave.
#[track_caller]
fn on_tiers(case: &Case) -> [Vec<f32>; 2] {
    let mut first: Option<[Vec<f32>; 2]> = None;
    for_each_tier(|tier| {
        let what = format!("{tier}, {:?}, {} values", case.activation, case.x.len());
        let got = case.run();
        let want = first.get_or_insert_with(|| got.clone());
        assert_all_same(&got, want, &what);
        assert_all_same(&case.in_place([0; 4]), want, &format!("{what}, in place"));
    });
    first.expect("there is a tier")
}

/// Every activation, then `exp` and `log`.
fn all() -> impl Iterator<Item = Option<Activation>> {
    Activation::ALL.into_iter().map(Some).chain([None])
}

/// The hashes that every machine must find. A change that moves one is a decision for CHANGELOG.md.
const GOLDEN: [(&str, u64); 9] = [
    ("relu", 0x2951_13F5_38B7_8A6E),
    ("squared_relu", 0xB967_F7F2_F513_96C7),
    ("silu", 0x92F7_B034_B48C_3FB7),
    ("gelu_tanh", 0xAE7A_7234_05A7_1CA1),
    ("gelu_erf", 0x0FC6_97A8_90D8_C47E),
    ("sigmoid", 0xEB68_F5F9_F51C_4BCB),
    ("tanh", 0xF9D6_D7A6_1DD7_E94B),
    ("identity", 0x6820_F6F2_483F_4D98),
    ("exp, log", 0x2B9F_B231_7BC3_363B),
];

#[test]
fn the_hashes_are_golden() {
    let mut found = vec![];
    for activation in all() {
        let mut hash = Hash::new();
        // Around one vector, two, and one and two groups of four.
        let lengths = (0..=2 * LANES + 1).chain([63, 64, 65, 79, 80, 127, 128, 129, 1000]);
        for n in lengths {
            for output in on_tiers(&Case::random(&mut Rng::new(n as u64), activation, n)) {
                hash.add(&output);
            }
        }
        found.push((activation.map_or("exp, log", Activation::name), hash.get()));
    }
    let hashes = |h: &[(&str, u64)]| h.iter().map(|(n, h)| format!("{n}: {h:#018x}")).collect::<Vec<_>>();
    assert_eq!(hashes(&found), hashes(&GOLDEN));
}

#[test]
fn offsets_and_guards_change_nothing() {
    let mut rng = Rng::new(1);
    for activation in all() {
        for n in [1, 17, 133].into_iter().take(if cfg!(miri) { 2 } else { 3 }) {
            let case = Case::random(&mut rng, activation, n);
            for_each_tier(|tier| {
                let want = case.run();
                for offset in offsets() {
                    // All together, and each where the others are not: 3 and 17 have no common divisor.
                    for step in [0, 3] {
                        let offsets = std::array::from_fn(|i| (offset + i * step) % 17);
                        let what = format!("{tier} {activation:?} {offsets:?}");
                        assert_all_same(&case.run_at(offsets), &want, &what);
                        assert_all_same(&case.in_place(offsets), &want, &what);
                    }
                }
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(2);
    // Around the size from which there are threads, and pieces that are no whole vectors.
    let sizes = [ACTIVATION_PARALLEL - 1, ACTIVATION_PARALLEL, 5 * ACTIVATION_PIECE + 7];
    for (activation, n) in [
        (Some(Activation::Relu), sizes[1]),
        (Some(Activation::GeluTanh), sizes[0]),
        (Some(Activation::GeluTanh), sizes[2]),
        (None, sizes[2]),
    ] {
        let case = Case::random(&mut rng, activation, n);
        let mut first: Option<[Vec<f32>; 2]> = None;
        on_pools(|threads| {
            for_each_tier(|tier| {
                let got = case.run();
                let want = first.get_or_insert_with(|| got.clone());
                let what = format!("{tier}, {threads} threads, {activation:?}, {n} values");
                assert_all_same(&got, want, &what);
                if threads > 2 {
                    assert_all_same(&case.in_place([0; 4]), want, &what);
                }
            });
        });
    }
}

proptest! {
    // Tiers are slow in a debug build; other nets have the shapes that are known to matter.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_length_has_one_result(n in 0..400usize, seed: u64, offset in 0..=16usize) {
        for activation in all() {
            let case = Case::random(&mut Rng::new(seed), activation, n);
            let want = on_tiers(&case);
            let offsets = std::array::from_fn(|i| (offset + 5 * i) % 17);
            assert_all_same(&case.run_at(offsets), &want, &format!("{activation:?} {offsets:?}"));
        }
    }
}
