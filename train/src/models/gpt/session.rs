//! A run with everything around it: checkpoints, log, plot, progress, Ctrl-C, several processes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ranks::Ranks;
use super::run::{Point, Run, RunError, Step};
use super::settings::Settings;
use super::state::{self, BEST, Best, LAST, State};
use crate::data::text::{DataError, Source};
use crate::report;
use crate::shell::plot::{self, Series};
use crate::shell::progress::Progress;
use crate::shell::signals;
use crate::store::checkpoint::{self, CheckpointError};
use crate::store::hash;
use crate::store::log::Log;
use words::{Begins, Ends, Evaluated, Logged, Speed, flops};

mod words;

/// When to stop and what to leave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything goes.
    pub out: PathBuf,
    /// Stop after this many steps, counted from the run's beginning; as many as a resumed run was to have if `None`.
    pub steps: Option<u64>,
    /// Stop after this long, counted from now.
    pub time: Option<Duration>,
    /// Steps from one checkpoint to the next; there is one after each evaluation too.
    pub checkpoint_every: u64,
    /// Whether to evaluate by all of the text to validate by in the end.
    pub whole: bool,
    /// Whether to print nothing, and show no bar.
    pub quiet: bool,
}

/// How a session ended; its state is saved each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// As many steps as were asked for, or as much time.
    Done,
    /// The last evaluations were no better.
    Early,
    /// By Ctrl-C.
    Interrupted,
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The text.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The settings, or the loss.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Log or plot.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A new run where there is one.
    #[error("{} holds a run: --resume {} goes on with it, another --out starts anew", .0.display(), .0.display())]
    Occupied(PathBuf),
    /// The text is not the one that the run was made with.
    #[error("the text ({name}) has the hash {have}: the run in {} was made with {want}", directory.display())]
    OtherData {
        /// Where the run lies.
        directory: PathBuf,
        /// What the text is called.
        name: String,
        /// Its hash.
        have: String,
        /// What the checkpoint says.
        want: String,
    },
    /// The processes do not do the same.
    #[error("rank {0} has other settings, text or checkpoint than rank 0: all must be given the same")]
    Ranks(usize),
}

/// Starts a run and takes it to its end. `settings` lack the vocabulary, which is the text's.
///
/// # Errors
/// See [`SessionError`].
pub fn start(
    mut settings: Settings,
    source: Source,
    options: &Options,
    ranks: &dyn Ranks,
) -> Result<Ending, SessionError> {
    for name in [LAST, BEST] {
        if checkpoint::json_path(&options.out, name).exists() {
            return Err(SessionError::Occupied(options.out.clone()));
        }
    }
    // What is wrong without any text is said before one is read: there is at least one token.
    settings.model.vocab = 1;
    settings.check().map_err(RunError::from)?;
    let source = source.absolute()?;
    let corpus = source.load(settings.model.block)?;
    settings.model.vocab = corpus.tokenizer.vocab();
    let steps = options.steps.unwrap_or(settings.schedule.decay);
    let run = Run::new(settings, &corpus, ranks)?;
    Session::new(run, steps, source, options)?.go_on()
}

/// Goes on with the run in `options.out`, whose text may have moved to `file`.
///
/// # Errors
/// See [`SessionError`].
pub fn resume(file: Option<&Path>, options: &Options, ranks: &dyn Ranks) -> Result<Ending, SessionError> {
    let (state, stored) = checkpoint::load::<State>(&options.out, LAST)?;
    let values = state::values(&state, &stored)?;
    let State { settings, steps, mut source, data, history, optimizer_steps, hash, tokenizer: _ } = state;
    source.relocate(file, None)?;
    let corpus = source.load(settings.model.block)?;
    let have = format!("{:016x}", corpus.hash());
    if have != data {
        let directory = options.out.clone();
        return Err(SessionError::OtherData { directory, name: corpus.name, have, want: data });
    }
    let run = Run::resume(settings, &corpus, ranks, &values, optimizer_steps, history)?;
    state::check_hash(&stored, &format!("{:016x}", state::engine_hash(&run.engine)), &hash)?;
    drop((values, stored));
    Session::new(run, options.steps.unwrap_or(steps), source, options)?.go_on()
}

struct Session<'a> {
    run: Run<'a>,
    steps: u64,
    source: Source,
    data_hash: String,
    options: &'a Options,
    /// What the first rank has, which alone writes.
    desk: Option<Desk>,
    started: Instant,
    /// Steps at the start of this session.
    from: u64,
}

/// Where what there is to say goes.
struct Desk {
    log: Log,
    progress: Progress,
    /// Operations per second of this machine, all threads.
    peak: f64,
}

impl<'a> Session<'a> {
    fn new(run: Run<'a>, steps: u64, source: Source, options: &'a Options) -> Result<Self, SessionError> {
        let (settings, corpus, ranks) = (run.settings(), run.corpus(), run.ranks());
        let data_hash = format!("{:016x}", corpus.hash());
        let from = run.history.step;
        let state = state::engine_hash(&run.engine);
        agree(ranks, &(settings, &data_hash, &run.history, state, steps, options.whole))?;
        let mut desk = None;
        if ranks.rank() == 0 {
            let path = options.out.join("log.jsonl");
            let io = |source| SessionError::Io { path: path.clone(), source };
            std::fs::create_dir_all(&options.out).map_err(io)?;
            let kept =
                |line: &serde_json::Value| from > 0 && line["step"].as_u64().is_some_and(|s| s <= from);
            let mut log = Log::open(&path, kept).map_err(io)?;
            let peak = report::fma_peak();
            let begins = Begins {
                settings,
                source: &source,
                text: &corpus.name,
                step: from,
                steps,
                vocab: corpus.tokenizer.vocab(),
                train: corpus.train.len(),
                validation: corpus.validation.len(),
                parameters: settings.model.parameters(),
                flops_per_step: flops(settings),
                tier: hotlanes::tier().name(),
                threads: rayon::current_num_threads(),
                ranks: ranks.size(),
                fma_peak: peak,
            };
            log.write("start", &begins).map_err(io)?;
            let progress = if options.quiet {
                Progress::hidden()
            } else {
                begins.say(corpus);
                Progress::new(from, steps.max(from), "steps")
            };
            desk = Some(Desk { log, progress, peak });
        }
        Ok(Session { run, steps, source, data_hash, options, desk, started: Instant::now(), from })
    }

    fn go_on(mut self) -> Result<Ending, SessionError> {
        let ending = loop {
            if self.run.is_due() {
                self.evaluate()?;
            }
            let Settings { patience, .. } = *self.run.settings();
            if patience > 0 && self.run.history.since_best >= patience {
                break Ending::Early;
            }
            if self.run.history.step >= self.steps {
                break Ending::Done;
            }
            if self.run.any(signals::requested()) {
                break Ending::Interrupted;
            }
            let late = self.options.time.is_some_and(|t| self.started.elapsed() >= t);
            if self.run.any(late) {
                break Ending::Done;
            }
            let step = self.run.advance()?;
            self.stepped(&step)?;
        };
        self.save()?;
        self.plot()?;
        self.end(ending)?;
        Ok(ending)
    }

    fn stepped(&mut self, step: &Step) -> Result<(), SessionError> {
        let speed = self.speed();
        let history = &self.run.history;
        if let Some(desk) = &mut self.desk {
            let validation =
                history.validation.last().map_or(String::new(), |p| format!(" (validation {:.4})", p.loss));
            let message = format!("loss {:.4}{validation}, {}", step.loss, speed.in_words());
            desk.progress.at(step.step, message);
            if step.step.is_multiple_of(self.run.settings().log_every) {
                desk.write("step", &Logged { what: step, speed })?;
            }
        }
        // An evaluation that is due saves as well, after it.
        if step.step.is_multiple_of(self.options.checkpoint_every) && !self.run.is_due() {
            self.save()?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(), SessionError> {
        let best = self.run.evaluate()?;
        let (speed, history) = (self.speed(), &self.run.history);
        if let Some(desk) = &mut self.desk {
            let validation = history.validation.last().expect("it was just made").loss;
            let training = history.training.last().map(|p| p.loss);
            let words = match training {
                Some(training) => format!("training {training:.4}  validation {validation:.4}"),
                None => format!("validation {validation:.4}"),
            };
            let (mark, rate) = match history.step > self.from {
                true => (if best { " (best) " } else { "        " }, speed.in_words()),
                false => ("", String::new()),
            };
            if !self.options.quiet {
                desk.progress.line(format!("step {:6}  {words}{mark} {rate}", history.step).trim_end());
            }
            let what = Evaluated { step: history.step, validation, training, best };
            desk.write("evaluation", &Logged { what: &what, speed })?;
        }
        // The best model first: a kill between the two repeats the evaluation, and writes the same model again.
        if best {
            self.save_best()?;
        }
        // Before the first step there is nothing to go on from.
        if self.run.history.step > 0 {
            self.save()?;
            self.plot()?;
        }
        Ok(())
    }

    /// Saves what the run goes on from.
    fn save(&self) -> Result<(), SessionError> {
        let Run { engine, history, .. } = &self.run;
        if self.desk.is_none() {
            return Ok(());
        }
        let state = State {
            settings: self.run.settings().clone(),
            steps: self.steps,
            source: self.source.clone(),
            data: self.data_hash.clone(),
            tokenizer: self.run.corpus().tokenizer.clone(),
            history: history.clone(),
            optimizer_steps: engine.state().2,
            hash: format!("{:016x}", state::engine_hash(engine)),
        };
        let tensors = state::engine_tensors(engine);
        Ok(checkpoint::save(&self.options.out, LAST, history.step, &tensors, &state)?)
    }

    /// Saves the parameters as those of the best model.
    fn save_best(&self) -> Result<(), SessionError> {
        let Run { engine, history, .. } = &self.run;
        let (Some(_), Some(point)) = (&self.desk, history.best) else { return Ok(()) };
        let best = Best {
            model: engine.config().clone(),
            tokenizer: self.run.corpus().tokenizer.clone(),
            step: point.step,
            validation: point.loss,
            hash: state::params_hash(engine.params()),
        };
        let tensors = state::model_tensors(engine.config(), engine.params());
        Ok(checkpoint::save(&self.options.out, BEST, point.step, &tensors, &best)?)
    }

    fn plot(&self) -> Result<(), SessionError> {
        if self.desk.is_none() {
            return Ok(());
        }
        let points = |points: &[Point]| points.iter().map(|p| (p.step as f64, p.loss)).collect();
        let history = &self.run.history;
        let series = [
            Series { name: "training", points: points(&history.training) },
            Series { name: "validation", points: points(&history.validation) },
        ];
        let path = self.options.out.join("loss.svg");
        plot::lines_at(&path, "Loss", "step", "nats per token", &series, plot::Legend::UpperRight)
            .map_err(|source| SessionError::Io { path, source })
    }

    /// What there is to say in the end, which changes nothing of the run.
    fn end(mut self, ending: Ending) -> Result<(), SessionError> {
        let hash = format!("{:016x}", state::engine_hash(&self.run.engine));
        let (mut whole, mut whole_best) = (None, None);
        let times = self.run.times;
        if self.options.whole && ending != Ending::Interrupted {
            whole = self.run.validate_all(signals::requested)?;
            whole_best = self.whole_best(whole)?;
        }
        let speed = self.speed();
        let Some(mut desk) = self.desk.take() else { return Ok(()) };
        desk.progress.finish();
        let history = &self.run.history;
        let ends = Ends {
            from: self.from,
            step: history.step,
            ending,
            skipped: history.skipped,
            best: history.best,
            since_best: history.since_best,
            whole,
            whole_best,
            hash,
            train_seconds: times.train.as_secs_f64(),
            evaluate_seconds: times.evaluate.as_secs_f64(),
        };
        desk.write("stop", &Logged { what: &ends, speed })?;
        if !self.options.quiet {
            ends.say(&self.options.out, speed);
        }
        Ok(())
    }

    /// The best model's loss over all of the text to validate by. The engine has other parameters then.
    fn whole_best(&mut self, of_last: Option<f64>) -> Result<Option<f64>, SessionError> {
        match self.run.history.best {
            _ if of_last.is_none() => Ok(None),
            None => Ok(None),
            Some(best) if best.step == self.run.history.step => Ok(of_last),
            Some(best) => {
                // The first rank wrote the file before it went on to the evaluation that all have made.
                let model = state::load_model(&self.options.out, Some(state::Which::Best))?;
                // A kill may have left one that this session, told to stop sooner, has not come to again.
                if model.step != best.step {
                    return Ok(None);
                }
                let engine = &mut self.run.engine;
                let (m, v, steps) = engine.state();
                let (m, v) = (m.to_vec(), v.to_vec());
                engine.restore(&model.params, &m, &v, steps);
                Ok(self.run.validate_all(signals::requested)?)
            }
        }
    }

    fn speed(&self) -> Speed {
        let settings = self.run.settings();
        let seconds = self.run.times.train.as_secs_f64().max(1e-9);
        let steps = (self.run.history.step - self.from) as f64;
        let ranks = self.run.ranks().size() as f64;
        let flops = steps * flops(settings) / seconds;
        Speed {
            tokens_per_second: steps * settings.tokens() as f64 / seconds,
            gflops: 1e-9 * flops,
            fma_share: self.desk.as_ref().map_or(0.0, |desk| flops / (desk.peak * ranks)),
            seconds: self.started.elapsed().as_secs_f64(),
        }
    }
}

impl Desk {
    fn write<T: Serialize>(&mut self, event: &str, object: &T) -> Result<(), SessionError> {
        let path = self.log.path().to_owned();
        self.log.write(event, object).map_err(|source| SessionError::Io { path, source })
    }
}

/// Makes sure that all ranks have the same of something.
fn agree<T: Serialize>(ranks: &dyn Ranks, what: &T) -> Result<(), SessionError> {
    let json = serde_json::to_vec(what).expect("numbers and names");
    let mut all = vec![0; ranks.size()];
    ranks.gather(&[hash::bytes(&json)], &mut all);
    match all.iter().position(|&h| h != all[0]) {
        None => Ok(()),
        Some(rank) => Err(SessionError::Ranks(rank)),
    }
}
