//! A run and a model as checkpoints, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::Data;
use super::layout::Layout;
use super::run::{History, Run};
use super::settings::{Act, LossKind, Settings};
use crate::data::standardize::{Scale, Standardizer};
use crate::data::table::Schema;
use crate::shell::trainer::BEST;
use crate::store::checkpoint::{self, CheckpointError};
use crate::store::tensors::{Named, Tensors};
use hotlanes::AlignedVec;

/// The name of a run's checkpoint in its directory.
pub const NAME: &str = "mlp";

/// The prefixes of the names of moments, and of the best model's parameters.
const MOMENTS: [&str; 2] = ["adamw.m.", "adamw.v."];
const OF_BEST: &str = "best.";

/// Steps at most: no machine gets there.
const MOST_STEPS: u64 = 1 << 53;

/// A run's state without its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Training history.
    pub history: History,
}

/// Beside the tensors, all that there is to a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Described {
    /// Sizes of the hidden layers.
    pub hidden: Vec<usize>,
    /// Their activation.
    pub activation: Act,
    /// Whether there was dropout, by which tensors have other names.
    pub dropout: bool,
    /// The loss.
    pub loss: LossKind,
    /// The columns.
    pub schema: Schema,
    /// What features are standardised by.
    pub standardizer: Standardizer,
    /// The target's scale, unless it is a class.
    pub target: Option<Scale>,
}

impl Described {
    /// The model of a run.
    pub fn new(settings: &Settings, loss: LossKind, data: &Data) -> Self {
        Described {
            hidden: settings.hidden.clone(),
            activation: settings.activation,
            dropout: settings.dropout > 0.0,
            loss,
            schema: data.schema.clone(),
            standardizer: data.standardizer.clone(),
            target: data.target,
        }
    }

    /// Where the parameters lie.
    pub fn layout(&self) -> Layout {
        let outputs = self.loss.outputs(self.schema.classes().map(<[String]>::len));
        Layout::new(self.schema.features(), &self.hidden, outputs, self.dropout)
    }

    /// Checks what a file says before its layout is made, which may be huge.
    fn check(&self, bytes: usize) -> Result<(), String> {
        let settings = Settings { hidden: self.hidden.clone(), batch: 1, ..Settings::default() };
        let classes = self.schema.classes().map(<[String]>::len);
        let (features, outputs) = (self.schema.features(), self.loss.outputs(classes));
        settings.check_widths(features, outputs).map_err(|e| e.to_string())?;
        if self.loss.classifies() != classes.is_some() || (self.loss == LossKind::Bce && classes != Some(2)) {
            return Err(format!("loss {:?} with {classes:?} classes", self.loss));
        }
        if self.target.is_some() == classes.is_some() {
            return Err("a target's scale: must be there for numbers alone".into());
        }
        let scales = self.standardizer.scales().len();
        if scales != features {
            return Err(format!("{scales} scales for {features} features"));
        }
        let least = self.layout().parameters().saturating_mul(4);
        if bytes < least {
            return Err(format!("{bytes} bytes: the index's model needs {least}"));
        }
        Ok(())
    }
}

/// The snapshot of the best model.
#[derive(Clone, Debug, Serialize)]
pub struct Best {
    /// Epochs done.
    pub epoch: u64,
    /// The validation loss.
    pub validation: f64,
}

fn add<'a>(tensors: &mut Tensors<'a>, layout: &Layout, prefix: &str, values: &'a [f32]) {
    for (name, shape, place) in layout.tensors() {
        tensors.add(format!("{prefix}{name}"), &shape, &values[place]);
    }
}

fn read(named: &Named<'_>, layout: &Layout, prefix: &str) -> Result<AlignedVec, CheckpointError> {
    let mut values = layout.zeros();
    for (name, shape, place) in layout.tensors() {
        named.read(&format!("{prefix}{name}"), &shape, &mut values[place])?;
    }
    Ok(values)
}

/// A model's parameters as tensors.
pub fn model_tensors<'a>(layout: &Layout, params: &'a [f32]) -> Tensors<'a> {
    let mut tensors = Tensors::default();
    add(&mut tensors, layout, "", params);
    tensors
}

impl Run<'_> {
    pub(super) fn all_tensors(&self) -> Tensors<'_> {
        let layout = self.engine.layout();
        let mut tensors = model_tensors(layout, self.engine.params());
        let (m, v, _) = self.engine.state();
        for (prefix, values) in MOMENTS.into_iter().zip([m, v]) {
            add(&mut tensors, layout, prefix, values);
        }
        if self.history.best.is_some() {
            add(&mut tensors, layout, OF_BEST, &self.best);
        }
        tensors
    }

    pub(super) fn take(&mut self, snapshot: Snapshot, named: &Named<'_>) -> Result<(), CheckpointError> {
        let Snapshot { history } = snapshot;
        named.check_counts(&[("step", history.step), ("since_best", history.since_best)], MOST_STEPS)?;
        let layout = self.engine.layout();
        let params = read(named, layout, "")?;
        let [m, v] = MOMENTS.map(|prefix| read(named, layout, prefix));
        let best = history.best.map(|_| read(named, layout, OF_BEST)).transpose()?;
        self.engine.restore(&params, &m?, &v?, history.step);
        self.restore_state(history, best);
        Ok(())
    }
}

/// A model to predict with.
#[derive(Debug)]
pub struct Trained {
    /// What it is.
    pub model: Described,
    /// Steps that it was trained for.
    pub step: u64,
    /// Its parameters.
    pub params: AlignedVec,
}

/// Reads the best model from a run's directory; `last` the one after the last step that was saved.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load(directory: &Path, last: bool) -> Result<Trained, CheckpointError> {
    let name = if last || !checkpoint::index_path(directory, BEST).exists() { NAME } else { BEST };
    let (index, saved, stored) = checkpoint::load(directory, name, None)?;
    let path = checkpoint::index_path(directory, name);
    let wrong = |source| CheckpointError::Json { path: path.clone(), source };
    if index.kind != NAME {
        let what = format!("a model of {}: must be one of {NAME}", index.kind);
        return Err(CheckpointError::Index { path, what });
    }
    let model: Described = serde_json::from_value(index.about["model"].clone()).map_err(wrong)?;
    model.check(stored.len()).map_err(|e| stored.wrong(format!("the index's model: {e}")))?;
    let params = read(&stored.tensors()?, &model.layout(), "")?;
    Ok(Trained { model, step: saved.step, params })
}

/// As JSON.
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("numbers and names")
}
