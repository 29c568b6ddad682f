//! A run without its files: epochs of steps, evaluations, and their history.

use std::time::{Duration, Instant};

use hotlanes::reduce;
use serde::{Deserialize, Serialize};

use super::data::{Data, targets};
use super::engine::{Engine, Model};
use super::head::Targets;
use super::layout::Layout;
use super::metrics::Metrics;
use super::settings::{LossKind, Settings};
use crate::data::table::Part;
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::shell::profile::{Work, bytes, op, phase};
use crate::shell::settings::SettingError;
use hotlanes::AlignedVec;

/// Purpose of the random numbers.
const ORDER: u64 = 0x6d6c_7002;

/// Rows that are evaluated at a time: their values stay in the L2 cache.
const TILE: usize = 1024;

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Epochs done.
    pub epoch: u64,
    /// The mean loss.
    pub loss: f64,
}

/// Training history, determined by settings and data: with the engine's state, all that a run resumes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Steps done.
    pub step: u64,
    /// The sum of the losses of this epoch's rows so far, each from before its step.
    pub pending: f64,
    /// Their mean over the last whole epoch.
    pub training: Option<Point>,
    /// The last evaluation.
    pub validation: Option<Point>,
    /// The best one, but for the one before the first step.
    pub best: Option<Point>,
    /// Evaluations since.
    pub since_best: u64,
}

/// Why a run cannot go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("epoch {epoch}: {what} is {value}: must be finite; a lower --lr or a longer --warmup may help")]
pub struct Diverged {
    epoch: u64,
    what: &'static str,
    value: f64,
}

/// How long a run spent on what.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) train: Duration,
    pub(super) evaluate: Duration,
}

/// A model in training, with its data.
pub struct Run<'a> {
    pub(super) settings: Settings,
    pub(super) data: &'a Data,
    loss: LossKind,
    /// The model.
    pub engine: Engine,
    /// Training history.
    pub history: History,
    /// The parameters of `history.best`.
    pub(super) best: AlignedVec,
    /// Steps of an epoch.
    steps: u64,
    schedule: Schedule,
    /// The order of an epoch's rows.
    order: Vec<u32>,
    ordered: Option<u64>,
    batch: Batch,
    rooms: [AlignedVec; 2],
    outputs: Vec<f32>,
    losses: Vec<f32>,
    pub(super) times: Times,
    /// Rows learnt from since this run was made or resumed.
    pub(super) learnt: u64,
    /// Metrics of the last evaluation.
    pub(super) metrics: Option<Metrics>,
    /// Of the best model, on validation and test.
    pub(super) finals: Option<(Metrics, Option<Metrics>)>,
    pub(super) told: Option<Instant>,
}

/// Rows side by side.
#[derive(Default)]
struct Batch {
    x: AlignedVec,
    numbers: Vec<f32>,
    classes: Vec<u32>,
}

impl Batch {
    fn gather(&mut self, part: &Part, features: usize, rows: &[u32]) {
        let Batch { x, numbers, classes } = self;
        x.resize_for_overwrite(rows.len() * features);
        for (to, &row) in x.chunks_exact_mut(features.max(1)).zip(rows) {
            to.copy_from_slice(&part.features[row as usize * features..][..features]);
        }
        numbers.clear();
        classes.clear();
        if part.labels.is_empty() {
            numbers.extend(rows.iter().map(|&row| part.targets[row as usize]));
        } else {
            classes.extend(rows.iter().map(|&row| part.labels[row as usize]));
        }
    }

    fn targets(&self) -> Targets<'_> {
        if self.classes.is_empty() {
            Targets::Numbers(&self.numbers)
        } else {
            Targets::Classes(&self.classes)
        }
    }
}

impl<'a> Run<'a> {
    /// A run from its beginning.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn new(settings: Settings, data: &'a Data) -> Result<Self, SettingError> {
        settings.check()?;
        let loss = settings.loss.unwrap_or_else(|| LossKind::for_classes(data.classes()));
        let (inputs, outputs) = (data.schema.features(), loss.outputs(data.classes()));
        settings.check_widths(inputs, outputs)?;
        let layout = Layout::new(inputs, &settings.hidden, outputs, settings.dropout > 0.0);
        settings.check_memory(&layout, data.rows())?;
        let rows = data.train.rows;
        let steps = rows.div_ceil(settings.batch) as u64;
        let mut rooms = [AlignedVec::default(), AlignedVec::default()];
        rooms.iter_mut().for_each(|room| room.resize_for_overwrite(TILE * layout.widest()));
        let tested = data.validation.rows.max(data.test.rows);
        Ok(Run {
            engine: Engine::new(layout, &settings, loss)?,
            schedule: settings.schedule(steps),
            data,
            loss,
            history: History::default(),
            best: AlignedVec::default(),
            steps,
            order: (0..rows as u32).collect(),
            ordered: None,
            batch: Batch::default(),
            rooms,
            outputs: vec![0.0; tested * outputs],
            losses: vec![0.0; tested],
            times: Times::default(),
            learnt: 0,
            metrics: None,
            finals: None,
            told: None,
            settings,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The loss.
    pub fn loss(&self) -> LossKind {
        self.loss
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps
    }

    /// Epochs done.
    pub fn epoch(&self) -> u64 {
        self.history.step / self.steps
    }

    /// Bytes of the buffers of an evaluation, and of a batch.
    pub(super) fn rooms_bytes(&self) -> f64 {
        self.rooms.iter().map(|room| bytes(room)).sum::<f64>() + bytes(&self.outputs) + bytes(&self.losses)
    }

    pub(super) fn batch_bytes(&self) -> f64 {
        let Batch { x, numbers, classes } = &self.batch;
        bytes(x) + bytes(numbers) + bytes(classes) + bytes(&self.order)
    }

    /// Changes the schedule, of which the steps to come are made.
    pub(super) fn reschedule(&mut self) {
        self.schedule = self.settings.schedule(self.steps);
    }

    /// One step. A function of settings, data and the state before it: of nothing else.
    ///
    /// # Errors
    /// The loss, or at an epoch's end a parameter, is not finite.
    pub fn advance(&mut self) -> Result<(), Diverged> {
        let started = Instant::now();
        let Run { settings, data, engine, history, order, batch, .. } = self;
        let (step, epoch, rows) = (history.step, history.step / self.steps, data.train.rows);
        if self.ordered != Some(epoch) {
            op!("order of rows", None, [rows, 0, 0], Work::of_values(0, 2 * rows) => {
                order.iter_mut().zip(0..).for_each(|(row, i)| *row = i);
                Rng::new(settings.seed, ORDER, epoch, 0).shuffle(order);
            });
            self.ordered = Some(epoch);
        }
        let first = (step % self.steps) as usize * settings.batch;
        let own = &order[first..rows.min(first + settings.batch)];
        let features = data.schema.features();
        op!("rows of the batch", None, [own.len(), features, 0], Work::of_values(0, 2 * own.len() * features) => {
            batch.gather(&data.train, features, own);
        });
        let loss = engine.gradients(&batch.x, batch.targets());
        if !loss.is_finite() {
            return Err(Diverged { epoch, what: "the training loss", value: loss });
        }
        engine.step(self.schedule.at(step));
        history.step += 1;
        history.pending += loss * own.len() as f64;
        self.learnt += own.len() as u64;
        if history.step.is_multiple_of(self.steps) {
            let epoch = epoch + 1;
            history.training = Some(Point { epoch, loss: history.pending / rows as f64 });
            history.pending = 0.0;
            let norm = f64::from(reduce::norm(engine.params()));
            if !norm.is_finite() {
                return Err(Diverged { epoch, what: "the norm of the parameters", value: norm });
            }
        }
        self.times.train += started.elapsed();
        Ok(())
    }

    /// Whether an evaluation is due that has not been.
    pub fn is_due(&self) -> bool {
        let History { step, validation, .. } = &self.history;
        let epoch = step / self.steps;
        step.is_multiple_of(self.steps)
            && epoch.is_multiple_of(self.settings.eval_every)
            && validation.is_none_or(|point| point.epoch < epoch)
    }

    /// Evaluates the model on the validation rows, and keeps it if it is the best so far, which is returned.
    ///
    /// # Errors
    /// The loss is not finite.
    pub fn evaluate(&mut self) -> Result<bool, Diverged> {
        let started = Instant::now();
        let epoch = self.epoch();
        let data = self.data;
        let (loss, metrics) = phase!("evaluation" => self.measure(&data.validation, None));
        if !loss.is_finite() {
            return Err(Diverged { epoch, what: "the validation loss", value: loss });
        }
        self.metrics = Some(metrics);
        let History { validation, best, since_best, .. } = &mut self.history;
        let point = Point { epoch, loss };
        *validation = Some(point);
        let is_best = epoch > 0 && best.is_none_or(|b| loss < b.loss);
        if is_best {
            *best = Some(point);
            self.best.resize_for_overwrite(self.engine.params().len());
            self.best.copy_from_slice(self.engine.params());
        }
        *since_best = if is_best || epoch == 0 { 0 } else { *since_best + 1 };
        self.times.evaluate += started.elapsed();
        Ok(is_best)
    }

    /// Metrics of the best model, or of this one if none was, on validation and test rows, if there are any.
    pub(super) fn test(&mut self) -> (Metrics, Option<Metrics>) {
        let best = std::mem::take(&mut self.best);
        let params = self.history.best.is_some().then_some(&*best);
        let data = self.data;
        let validation = self.measure(&data.validation, params).1;
        let test = (data.test.rows > 0).then(|| self.measure(&data.test, params).1);
        self.best = best;
        (validation, test)
    }

    /// The mean loss and the metrics of some rows, with these parameters, or the engine's.
    fn measure(&mut self, part: &Part, params: Option<&[f32]>) -> (f64, Metrics) {
        let Run { engine, rooms, outputs, losses, .. } = self;
        let (layout, rows) = (engine.layout(), part.rows);
        let (inputs, width) = (layout.inputs(), layout.outputs());
        let activation = self.settings.activation.kernel();
        let model = Model { layout, params: params.unwrap_or(engine.params()), activation };
        let outputs = &mut outputs[..rows * width];
        for (i, out) in outputs.chunks_mut(TILE * width).enumerate() {
            let rows = out.len() / width;
            model.outputs(&part.features[i * TILE * inputs..][..rows * inputs], rows, rooms, out);
        }
        let targets = targets(part);
        let loss = engine.head().loss(outputs, targets, &mut losses[..rows]) / rows as f64;
        let metrics = match (&self.data.target, targets) {
            (Some(scale), Targets::Numbers(targets)) => Metrics::of_numbers(outputs, targets, scale),
            _ => Metrics::of_classes(outputs, targets, loss),
        };
        (loss, metrics)
    }

    /// Continues from a state.
    pub(super) fn restore_state(&mut self, history: History, best: Option<AlignedVec>) {
        self.history = history;
        self.best = best.unwrap_or_default();
        self.ordered = None;
    }
}
