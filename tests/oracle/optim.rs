//! What the tests of optimizer steps share: data, bounds, and PyTorch's vectors (`tests/golden/optim.py`).

use hotlanes::HyperParamError;

use crate::common::{Rng, for_each_tier};
use crate::golden::{Section, Tally, parse};

/// Half the distance from 1 to the next f32.
pub(crate) const U: f64 = 1.0 / (1 << 24) as f64;

/// Parameters, and gradients and buffers of about each other's size.
pub(crate) fn random(rng: &mut Rng, n: usize) -> [Vec<f32>; 3] {
    let mut t: [Vec<f32>; 3] = Default::default();
    for _ in 0..n {
        let around = rng.below(44) as i32 - 30;
        t[0].push(rng.spread(around - 6, around + 6));
        t[1].push(rng.spread(around - 3, around + 3));
        t[2].push(if rng.below(8) == 0 { 0.0 } else { rng.spread(around - 3, around + 3) });
    }
    t
}

/// The largest error over its bound, and where.
#[derive(Default)]
pub(crate) struct Worst(f64, String);

impl Worst {
    #[track_caller]
    pub(crate) fn add(&mut self, error: f64, bound: f64, what: impl Fn() -> String) {
        // 0 / 0 where both are zero and nothing led there.
        let share = if error == 0.0 { 0.0 } else { error / bound };
        assert!(share <= 1.0, "{} is off by {share} of its bound", what());
        if share > self.0 {
            *self = Worst(share, what());
        }
    }

    /// A bound that nothing comes near says nothing.
    pub(crate) fn report(&self, name: &str) {
        println!("{name}: largest error {:.3} of its bound, in {}", self.0, self.1);
        assert!(self.0 > 0.3, "the bound of {name} is too loose to mean anything: {}", self.0);
    }
}

/// A hyper-parameter of a configuration.
pub(crate) type Field<C> = fn(&mut C) -> &mut f64;

#[track_caller]
pub(crate) fn assert_named(error: HyperParamError, name: &str, value: f64) {
    assert_eq!((error.name, error.value.to_bits()), (name, value.to_bits()));
    assert!(error.to_string().starts_with(&format!("{name} = {value}: must be ")), "{error}");
}

pub(crate) const NOT_SIZES: [f64; 6] =
    [-1e-3, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39, -f64::MIN_POSITIVE];
const STEPS: u64 = 3;

/// Each of the optimizer's cases, of which there are so many; their conventions are PyTorch's own, if not the last bits.
pub(crate) fn follow(optimizer: &str, cases: usize, mut each: impl FnMut(&Section, &Section)) {
    let sections = parse(include_str!("../golden/optim.txt"));
    let (inputs, all) = sections.split_first().unwrap();
    assert_eq!(all.len(), 18, "of all optimizers");
    let its: Vec<_> = all.iter().filter(|c| c.name().split('_').next() == Some(optimizer)).collect();
    assert_eq!(its.len(), cases, "of {optimizer}");
    its.into_iter().for_each(|case| each(inputs, case));
}

/// Runs a case's steps, and holds each vector to PyTorch's: an error of `most` units of 2^-24 of `size`, and of itself.
pub(crate) fn hold(
    inputs: &Section,
    case: &Section,
    names: &[&str],
    size: f64,
    most: f64,
    mut step: impl FnMut(u64, &[f32], &mut [Vec<f32>; 3]),
) {
    for_each_tier(|tier| {
        let n = inputs.get("param").len();
        let rows = if case.has("rows") { case.number("rows") as usize } else { n };
        let cols = if case.has("cols") { case.number("cols") as usize } else { 0 };
        let mut state = [inputs.get("param").to_vec(), vec![0.0; rows], vec![0.0; cols]];
        let mut tallies: Vec<Tally> = names.iter().map(|_| Tally::default()).collect();
        for i in 1..=STEPS {
            step(i, inputs.get(&format!("grad{i}")), &mut state);
            for ((name, ours), tally) in names.iter().zip(&state).zip(&mut tallies) {
                let sizes = match *name {
                    "param" => ours.iter().map(|p| p.abs() as f64 + size).collect(),
                    "buffer" | "m" => vec![size; ours.len()],
                    _ => vec![0.0; ours.len()],
                };
                tally.add(ours, case.get(&format!("{name}{i}")), &sizes);
            }
        }
        for (tally, name) in tallies.iter().zip(names) {
            let what = format!("{} {tier} {name}", case.name());
            tally.print(&what);
            assert!(tally.error <= most, "{what}: {} u", tally.error);
        }
    });
}
