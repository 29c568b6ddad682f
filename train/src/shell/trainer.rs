//! The contract between a trainer and the shell: a recipe makes a trainer, a trainer does the mathematics, and the
//! shell does everything else.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::profile::Memory;
use super::ranks::Ranks;
use crate::store::checkpoint::{CheckpointError, Saved, Stored};
use crate::store::tensors::{Named, Tensors};

/// Everything that decides the bits of a run: settings, and where the data come from. It is stored with the run.
pub trait Recipe: Clone + Serialize + DeserializeOwned + 'static {
    /// The trainer's name: of its command, and of its checkpoint in a run's directory.
    const KIND: &'static str;

    /// The field of the log in which an event has its place in the run.
    const POSITION: &'static str;

    /// The data.
    type Data;

    /// The trainer.
    type Trainer<'a>: Trainer;

    /// Checks what can be checked without the data.
    ///
    /// # Errors
    /// A setting breaks a rule.
    fn check(&self) -> Result<(), Error>;

    /// Checks the settings, then reads or makes the data, which may complete the settings.
    ///
    /// # Errors
    /// A setting breaks a rule, or the data cannot be used.
    fn load(&mut self) -> Result<Self::Data, Error>;

    /// What the data are called, and their hash.
    fn identify(data: &Self::Data) -> (String, String);

    /// A trainer at the beginning of the run.
    ///
    /// # Errors
    /// A setting breaks a rule.
    fn trainer<'a>(&self, data: &'a Self::Data, ranks: &'a dyn Ranks) -> Result<Self::Trainer<'a>, Error>;

    /// The settings that a resumed run may change, as an object. The log tells each change.
    fn tunable(&self) -> Value {
        Value::Null
    }

    /// Reads the data from elsewhere.
    ///
    /// # Errors
    /// These are not as many files as the data have.
    fn relocate(&mut self, data: &[PathBuf]) -> Result<(), Error>;
}

/// What a trainer did that is worth a line.
#[derive(Clone, Debug)]
pub struct Event {
    /// The line's event.
    pub name: &'static str,
    /// Its fields, a JSON object: a function of the recipe alone.
    pub fields: String,
    /// The line on the terminal.
    pub words: Option<String>,
    /// Whether the line gets the hash of the state.
    pub hashed: bool,
    /// Whether the model is the best so far.
    pub best: bool,
    /// Whether to save a checkpoint now.
    pub save: bool,
}

impl Event {
    /// An event with these fields.
    ///
    /// # Panics
    /// If they are no JSON object.
    pub fn new(name: &'static str, fields: &impl Serialize) -> Event {
        let fields = serde_json::to_string(fields).expect("numbers and names");
        Event { name, fields, words: None, hashed: false, best: false, save: false }
    }
}

/// How far a trainer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Where the bar stands, and where it ends.
    pub at: u64,
    /// Its end.
    pub end: u64,
    /// What the bar counts.
    pub unit: &'static str,
}

/// A model in training, with its data. What it does is a function of its recipe, and of nothing else.
pub trait Trainer {
    /// All state but the tensors. Numbers that may not be finite are stored by [`crate::store::number`].
    type Snapshot: Serialize + DeserializeOwned;

    /// Work done: a number that grows with each step and names checkpoints.
    fn position(&self) -> u64;

    /// Progress in the unit of the run's goal.
    fn count(&self) -> u64;

    /// Whether something is outstanding that belongs to the step before, such as an evaluation: no run ends here.
    fn is_due(&self) -> bool {
        false
    }

    /// Whether there is nothing left to gain.
    fn is_early(&self) -> bool {
        false
    }

    /// The next piece of work: a step, or what is due.
    ///
    /// # Errors
    /// The numbers are not finite any more.
    fn advance(&mut self) -> Result<Option<Event>, Error>;

    /// The state.
    fn snapshot(&self) -> Self::Snapshot;

    /// The state's tensors.
    fn tensors(&self) -> Tensors<'_>;

    /// Continues from a state.
    ///
    /// # Errors
    /// The tensors are not those of the recipe.
    fn restore(&mut self, snapshot: Self::Snapshot, tensors: &Named<'_>) -> Result<(), CheckpointError>;

    /// Changes a setting that [`Recipe::tunable`] lists.
    ///
    /// # Errors
    /// It is not one of them.
    fn tune(&mut self, _settings: &Value) -> Result<(), Error> {
        Ok(())
    }

    /// What a reader of the tensors needs beside them, for whoever uses the model without the data.
    fn model(&self) -> Value {
        Value::Null
    }

    /// The model as it is, if the best one is kept: its snapshot and tensors.
    fn best(&self) -> Option<(Value, Tensors<'_>)> {
        None
    }

    /// A sample of what the model makes now, if it makes anything: fields of the log, and the same in words. Leaves the
    /// state as it is.
    fn sample(&self, _tokens: u64) -> Option<(Value, String)> {
        None
    }

    /// Whether [`Trainer::best`] gives the best model at any time, not only while it is the current one: then its file
    /// is written with the next checkpoint, not at once.
    fn keeps_best(&self) -> bool {
        false
    }

    /// A last evaluation, which leaves the state as it is; `None` if `stop` said so, or there is none.
    ///
    /// # Errors
    /// The best model's file is not as it was.
    fn finish(
        &mut self,
        best: Option<(&Saved, &Stored)>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Event>, Error>;

    /// Where the bar stands, for this goal.
    fn progress(&self, goal: u64) -> Position;

    /// The run in a few lines, before it begins.
    fn describe(&self, goal: u64) -> Vec<String>;

    /// Bytes of memory that it needs, about.
    fn memory(&self) -> f64;

    /// Bytes of its buffers, by kind, as they are.
    fn memory_by_kind(&self) -> Memory;

    /// Steps done, and those done at a goal, as `--profile-steps` counts them: how often [`Trainer::advance`] trains.
    fn steps(&self, goal: u64) -> Range<u64>;

    /// Fields of the log that depend on clock and machine, and the same in words.
    fn speed(&self, session: Duration) -> (Value, String);

    /// The latest figures, beside the bar.
    fn status(&self) -> String;

    /// The run in a few lines, after its end; it lies in `out`.
    fn conclude(&self, out: &Path) -> Vec<String>;

    /// Plots by file name, drawn from the log's chained lines.
    fn plots(&self, lines: &[Value]) -> Vec<(&'static str, io::Result<String>)>;
}

/// Files that [`Trainer::plots`] may write, for all trainers: they tell that a directory is taken.
pub const PLOTS: [&str; 4] = ["loss.svg", "accuracy.svg", "connections.svg", "nodes.svg"];

/// The name of the best model's checkpoint.
pub const BEST: &str = "best";
