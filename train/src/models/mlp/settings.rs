//! What a run depends on beside its data, and the rules of it.

use hotlanes::activation::Activation;
use hotlanes::adamw::{AdamW, AdamWConfig};
use hotlanes::dropout::Dropout;
use hotlanes::loss::Huber;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::schedule::Schedule;
use crate::shell::memory;
use crate::shell::settings::{self, SettingError, number};

/// The activation of the hidden layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// x sigmoid(x), also known as Swish.
    #[default]
    Silu,
    /// max(x, 0).
    Relu,
    /// x Phi(x), by the error function.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Act {
    /// The kernel.
    pub fn kernel(self) -> Activation {
        match self {
            Act::Silu => Activation::Silu,
            Act::Relu => Activation::Relu,
            Act::Gelu => Activation::GeluErf,
            Act::Tanh => Activation::Tanh,
        }
    }
}

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// The mean squared error.
    Mse,
    /// The mean absolute error.
    L1,
    /// Squared up to --delta, absolute beyond.
    Huber,
    /// Binary cross-entropy of one logit, for two classes.
    Bce,
    /// Cross-entropy of a logit for each class.
    CrossEntropy,
}

impl LossKind {
    /// Whether targets are classes.
    pub fn classifies(self) -> bool {
        matches!(self, LossKind::Bce | LossKind::CrossEntropy)
    }

    /// The one for numbers (no classes), or for so many classes.
    pub fn for_classes(classes: Option<usize>) -> Self {
        match classes {
            None => LossKind::Mse,
            Some(2) => LossKind::Bce,
            Some(_) => LossKind::CrossEntropy,
        }
    }

    /// Outputs of the model, of so many classes.
    pub fn outputs(self, classes: Option<usize>) -> usize {
        match (self, classes) {
            (LossKind::CrossEntropy, Some(classes)) => classes,
            _ => 1,
        }
    }
}

/// A run's settings. With the data they decide every bit of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Sizes of the hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Act,
    /// Share of the hidden values that are dropped in training.
    pub dropout: f64,
    /// The loss; by the target if `None`.
    pub loss: Option<LossKind>,
    /// Where the Huber loss turns from squared to absolute, in standard deviations of the target.
    pub delta: f64,
    /// Rows of a step.
    pub batch: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// The learning rate from the cosine's end on.
    pub min_lr: f64,
    /// Epochs of warm-up.
    pub warmup: u64,
    /// The epoch at which the cosine ends.
    pub decay: u64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's weight decay, of all parameters.
    pub weight_decay: f64,
    /// Epochs from one evaluation to the next.
    pub eval_every: u64,
    /// Stop after this many evaluations in a row without a better validation loss; 0 never does.
    pub patience: u64,
    /// All randomness but that of the rows that the program draws.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hidden: vec![64, 64, 64],
            activation: Act::Silu,
            dropout: 0.0,
            loss: None,
            delta: 1.0,
            batch: 256,
            lr: 0.01,
            min_lr: 0.0,
            warmup: 2,
            decay: EPOCHS,
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.01,
            eval_every: 1,
            patience: 20,
            seed: 1,
        }
    }
}

/// Epochs of a run, unless told otherwise.
pub const EPOCHS: u64 = 200;

/// Values of a batch at most: rows by the widest layer.
const MOST_VALUES: usize = 1 << 30;
/// Values of a layer's weights at most, and of all layers' together.
const MOST_PARAMETERS: usize = 1 << 32;
/// Hidden layers at most.
const MOST_LAYERS: usize = 1000;
/// Epochs at most: with at most 2^32 rows, steps fit in a checkpoint's numbers.
pub const MOST_EPOCHS: u64 = 1 << 20;

impl Settings {
    /// Checks what can be checked without the data.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self) -> Result<(), SettingError> {
        self.check_widths(1, 1)?;
        let &Settings { lr, min_lr, warmup, decay, batch, .. } = self;
        settings::count("batch", batch as u64, u32::MAX.into())?;
        Dropout::new(self.dropout, 0).map_err(|e| SettingError::new("dropout", number(e.value), e.rule))?;
        Huber::new(self.delta)?;
        settings::count("eval-every", self.eval_every, MOST_EPOCHS)?;
        settings::at_most("warmup", warmup, MOST_EPOCHS)?;
        settings::at_most("decay-epochs", decay, MOST_EPOCHS)?;
        settings::check(lr.is_finite() && lr >= 0.0, "lr", number(lr), "must be finite, at least 0")?;
        let range = || format!("must be from 0 to lr, {}", number(lr));
        settings::check((0.0..=lr).contains(&min_lr), "min-lr", number(min_lr), range())?;
        let least = || format!("must be at least warmup, {warmup}");
        settings::check(decay >= warmup, "decay-epochs", decay, least())?;
        // Rounding may take the cosine's first rate a little over `lr`.
        for lr in [lr, self.schedule(1).at(warmup)] {
            self.optimizer(lr)?;
        }
        Ok(())
    }

    /// Checks the layers of a model of so many features and outputs.
    ///
    /// # Errors
    /// Names the hidden layers and the rule.
    pub fn check_widths(&self, inputs: usize, outputs: usize) -> Result<(), SettingError> {
        let hidden = || self.hidden.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let check = |holds, rule: String| settings::check(holds, "hidden", hidden(), rule);
        check(!self.hidden.contains(&0), "every layer has at least 1 node".into())?;
        check(self.hidden.len() <= MOST_LAYERS, format!("must be at most {MOST_LAYERS} layers"))?;
        let widths: Vec<usize> = [inputs].iter().chain(&self.hidden).chain(&[outputs]).copied().collect();
        let parameters = widths.windows(2).try_fold(0_usize, |sum, w| {
            w[0].checked_add(1)?.checked_mul(w[1])?.checked_add(sum).filter(|&n| n <= MOST_PARAMETERS)
        });
        check(
            parameters.is_some(),
            format!("with {inputs} features there may be {MOST_PARAMETERS} parameters"),
        )?;
        let widest = widths.into_iter().max().unwrap_or(1).max(1);
        let most = (MOST_VALUES / widest).max(1);
        let rule = || format!("must be at most {most}, 2^30 values of the widest layer");
        settings::check(self.batch <= most, "batch", self.batch, rule())
    }

    /// Checks that there is memory for a model and `rows` rows of data.
    ///
    /// # Errors
    /// Names the batch, and both amounts.
    pub fn check_memory(&self, layout: &Layout, rows: usize) -> Result<(), SettingError> {
        let need = super::engine::memory_needed(layout, self.batch).total()
            + 4.0 * rows as f64 * (layout.inputs() + 1) as f64;
        memory::check("batch", self.batch, "model", need)
    }

    /// The learning rate by steps, of which an epoch has `steps`.
    pub fn schedule(&self, steps: u64) -> Schedule {
        let Settings { lr, min_lr, warmup, decay, .. } = *self;
        Schedule { lr, min_lr, warmup: warmup.saturating_mul(steps), decay: decay.saturating_mul(steps) }
    }

    /// The optimizer.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn optimizer(&self, lr: f64) -> Result<AdamW, SettingError> {
        let Settings { beta1, beta2, weight_decay, .. } = *self;
        Ok(AdamW::new(AdamWConfig { lr, beta1, beta2, weight_decay, ..AdamWConfig::default() })?)
    }
}
