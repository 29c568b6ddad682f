//! A run that is interrupted anywhere, in the middle of an epoch too, is the run that nothing happened to; it stops
//! early where it should, and keeps the best model.

use std::path::Path;

use hotlanes_train::models::mlp::data::Data;
use hotlanes_train::models::mlp::run::{Point, Run};
use hotlanes_train::models::mlp::settings::Settings;
use hotlanes_train::models::mlp::state::{self, NAME};
use hotlanes_train::models::mlp::trainer::Recipe;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session::{self, Ending};
use hotlanes_train::shell::trainer::{BEST, Trainer};
use hotlanes_train::store::checkpoint::{self, Checkpoints, Saved};
use hotlanes_train::store::files::System;
use hotlanes_train::store::log;
use serde_json::{Value, json};

use crate::common::{bits, load, options, recipe, settings};

/// What a run did: the fields of its evaluations.
type Events = Vec<String>;

/// Takes pieces of work until the run's end, or so many.
fn advance(run: &mut Run<'_>, pieces: usize, events: &mut Events) -> usize {
    let mut done = 0;
    while done < pieces && (run.is_due() || (run.epoch() < 4 && !run.is_early())) {
        events.extend(Trainer::advance(run).unwrap().map(|event| event.fields));
        done += 1;
    }
    done
}

fn state(run: &Run<'_>) -> String {
    run.tensors().digest(&serde_json::to_value(run.snapshot()).unwrap())
}

fn save(directory: &Path, run: &Run<'_>) {
    let snapshot = serde_json::to_value(run.snapshot()).unwrap();
    let (tensors, step) = (run.tensors(), run.position());
    let saved = Saved { step, sha256: tensors.digest(&snapshot), log: None, snapshot };
    let mut all = Checkpoints::new(&System, directory, NAME, NAME, 1);
    all.save(Value::Null, saved, &tensors).unwrap();
}

fn restored<'a>(directory: &Path, settings: &Settings, data: &'a Data) -> Run<'a> {
    let (_, saved, stored) = checkpoint::load(directory, NAME, None).unwrap();
    let mut run = Run::new(settings.clone(), data).unwrap();
    session::restore(&mut run, directory, NAME, &saved, &stored).unwrap();
    run
}

#[test]
fn a_run_resumes_from_everywhere_to_the_same_bits() {
    for change in
        [Settings { dropout: 0.2, ..settings() }, Settings { eval_every: 3, hidden: vec![], ..settings() }]
    {
        let (recipe, data) = load(recipe(change));
        let mut whole = Run::new(recipe.settings.clone(), &data).unwrap();
        let mut all = Events::new();
        let pieces = advance(&mut whole, usize::MAX, &mut all);
        // Four epochs of three steps, with an evaluation before the first.
        assert_eq!((whole.steps_per_epoch(), whole.history.step), (3, 12));
        assert!(pieces > 12 && all.len() == pieces - 12, "{pieces}");
        for stop in 0..=pieces {
            let directory = tempfile::tempdir().unwrap();
            let mut run = Run::new(recipe.settings.clone(), &data).unwrap();
            let mut events = Events::new();
            assert_eq!(advance(&mut run, stop, &mut events), stop);
            save(directory.path(), &run);
            let mut run = restored(directory.path(), &recipe.settings, &data);
            advance(&mut run, usize::MAX, &mut events);
            assert_eq!(events, all, "stopped after {stop}");
            assert_eq!(state(&run), state(&whole), "stopped after {stop}");
            assert_eq!(finals(&mut run), finals(&mut whole), "stopped after {stop}");
        }
    }
}

fn finals(run: &mut Run<'_>) -> String {
    run.finish(None, &|| false).unwrap().unwrap().fields
}

/// A run whose validation loss soon rises: few rows, many weights, a high learning rate.
fn overfit(patience: u64) -> Recipe {
    let settings = Settings { hidden: vec![32], lr: 0.05, warmup: 0, decay: 400, patience, ..settings() };
    recipe(settings)
}

#[test]
fn a_run_stops_early_and_keeps_its_best_model() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let ending = session::start(overfit(5), &options(out, 400), &Alone).unwrap();
    assert_eq!((ending, ending.exit_code()), (Ending::Early, 0));
    let lines: Vec<Value> =
        log::read(&out.join(session::LOG)).unwrap().into_iter().map(|l| l.value).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    let losses: Vec<f64> =
        of("evaluation").iter().skip(1).map(|line| line["validation"].as_f64().unwrap()).collect();
    let best = (0..losses.len()).fold(0, |best, i| if losses[i] < losses[best] { i } else { best });
    assert_eq!(losses.len(), best + 1 + 5, "five evaluations without a better one");
    let point = Point { epoch: best as u64 + 1, loss: losses[best] };

    // The same run without patience was there at that epoch.
    let (recipe, data) = load(overfit(0));
    let mut run = Run::new(recipe.settings, &data).unwrap();
    while run.epoch() < point.epoch || run.is_due() {
        Trainer::advance(&mut run).unwrap();
    }
    assert_eq!(run.history.validation, Some(point));
    let trained = state::load(out, false).unwrap();
    assert_eq!((trained.step, bits(&trained.params)), (3 * point.epoch, bits(run.engine.params())));
    let (index, saved, _) = checkpoint::load(out, BEST, None).unwrap();
    assert_eq!((index.saved.len(), saved.step), (1, 3 * point.epoch));
    assert_eq!(saved.snapshot, json!({ "epoch": point.epoch, "validation": point.loss }));
    assert_eq!(of("final")[0]["best_epoch"], point.epoch);
    assert_eq!(of("final")[0]["test"], serde_json::from_str::<Value>(&finals(&mut run)).unwrap()["test"]);
    // The last model is another.
    let last = state::load(out, true).unwrap();
    assert_eq!(last.step, 3 * losses.len() as u64);
    assert_ne!(bits(&last.params), bits(&trained.params));

    // Resumed, it stops at once, and says the same.
    let again = session::resume(|_: &mut Recipe| Ok(()), &options(out, 500), &Alone).unwrap();
    assert_eq!(again, Ending::Early);
    assert_eq!(bits(&state::load(out, false).unwrap().params), bits(&trained.params));
}

#[test]
fn without_patience_it_trains_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(session::start(overfit(0), &options(directory.path(), 60), &Alone).unwrap(), Ending::Done);
    let saved = checkpoint::load(directory.path(), NAME, None).unwrap().1;
    assert_eq!(saved.step, 180);
    assert!(saved.snapshot["history"]["since_best"].as_u64().unwrap() > 5, "{}", saved.snapshot);
}

/// Without an evaluation no model is the best: the last is what there is.
#[test]
fn a_run_that_was_never_evaluated_predicts_with_its_last_model() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let rare = recipe(Settings { eval_every: 9, ..settings() });
    assert_eq!(session::start(rare, &options(out, 2), &Alone).unwrap(), Ending::Done);
    assert!(!checkpoint::index_path(out, BEST).exists());
    let [best, last] = [false, true].map(|last| state::load(out, last).unwrap());
    assert_eq!(bits(&best.params), bits(&last.params));
    assert_eq!((best.step, last.step), (6, 6));
}
