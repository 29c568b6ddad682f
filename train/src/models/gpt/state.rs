//! A run and a model as checkpoints, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::engine::Engine;
use super::params::Layout;
use super::run::History;
use super::settings::Settings;
use crate::aligned::Aligned;
use crate::data::text::Source;
use crate::data::tokenizer::Tokenizer;
use crate::store::checkpoint::{self, CheckpointError, Named, Stored, Tensors};
use crate::store::hash;

/// The name of a run's checkpoint in its directory: all that the run goes on from.
pub const LAST: &str = "gpt";

/// The name of the best model's checkpoint: its parameters alone.
pub const BEST: &str = "best";

/// What the JSON file of a run says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The settings.
    pub settings: Settings,
    /// The step at which the run is to end.
    pub steps: u64,
    /// Where the text comes from.
    pub source: Source,
    /// A hash of its tokens.
    pub data: String,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
    /// What has been.
    pub history: History,
    /// Steps of the optimizer: those that were not skipped.
    pub optimizer_steps: u64,
    /// A hash of parameters and moments, by which the tensors are known to be those of this file.
    pub hash: String,
}

/// What the JSON file of the best model says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Best {
    /// The model.
    pub model: Config,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
    /// Steps that it has learnt.
    pub step: u64,
    /// Its loss by validation.
    pub validation: f64,
    /// A hash of its parameters.
    pub hash: String,
}

/// A model to generate with.
#[derive(Debug)]
pub struct Model {
    /// What it is.
    pub config: Config,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
    /// Steps that it has learnt.
    pub step: u64,
    /// Its loss by validation, if it was evaluated at that step.
    pub validation: Option<f64>,
    /// Its parameters.
    pub params: Aligned,
}

/// A hash of parameters alone.
pub fn params_hash(params: &[f32]) -> String {
    format!("{:016x}", hash::floats(hash::START, params))
}

/// A hash of everything that an engine goes on from.
pub fn engine_hash(engine: &Engine) -> u64 {
    let (m, v, steps) = engine.state();
    [engine.params(), m, v].into_iter().fold(hash::add(hash::START, steps), hash::floats)
}

/// The prefixes of the moments' names.
const MOMENTS: [&str; 2] = ["adamw.m.", "adamw.v."];

fn add(tensors: &mut Tensors, layout: &Layout, prefix: &str, values: &[f32]) {
    for tensor in layout.tensors() {
        let name = format!("{prefix}{}", tensor.name);
        tensors.add(name, &tensor.shape, values[tensor.range.clone()].iter().copied());
    }
}

fn read(named: &Named<'_>, layout: &Layout, prefix: &str) -> Result<Aligned, CheckpointError> {
    let mut values = Aligned::default();
    values.resize(layout.len());
    for tensor in layout.tensors() {
        let to = &mut values[tensor.range.clone()];
        named.read(&format!("{prefix}{}", tensor.name), &tensor.shape, to)?;
    }
    Ok(values)
}

/// A model's parameters as tensors.
pub fn model_tensors(config: &Config, params: &[f32]) -> Tensors {
    let mut tensors = Tensors::default();
    add(&mut tensors, &Layout::new(config), "", params);
    tensors
}

/// An engine's parameters and moments as tensors.
pub fn engine_tensors(engine: &Engine) -> Tensors {
    let (m, v, _) = engine.state();
    let mut tensors = model_tensors(engine.config(), engine.params());
    for (prefix, values) in MOMENTS.into_iter().zip([m, v]) {
        add(&mut tensors, engine.layout(), prefix, values);
    }
    tensors
}

/// Parameters and moments.
pub struct Values {
    /// Parameters.
    pub params: Aligned,
    /// First moments.
    pub m: Aligned,
    /// Second moments.
    pub v: Aligned,
}

/// The tensors of a run's checkpoint.
///
/// # Errors
/// They are not those of the settings, or the file is cut.
pub fn values(state: &State, stored: &Stored) -> Result<Values, CheckpointError> {
    check(&state.settings.model, &state.tokenizer, stored)?;
    let named = stored.tensors()?;
    let layout = Layout::new(&state.settings.model);
    let params = read(&named, &layout, "")?;
    let [m, v] = MOMENTS.map(|prefix| read(&named, &layout, prefix));
    Ok(Values { params, m: m?, v: v? })
}

/// What must hold before a layout can be made.
fn check(config: &Config, tokenizer: &Tokenizer, stored: &Stored) -> Result<(), CheckpointError> {
    config.check().map_err(|e| stored.wrong(format!("the JSON file's model: {e}")))?;
    if config.vocab != tokenizer.vocab() {
        return Err(stored.wrong(format!(
            "the JSON file's model: vocab = {}: must be the tokenizer's, {}",
            config.vocab,
            tokenizer.vocab()
        )));
    }
    Ok(())
}

/// The error of tensors that have another hash than the JSON file says.
pub fn check_hash(stored: &Stored, have: &str, want: &str) -> Result<(), CheckpointError> {
    if have == want {
        return Ok(());
    }
    Err(stored.wrong(format!("the tensors' hash is {have}: the JSON file says {want}")))
}

/// Which of a run's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The one with the least loss by validation.
    Best,
    /// The one after the last step that was saved.
    Last,
}

/// Reads a model from a run's directory: if `None`, the best one, or where no evaluation has been the last one.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load_model(directory: &Path, which: Option<Which>) -> Result<Model, CheckpointError> {
    let best = match which {
        Some(which) => which == Which::Best,
        None => checkpoint::json_path(directory, BEST).exists(),
    };
    if !best {
        let (state, stored) = checkpoint::load::<State>(directory, LAST)?;
        let Values { params, m, v } = values(&state, &stored)?;
        let have = [&params, &m, &v].into_iter();
        let have =
            have.fold(hash::add(hash::START, state.optimizer_steps), |h, values| hash::floats(h, values));
        check_hash(&stored, &format!("{have:016x}"), &state.hash)?;
        let step = state.history.step;
        let validation = state.history.validation.last().filter(|p| p.step == step).map(|p| p.loss);
        return Ok(Model {
            config: state.settings.model,
            tokenizer: state.tokenizer,
            step,
            validation,
            params,
        });
    }
    let (state, stored) = checkpoint::load::<Best>(directory, BEST)?;
    check(&state.model, &state.tokenizer, &stored)?;
    let params = read(&stored.tensors()?, &Layout::new(&state.model), "")?;
    check_hash(&stored, &params_hash(&params), &state.hash)?;
    let Best { model, tokenizer, step, validation, .. } = state;
    Ok(Model { config: model, tokenizer, step, validation: Some(validation), params })
}
