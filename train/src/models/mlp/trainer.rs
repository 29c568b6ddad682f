//! A perceptron as a [`Trainer`].

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::data::{Data, Source};
use super::run::{Diverged, Point, Run};
use super::settings::{LossKind, Settings};
use super::state::{self, Best, Described, NAME, Snapshot};
use crate::data::csv::Task;
use crate::shell::error::Error;
use crate::shell::plot::{Axis, Legend, Plot, Series};
use crate::shell::profile::{Memory, bytes};
use crate::shell::ranks::Ranks;
use crate::shell::settings::SettingError;
use crate::shell::trainer::{self, Event, Position, Trainer};
use crate::shell::verify::FINAL;
use crate::store::checkpoint::{CheckpointError, Saved, Stored};
use crate::store::tensors::{Named, Tensors};

/// From one line of an evaluation on the terminal to the next, at least: small models have hundreds of them a second.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Everything that decides the bits of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The settings.
    pub settings: Settings,
    /// Where the rows come from.
    pub source: Source,
}

/// The settings that may change in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Tunable {
    eval_every: u64,
    decay: u64,
    patience: u64,
}

impl From<Diverged> for Error {
    fn from(error: Diverged) -> Self {
        Error::Diverged(error.to_string())
    }
}

impl Recipe {
    /// Checks the loss, if it was chosen, for so many classes.
    fn check_loss(&self, classes: Option<usize>) -> Result<(), SettingError> {
        let Some(loss) = self.settings.loss else { return Ok(()) };
        let rule = match (loss, classes) {
            (_, None) if loss.classifies() => "needs classes: --task classification".into(),
            (_, Some(_)) if !loss.classifies() => {
                "must be bce or cross-entropy for --task classification".into()
            }
            (LossKind::Bce, Some(n)) if n > 2 => format!("must be cross-entropy for {n} classes"),
            _ => return Ok(()),
        };
        let name =
            clap::ValueEnum::to_possible_value(&loss).map_or(String::new(), |v| v.get_name().to_owned());
        Err(SettingError::new("loss", name, rule))
    }
}

impl trainer::Recipe for Recipe {
    const KIND: &'static str = NAME;
    const POSITION: &'static str = "step";

    type Data = Data;
    type Trainer<'a> = Run<'a>;

    fn check(&self) -> Result<(), Error> {
        self.settings.check()?;
        self.source.check()?;
        let classes = (self.source.columns.task == Task::Classification).then_some(2);
        Ok(self.check_loss(classes)?)
    }

    fn load(&mut self) -> Result<Data, Error> {
        self.check()?;
        let mut data = self.source.load(self.settings.seed)?;
        self.check_loss(data.classes())?;
        let loss = *self.settings.loss.get_or_insert(LossKind::for_classes(data.classes()));
        if loss == LossKind::Bce {
            data.number_classes();
        }
        Ok(data)
    }

    fn identify(data: &Data) -> (String, String) {
        (data.name.clone(), format!("{:016x}", data.hash))
    }

    fn trainer<'a>(&self, data: &'a Data, _: &'a dyn Ranks) -> Result<Run<'a>, Error> {
        Ok(Run::new(self.settings.clone(), data)?)
    }

    fn tunable(&self) -> Value {
        let Settings { eval_every, decay, patience, .. } = self.settings;
        state::json(&Tunable { eval_every, decay, patience })
    }

    fn relocate(&mut self, data: &[PathBuf]) -> Result<(), Error> {
        let [file] = data else { return Err(Error::Usage("--data: one file".into())) };
        self.source.file = Some(file.clone());
        self.source = self.source.clone().absolute()?;
        Ok(())
    }
}

impl Trainer for Run<'_> {
    type Snapshot = Snapshot;

    fn position(&self) -> u64 {
        self.history.step
    }

    fn count(&self) -> u64 {
        self.epoch()
    }

    fn is_due(&self) -> bool {
        Run::is_due(self)
    }

    fn is_early(&self) -> bool {
        let patience = self.settings.patience;
        patience > 0 && self.history.since_best >= patience
    }

    fn advance(&mut self) -> Result<Option<Event>, Error> {
        if !Run::is_due(self) {
            Run::advance(self)?;
            return Ok(None);
        }
        let best = self.evaluate()?;
        let (epoch, step) = (self.epoch(), self.history.step);
        let validation = self.history.validation.map(|p| p.loss);
        let training = self.history.training.map(|p| p.loss);
        let metrics = self.metrics;
        let fields = json!({
            "step": step,
            "epoch": epoch,
            "training": training,
            "validation": validation,
            "metrics": metrics,
            "best": best,
        });
        let words = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY).then(|| {
            let loss =
                |name: &str, loss: Option<f64>| loss.map_or(String::new(), |l| format!("{name} {l:.6}  "));
            let metrics = metrics.map_or(String::new(), |m| m.words());
            let mark = if best { "(best) " } else { "       " };
            let losses = loss("training", training) + &loss("validation", validation);
            format!("epoch {epoch:5}  {losses}{metrics} {mark}")
        });
        if words.is_some() {
            self.told = Some(Instant::now());
        }
        Ok(Some(Event { words, hashed: true, best, ..Event::new("evaluation", &fields) }))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { history: self.history.clone() }
    }

    fn tensors(&self) -> Tensors<'_> {
        self.all_tensors()
    }

    fn restore(&mut self, snapshot: Snapshot, tensors: &Named<'_>) -> Result<(), CheckpointError> {
        self.take(snapshot, tensors)
    }

    fn tune(&mut self, settings: &Value) -> Result<(), Error> {
        let Tunable { eval_every, decay, patience } = serde_json::from_value(settings.clone())
            .map_err(|e| Error::Usage(format!("the log's settings {settings}: {e}")))?;
        let own = &mut self.settings;
        (own.eval_every, own.decay, own.patience) = (eval_every, decay, patience);
        self.settings.check()?;
        self.reschedule();
        Ok(())
    }

    fn model(&self) -> Value {
        state::json(&Described::new(&self.settings, self.loss(), self.data))
    }

    fn best(&self) -> Option<(Value, Tensors<'_>)> {
        let Point { epoch, loss } = self.history.best?;
        let best = state::json(&Best { epoch, validation: loss });
        Some((best, state::model_tensors(self.engine.layout(), &self.best)))
    }

    fn keeps_best(&self) -> bool {
        true
    }

    fn finish(
        &mut self,
        _: Option<(&Saved, &Stored)>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Event>, Error> {
        if stop() {
            return Ok(None);
        }
        let (validation, test) = self.test();
        self.finals = Some((validation, test));
        let (step, epoch) = (self.history.step, self.history.best.map(|p| p.epoch));
        let fields = json!({ "step": step, "best_epoch": epoch, "validation": validation, "test": test });
        Ok(Some(Event::new(FINAL, &fields)))
    }

    fn progress(&self, goal: u64) -> Position {
        Position { at: self.history.step, end: goal.saturating_mul(self.steps_per_epoch()), unit: "steps" }
    }

    fn describe(&self, goal: u64) -> Vec<String> {
        let (settings, data, layout) = (&self.settings, self.data, self.engine.layout());
        let widths: Vec<String> = [layout.inputs()]
            .iter()
            .chain(&settings.hidden)
            .chain(&[layout.outputs()])
            .map(usize::to_string)
            .collect();
        let mut lines = vec![
            format!("perceptron {}: {} parameters", widths.join("-"), layout.parameters()),
            format!(
                "{}: {} rows to train on, {} for validation, {} for the test",
                data.name, data.train.rows, data.validation.rows, data.test.rows
            ),
            format!(
                "epochs {} to {goal}, each of {} steps of {} rows",
                self.epoch(),
                self.steps_per_epoch(),
                settings.batch.min(data.train.rows)
            ),
        ];
        let skipped = &data.skipped;
        if skipped.count > 0 {
            lines.push(format!("{} bad rows were skipped; the first:", skipped.count));
            lines.extend(skipped.first.iter().map(|message| format!("  {message}")));
        }
        if data.target.is_some_and(|scale| scale.is_constant()) {
            lines.push("all targets of the training rows are equal: there is nothing to learn".into());
        }
        if layout.inputs() > data.train.rows {
            lines.push(format!(
                "there are more features ({}) than rows to train on ({}): the model can learn them by heart",
                layout.inputs(),
                data.train.rows
            ));
        }
        if goal > settings.decay && self.history.step > 0 {
            let (decay, lr) = (settings.decay, settings.min_lr);
            lines.push(format!(
                "the cosine ends with epoch {decay}: later epochs train at the lowest rate, {lr}; \
                --decay-epochs {goal} stretches it"
            ));
        }
        lines
    }

    fn memory(&self) -> f64 {
        self.memory_by_kind().total()
    }

    fn memory_by_kind(&self) -> Memory {
        let parts = [&self.data.train, &self.data.validation, &self.data.test];
        let of_part =
            |p: &&crate::data::table::Part| bytes(&p.features) + bytes(&p.targets) + bytes(&p.labels);
        let mut memory = self.engine.memory();
        memory.parameters += bytes(&self.best);
        memory.scratch += self.rooms_bytes();
        memory.data = parts.iter().map(of_part).sum::<f64>() + self.batch_bytes();
        memory
    }

    fn steps(&self, goal: u64) -> Range<u64> {
        self.history.step..goal.saturating_mul(self.steps_per_epoch())
    }

    fn speed(&self, session: Duration) -> (Value, String) {
        let seconds = self.times.train.as_secs_f64().max(1e-9);
        let rate = self.learnt as f64 / seconds;
        let speed = json!({
            "rows_per_second": rate,
            "train_seconds": self.times.train.as_secs_f64(),
            "evaluate_seconds": self.times.evaluate.as_secs_f64(),
            "seconds": session.as_secs_f64(),
        });
        (speed, if self.learnt == 0 { String::new() } else { format!("{rate:.0} rows/s") })
    }

    fn status(&self) -> String {
        let loss = |name: &str, point: Option<Point>| {
            point.map_or(String::new(), |p| format!("{name} {:.5}", p.loss))
        };
        let history = &self.history;
        format!("{} {}", loss("loss", history.training), loss("validation", history.validation))
            .trim()
            .to_owned()
    }

    fn conclude(&self, out: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let times = self.times;
        lines.push(format!(
            "{} rows learnt from in {:.2} s of training and {:.2} s of evaluation",
            self.learnt,
            times.train.as_secs_f64(),
            times.evaluate.as_secs_f64()
        ));
        if let Some(Point { epoch, loss }) = self.history.best {
            lines.push(format!("best validation loss: {loss:.6} after epoch {epoch}"));
        }
        if let Some((validation, test)) = self.finals {
            lines.push(format!("validation: {}", validation.words()));
            lines.extend(test.map(|test| format!("test:       {}", test.words())));
        }
        lines.push(format!("predictions by it: hotlanes predict --model {} DATA.csv", out.display()));
        lines
    }

    fn plots(&self, lines: &[Value]) -> Vec<(&'static str, io::Result<String>)> {
        let points = |field: &str| {
            let of = |line: &Value| Some((line["epoch"].as_f64()?, line[field].as_f64()?));
            lines.iter().filter(|line| line["event"] == "evaluation").filter_map(of).collect()
        };
        let series = [
            Series { name: "training", points: points("training") },
            Series { name: "validation", points: points("validation") },
        ];
        let title = format!("Loss: perceptron of {} parameters", self.engine.layout().parameters());
        let (x, y) = (Axis::whole("epoch"), Axis::real("loss"));
        let plot = Plot { title: &title, x, y, legend: Legend::UpperRight, series: &series };
        vec![("loss.svg", plot.svg())]
    }
}
