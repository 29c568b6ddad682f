//! A run from its start to its end, with everything around the mathematics: the lock, checkpoints, log, plots, progress,
//! signals, several processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Error;
use super::lock::Lock;
use super::machine;
use super::progress::{Progress, say};
use super::ranks::Ranks;
use super::signals::{self, Signal};
use super::trainer::{BEST, Event, PLOTS, Position, Recipe, Trainer};
use crate::store::checkpoint::{self, Checkpoints, Index, Saved, Stored};
use crate::store::files::{self, Disk};
use crate::store::hash;
use crate::store::log::{self, Log};
use crate::store::metrics::{self, Metrics};

/// The log's name in a run's directory.
pub const LOG: &str = "log.jsonl";

/// When to stop, and where to write.
#[derive(Clone)]
pub struct Options<'a> {
    /// Where everything goes.
    pub out: PathBuf,
    /// Stop there, counted from the run's beginning; at the run's own goal if `None`.
    pub goal: Option<u64>,
    /// Stop after this long, counted from now.
    pub time: Option<Duration>,
    /// Steps, or generations, from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Checkpoints to keep.
    pub keep: usize,
    /// Whether to make the last evaluation.
    pub finish: bool,
    /// Whether to print nothing but errors.
    pub quiet: bool,
    /// The command, for the log and the lock.
    pub command: String,
    /// The file system.
    pub disk: &'a dyn Disk,
}

/// How a session ended; its state is saved each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The goal was reached.
    Done,
    /// There was nothing left to gain.
    Early,
    /// The time was over before.
    OutOfTime,
    /// A signal asked for it.
    Interrupted(Signal),
}

impl Ending {
    /// The command's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Ending::Done | Ending::Early => 0,
            Ending::OutOfTime => 3,
            Ending::Interrupted(signal) => signal.exit_code(),
        }
    }

    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Early => "early",
            Ending::OutOfTime => "out of time",
            Ending::Interrupted(_) => "interrupted",
        }
    }
}

/// What all checkpoints of a run share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About<R> {
    /// The recipe.
    pub recipe: R,
    /// The data's hash.
    pub data: String,
    /// Where the run is to end.
    pub goal: u64,
    /// [`Trainer::model`].
    pub model: Value,
}

/// The log's first line, which all others are chained to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begins<R> {
    /// The trainer.
    pub kind: String,
    /// [`hotlanes::BITS`] of the program that made the run.
    pub bits: u32,
    /// The recipe.
    pub recipe: R,
    /// The data's hash.
    pub data: String,
}

/// Starts a run and takes it to its end. `goal` of the options must be given.
///
/// # Errors
/// See [`Error`].
pub fn start<R: Recipe>(mut recipe: R, options: &Options<'_>, ranks: &dyn Ranks) -> Result<Ending, Error> {
    if ranks.rank() == 0 {
        refuse_occupied(&options.out)?;
    }
    let data = recipe.load()?;
    let trainer = recipe.trainer(&data, ranks)?;
    let (_, data_hash) = R::identify(&data);
    let goal = options.goal.unwrap_or_default();
    agree(ranks, &(&recipe, &data_hash, goal, options.finish))?;
    let mut desk = None;
    if ranks.rank() == 0 {
        let out = &options.out;
        options.disk.create_directory(out).map_err(Error::io(out))?;
        let lock = Lock::take(out, &options.command)?;
        // Another one may have begun and ended meanwhile.
        refuse_occupied(out)?;
        let mut log = Log::new(options.disk, &out.join(LOG));
        let bits = hotlanes::BITS;
        let begins = Begins { kind: R::KIND.into(), bits, recipe: &recipe, data: data_hash.clone() };
        let aside = environment(options, ranks);
        let begins = serde_json::to_string(&begins).expect("numbers and names");
        let path = log.path().to_owned();
        let lines = vec![log.write(log::RUN, &begins, true, &aside).map_err(Error::io(&path))?];
        let new = |name| Checkpoints::new(options.disk, out, name, R::KIND, options.keep);
        desk = Some(Desk::new::<R>(lock, log, [new(R::KIND), new(BEST)], lines, options)?);
    }
    let about = About { recipe, data: data_hash, goal, model: trainer.model() };
    Session::<R>::new(trainer, about, options, ranks, desk).run()
}

/// Resumes the run in a directory. `change` moves its data, and changes what [`Recipe::tunable`] lists.
///
/// # Errors
/// See [`Error`].
pub fn resume<R: Recipe>(
    change: impl Fn(&mut R) -> Result<(), Error>,
    options: &Options<'_>,
    ranks: &dyn Ranks,
) -> Result<Ending, Error> {
    let out = &options.out;
    // A directory without a run gets no lock either.
    checkpoint::index(out, R::KIND)?;
    let lock = if ranks.rank() == 0 { Some(Lock::take(out, &options.command)?) } else { None };
    let (index, saved, stored) = checkpoint::load(out, R::KIND, None)?;
    let mut about = about::<R>(out, &index)?;
    let before = about.recipe.tunable();
    change(&mut about.recipe)?;
    let tuned = about.recipe.tunable();
    let data = load_same(&mut about.recipe, &about.data, out)?;
    about.goal = options.goal.unwrap_or(about.goal);
    let mut trainer = about.recipe.trainer(&data, ranks)?;
    restore(&mut trainer, out, R::KIND, &saved, &stored)?;
    drop(stored);
    agree(ranks, &(&about.recipe, &about.data, &saved.sha256, about.goal, options.finish))?;
    let mut desk = None;
    if let Some(lock) = lock {
        let (mut log, lines) =
            Log::resume(options.disk, &out.join(LOG), saved.log.clone().unwrap_or_default())?;
        let mut lines: Vec<Value> = lines.into_iter().filter(|l| l.text.is_some()).map(|l| l.value).collect();
        let place = json!({ R::POSITION: trainer.position() });
        let aside = environment(options, ranks);
        let path = log.path().to_owned();
        log.write("resume", &place.to_string(), false, &aside).map_err(Error::io(&path))?;
        if tuned != before {
            let changed = json!({ R::POSITION: trainer.position(), "settings": tuned }).to_string();
            lines.push(log.write(CHANGED, &changed, true, &Value::Null).map_err(Error::io(&path))?);
        }
        let best = match checkpoint::index(out, BEST) {
            Ok(best) => Checkpoints::of(options.disk, out, BEST, best, 1),
            Err(_) => Checkpoints::new(options.disk, out, BEST, R::KIND, 1),
        };
        let all = Checkpoints::of(options.disk, out, R::KIND, index, options.keep);
        desk = Some(Desk::new::<R>(lock, log, [all, best], lines, options)?);
    }
    Session::<R>::new(trainer, about, options, ranks, desk).run()
}

/// The event of a line that tells a change of [`Recipe::tunable`].
pub const CHANGED: &str = "changed";

/// The event of a line for a checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// What an index of a trainer says about its run.
///
/// # Errors
/// It is of another trainer, or damaged.
pub fn about<R: Recipe>(directory: &Path, index: &Index) -> Result<About<R>, Error> {
    if index.kind != R::KIND {
        let (directory, have) = (directory.to_owned(), index.kind.clone());
        return Err(Error::OtherKind { directory, have, want: R::KIND });
    }
    let path = checkpoint::index_path(directory, R::KIND);
    serde_json::from_value(index.about.clone())
        .map_err(|source| checkpoint::CheckpointError::Json { path, source }.into())
}

/// Loads the data of a run again.
///
/// # Errors
/// They are others.
pub fn load_same<R: Recipe>(recipe: &mut R, want: &str, directory: &Path) -> Result<R::Data, Error> {
    let data = recipe.load()?;
    let (name, have) = R::identify(&data);
    if have != want {
        let (directory, want) = (directory.to_owned(), want.to_owned());
        return Err(Error::OtherData { directory, name, have, want });
    }
    Ok(data)
}

/// Takes a trainer to a checkpoint.
///
/// # Errors
/// The checkpoint is not one of its recipe.
pub fn restore<T: Trainer>(
    trainer: &mut T,
    directory: &Path,
    name: &str,
    saved: &Saved,
    stored: &Stored,
) -> Result<(), Error> {
    let path = checkpoint::index_path(directory, name);
    let snapshot = serde_json::from_value(saved.snapshot.clone())
        .map_err(|source| checkpoint::CheckpointError::Json { path: path.clone(), source })?;
    trainer.restore(snapshot, &stored.tensors()?)?;
    if trainer.position() != saved.step {
        let what = format!("step {} has the state of step {}", saved.step, trainer.position());
        return Err(checkpoint::CheckpointError::Index { path, what }.into());
    }
    Ok(())
}

/// Refuses a directory that holds anything of a run, of whatever trainer.
fn refuse_occupied(directory: &Path) -> Result<(), Error> {
    let fixed = [LOG, metrics::FILE].into_iter().chain(PLOTS);
    let mut taken: Vec<String> =
        fixed.filter(|name| directory.join(name).exists()).map(str::to_owned).collect();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_index = |name: &str| name.strip_suffix(".json").is_some_and(|n| KINDS.contains(&n));
        let is_tensors = |name: &str| {
            let stem = name.strip_suffix(".safetensors").and_then(|n| n.rsplit_once('-'));
            stem.is_some_and(|(kind, step)| {
                KINDS.contains(&kind) && step.len() == 12 && step.bytes().all(|b| b.is_ascii_digit())
            })
        };
        if is_index(&name) || is_tensors(&name) {
            taken.push(name);
        }
    }
    taken.sort();
    match taken.into_iter().next() {
        Some(file) => Err(Error::Occupied { directory: directory.to_owned(), file }),
        None => Ok(()),
    }
}

/// Names of checkpoints, of all trainers.
pub const KINDS: [&str; 3] = ["gpt", "population", BEST];

/// What a session depends on that decides no bit.
fn environment(options: &Options<'_>, ranks: &dyn Ranks) -> Value {
    json!({
        "program": concat!("hotlanes ", env!("CARGO_PKG_VERSION")),
        "command": options.command,
        "cpu": machine::cpu(),
        "tier": hotlanes::tier().name(),
        "threads": rayon::current_num_threads(),
        "ranks": ranks.size(),
        "time": machine::unix_time(),
    })
}

struct Session<'a, R: Recipe + 'a> {
    trainer: R::Trainer<'a>,
    about: About<R>,
    options: &'a Options<'a>,
    ranks: &'a dyn Ranks,
    /// What the first rank has, which alone writes.
    desk: Option<Desk<'a>>,
    started: Instant,
    /// Count at the last look at whether a checkpoint is due.
    counted: u64,
    /// Whether the model is the best, and not logged and not saved as such yet.
    best_is_due: BestIsDue,
}

#[derive(Clone, Copy, Default)]
struct BestIsDue {
    line: bool,
    file: bool,
}

/// Where everything is written.
struct Desk<'a> {
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
    fn new<R: Recipe>(
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
    fn new(
        trainer: R::Trainer<'a>,
        about: About<R>,
        options: &'a Options<'a>,
        ranks: &'a dyn Ranks,
        desk: Option<Desk<'a>>,
    ) -> Self {
        let counted = trainer.count();
        Session {
            trainer,
            about,
            options,
            ranks,
            desk,
            started: Instant::now(),
            counted,
            best_is_due: BestIsDue::default(),
        }
    }

    fn run(mut self) -> Result<Ending, Error> {
        let Position { at, end, unit } = self.trainer.progress(self.about.goal);
        if let Some(desk) = &mut self.desk
            && !self.options.quiet
        {
            self.trainer.describe(self.about.goal).iter().for_each(say);
            let threads = rayon::current_num_threads();
            say(format_args!("{threads} threads, tier {}", hotlanes::tier()));
            desk.progress = Progress::new(at, end.max(at), unit);
        }
        let ending = self.train().and_then(|ending| self.end(ending));
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
            let event = self.trainer.advance()?;
            self.advanced(event)?;
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
        let (speed, words) = self.trainer.speed(self.started.elapsed());
        let at = self.trainer.progress(self.about.goal).at;
        desk.progress.at(at, format!("{}, {words}", self.trainer.status()));
        // What is due comes first: it belongs to the same state.
        let mut save = moved && count.is_multiple_of(self.options.checkpoint_every) && !self.trainer.is_due();
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
                self.best_is_due = BestIsDue { line: true, file: true };
            }
            save |= event.save;
            desk.write(event.name, &fields, &speed)?;
            // The best model first: a kill between the two repeats the event, and writes the same model again.
            self.save_best()?;
        }
        if save {
            self.save(state)?;
            self.plot()?;
        }
        Ok(())
    }

    /// Saves the state, if it is not saved yet. Everything is tried, whatever fails, and the first error told.
    fn save(&mut self, state: Option<State>) -> Result<(), Error> {
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

    /// Logs and saves the model as the best one, as far as that is due. Both are tried.
    fn save_best(&mut self) -> Result<(), Error> {
        let due = std::mem::take(&mut self.best_is_due);
        let (Some(desk), Some((snapshot, tensors)), true) = (&mut self.desk, self.trainer.best(), due.file)
        else {
            return Ok(());
        };
        let (step, sha256) = (self.trainer.position(), tensors.digest(&snapshot));
        let mut logged = Ok(());
        if due.line {
            let fields = json!({ R::POSITION: step, "hash": sha256 }).to_string();
            logged = desk.write(BEST, &fields, &Value::Null);
        }
        let saved = Saved { step, sha256, log: None, snapshot };
        let written = desk.best.save(json!({ "model": self.about.model }), saved, &tensors);
        self.best_is_due.file = written.is_err();
        written?;
        logged
    }

    fn plot(&self) -> Result<(), Error> {
        let Some(desk) = &self.desk else { return Ok(()) };
        for (name, svg) in self.trainer.plots(&desk.lines) {
            let path = self.options.out.join(name);
            let written = svg.and_then(|svg| files::replace(self.options.disk, &path, svg.as_bytes()));
            written.map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// What there is to do in the end, which leaves the state as it is.
    fn end(&mut self, ending: Ending) -> Result<Ending, Error> {
        self.save(None)?;
        self.plot()?;
        if self.options.finish && !matches!(ending, Ending::Interrupted(_)) {
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
            self.trainer.conclude().iter().for_each(say);
            say(words);
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
        let _ = self.save_best();
        if writing && !self.best_is_due.file {
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

/// Makes sure that all ranks have the same of something.
fn agree<T: Serialize>(ranks: &dyn Ranks, mine: &T) -> Result<(), Error> {
    let json = serde_json::to_vec(mine).expect("numbers and names");
    let mut all = vec![0; ranks.size()];
    ranks.gather(&[hash::bytes(&json)], &mut all);
    match all.iter().position(|&h| h != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Ranks(rank)),
    }
}
