//! Starting, resuming, sharing a directory, and ending.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hotlanes_train::models::{gpt, mlp, population};
use hotlanes_train::shell::error::Error;
use hotlanes_train::shell::lock::{self, Lock};
use hotlanes_train::shell::progress::Progress;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session::{self, Ending, LOG, Options};
use hotlanes_train::shell::trainer::{BEST, Recipe};
use hotlanes_train::shell::verify::{self, Part, Verdict};
use hotlanes_train::store::checkpoint;
use hotlanes_train::store::files::System;
use serde_json::json;

use super::runs::{Small, assert_same_lines, chained, computed, options, resume, start};

type Gpt = gpt::trainer::Recipe;
type Population = population::trainer::Recipe;
type Mlp = mlp::trainer::Recipe;

/// Names and contents of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |e: std::io::Result<fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())
    };
    let mut all: BTreeMap<_, _> = fs::read_dir(directory).unwrap().map(entry).collect();
    all.remove(lock::FILE);
    all
}

#[test]
fn all_that_decides_the_end_is_in_the_checkpoint() {
    fn check<R: Small>() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        start::<R>(whole.path(), &System).unwrap();
        // Its time is over at once, again and again.
        let mut short = options(parts.path(), Some(R::GOAL), &System);
        short.time = Some(Duration::ZERO);
        let first = session::start(R::small(), &short, &Alone).unwrap();
        assert_eq!((first, first.exit_code()), (Ending::OutOfTime, 3));
        let goal = |directory: &Path| {
            let index = checkpoint::index(directory, R::KIND).unwrap();
            session::about::<R>(directory, &index).unwrap().goal
        };
        assert_eq!(goal(parts.path()), R::GOAL);
        assert_eq!(resume::<R>(parts.path(), &System).unwrap(), Ending::Done);
        assert_same_lines(&computed(parts.path()), &computed(whole.path()), R::KIND);
        // A longer goal is kept, too.
        let longer = options(parts.path(), Some(R::GOAL + 1), &System);
        session::resume(|_: &mut R| Ok(()), &longer, &Alone).unwrap();
        assert_eq!(goal(parts.path()), R::GOAL + 1);
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
}

#[test]
fn a_checkpoint_is_saved_after_a_while_though_none_is_due() {
    fn check<R: Small>() {
        let (often, once) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut options = options(often.path(), Some(R::GOAL), &System);
        options.checkpoint_every = u64::MAX;
        let saved =
            |out: &Path| chained(out).iter().filter(|line| line["event"] == session::CHECKPOINT).count();
        session::start(R::small(), &Options { checkpoint_after: Duration::ZERO, ..options.clone() }, &Alone)
            .unwrap();
        options.out = once.path().to_owned();
        session::start(R::small(), &options, &Alone).unwrap();
        assert!(saved(often.path()) > saved(once.path()), "{}: {}", R::KIND, saved(often.path()));
        assert_same_lines(&computed(often.path()), &computed(once.path()), R::KIND);
        let progress = Progress::hidden();
        let verdict = verify::verify::<R>(often.path(), &[], &Part::default(), &progress).unwrap();
        assert!(matches!(verdict, Verdict::Agrees { .. }), "{verdict:?}");
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
}

#[test]
fn files_of_others_are_left_alone() {
    fn check<R: Small>() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path();
        start::<R>(out, &System).unwrap();
        let saved = checkpoint::index(out, R::KIND).unwrap().saved;
        assert_eq!(saved.len(), 2, "--keep 2");
        if let Ok(best) = checkpoint::index(out, BEST) {
            assert_eq!(best.saved.len(), 1, "of the best models the best");
        }
        let tensors = checkpoint::tensors_path(out, R::KIND, saved[0].step);
        let mine = [
            format!("{}-keep.safetensors", R::KIND),
            format!("{}-000000000000.safetensors", R::KIND),
            format!("{}-000000999999.safetensors", R::KIND),
            format!("{}.json.bak", R::KIND),
            "notes.txt".into(),
        ];
        for name in &mine {
            fs::copy(&tensors, out.join(name)).unwrap();
        }
        let more = options(out, Some(R::GOAL + 3), &System);
        session::resume(|_: &mut R| Ok(()), &more, &Alone).unwrap();
        let after = contents(out);
        for name in &mine {
            assert!(after.contains_key(name), "{name} was removed");
        }
        let own = after.keys().filter(|n| n.starts_with(R::KIND) && n.ends_with(".safetensors")).count();
        assert_eq!(own, 3 + 2);
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
}

#[test]
fn a_directory_of_another_run_is_refused_before_anything_is_written() {
    fn refused<R: Small>(out: &Path) {
        let before = contents(out);
        let error = start::<R>(out, &System).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(contents(out) == before);
    }
    let [gpt, population, mlp] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    start::<Gpt>(gpt.path(), &System).unwrap();
    start::<Population>(population.path(), &System).unwrap();
    start::<Mlp>(mlp.path(), &System).unwrap();
    for directory in [gpt.path(), population.path(), mlp.path()] {
        refused::<Gpt>(directory);
        refused::<Population>(directory);
        refused::<Mlp>(directory);
    }
    let error = session::resume(|_: &mut Population| Ok(()), &options(gpt.path(), None, &System), &Alone);
    assert!(matches!(error, Err(Error::Checkpoint(_))));
    let error = session::resume(|_: &mut Mlp| Ok(()), &options(gpt.path(), None, &System), &Alone);
    assert!(matches!(error, Err(Error::Checkpoint(_))));
    // Whatever is left of a run tells that there was one.
    for name in contents(gpt.path()).keys() {
        let rest = tempfile::tempdir().unwrap();
        fs::copy(gpt.path().join(name), rest.path().join(name)).unwrap();
        refused::<Population>(rest.path());
    }
    let notes = tempfile::tempdir().unwrap();
    fs::write(notes.path().join("notes.txt"), "mine").unwrap();
    start::<Population>(notes.path(), &System).unwrap();
}

#[test]
fn two_at_once_are_told() {
    fn check<R: Small>() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path();
        start::<R>(out, &System).unwrap();
        let before = contents(out);
        let lock = Lock::take(out, "hotlanes train gpt --out x").unwrap();
        let error = resume::<R>(out, &System).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("hotlanes train gpt --out x") && error.exit_code() == 1, "{told}");
        assert!(contents(out) == before);
        // Readers are not in anybody's way.
        checkpoint::load(out, R::KIND, None).unwrap();
        drop(lock);
        resume::<R>(out, &System).unwrap();
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
    // Of many that begin at the same moment one runs, and the others are told.
    let directory = tempfile::tempdir().unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| start::<Gpt>(&directory.path().join("new"), &System))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let done = results.iter().filter(|r| matches!(r, Ok(Ending::Done))).count();
    let told = results.iter().filter(|r| matches!(r, Err(Error::Lock(_) | Error::Occupied { .. }))).count();
    assert_eq!((done, told), (1, 3), "{results:?}");
}

#[test]
fn options_that_decide_no_bit_can_be_changed() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    start::<Gpt>(whole.path(), &System).unwrap();
    let first = options(parts.path(), Some(2), &System);
    session::start(Gpt::small(), &first, &Alone).unwrap();
    let change = |recipe: &mut Gpt| {
        (recipe.settings.eval_every, recipe.settings.log_every) = (3, 1);
        Ok(())
    };
    session::resume(change, &options(parts.path(), Some(Gpt::GOAL), &System), &Alone).unwrap();
    let last = |out: &Path| checkpoint::index(out, Gpt::KIND).unwrap().saved[0].step;
    assert_eq!((last(whole.path()), last(parts.path())), (5, 5));
    let tensors = |out: &Path| fs::read(checkpoint::tensors_path(out, Gpt::KIND, 5)).unwrap();
    assert!(tensors(whole.path()) == tensors(parts.path()), "the same parameters and moments");
    let lines = chained(parts.path());
    let changed = lines.iter().find(|line| line["event"] == session::CHANGED).unwrap();
    assert_eq!((&changed["step"], &changed["settings"]["eval_every"]), (&json!(2), &json!(3)));
    assert!(lines.iter().any(|line| line["event"] == "evaluation" && line["step"] == 3));
}

/// Which model is the best may differ, the model does not.
#[test]
fn a_perceptron_evaluated_less_often_is_the_same() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    start::<Mlp>(whole.path(), &System).unwrap();
    session::start(Mlp::small(), &options(parts.path(), Some(1), &System), &Alone).unwrap();
    let change = |recipe: &mut Mlp| {
        recipe.settings.eval_every = 3;
        Ok(())
    };
    session::resume(change, &options(parts.path(), Some(Mlp::GOAL), &System), &Alone).unwrap();
    let models = [&whole, &parts].map(|run| {
        let (_, saved, stored) = checkpoint::load(run.path(), Mlp::KIND, None).unwrap();
        assert_eq!(saved.step, 9);
        let (tensors, mut values) = (stored.tensors().unwrap(), vec![0.0_f32; 30]);
        tensors.read("0.weight", &[6, 5], &mut values).unwrap();
        values
    });
    assert_eq!(models[0], models[1]);
    let epochs = |run: &Path| -> Vec<u64> {
        let evaluations = chained(run).into_iter().filter(|line| line["event"] == "evaluation");
        evaluations.map(|line| line["epoch"].as_u64().unwrap()).collect()
    };
    assert_eq!((epochs(whole.path()), epochs(parts.path())), (vec![0, 1, 2, 3], vec![0, 1, 3]));
}

#[test]
fn a_run_that_diverged_leaves_its_last_good_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let mut recipe = Gpt::small();
    recipe.settings.schedule.lr = 1e30;
    recipe.settings.schedule.min_lr = 1e30;
    recipe.settings.schedule.decay = 40;
    recipe.settings.eval_every = 1000;
    let run = options(directory.path(), Some(40), &System);
    let error = session::start(recipe, &run, &Alone).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)) && error.exit_code() == 1, "{error}");
    let (_, saved, _) = checkpoint::load(directory.path(), Gpt::KIND, None).unwrap();
    let log = fs::read_to_string(directory.path().join(LOG)).unwrap();
    let stop: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&stop["event"], &stop["ending"]), (&json!("stop"), &json!("failed")));
    assert!(stop["error"].as_str().unwrap().contains("finite"), "{stop}");
    assert!(saved.step < stop["step"].as_u64().unwrap(), "the state that diverged was saved");
}

#[test]
fn a_perceptron_that_diverged_at_once_leaves_its_log_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut recipe = Mlp::small();
    (recipe.settings.lr, recipe.settings.warmup) = (1e30, 0);
    let error = session::start(recipe, &options(directory.path(), Some(3), &System), &Alone).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)) && error.exit_code() == 1, "{error}");
    assert!(error.to_string().starts_with("epoch 0: the training loss is "), "{error}");
    for name in [Mlp::KIND, BEST] {
        assert!(
            !checkpoint::index_path(directory.path(), name).exists(),
            "the state that diverged was saved"
        );
    }
    let log = fs::read_to_string(directory.path().join(LOG)).unwrap();
    let stop: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&stop["event"], &stop["ending"]), (&json!("stop"), &json!("failed")));
}

#[test]
fn numbers_that_are_not_finite_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut recipe = Population::small();
    recipe.config.lr = 1e6;
    recipe.config.optimizer = population::run::OptimizerKind::Sgd;
    let run = options(directory.path(), Some(3), &System);
    session::start(recipe, &run, &Alone).unwrap();
    let more = options(directory.path(), Some(5), &System);
    assert_eq!(session::resume(|_: &mut Population| Ok(()), &more, &Alone).unwrap(), Ending::Done);
    let generations = chained(directory.path()).into_iter().filter(|l| l["event"] == "generation").count();
    assert_eq!(generations, 5);
}
