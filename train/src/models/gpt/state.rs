//! A run and a model as checkpoints, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use super::engine::Engine;
use super::params::Layout;
use super::run::History;
use crate::data::tokenizer::Tokenizer;
use crate::shell::trainer::BEST;
use crate::store::checkpoint::{self, CheckpointError, Saved, Stored};
use crate::store::hash;
use crate::store::tensors::{Named, Tensors};
use hotlanes::AlignedVec;

/// The name of a run's checkpoint in its directory.
pub const LAST: &str = "gpt";

/// A run's state without its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Training history.
    pub history: History,
    /// Steps of the optimizer: those that were not skipped.
    pub optimizer_steps: u64,
}

/// Steps at most: dropout counts them in 44 bits.
const MOST_STEPS: u64 = 1 << 43;

impl Snapshot {
    /// Checks the numbers that training counts on from.
    ///
    /// # Errors
    /// One is beyond what any run reaches.
    pub fn check(&self, named: &Named<'_>) -> Result<(), CheckpointError> {
        let History { step, skipped, skipped_in_row, pending, since_best, .. } = self.history;
        let counts = [
            ("step", step),
            ("skipped", skipped),
            ("skipped_in_row", skipped_in_row),
            ("pending steps", pending.1),
            ("since_best", since_best),
            ("optimizer_steps", self.optimizer_steps),
        ];
        named.check_counts(&counts, MOST_STEPS)
    }
}

/// Beside the tensors, all that there is to a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Described {
    /// The model.
    pub config: Config,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
}

/// The snapshot of the best model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Best {
    /// Steps done.
    pub step: u64,
    /// The validation loss.
    pub validation: f64,
}

/// A model to generate with.
#[derive(Debug)]
pub struct Model {
    /// The model.
    pub config: Config,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
    /// Steps done.
    pub step: u64,
    /// The validation loss, if it was evaluated at that step.
    pub validation: Option<f64>,
    /// Its parameters.
    pub params: AlignedVec,
}

/// A hash of parameters and moments.
pub fn engine_hash(engine: &Engine) -> u64 {
    let (m, v, steps) = engine.state();
    [engine.params(), m, v].into_iter().fold(hash::add(hash::START, steps), hash::floats)
}

/// The prefixes of the moments' names.
const MOMENTS: [&str; 2] = ["adamw.m.", "adamw.v."];

fn add<'a>(tensors: &mut Tensors<'a>, layout: &Layout, prefix: &str, values: &'a [f32]) {
    for tensor in layout.tensors() {
        let name = format!("{prefix}{}", tensor.name);
        tensors.add(name, &tensor.shape, &values[tensor.range.clone()]);
    }
}

fn read(named: &Named<'_>, layout: &Layout, prefix: &str) -> Result<AlignedVec, CheckpointError> {
    let mut values = AlignedVec::default();
    values.resize_for_overwrite(layout.len());
    for tensor in layout.tensors() {
        let to = &mut values[tensor.range.clone()];
        named.read(&format!("{prefix}{}", tensor.name), &tensor.shape, to)?;
    }
    Ok(values)
}

/// A model's parameters as tensors.
pub fn model_tensors<'a>(layout: &Layout, params: &'a [f32]) -> Tensors<'a> {
    let mut tensors = Tensors::default();
    add(&mut tensors, layout, "", params);
    tensors
}

/// An engine's parameters and moments as tensors.
pub fn engine_tensors(engine: &Engine) -> Tensors<'_> {
    let (m, v, _) = engine.state();
    let mut tensors = model_tensors(engine.layout(), engine.params());
    for (prefix, values) in MOMENTS.into_iter().zip([m, v]) {
        add(&mut tensors, engine.layout(), prefix, values);
    }
    tensors
}

/// Parameters and moments.
pub struct Values {
    /// Parameters.
    pub params: AlignedVec,
    /// First moments.
    pub m: AlignedVec,
    /// Second moments.
    pub v: AlignedVec,
}

/// Parameters and moments of a checkpoint.
///
/// # Errors
/// They are not those of this layout.
pub fn values(layout: &Layout, named: &Named<'_>) -> Result<Values, CheckpointError> {
    let params = params(layout, named)?;
    let [m, v] = MOMENTS.map(|prefix| read(named, layout, prefix));
    Ok(Values { params, m: m?, v: v? })
}

/// The parameters of a checkpoint.
///
/// # Errors
/// They are not those of this layout.
pub fn params(layout: &Layout, named: &Named<'_>) -> Result<AlignedVec, CheckpointError> {
    read(named, layout, "")
}

/// Which of a run's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The model with the lowest validation loss.
    Best,
    /// The model of the latest checkpoint.
    Last,
}

/// Reads a model from a run's directory: if `None`, the best one, or the last where there was no evaluation.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_model(directory: &Path, which: Option<Which>) -> Result<Model, CheckpointError> {
    let best = match which {
        Some(which) => which == Which::Best,
        None => checkpoint::index_path(directory, BEST).exists(),
    };
    let name = if best { BEST } else { LAST };
    let (index, saved, stored) = checkpoint::load(directory, name, None)?;
    let path = checkpoint::index_path(directory, name);
    let wrong = |source| CheckpointError::Json { path: path.clone(), source };
    if index.kind != LAST {
        let what = format!("a model of {}: must be one of {LAST}", index.kind);
        return Err(CheckpointError::Index { path, what });
    }
    let Described { config, tokenizer } =
        serde_json::from_value(index.about["model"].clone()).map_err(wrong)?;
    check(&config, &tokenizer, &stored)?;
    let params = params(&Layout::new(&config), &stored.tensors()?)?;
    let (step, validation) = if best {
        let Best { step, validation } = serde_json::from_value(saved.snapshot).map_err(wrong)?;
        (step, Some(validation))
    } else {
        let Snapshot { history, .. } = serde_json::from_value(saved.snapshot).map_err(wrong)?;
        (history.step, history.validation.filter(|p| p.step == history.step).map(|p| p.loss))
    };
    Ok(Model { config, tokenizer, step, validation, params })
}

/// Reads the best model's parameters, if it is the one of this step.
///
/// # Errors
/// See [`CheckpointError`].
pub fn best_params(
    layout: &Layout,
    step: u64,
    best: Option<(&Saved, &Stored)>,
) -> Result<Option<AlignedVec>, CheckpointError> {
    match best {
        Some((saved, stored)) if saved.step == step => Ok(Some(params(layout, &stored.tensors()?)?)),
        _ => Ok(None),
    }
}

/// Checks a model before its layout is made, which may be huge.
fn check(config: &Config, tokenizer: &Tokenizer, stored: &Stored) -> Result<(), CheckpointError> {
    config.check().map_err(|e| stored.wrong(format!("the index's model: {e}")))?;
    if config.vocab != tokenizer.vocab() {
        return Err(stored.wrong(format!(
            "the index's model: vocab = {}: must be the tokenizer's, {}",
            config.vocab,
            tokenizer.vocab()
        )));
    }
    let least = config.parameters().saturating_mul(4);
    if stored.len() < least {
        return Err(stored.wrong(format!("{} bytes: the index's model needs {least}", stored.len())));
    }
    Ok(())
}

/// A snapshot as JSON.
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("numbers and names")
}
