//! SGD against the formulas of its documentation, in f64, and against PyTorch; and what it refuses.

use hotlanes::sgd::{Sgd, SgdConfig, SgdStep, SgdTensor};

use crate::common::{Rng, for_each_tier, panic_message};
use crate::optim::{Field, NOT_SIZES, U, Worst, assert_named, follow, hold, random};
use crate::settings::{Call, N, Setting, data, walk};

#[derive(Clone, Copy, Debug)]
struct SgdCase {
    config: SgdConfig,
    step: u64,
    grad_scale: f64,
}

impl SgdCase {
    fn step(&self) -> SgdStep {
        let step = Sgd::new(self.config).unwrap().at(self.step).unwrap();
        if self.grad_scale == 1.0 { step } else { step.unscale(self.grad_scale).unwrap() }
    }
}

fn sgd_cases() -> Vec<SgdCase> {
    let base = SgdConfig { lr: 0.1, ..Default::default() };
    let heavy = SgdConfig { momentum: 0.9, ..base };
    let nesterov = SgdConfig { nesterov: true, ..heavy };
    let of = |config, step, grad_scale| SgdCase { config, step, grad_scale };
    vec![
        of(base, 1, 1.0),
        of(SgdConfig { weight_decay: 0.3, maximize: true, ..base }, 4, 1.0),
        of(base, 2, 1000.0 / 3.0),
        of(heavy, 1, 1.0),
        of(heavy, 2, 1.0),
        of(heavy, 9, 65536.0),
        of(SgdConfig { dampening: 0.35, ..heavy }, 1, 1.0),
        of(SgdConfig { dampening: 0.35, ..heavy }, 2, 7.0),
        of(SgdConfig { dampening: 1.0, weight_decay: 0.7, ..heavy }, 2, 1.0),
        of(nesterov, 1, 1.0),
        of(nesterov, 3, 1.0),
        of(SgdConfig { weight_decay: 0.2, maximize: true, lr: 0.7, ..nesterov }, 5, 7.0),
        of(SgdConfig { lr: 0.0, ..nesterov }, 5, 1.0),
    ]
}

#[test]
fn a_step_is_within_its_bound() {
    let n = if cfg!(debug_assertions) { 1_500 } else { 50_000 };
    let mut rng = Rng::new(1);
    let (mut worst_b, mut worst_p) = (Worst::default(), Worst::default());
    for case in sgd_cases() {
        let SgdConfig { lr, momentum, dampening, weight_decay, nesterov, maximize } = case.config;
        let [p0, g0, b0] = random(&mut rng, n);
        let b0 = if momentum > 0.0 { b0 } else { vec![] };
        for_each_tier(|tier| {
            let (mut p, mut b) = (p0.clone(), b0.clone());
            case.step().update(SgdTensor { param: &mut p, grad: &g0, buffer: &mut b });
            for i in 0..n {
                let what = || format!("{tier} {case:?} {i}");
                let (old, g) = (p0[i] as f64, g0[i] as f64 / case.grad_scale);
                let size = g.abs() + weight_decay * old.abs();
                let g = if maximize { -g } else { g } + weight_decay * old;
                let exact = weight_decay == 0.0 && [1.0, 65536.0].contains(&case.grad_scale);
                let r = if exact { 0.0 } else { 3.0 * U * size };
                let (mut d, mut e) = (g, r);
                if momentum > 0.0 {
                    let (was, is) = (b0[i] as f64, b[i] as f64);
                    let want = if case.step == 1 { g } else { momentum * was + (1.0 - dampening) * g };
                    let kept = if case.step == 1 { 0.0 } else { momentum * was.abs() };
                    worst_b.add((is - want).abs(), U * (2.0 * kept + 3.0 * size) + r, what);
                    (d, e) = if nesterov {
                        (g + momentum * is, U * (2.0 * momentum * is.abs() + size) + r)
                    } else {
                        (is, 0.0)
                    };
                }
                let bound = U * (old.abs() + 2.0 * (lr * d).abs()) + lr * e;
                worst_p.add((p[i] as f64 - (old - lr * d)).abs(), bound, what);
            }
        });
    }
    worst_b.report("b");
    worst_p.report("p");
}

#[test]
fn nan_reaches_the_parameter_and_the_first_step_does_not_look_at_the_buffer() {
    let config = SgdConfig { lr: 0.5, momentum: 0.5, ..Default::default() };
    for_each_tier(|tier| {
        for (nesterov, weight_decay, step) in
            [(false, 0.0, 2), (true, 0.0, 2), (true, 0.5, 2), (false, 0.5, 1)]
        {
            let sgd = Sgd::new(SgdConfig { nesterov, weight_decay, ..config }).unwrap();
            for at in 0..3 {
                let mut element = [1.0, 0.5, 0.25];
                element[at] = f32::NAN;
                let [p, g, b] = element;
                let (mut p, mut b) = ([p], [b]);
                let tensor = SgdTensor { param: &mut p, grad: &[g], buffer: &mut b };
                sgd.at(step).unwrap().update(tensor);
                let unseen = step == 1 && at == 2;
                assert_eq!(p[0].is_nan(), !unseen, "{tier}: NaN in {at} at step {step}");
                assert_eq!(b[0].is_nan(), !unseen && (at > 0 || weight_decay > 0.0), "{tier}: NaN in {at}");
            }
        }
        let (mut p, mut b) = ([f32::INFINITY], [0.0]);
        let tensor = SgdTensor { param: &mut p, grad: &[1.0], buffer: &mut b };
        Sgd::new(config).unwrap().at(2).unwrap().update(tensor);
        assert_eq!((p, b), ([f32::INFINITY], [1.0]), "{tier}: no decay looks at the parameter");
    });
}

#[test]
fn hyper_parameters_are_checked_and_named() {
    let fields: [(&str, Field<SgdConfig>, &[f64]); 4] = [
        ("lr", |c| &mut c.lr, &NOT_SIZES),
        ("momentum", |c| &mut c.momentum, &NOT_SIZES),
        ("weight_decay", |c| &mut c.weight_decay, &NOT_SIZES),
        ("dampening", |c| &mut c.dampening, &[-0.1, 1.1, f64::NAN]),
    ];
    for (name, field, bad) in fields {
        for &value in bad {
            let mut config = SgdConfig::default();
            *field(&mut config) = value;
            assert_named(Sgd::new(config).unwrap_err(), name, value);
        }
    }
    let nesterov = SgdConfig { nesterov: true, ..Default::default() };
    assert_named(Sgd::new(nesterov).unwrap_err(), "momentum", 0.0);
    let dampened = SgdConfig { momentum: 0.9, dampening: 0.5, ..nesterov };
    assert_named(Sgd::new(dampened).unwrap_err(), "dampening", 0.5);
    let sgd = Sgd::new(SgdConfig { dampening: 0.0, ..dampened }).unwrap();
    assert_named(sgd.at(0).unwrap_err(), "step", 0.0);
    assert_named(sgd.at(1).unwrap().unscale(0.0).unwrap_err(), "grad_scale", 0.0);
    assert_named(sgd.with_lr(-1.0).unwrap_err(), "lr", -1.0);
    assert_eq!(sgd.with_lr(0.5).unwrap().config().lr, 0.5);
    assert_eq!(sgd.at(2).unwrap().unscale(1.0), sgd.at(u64::MAX));
}

#[test]
fn a_wrong_length_panics_with_both() {
    let sgd = |momentum| Sgd::new(SgdConfig { momentum, ..Default::default() }).unwrap().at(1).unwrap();
    let of_sgd = |momentum, lengths: [usize; 2]| {
        let (mut p, g, mut b) = (vec![1.0; 5], vec![1.0; lengths[0]], vec![1.0; lengths[1]]);
        let mut tensors = [SgdTensor { param: &mut p, grad: &g, buffer: &mut b }];
        panic_message(|| sgd(momentum).update_many(&mut tensors))
    };
    assert_eq!(of_sgd(0.9, [4, 5]), "sgd: grad has 4 values, param asks for 5");
    assert_eq!(of_sgd(0.9, [5, 6]), "sgd: buffer has 6 values, param asks for 5");
    assert_eq!(of_sgd(0.0, [5, 5]), "sgd: buffer has 5 values, no momentum asks for 0");
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<Call<SgdConfig>>; 6] = [
        ("lr", |c, x| c.config.lr = x),
        ("momentum", |c, x| c.config.momentum = x),
        ("dampening", |c, x| c.config.dampening = x),
        ("weight_decay", |c, x| c.config.weight_decay = x),
        ("step", |c, x| c.step = x),
        ("grad_scale", |c, x| c.grad_scale = x),
    ];
    let run = |c: &Call<SgdConfig>| {
        let step = Sgd::new(c.config)?.at(c.step as u64)?.unscale(c.grad_scale)?;
        let (mut p, g) = (data(N, 0), data(N, 2));
        let mut b = if c.config.momentum > 0.0 { data(N, 1) } else { vec![] };
        step.update(SgdTensor { param: &mut p, grad: &g, buffer: &mut b });
        Ok([p, b].concat())
    };
    let base = SgdConfig::default();
    let momentum = SgdConfig { momentum: 0.9, weight_decay: 0.1, maximize: true, ..base };
    walk("SGD", &Call::of(base), &settings, run);
    walk("SGD with momentum", &Call::of(momentum), &settings, run);
    walk("SGD with Nesterov's", &Call::of(SgdConfig { nesterov: true, ..momentum }), &settings, run);
}

#[test]
fn follows_pytorch() {
    follow("sgd", 8, |inputs, case| {
        let number = |key| case.number(key);
        let maximize = number("maximize") == 1.0;
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
        hold(inputs, case, names, 1.0, 6.0, |i, grad, [param, buffer, _]| {
            let buffer = if momentum > 0.0 { &mut buffer[..] } else { &mut [] };
            sgd.at(i).unwrap().update(SgdTensor { param, grad, buffer });
        });
    });
}

#[test]
fn momentum_that_fades_ends_at_zero() {
    let least = f32::MIN_POSITIVE;
    let config = SgdConfig { lr: 0.1, momentum: 0.5, ..Default::default() };
    for_each_tier(|tier| {
        for nesterov in [false, true] {
            let sgd = Sgd::new(SgdConfig { nesterov, ..config }).unwrap();
            for (old, grad, new) in [
                (2.0 * least, 0.0, least),
                (-2.0 * least, 0.0, -least),
                (1.9 * least, 0.0, 0.0),
                (-1.9 * least, 0.0, 0.0),
                (1.9 * least, 0.1 * least, 1.05 * least),
            ] {
                for n in [5, 16, 70] {
                    let (mut p, mut b) = (vec![0.0; n], vec![old; n]);
                    let tensor = SgdTensor { param: &mut p, grad: &vec![grad; n], buffer: &mut b };
                    sgd.at(2).unwrap().update(tensor);
                    assert_eq!(b[0].abs(), b[n - 1].abs());
                    assert!((b[0] - new).abs() <= least / 1e6, "{tier} {old:e}: {:e}", b[0]);
                    assert_eq!(b[0] == 0.0, new == 0.0, "{tier} {old:e}");
                    // And the step is that of the stored buffer.
                    assert_eq!(p[0] == 0.0, new == 0.0, "{tier} {old:e}: {:e}", p[0]);
                }
            }
        }
    });
}
