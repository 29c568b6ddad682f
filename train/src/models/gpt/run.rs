//! A run without its files: steps, evaluations, and their history.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::batch::{At, Batch, covering, spread};
use super::engine::{Engine, EngineError};
use super::params;
use super::settings::Settings;
use super::state::Values;
use crate::data::text::Corpus;
use crate::shell::profile::{Work, bytes, op};
use crate::shell::ranks::{self, Ranks};
use crate::shell::settings::SettingError;

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// The loss, in nats per token.
    pub loss: f64,
}

/// Training history, determined by settings and text: with the engine's state, all that a run resumes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Steps done.
    pub step: u64,
    /// Those of them whose gradient was not finite, which changed nothing.
    pub skipped: u64,
    /// How many of the last steps were such, without one between that was not.
    pub skipped_in_row: u64,
    /// The sum of the losses since the last mean, and of how many steps.
    pub pending: (f64, u64),
    /// The last mean of training losses, each batch's from before its step.
    pub training: Option<Point>,
    /// The last evaluation.
    pub validation: Option<Point>,
    /// The best one, but for the one before the first step.
    pub best: Option<Point>,
    /// Evaluations since.
    pub since_best: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// The mean loss of its batches, before it.
    pub loss: f64,
    /// The mean loss of the steps since the last mean, where it is due.
    pub mean: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient, before clipping.
    pub norm: f64,
    /// What the gradient was multiplied by.
    pub clip: f64,
    /// Whether the gradient was not finite, and left out.
    pub skipped: bool,
}

/// Why a run cannot begin or go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The loss is no number any more.
    #[error(
        "step {step}: the {what} loss is {loss}: must be finite; a lower --lr, a longer --warmup or --clip may help"
    )]
    Diverged {
        /// Steps done.
        step: u64,
        /// Of training or validation.
        what: &'static str,
        /// The loss.
        loss: f64,
    },
    /// The gradient is no number any more.
    #[error(
        "step {0}: no gradient of the last {MOST_SKIPPED} steps was finite; a lower --lr, a longer --warmup or --clip may help"
    )]
    Stuck(u64),
}

/// So many steps without a finite gradient end a run.
const MOST_SKIPPED: u64 = 10;

/// How long a run spent on what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Steps.
    pub train: Duration,
    /// Evaluations.
    pub evaluate: Duration,
}

/// A model in training, with its text.
pub struct Run<'a> {
    pub(super) settings: Settings,
    corpus: &'a Corpus,
    ranks: &'a dyn Ranks,
    /// The model.
    pub engine: Engine,
    /// Training history.
    pub history: History,
    /// Since this run was made or resumed.
    pub times: Times,
    /// Steps done when it was made or resumed.
    pub(super) from: u64,
    /// The loss over the whole validation split: of the last model, and of the best.
    pub(super) whole: Option<(f64, Option<f64>)>,
    batch: Batch,
    losses: Vec<u64>,
    scratch: Vec<f32>,
}

impl<'a> Run<'a> {
    /// A run from its beginning.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn new(settings: Settings, corpus: &'a Corpus, ranks: &'a dyn Ranks) -> Result<Self, RunError> {
        settings.check()?;
        settings.check_memory(ranks.size())?;
        let params = params::init(&settings.model, settings.seed);
        let Settings { batch, model, .. } = &settings;
        let rank = (ranks.rank(), ranks.size());
        let engine = Engine::for_rank(model.clone(), settings.optim(), *batch, model.block, rank, params)?;
        Ok(Run {
            settings,
            corpus,
            ranks,
            engine,
            history: History::default(),
            times: Times::default(),
            from: 0,
            whole: None,
            batch: Batch::default(),
            losses: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Continues from a state.
    pub fn restore_state(&mut self, values: &Values, optimizer_steps: u64, history: History) {
        self.engine.restore(&values.params, &values.m, &values.v, optimizer_steps);
        self.from = history.step;
        self.history = history;
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The text.
    pub fn corpus(&self) -> &'a Corpus {
        self.corpus
    }

    /// The processes.
    pub fn ranks(&self) -> &'a dyn Ranks {
        self.ranks
    }

    /// One step. A function of settings, text and the state before it: of nothing else.
    ///
    /// # Errors
    /// The loss is not finite, or no gradient for a while.
    pub fn advance(&mut self) -> Result<Step, RunError> {
        let started = Instant::now();
        let Settings { accumulate, seed, schedule, .. } = self.settings;
        let block = self.settings.model.block;
        let step = self.history.step;
        let rows = self.engine.sequences();
        let mut sum = 0.0;
        for micro in 0..accumulate {
            let (at, values) = (At { seed, step, micro }, rows.len() * block);
            op!("windows of the text", None, [rows.len(), block, 0], Work::of_values(0, 3 * values) => {
                self.batch.draw(&self.corpus.train, block, at, rows.clone());
            });
            self.engine.gradients(&self.batch.tokens, &self.batch.targets, micro, accumulate)?;
            sum += self.loss_of_all();
        }
        let loss = sum / accumulate as f64;
        if !loss.is_finite() {
            return Err(RunError::Diverged { step, what: "training", loss });
        }
        let lr = schedule.at(step);
        let outcome = if self.ranks.size() == 1 {
            self.engine.step(lr)
        } else {
            let gradient = self.engine.local_gradient();
            let n = gradient.len();
            op!("sum over ranks", None, [n, self.ranks.size(), 0], Work::of_values(n, 3 * n) => {
                ranks::sum(self.ranks, gradient, &mut self.scratch);
            });
            self.engine.step_with(lr)
        };
        let History { step, skipped, skipped_in_row, pending, training, .. } = &mut self.history;
        let mut mean = None;
        *step += 1;
        *skipped += u64::from(outcome.skipped);
        *skipped_in_row = if outcome.skipped { *skipped_in_row + 1 } else { 0 };
        if *skipped_in_row >= MOST_SKIPPED {
            return Err(RunError::Stuck(*step));
        }
        *pending = (pending.0 + loss, pending.1 + 1);
        if step.is_multiple_of(self.settings.log_every) {
            let loss = pending.0 / pending.1 as f64;
            mean = Some(loss);
            *training = Some(Point { step: *step, loss });
            *pending = (0.0, 0);
        }
        self.times.train += started.elapsed();
        let (clip, skipped) = (outcome.clip_factor, outcome.skipped);
        Ok(Step { step: *step, loss, mean, lr, norm: outcome.norm, clip, skipped })
    }

    /// Bytes of the last batch.
    pub(super) fn batch_bytes(&self) -> f64 {
        bytes(&self.batch.tokens) + bytes(&self.batch.targets)
    }

    /// The mean loss of the last batch over all ranks.
    fn loss_of_all(&mut self) -> f64 {
        self.losses.resize(self.ranks.size(), 0);
        self.ranks.gather(&[self.engine.loss_sum().to_bits()], &mut self.losses);
        let tokens = self.settings.batch * self.settings.model.block;
        tree(&self.losses) / tokens as f64
    }

    /// Whether an evaluation is due that has not been.
    pub fn is_due(&self) -> bool {
        let History { step, validation, .. } = &self.history;
        step.is_multiple_of(self.settings.eval_every) && validation.is_none_or(|p| p.step < *step)
    }

    /// Evaluates by the run's fixed windows: the mean loss of `eval_batches` batches of windows that are spread evenly
    /// over the validation split, from its first token to its last. Returns whether it is the best so far.
    ///
    /// # Errors
    /// The loss is not finite.
    pub fn evaluate(&mut self) -> Result<bool, RunError> {
        let windows = self.settings.eval_batches * self.settings.batch;
        let loss = self.validate(windows, || false)?.expect("nobody stops it");
        let History { step, validation, best, since_best, .. } = &mut self.history;
        if !loss.is_finite() {
            return Err(RunError::Diverged { step: *step, what: "validation", loss });
        }
        let point = Point { step: *step, loss };
        *validation = Some(point);
        let is_best = *step > 0 && best.is_none_or(|b| loss < b.loss);
        if is_best {
            *best = Some(point);
        }
        *since_best = if is_best || *step == 0 { 0 } else { *since_best + 1 };
        Ok(is_best)
    }

    /// The mean loss over windows that cover the whole validation split, the least number of them that fills whole
    /// batches; some overlap by a few tokens. `None` if `stop` said so.
    ///
    /// # Errors
    /// Of the engine.
    pub fn validate_all(&mut self, stop: impl Fn() -> bool) -> Result<Option<f64>, RunError> {
        let Settings { batch, ref model, .. } = self.settings;
        self.validate(covering(self.corpus.validation.len(), model.block, batch), stop)
    }

    fn validate(&mut self, windows: usize, stop: impl Fn() -> bool) -> Result<Option<f64>, RunError> {
        let started = Instant::now();
        let Settings { batch, ref model, .. } = self.settings;
        let (block, text, rows) = (model.block, &self.corpus.validation, self.engine.sequences());
        let mut sum = 0.0;
        for first in (0..windows).step_by(batch) {
            if self.any(stop()) {
                return Ok(None);
            }
            let places = rows.clone().map(|row| spread(text.len(), block, windows, first + row));
            self.batch.fill(text, block, places);
            self.engine.loss(&self.batch.tokens, &self.batch.targets)?;
            sum += self.loss_of_all();
        }
        self.times.evaluate += started.elapsed();
        Ok(Some(sum / (windows / batch) as f64))
    }

    /// Calls `f` with other parameters, and puts these back.
    pub(super) fn with_params<R>(&mut self, params: &[f32], f: impl FnOnce(&mut Self) -> R) -> R {
        let own = self.engine.params().to_vec();
        self.engine.exchange_params(params);
        let result = f(self);
        self.engine.exchange_params(&own);
        result
    }

    /// Whether any rank says so.
    pub fn any(&mut self, flag: bool) -> bool {
        self.losses.resize(self.ranks.size(), 0);
        self.ranks.gather(&[flag.into()], &mut self.losses);
        self.losses.iter().any(|&f| f != 0)
    }
}

/// The sum of the ranks' losses, added as one process adds those of its chunks.
fn tree(losses: &[u64]) -> f64 {
    match losses {
        [one] => f64::from_bits(*one),
        _ => {
            let (a, b) = losses.split_at(losses.len() / 2);
            tree(a) + tree(b)
        }
    }
}
