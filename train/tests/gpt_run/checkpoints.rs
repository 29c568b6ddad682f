//! What is saved is all that a run goes on from; what is wrong with a checkpoint is told, and nothing overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hotlanes_train::data::text::Corpus;
use hotlanes_train::data::tokenizer::Kind;
use hotlanes_train::models::gpt::ranks::{Alone, threads};
use hotlanes_train::models::gpt::run::Run;
use hotlanes_train::models::gpt::session::{self, Ending, Options, SessionError};
use hotlanes_train::models::gpt::state::{self, LAST, State, Which};
use hotlanes_train::rng::Rng;
use hotlanes_train::store::checkpoint::{self, Tensors};

use super::bits::{advance, hash_of};
use super::{corpus, other, settings, source};

fn options(out: &Path, steps: u64) -> Options {
    Options {
        out: out.to_owned(),
        steps: Some(steps),
        time: None,
        checkpoint_every: 3,
        whole: false,
        quiet: true,
    }
}

fn state_of(run: &Run<'_>, corpus: &Corpus) -> State {
    State {
        settings: run.settings().clone(),
        steps: 10,
        source: source(Kind::Char),
        data: format!("{:016x}", corpus.hash()),
        tokenizer: corpus.tokenizer.clone(),
        history: run.history.clone(),
        optimizer_steps: run.engine.state().2,
        hash: format!("{:016x}", state::engine_hash(&run.engine)),
    }
}

#[test]
fn a_run_goes_on_from_each_step_to_the_same_bits() {
    let corpus = corpus();
    for settings in [settings(), other()] {
        let mut whole = Run::new(settings.clone(), &corpus, &Alone).unwrap();
        advance(&mut whole, 10);
        for stop in [0, 4, 5, 9] {
            let directory = tempfile::tempdir().unwrap();
            let mut run = Run::new(settings.clone(), &corpus, &Alone).unwrap();
            advance(&mut run, stop);
            let saved = state_of(&run, &corpus);
            checkpoint::save(directory.path(), LAST, stop, &state::engine_tensors(&run.engine), &saved)
                .unwrap();
            drop(run);
            let (state, stored) = checkpoint::load::<State>(directory.path(), LAST).unwrap();
            let values = state::values(&state, &stored).unwrap();
            let State { settings, history, optimizer_steps, .. } = state;
            let mut run = Run::resume(settings, &corpus, &Alone, &values, optimizer_steps, history).unwrap();
            advance(&mut run, 10);
            assert_eq!((hash_of(&run), &run.history), (hash_of(&whole), &whole.history), "stopped at {stop}");
        }
    }
}

#[test]
fn sessions_of_one_and_of_several_ranks_leave_the_same_files() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = options(one.path(), 10);
    whole.whole = true;
    assert_eq!(session::start(settings(), source(Kind::Char), &whole, &Alone).unwrap(), Ending::Done);
    // Two ranks to step 4, one to 7, four to 10.
    let part = |ranks, steps| {
        let mut options = options(two.path(), steps);
        options.whole = steps == 10;
        let ended = threads::run(ranks, |thread| {
            if steps == 4 {
                session::start(settings(), source(Kind::Char), &options, thread).unwrap()
            } else {
                session::resume(None, &options, thread).unwrap()
            }
        });
        assert!(ended.iter().all(|e| *e == Ending::Done));
    };
    part(2, 4);
    part(1, 7);
    part(4, 10);
    for file in ["gpt.json", "gpt-000000000010.safetensors", "best.json", "loss.svg"] {
        let read = |directory: &Path| fs::read(directory.join(file)).unwrap();
        assert!(read(one.path()) == read(two.path()), "{file}");
    }
    let last = |directory: &Path| {
        let log = fs::read_to_string(directory.join("log.jsonl")).unwrap();
        serde_json::from_str::<serde_json::Value>(log.lines().last().unwrap()).unwrap()
    };
    let (a, b) = (last(one.path()), last(two.path()));
    for key in ["event", "step", "ending", "best", "whole", "whole_best", "hash"] {
        assert_eq!(a[key], b[key], "{key}");
    }
    assert!(a["whole"].as_f64().unwrap() > 1.0);
    // Both models can be had; a run of ten steps has its best behind its fifth, at least.
    let best = state::load_model(one.path(), Some(Which::Best)).unwrap();
    assert_eq!((Some(best.step), best.validation), (a["best"]["step"].as_u64(), a["best"]["loss"].as_f64()));
    assert_eq!(state::load_model(one.path(), Some(Which::Last)).unwrap().step, 10);
}

#[test]
fn the_best_model_is_kept_and_a_run_stops_early() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.schedule.warmup = 0;
    settings.schedule.decay = 40;
    settings.eval_every = 5;
    settings.patience = 3;
    let start = |settings, steps| {
        session::start(settings, source(Kind::Char), &options(directory.path(), steps), &Alone)
    };
    // A text of 3000 bytes is soon known by heart, and the loss by validation goes up.
    settings.schedule.lr = 0.05;
    settings.schedule.min_lr = 0.05;
    assert_eq!(start(settings, 2000).unwrap(), Ending::Early);
    let (state, _) = checkpoint::load::<State>(directory.path(), LAST).unwrap();
    let history = state.history;
    let best = history.best.unwrap();
    assert_eq!((history.since_best, history.step), (3, best.step + 15));
    assert!(history.validation[1..].iter().all(|p| p.loss >= best.loss));
    assert!(history.step < 2000);
    let model = state::load_model(directory.path(), None).unwrap();
    assert_eq!((model.step, model.validation), (best.step, Some(best.loss)));
    // Going on ends at once, and for the same reason.
    let again = session::resume(None, &options(directory.path(), 4000), &Alone).unwrap();
    assert_eq!(again, Ending::Early);
}

#[test]
fn what_diverges_says_so_and_leaves_the_last_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.schedule =
        hotlanes_train::models::gpt::schedule::Schedule { lr: 1e30, min_lr: 1e30, warmup: 0, decay: 100 };
    settings.eval_every = 1000;
    let start =
        |settings| session::start(settings, source(Kind::Char), &options(directory.path(), 100), &Alone);
    let error = start(settings).unwrap_err().to_string();
    assert!(
        error.starts_with("step 1") && error.contains("no gradient of the last 10 steps was finite"),
        "{error}"
    );
    // What was saved after step 3 is what the steps before the failure left.
    let (state, stored) = checkpoint::load::<State>(directory.path(), LAST).unwrap();
    let values = state::values(&state, &stored).unwrap();
    assert!(values.params.iter().all(|p| p.is_finite()));
    assert_eq!((state.history.step, state.history.skipped + state.optimizer_steps), (9, 9));
}

/// Names and contents of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |e: std::io::Result<fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
    };
    fs::read_dir(directory).unwrap().map(entry).collect()
}

#[test]
fn a_wrong_checkpoint_is_told_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    session::start(settings(), source(Kind::Char), &options(path, 6), &Alone).unwrap();
    let good = contents(path);
    let tensors = path.join("gpt-000000000006.safetensors");
    let json = path.join("gpt.json");
    let text = fs::read_to_string(&json).unwrap();
    // Resumes what is there, wants an error that says so, no change, and puts the good files back.
    let told = |what: &str| {
        let before = contents(path);
        let error = session::resume(None, &options(path, 10), &Alone).unwrap_err().to_string();
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
    told("the tensors' hash is");
    fs::remove_file(&tensors).unwrap();
    told("gpt-000000000006.safetensors");
    for (from, to, what) in [
        ("\"dim\": 16", "\"dim\": 32", "has the shape [46, 16]: must be [46, 32]"),
        ("\"layers\": 2", "\"layers\": 3", "no tensor \"transformer.h.2"),
        ("\"layers\": 2", "\"layers\": 99999999999", "must be at most 4096"),
        ("\"tied\": false", "\"tied\": true", "hash"),
        ("\"vocab\": 46", "\"vocab\": 50", "vocab = 50: must be the tokenizer's, 46"),
        ("\"batch\": 4", "\"batch\": 0", "batch = 0: must be at least 1"),
        ("\"kind\": \"char\"", "\"kind\": \"words\"", "gpt.json"),
        ("\"stories\": 3000", "\"stories\": 4000", "the run in"),
        ("\"format\": 1", "\"format\": 2", "format 2: this program reads format 1"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&json, text.replace(from, to)).unwrap();
        told(what);
    }
    // Another run's tensors, of another model.
    let mut tensors_of_other = Tensors::default();
    tensors_of_other.add("weight", &[2], [1.0_f32, 2.0]);
    let elsewhere = tempfile::tempdir().unwrap();
    checkpoint::save(elsewhere.path(), LAST, 6, &tensors_of_other, &0).unwrap();
    fs::copy(elsewhere.path().join("gpt-000000000006.safetensors"), &tensors).unwrap();
    told("no tensor \"transformer.wte.weight\"");
    // Another text; a new run in an old one's place.
    let file = elsewhere.path().join("text");
    fs::write(&file, "abc".repeat(500)).unwrap();
    let error = session::resume(Some(&file), &options(path, 10), &Alone).unwrap_err();
    assert!(matches!(error, SessionError::OtherData { .. }), "{error}");
    let error = session::start(settings(), source(Kind::Char), &options(path, 10), &Alone).unwrap_err();
    assert!(matches!(error, SessionError::Occupied(_)), "{error}");
    assert!(contents(path) == good);
    // And after all that it goes on.
    assert_eq!(session::resume(None, &options(path, 10), &Alone).unwrap(), Ending::Done);
}

/// Whatever byte is wrong, reading ends with an error or with a model, and never in a panic.
#[test]
fn any_wrong_byte_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    session::start(settings(), source(Kind::Char), &options(path, 5), &Alone).unwrap();
    let good = contents(path);
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
        let resumed = checkpoint::load::<State>(path, LAST).and_then(|(state, stored)| {
            let values = state::values(&state, &stored)?;
            Ok(Run::resume(state.settings, &corpus(), &Alone, &values, state.optimizer_steps, state.history)
                .is_ok())
        });
        refused += usize::from(resumed.is_err());
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
        session::start(settings, source(Kind::Char), &options, thread).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|e| e.starts_with("rank 1 has other settings")), "{errors:?}");
    assert!(!directory.path().join("log.jsonl").exists());
}
