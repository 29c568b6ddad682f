//! SGD and Lion against the formulas of their documentation, in f64; and what they refuse.

use hotlanes::HyperParamError;
use hotlanes::lion::{Lion, LionConfig, LionStep, LionTensor};
use hotlanes::sgd::{Sgd, SgdConfig, SgdStep, SgdTensor};

use crate::common::{Rng, for_each_tier, panic_message};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Parameters, and gradients and buffers of about each other's size.
fn random(rng: &mut Rng, n: usize) -> [Vec<f32>; 3] {
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
struct Worst(f64, String);

impl Worst {
    #[track_caller]
    fn add(&mut self, error: f64, bound: f64, what: impl Fn() -> String) {
        // 0 / 0 where both are zero and nothing led there.
        let share = if error == 0.0 { 0.0 } else { error / bound };
        assert!(share <= 1.0, "{} is off by {share} of its bound", what());
        if share > self.0 {
            *self = Worst(share, what());
        }
    }

    /// A bound that nothing comes near says nothing.
    fn report(&self, name: &str) {
        println!("{name}: largest error {:.3} of its bound, in {}", self.0, self.1);
        assert!(self.0 > 0.3, "the bound of {name} is too loose to mean anything: {}", self.0);
    }
}

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
fn a_step_of_sgd_is_within_its_bound() {
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

fn lion_steps() -> Vec<(LionConfig, f64, LionStep)> {
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
fn a_step_of_lion_is_within_its_bound() {
    let n = if cfg!(debug_assertions) { 4_000 } else { 100_000 };
    let mut rng = Rng::new(2);
    let (mut worst_m, mut worst_p) = (Worst::default(), Worst::default());
    for (config, scale, step) in lion_steps() {
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
fn lion_one([p, g, m]: [f32; 3]) -> [f32; 2] {
    let (mut p, mut m) = ([p], [m]);
    let step = Lion::new(LionConfig { lr: 0.25, weight_decay: 0.5, ..Default::default() }).unwrap().step();
    step.update(LionTensor { param: &mut p, grad: &[g], m: &mut m });
    [p[0], m[0]]
}

#[test]
fn the_sign_of_nothing_is_nothing_and_of_nan_is_nan() {
    let inf = f32::INFINITY;
    for_each_tier(|tier| {
        assert_eq!(lion_one([2.0, 0.0, 0.0]), [1.75, 0.0], "{tier}: only the decay");
        assert_eq!(lion_one([2.0, -0.0, -0.0])[0], 1.75, "{tier}");
        assert_eq!(lion_one([2.0, inf, 0.5]), [1.5, inf], "{tier}: infinity is a sign like any other");
        assert_eq!(lion_one([2.0, -inf, 0.5]), [2.0, -inf], "{tier}");
        assert_eq!(lion_one([2.0, f32::from_bits(9), 0.0])[0], 1.5, "{tier}: a denormal has a sign");
        for at in 0..3 {
            let mut element = [1.0, 0.5, 0.25];
            element[at] = f32::NAN;
            let [p, m] = lion_one(element);
            assert!(p.is_nan(), "{tier}: NaN in {at}");
            assert_eq!(m.is_nan(), at > 0, "{tier}: NaN in {at}");
        }
    });
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

#[track_caller]
fn assert_named(error: HyperParamError, name: &str, value: f64) {
    assert_eq!((error.name, error.value.to_bits()), (name, value.to_bits()));
    assert!(error.to_string().starts_with(&format!("{name} = {value}: must be ")), "{error}");
}

const NOT_SIZES: [f64; 6] = [-1e-3, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39, -f64::MIN_POSITIVE];
const NOT_BETAS: [f64; 5] = [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY];

#[test]
fn hyper_parameters_are_checked_and_named() {
    type Field<C> = fn(&mut C) -> &mut f64;
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
    let sgd = |momentum| Sgd::new(SgdConfig { momentum, ..Default::default() }).unwrap().at(1).unwrap();
    let of_sgd = |momentum, lengths: [usize; 2]| {
        let (mut p, g, mut b) = (vec![1.0; 5], vec![1.0; lengths[0]], vec![1.0; lengths[1]]);
        let mut tensors = [SgdTensor { param: &mut p, grad: &g, buffer: &mut b }];
        panic_message(|| sgd(momentum).update_many(&mut tensors))
    };
    assert_eq!(of_sgd(0.9, [4, 5]), "sgd: grad has 4 values, param asks for 5");
    assert_eq!(of_sgd(0.9, [5, 6]), "sgd: buffer has 6 values, param asks for 5");
    assert_eq!(of_sgd(0.0, [5, 5]), "sgd: buffer has 5 values, no momentum asks for 0");
    for (lengths, name) in [([4, 5], "grad has 4"), ([5, 6], "m has 6")] {
        let (mut p, g, mut m) = (vec![1.0; 5], vec![1.0; lengths[0]], vec![1.0; lengths[1]]);
        let tensor = LionTensor { param: &mut p, grad: &g, m: &mut m };
        let step = Lion::new(LionConfig::default()).unwrap().step();
        let message = panic_message(|| step.update(tensor));
        assert_eq!(message, format!("lion: {name} values, param asks for 5"));
    }
}
