//! SGD and Lion give an element the same bits wherever it stands and whoever computes it.

use hotlanes::lion::{Lion, LionConfig, LionStep, LionTensor};
use hotlanes::sgd::{Sgd, SgdConfig, SgdStep, SgdTensor};
use hotlanes::{LANES, Tier, tuning, with_tier};

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};

#[derive(Clone, Copy)]
enum Step {
    Sgd(SgdStep, bool),
    Lion(LionStep),
}

/// Each of the kernels' loops.
fn variants() -> Vec<(&'static str, Step)> {
    let plain = SgdConfig { lr: 0.1, ..Default::default() };
    let l2 = SgdConfig { weight_decay: 0.1, maximize: true, ..plain };
    let heavy = SgdConfig { momentum: 0.9, ..plain };
    let damped = SgdConfig { momentum: 0.7, dampening: 0.25, ..l2 };
    let nesterov = SgdConfig { nesterov: true, ..heavy };
    let nesterov_l2 = SgdConfig { weight_decay: 0.1, ..nesterov };
    let sgd = |config: SgdConfig, step| {
        Step::Sgd(Sgd::new(config).unwrap().at(step).unwrap(), config.momentum > 0.0)
    };
    let lion = LionConfig { weight_decay: 0.1, ..Default::default() };
    vec![
        ("sgd", sgd(plain, 1)),
        ("sgd_l2", sgd(l2, 3)),
        ("sgd_momentum", sgd(heavy, 3)),
        ("sgd_momentum_first", sgd(heavy, 1)),
        ("sgd_dampened_l2", sgd(damped, 3)),
        ("sgd_nesterov", sgd(nesterov, 3)),
        ("sgd_nesterov_l2", sgd(nesterov_l2, 3)),
        ("lion", Step::Lion(Lion::new(lion).unwrap().step_unscaled(3.0).unwrap())),
    ]
}

/// Parameter, gradient, buffer.
type Tensor = [Vec<f32>; 3];

fn random(rng: &mut Rng, n: usize) -> Tensor {
    let mut t: Tensor = Default::default();
    for _ in 0..n {
        let around = rng.below(30) as i32 - 20;
        for x in &mut t {
            x.push(rng.spread(around - 3, around + 3));
        }
        if rng.below(40) == 0 {
            // Underflow and overflow of everything.
            let e = [-126, -70, 60, 120][rng.below(4)];
            for x in &mut t {
                *x.last_mut().unwrap() = rng.spread(e, e + 4);
            }
        }
        if rng.below(30) == 0 {
            *t[rng.below(3)].last_mut().unwrap() = SPECIALS[rng.below(SPECIALS.len())];
        }
    }
    t
}

impl Step {
    fn run(self, param: &mut [f32], grad: &[f32], buffer: &mut [f32]) {
        match self {
            Step::Sgd(step, true) => step.update(SgdTensor { param, grad, buffer }),
            Step::Sgd(step, false) => step.update(SgdTensor { param, grad, buffer: &mut [] }),
            Step::Lion(step) => step.update(LionTensor { param, grad, m: buffer }),
        }
    }

    fn run_many(self, tensors: &mut [Tensor]) {
        match self {
            Step::Sgd(step, has_buffer) => {
                let mut views = vec![];
                for [param, grad, buffer] in tensors {
                    let buffer = if has_buffer { &mut buffer[..] } else { &mut [] };
                    views.push(SgdTensor { param, grad, buffer });
                }
                step.update_many(&mut views);
            }
            Step::Lion(step) => {
                let mut views = vec![];
                for [param, grad, m] in tensors {
                    views.push(LionTensor { param, grad, m });
                }
                step.update_many(&mut views);
            }
        }
    }
}

/// What every cut must give: each element updated as a tensor of its own, on the first tier.
fn one_by_one(step: Step, t: &Tensor) -> Tensor {
    let first = Tier::available().next().unwrap();
    let mut out = t.clone();
    let [p, g, b] = &mut out;
    with_tier(first, || {
        for i in 0..g.len() {
            step.run(&mut p[i..=i], &g[i..=i], &mut b[i..=i]);
        }
    })
    .unwrap();
    out
}

#[test]
fn every_length_at_every_offset() {
    let mut lengths: Vec<usize> = (0..=2 * LANES + 1).chain(63..=66).chain(127..=130).chain([300]).collect();
    if cfg!(miri) {
        lengths = vec![1, 17, 65];
    }
    let mut rng = Rng::new(1);
    for (name, step) in variants() {
        for &n in &lengths {
            let before = random(&mut rng, n);
            let want = one_by_one(step, &before);
            for_each_tier(|tier| {
                for offset in offsets() {
                    // Each slice at an offset of its own.
                    let mut k = offset;
                    let [mut p, g, mut b] = before.each_ref().map(|values| {
                        k = (k + 3) % 17;
                        Guarded::new(k, values)
                    });
                    step.run(p.get_mut(), g.get(), b.get_mut());
                    for ((slice, want), part) in [p, g, b].iter().zip(&want).zip(["p", "g", "b"]) {
                        let what = || format!("{name} on {tier}, {n} at offset {offset}: {part}");
                        assert_same(slice.get(), want, what());
                        slice.assert_guards(what());
                    }
                }
            });
        }
    }
}

/// Runs all tensors in one call, and checks each against the same tensor alone, small ones element by element.
fn check_many(lengths: &[usize], seed: u64, (name, step): (&str, Step)) {
    let first = Tier::available().next().unwrap();
    let mut rng = Rng::new(seed);
    let before: Vec<Tensor> = lengths.iter().map(|&n| random(&mut rng, n)).collect();
    let mut want = before.clone();
    for t in &mut want {
        if t[0].len() < 1000 {
            *t = one_by_one(step, t);
        } else {
            // In pieces that no thread shares.
            let [p, g, b] = t;
            for ((p, g), b) in p.chunks_mut(1000).zip(g.chunks(1000)).zip(b.chunks_mut(1000)) {
                with_tier(first, || step.run(p, g, b)).unwrap();
            }
        }
    }
    for_each_tier(|tier| {
        let mut after = before.clone();
        step.run_many(&mut after);
        for (i, (got, want)) in after.iter().zip(&want).enumerate() {
            for (got, want) in got.iter().zip(want) {
                assert_same(got, want, format!("{name} on {tier}, tensor {i} of {}", lengths.len()));
            }
        }
    });
}

#[test]
fn many_tensors_are_each_alone() {
    for variant in variants() {
        check_many(&[], 3, variant);
        check_many(&[0, 0, 0], 3, variant);
        check_many(&[0, 1, 0, 33, 16, 0, 70], 3, variant);
    }
}

#[cfg(feature = "rayon")]
#[test]
fn cuts_and_threads_change_nothing() {
    let variants = variants();
    for (variant, parallel) in
        [(0, tuning::SGD_PARALLEL), (2, tuning::SGD_PARALLEL), (7, tuning::LION_PARALLEL)]
    {
        let ragged = [vec![parallel / 2, 0, 1, 0, 17], vec![500; 300], vec![parallel / 4, 0]].concat();
        crate::pools::on_pools(|threads| {
            let lengths: &[usize] = match threads {
                1 => &[parallel],
                2 => &[parallel - 1],
                3 => &ragged,
                _ => &[parallel + 1],
            };
            check_many(lengths, 5, variants[variant]);
        });
    }
}

/// Changing one of these is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: [&str; 8] = [
    "sgd: 0xfd577c1d2139a3c2",
    "sgd_l2: 0xcc6ae895bf168908",
    "sgd_momentum: 0x3d8d4d4ad6f03424",
    "sgd_momentum_first: 0x2ed8876cc29a86ce",
    "sgd_dampened_l2: 0x81bc697d70899701",
    "sgd_nesterov: 0xf9f8056320efa62e",
    "sgd_nesterov_l2: 0x66d8f6d77d276aeb",
    "lion: 0xe382ac21d8b22f74",
];

#[test]
fn the_bits_are_those_of_the_format() {
    let before = random(&mut Rng::new(6), 1003);
    for_each_tier(|tier| {
        let mut hashes = vec![];
        for (name, step) in variants() {
            let [mut p, g, mut b] = before.clone();
            for _ in 0..3 {
                step.run(&mut p, &g, &mut b);
            }
            hashes.push(format!("{name}: {:#018x}", Hash::new().add(&p).add(&b).get()));
        }
        assert_eq!(hashes, GOLDEN, "{tier}");
    });
}
