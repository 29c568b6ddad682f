//! Small models, batches and tables.

use std::path::Path;
use std::time::Duration;

use hotlanes::AlignedVec;
use hotlanes_train::data::csv::{self, Task};
use hotlanes_train::data::standardize::{Scale, Standardizer};
use hotlanes_train::data::table::{Column, Kind, Schema, Shares};
use hotlanes_train::models::mlp::data::{Data, Source};
use hotlanes_train::models::mlp::head::Targets;
use hotlanes_train::models::mlp::layout::Layout;
use hotlanes_train::models::mlp::predict::Predictor;
use hotlanes_train::models::mlp::settings::{Act, LossKind, Settings};
use hotlanes_train::models::mlp::state::{Described, Trained};
use hotlanes_train::models::mlp::trainer::Recipe;
use hotlanes_train::rng::Rng;
use hotlanes_train::shell::session::Options;
use hotlanes_train::shell::trainer::Recipe as _;
use hotlanes_train::store::files::System;

pub const ACTS: [Act; 4] = [Act::Silu, Act::Relu, Act::Gelu, Act::Tanh];
pub const LOSSES: [LossKind; 5] =
    [LossKind::Mse, LossKind::L1, LossKind::Huber, LossKind::Bce, LossKind::CrossEntropy];

/// Small enough for a debug build under emulation.
pub fn settings() -> Settings {
    Settings { hidden: vec![6, 5], batch: 12, warmup: 1, decay: 4, ..Settings::default() }
}

/// A run's recipe on rows that the program draws: a number of them that leaves a short last batch.
pub fn recipe(settings: Settings) -> Recipe {
    let shares = Shares { validation: 0.2, test: 0.1 };
    Recipe { settings, source: Source { file: None, columns: csv::Options::default(), rows: 50, shares } }
}

/// A session that says nothing.
pub fn options(out: &Path, goal: u64) -> Options<'_> {
    Options {
        out: out.to_owned(),
        goal: Some(goal),
        time: None,
        checkpoint_every: 2,
        checkpoint_after: Duration::MAX,
        keep: 1,
        finish: true,
        samples: None,
        quiet: true,
        command: "test".into(),
        profile: None,
        disk: &System,
    }
}

/// The recipe with its loss, and the data.
pub fn load(mut recipe: Recipe) -> (Recipe, Data) {
    let data = recipe.load().unwrap();
    (recipe, data)
}

/// The recipe and data of a CSV file with target `y`.
pub fn load_csv(text: &str, task: Task, settings: Settings) -> (tempfile::TempDir, Recipe, Data) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rows.csv");
    std::fs::write(&file, text).unwrap();
    let mut recipe = recipe(settings);
    recipe.source.file = Some(file);
    recipe.source.columns = csv::Options { target: Some("y".into()), task, ..csv::Options::default() };
    let (recipe, data) = load(recipe);
    (directory, recipe, data)
}

/// Parameters that are all far from 0.
pub fn rough(layout: &Layout, seed: u64) -> AlignedVec {
    let mut params = layout.init(seed);
    for (i, (_, _, place)) in layout.tensors().enumerate() {
        let mut rng = Rng::new(seed, 77, i as u64, 0);
        params[place].iter_mut().for_each(|p| *p += 0.4 * rng.normal());
    }
    params
}

/// The targets of a batch.
pub enum Rows {
    Numbers(Vec<f32>),
    Classes(Vec<u32>),
}

impl Rows {
    pub fn targets(&self) -> Targets<'_> {
        match self {
            Rows::Numbers(numbers) => Targets::Numbers(numbers),
            Rows::Classes(classes) => Targets::Classes(classes),
        }
    }
}

/// Features and targets for a loss.
pub fn batch(loss: LossKind, layout: &Layout, rows: usize, seed: u64) -> (Vec<f32>, Rows) {
    let mut rng = Rng::new(seed, 78, 0, 0);
    let x = (0..rows * layout.inputs()).map(|_| rng.normal()).collect();
    let targets = match loss {
        LossKind::CrossEntropy => {
            Rows::Classes((0..rows).map(|_| rng.below(layout.outputs()) as u32).collect())
        }
        LossKind::Bce => Rows::Numbers((0..rows).map(|_| rng.below(2) as f32).collect()),
        _ => Rows::Numbers((0..rows).map(|_| 2.0 * rng.normal()).collect()),
    };
    (x, targets)
}

/// A predictor of raw outputs, or of probabilities: nothing is standardised.
pub fn predictor(layout: &Layout, settings: &Settings, loss: LossKind, params: AlignedVec) -> Predictor {
    let column = |name: String, kind| Column { name, number: 0, kind };
    let classes = match loss {
        LossKind::Bce => 2,
        _ => layout.outputs(),
    };
    let names: Vec<String> = (0..classes).map(|i| format!("class {i}")).collect();
    let kind = if loss.classifies() { Kind::Categories(names) } else { Kind::Number };
    let schema = Schema {
        header: true,
        delimiter: b',',
        width: layout.inputs() + 1,
        columns: (0..layout.inputs()).map(|i| column(format!("x{i}"), Kind::Number)).collect(),
        target: column("y".into(), kind),
    };
    let identity = serde_json::to_value(vec![Scale::IDENTITY; layout.inputs()]).unwrap();
    let standardizer: Standardizer = serde_json::from_value(identity).unwrap();
    let model = Described {
        hidden: settings.hidden.clone(),
        activation: settings.activation,
        dropout: settings.dropout > 0.0,
        loss,
        schema,
        standardizer,
        target: (!loss.classifies()).then_some(Scale::IDENTITY),
    };
    Predictor::new(Trained { model, step: 1, params })
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
