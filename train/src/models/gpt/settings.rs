//! What a run depends on beside its text, and the configurations that have a name.

use hotlanes::adamw::{AdamW, AdamWConfig};
use hotlanes::clip::{Clip, ClipConfig};
use serde::{Deserialize, Serialize};

use super::config::{Act, Config, Norm};
use super::engine::{Optim, chunks};
use super::weights::packs;
use crate::schedule::Schedule;
use crate::shell::memory;
use crate::shell::settings::{self, SettingError, number};

/// A run's settings. With the text they decide every bit of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The model.
    pub model: Config,
    /// Windows of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step, whose gradients are added.
    pub accumulate: usize,
    /// The learning rate.
    pub schedule: Schedule,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's weight decay, of matrices.
    pub weight_decay: f64,
    /// The largest norm of the gradient; 0 clips nothing.
    pub clip: f64,
    /// Steps from one evaluation to the next.
    pub eval_every: u64,
    /// Batches of an evaluation, spread evenly over the validation split.
    pub eval_batches: usize,
    /// Stop after so many evaluations in a row that are no better; 0 never does.
    pub patience: u64,
    /// Steps of whose losses a point of the curve is the mean.
    pub log_every: u64,
    /// All randomness but the text's.
    pub seed: u64,
}

/// Tokens of a micro-batch, of all ranks together.
const MOST_TOKENS: usize = 1 << 30;

/// Micro-batches of a step: their number has 20 bits in the dropout's counter. As many batches of an evaluation.
const MOST_BATCHES: u64 = 1 << 20;

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the first one that breaks a rule, its value and the rule.
    pub fn check(&self) -> Result<(), SettingError> {
        let Schedule { lr, min_lr, warmup, decay } = self.schedule;
        check_shape(&self.model, self.batch)?;
        let counts = [
            ("accumulate", self.accumulate as u64, MOST_BATCHES),
            ("eval-batches", self.eval_batches as u64, MOST_BATCHES),
            ("eval-every", self.eval_every, u64::MAX),
            ("log-every", self.log_every, u64::MAX),
        ];
        counts.into_iter().try_for_each(|(name, value, most)| settings::count(name, value, most))?;
        settings::check(lr.is_finite() && lr >= 0.0, "lr", number(lr), "must be finite, at least 0")?;
        let range = || format!("must be from 0 to lr, {}", number(lr));
        settings::check((0.0..=lr).contains(&min_lr), "min-lr", number(min_lr), range())?;
        let least = || format!("must be at least warmup, {warmup}");
        settings::check(decay >= warmup, "decay-steps", decay, least())?;
        let rule = "must be finite, at least 0 (which clips nothing)";
        settings::check(self.clip.is_finite() && self.clip >= 0.0, "clip", number(self.clip), rule)?;
        // The optimizer takes the rate of each step. Rounding may take the cosine's first rate a little over `lr`.
        let Optim { beta1, beta2, eps, weight_decay, clip } = self.optim();
        for lr in [lr, self.schedule.at(warmup)] {
            AdamW::new(AdamWConfig { lr, beta1, beta2, eps, weight_decay, ..AdamWConfig::default() })?;
        }
        Clip::new(ClipConfig { max_norm: clip, grad_scale: 1.0 })?;
        Ok(())
    }

    /// Checks that one of `ranks` processes has the memory that it needs.
    ///
    /// # Errors
    /// Names the batch, and both amounts.
    pub fn check_memory(&self, ranks: usize) -> Result<(), SettingError> {
        check_memory(&self.model, self.batch, ranks)
    }

    /// The optimizer's settings.
    pub fn optim(&self) -> Optim {
        let Settings { beta1, beta2, weight_decay, clip, .. } = *self;
        let clip = if clip == 0.0 { f64::INFINITY } else { clip };
        Optim { beta1, beta2, eps: 1e-8, weight_decay, clip }
    }

    /// Tokens that a step learns from.
    pub fn tokens(&self) -> usize {
        self.batch * self.accumulate * self.model.block
    }
}

/// Checks a model and the batches that it sees.
///
/// # Errors
/// Names the first setting that breaks a rule, its value and the rule.
pub fn check_shape(model: &Config, batch: usize) -> Result<(), SettingError> {
    model.check()?;
    let most = MOST_TOKENS / model.block;
    settings::check(batch > 0, "batch", batch, "must be at least 1")?;
    settings::check(batch <= most, "batch", batch, format!("must be at most {most}, 2^30 tokens"))
}

/// Checks that one of `ranks` processes has the memory to train a model whose shape was checked.
///
/// # Errors
/// Names the batch, and both amounts.
pub fn check_memory(model: &Config, batch: usize, ranks: usize) -> Result<(), SettingError> {
    memory::check("batch", batch, "model", memory_needed(model, batch, ranks))
}

/// Bytes that one of `ranks` processes needs, about: the activations that each token of its share of a micro-batch
/// keeps for the backward pass, and some copies of the parameters, among them a gradient for each chunk, and the sum of
/// several.
pub(super) fn memory_needed(model: &Config, batch: usize, ranks: usize) -> f64 {
    let [layers, heads, dim, block, vocab, hidden] =
        [model.layers, model.heads, model.dim, model.block, model.vocab, model.hidden()].map(|n| n as f64);
    let token = layers * (8.0 * dim + hidden + heads) + 8.0 * dim + 2.0 * hidden + vocab;
    let share = batch as f64 * block / ranks as f64;
    let own = chunks(model, batch, model.block) / ranks;
    let packed = if packs(model, batch * model.block) { 2 } else { 0 };
    let copies = 3 + packed + own + usize::from(own > 1);
    4.0 * (share * token + copies as f64 * model.parameters() as f64)
}

/// A configuration with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// 4 layers, 8 heads, 128 wide, RMSNorm, squared ReLU; batches of 32 windows of 64 tokens; 1000 steps.
    #[default]
    #[value(alias = "seed")]
    Base,
    /// nanoGPT's recipe for CPUs: 4 layers, 4 heads, 128 wide, LayerNorm, GELU, tied; batches of 12 windows of 64; 2000
    /// steps.
    Nanogpt,
    /// 2 layers, 2 heads, 32 wide; batches of 8 windows of 32; 300 steps: seconds.
    Tiny,
}

impl Preset {
    /// Its settings, the vocabulary left out, and its steps.
    pub fn settings(self) -> (Settings, u64) {
        let model = Config {
            layers: 4,
            heads: 8,
            dim: 128,
            block: 64,
            vocab: 0,
            norm: Norm::RmsNorm,
            act: Act::SquaredRelu,
            tied: false,
            bias: false,
            bf16: false,
            dropout: 0.0,
        };
        let base = |steps| Settings {
            model: model.clone(),
            batch: 32,
            accumulate: 1,
            schedule: Schedule { lr: 1e-3, min_lr: 1e-4, warmup: 100, decay: steps },
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.1,
            clip: 1.0,
            eval_every: 100,
            eval_batches: 20,
            patience: 0,
            log_every: 10,
            seed: 1,
        };
        match self {
            Preset::Base => (base(1000), 1000),
            Preset::Nanogpt => {
                let mut settings = base(2000);
                let (norm, act) = (Norm::LayerNorm, Act::Gelu);
                settings.model = Config { heads: 4, norm, act, tied: true, ..model };
                (Settings { batch: 12, eval_every: 250, ..settings }, 2000)
            }
            Preset::Tiny => {
                let mut settings = base(300);
                settings.model = Config { layers: 2, heads: 2, dim: 32, block: 32, ..model };
                settings.schedule = Schedule { lr: 4e-3, min_lr: 4e-4, warmup: 20, decay: 300 };
                (Settings { batch: 8, eval_every: 50, ..settings }, 300)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn presets_are_valid_and_the_rules_are_told() {
        for preset in Preset::value_variants() {
            let (mut settings, steps) = preset.settings();
            assert_eq!(settings.schedule.decay, steps);
            settings.model.vocab = 65;
            settings.check().unwrap();
            let json = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        }
        let told = |change: fn(&mut Settings)| {
            let mut settings = Preset::Base.settings().0;
            settings.model.vocab = 65;
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert_eq!(told(|s| s.batch = 0), "batch = 0: must be at least 1");
        let mut settings = Preset::Base.settings().0;
        settings.model.vocab = 65;
        settings.check_memory(1).unwrap();
        settings.batch = 1 << 24;
        settings.check().unwrap();
        let told_memory = settings.check_memory(1).map_err(|e| e.to_string());
        if memory::available().is_some() {
            assert!(told_memory.unwrap_err().starts_with("batch = 16777216: this model would need about "));
            settings.check_memory(1 << 20).unwrap();
        }
        assert_eq!(told(|s| s.accumulate = (1 << 20) + 1), "accumulate = 1048577: must be at most 1048576");
        assert_eq!(told(|s| s.schedule.lr = f64::NAN), "lr = NaN: must be finite, at least 0");
        assert_eq!(told(|s| s.schedule.lr = 1e31), "lr = 1e31: must be at least 0 and at most 1e30");
        assert_eq!(told(|s| s.schedule.min_lr = 0.5), "min-lr = 0.5: must be from 0 to lr, 0.001");
        assert_eq!(told(|s| s.schedule.decay = 99), "decay-steps = 99: must be at least warmup, 100");
        assert!(told(|s| s.clip = f64::INFINITY).starts_with("clip = inf: must be finite"));
        assert!(told(|s| s.model.heads = 3).starts_with("dim = 128: must be a multiple of heads, 3"));
    }
}
