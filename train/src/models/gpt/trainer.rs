//! A GPT as a [`Trainer`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::generate;
use super::run::{History, Point, Run, RunError};
use super::settings::{Settings, memory_needed};
use super::state::{self, Best, Described, LAST, Snapshot};
use crate::data::text::{Corpus, DataError, Source};
use crate::shell::error::Error;
use crate::shell::peak::fma_peak;
use crate::shell::plot::{Axis, Legend, Plot, Series};
use crate::shell::ranks::Ranks;
use crate::shell::trainer::{self, Event, Position, Trainer};
use crate::shell::verify::FINAL;
use crate::store::checkpoint::{CheckpointError, Saved, Stored};
use crate::store::tensors::{Named, Tensors};

/// Everything that decides the bits of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The settings; the vocabulary is the text's.
    pub settings: Settings,
    /// Where the text comes from.
    pub source: Source,
}

/// The settings that may change in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Tunable {
    eval_every: u64,
    log_every: u64,
    decay: u64,
}

impl From<&Settings> for Tunable {
    fn from(settings: &Settings) -> Self {
        let Settings { eval_every, log_every, schedule, .. } = *settings;
        Tunable { eval_every, log_every, decay: schedule.decay }
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(e) => e.into(),
            // The engine refuses settings: a run hands it nothing else that could be wrong.
            RunError::Engine(e) => Error::Usage(e.to_string()),
            diverged => Error::Diverged(diverged.to_string()),
        }
    }
}

impl From<DataError> for Error {
    fn from(error: DataError) -> Self {
        if error.is_usage() { Error::Usage(error.to_string()) } else { Error::data(error) }
    }
}

impl trainer::Recipe for Recipe {
    const KIND: &'static str = LAST;
    const POSITION: &'static str = "step";

    type Data = Corpus;
    type Trainer<'a> = Run<'a>;

    fn check(&self) -> Result<(), Error> {
        let mut settings = self.settings.clone();
        // Without a text its vocabulary is not known, but it has at least one token.
        settings.model.vocab = 1;
        settings.check()?;
        Ok(self.source.check()?)
    }

    fn load(&mut self) -> Result<Corpus, Error> {
        self.check()?;
        let corpus = self.source.load(self.settings.model.block)?;
        self.settings.model.vocab = corpus.tokenizer.vocab();
        Ok(corpus)
    }

    fn identify(corpus: &Corpus) -> (String, String) {
        (corpus.name.clone(), format!("{:016x}", corpus.hash()))
    }

    fn trainer<'a>(&self, data: &'a Corpus, ranks: &'a dyn Ranks) -> Result<Run<'a>, Error> {
        Ok(Run::new(self.settings.clone(), data, ranks)?)
    }

    fn tunable(&self) -> Value {
        state::json(&Tunable::from(&self.settings))
    }

    fn relocate(&mut self, data: &[PathBuf]) -> Result<(), Error> {
        match data {
            [text] => Ok(self.source.relocate(Some(text), None)?),
            [text, validation] => Ok(self.source.relocate(Some(text), Some(validation))?),
            _ => Err(Error::Usage("--data: a text, and the validation split's if the run has one".into())),
        }
    }
}

impl Trainer for Run<'_> {
    type Snapshot = Snapshot;

    fn position(&self) -> u64 {
        self.history.step
    }

    fn count(&self) -> u64 {
        self.history.step
    }

    fn is_due(&self) -> bool {
        Run::is_due(self)
    }

    fn is_early(&self) -> bool {
        let patience = self.settings().patience;
        patience > 0 && self.history.since_best >= patience
    }

    fn advance(&mut self) -> Result<Option<Event>, Error> {
        if !Run::is_due(self) {
            let step = Run::advance(self)?;
            let logged = step.step.is_multiple_of(self.settings().log_every);
            return Ok(logged.then(|| Event::new("step", &step)));
        }
        let best = self.evaluate()?;
        let history = &self.history;
        let step = history.step;
        let validation = history.validation.expect("it was just made").loss;
        let training = history.training.map(|p| p.loss);
        let fields = json!({ "step": step, "validation": validation, "training": training, "best": best });
        let losses = match training {
            Some(training) => format!("training {training:.4}  validation {validation:.4}"),
            None => format!("validation {validation:.4}"),
        };
        let mark = if best { " (best) " } else { "        " };
        Ok(Some(Event {
            words: Some(format!("step {step:6}  {losses}{mark}")),
            hashed: true,
            best,
            // Before the first step there is nothing to resume from.
            save: step > 0,
            ..Event::new("evaluation", &fields)
        }))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { history: self.history.clone(), optimizer_steps: self.engine.state().2 }
    }

    fn tensors(&self) -> Tensors<'_> {
        state::engine_tensors(&self.engine)
    }

    fn restore(&mut self, snapshot: Snapshot, tensors: &Named<'_>) -> Result<(), CheckpointError> {
        snapshot.check(tensors)?;
        let values = state::values(self.engine.layout(), tensors)?;
        self.restore_state(&values, snapshot.optimizer_steps, snapshot.history);
        Ok(())
    }

    fn tune(&mut self, settings: &Value) -> Result<(), Error> {
        let Tunable { eval_every, log_every, decay } = serde_json::from_value(settings.clone())
            .map_err(|e| Error::Usage(format!("the log's settings {settings}: {e}")))?;
        let own = &mut self.settings;
        (own.eval_every, own.log_every, own.schedule.decay) = (eval_every, log_every, decay);
        Ok(own.check()?)
    }

    fn model(&self) -> Value {
        let (config, tokenizer) = (self.settings().model.clone(), self.corpus().tokenizer.clone());
        state::json(&Described { config, tokenizer })
    }

    fn best(&self) -> Option<(Value, Tensors<'_>)> {
        let Point { step, loss } = self.history.best?;
        let best = state::json(&Best { step, validation: loss });
        Some((best, state::model_tensors(self.engine.layout(), self.engine.params())))
    }

    fn sample(&self, tokens: u64) -> Option<(Value, String)> {
        let step = self.history.step;
        Some(match generate::sample(self, tokens) {
            Ok(text) => {
                // Bytes may be anything: they shall not command the terminal.
                let shown = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}");
                (json!({ "step": step, "text": text }), format!("step {step:6}  sample:\n{shown}\n"))
            }
            Err(e) => {
                (json!({ "step": step, "error": e.to_string() }), format!("step {step:6}  no sample: {e}"))
            }
        })
    }

    fn finish(
        &mut self,
        best: Option<(&Saved, &Stored)>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Event>, Error> {
        let Some(whole) = self.validate_all(stop)? else { return Ok(None) };
        let step = self.history.step;
        let whole_best = match self.history.best {
            None => None,
            Some(point) if point.step == step => Some(whole),
            Some(point) => match state::best_params(self.engine.layout(), point.step, best)? {
                Some(params) => {
                    let Some(loss) = self.with_params(&params, |run| run.validate_all(stop))? else {
                        return Ok(None);
                    };
                    Some(loss)
                }
                None => None,
            },
        };
        self.whole = Some((whole, whole_best));
        let fields = json!({ "step": step, "whole": whole, "whole_best": whole_best });
        Ok(Some(Event::new(FINAL, &fields)))
    }

    fn progress(&self, goal: u64) -> Position {
        Position { at: self.history.step, end: goal, unit: "steps" }
    }

    fn describe(&self, goal: u64) -> Vec<String> {
        let (settings, corpus) = (self.settings(), self.corpus());
        let (model, unit) = (&settings.model, corpus.tokenizer.unit());
        let accumulated = match settings.accumulate {
            1 => String::new(),
            n => format!(" x {n}"),
        };
        let ranks = match self.ranks().size() {
            1 => String::new(),
            n => format!("; {n} ranks"),
        };
        let mut lines = vec![
            format!(
                "GPT of {} parameters: {} layers, {} heads, {} wide, context of {} {unit}, vocabulary of {}",
                model.parameters(),
                model.layers,
                model.heads,
                model.dim,
                model.block,
                model.vocab
            ),
            format!(
                "{}: {} {unit} to train on, {} for validation",
                corpus.name,
                corpus.train.len(),
                corpus.validation.len()
            ),
            format!(
                "steps {} to {goal}, each on {} windows{accumulated}, {} tokens, {:.2} GFLOP{ranks}; FMA peak {:.0} GFLOP/s",
                self.history.step,
                settings.batch,
                settings.tokens(),
                1e-9 * flops(settings),
                1e-9 * fma_peak()
            ),
        ];
        let decay = settings.schedule.decay;
        if goal > decay && self.history.step > 0 {
            lines.push(format!(
                "the cosine ends at step {decay}: steps after it train at the lowest rate, {}; --decay-steps {goal} stretches it",
                settings.schedule.min_lr
            ));
        }
        lines
    }

    fn memory(&self) -> f64 {
        memory_needed(&self.settings().model, self.settings().batch, self.ranks().size())
    }

    fn speed(&self, session: Duration) -> (Value, String) {
        let settings = self.settings();
        let seconds = self.times.train.as_secs_f64().max(1e-9);
        let steps = (self.history.step - self.from) as f64;
        let tokens = steps * settings.tokens() as f64 / seconds;
        let flops = steps * flops(settings) / seconds;
        let share = flops / (fma_peak() * self.ranks().size() as f64);
        let speed = json!({
            "tokens_per_second": tokens,
            "gflops": 1e-9 * flops,
            "fma_share": share,
            "train_seconds": self.times.train.as_secs_f64(),
            "evaluate_seconds": self.times.evaluate.as_secs_f64(),
            "seconds": session.as_secs_f64(),
        });
        if steps == 0.0 {
            return (speed, String::new());
        }
        let (gflops, share) = (1e-9 * flops, 100.0 * share);
        (speed, format!("{tokens:.0} tokens/s, {gflops:.1} GFLOP/s, {share:.0}% of FMA peak"))
    }

    fn status(&self) -> String {
        let History { training, validation, .. } = &self.history;
        let loss = |name: &str, point: &Option<Point>| {
            point.map_or(String::new(), |p| format!("{name} {:.4}", p.loss))
        };
        format!("{} {}", loss("loss", training), loss("validation", validation)).trim().to_owned()
    }

    fn conclude(&self, out: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let (history, times) = (&self.history, &self.times);
        let steps = history.step - self.from;
        if steps > 0 {
            lines.push(format!(
                "{steps} steps in {:.1} s of training and {:.1} s of evaluation",
                times.train.as_secs_f64(),
                times.evaluate.as_secs_f64()
            ));
        }
        if history.skipped > 0 {
            lines.push(format!(
                "{} steps had a gradient that is not finite, and changed nothing",
                history.skipped
            ));
        }
        if let Some(Point { step, loss }) = history.best {
            lines.push(format!("best validation loss: {loss:.4} at step {step}"));
        }
        if let Some((whole, best)) = self.whole {
            let best = best.map_or(String::new(), |b| format!(", of the best model {b:.4}"));
            lines.push(format!("loss over the whole validation split: {whole:.4}{best}"));
        }
        lines.push(format!("text from it: hotlanes generate --model {}", out.display()));
        lines
    }

    fn plots(&self, lines: &[Value]) -> Vec<(&'static str, io::Result<String>)> {
        let points = |event: &str, field: &str| {
            let of = |line: &Value| Some((line["step"].as_f64()?, line[field].as_f64()?));
            lines.iter().filter(|line| line["event"] == event).filter_map(of).collect()
        };
        let series = [
            Series { name: "training", points: points("step", "mean") },
            Series { name: "validation", points: points("evaluation", "validation") },
        ];
        let parameters = self.engine.config().parameters();
        let title = format!("Loss: GPT of {parameters} parameters on {}", self.corpus().name);
        let (x, y) = (Axis::whole("step"), Axis::real("loss (nats per token)"));
        let plot = Plot { title: &title, x, y, legend: Legend::UpperRight, series: &series };
        vec![("loss.svg", plot.svg())]
    }
}

/// Floating-point operations of a step.
fn flops(settings: &Settings) -> f64 {
    settings.model.flops(settings.batch, settings.model.block) * settings.accumulate as f64
}
