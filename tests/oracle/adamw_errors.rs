//! What AdamW does with values that are not ordinary: it says so, or does what it documents.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient, WeightDecay};
use hotlanes::{HyperParamError, tuning};

use crate::common::{for_each_tier, panic_message};
use crate::settings::{Call, N, Outcome, Setting, data, walk};

/// One element through one step: parameter, gradient, m, v; gives parameter, m, v.
fn step(config: AdamWConfig, [p, g, m, v]: [f32; 4]) -> [f32; 3] {
    let (mut p, mut m, mut v) = ([p], [m], [v]);
    let tensor = AdamWTensor { param: &mut p, grad: &[g], m: &mut m, v: &mut v, v_max: None };
    AdamW::new(config).unwrap().at(1).unwrap().update(tensor);
    [p[0], m[0], v[0]]
}

#[test]
fn nan_reaches_the_parameter() {
    let l2 = AdamWConfig { decay: WeightDecay::L2, ..Default::default() };
    let low = AdamWConfig { beta1: 0.3, ..Default::default() };
    for config in [AdamWConfig::default(), l2, low] {
        for_each_tier(|tier| {
            for at in 0..4 {
                let mut element = [1.0, 0.5, 0.25, 0.125];
                element[at] = f32::NAN;
                let [p, m, v] = step(config, element);
                assert!(p.is_nan(), "{tier}: NaN in {at}");
                assert_eq!(
                    m.is_nan(),
                    at == 1 || at == 2 || (at == 0 && config == l2),
                    "{tier}: NaN in {at}"
                );
                assert_eq!(
                    v.is_nan(),
                    at == 1 || at == 3 || (at == 0 && config == l2),
                    "{tier}: NaN in {at}"
                );
            }
            assert!(step(config, [1.0, 0.0, 0.5, -1.0])[0].is_nan(), "{tier}: a negative v");
        });
    }
}

#[test]
fn an_infinite_gradient_is_not_skipped() {
    for_each_tier(|tier| {
        for g in [f32::INFINITY, f32::NEG_INFINITY] {
            let [p, m, v] = step(AdamWConfig::default(), [1.0, g, 0.25, 0.125]);
            assert!(p.is_nan(), "{tier}");
            assert_eq!((m, v), (g, f32::INFINITY), "{tier}");
        }
    });
}

#[test]
fn a_gradient_of_zero_at_the_first_step() {
    for_each_tier(|tier| {
        let tiny = AdamWConfig { eps: 1e-20, weight_decay: 0.0, ..Default::default() };
        assert_eq!(step(tiny, [3.0, 0.0, 0.0, 0.0]), [3.0, 0.0, 0.0], "{tier}: 0 / eps");
        let none = AdamWConfig { eps: 0.0, ..tiny };
        assert!(step(none, [3.0, 0.0, 0.0, 0.0])[0].is_nan(), "{tier}: 0 / 0, as in PyTorch");
    });
}

type Field = fn(&mut AdamWConfig) -> &mut f64;

#[test]
fn each_hyper_parameter_is_checked_and_named() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let size: &[f64] = &[-1e-3, nan, inf, -inf, 1e39, -f64::MIN_POSITIVE];
    let beta: &[f64] = &[-0.1, 1.0, 1.5, nan, inf, -inf];
    let fields: [(&str, Field, &[f64], &[f64]); 5] = [
        ("lr", |c| &mut c.lr, size, &[0.0, 1.0, 1e30]),
        ("eps", |c| &mut c.eps, size, &[0.0, 1e-20, 1.0]),
        ("weight_decay", |c| &mut c.weight_decay, size, &[0.0, 0.1, 10.0, 1e12]),
        ("beta1", |c| &mut c.beta1, beta, &[0.0, 0.5, 1.0 - 1e-9]),
        ("beta2", |c| &mut c.beta2, beta, &[0.0, 0.5, 1.0 - 1e-9]),
    ];
    for (name, field, bad, good) in fields {
        for &value in bad {
            let mut config = AdamWConfig::default();
            *field(&mut config) = value;
            let error = AdamW::new(config).unwrap_err();
            assert_named(error, name, value);
        }
        for &value in good {
            let mut config = AdamWConfig::default();
            *field(&mut config) = value;
            assert_eq!(AdamW::new(config).map(|a| *a.config()), Ok(config), "{name} = {value}");
        }
    }
}

#[test]
fn an_eps_whose_reciprocal_overflows_is_refused() {
    let with = |eps| AdamW::new(AdamWConfig { eps, ..Default::default() });
    assert_eq!(
        with(1e-39).unwrap_err().to_string(),
        "eps = 0.000000000000000000000000000000000000001: must be 0 or a normal f32, from 1.2e-38 to 3.4e38"
    );
    assert!(with(f32::MIN_POSITIVE as f64).is_ok());
}

#[test]
fn products_and_quotients_of_settings_are_checked() {
    let error = |config| AdamW::new(config).unwrap_err().to_string();
    let base = AdamWConfig::default();
    assert_eq!(
        error(AdamWConfig { lr: 1e20, weight_decay: 1e11, ..base }),
        "lr * weight_decay = 10000000000000000000000000000000: must be at least 0 and at most 1e30"
    );
    let error = error(AdamWConfig { lr: 1e30, beta1: 1.0 - 1e-12, ..base });
    assert!(
        error.starts_with("lr / (1 - beta1) = 1000") && error.ends_with(": must be within f32's range"),
        "{error}"
    );
}

#[test]
fn a_step_size_that_stays_a_factor_makes_no_nan_of_nothing() {
    for_each_tier(|tier| {
        for (lr, eps) in [(1.0, 1.2e-38), (1e30, 1e-30), (0.0, 1e-8)] {
            let config = AdamWConfig { lr, eps, weight_decay: 0.0, ..Default::default() };
            assert_eq!(step(config, [3.0, 0.0, 0.0, 0.0]), [3.0, 0.0, 0.0], "{tier}: lr {lr}, eps {eps}");
        }
    });
}

#[track_caller]
fn assert_named(error: HyperParamError, name: &str, value: f64) {
    assert_eq!((error.name, error.value.to_bits()), (name, value.to_bits()));
    assert!(error.to_string().starts_with(&format!("{name} = {value}: must be ")), "{error}");
}

#[test]
fn the_step_the_scale_and_a_new_rate_are_checked() {
    let adamw = AdamW::new(AdamWConfig::default()).unwrap();
    assert_named(adamw.at(0).unwrap_err(), "step", 0.0);
    assert_named(adamw.with_lr(-1.0).unwrap_err(), "lr", -1.0);
    assert_eq!(adamw.with_lr(0.5).unwrap().config(), &AdamWConfig { lr: 0.5, ..Default::default() });
    let step = adamw.at(u64::MAX).unwrap();
    // The last two have reciprocals that f32 cannot hold, or only as a subnormal.
    for scale in [0.0, -0.0, -2.0, f64::NAN, f64::INFINITY, 1e-39, 1e39] {
        assert_named(step.unscale(scale).unwrap_err(), "grad_scale", scale);
    }
    assert_eq!(step.unscale(1.0), Ok(step));
}

#[test]
fn a_wrong_length_panics_with_both() {
    let step = AdamW::new(AdamWConfig::default()).unwrap().at(1).unwrap();
    for (at, name) in ["grad", "m", "v", "v_max"].into_iter().enumerate() {
        for wrong in [0, 4, 6, tuning::ADAMW_PARALLEL] {
            let mut n = [5; 4];
            n[at] = wrong;
            let (mut p, g) = (vec![1.0; 5], vec![1.0; n[0]]);
            let (mut m, mut v, mut x) = (vec![1.0; n[1]], vec![1.0; n[2]], vec![1.0; n[3]]);
            let mut tensor =
                [AdamWTensor { param: &mut p, grad: &g, m: &mut m, v: &mut v, v_max: Some(&mut x) }];
            let message = panic_message(|| step.update_many(&mut tensor));
            assert_eq!(message, format!("adamw: {name} has {wrong} values, param asks for 5"));
            assert_eq!(p, [1.0; 5], "nothing was done");
        }
    }
}

fn adamw(call: &Call<AdamWConfig>, amsgrad: bool) -> Outcome {
    let step = AdamW::new(call.config)?.at(call.step as u64)?.unscale(call.grad_scale)?;
    let mut all = vec![];
    // Moments as after many steps, and none.
    for old in [1.0, 0.0] {
        let (mut p, g) = (data(N, 0), data(N, 2));
        let (mut m, mut v) = (data(N, 1), data(N, 0));
        m.iter_mut().for_each(|m| *m *= old);
        v.iter_mut().for_each(|v| *v = v.abs() * old);
        let mut max = v.clone();
        let v_max = amsgrad.then_some(&mut max[..]);
        step.update(AdamWTensor { param: &mut p, grad: &g, m: &mut m, v: &mut v, v_max });
        if call.config.eps == 0.0 {
            // 0 / 0, as its documentation says.
            let root = if amsgrad { &max } else { &v };
            p.iter_mut().zip(root).filter(|(_, v)| **v == 0.0).for_each(|(p, _)| *p = 0.0);
        }
        all.extend([p, m, v, max].concat());
    }
    Ok(all)
}

fn adamw_bf16(call: &Call<AdamWConfig>) -> Outcome {
    let step = AdamW::new(call.config)?.at(call.step as u64)?.unscale(call.grad_scale)?;
    let (mut p, g) = (data(N, 0), data(N, 2));
    let (mut m, mut v, mut copy) = (vec![0.0; N], vec![0.0; N], vec![0; N]);
    let param = Bf16Param::Copy { param: &mut p, copy: &mut copy };
    step.update_bf16(Bf16Tensor { param, grad: Gradient::F32(&g), m: &mut m, v: &mut v });
    if call.config.eps == 0.0 {
        p.iter_mut().zip(&v).filter(|(_, v)| **v == 0.0).for_each(|(p, _)| *p = 0.0);
    }
    Ok([p, m, v].concat())
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<Call<AdamWConfig>>; 7] = [
        ("lr", |c, x| c.config.lr = x),
        ("beta1", |c, x| c.config.beta1 = x),
        ("beta2", |c, x| c.config.beta2 = x),
        ("eps", |c, x| c.config.eps = x),
        ("weight_decay", |c, x| c.config.weight_decay = x),
        ("step", |c, x| c.step = x),
        ("grad_scale", |c, x| c.grad_scale = x),
    ];
    let base = AdamWConfig::default();
    let l2 = AdamWConfig { decay: WeightDecay::L2, beta1: 0.3, maximize: true, ..base };
    walk("AdamW", &Call::of(base), &settings, |c| adamw(c, false));
    walk("Adam", &Call::of(l2), &settings, |c| adamw(c, false));
    walk("AMSGrad", &Call::of(base), &settings, |c| adamw(c, true));
    walk("AdamW bf16", &Call::of(base), &settings, adamw_bf16);
}

/// Moments that start from these, after a step with a gradient of zero.
fn faded(config: AdamWConfig, step: u64, [m, v]: [f32; 2], n: usize) -> [f32; 3] {
    let step = AdamW::new(config).unwrap().at(step).unwrap();
    let (mut p, g, mut all_m, mut all_v) = (vec![1.0; n], vec![0.0; n], vec![m; n], vec![v; n]);
    step.update(AdamWTensor { param: &mut p, grad: &g, m: &mut all_m, v: &mut all_v, v_max: None });
    let param = Bf16Param::Copy { param: &mut vec![1.0; n], copy: &mut vec![0; n] };
    let (mut other_m, mut other_v) = (vec![m; n], vec![v; n]);
    step.update_bf16(Bf16Tensor { param, grad: Gradient::F32(&g), m: &mut other_m, v: &mut other_v });
    for (all, last) in [(&all_m, m), (&all_v, v), (&other_m, m), (&other_v, v)] {
        assert!(all.iter().all(|x| *x == all[0]), "{last:e}: {all:?}");
    }
    assert_eq!((&all_m, &all_v), (&other_m, &other_v));
    [p[0], all_m[0], all_v[0]]
}

#[test]
fn moments_that_fade_end_at_zero() {
    let least = f32::MIN_POSITIVE;
    let half = AdamWConfig { beta1: 0.5, beta2: 0.5, weight_decay: 0.0, ..Default::default() };
    // 2^-63 / sqrt(1 - beta2^t), and a little less.
    let root = |t: u64, less: f64| 2f64.powi(-63) / (1.0 - 0.5f64.powi(t as i32)).sqrt() * less;
    for_each_tier(|tier| {
        for n in [5, 16, 200] {
            for t in [1, 2, 50] {
                let of = |eps, state| faded(AdamWConfig { eps, ..half }, t, state, n);
                for eps in [1e-8, 1e-12, root(t, 1.01)] {
                    let [_, m, v] = of(eps, [2.0 * least, 2.0 * least]);
                    assert_eq!([m, v], [least, least], "{tier} {eps:e}: normal numbers stay");
                    let [p, m, v] = of(eps, [-1.9 * least, 1.9 * least]);
                    assert_eq!([p, m, v], [1.0, 0.0, 0.0], "{tier} {eps:e}: none else");
                }
                for eps in [0.0, 1e-30, root(t, 0.99)] {
                    let [p, m, v] = of(eps, [1e-30, 1.9 * least]);
                    assert_eq!([m, v], [5e-31, 0.95 * least], "{tier} {eps:e}: a root that counts");
                    assert!(p.is_finite(), "{tier} {eps:e}");
                    let [_, m, _] = of(eps, [-1.9 * least, 1.9 * least]);
                    assert_eq!(m, -0.95 * least, "{tier} {eps:e}");
                }
            }
        }
    });
}
