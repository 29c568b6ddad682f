//! Every setting of every constructor, from 0 to infinity, alone and two at a time: it is refused with its name and value,
//! or the kernel works on finite data.

use std::collections::BTreeSet;

use hotlanes::HyperParamError;

use crate::common::for_each_tier;

/// At, below and above every limit that a setting has: f32's and the constructors' own.
const VALUES: [f64; 33] = [
    0.0,
    -0.0,
    1e-320,
    1e-46,
    1.5e-45,
    1e-39,
    1.2e-38,
    1e-30,
    9e-13,
    1e-12,
    1e-6,
    0.5,
    1.0 - f64::EPSILON / 2.0,
    1.0,
    2.0,
    1e6,
    1e12,
    1.1e12,
    1e18,
    1e30,
    1.1e30,
    8e37,
    3e38,
    3.5e38,
    1e300,
    f64::MAX,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -1e-46,
    -1.0,
    -1e12,
    -1e300,
    f64::NAN,
];

/// Ordinary data: nothing, little, much.
const DATA: [f32; 9] = [0.0, 1.0, -1.0, 1e-6, 1e6, -1e6, 0.1, -3.5, 0.0];

/// So many values of ordinary data, from the `first` on.
pub(crate) fn data(n: usize, first: usize) -> Vec<f32> {
    (first..first + n).map(|i| DATA[i % DATA.len()]).collect()
}

/// A whole vector and a rest, of parameters, gradients and moments that meet in all combinations but for few.
pub(crate) const N: usize = 37;

/// A configuration, with what a step takes besides.
#[derive(Clone, Copy)]
pub(crate) struct Call<C> {
    pub(crate) config: C,
    pub(crate) step: f64,
    pub(crate) grad_scale: f64,
}

impl<C> Call<C> {
    pub(crate) fn of(config: C) -> Self {
        Call { config, step: 1000.0, grad_scale: 1.0 }
    }
}

/// A setting: its name, and how it is set.
pub(crate) type Setting<C> = (&'static str, fn(&mut C, f64));

/// What a run of a kernel gave, or why its settings were refused.
pub(crate) type Outcome = Result<Vec<f32>, HyperParamError>;

/// Walks over the settings of `base`, on every tier: alone, where all results are finite, and in pairs, where none is NaN
/// (the product of two large ones may be infinite).
pub(crate) fn walk<C: Clone>(what: &str, base: &C, settings: &[Setting<C>], run: impl Fn(&C) -> Outcome) {
    for_each_tier(|tier| {
        assert_eq!(run(base).map(|y| y.iter().all(|y| y.is_finite())), Ok(true), "{tier} {what}");
        let mut told = BTreeSet::new();
        for (i, &(name, set)) in settings.iter().enumerate() {
            for value in VALUES {
                let mut config = base.clone();
                set(&mut config, value);
                match run(&config) {
                    Ok(y) => {
                        assert!(y.iter().all(|y| y.is_finite()), "{tier} {what} {name} = {value}: {y:?}")
                    }
                    Err(e) => {
                        told.insert((name, value.to_bits()));
                        // A step is a whole number, and a product has a name of its own.
                        let same = |x: f64| x.to_bits() == e.value.to_bits();
                        let named = e.name == name && (same(value) || same(value as u64 as f64));
                        assert!(
                            named || (e.name.contains(name) && e.name.len() > name.len()),
                            "{what} {name}: {e}"
                        );
                        assert_eq!(e.to_string(), format!("{} = {}: {}", e.name, e.value, e.rule));
                    }
                }
                for &(other, set_other) in &settings[i + 1..] {
                    for second in VALUES {
                        let mut config = config.clone();
                        set_other(&mut config, second);
                        match run(&config) {
                            Ok(y) => assert!(
                                !y.iter().any(|y| y.is_nan()),
                                "{tier} {what} {name} = {value}, {other} = {second}: {y:?}"
                            ),
                            Err(e) => assert!(e.name.contains(name) || e.name.contains(other), "{what}: {e}"),
                        }
                    }
                }
            }
            assert!(told.contains(&(name, f64::NAN.to_bits())), "{what}: {name} takes NaN");
        }
    });
}
