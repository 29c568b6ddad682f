//! RMSNorm against the formulas of its documentation, in f64, and against PyTorch; with a residual against PyTorch, and in
//! `tests/bits` against the separate steps.

use hotlanes::norm::{LayerNorm, RmsNorm};

use crate::common::{Rng, for_each_tier};
use crate::golden::{parse, relative};
use crate::norm::{Inputs, Kind, ORDINARY, TWO_VALUES, U, factor, levels, shapes, wide};

/// What the forward and the backward from its statistics gave.
pub struct Outputs {
    pub y: Vec<f32>,
    pub rstd: Vec<f32>,
    pub dx: Vec<f32>,
    pub dgamma: Vec<f32>,
}

/// RMSNorm of the inputs; `scratch` fills the scratch.
pub fn run(i: &Inputs, scratch: f32) -> Outputs {
    let norm = RmsNorm::new(i.features, i.eps).unwrap();
    let nan = |n: usize| vec![f32::NAN; n];
    let size = i.rows * i.features;
    let mut o = Outputs { y: nan(size), rstd: nan(i.rows), dx: nan(size), dgamma: nan(i.features) };
    norm.forward(&i.x, &i.gamma, &mut o.y, &mut o.rstd);
    let mut scratch = vec![scratch; norm.scratch_len(i.rows)];
    norm.backward(&i.dy, &i.x, &i.gamma, &o.rstd, &mut o.dx, &mut o.dgamma, &mut scratch);
    o
}

fn rstd(x: &[f64], eps: f64) -> f64 {
    1.0 / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + eps).sqrt()
}

/// The gradient of a row, from its x-hat and `g = dy * gamma`.
fn dx(rstd: f64, xhat: &[f64], g: &[f64]) -> Vec<f64> {
    let mean_gx = g.iter().zip(xhat).map(|(g, x)| g * x).sum::<f64>() / g.len() as f64;
    g.iter().zip(xhat).map(|(g, x)| rstd * (g - x * mean_gx)).collect()
}

const NAMES: [&str; 4] = ["rstd", "y", "dx", "dgamma"];

/// The largest error of each output over its bound.
fn errors(i: &Inputs, o: &Outputs, few_values: bool) -> [f64; 4] {
    let (n, f) = (i.features, factor(i.features, few_values));
    let gamma = wide(&i.gamma);
    let mut worst = [0.0; 4];
    let mut see = |name: usize, got: f32, want: f64, bound: f64| {
        let error = (got as f64 - want).abs();
        // Where nothing may be lost nothing must be; NaN is infinitely far.
        let ratio = if error == 0.0 { 0.0 } else { error / bound };
        worst[name] = f64::max(worst[name], if ratio.is_nan() { f64::INFINITY } else { ratio });
    };
    let mut dgamma = vec![(0.0, 0.0); n];
    for r in 0..i.rows {
        let at = r * n..(r + 1) * n;
        let (x, dy) = (wide(&i.x[at.clone()]), wide(&i.dy[at.clone()]));
        let rstd = rstd(&x, i.eps);
        let xhat: Vec<f64> = x.iter().map(|x| x * rstd).collect();
        let g: Vec<f64> = dy.iter().zip(&gamma).map(|(d, g)| d * g).collect();
        let dx = dx(rstd, &xhat, &g);
        let mean_gx = g.iter().zip(&xhat).map(|(g, x)| (g * x).abs()).sum::<f64>() / n as f64;
        see(0, o.rstd[r], rstd, U * f / 2.0 * rstd);
        for c in 0..n {
            let y = xhat[c] * gamma[c];
            see(1, o.y[at.start + c], y, U * f / 2.0 * y.abs());
            see(2, o.dx[at.start + c], dx[c], U * f * rstd * (g[c].abs() + xhat[c].abs() * mean_gx));
            dgamma[c].0 += dy[c] * xhat[c];
            dgamma[c].1 += (dy[c] * xhat[c]).abs();
        }
    }
    for c in 0..n {
        see(3, o.dgamma[c], dgamma[c].0, U * (levels(i.rows) + f / 2.0) * dgamma[c].1);
    }
    worst
}

#[test]
fn everything_is_within_its_bound() {
    // A constant row is one of few values here.
    let [a, b, c, constant, d, e] = ORDINARY;
    let ordinary: [Kind; 5] = [a, b, c, d, e];
    let few: [Kind; 4] = [constant, TWO_VALUES[0], TWO_VALUES[1], TWO_VALUES[2]];
    let mut rng = Rng::new(1);
    for (few_values, kinds) in [(false, &ordinary[..]), (true, &few[..])] {
        let mut worst = [(0.0, (0, 0)); 4];
        for (features, rows) in shapes() {
            let i = Inputs::random(&mut rng, features, rows, kinds);
            for_each_tier(|tier| {
                for (k, error) in errors(&i, &run(&i, f32::NAN), few_values).into_iter().enumerate() {
                    let name = NAMES[k];
                    assert!(error <= 1.0, "{tier} {rows} x {features}: {name} off by {error} of its bound");
                    if error > worst[k].0 {
                        worst[k] = (error, (rows, features));
                    }
                }
            });
        }
        for ((error, (rows, features)), name) in worst.into_iter().zip(NAMES) {
            println!("{name}: largest error {error:.3} of its bound, at {rows} x {features}");
            assert!(error > 0.2, "the bound of {name} is too loose to mean anything: {error}");
        }
    }
}

#[test]
fn the_backward_is_the_derivative_of_the_forward() {
    let mut rng = Rng::new(2);
    for n in [1, 2, 5, 9] {
        let [x, dy, gamma] = [(); 3].map(|()| wide(&rng.vec(n, |rng| rng.normal())));
        let g: Vec<f64> = dy.iter().zip(&gamma).map(|(d, g)| d * g).collect();
        // What dy is the gradient of.
        let loss = |x: &[f64]| {
            let rstd = rstd(x, 0.1);
            x.iter().zip(&g).map(|(x, g)| x * rstd * g).sum::<f64>()
        };
        let scale = rstd(&x, 0.1);
        let xhat: Vec<f64> = x.iter().map(|x| x * scale).collect();
        let dx = dx(scale, &xhat, &g);
        for i in 0..n {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[i] += 1e-5;
            below[i] -= 1e-5;
            let slope = (loss(&above) - loss(&below)) / 2e-5;
            assert!((slope - dx[i]).abs() < 1e-7, "n {n}: slope {slope}, dx[{i}] {}", dx[i]);
        }
    }
}

/// `tests/golden/rmsnorm.py` made the vectors.
#[test]
fn both_norms_follow_pytorch() {
    let sections = parse(include_str!("../golden/rmsnorm.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 6);
    for case in cases {
        let (rows, features) = (case.number("rows") as usize, case.number("features") as usize);
        let (mean_too, add) = (case.number("mean") == 1.0, case.number("add") == 1.0);
        let eps = case.number("eps");
        let (layer, rms) = (LayerNorm::new(features, eps).unwrap(), RmsNorm::new(features, eps).unwrap());
        let size = rows * features;
        for_each_tier(|tier| {
            let [mut h, mut y, mut dx] = [(); 3].map(|()| vec![f32::NAN; size]);
            let [mut mean, mut rstd] = [(); 2].map(|()| vec![f32::NAN; rows]);
            let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![f32::NAN; features]);
            let (x, gamma, dy) = (case.get("x"), case.get("gamma"), case.get("dy"));
            let mut ours: Vec<&str> = vec!["y", "dx", "dgamma"];
            if !add {
                rms.forward(x, gamma, &mut y, &mut rstd);
                rms.backward(dy, x, gamma, &rstd, &mut dx, &mut dgamma, &mut []);
            } else if mean_too {
                let (residual, dh, beta) = (case.get("residual"), case.get("dh"), case.get("beta"));
                layer.forward_add(x, residual, gamma, beta, &mut h, &mut y, &mut mean, &mut rstd);
                let (dg, db) = (&mut dgamma, &mut dbeta);
                layer.backward_add(dy, dh, &h, gamma, &mean, &rstd, &mut dx, dg, db, &mut []);
                ours.push("dbeta");
            } else {
                rms.forward_add(x, case.get("residual"), gamma, &mut h, &mut y, &mut rstd);
                rms.backward_add(dy, case.get("dh"), &h, gamma, &rstd, &mut dx, &mut dgamma, &mut []);
            }
            if add {
                assert_eq!(h, case.get("h"), "{}", case.settings["case"]);
            }
            for name in ours {
                let got = match name {
                    "y" => &y,
                    "dx" => &dx,
                    "dgamma" => &dgamma,
                    _ => &dbeta,
                };
                let right = case.get(&format!("{name}64"));
                let (error, torch) = (relative(got, right), relative(case.get(name), right));
                let what = format!("{} {tier} {name}", case.settings["case"]);
                println!("{what}: error {error:.1e}, PyTorch's {torch:.1e}");
                assert!(error <= 5e-7, "{what}: error {error:e}");
                let apart = relative(got, case.get(name));
                assert!(apart <= 1e-6, "{what}: {apart:e} from PyTorch");
            }
        });
    }
}
