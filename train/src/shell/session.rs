//! A run from its start to its end, with everything around the mathematics: the lock, checkpoints, log, plots,
//! progress, signals, several processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Error;
use super::lock::Lock;
use super::machine;
use super::profile;
use super::ranks::Ranks;
use super::signals::Signal;
use super::trainer::{BEST, PLOTS, Recipe, Trainer};
use crate::store::checkpoint::{self, Checkpoints, Index, Saved, Stored};
use crate::store::files::Disk;
use crate::store::hash;
use crate::store::log::{self, Log};
use crate::store::metrics;
pub use course::digest;
use course::{Desk, Session};

mod course;

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
    /// A checkpoint is saved after this long even if none is due.
    pub checkpoint_after: Duration,
    /// Checkpoints to keep.
    pub keep: usize,
    /// Whether to make the last evaluation.
    pub finish: bool,
    /// Samples to take while training.
    pub samples: Option<Samples>,
    /// Whether to print nothing but errors.
    pub quiet: bool,
    /// The command, for the log and the lock.
    pub command: String,
    /// The profile to make of some steps; it decides no bit.
    pub profile: Option<profile::Plan>,
    /// The file system.
    pub disk: &'a dyn Disk,
}

/// Samples of what a model makes while it trains. They decide no bit of the run.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// Steps, or generations, from one to the next.
    pub every: u64,
    /// Tokens of each.
    pub tokens: u64,
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
        let new = |name, keep| Checkpoints::new(options.disk, out, name, R::KIND, keep);
        let all = [new(R::KIND, options.keep), new(BEST, 1)];
        desk = Some(Desk::new::<R>(lock, log, all, lines, options)?);
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

/// What the checkpoint in a directory says about its run, without its tensors and data.
///
/// # Errors
/// There is none of this trainer, or it is damaged.
pub fn stored<R: Recipe>(directory: &Path) -> Result<About<R>, Error> {
    let is_there = |kind: &&str| checkpoint::index_path(directory, kind).exists();
    let other = KINDS.into_iter().filter(|kind| *kind != BEST).find(is_there);
    if let Some(have) = other.filter(|_| !is_there(&R::KIND)) {
        let (directory, have) = (directory.to_owned(), have.to_owned());
        return Err(Error::OtherKind { directory, have, want: R::KIND });
    }
    about(directory, &checkpoint::index(directory, R::KIND)?)
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
pub const KINDS: [&str; 4] = ["gpt", "mlp", "population", BEST];

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
