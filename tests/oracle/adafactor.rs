//! Adafactor against the formulas of its documentation, in f64; and what it refuses.

use hotlanes::HyperParamError;
use hotlanes::adafactor::{
    Adafactor, AdafactorConfig, AdafactorTensor, SecondMoment, scratch_len_matrix, scratch_len_vector,
};

use crate::common::{Rng, for_each_tier, panic_message};
use crate::optim::{follow, hold};
use crate::settings::{Call, N, Outcome, Setting, data, walk};
use crate::shapes::assert_does_not_wrap;

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// A parameter, its gradient, and its second moment: of rows and of columns, or one vector of its own.
#[derive(Clone)]
struct State {
    cols: usize,
    param: Vec<f32>,
    grad: Vec<f32>,
    row: Vec<f32>,
    col: Vec<f32>,
}

impl State {
    /// `cols` is 0 for a vector of `rows` values.
    fn new(rows: usize, cols: usize, mut f: impl FnMut(f32) -> f32) -> Self {
        let n = if cols == 0 { rows } else { rows * cols };
        let mut of = |n: usize, scale: f32| (0..n).map(|_| f(scale)).collect::<Vec<f32>>();
        let squares = |v: Vec<f32>| v.into_iter().map(|x| x * x).collect();
        let (param, grad) = (of(n, 0.1), of(n, 0.01));
        State { cols, param, grad, row: squares(of(rows, 0.01)), col: squares(of(cols, 0.01)) }
    }

    fn random(rng: &mut Rng, rows: usize, cols: usize) -> Self {
        let mut s = State::new(rows, cols, |scale| scale * rng.normal());
        // Gradients that are far from the others, and none.
        for g in s.grad.iter_mut().step_by(7) {
            *g *= [0.0, 1e-6, 1e3][rng.below(3)];
        }
        s
    }

    fn step(&mut self, config: AdafactorConfig, step: u64) {
        let mut scratch = vec![f32::NAN; self.scratch_len()];
        let State { cols, param, grad, row, col } = self;
        let moment =
            if *cols > 0 { SecondMoment::Factored { row, col } } else { SecondMoment::Unfactored { v: row } };
        let tensor = AdafactorTensor { param, grad, moment };
        assert_eq!(tensor.scratch_len(), scratch.len());
        Adafactor::new(config).unwrap().at(step).unwrap().update(tensor, &mut scratch);
    }

    fn scratch_len(&self) -> usize {
        if self.cols > 0 {
            scratch_len_matrix(self.row.len(), self.cols)
        } else {
            scratch_len_vector(self.row.len())
        }
    }

    /// The means of squares over rows and columns; of a vector the squares.
    fn means(&self) -> (Vec<f64>, Vec<f64>) {
        if self.cols == 0 {
            return (self.grad.iter().map(|&g| (g as f64).powi(2)).collect(), vec![]);
        }
        let (rows, cols) = (self.row.len(), self.cols);
        let (mut by_row, mut by_col) = (vec![0.0; rows], vec![0.0; cols]);
        for (i, &g) in self.grad.iter().enumerate() {
            by_row[i / cols] += (g as f64).powi(2) / cols as f64;
            by_col[i % cols] += (g as f64).powi(2) / rows as f64;
        }
        (by_row, by_col)
    }

    /// What is added to the parameter for the moments as they are, decay aside.
    fn update(&self, c: &AdafactorConfig, step: u64) -> Vec<f64> {
        let n = self.grad.len() as f64;
        let mean = self.row.iter().map(|&x| x as f64).sum::<f64>() / self.row.len() as f64;
        let v = |i: usize| {
            if self.cols == 0 {
                return self.row[i] as f64;
            }
            self.row[i / self.cols] as f64 * self.col[i % self.cols] as f64 / mean.max(c.eps1)
        };
        let mut u: Vec<f64> =
            (0..self.grad.len()).map(|i| self.grad[i] as f64 / v(i).max(c.eps1 * c.eps1).sqrt()).collect();
        let rms = (u.iter().map(|u| u * u).sum::<f64>() / n).sqrt();
        let rho = if c.relative_step { c.lr.min(1.0 / (step as f64).sqrt()) } else { c.lr };
        let own = (self.param.iter().map(|&p| (p as f64).powi(2)).sum::<f64>() / n).sqrt();
        let alpha = if c.scale_parameter { own.max(c.eps2) * rho } else { rho };
        let factor = alpha / (rms / c.d).max(1.0) * if c.maximize { 1.0 } else { -1.0 };
        u.iter_mut().for_each(|u| *u *= factor);
        u
    }
}

fn cases() -> Vec<(AdafactorConfig, u64)> {
    let base = AdafactorConfig::default();
    vec![
        (base, 1),
        (base, 2),
        (AdafactorConfig { weight_decay: 0.3, maximize: true, ..base }, 500),
        (AdafactorConfig { lr: 0.5, d: 3.0, eps1: 1e-3, ..base }, 12),
        (AdafactorConfig { relative_step: false, scale_parameter: false, beta2_decay: -0.3, ..base }, 9),
        (AdafactorConfig { relative_step: false, lr: 0.7, eps2: 5.0, ..base }, 10_000),
    ]
}

/// The largest errors over their bounds: of rows, of columns, of a vector's moment, of the parameter.
#[derive(Default)]
struct Worst([f64; 4]);

impl Worst {
    #[track_caller]
    fn add(&mut self, which: usize, error: f64, bound: f64, what: &str) {
        let share = if error == 0.0 { 0.0 } else { error / bound };
        assert!(share <= 1.0, "{what}: {} off by {share} of its bound", ["row", "col", "v", "p"][which]);
        self.0[which] = self.0[which].max(share);
    }
}

fn check(before: &State, (config, step): (AdafactorConfig, u64), worst: &mut Worst) {
    let weight = (step as f64).powf(config.beta2_decay);
    let (rows, cols) = (before.row.len(), before.cols);
    let (row_means, col_means) = before.means();
    let doublings = (rows.div_ceil(64) as f64).log2().ceil();
    let (row_l, col_l) = ((cols as f64 / 16.0).min(64.0), (rows as f64).min(64.0) + doublings);
    for_each_tier(|tier| {
        let mut after = before.clone();
        after.step(config, step);
        let what = format!("{tier} {rows}x{cols} {config:?} step {step}");
        for (i, (&old, mean)) in before.row.iter().zip(&row_means).enumerate() {
            let (old, new) = (old as f64, after.row[i] as f64);
            let error = (new - (old + weight * (mean - old))).abs();
            let (which, l) = if cols == 0 { (2, 4.0) } else { (0, row_l + 9.0) };
            worst.add(which, error, l * U * (old + mean), &what);
        }
        for (i, (&old, mean)) in before.col.iter().zip(&col_means).enumerate() {
            let (old, new) = (old as f64, after.col[i] as f64);
            let error = (new - (old + weight * (mean - old))).abs();
            worst.add(1, error, (col_l + 9.0) * U * (old + mean), &what);
        }
        // The parameter is held to the moments that were stored: their own error is bounded above.
        let stored = State { param: before.param.clone(), ..after.clone() };
        let decay = 1.0 - config.lr * config.weight_decay;
        for (i, update) in stored.update(&config, step).into_iter().enumerate() {
            let (old, new) = (before.param[i] as f64, after.param[i] as f64);
            let bound = U * (3.0 * old.abs() + 42.0 * update.abs());
            worst.add(3, (new - (decay * old + update)).abs(), bound, &what);
        }
    });
}

#[test]
fn a_step_is_within_its_bound() {
    let small = [(1, 1), (3, 37), (70, 20), (5, 0), (37, 0)];
    let more = [(300, 33), (9, 1100), (3000, 0)];
    let large = [(700, 1029), (130, 4096), (70_000, 0)];
    let mut worst = Worst::default();
    let mut rng = Rng::new(1);
    for case in cases() {
        let sizes =
            small.iter().chain(&more).chain(if cfg!(debug_assertions) { &[][..] } else { &large[..] });
        for &(rows, cols) in sizes {
            check(&State::random(&mut rng, rows, cols), case, &mut worst);
        }
    }
    // Where all values are equal, the roundings of a sum may all go one way.
    for x in [0.1, 0.3, 0.7, 0.9, 1.1, 1.3] {
        let same = |rows, cols| State::new(rows, cols, |scale| x * scale);
        check(&same(65, 1025), cases()[1], &mut worst);
        check(&same(2000, 0), cases()[1], &mut worst);
    }
    println!("row, col, v, p: largest errors over their bounds {:.3?}", worst.0);
    for (share, least) in worst.0.into_iter().zip([0.1, 0.1, 0.3, 0.2]) {
        assert!(share > least, "a bound is too loose to mean anything: {:?}", worst.0);
    }
}

#[test]
fn an_empty_tensor_is_left_alone_and_nothing_makes_no_nan() {
    for_each_tier(|tier| {
        for (rows, cols) in [(0, 5), (3, 0)] {
            let (mut row, mut col) = (vec![1.0; rows], vec![2.0; cols]);
            let moment = SecondMoment::Factored { row: &mut row, col: &mut col };
            let tensor = AdafactorTensor { param: &mut [], grad: &[], moment };
            let mut scratch = vec![0.0; tensor.scratch_len()];
            let step = Adafactor::new(AdafactorConfig::default()).unwrap().at(1).unwrap();
            step.update_many(&mut [tensor], &mut scratch);
            assert_eq!((row, col), (vec![1.0; rows], vec![2.0; cols]), "{tier}");
        }
        // No gradient at all, or none in a row: the moments stay zero, and their roots' reciprocals are infinite.
        for (rows, cols) in [(5, 19), (19, 0)] {
            for idle in [0, 1] {
                let mut s = State::new(rows, cols, |scale| scale);
                s.row.fill(0.0);
                s.col.fill(0.0);
                s.grad[idle * (s.cols + 1)..].fill(0.0);
                s.step(AdafactorConfig::default(), 1);
                let all = s.param.iter().chain(&s.row).chain(&s.col);
                assert!(all.clone().all(|x| x.is_finite()), "{tier} {rows}x{cols}: {:?}", s.param);
                assert_eq!(s.param[s.param.len() - 1], 0.1, "{tier}: no gradient, no step");
                assert_eq!(s.param[0] < 0.1, idle == 1, "{tier}: a gradient, a step");
            }
        }
    });
}

#[test]
fn nan_and_infinity_reach_the_whole_parameter() {
    for_each_tier(|tier| {
        for (rows, cols) in [(5, 19), (40, 0)] {
            for (at, bad) in [(0, f32::NAN), (0, f32::INFINITY), (1, f32::NAN), (1, f32::NEG_INFINITY)] {
                let mut s = State::new(rows, cols, |scale| scale);
                [&mut s.grad, &mut s.param][at][3] = bad;
                s.step(AdafactorConfig::default(), 2);
                let spoilt = |p: &f32| if bad == f32::NEG_INFINITY { !p.is_finite() } else { p.is_nan() };
                assert!(s.param.iter().all(spoilt), "{tier} {rows}x{cols}: {bad} in {at}: {:?}", s.param);
            }
        }
    });
}

#[track_caller]
fn assert_named(error: HyperParamError, name: &str, value: f64) {
    assert_eq!((error.name, error.value.to_bits()), (name, value.to_bits()));
    assert!(error.to_string().starts_with(&format!("{name} = {value}: must be ")), "{error}");
}

#[test]
fn hyper_parameters_are_checked_and_named() {
    type Field = fn(&mut AdafactorConfig) -> &mut f64;
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let size: &[f64] = &[-1e-3, nan, inf, -inf, 1e39, -f64::MIN_POSITIVE];
    let fields: [(&str, Field, &[f64], &[f64]); 6] = [
        ("lr", |c| &mut c.lr, size, &[0.0, 1.0]),
        ("eps2", |c| &mut c.eps2, size, &[0.0, 1.0]),
        ("weight_decay", |c| &mut c.weight_decay, size, &[0.0, 1.0]),
        ("beta2_decay", |c| &mut c.beta2_decay, &[0.1, nan, -inf], &[0.0, -0.5, -3.0]),
        ("eps1", |c| &mut c.eps1, &[0.0, -1.0, 1e-19, nan, inf, 1e19], &[1.1e-19, 1e-3]),
        ("d", |c| &mut c.d, &[0.99, 0.0, nan, inf], &[1.0, 2.0]),
    ];
    for (name, field, bad, good) in fields {
        for &value in bad {
            let mut config = AdafactorConfig::default();
            *field(&mut config) = value;
            assert_named(Adafactor::new(config).unwrap_err(), name, value);
        }
        for &value in good {
            let mut config = AdafactorConfig::default();
            *field(&mut config) = value;
            assert_eq!(Adafactor::new(config).map(|a| *a.config()), Ok(config), "{name} = {value}");
        }
    }
    let adafactor = Adafactor::new(AdafactorConfig::default()).unwrap();
    assert_named(adafactor.at(0).unwrap_err(), "step", 0.0);
    assert_named(adafactor.with_lr(-1.0).unwrap_err(), "lr", -1.0);
    assert_eq!(adafactor.with_lr(0.5).unwrap().config().lr, 0.5);
}

#[test]
fn a_wrong_length_panics_with_both() {
    let step = Adafactor::new(AdafactorConfig::default()).unwrap().at(1).unwrap();
    let run = |grad: usize, row: usize, col: Option<usize>, scratch: usize| {
        let (mut p, g) = (vec![1.0; 6], vec![1.0; grad]);
        let (mut row, mut col, factored) = (vec![0.0; row], vec![0.0; col.unwrap_or(0)], col.is_some());
        let moment = if factored {
            SecondMoment::Factored { row: &mut row, col: &mut col }
        } else {
            SecondMoment::Unfactored { v: &mut row }
        };
        let mut tensors = [AdafactorTensor { param: &mut p, grad: &g, moment }];
        let message = panic_message(|| step.update_many(&mut tensors, &mut vec![0.0; scratch]));
        assert_eq!(p, [1.0; 6], "nothing was done");
        message
    };
    assert_eq!(run(5, 2, Some(3), 99), "adafactor: grad has 5 values, param asks for 6");
    assert_eq!(run(6, 2, Some(4), 99), "adafactor: param has 6 values, row x col asks for 8");
    assert_eq!(run(6, 5, None, 99), "adafactor: v has 5 values, param asks for 6");
    assert_eq!(run(6, 2, Some(3), 7), "adafactor: scratch has 7 values, needs 8");
    assert_eq!(run(6, 6, None, 6), "adafactor: scratch has 6 values, needs 7");
}

fn adafactor(c: &Call<AdafactorConfig>) -> Outcome {
    let step = Adafactor::new(c.config)?.at(c.step as u64)?;
    let mut all = vec![];
    for old in [1.0, 0.0] {
        // With a row and a column of zeros.
        let (rows, cols) = (5, 19);
        let (mut p, mut g) = (data(rows * cols, 0), data(rows * cols, 2));
        g[..cols].fill(0.0);
        (0..rows).for_each(|r| g[r * cols] = 0.0);
        let (mut row, mut col) = (vec![old; rows], vec![old; cols]);
        let moment = SecondMoment::Factored { row: &mut row, col: &mut col };
        step.update(AdafactorTensor { param: &mut p, grad: &g, moment }, &mut [f32::NAN; 200]);
        all.extend([p, row, col].concat());
        let (mut p, g, mut v) = (data(N, 0), data(N, 2), vec![old; N]);
        let moment = SecondMoment::Unfactored { v: &mut v };
        step.update(AdafactorTensor { param: &mut p, grad: &g, moment }, &mut [f32::NAN; 200]);
        all.extend([p, v].concat());
    }
    Ok(all)
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<Call<AdafactorConfig>>; 7] = [
        ("lr", |c, x| c.config.lr = x),
        ("beta2_decay", |c, x| c.config.beta2_decay = x),
        ("eps1", |c, x| c.config.eps1 = x),
        ("eps2", |c, x| c.config.eps2 = x),
        ("d", |c, x| c.config.d = x),
        ("weight_decay", |c, x| c.config.weight_decay = x),
        ("step", |c, x| c.step = x),
    ];
    let base = AdafactorConfig::default();
    walk("Adafactor", &Call::of(base), &settings, adafactor);
    let absolute = AdafactorConfig { relative_step: false, weight_decay: 0.1, maximize: true, ..base };
    walk("Adafactor, absolute", &Call::of(absolute), &settings, adafactor);
    let unscaled = AdafactorConfig { scale_parameter: false, ..absolute };
    walk("Adafactor, unscaled", &Call::of(unscaled), &settings, adafactor);
}

#[test]
fn follows_pytorch() {
    follow("adafactor", 7, |inputs, case| {
        let number = |key| case.number(key);
        let maximize = number("maximize") == 1.0;
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
        let names: &[&str] = if number("cols") > 0.0 { &["param", "row", "col"] } else { &["param", "row"] };
        hold(inputs, case, names, 1.0, 12.0, |i, grad, [param, row, col]| {
            let moment = if col.is_empty() {
                SecondMoment::Unfactored { v: row }
            } else {
                SecondMoment::Factored { row, col }
            };
            let tensor = AdafactorTensor { param, grad, moment };
            let mut scratch = vec![f32::NAN; tensor.scratch_len()];
            adafactor.at(i).unwrap().update(tensor, &mut scratch);
        });
    });
}

#[test]
fn sizes_of_scratch_do_not_wrap() {
    const MAX: usize = usize::MAX;
    let half = 1 << (usize::BITS / 2);
    let matrices = [(MAX, 0), (MAX / 2 + 1, 1), (half, half), (MAX, MAX), (1, MAX)];
    assert_does_not_wrap("adafactor", &scratch_len_matrix, &matrices);
    assert_does_not_wrap("adafactor", &|_, n| scratch_len_vector(n), &[(1, MAX), (1, MAX - 1)]);
    assert_eq!((scratch_len_matrix(0, MAX), scratch_len_matrix(2, 3), scratch_len_vector(0)), (MAX, 8, 0));
}
