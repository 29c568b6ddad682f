//! Vectors that PyTorch made (`tests/golden/optim.py`): the conventions of SGD, Lion and Adafactor are its own, if not the
//! last bits.

use hotlanes::adafactor::{Adafactor, AdafactorConfig, AdafactorTensor, SecondMoment};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};

use super::golden::{Section, Tally, parse};
use crate::common::for_each_tier;

const STEPS: u64 = 3;

/// Runs a case's steps, and holds each vector to PyTorch's: an error of `most` units of 2^-24 of `size`, and of itself.
fn follow(
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

#[test]
fn sgd_lion_and_adafactor_follow_pytorch() {
    let sections = parse(include_str!("../golden/optim.txt"));
    let (inputs, cases) = sections.split_first().unwrap();
    assert_eq!(cases.len(), 18);
    for case in cases {
        let number = |key| case.number(key);
        let maximize = number("maximize") == 1.0;
        let family = case.name().split('_').next().unwrap();
        match family {
            "sgd" => {
                let momentum = number("momentum");
                let sgd = Sgd::new(SgdConfig {
                    lr: number("lr"),
                    momentum,
                    dampening: number("dampening"),
                    weight_decay: number("weight_decay"),
                    nesterov: number("nesterov") == 1.0,
                    maximize,
                })
                .unwrap();
                let names: &[&str] = if momentum > 0.0 { &["param", "buffer"] } else { &["param"] };
                follow(inputs, case, names, 1.0, 6.0, |i, grad, [param, buffer, _]| {
                    let buffer = if momentum > 0.0 { &mut buffer[..] } else { &mut [] };
                    sgd.at(i).unwrap().update(SgdTensor { param, grad, buffer });
                });
            }
            "lion" => {
                let lion = Lion::new(LionConfig {
                    lr: number("lr"),
                    beta1: number("beta1"),
                    beta2: number("beta2"),
                    weight_decay: number("weight_decay"),
                    maximize,
                })
                .unwrap();
                follow(inputs, case, &["param", "m"], 0.01, 6.0, |_, grad, [param, m, _]| {
                    lion.step().update(LionTensor { param, grad, m });
                });
            }
            "adafactor" => {
                let adafactor = Adafactor::new(AdafactorConfig {
                    lr: number("lr"),
                    beta2_decay: number("beta2_decay"),
                    eps1: number("eps1"),
                    eps2: number("eps2"),
                    d: number("d"),
                    weight_decay: number("weight_decay"),
                    maximize,
                    ..Default::default()
                })
                .unwrap();
                let names: &[&str] =
                    if number("cols") > 0.0 { &["param", "row", "col"] } else { &["param", "row"] };
                follow(inputs, case, names, 1.0, 12.0, |i, grad, [param, row, col]| {
                    let moment = if col.is_empty() {
                        SecondMoment::Unfactored { v: row }
                    } else {
                        SecondMoment::Factored { row, col }
                    };
                    let tensor = AdafactorTensor { param, grad, moment };
                    let mut scratch = vec![f32::NAN; tensor.scratch_len()];
                    adafactor.at(i).unwrap().update(tensor, &mut scratch);
                });
            }
            other => panic!("a case of {other}"),
        }
    }
}
