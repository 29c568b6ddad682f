//! Optimizers, and the clip.

use hotlanes::adafactor::{Adafactor, AdafactorConfig, AdafactorTensor, SecondMoment};
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient, WeightDecay};
use hotlanes::clip::{Clip, ClipConfig};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::muon::{Muon, MuonConfig, MuonScale, MuonTensor};
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};
use hotlanes::sparse::{Csr, Masked};

use super::{Outcome, data, walk};

/// A whole vector and a rest, of parameters, gradients and moments that meet in all combinations but for few.
const N: usize = 37;

/// A configuration, with what a step takes besides.
#[derive(Clone, Copy)]
struct Call<C> {
    config: C,
    step: f64,
    grad_scale: f64,
}

impl<C> Call<C> {
    fn of(config: C) -> Self {
        Call { config, step: 1000.0, grad_scale: 1.0 }
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
fn adam() {
    let settings: [super::Setting<Call<AdamWConfig>>; 7] = [
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

#[test]
fn sgd() {
    let settings: [super::Setting<Call<SgdConfig>>; 6] = [
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
fn lion() {
    let settings: [super::Setting<Call<LionConfig>>; 5] = [
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
fn adafactors() {
    let settings: [super::Setting<Call<AdafactorConfig>>; 7] = [
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
fn muon() {
    let settings: [super::Setting<MuonConfig>; 3] = [
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

#[test]
fn clip() {
    let settings: [super::Setting<ClipConfig>; 2] =
        [("max_norm", |c, x| c.max_norm = x), ("grad_scale", |c, x| c.grad_scale = x)];
    walk("Clip", &ClipConfig::default(), &settings, |config| {
        let clip = Clip::new(*config)?;
        let mut all = vec![];
        for g in [data(N, 0), vec![0.0; N], vec![1e-6; N]] {
            let (mut p, mut m, mut v) = (data(N, 0), vec![0.0; N], vec![0.0; N]);
            let step = AdamW::new(AdamWConfig::default())?.at(1)?;
            let tensor = AdamWTensor { param: &mut p, grad: &g, m: &mut m, v: &mut v, v_max: None };
            let outcome = clip.step(&step, &mut [tensor]);
            assert!(!outcome.skipped && outcome.norm.is_finite() && outcome.clip_factor.is_finite());
            let mut alone = g.clone();
            assert_eq!(clip.clip(&mut [&mut alone]), outcome);
            all.extend([p, m, v, alone].concat());
        }
        Ok(all)
    });
}

#[test]
fn sparse() {
    let connections = || Csr::new(2, 3, vec![0, 2, 3], vec![0u32, 2, 1], data(3, 2)).unwrap();
    // Their products with `dy` are the gradients, which are to be ordinary.
    let inputs = |n| (0..n).map(|i| [1.0, 0.0, -0.5][i % 3]).collect::<Vec<f32>>();
    walk("sparse steps", &1.0, &[("lr", |c: &mut f64, x| *c = x)], |&lr| {
        let (x, dy, mut dx) = (inputs(3), data(2, 3), vec![0.0; 3]);
        let mut one = connections();
        one.matvec_backward_sgd(&x, &dy, lr, Some(&mut dx))?;
        let (mut batch, mut many) = (connections(), vec![0.0; 12]);
        let plan = batch.plan();
        plan.matmul_backward_sgd(&mut batch, &inputs(12), &data(8, 1), 4, lr, Some(&mut many))?;
        let mut all = [one.values(), batch.values(), &dx, &many].concat();
        for relu in [false, true] {
            let (mut masked, mut after) = (Masked::new(&connections()), connections());
            if relu {
                masked.matvec_backward_sgd_relu(&x, &dy, lr, &mut dx)?;
            } else {
                masked.matvec_backward_sgd(&x, &dy, lr, Some(&mut dx))?;
            }
            masked.write_values(&mut after);
            all.extend([after.values(), &dx].concat());
        }
        Ok(all)
    });
}
