//! Muon against the formulas of its documentation in f64, against PyTorch, and what it refuses.

use hotlanes::muon::{Muon, MuonConfig, MuonScale, MuonTensor};

use crate::common::{Rng, for_each_tier, panic_message};
use crate::golden::{parse, relative};
use crate::settings::{Setting, data, walk};
use crate::softmax::wide;

const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

fn step(muon: &Muon, rows: usize, cols: usize, param: &mut [f32], grad: &[f32], buffer: &mut [f32]) {
    let mut scratch = vec![f32::NAN; muon.scratch_len(rows, cols)];
    muon.update(MuonTensor { rows, cols, param, grad, buffer }, &mut scratch);
}

/// `[m][k]` times `[k][n]`.
fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let (m, n) = (a.len() / k, b.len() / k);
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for s in 0..k {
            for j in 0..n {
                c[i * n + j] += a[i * k + s] * b[s * n + j];
            }
        }
    }
    c
}

fn transposed(a: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|j| a.iter().skip(j).step_by(cols).copied()).collect()
}

/// The iterations as they are written, on rows by columns with no care for which is less.
fn orthogonal(u: &[f64], cols: usize) -> Vec<f64> {
    let (rows, [first, second, third]) = (u.len() / cols, COEFFICIENTS);
    let norm = u.iter().map(|u| u * u).sum::<f64>().sqrt() + 1e-7;
    let mut x: Vec<f64> = u.iter().map(|u| u / norm).collect();
    for _ in 0..5 {
        let a = product(&x, &transposed(&x, cols), cols);
        let a2 = product(&a, &a, rows);
        let p: Vec<f64> = a.iter().zip(&a2).map(|(a, a2)| second * a + third * a2).collect();
        x = product(&p, &x, rows).iter().zip(&x).map(|(px, x)| first * x + px).collect();
    }
    x
}

#[test]
fn a_step_is_that_of_the_formula() {
    let mut rng = Rng::new(1);
    let mut worst = 0.0f64;
    let shapes = [(1, 1), (1, 9), (9, 1), (5, 7), (17, 16), (40, 33), (20, 70), (70, 20)];
    let large = [(150, 150), (150, 64)];
    let large = if cfg!(debug_assertions) { &large[..0] } else { &large[..] };
    for (i, &(rows, cols)) in shapes.iter().chain(large).enumerate() {
        let config = MuonConfig {
            lr: 0.5,
            momentum: [0.95, 0.0, 0.5][i % 3],
            nesterov: i % 2 == 0,
            weight_decay: [0.3, 0.0][i % 2],
            scale: [MuonScale::Original, MuonScale::MatchRmsAdamw][i / 2 % 2],
        };
        let MuonConfig { lr, momentum, nesterov, weight_decay, .. } = config;
        let size = 2.0f32.powi([0, -30, 20][i % 3]);
        let grad = rng.vec(rows * cols, |rng| size * rng.normal());
        let param = rng.vec(rows * cols, |rng| 0.1 * rng.normal());
        let old = rng.vec(if momentum > 0.0 { rows * cols } else { 0 }, |rng| size * rng.normal());
        let b: Vec<f64> = wide(&old).iter().zip(&grad).map(|(b, &g)| momentum * b + g as f64).collect();
        let u: Vec<f64> = match nesterov && momentum > 0.0 {
            true => b.iter().zip(&grad).map(|(b, &g)| momentum * b + g as f64).collect(),
            false if momentum > 0.0 => b.clone(),
            false => wide(&grad),
        };
        let x = orthogonal(&u, cols);
        let scale = match config.scale {
            MuonScale::Original => (rows as f64 / cols as f64).max(1.0).sqrt(),
            MuonScale::MatchRmsAdamw => 0.2 * (rows.max(cols) as f64).sqrt(),
        };
        for_each_tier(|tier| {
            let (mut p, mut buffer) = (param.clone(), old.clone());
            step(&Muon::new(config).unwrap(), rows, cols, &mut p, &grad, &mut buffer);
            for (i, (&got, want)) in buffer.iter().zip(&b).enumerate() {
                let bound = 2f64.powi(-23) * (want.abs() + momentum * old[i].abs() as f64);
                assert!((got as f64 - want).abs() <= bound, "{tier} {rows} x {cols}: b {i}: {got}, {want}");
            }
            for (i, (&got, &x)) in p.iter().zip(&x).enumerate() {
                let want = param[i] as f64 * (1.0 - lr * weight_decay) - lr * scale * x;
                let own = 2f64.powi(-23) * (param[i].abs() as f64 + 2.0 * (lr * scale * x).abs());
                // What the error of X alone may be.
                let error = ((got as f64 - want).abs() - own).max(0.0) / (lr * scale);
                assert!(error <= 2f64.powi(-17), "{tier} {rows} x {cols}: {i} is {got}, not {want}");
                worst = worst.max(error);
            }
        });
    }
    let share = worst * 2f64.powi(17);
    println!("X is off by at most {share:.3} of its bound");
    assert!(share > 0.05, "the bound is too loose to mean anything: {worst}");
}

/// Columns of length 1 at right angles, `[n][count]`.
fn basis(rng: &mut Rng, n: usize, count: usize) -> Vec<f64> {
    let mut columns: Vec<Vec<f64>> = vec![];
    for _ in 0..count {
        let mut v = wide(&rng.vec(n, |rng| rng.normal()));
        // Twice is enough.
        for c in columns.iter().chain(&columns) {
            let along: f64 = v.iter().zip(c).map(|(v, c)| v * c).sum();
            v.iter_mut().zip(c).for_each(|(v, c)| *v -= along * c);
        }
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        columns.push(v.iter().map(|v| v / norm).collect());
    }
    (0..n).flat_map(|i| columns.iter().map(move |c| c[i])).collect()
}

#[test]
fn singular_values_come_near_one_and_their_vectors_stay() {
    let mut rng = Rng::new(2);
    for (rows, cols) in [(6, 6), (5, 20), (20, 5), (24, 17)] {
        let side = rows.min(cols);
        let (left, right) = (basis(&mut rng, rows, side), basis(&mut rng, cols, side));
        let values: Vec<f64> = (0..side).map(|i| 0.15 + 2.0 * i as f64 / side as f64).collect();
        let scaled: Vec<f64> = left.iter().enumerate().map(|(i, l)| l * values[i % side]).collect();
        let grad: Vec<f32> =
            product(&scaled, &transposed(&right, side), side).iter().map(|&x| x as f32).collect();
        let config = MuonConfig { lr: 1.0, momentum: 0.0, weight_decay: 0.0, ..Default::default() };
        let muon = Muon::new(config).unwrap();
        for_each_tier(|tier| {
            let mut p = vec![0.0; rows * cols];
            step(&muon, rows, cols, &mut p, &grad, &mut []);
            let scale = (rows as f64 / cols as f64).max(1.0).sqrt();
            let x: Vec<f64> = p.iter().map(|&p| -p as f64 / scale).collect();
            // In the gradient's own singular vectors the result is a diagonal.
            let d = product(&product(&transposed(&left, side), &x, rows), &right, cols);
            for (i, &d) in d.iter().enumerate() {
                let (r, c) = (i / side, i % side);
                if r == c {
                    assert!((0.65..1.25).contains(&d), "{tier} {rows} x {cols}: singular value {d}");
                } else {
                    assert!(d.abs() < 1e-4, "{tier} {rows} x {cols}: {d} beside the diagonal");
                }
            }
        });
    }
}

#[test]
fn it_follows_pytorch() {
    let sections = parse(include_str!("../golden/muon.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 5);
    for case in cases {
        let [rows, cols] = ["rows", "cols"].map(|key| case.number(key) as usize);
        let momentum = case.number("momentum");
        let muon = Muon::new(MuonConfig {
            lr: case.number("lr"),
            momentum,
            nesterov: case.number("nesterov") == 1.0,
            weight_decay: case.number("weight_decay"),
            scale: match case.settings["scale"] {
                "original" => MuonScale::Original,
                _ => MuonScale::MatchRmsAdamw,
            },
        })
        .unwrap();
        for_each_tier(|tier| {
            let mut p = case.get("param").to_vec();
            let mut buffer = vec![0.0; p.len()];
            let (mut ours_old, mut theirs_old) = (p.clone(), [p.clone(), p.clone()]);
            for i in 1..=3 {
                step(&muon, rows, cols, &mut p, case.get(&format!("grad{i}")), &mut buffer);
                // The step is what is compared, not the parameter that hides it. PyTorch iterates in bf16, of 8 bits.
                let moved = |new: &[f32], old: &[f32]| -> Vec<f32> {
                    new.iter().zip(old).map(|(new, old)| new - old).collect()
                };
                let ours = moved(&p, &ours_old);
                for ((dtype, bound), old) in [("f32", 4e-5), ("bf16", 5e-2)].into_iter().zip(&mut theirs_old)
                {
                    let theirs = case.get(&format!("{dtype}_{i}"));
                    let apart = relative(&ours, &moved(theirs, old));
                    let what = format!("{} {tier} step {i}, {dtype}", case.name());
                    println!("{what}: {apart:.1e} apart");
                    assert!(apart <= bound, "{what}: {apart:e} apart");
                    *old = theirs.to_vec();
                }
                ours_old = p.clone();
            }
            let average: Vec<f32> = buffer.iter().map(|b| b * (1.0 - momentum) as f32).collect();
            assert!(relative(&average, case.get("f32_buffer")) < 1e-6, "{} {tier}", case.name());
        });
    }
}

#[test]
fn nothing_zero_and_not_a_number() {
    let muon = Muon::new(MuonConfig { lr: 0.5, weight_decay: 0.5, ..Default::default() }).unwrap();
    for_each_tier(|tier| {
        step(&muon, 0, 5, &mut [], &[], &mut []);
        step(&muon, 5, 0, &mut [], &[], &mut []);
        let mut p = [4.0, -8.0, 2.0, 1.0, 0.0, 6.0];
        step(&muon, 2, 3, &mut p, &[0.0; 6], &mut [0.0; 6]);
        assert_eq!(p, [3.0, -6.0, 1.5, 0.75, 0.0, 4.5], "{tier}");
        for bad in [f32::NAN, f32::INFINITY] {
            for at in 0..6 {
                let (mut p, mut grad) = ([1.0; 6], [1.0, 2.0, 3.0, 5.0, 2.0, 1.0]);
                grad[at] = bad;
                step(&muon, 2, 3, &mut p, &grad, &mut [0.0; 6]);
                assert!(p.iter().all(|p| p.is_nan()), "{tier} {bad} at {at}: {p:?}");
            }
        }
    });
}

#[test]
fn bad_hyper_parameters_are_named() {
    let base = MuonConfig::default();
    for (config, name) in [
        (MuonConfig { lr: -1.0, ..base }, "lr"),
        (MuonConfig { lr: f64::NAN, ..base }, "lr"),
        (MuonConfig { momentum: 1.0, ..base }, "momentum"),
        (MuonConfig { momentum: -0.1, ..base }, "momentum"),
        (MuonConfig { weight_decay: f64::INFINITY, ..base }, "weight_decay"),
    ] {
        assert_eq!(Muon::new(config).unwrap_err().name, name);
    }
    let muon = Muon::new(base).unwrap();
    assert_eq!(muon.with_lr(-2.0).unwrap_err().value, -2.0);
    assert_eq!(muon.with_lr(2.0).unwrap().config().lr, 2.0);
    // With a scale the factors of the step are larger yet.
    let most = MuonConfig { lr: 1e18, weight_decay: 1e12, ..base };
    for scale in [MuonScale::Original, MuonScale::MatchRmsAdamw] {
        let muon = Muon::new(MuonConfig { scale, ..most }).unwrap();
        step(&muon, 2, 1, &mut [1.0; 2], &[1.0; 2], &mut [0.0; 2]);
    }
}

#[test]
fn lengths_must_fit() {
    for (i, name) in ["param", "grad", "buffer", "scratch"].into_iter().enumerate() {
        let mut lengths = [6, 6, 6, 2 * (6 + 4)];
        lengths[i] += 1;
        let message = panic_message(|| {
            let [mut param, grad, mut buffer, mut scratch] = lengths.map(|n| vec![1.0; n]);
            let tensor = MuonTensor { rows: 3, cols: 2, param: &mut param, grad: &grad, buffer: &mut buffer };
            Muon::new(MuonConfig::default()).unwrap().update(tensor, &mut scratch);
        });
        assert!(message.starts_with(&format!("muon: {name} has {} values, ", lengths[i])), "{message}");
    }
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<MuonConfig>; 3] = [
        ("lr", |c, x| c.lr = x),
        ("momentum", |c, x| c.momentum = x),
        ("weight_decay", |c, x| c.weight_decay = x),
    ];
    for scale in [MuonScale::Original, MuonScale::MatchRmsAdamw] {
        walk("Muon", &MuonConfig { scale, ..MuonConfig::default() }, &settings, |config| {
            let muon = Muon::new(*config)?;
            let mut all = vec![];
            for (rows, cols, old) in [(3, 2, 1.0), (2, 9, 0.0)] {
                let n = rows * cols;
                for g in [data(n, 2), vec![0.0; n], vec![1.0; n]] {
                    let mut p = data(n, 0);
                    let mut buffer = if config.momentum > 0.0 { vec![old; n] } else { vec![] };
                    let mut scratch = vec![f32::NAN; muon.scratch_len(rows, cols)];
                    let tensor = MuonTensor { rows, cols, param: &mut p, grad: &g, buffer: &mut buffer };
                    muon.update(tensor, &mut scratch);
                    all.extend([p, buffer].concat());
                }
            }
            Ok(all)
        });
    }
}
