//! A small run of each trainer.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use hotlanes_train::data::{csv, idx, table, text};
use hotlanes_train::models::gpt::settings::Preset;
use hotlanes_train::models::population::evolve::Evolution;
use hotlanes_train::models::population::run::{Config, OptimizerKind};
use hotlanes_train::models::{gpt, mlp, population};
use hotlanes_train::shell::error::Error;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session::{self, Ending, Options};
use hotlanes_train::shell::trainer::Recipe;
use hotlanes_train::shell::verify::FINAL;
use hotlanes_train::store::files::Disk;
use serde_json::Value;

/// A recipe, and how much of it is a whole run.
pub trait Small: Recipe {
    const GOAL: u64;

    fn small() -> Self;
}

impl Small for gpt::trainer::Recipe {
    const GOAL: u64 = 5;

    fn small() -> Self {
        let (mut settings, _) = Preset::Tiny.settings();
        (settings.model.layers, settings.model.dim, settings.model.block) = (1, 16, 8);
        (settings.batch, settings.eval_every, settings.eval_batches, settings.log_every) = (2, 2, 1, 2);
        (settings.schedule.warmup, settings.schedule.decay) = (1, 5);
        let source = text::Source { stories: 600, ..text::Source::default() };
        gpt::trainer::Recipe { settings, source }
    }
}

impl Small for population::trainer::Recipe {
    const GOAL: u64 = 3;

    fn small() -> Self {
        let config = Config {
            population: 5,
            hidden: vec![4],
            batch: 8,
            optimizer: OptimizerKind::AdamW,
            lr: 0.01,
            generation: 16,
            evolution: Evolution { elites: 1, ..Evolution::default() },
            ..Config::default()
        };
        let source = idx::Source { place: None, digits: 60, validation: 10 };
        population::trainer::Recipe { config, source }
    }
}

impl Small for mlp::trainer::Recipe {
    const GOAL: u64 = 3;

    /// Epochs of three steps.
    fn small() -> Self {
        let settings = mlp::settings::Settings {
            hidden: vec![6, 5],
            dropout: 0.1,
            batch: 12,
            warmup: 1,
            decay: 3,
            ..mlp::settings::Settings::default()
        };
        let shares = table::Shares { validation: 0.1, test: 0.1 };
        let source = mlp::data::Source { file: None, columns: csv::Options::default(), rows: 40, shares };
        mlp::trainer::Recipe { settings, source }
    }
}

/// A checkpoint after each step or generation, of which two are kept.
pub fn options<'a>(out: &Path, goal: Option<u64>, disk: &'a dyn Disk) -> Options<'a> {
    Options {
        out: out.to_owned(),
        goal,
        time: None,
        checkpoint_every: 1,
        checkpoint_after: Duration::MAX,
        keep: 2,
        finish: true,
        samples: None,
        quiet: true,
        command: "test".into(),
        profile: None,
        disk,
    }
}

pub fn start<R: Small>(out: &Path, disk: &dyn Disk) -> Result<Ending, Error> {
    session::start(R::small(), &options(out, Some(R::GOAL), disk), &Alone)
}

pub fn resume<R: Small>(out: &Path, disk: &dyn Disk) -> Result<Ending, Error> {
    session::resume(|_: &mut R| Ok(()), &options(out, None, disk), &Alone)
}

/// The chained lines of a log.
pub fn chained(out: &Path) -> Vec<Value> {
    let lines = hotlanes_train::store::log::read(&out.join(session::LOG)).unwrap();
    lines.into_iter().filter(|line| line.text.is_some()).map(|line| line.value).collect()
}

/// The lines that tell what was computed, which do not depend on when a run was saved or stopped: of the last
/// evaluations, which each end makes anew, the last.
pub fn computed(out: &Path) -> Vec<String> {
    let lines = hotlanes_train::store::log::read(&out.join(session::LOG)).unwrap();
    let (mut all, mut last) = (Vec::new(), None);
    for line in lines.into_iter().filter(|l| l.value["event"] != session::CHECKPOINT) {
        let is_last = line.value["event"] == FINAL;
        match line.text {
            Some(text) if is_last => last = Some(text),
            text => all.extend(text),
        }
    }
    all.extend(last);
    all
}

/// Fails with the first line that differs.
#[track_caller]
pub fn assert_same_lines(have: &[String], want: &[String], what: impl Display) {
    for (i, (have, want)) in have.iter().zip(want).enumerate() {
        assert_eq!(have, want, "{what}: computed line {i}");
    }
    assert_eq!(have.len(), want.len(), "{what}: {:?}", &have[have.len().min(want.len())..]);
}
