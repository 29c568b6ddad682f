//! Lion against the formulas of its documentation, in f64, and against PyTorch; and what it refuses.

use hotlanes::lion::{Lion, LionConfig, LionStep, LionTensor};

use crate::common::{Rng, for_each_tier, panic_message};
use crate::optim::{Field, NOT_SIZES, U, Worst, assert_named, follow, hold, random};
use crate::settings::{Call, N, Setting, data, walk};

fn steps() -> Vec<(LionConfig, f64, LionStep)> {
    let base = LionConfig { lr: 3e-3, ..Default::default() };
    let cases = [
        (base, 1.0),
        (LionConfig { weight_decay: 0.3, ..base }, 1.0),
        (LionConfig { maximize: true, beta1: 0.5, beta2: 0.3, ..base }, 1000.0 / 3.0),
        (LionConfig { beta1: 0.0, beta2: 0.0, lr: 0.0, ..base }, 65536.0),
    ];
    let step = |(config, scale)| (config, scale, Lion::new(config).unwrap().step_unscaled(scale).unwrap());
    cases.map(step).to_vec()
}

#[test]
fn a_step_is_within_its_bound() {
    let n = if cfg!(debug_assertions) { 4_000 } else { 100_000 };
    let mut rng = Rng::new(2);
    let (mut worst_m, mut worst_p) = (Worst::default(), Worst::default());
    for (config, scale, step) in steps() {
        let LionConfig { lr, beta1, beta2, weight_decay, maximize } = config;
        let [p0, mut g0, m0] = random(&mut rng, n);
        // Directions that cancel, to all bits or to all but the last ones.
        for i in (0..n).step_by(5) {
            let opposed = -beta1 * m0[i] as f64 / (1.0 - beta1) * scale;
            g0[i] = if maximize { -opposed } else { opposed } as f32;
        }
        let mut cancelled = 0;
        for_each_tier(|tier| {
            let (mut p, mut m) = (p0.clone(), m0.clone());
            step.update(LionTensor { param: &mut p, grad: &g0, m: &mut m });
            for i in 0..n {
                let what = || format!("{tier} {config:?} {i}");
                let (p_old, m_old) = (p0[i] as f64, m0[i] as f64);
                let g = g0[i] as f64 / if maximize { -scale } else { scale };
                let size = |beta: f64| (beta * m_old).abs() + ((1.0 - beta) * g).abs();
                let want = beta2 * m_old + (1.0 - beta2) * g;
                worst_m.add((m[i] as f64 - want).abs(), 3.0 * U * size(beta2), what);

                let c = beta1 * m_old + (1.0 - beta1) * g;
                let decayed = p_old * (1.0 - lr * weight_decay);
                let sign = if c == 0.0 { 0.0 } else { c.signum() };
                let error = |sign: f64| (p[i] as f64 - (decayed - lr * sign)).abs();
                let error = if c.abs() > 3.0 * U * size(beta1) {
                    error(sign)
                } else {
                    // Its sign may be any of the three.
                    cancelled += 1;
                    error(-1.0).min(error(0.0)).min(error(1.0))
                };
                worst_p.add(error, 2.0 * U * (p_old.abs() + lr), what);
            }
        });
        assert!(beta1 == 0.0 || cancelled > 0, "nothing cancelled");
    }
    worst_m.report("m");
    worst_p.report("p");
}

/// Parameter and momentum after a step of one element.
fn one([p, g, m]: [f32; 3]) -> [f32; 2] {
    let (mut p, mut m) = ([p], [m]);
    let step = Lion::new(LionConfig { lr: 0.25, weight_decay: 0.5, ..Default::default() }).unwrap().step();
    step.update(LionTensor { param: &mut p, grad: &[g], m: &mut m });
    [p[0], m[0]]
}

#[test]
fn the_sign_of_nothing_is_nothing_and_of_nan_is_nan() {
    let inf = f32::INFINITY;
    for_each_tier(|tier| {
        assert_eq!(one([2.0, 0.0, 0.0]), [1.75, 0.0], "{tier}: only the decay");
        assert_eq!(one([2.0, -0.0, -0.0])[0], 1.75, "{tier}");
        assert_eq!(one([2.0, inf, 0.5]), [1.5, inf], "{tier}: infinity is a sign like any other");
        assert_eq!(one([2.0, -inf, 0.5]), [2.0, -inf], "{tier}");
        assert_eq!(one([2.0, f32::from_bits(9), 0.0])[0], 1.5, "{tier}: a denormal has a sign");
        for at in 0..3 {
            let mut element = [1.0, 0.5, 0.25];
            element[at] = f32::NAN;
            let [p, m] = one(element);
            assert!(p.is_nan(), "{tier}: NaN in {at}");
            assert_eq!(m.is_nan(), at > 0, "{tier}: NaN in {at}");
        }
    });
}

const NOT_BETAS: [f64; 5] = [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY];

#[test]
fn hyper_parameters_are_checked_and_named() {
    let fields: [(&str, Field<LionConfig>, &[f64]); 4] = [
        ("lr", |c| &mut c.lr, &NOT_SIZES),
        ("weight_decay", |c| &mut c.weight_decay, &NOT_SIZES),
        ("beta1", |c| &mut c.beta1, &NOT_BETAS),
        ("beta2", |c| &mut c.beta2, &NOT_BETAS),
    ];
    for (name, field, bad) in fields {
        for &value in bad {
            let mut config = LionConfig::default();
            *field(&mut config) = value;
            assert_named(Lion::new(config).unwrap_err(), name, value);
        }
    }
    let lion = Lion::new(LionConfig::default()).unwrap();
    assert_named(lion.step_unscaled(1e39).unwrap_err(), "grad_scale", 1e39);
    assert_named(lion.with_lr(f64::NAN).unwrap_err(), "lr", f64::NAN);
    assert_eq!(lion.with_lr(0.5).unwrap().config().lr, 0.5);
    assert_eq!(lion.step_unscaled(1.0).unwrap(), lion.step());
}

#[test]
fn a_wrong_length_panics_with_both() {
    for (lengths, name) in [([4, 5], "grad has 4"), ([5, 6], "m has 6")] {
        let (mut p, g, mut m) = (vec![1.0; 5], vec![1.0; lengths[0]], vec![1.0; lengths[1]]);
        let tensor = LionTensor { param: &mut p, grad: &g, m: &mut m };
        let step = Lion::new(LionConfig::default()).unwrap().step();
        let message = panic_message(|| step.update(tensor));
        assert_eq!(message, format!("lion: {name} values, param asks for 5"));
    }
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<Call<LionConfig>>; 5] = [
        ("lr", |c, x| c.config.lr = x),
        ("beta1", |c, x| c.config.beta1 = x),
        ("beta2", |c, x| c.config.beta2 = x),
        ("weight_decay", |c, x| c.config.weight_decay = x),
        ("grad_scale", |c, x| c.grad_scale = x),
    ];
    walk("Lion", &Call::of(LionConfig::default()), &settings, |c| {
        let step = Lion::new(c.config)?.step_unscaled(c.grad_scale)?;
        let (mut p, g, mut m) = (data(N, 0), data(N, 2), data(N, 1));
        step.update(LionTensor { param: &mut p, grad: &g, m: &mut m });
        Ok([p, m].concat())
    });
}

#[test]
fn follows_pytorch() {
    follow("lion", 3, |inputs, case| {
        let number = |key| case.number(key);
        let maximize = number("maximize") == 1.0;
        let lion = Lion::new(LionConfig {
            lr: number("lr"),
            beta1: number("beta1"),
            beta2: number("beta2"),
            weight_decay: number("weight_decay"),
            maximize,
        })
        .unwrap();
        hold(inputs, case, &["param", "m"], 0.01, 6.0, |_, grad, [param, m, _]| {
            lion.step().update(LionTensor { param, grad, m });
        });
    });
}

#[test]
fn momentum_that_fades_ends_at_zero() {
    let least = f32::MIN_POSITIVE;
    let step =
        Lion::new(LionConfig { beta2: 0.5, lr: 1e-3, weight_decay: 0.0, ..Default::default() }).unwrap();
    for_each_tier(|tier| {
        for (old, new) in
            [(2.0 * least, least), (-2.0 * least, -least), (1.9 * least, 0.0), (-1.9 * least, 0.0)]
        {
            for n in [5, 16, 70] {
                let (mut p, mut m) = (vec![1.0; n], vec![old; n]);
                step.step().update(LionTensor { param: &mut p, grad: &vec![0.0; n], m: &mut m });
                assert_eq!(m, vec![new; n], "{tier} {old:e}");
                let moved = p[0];
                step.step().update(LionTensor { param: &mut p, grad: &vec![0.0; n], m: &mut m });
                assert_eq!((p[0] == moved, m[0]), (new == 0.0, 0.0), "{tier} {old:e}");
            }
        }
    });
}
