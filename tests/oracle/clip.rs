//! Clipping by the global norm: against f64, against AdamW's own step, and against PyTorch.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor, WeightDecay};
use hotlanes::clip::{Clip, ClipConfig, clip_grad_norm};

use crate::common::{Rng, assert_same, for_each_tier, panic_message};
use crate::golden::{parse, relative};
use crate::settings::{N, Setting, data, walk};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Tensors of these lengths, one after the other: parameters, gradients, moments.
#[derive(Clone)]
struct Training {
    lengths: Vec<usize>,
    param: Vec<f32>,
    grad: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Training {
    fn random(rng: &mut Rng, lengths: &[usize], size: f32) -> Self {
        let n = lengths.iter().sum();
        Training {
            lengths: lengths.to_vec(),
            param: rng.vec(n, |rng| rng.normal()),
            grad: rng.vec(n, |rng| rng.normal() * size),
            m: vec![0.0; n],
            v: vec![0.0; n],
        }
    }

    fn tensors(&mut self) -> Vec<AdamWTensor<'_>> {
        let (mut p, mut g) = (&mut self.param[..], &self.grad[..]);
        let (mut m, mut v) = (&mut self.m[..], &mut self.v[..]);
        let mut out = vec![];
        for &n in &self.lengths {
            out.push(AdamWTensor {
                param: p.split_off_mut(..n).unwrap(),
                grad: g.split_off(..n).unwrap(),
                m: m.split_off_mut(..n).unwrap(),
                v: v.split_off_mut(..n).unwrap(),
                v_max: None,
            });
        }
        out
    }

    fn norm(&self) -> f64 {
        self.grad.iter().map(|&g| g as f64 * g as f64).sum::<f64>().sqrt()
    }

    #[track_caller]
    fn assert_same(&self, other: &Training, what: &str) {
        let pairs = [(&self.param, &other.param), (&self.m, &other.m), (&self.v, &other.v)];
        for ((got, want), name) in pairs.into_iter().zip(["param", "m", "v"]) {
            assert_same(got, want, format!("{what}: {name}"));
        }
        assert_same(&self.grad, &other.grad, format!("{what}: grad"));
    }
}

fn step(config: AdamWConfig) -> AdamWStep {
    AdamW::new(config).unwrap().at(3).unwrap()
}

fn clip(max_norm: f64, grad_scale: f64) -> Clip {
    Clip::new(ClipConfig { max_norm, grad_scale }).unwrap()
}

#[test]
fn a_step_is_adamws_on_the_clipped_gradient() {
    let mut rng = Rng::new(1);
    let default = AdamWConfig::default();
    let steps = [
        step(default),
        step(AdamWConfig { maximize: true, ..default }),
        step(AdamWConfig { beta1: 0.25, ..default }),
        step(AdamWConfig { decay: WeightDecay::L2, ..default }),
        step(default).unscale(8.0).unwrap(),
    ];
    let mut worst: f64 = 0.0;
    for lengths in [&[][..], &[0], &[5], &[0, 70, 1, 0, 16], &[300; 7], &[4100, 3, 130]] {
        // Norms far above, about, and below what is allowed; gradients whose squares do not fit f32.
        for size in [1e-30, 1e-3, 1.0, 1e5, 1e25] {
            let before = Training::random(&mut rng, lengths, size);
            for (k, step) in steps.iter().enumerate() {
                let own = if k == 4 { 8.0 } else { 1.0 };
                for (max_norm, grad_scale) in [(1.0, 1.0), (0.3, 1024.0), (5.0, 3.0), (f64::INFINITY, 1.0)] {
                    let what = format!("{lengths:?} {size} step {k} {max_norm} {grad_scale}");
                    let norm = before.norm() / grad_scale / own;
                    for_each_tier(|tier| {
                        let what = format!("{tier} {what}");
                        let mut after = before.clone();
                        let outcome = clip(max_norm, grad_scale).step(step, &mut after.tensors());
                        assert!(!outcome.skipped, "{what}");
                        assert!((outcome.norm - norm).abs() <= 35.0 * U * norm, "{what}: {outcome:?}");
                        let factor = (max_norm / (outcome.norm + 1e-6)).min(1.0);
                        assert_eq!(outcome.clip_factor, factor, "{what}");

                        // The same step with the same factor by another way; f64 takes 1 / (1 / f) back to f.
                        let factor = (factor / grad_scale / own) as f32;
                        let mut want = before.clone();
                        step.unscale(1.0 / factor as f64).unwrap().update_many(&mut want.tensors());
                        after.assert_same(&want, &what);

                        // From zeros the first moment is the gradient that it saw.
                        if k == 0 && size > 1e-20 {
                            let exact = (max_norm / (norm + 1e-6)).min(1.0) / grad_scale;
                            for (m, g) in after.m.iter().zip(&before.grad) {
                                let want = 0.1 * exact * *g as f64;
                                let error = (*m as f64 - want).abs();
                                // 37 u of the clip, 5 u of AdamW's own.
                                let bound = 42.0 * U * want.abs();
                                assert!(error <= bound, "{what}: m {m}, not {want}");
                                if bound > 0.0 {
                                    worst = worst.max(error / bound);
                                }
                            }
                        }
                    });
                }
            }
        }
    }
    println!("clipped gradient: largest error {worst:.3} of its bound");
}

#[test]
fn no_clip_moves_no_bit() {
    let mut rng = Rng::new(2);
    let before = Training::random(&mut rng, &[100, 33], 1e-3);
    for_each_tier(|tier| {
        let (mut a, mut b) = (before.clone(), before.clone());
        let outcome = clip(1.0, 1.0).step(&step(AdamWConfig::default()), &mut a.tensors());
        assert_eq!((outcome.clip_factor, outcome.skipped), (1.0, false), "{tier}");
        step(AdamWConfig::default()).update_many(&mut b.tensors());
        a.assert_same(&b, &format!("{tier}"));
    });
}

#[test]
fn a_gradient_that_is_not_finite_skips_everything() {
    let mut rng = Rng::new(3);
    for lengths in [&[40][..], &[0, 17, 5000, 300], &[3; 50]] {
        let good = Training::random(&mut rng, lengths, 1.0);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bad = good.clone();
            let at = rng.below(bad.grad.len());
            bad.grad[at] = value;
            for_each_tier(|tier| {
                let what = format!("{tier} {lengths:?} {value} at {at}");
                let mut after = bad.clone();
                let outcome = clip(1.0, 2.0).step(&step(AdamWConfig::default()), &mut after.tensors());
                assert!(outcome.skipped && outcome.clip_factor == 0.0, "{what}");
                assert_eq!(outcome.norm.is_nan(), value.is_nan(), "{what}");
                assert!(!outcome.norm.is_finite(), "{what}");
                after.assert_same(&bad, &what);
                let mut grad = bad.grad.clone();
                let outcome = clip_grad_norm(&mut [&mut grad[..]], 1.0).unwrap();
                assert!(outcome.skipped, "{what}");
                assert_same(&grad, &bad.grad, &what);
            });
        }
    }
}

#[test]
fn clipping_alone_holds_the_norm() {
    let mut rng = Rng::new(4);
    for (lengths, size) in [(&[70, 0, 333][..], 1.0), (&[9000, 1], 1e25), (&[5], 1e-4)] {
        let before = Training::random(&mut rng, lengths, size);
        for (max_norm, grad_scale) in [(1.0, 1.0), (2.5, 64.0), (1e-3, 1.0), (f64::INFINITY, 4.0)] {
            for_each_tier(|tier| {
                let what = format!("{tier} {lengths:?} {size} {max_norm} {grad_scale}");
                let mut grad = before.grad.clone();
                let outcome = clip(max_norm, grad_scale).clip(&mut grad.chunks_mut(50).collect::<Vec<_>>());
                let norm = before.norm() / grad_scale;
                assert!((outcome.norm - norm).abs() <= 35.0 * U * norm, "{what}: {outcome:?}");
                let factor = (max_norm / (norm + 1e-6)).min(1.0) / grad_scale;
                for (got, g) in grad.iter().zip(&before.grad) {
                    let want = factor * *g as f64;
                    assert!((*got as f64 - want).abs() <= 37.0 * U * want.abs(), "{what}: {got} {want}");
                }
                if outcome.clip_factor == 1.0 && grad_scale == 1.0 {
                    assert_same(&grad, &before.grad, &what);
                }
            });
        }
    }
}

#[test]
fn bad_settings_are_named() {
    for max_norm in [0.0, -1.0, f64::NAN] {
        let error = Clip::new(ClipConfig { max_norm, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), format!("max_norm = {max_norm}: must be above 0"));
        let mut grad = [3.0, 4.0];
        let error = clip_grad_norm(&mut [&mut grad], max_norm).unwrap_err();
        assert_eq!((error.name, grad), ("max_norm", [3.0, 4.0]));
    }
    for grad_scale in [0.0, -2.0, f64::NAN, f64::INFINITY, 1e39, 1e-39] {
        let error = Clip::new(ClipConfig { grad_scale, ..Default::default() }).unwrap_err();
        assert_eq!((error.name, error.value.to_bits()), ("grad_scale", grad_scale.to_bits()));
    }
    let config = ClipConfig { max_norm: 3.0, grad_scale: 65536.0 };
    assert_eq!(*Clip::new(config).unwrap().config(), config);
}

#[test]
fn a_wrong_length_panics_before_anything_is_done() {
    let (mut a, mut b) = ([1.0; 4], [1.0; 4]);
    let (mut ma, mut va, mut mb, mut vb) = ([0.0; 4], [0.0; 4], [0.0; 4], [0.0; 3]);
    let message = panic_message(|| {
        let mut tensors = [
            AdamWTensor { param: &mut a, grad: &[1.0; 4], m: &mut ma, v: &mut va, v_max: None },
            AdamWTensor { param: &mut b, grad: &[1.0; 4], m: &mut mb, v: &mut vb, v_max: None },
        ];
        clip(1.0, 1.0).step(&step(AdamWConfig::default()), &mut tensors);
    });
    assert_eq!(message, "adamw: v has 3 values, param asks for 4");
    assert_eq!((a, ma), ([1.0; 4], [0.0; 4]));
}

#[test]
fn it_follows_pytorch() {
    let sections = parse(include_str!("../golden/reduce.txt"));
    let inputs = &sections[0];
    let (x, y) = (inputs.get("x"), inputs.get("y"));
    for_each_tier(|tier| {
        let r = hotlanes::reduce::mean_var(x);
        let ours = [
            ("sum", hotlanes::reduce::sum(x)),
            ("dot", hotlanes::reduce::dot(x, y)),
            ("norm", hotlanes::reduce::norm(x)),
            ("mean", r.mean),
            ("variance", r.variance),
            ("max", hotlanes::reduce::max(x)),
        ];
        for (name, got) in ours {
            let (right, torch) = (inputs.get(&format!("{name}64")), inputs.get(name));
            let (error, theirs) = (relative(&[got], right), relative(torch, right));
            println!("{tier} {name}: error {error:.1e}, PyTorch's {theirs:.1e}");
            assert!(error <= 2e-6, "{tier} {name}: {error:e}");
        }
    });
    let cases = &sections[1..];
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (max_norm, grad_scale) = (case.number("max_norm"), case.number("grad_scale"));
        let adamw = AdamW::new(AdamWConfig { lr: case.number("lr"), ..Default::default() }).unwrap();
        for_each_tier(|tier| {
            let n = case.get("param").len();
            let mut t = Training {
                lengths: vec![n / 2, n / 4, n - n / 2 - n / 4],
                param: case.get("param").to_vec(),
                grad: vec![],
                m: vec![0.0; n],
                v: vec![0.0; n],
            };
            for i in 1..=3 {
                t.grad = case.get(&format!("grad{i}")).to_vec();
                let mut alone = t.grad.clone();
                clip(max_norm, grad_scale).clip(&mut alone.chunks_mut(10).collect::<Vec<_>>());
                let step = adamw.at(i).unwrap();
                let outcome = clip(max_norm, grad_scale).step(&step, &mut t.tensors());
                let what = format!("{} {tier} step {i}", case.settings["case"]);
                assert!(relative(&[outcome.norm as f32], case.get(&format!("norm{i}"))) < 5e-7, "{what}");
                for (name, got) in [("clipped", &alone), ("param", &t.param), ("m", &t.m), ("v", &t.v)] {
                    let error = relative(got, case.get(&format!("{name}{i}")));
                    assert!(error <= 1e-6, "{what}: {name} is {error:e} from PyTorch");
                }
            }
        });
    }
}

#[test]
fn every_setting_works_or_is_refused() {
    let settings: [Setting<ClipConfig>; 2] =
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
