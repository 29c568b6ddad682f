//! AdamW against the formulas of its documentation, in f64.

use hotlanes::Tier;
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor, WeightDecay};

use crate::common::{Guarded, Rng, for_each_tier, offsets};

/// One element's state; `v_max` only matters with AMSGrad.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    p: f64,
    m: f64,
    v: f64,
    v_max: f64,
}

/// A configuration, with what the step adds to it.
#[derive(Clone, Copy, Debug)]
struct Case {
    config: AdamWConfig,
    step: u64,
    grad_scale: f64,
    amsgrad: bool,
}

const PLAIN: Case = Case { config: DEFAULT, step: 10, grad_scale: 1.0, amsgrad: false };
const DEFAULT: AdamWConfig = AdamWConfig {
    lr: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 1e-2,
    decay: WeightDecay::Decoupled,
    maximize: false,
};

const TINY_EPS: f64 = 1e-30;

/// Each variant, at least once.
fn cases() -> Vec<Case> {
    let with = |f: fn(&mut Case)| {
        let mut case = PLAIN;
        f(&mut case);
        case
    };
    vec![
        PLAIN,
        with(|c| c.step = 1),
        with(|c| c.step = 1_000_000),
        with(|c| c.config.weight_decay = 0.0),
        with(|c| c.config.maximize = true),
        with(|c| c.amsgrad = true),
        with(|c| c.grad_scale = 65536.0),
        with(|c| c.grad_scale = 1000.0 / 3.0),
        with(|c| c.config.beta1 = 0.3),
        with(|c| c.config.beta1 = 0.5),
        with(|c| c.config.beta1 = 0.0),
        with(|c| c.config.beta2 = 0.5),
        with(|c| (c.config.beta1, c.config.beta2) = (0.999_9, 0.999_99)),
        with(|c| c.config.eps = 0.0),
        with(|c| c.config.eps = 1e-20),
        with(|c| c.config.eps = 0.1),
        // Too small to be divided by the step size; and a rate that nothing can be divided by.
        with(|c| c.config.eps = TINY_EPS),
        with(|c| c.config.lr = 0.0),
        with(|c| (c.config.lr, c.config.weight_decay) = (0.7, 0.9)),
        with(|c| c.config.decay = WeightDecay::L2),
        with(|c| (c.config.decay, c.config.weight_decay) = (WeightDecay::L2, 0.0)),
        with(|c| {
            c.config = AdamWConfig { decay: WeightDecay::L2, weight_decay: 0.5, maximize: true, ..DEFAULT };
            (c.amsgrad, c.grad_scale, c.config.beta1, c.step) = (true, 7.0, 0.2, 3);
        }),
    ]
}

impl Case {
    fn step(&self) -> AdamWStep {
        let step = AdamW::new(self.config).unwrap().at(self.step).unwrap();
        if self.grad_scale == 1.0 { step } else { step.unscale(self.grad_scale).unwrap() }
    }

    /// The gradient that the moments see.
    fn grad(&self, p: f64, g: f64) -> f64 {
        let g = g / self.grad_scale * if self.config.maximize { -1.0 } else { 1.0 };
        if self.config.decay == WeightDecay::L2 { g + self.config.weight_decay * p } else { g }
    }

    /// The moments after a step.
    fn moments(&self, s: State, g: f64) -> State {
        let (c, g) = (&self.config, self.grad(s.p, g));
        let m = s.m + (1.0 - c.beta1) * (g - s.m);
        let v = c.beta2 * s.v + (1.0 - c.beta2) * g * g;
        State { m, v, v_max: s.v_max.max(v), ..s }
    }

    /// What the moments take off the parameter.
    fn update(&self, after: State) -> f64 {
        let (c, t) = (&self.config, self.step as f64);
        let v = if self.amsgrad { after.v_max } else { after.v };
        let d = v.sqrt() / (1.0 - c.beta2.powf(t)).sqrt() + c.eps;
        c.lr / (1.0 - c.beta1.powf(t)) * after.m / d
    }

    /// The parameter after a step, given the moments after it.
    fn param(&self, p: f64, after: State) -> f64 {
        let c = &self.config;
        let decay = if c.decay == WeightDecay::Decoupled { 1.0 - c.lr * c.weight_decay } else { 1.0 };
        p * decay - self.update(after)
    }
}

/// Slices of states, as the kernel takes them.
#[derive(Clone)]
struct Tensors {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    v_max: Vec<f32>,
}

impl Tensors {
    /// Values over many magnitudes, moments and gradients of about each other's, and no underflow.
    fn random(rng: &mut Rng, n: usize, amsgrad: bool) -> Self {
        let mut t = Tensors { p: vec![], g: vec![], m: vec![], v: vec![], v_max: vec![] };
        for _ in 0..n {
            let around = rng.below(44) as i32 - 30;
            t.p.push(rng.spread(-12, 8));
            t.g.push(rng.spread(around - 3, around + 3));
            // Zeros are what training begins with.
            let fresh = rng.below(8) == 0;
            t.m.push(if fresh { 0.0 } else { rng.spread(around - 3, around + 3) });
            t.v.push(if fresh { 0.0 } else { rng.spread(2 * around - 8, 2 * around + 8).abs() });
            let above = if amsgrad && !fresh { rng.spread(-4, 6).abs() } else { 0.0 };
            t.v_max.push(t.v[t.v.len() - 1] * above);
        }
        t
    }

    fn run(&mut self, case: &Case) {
        case.step().update(AdamWTensor {
            param: &mut self.p,
            grad: &self.g,
            m: &mut self.m,
            v: &mut self.v,
            v_max: case.amsgrad.then_some(&mut self.v_max),
        });
    }

    fn state(&self, i: usize) -> State {
        let [p, m, v, v_max] = [&self.p, &self.m, &self.v, &self.v_max].map(|x| x[i] as f64);
        State { p, m, v, v_max }
    }
}

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// The documented bounds of one step, in units of `U` times `|m| + |g|`, `v`, `|p|` and the update.
const M: f64 = 2.0;
const V: f64 = 4.0;
const P_DECAY: f64 = 2.5;
const P_UPDATE: f64 = 5.0;
/// The same where the step size cannot divide the denominator and stays a factor, rounded and multiplied.
const P_UPDATE_FACTOR: f64 = 7.0;
/// The bounds of m and v where the gradient itself was rounded: by L2 decay, or by a scale that is no power of two.
const M_ROUNDED: f64 = 5.0;
const V_ROUNDED: f64 = 10.0;

#[test]
fn one_step_is_within_its_bound() {
    let n = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
    let mut rng = Rng::new(1);
    // The largest error over its bound, for m, v and p.
    let mut worst = [(0.0, PLAIN); 3];
    for case in cases() {
        let before = Tensors::random(&mut rng, n, case.amsgrad);
        let l2 = if case.config.decay == WeightDecay::L2 { case.config.weight_decay } else { 0.0 };
        let exact_grad = l2 == 0.0 && [1.0, 65536.0].contains(&case.grad_scale);
        let (m_bound, v_bound) = if exact_grad { (M, V) } else { (M_ROUNDED, V_ROUNDED) };
        let factor = case.config.lr == 0.0 || case.config.eps == TINY_EPS;
        let update_bound = if factor { P_UPDATE_FACTOR } else { P_UPDATE };
        for_each_tier(|tier| {
            let mut after = before.clone();
            after.run(&case);
            for i in 0..n {
                let (old, new, g) = (before.state(i), after.state(i), before.g[i] as f64);
                let want = case.moments(old, g);
                // The terms of the gradient apart, since L2 decay may cancel them.
                let g = (g / case.grad_scale).abs() + l2 * old.p.abs();
                let v_terms = case.config.beta2 * old.v + (1.0 - case.config.beta2) * g * g;
                // The parameter is held to the moments that were stored: their own error is bounded above.
                let param = case.param(old.p, new);
                let errors = [
                    (new.m - want.m).abs() / (m_bound * U * (old.m.abs() + g)),
                    (new.v - want.v).abs() / (v_bound * U * v_terms),
                    (new.p - param).abs()
                        / (U * (P_DECAY * old.p.abs() + update_bound * case.update(new).abs())),
                ];
                for ((error, worst), name) in errors.into_iter().zip(&mut worst).zip(["m", "v", "p"]) {
                    assert!(
                        error <= 1.0,
                        "{tier}: {name} is off by {error} of its bound: {case:?} {old:?} {new:?}"
                    );
                    if error > worst.0 {
                        *worst = (error, case);
                    }
                }
                if case.amsgrad {
                    assert_eq!(new.v_max, old.v_max.max(new.v), "{tier}: v_max is exact");
                } else {
                    assert_eq!(new.v_max, old.v_max, "{tier}: v_max is left alone");
                }
            }
        });
    }
    for ((error, case), name) in worst.into_iter().zip(["m", "v", "p"]) {
        println!("{name}: largest error {error:.3} of its bound, in {case:?}");
        assert!(error > 0.3, "the bound of {name} is too loose to mean anything: {error}");
    }
}

/// Root mean square of what a step changes, to set an error against.
fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0);
    for x in values {
        sum += x * x;
        n += 1;
    }
    (sum / n as f64).sqrt()
}

#[test]
fn a_hundred_steps_stay_with_f64() {
    const N: usize = 67;
    for (k, base) in cases().into_iter().enumerate() {
        let mut rng = Rng::new(100 + k as u64);
        let start = Tensors::random(&mut rng, N, false);
        let grads: Vec<Vec<f32>> =
            (0..100).map(|_| start.g.iter().map(|&g| g * (0.5 + rng.normal())).collect()).collect();
        for_each_tier(|tier: Tier| {
            let zero = vec![0.0; N];
            let p = start.p.clone();
            let mut t = Tensors { p, g: zero.clone(), m: zero.clone(), v: zero.clone(), v_max: zero };
            let mut oracle: Vec<State> = (0..N).map(|i| t.state(i)).collect();
            for (i, grad) in grads.iter().enumerate() {
                let case = Case { step: i as u64 + 1, ..base };
                t.g.copy_from_slice(grad);
                t.run(&case);
                for (s, &g) in oracle.iter_mut().zip(grad) {
                    let after = case.moments(*s, g as f64);
                    *s = State { p: case.param(s.p, after), ..after };
                }
            }
            for i in 0..N {
                let (got, want) = (t.state(i), oracle[i]);
                // The bound of one step, a hundred times: what a step rounds away, the next does too.
                let size = start.p[i].abs() as f64 + want.p.abs() + 100.0 * base.config.lr;
                let off = 100.0 * P_DECAY * U * size;
                assert!((got.p - want.p).abs() <= off, "{tier} {base:?}: p[{i}] {got:?} {want:?}");
                // Older errors fade from the moments; L2 decay puts those of the parameter in.
                let grad = rms(grads.iter().map(|g| base.grad(want.p, g[i] as f64)));
                let l2 =
                    if base.config.decay == WeightDecay::L2 { base.config.weight_decay * off } else { 0.0 };
                let m_off = 20.0 * U * grad + l2;
                assert!((got.m - want.m).abs() <= m_off, "{tier} {base:?}: m[{i}] {got:?} {want:?}");
                assert!((got.v - want.v).abs() <= 200.0 * U * want.v, "{tier} {base:?}: v {got:?} {want:?}");
            }
        });
    }
}

/// Long tensors are cut at cache lines: where they lie moves no bit, and nothing beside them is written.
#[test]
fn where_long_tensors_lie_moves_no_bit() {
    const LENS: [usize; 3] = [4100, 50, 5000];
    let mut rng = Rng::new(9);
    let values = LENS.map(|n| {
        [0, 1, 2, 3, 4].map(|k| rng.vec(n, |rng| if k < 2 { rng.normal() } else { rng.uniform(0.0, 1.0) }))
    });
    let step = AdamW::new(DEFAULT).and_then(|a| a.at(10)).expect("valid");
    for_each_tier(|tier| {
        let run = |offset: usize| {
            let mut all = values.each_ref().map(|t| {
                let mut number = 0;
                t.each_ref().map(|x| {
                    number += 3;
                    Guarded::new((offset + number) % 17, x)
                })
            });
            let mut tensors = all.each_mut().map(|[param, grad, m, v, max]| AdamWTensor {
                param: param.get_mut(),
                grad: grad.get(),
                m: m.get_mut(),
                v: v.get_mut(),
                v_max: Some(max.get_mut()),
            });
            step.update_many(&mut tensors);
            for x in all.iter().flatten() {
                x.assert_guards(format_args!("{tier}, offset {offset}"));
            }
            all.map(|t| t.map(|x| x.get().to_vec()))
        };
        let want = run(0);
        for offset in offsets() {
            assert!(run(offset) == want, "{tier}, offset {offset}");
        }
    });
}
