//! The loss of a batch in f64, written out.

use hotlanes_train::models::gpt::config::{Act, Config, NORM_EPS, Norm};
use hotlanes_train::models::gpt::params::Layout;

/// Parameters in f64, by name.
pub(crate) struct Oracle {
    config: Config,
    layout: Layout,
    pub(crate) params: Vec<f64>,
}

impl Oracle {
    pub(crate) fn new(config: &Config, params: &[f32]) -> Self {
        let params = params.iter().map(|&p| p.into()).collect();
        Oracle { config: config.clone(), layout: Layout::new(config), params }
    }

    fn get(&self, name: &str) -> Option<&[f64]> {
        self.layout.find(name).map(|t| &self.params[t.range.clone()])
    }

    fn linear(&self, x: &[f64], weights: &str, bias: &str) -> Vec<f64> {
        let w = self.get(weights).unwrap();
        let rows = w.chunks_exact(x.len());
        let mut y: Vec<f64> = rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        if let Some(bias) = self.get(bias) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let n = x.len() as f64;
        let layer = self.config.norm == Norm::LayerNorm;
        let mean = if layer { x.iter().sum::<f64>() / n } else { 0.0 };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let gamma = self.get(&format!("{name}.weight")).unwrap();
        let beta = self.get(&format!("{name}.bias"));
        let hat = x.iter().map(|x| (x - mean) / (square + NORM_EPS).sqrt());
        hat.zip(gamma).enumerate().map(|(i, (x, g))| x * g + beta.map_or(0.0, |b| b[i])).collect()
    }

    /// The logits of each token of one sequence.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let Config { dim, heads, .. } = self.config;
        let row = |name: &str, i: usize| &self.get(name).unwrap()[i * dim..][..dim];
        let embed = |(at, &token): (usize, &u32)| -> Vec<f64> {
            let place = row("transformer.wpe.weight", at);
            row("transformer.wte.weight", token as usize).iter().zip(place).map(|(a, b)| a + b).collect()
        };
        let mut x: Vec<Vec<f64>> = tokens.iter().enumerate().map(embed).collect();
        for l in 0..self.config.layers {
            let name = |part: &str| format!("transformer.h.{l}.{part}");
            let part = |x: &[f64], part: &str| {
                self.linear(x, &name(&format!("{part}.weight")), &name(&format!("{part}.bias")))
            };
            let qkv: Vec<_> = x.iter().map(|x| part(&self.norm(x, &name("ln_1")), "attn.c_attn")).collect();
            let size = dim / heads;
            for at in 0..x.len() {
                let mut attended = Vec::new();
                for h in 0..heads {
                    let head = |token: usize, which: usize| &qkv[token][which * dim + h * size..][..size];
                    let score = |key| -> f64 {
                        let products = head(at, 0).iter().zip(head(key, 1)).map(|(q, k)| q * k);
                        (products.sum::<f64>() / (size as f64).sqrt()).exp()
                    };
                    let scores: Vec<f64> = (0..=at).map(score).collect();
                    let sum: f64 = scores.iter().sum();
                    let mix =
                        |i| scores.iter().enumerate().map(|(key, s)| s / sum * head(key, 2)[i]).sum::<f64>();
                    attended.extend((0..size).map(mix));
                }
                let added = part(&attended, "attn.c_proj");
                x[at].iter_mut().zip(added).for_each(|(x, a)| *x += a);
                let mut inside = part(&self.norm(&x[at], &name("ln_2")), "mlp.c_fc");
                inside.iter_mut().for_each(|x| *x = self.activation(*x));
                let added = part(&inside, "mlp.c_proj");
                x[at].iter_mut().zip(added).for_each(|(x, a)| *x += a);
            }
        }
        let head = if self.config.tied { "transformer.wte.weight" } else { "lm_head.weight" };
        x.iter().map(|x| self.linear(&self.norm(x, "transformer.ln_f"), head, "")).collect()
    }

    fn activation(&self, x: f64) -> f64 {
        match self.config.act {
            Act::Gelu => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x * (1.0 + u.tanh()) / 2.0
            }
            Act::SquaredRelu => x.max(0.0).powi(2),
        }
    }

    /// The mean loss of a batch.
    pub(crate) fn loss(&self, tokens: &[u32], targets: &[u32], time: usize) -> f64 {
        let mut sum = 0.0;
        for (tokens, targets) in tokens.chunks_exact(time).zip(targets.chunks_exact(time)) {
            for (logits, &target) in self.logits(tokens).iter().zip(targets) {
                let all: f64 = logits.iter().map(|l| l.exp()).sum();
                sum += all.ln() - logits[target as usize];
            }
        }
        sum / tokens.len() as f64
    }
}
