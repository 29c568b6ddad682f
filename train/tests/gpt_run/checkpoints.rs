//! A run resumes from its checkpoints to the same bits; what is wrong with a checkpoint is told, and nothing
//! overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hotlanes_train::data::text::Corpus;
use hotlanes_train::data::tokenizer::Kind;
use hotlanes_train::models::gpt::run::Run;
use hotlanes_train::models::gpt::settings::Settings;
use hotlanes_train::models::gpt::state::{self, LAST, Snapshot, Which};
use hotlanes_train::models::gpt::trainer::Recipe;
use hotlanes_train::rng::Rng;
use hotlanes_train::shell::error::Error;
use hotlanes_train::shell::ranks::{Alone, Ranks, threads};
use hotlanes_train::shell::session::{self, Ending, Options};
use hotlanes_train::shell::trainer::{BEST, Trainer};
use hotlanes_train::store::checkpoint::{self, Checkpoints, Saved};
use hotlanes_train::store::files::System;
use hotlanes_train::store::tensors::Tensors;

use super::bits::{Losses, advance, hash_of};
use super::{corpus, other, settings, source};

fn options(out: &Path, steps: u64) -> Options<'static> {
    Options {
        out: out.to_owned(),
        goal: Some(steps),
        time: None,
        checkpoint_every: 3,
        checkpoint_after: Duration::MAX,
        keep: 1,
        finish: false,
        samples: None,
        quiet: true,
        command: "test".into(),
        profile: None,
        disk: &System,
    }
}

fn start(settings: Settings, options: &Options<'_>, ranks: &dyn Ranks) -> Result<Ending, Error> {
    session::start(Recipe { settings, source: source(Kind::Char) }, options, ranks)
}

fn resume(options: &Options<'_>, ranks: &dyn Ranks) -> Result<Ending, Error> {
    session::resume(|_: &mut Recipe| Ok(()), options, ranks)
}

/// The state in a directory's last checkpoint.
fn last(directory: &Path) -> Snapshot {
    let (_, saved, _) = checkpoint::load(directory, LAST, None).unwrap();
    serde_json::from_value(saved.snapshot).unwrap()
}

fn restore(directory: &Path, settings: Settings, corpus: &Corpus) -> Result<(), String> {
    let (_, saved, stored) = checkpoint::load(directory, LAST, None).map_err(|e| e.to_string())?;
    let mut run = Run::new(settings, corpus, &Alone).map_err(|e| e.to_string())?;
    session::restore(&mut run, directory, LAST, &saved, &stored).map_err(|e| e.to_string())
}

fn save<T: Trainer>(directory: &Path, trainer: &T) {
    let snapshot = serde_json::to_value(trainer.snapshot()).unwrap();
    let (tensors, step) = (trainer.tensors(), trainer.position());
    let saved = Saved { step, sha256: tensors.digest(&snapshot), log: None, snapshot };
    let mut all = Checkpoints::new(&System, directory, LAST, LAST, 1);
    all.save(serde_json::Value::Null, saved, &tensors).unwrap();
}

#[test]
fn a_run_resumes_from_each_step_to_the_same_bits() {
    let corpus = corpus();
    for settings in [settings(), other()] {
        let mut whole = Run::new(settings.clone(), &corpus, &Alone).unwrap();
        let mut all = Losses::default();
        advance(&mut whole, 10, &mut all);
        for stop in [0, 4, 5, 9] {
            let directory = tempfile::tempdir().unwrap();
            let mut run = Run::new(settings.clone(), &corpus, &Alone).unwrap();
            let mut losses = Losses::default();
            advance(&mut run, stop, &mut losses);
            save(directory.path(), &run);
            drop(run);
            let (_, saved, stored) = checkpoint::load(directory.path(), LAST, None).unwrap();
            let mut run = Run::new(settings.clone(), &corpus, &Alone).unwrap();
            session::restore(&mut run, directory.path(), LAST, &saved, &stored).unwrap();
            advance(&mut run, 10, &mut losses);
            assert_eq!(losses, all, "stopped at {stop}");
            assert_eq!(
                (hash_of(&run, &losses), &run.history),
                (hash_of(&whole, &all), &whole.history),
                "stopped at {stop}"
            );
            assert_eq!(session::digest(&run), session::digest(&whole));
        }
    }
}

#[test]
fn sessions_of_one_and_of_several_ranks_leave_the_same_files() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = options(one.path(), 10);
    whole.finish = true;
    assert_eq!(start(settings(), &whole, &Alone).unwrap(), Ending::Done);
    // Two ranks to step 4, one to 7, four to 10.
    let part = |ranks, steps| {
        let mut options = options(two.path(), steps);
        options.finish = steps == 10;
        let ended = threads::run(ranks, |thread| {
            if steps == 4 {
                start(settings(), &options, thread).unwrap()
            } else {
                resume(&options, thread).unwrap()
            }
        });
        assert!(ended.iter().all(|e| *e == Ending::Done));
    };
    part(2, 4);
    part(1, 7);
    part(4, 10);
    for file in ["gpt-000000000010.safetensors", "best.json", "loss.svg"] {
        let read = |directory: &Path| fs::read(directory.join(file)).unwrap();
        assert!(read(one.path()) == read(two.path()), "{file}");
    }
    let (state, state_of_parts) = (last(one.path()), last(two.path()));
    assert_eq!(state.history, state_of_parts.history);
    let line = |directory: &Path, event: &str| {
        let log = fs::read_to_string(directory.join("log.jsonl")).unwrap();
        let mut lines = log.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.rfind(|line| line["event"] == event).unwrap()
    };
    for (event, keys) in [("final", &["step", "whole", "whole_best"][..]), ("stop", &["ending", "hash"])] {
        let (a, b) = (line(one.path(), event), line(two.path(), event));
        for key in keys {
            assert_eq!(a[key], b[key], "{event} {key}");
            assert!(!a[key].is_null(), "{event} {key}");
        }
    }
    assert!(line(one.path(), "final")["whole"].as_f64().unwrap() > 1.0);
    // Both models can be had; a run of ten steps has its best behind its fifth, at least.
    let best = state::load_model(one.path(), Some(Which::Best)).unwrap();
    let point = state.history.best.unwrap();
    assert_eq!((best.step, best.validation), (point.step, Some(point.loss)));
    assert_eq!(state::load_model(one.path(), Some(Which::Last)).unwrap().step, 10);
    assert!(one.path().join(format!("{BEST}.json")).is_file());
}

#[test]
fn the_best_model_is_kept_and_a_run_stops_early() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.schedule.warmup = 0;
    settings.schedule.decay = 40;
    settings.eval_every = 5;
    settings.patience = 3;
    // A text of 3000 bytes is soon known by heart, and the loss by validation goes up.
    settings.schedule.lr = 0.05;
    settings.schedule.min_lr = 0.05;
    let long = options(directory.path(), 2000);
    assert_eq!(start(settings, &long, &Alone).unwrap(), Ending::Early);
    let history = last(directory.path()).history;
    let best = history.best.unwrap();
    assert_eq!((history.since_best, history.step), (3, best.step + 15));
    assert!(history.validation.unwrap().loss >= best.loss);
    assert!(history.step < 2000);
    let model = state::load_model(directory.path(), None).unwrap();
    assert_eq!((model.step, model.validation), (best.step, Some(best.loss)));
    // A resumed run ends at once, for the same reason.
    let again = resume(&options(directory.path(), 4000), &Alone).unwrap();
    assert_eq!(again, Ending::Early);
}

#[test]
fn what_diverges_says_so_and_leaves_the_last_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.schedule = hotlanes_train::schedule::Schedule { lr: 1e30, min_lr: 1e30, warmup: 0, decay: 100 };
    settings.eval_every = 1000;
    let error = start(settings, &options(directory.path(), 100), &Alone).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.starts_with("step 1") && error.contains("no gradient of the last 10 steps was finite"),
        "{error}"
    );
    // The checkpoint of step 9 is the last before the failure.
    let (_, saved, stored) = checkpoint::load(directory.path(), LAST, None).unwrap();
    let tensors = stored.tensors().unwrap();
    let params: Vec<f32> = tensors.get("transformer.wte.weight").unwrap();
    assert!(params.iter().all(|p| p.is_finite()));
    let Snapshot { history, optimizer_steps } = serde_json::from_value(saved.snapshot).unwrap();
    assert_eq!((history.step, history.skipped + optimizer_steps), (9, 9));
    let log = fs::read_to_string(directory.path().join("log.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["ending"]), (&"stop".into(), &"failed".into()));
}

/// Names and contents of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |e: std::io::Result<fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
    };
    let mut all: BTreeMap<_, _> = fs::read_dir(directory).unwrap().map(entry).collect();
    all.remove(hotlanes_train::shell::lock::FILE);
    all
}

#[test]
fn a_wrong_checkpoint_is_told_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    start(settings(), &options(path, 6), &Alone).unwrap();
    let good = contents(path);
    let tensors = path.join("gpt-000000000006.safetensors");
    let json = path.join("gpt.json");
    let text = fs::read_to_string(&json).unwrap();
    // Resumes what is there, wants an error that says so, no change, and puts the good files back.
    let told = |what: &str| {
        let before = contents(path);
        let error = resume(&options(path, 10), &Alone).unwrap_err().to_string();
        assert!(error.contains(what), "{error}: {what}");
        assert!(contents(path) == before, "{what}");
        for (name, bytes) in &good {
            fs::write(path.join(name), bytes).unwrap();
        }
    };
    let bytes = fs::read(&tensors).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&tensors, &bytes[..length]).unwrap();
        told("gpt-000000000006.safetensors");
    }
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&tensors, flipped).unwrap();
    told("its hash is");
    fs::remove_file(&tensors).unwrap();
    told("gpt-000000000006.safetensors");
    for (from, to, what) in [
        ("\"dim\": 16", "\"dim\": 32", "has the shape [46, 16]: must be [46, 32]"),
        ("\"layers\": 2", "\"layers\": 3", "no tensor \"transformer.h.2"),
        ("\"layers\": 2", "\"layers\": 99999999999", "must be at most 4096"),
        ("\"batch\": 4", "\"batch\": 0", "batch = 0: must be at least 1"),
        ("\"optimizer_steps\": 6", "\"optimizer_steps\": 7", "its hash is"),
        ("\"kind\": \"gpt\"", "\"kind\": \"population\"", "a run of population"),
        ("\"tokenizer\": \"char\"", "\"tokenizer\": \"words\"", "gpt.json"),
        ("\"stories\": 3000", "\"stories\": 4000", "the run in"),
        ("\"format\": 2", "\"format\": 3", "format 3: this program reads format 2"),
        ("\"step\": 6,\n      \"sha256\"", "\"step\": 7,\n      \"sha256\"", "gpt-000000000007"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&json, text.replace(from, to)).unwrap();
        told(what);
    }
    // Another run's tensors, of another model.
    let values = [1.0_f32, 2.0];
    let mut other = Tensors::default();
    other.add("weight", &[2], &values);
    let elsewhere = tempfile::tempdir().unwrap();
    let snapshot = serde_json::Value::Null;
    let saved = Saved { step: 6, sha256: other.digest(&snapshot), log: None, snapshot };
    let mut all = Checkpoints::new(&System, elsewhere.path(), LAST, LAST, 1);
    all.save(serde_json::Value::Null, saved, &other).unwrap();
    fs::copy(elsewhere.path().join("gpt-000000000006.safetensors"), &tensors).unwrap();
    told("its hash is");
    // Another text; a new run in an old one's place.
    let file = elsewhere.path().join("text");
    fs::write(&file, "abc".repeat(500)).unwrap();
    let moved = |recipe: &mut Recipe| Ok(recipe.source.relocate(Some(&file), None)?);
    let error = session::resume(moved, &options(path, 10), &Alone).unwrap_err();
    assert!(matches!(error, Error::OtherData { .. }), "{error}");
    let error = start(settings(), &options(path, 10), &Alone).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    assert!(contents(path) == good);
    // And after all that it can be resumed.
    assert_eq!(resume(&options(path, 10), &Alone).unwrap(), Ending::Done);
}

/// Whatever byte is wrong, reading ends with an error or with a model, and never in a panic.
#[test]
fn any_wrong_byte_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    start(settings(), &options(path, 5), &Alone).unwrap();
    let good = contents(path);
    let corpus = corpus();
    let mut rng = Rng::new(1, 0, 0, 0);
    let mut refused = 0;
    for round in 0..100 {
        let kind = [".json", ".safetensors"][round % 2];
        for (name, bytes) in good.iter().filter(|(name, _)| name.ends_with(kind)) {
            let mut bytes = bytes.clone();
            // The header and its length are where it matters.
            let at = rng.below(bytes.len().min(2000));
            match rng.below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes[at] = b'9',
                _ => bytes.insert(at, rng.bits() as u8),
            }
            fs::write(path.join(name), bytes).unwrap();
        }
        refused += usize::from(state::load_model(path, Some(Which::Best)).is_err());
        refused += usize::from(state::load_model(path, Some(Which::Last)).is_err());
        refused += usize::from(restore(path, settings(), &corpus).is_err());
        for (name, bytes) in &good {
            fs::write(path.join(name), bytes).unwrap();
        }
    }
    assert!(refused > 150, "of 300 readings {refused} were refused");
}

#[test]
fn ranks_that_differ_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path(), 4);
    let errors = threads::run(2, |thread| {
        let mut settings = settings();
        settings.seed += thread.rank as u64;
        start(settings, &options, thread).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|e| e.starts_with("rank 1 has other settings")), "{errors:?}");
    assert!(!directory.path().join("log.jsonl").exists());
}
