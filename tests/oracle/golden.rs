//! Vectors that PyTorch made (`tests/golden/make_golden.py`): the conventions are its own, if not the last bits.

use std::collections::HashMap;

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, WeightDecay};
use hotlanes::norm::LayerNorm;

use crate::common::{for_each_tier, ulps};

/// A case: its settings, and its vectors by name.
#[derive(Default)]
pub(crate) struct Section {
    pub(crate) settings: HashMap<&'static str, &'static str>,
    pub(crate) vectors: HashMap<&'static str, Vec<f32>>,
}

impl Section {
    pub(crate) fn number(&self, key: &str) -> f64 {
        self.settings[key].parse().unwrap()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    pub(crate) fn name(&self) -> &str {
        self.settings["case"]
    }

    pub(crate) fn get(&self, name: &str) -> &[f32] {
        &self.vectors[name]
    }

    pub(crate) fn find(&self, name: &str) -> Option<&[f32]> {
        self.vectors.get(name).map(Vec::as_slice)
    }
}

/// What precedes the first case, then the cases. A line is `# comment`, `key=value ...` or `name hex`.
pub(crate) fn parse(text: &'static str) -> Vec<Section> {
    let mut sections = vec![Section::default()];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if line.contains('=') {
            let settings = line.split(' ').map(|s| s.split_once('=').unwrap()).collect();
            sections.push(Section { settings, ..Default::default() });
        } else {
            let (name, hex) = line.split_once(' ').unwrap();
            assert_eq!(hex.len() % 8, 0, "{name}");
            let value = |i| f32::from_bits(u32::from_str_radix(&hex[8 * i..8 * i + 8], 16).unwrap());
            sections.last_mut().unwrap().vectors.insert(name, (0..hex.len() / 8).map(value).collect());
        }
    }
    sections
}

/// How many bits were equal, the largest distance in ulp, and the largest error in units of 2^-24 of a size.
#[derive(Default)]
pub(crate) struct Tally {
    equal: usize,
    all: usize,
    ulps: u64,
    pub(crate) error: f64,
}

impl Tally {
    /// A value that terms have cancelled in is held to the `size` of those terms.
    pub(crate) fn add(&mut self, got: &[f32], want: &[f32], size: &[f64]) {
        assert_eq!((got.len(), size.len()), (want.len(), want.len()));
        for ((&g, &w), &size) in got.iter().zip(want).zip(size) {
            self.all += 1;
            self.equal += (g.to_bits() == w.to_bits()) as usize;
            self.ulps = self.ulps.max(ulps(g, w));
            let apart = (g as f64 - w as f64).abs() / size.max(w.abs() as f64);
            // 0 / 0 where both are zero and nothing led there.
            self.error = self.error.max(if g == w { 0.0 } else { apart * (1 << 24) as f64 });
        }
    }

    pub(crate) fn print(&self, what: &str) {
        let (share, Tally { all, ulps, error, .. }) = (100.0 * self.equal as f64 / self.all as f64, self);
        println!("{what}: {share:.1}% of {all} bit-equal to PyTorch, at most {ulps} ulp or {error:.2} u off");
    }
}

#[test]
fn adamw_follows_pytorch() {
    let sections = parse(include_str!("../golden/adamw.txt"));
    let (inputs, cases) = sections.split_first().unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let amsgrad = case.number("amsgrad") == 1.0;
        let adamw = AdamW::new(AdamWConfig {
            lr: case.number("lr"),
            beta1: case.number("beta1"),
            beta2: case.number("beta2"),
            eps: case.number("eps"),
            weight_decay: case.number("weight_decay"),
            decay: if case.number("l2") == 1.0 { WeightDecay::L2 } else { WeightDecay::Decoupled },
            maximize: case.number("maximize") == 1.0,
        })
        .unwrap();
        let l2 = if case.number("l2") == 1.0 { case.number("weight_decay") } else { 0.0 };
        // What the terms of a parameter, or of a moment, amounted to.
        let size = |name: &str| -> Vec<f64> {
            let grads: Vec<&[f32]> = (1..=4).map(|i| inputs.get(&format!("grad{i}"))).collect();
            let of = |(i, &p): (usize, &f32)| match name {
                "param" => p.abs() as f64 + case.number("lr"),
                "m" => grads.iter().fold(0.0, |a, g| g[i].abs().max(a)) as f64 + l2 * p.abs() as f64,
                _ => 0.0,
            };
            inputs.get("param").iter().enumerate().map(of).collect()
        };
        for_each_tier(|tier| {
            let mut p = inputs.get("param").to_vec();
            let n = p.len();
            let (mut m, mut v, mut v_max) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            let mut tallies: [Tally; 3] = Default::default();
            for i in 1..=4 {
                adamw.at(i).unwrap().update(AdamWTensor {
                    param: &mut p,
                    grad: inputs.get(&format!("grad{i}")),
                    m: &mut m,
                    v: &mut v,
                    v_max: amsgrad.then_some(&mut v_max),
                });
                for ((name, ours), tally) in
                    [("param", &p), ("m", &m), ("v", &v)].into_iter().zip(&mut tallies)
                {
                    tally.add(ours, case.get(&format!("{name}{i}")), &size(name));
                }
                if amsgrad {
                    tallies[2].add(&v_max, case.get(&format!("v_max{i}")), &size("v"));
                }
            }
            for (tally, name) in tallies.iter().zip(["param", "m", "v"]) {
                let what = format!("{} {tier} {name}", case.settings["case"]);
                tally.print(&what);
                assert!(tally.error <= ADAMW_ERROR, "{what}: {} u", tally.error);
            }
        });
    }
}

/// In units of 2^-24 of a value's size: one to two for each of four steps.
const ADAMW_ERROR: f64 = 6.0;

/// The largest error, over the largest modulus of what is right.
pub(crate) fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(0.0f64, |a, &x| a.max(x.abs() as f64));
    got.iter().zip(want).fold(0.0, |a: f64, (&g, &w)| a.max((g as f64 - w as f64).abs())) / size
}

#[test]
fn layernorm_follows_pytorch() {
    let sections = parse(include_str!("../golden/layernorm.txt"));
    let cases = &sections[1..];
    assert_eq!(cases.len(), 4);
    for case in cases {
        let (rows, features) = (case.number("rows") as usize, case.number("features") as usize);
        let norm = LayerNorm::new(features, case.number("eps")).unwrap();
        for_each_tier(|tier| {
            let (mut y, mut dx) = (vec![0.0; rows * features], vec![0.0; rows * features]);
            let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
            let (mut dgamma, mut dbeta) = (vec![0.0; features], vec![0.0; features]);
            let mut scratch = vec![0.0; norm.scratch_len(rows)];
            let (x, gamma) = (case.get("x"), case.get("gamma"));
            norm.forward(x, gamma, case.get("beta"), &mut y, &mut mean, &mut rstd);
            let dy = case.get("dy");
            norm.backward(dy, x, gamma, &mean, &rstd, &mut dx, &mut dgamma, &mut dbeta, &mut scratch);

            let ours = [
                ("y", &y, 1e-6),
                ("mean", &mean, 1e-7),
                ("rstd", &rstd, 2e-7),
                ("dx", &dx, 1e-6),
                ("dgamma", &dgamma, 1e-6),
                ("dbeta", &dbeta, 2e-7),
            ];
            for (name, got, bound) in ours {
                let right = case.get(&format!("{name}64"));
                let (error, torch) = (relative(got, right), relative(case.get(name), right));
                let what = format!("{} {tier} {name}", case.settings["case"]);
                println!("{what}: error {error:.1e}, PyTorch's {torch:.1e}");
                assert!(error <= bound, "{what}: error {error:e}");
                // Closer to the truth than PyTorch is, or as close as a few roundings allow.
                assert!(error <= torch.max(5e-7), "{what}: error {error:e}, PyTorch's {torch:e}");
                // And so no further from PyTorch than both are from the truth.
                let apart = relative(got, case.get(name));
                assert!(apart <= 1.01 * (bound + torch), "{what}: {apart:e} from PyTorch");
            }
        });
    }
}
