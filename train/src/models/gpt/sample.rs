//! Choosing a token by its logit: temperature, top-k, top-p.

use crate::rng::Rng;
use crate::shell::settings::{self, SettingError, number};

/// What the random numbers are for.
const PURPOSE: u64 = 0x7361_6d70_6c65;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; at 0 the highest one is taken, without chance.
    pub temperature: f32,
    /// Only so many of the highest.
    pub top_k: Option<usize>,
    /// Of those only the most probable ones that together reach this probability.
    pub top_p: f32,
    /// All randomness.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: None, top_p: 1.0, seed: 1 }
    }
}

/// Why one cannot choose so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A logit that is not a number.
    #[error(
        "the logit of token {token} is {value}: must be finite; the model's parameters are not those of a trained one"
    )]
    NotFinite {
        /// The token.
        token: usize,
        /// Its logit.
        value: f32,
    },
}

/// Chooses one token after the other. Token number `i` depends on the logits, the settings and `i` alone; the same on
/// every tier and CPU.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    chosen: u64,
    order: Vec<u32>,
    weights: Vec<f32>,
}

impl Sampler {
    /// For these settings.
    ///
    /// # Errors
    /// One of them breaks its rule.
    pub fn new(sampling: Sampling) -> Result<Self, SampleError> {
        let Sampling { temperature, top_k, top_p, .. } = sampling;
        let fits = temperature.is_finite() && temperature >= 0.0;
        settings::check(fits, "temperature", number(temperature), "must be finite, at least 0")?;
        settings::count("top-k", top_k.unwrap_or(1) as u64, u64::MAX)?;
        settings::check(
            top_p > 0.0 && top_p <= 1.0,
            "top-p",
            number(top_p),
            "must be above 0 and at most 1",
        )?;
        Ok(Sampler { sampling, chosen: 0, order: Vec::new(), weights: Vec::new() })
    }

    /// The next token. Equal logits count as in the order of their tokens.
    ///
    /// # Errors
    /// A logit is not finite.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        if let Some(token) = logits.iter().position(|l| !l.is_finite()) {
            return Err(SampleError::NotFinite { token, value: logits[token] });
        }
        let Sampling { temperature, top_k, top_p, seed } = self.sampling;
        let mut rng = Rng::new(seed, PURPOSE, self.chosen, 0);
        self.chosen += 1;
        let before = |&a: &u32, &b: &u32| {
            logits[b as usize].partial_cmp(&logits[a as usize]).expect("finite").then(a.cmp(&b))
        };
        self.order.clear();
        self.order.extend(0..logits.len() as u32);
        let keep = top_k.unwrap_or(logits.len()).min(logits.len());
        if temperature == 0.0 {
            return Ok(self.order.iter().copied().min_by(before).expect("a vocabulary is not empty"));
        }
        if keep < logits.len() {
            self.order.select_nth_unstable_by(keep, before);
            self.order.truncate(keep);
        }
        self.order.sort_unstable_by(before);

        let highest = logits[self.order[0] as usize];
        self.weights.clear();
        // At a tiny temperature this may be minus infinity, whose exponential is 0, and 0 / 0 is no case.
        self.weights.extend(self.order.iter().map(|&token| (logits[token as usize] - highest) / temperature));
        hotlanes::activation::exp_in_place(&mut self.weights);
        let total: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
        let (mut kept, mut sum) = (0, 0.0);
        while kept < self.weights.len() && sum < f64::from(top_p) * total {
            sum += f64::from(self.weights[kept]);
            kept += 1;
        }
        let mut left = f64::from(rng.unit()) * sum;
        for (&token, &weight) in self.order[..kept].iter().zip(&self.weights) {
            left -= f64::from(weight);
            if left < 0.0 {
                return Ok(token);
            }
        }
        // Only rounding comes here.
        Ok(self.order[kept - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, -1.0, 1.0, 2.0];

    fn frequencies(sampling: Sampling) -> [f64; 5] {
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = [0.0; 5];
        let n = 6_000;
        (0..n).for_each(|_| counts[sampler.choose(&LOGITS).unwrap() as usize] += 1.0 / f64::from(n));
        counts
    }

    fn near(have: [f64; 5], weights: [f64; 5]) {
        let total: f64 = weights.iter().sum();
        for (h, w) in have.iter().zip(weights) {
            assert!(if w == 0.0 { *h == 0.0 } else { (h - w / total).abs() < 0.025 }, "{have:?} {weights:?}");
        }
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        let e = std::f64::consts::E;
        let all = Sampling::default();
        near(frequencies(all), [1.0, e * e, 1.0 / e, e, e * e]);
        near(
            frequencies(Sampling { temperature: 0.5, ..all }),
            [1.0, e.powi(4), e.powi(-2), e * e, e.powi(4)],
        );
        near(frequencies(Sampling { top_k: Some(3), ..all }), [0.0, e * e, 0.0, e, e * e]);
        // Equal logits: the first counts as higher.
        near(frequencies(Sampling { top_k: Some(1), ..all }), [0.0, 1.0, 0.0, 0.0, 0.0]);
        near(frequencies(Sampling { top_k: Some(99), ..all }), [1.0, e * e, 1.0 / e, e, e * e]);
        // 0.3992 0.3992 0.1469 0.0540 0.0199..: two reach 0.75, three 0.85.
        near(frequencies(Sampling { top_p: 0.75, ..all }), [0.0, e * e, 0.0, 0.0, e * e]);
        near(frequencies(Sampling { top_p: 0.85, ..all }), [0.0, e * e, 0.0, e, e * e]);
        near(frequencies(Sampling { top_p: 1e-9, ..all }), [0.0, 1.0, 0.0, 0.0, 0.0]);
        near(frequencies(Sampling { temperature: 0.0, ..all }), [0.0, 1.0, 0.0, 0.0, 0.0]);
        near(frequencies(Sampling { temperature: 1e-30, ..all }), [0.0, 1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn every_tier_chooses_the_same() {
        let logits: Vec<f32> = (0..257).map(|i| ((i * 7919 % 263) as f32 - 130.0) * 0.03).collect();
        let chosen = |tier| {
            let sampling = Sampling { temperature: 0.8, top_k: Some(200), top_p: 0.95, seed: 5 };
            let run = || {
                let mut sampler = Sampler::new(sampling).unwrap();
                (0..500).map(|_| sampler.choose(&logits).unwrap()).collect::<Vec<_>>()
            };
            hotlanes::with_tier(tier, run).unwrap()
        };
        // A build for one CPU has but one.
        let want = chosen(hotlanes::Tier::available().next().expect("the tier in use"));
        assert!(hotlanes::Tier::available().all(|tier| chosen(tier) == want));
        assert!(want.windows(2).any(|w| w[0] != w[1]));
    }

    #[test]
    fn wrong_settings_and_logits_are_told() {
        let told = |sampling| Sampler::new(sampling).unwrap_err().to_string();
        let fine = Sampling::default();
        assert_eq!(
            told(Sampling { temperature: -1.0, ..fine }),
            "temperature = -1: must be finite, at least 0"
        );
        assert!(told(Sampling { temperature: f32::NAN, ..fine }).starts_with("temperature = NaN"));
        assert_eq!(told(Sampling { top_k: Some(0), ..fine }), "top-k = 0: must be at least 1");
        assert!(told(Sampling { top_p: 0.0, ..fine }).ends_with("above 0 and at most 1"));
        assert!(told(Sampling { top_p: 1.5, ..fine }).starts_with("top-p = 1.5"));
        let mut sampler = Sampler::new(fine).unwrap();
        let error = sampler.choose(&[0.0, f32::NAN]).unwrap_err().to_string();
        assert!(error.starts_with("the logit of token 1 is NaN: must be finite"), "{error}");
    }
}
