//! The course of a session: work, and everything that is written about it.

use std::time::Instant;

use serde_json::{Value, json};

use super::{About, CHECKPOINT, Ending, Options};
use crate::shell::error::Error;
use crate::shell::lock::Lock;
use crate::shell::machine;
use crate::shell::profile::Profiler;
use crate::shell::profile::profiler;
use crate::shell::progress::{Progress, note, say};
use crate::shell::ranks::Ranks;
use crate::shell::signals::{self, Signal};
use crate::shell::trainer::{BEST, Event, Position, Recipe, Trainer};
use crate::store::checkpoint::{self, Checkpoints, Saved};
use crate::store::files;
use crate::store::log::Log;
use crate::store::metrics::{self, Metrics};

pub(super) struct Session<'a, R: Recipe + 'a> {
    trainer: R::Trainer<'a>,
    about: About<R>,
    options: &'a Options<'a>,
    ranks: &'a dyn Ranks,
    /// What the first rank has, which alone writes.
    desk: Option<Desk<'a>>,
    started: Instant,
    /// When the last checkpoint was saved, or the session began.
    saved: Instant,
    /// Count at the last look at whether a checkpoint is due, and whether one is.
    counted: u64,
    checkpoint_is_due: bool,
    /// The profile to make, if this is the first rank.
    profiler: Option<Profiler>,
    /// Why it could not be written.
    unprofiled: Option<Error>,
    /// Whether the model is the best, and not logged and not saved as such yet.
    best_is_due: BestIsDue,
}

#[derive(Clone, Copy, Default)]
struct BestIsDue {
    line: bool,
    /// The position at which the model was the best.
    file: Option<u64>,
}

/// Where everything is written.
pub(super) struct Desk<'a> {
    _lock: Lock,
    log: Log<'a>,
    metrics: Metrics<'a>,
    checkpoints: Checkpoints<'a>,
    best: Checkpoints<'a>,
    /// The log's chained lines.
    lines: Vec<Value>,
    progress: Progress,
}

impl<'a> Desk<'a> {
    pub(super) fn new<R: Recipe>(
        lock: Lock,
        log: Log<'a>,
        [checkpoints, best]: [Checkpoints<'a>; 2],
        lines: Vec<Value>,
        options: &Options<'a>,
    ) -> Result<Self, Error> {
        let out = &options.out;
        let metrics = Metrics::new(options.disk, out, R::POSITION, &lines)
            .map_err(Error::io(&out.join(metrics::FILE)))?;
        Ok(Desk { _lock: lock, log, metrics, checkpoints, best, lines, progress: Progress::hidden() })
    }

    /// Writes a chained line to the log, and its figures where else they are wanted.
    fn write(&mut self, event: &str, fields: &str, aside: &Value) -> Result<(), Error> {
        let line = self.log.write(event, fields, true, aside).map_err(Error::io(self.log.path()))?;
        let written = self.metrics.write(&line).map_err(Error::io(self.metrics.path()));
        self.lines.push(line);
        written
    }
}

impl<'a, R: Recipe> Session<'a, R> {
    pub(super) fn new(
        trainer: R::Trainer<'a>,
        about: About<R>,
        options: &'a Options<'a>,
        ranks: &'a dyn Ranks,
        desk: Option<Desk<'a>>,
    ) -> Self {
        let counted = trainer.count();
        let plan = options.profile.as_ref().filter(|_| desk.is_some());
        let profiler = plan.map(|plan| Profiler::new(plan, trainer.steps(about.goal)));
        Session {
            trainer,
            about,
            options,
            ranks,
            desk,
            started: Instant::now(),
            saved: Instant::now(),
            counted,
            checkpoint_is_due: false,
            profiler,
            unprofiled: None,
            best_is_due: BestIsDue::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Ending, Error> {
        let Position { at, end, unit } = self.trainer.progress(self.about.goal);
        if let Some(desk) = &mut self.desk
            && !self.options.quiet
        {
            self.trainer.describe(self.about.goal).iter().for_each(say);
            let threads = rayon::current_num_threads();
            say(format_args!("{threads} threads, tier {}", hotlanes::tier()));
            desk.progress = Progress::new(at, end.max(at), unit);
        }
        let trained = self.train();
        // Whatever stopped it: what was recorded until then is a profile, too.
        self.profile();
        let ending = trained.and_then(|ending| self.end(ending));
        let ending = ending.and_then(|ending| self.unprofiled.take().map_or(Ok(ending), Err));
        if let Err(why) = &ending {
            self.fail(why);
        }
        ending
    }

    fn train(&mut self) -> Result<Ending, Error> {
        loop {
            if !self.trainer.is_due() {
                if self.trainer.is_early() {
                    return Ok(Ending::Early);
                }
                if self.trainer.count() >= self.about.goal {
                    return Ok(Ending::Done);
                }
                if let Some(number) = self.any(signals::requested().map_or(0, Signal::number)) {
                    return Ok(Ending::Interrupted(Signal::of(number)));
                }
                let late = self.options.time.is_some_and(|t| self.started.elapsed() >= t);
                if self.any(i32::from(late)).is_some() {
                    return Ok(Ending::OutOfTime);
                }
            }
            let trainer = &mut self.trainer;
            let event = match &mut self.profiler {
                Some(profiler) if !trainer.is_due() => {
                    profiler.step(trainer.steps(self.about.goal).start, || trainer.advance())
                }
                _ => trainer.advance(),
            };
            self.advanced(event?)?;
            if self.profiler.as_ref().is_some_and(Profiler::is_complete) {
                self.profile();
            }
        }
    }

    /// Writes the profile, if one is to be made that is not yet. A failure ends the run no sooner.
    fn profile(&mut self) {
        let Some(profiler) = self.profiler.take() else { return };
        let title = self.trainer.describe(self.about.goal).into_iter().next().unwrap_or_default();
        let about = profiler::About { title, memory: self.trainer.memory_by_kind() };
        let done = self.trainer.steps(self.about.goal).start;
        match profiler.finish(self.options.disk, &about, done) {
            Err(why) => {
                note(format_args!("hotlanes: no profile: {why}"));
                self.unprofiled = Some(why);
            }
            Ok(lines) => {
                if let Some(desk) = &self.desk
                    && !self.options.quiet
                {
                    lines.iter().for_each(|line| desk.progress.line(line));
                }
            }
        }
    }

    /// The first rank's number that is not 0, if any is: the same answer at all of them.
    fn any(&self, mine: i32) -> Option<i32> {
        let mut all = vec![0; self.ranks.size()];
        self.ranks.gather(&[mine as u64], &mut all);
        all.into_iter().find(|&n| n != 0).map(|n| n as i32)
    }

    /// Writes what there is to write after a piece of work.
    fn advanced(&mut self, event: Option<Event>) -> Result<(), Error> {
        let count = self.trainer.count();
        let moved = std::mem::replace(&mut self.counted, count) != count;
        let Some(desk) = &mut self.desk else { return Ok(()) };
        let mut words = String::new();
        let mut speed = Value::Null;
        if event.is_some() || desk.progress.is_stale() {
            (speed, words) = self.trainer.speed(self.started.elapsed());
            let at = self.trainer.progress(self.about.goal).at;
            desk.progress.at(at, format!("{}, {words}", self.trainer.status()));
        }
        self.checkpoint_is_due |= moved && count.is_multiple_of(self.options.checkpoint_every);
        self.checkpoint_is_due |= self.saved.elapsed() >= self.options.checkpoint_after;
        // What is due comes first: it belongs to the same state.
        let mut save = self.checkpoint_is_due && !self.trainer.is_due();
        let mut state = None;
        if let Some(event) = event {
            let mut fields = event.fields;
            if event.hashed {
                let hash = State::of(&self.trainer);
                fields.truncate(fields.len() - 1);
                fields.push_str(&format!(",\"hash\":\"{}\"}}", hash.sha256));
                state = Some(hash);
            }
            if let Some(line) = &event.words
                && !self.options.quiet
            {
                desk.progress.line(format!("{line} {words}").trim_end());
            }
            if event.best {
                self.best_is_due = BestIsDue { line: true, file: Some(self.trainer.position()) };
            }
            save |= event.save;
            desk.write(event.name, &fields, &speed)?;
            // The best model first: a kill between the two repeats the event, and writes the same model again.
            self.save_best(!self.trainer.keeps_best())?;
        }
        if moved {
            // Before a checkpoint, so that a run that is killed leaves no sample out.
            self.sample(count)?;
        }
        if save {
            self.save(state)?;
            self.plot()?;
        }
        Ok(())
    }

    /// Takes a sample if one is due: a line outside the chain, as it is no part of the run.
    fn sample(&mut self, count: u64) -> Result<(), Error> {
        let due = self.options.samples.filter(|samples| count.is_multiple_of(samples.every));
        let (Some(desk), Some(samples)) = (&mut self.desk, due) else { return Ok(()) };
        let Some((fields, words)) = self.trainer.sample(samples.tokens) else { return Ok(()) };
        if !self.options.quiet {
            desk.progress.line(&words);
        }
        let written = desk.log.write("sample", &fields.to_string(), false, &Value::Null);
        written.map(drop).map_err(Error::io(desk.log.path()))
    }

    /// Saves the state, if it is not saved yet. Everything is tried, whatever fails, and the first error told.
    fn save(&mut self, state: Option<State>) -> Result<(), Error> {
        self.checkpoint_is_due = false;
        self.saved = Instant::now();
        let best = self.save_best(true);
        self.save_state(state).and(best)
    }

    fn save_state(&mut self, state: Option<State>) -> Result<(), Error> {
        let Some(desk) = &mut self.desk else { return Ok(()) };
        let State { snapshot, sha256 } = state.unwrap_or_else(|| State::of(&self.trainer));
        let step = self.trainer.position();
        if desk.checkpoints.last().is_some_and(|s| s.step == step && s.sha256 == sha256) {
            return self.mark();
        }
        let fields = json!({ R::POSITION: step, "hash": sha256 }).to_string();
        let logged = desk.write(CHECKPOINT, &fields, &Value::Null);
        let synced = desk.log.sync().map_err(Error::io(desk.log.path()));
        let about = serde_json::to_value(&self.about).expect("numbers and names");
        let saved = Saved { step, sha256, log: Some(desk.log.mark()), snapshot };
        desk.checkpoints.save(about, saved, &self.trainer.tensors())?;
        logged.and(synced)
    }

    /// Brings the last checkpoint's mark up to the log.
    fn mark(&mut self) -> Result<(), Error> {
        let Some(desk) = &mut self.desk else { return Ok(()) };
        let mark = desk.log.mark();
        if desk.checkpoints.last().is_some_and(|s| s.log.as_ref() != Some(&mark)) {
            desk.log.sync().map_err(Error::io(desk.log.path()))?;
            desk.checkpoints.mark(mark)?;
        }
        Ok(())
    }

    /// Logs the best model, and with `file` saves it, as far as that is due. Both are tried.
    fn save_best(&mut self, file: bool) -> Result<(), Error> {
        let due = std::mem::take(&mut self.best_is_due);
        let (Some(desk), Some((snapshot, tensors)), Some(step)) =
            (&mut self.desk, self.trainer.best(), due.file)
        else {
            return Ok(());
        };
        let sha256 = tensors.digest(&snapshot);
        let mut logged = Ok(());
        if due.line {
            let fields = json!({ R::POSITION: step, "hash": sha256 }).to_string();
            logged = desk.write(BEST, &fields, &Value::Null);
        }
        if !file {
            self.best_is_due.file = due.file;
            return logged;
        }
        let saved = Saved { step, sha256, log: None, snapshot };
        let written = desk.best.save(json!({ "model": self.about.model }), saved, &tensors);
        self.best_is_due.file = due.file.filter(|_| written.is_err());
        written?;
        logged
    }

    fn plot(&self) -> Result<(), Error> {
        let Some(desk) = &self.desk else { return Ok(()) };
        for (name, svg) in self.trainer.plots(&desk.lines) {
            let path = self.options.out.join(name);
            let written =
                svg.and_then(|svg| files::replace_derived(self.options.disk, &path, svg.as_bytes()));
            written.map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// What there is to do in the end, which leaves the state as it is.
    fn end(&mut self, ending: Ending) -> Result<Ending, Error> {
        self.save(None)?;
        self.plot()?;
        if self.options.finish && !matches!(ending, Ending::Interrupted(_)) {
            // No rank reads the best model before the first one has written it.
            let _ = self.any(0);
            let best = checkpoint::load(&self.options.out, BEST, None).ok();
            let best = best.as_ref().map(|(_, saved, stored)| (saved, stored));
            let ranks = self.ranks;
            let stop = || {
                let mut all = vec![0; ranks.size()];
                ranks.gather(&[signals::requested().is_some().into()], &mut all);
                all.into_iter().any(|n| n != 0)
            };
            let last = self.trainer.finish(best, &stop)?;
            if let (Some(desk), Some(event)) = (&mut self.desk, last) {
                desk.write(event.name, &event.fields, &Value::Null)?;
            }
        }
        let Some(desk) = &mut self.desk else { return Ok(ending) };
        desk.progress.finish();
        let signal = match ending {
            Ending::Interrupted(signal) => Value::from(signal.name()),
            _ => Value::Null,
        };
        let (step, hash) = desk.checkpoints.last().map_or((0, String::new()), |s| (s.step, s.sha256.clone()));
        let stop = json!({ R::POSITION: step, "ending": ending.name(), "signal": signal, "hash": hash });
        let (mut aside, words) = self.trainer.speed(self.started.elapsed());
        aside["time"] = machine::unix_time().into();
        desk.log.write("stop", &stop.to_string(), false, &aside).map_err(Error::io(desk.log.path()))?;
        self.mark()?;
        if !self.options.quiet {
            self.trainer.conclude(&self.options.out).iter().for_each(say);
            if !words.is_empty() {
                say(words);
            }
            self.farewell(ending, step, &hash);
        }
        Ok(ending)
    }

    fn farewell(&self, ending: Ending, step: u64, hash: &str) {
        let out = self.options.out.display();
        let (unit, hash) = (self.trainer.progress(self.about.goal).unit, &hash[..hash.len().min(16)]);
        let saved = format!("saved in {out} after {step} {unit}, hash {hash}");
        let more = format!("resume with: hotlanes train {} --resume {out}", R::KIND);
        match ending {
            Ending::Done => say(saved),
            Ending::Early => say(format_args!("stopped early: {saved}")),
            Ending::OutOfTime => say(format_args!("time is over: {saved}; {more}")),
            Ending::Interrupted(signal) => {
                say(format_args!("interrupted by {}: {saved}; {more}", signal.name()));
            }
        }
    }

    /// Saves what can be saved when something else cannot be written; a state that diverged is not saved.
    fn fail(&mut self, why: &Error) {
        let writing =
            matches!(why, Error::Io { .. } | Error::Checkpoint(checkpoint::CheckpointError::Io { .. }));
        // A state whose best model is lost is worse than the one before.
        let _ = self.save_best(true);
        if writing && self.best_is_due.file.is_none() {
            let _ = self.save(None);
        }
        let Some(desk) = &mut self.desk else { return };
        desk.progress.finish();
        let stop =
            json!({ R::POSITION: self.trainer.position(), "ending": "failed", "error": why.to_string() });
        let aside = json!({ "time": machine::unix_time() });
        if desk.log.write("stop", &stop.to_string(), false, &aside).is_ok() {
            let _ = self.mark();
        }
    }
}

/// The state of a trainer.
struct State {
    snapshot: Value,
    sha256: String,
}

impl State {
    fn of<T: Trainer>(trainer: &T) -> State {
        let snapshot = serde_json::to_value(trainer.snapshot()).expect("numbers and names");
        let sha256 = trainer.tensors().digest(&snapshot);
        State { snapshot, sha256 }
    }
}

/// [`Trainer`]'s hash: of its snapshot and tensors.
pub fn digest<T: Trainer>(trainer: &T) -> String {
    State::of(trainer).sha256
}
