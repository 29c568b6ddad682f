//! A run is verified on every tier and thread count; whatever was tampered with is named.

use std::fs;
use std::path::Path;

use hotlanes::Tier;
use hotlanes_train::models::{gpt, mlp, population};
use hotlanes_train::shell::progress::Progress;
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session::{self, LOG};
use hotlanes_train::shell::verify::{self, Part, Verdict};
use hotlanes_train::store::checkpoint;
use hotlanes_train::store::files::System;
use hotlanes_train::store::log::{self, Log};
use serde_json::{Value, json};

use super::runs::{Small, chained, options, start};

type Gpt = gpt::trainer::Recipe;
type Population = population::trainer::Recipe;
type Mlp = mlp::trainer::Recipe;

fn verify<R: Small>(out: &Path, part: &Part) -> Result<Verdict, String> {
    verify::verify::<R>(out, &[], part, &Progress::hidden()).map_err(|e| e.to_string())
}

/// A run that was stopped and resumed, with other settings on the way.
fn run<R: Small>() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    session::start(R::small(), &options(directory.path(), Some(R::GOAL / 2), &System), &Alone).unwrap();
    let rest = options(directory.path(), Some(R::GOAL), &System);
    session::resume(|_: &mut R| Ok(()), &rest, &Alone).unwrap();
    directory
}

#[test]
fn a_run_agrees_on_every_tier_and_thread_count() {
    fn check<R: Small>() {
        let run = run::<R>();
        let lines = chained(run.path()).len() - 1;
        for tier in Tier::available() {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let all = || verify::<R>(run.path(), &Part::default()).unwrap();
                let verdict = pool.install(|| hotlanes::with_tier(tier, all).unwrap());
                let Verdict::Agrees { lines: agreed, hashes } = verdict else { panic!("{verdict:?}") };
                assert_eq!(agreed, lines, "tier {tier}");
                assert!(hashes > 5, "{hashes}");
            }
        }
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
}

#[test]
fn parts_can_be_verified() {
    fn check<R: Small>() {
        let run = run::<R>();
        let agreed = |part: &Part| match verify::<R>(run.path(), part) {
            Ok(Verdict::Agrees { lines, .. }) => lines,
            other => panic!("{other:?}"),
        };
        let all = agreed(&Part::default());
        let kept = checkpoint::index(run.path(), R::KIND).unwrap().saved;
        let from = agreed(&Part { from: Some(kept[1].step), ..Part::default() });
        let steps = agreed(&Part { steps: Some(2), ..Part::default() });
        let sample = agreed(&Part { sample: Some((1, 3)), ..Part::default() });
        assert!(0 < from && from < all && 0 < steps && steps < all && 0 < sample && sample < all);
        let whole = agreed(&Part { sample: Some((99, 1)), ..Part::default() });
        assert_eq!(whole, all, "all segments are all lines");
        let told = verify::<R>(run.path(), &Part { from: Some(123_456), ..Part::default() }).unwrap_err();
        assert!(told.contains("--from 123456: must be a kept checkpoint"), "{told}");
    }
    check::<Gpt>();
    check::<Population>();
    check::<Mlp>();
}

/// Writes a log again with changed lines, and a chain that fits: what a forger would do.
fn forge(out: &Path, change: impl Fn(&mut Value)) {
    let path = out.join(LOG);
    let lines = log::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut log = Log::new(&System, &path);
    for line in lines {
        let event = line.value["event"].as_str().unwrap().to_owned();
        let text = line.text.clone().map_or(line.value.to_string(), |text| text + "}");
        // Only lines that change are written in another order of fields.
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let before = value.clone();
        change(&mut value);
        let start = format!("{{\"event\":\"{event}\"");
        let fields = if value == before && text.starts_with(&start) {
            format!("{{{}", text[start.len()..].trim_start_matches(','))
        } else {
            value.as_object_mut().unwrap().remove("event");
            value.as_object_mut().unwrap().remove("chain");
            value.to_string()
        };
        log.write(&event, &fields, line.text.is_some(), &Value::Null).unwrap();
    }
}

#[test]
fn what_was_tampered_with_is_named() {
    fn check<R: Small>(event: &str, field: &str) {
        let run = run::<R>();
        let out = run.path();
        let good = fs::read_to_string(out.join(LOG)).unwrap();
        let put_back = || fs::write(out.join(LOG), &good).unwrap();
        let agrees = |part: &Part| matches!(verify::<R>(out, part), Ok(Verdict::Agrees { .. }));

        // A line that was edited, and one that was taken out.
        let line = good.lines().position(|l| l.contains(&format!("\"event\":\"{event}\""))).unwrap();
        let text = good.lines().nth(line).unwrap();
        let edited = text.replacen(",\"", ",\"more\":1,\"", 1);
        fs::write(out.join(LOG), good.replace(text, &edited)).unwrap();
        let told = verify::<R>(out, &Part::default()).unwrap_err();
        assert!(told.contains(&format!("{LOG}, line {}: was changed", line + 1)), "{told}");
        fs::write(out.join(LOG), good.replace(&format!("{text}\n"), "")).unwrap();
        let told = verify::<R>(out, &Part::default()).unwrap_err();
        assert!(told.contains("was changed, or a line before it was taken out"), "{told}");

        // A forged chain: the figure is computed again, and differs.
        put_back();
        forge(out, |_| ());
        assert!(agrees(&Part::default()), "forging without a change changes nothing");
        forge(out, |line| {
            if line["event"] == event {
                line[field] = json!(0.25);
            }
        });
        match verify::<R>(out, &Part::default()).unwrap() {
            Verdict::Differs { what, .. } => {
                assert!(
                    what.contains(&format!("{field} is ")) && what.contains("the log says 0.25"),
                    "{what}"
                );
            }
            other => panic!("{other:?}"),
        }

        // Another version of the bits is told as old.
        put_back();
        forge(out, |line| {
            if line["event"] == log::RUN {
                line["bits"] = json!(0);
            }
        });
        let told = verify::<R>(out, &Part::default()).unwrap_err();
        assert!(told.contains("version 0 of the bits"), "{told}");

        // Other data.
        put_back();
        forge(out, |line| {
            if line["event"] == log::RUN {
                line["data"] = json!("0000000000000000");
            }
        });
        let told = verify::<R>(out, &Part::default()).unwrap_err();
        assert!(told.contains("was made with 0000000000000000"), "{told}");

        // An exchanged checkpoint: the tensors alone, and with an index that fits.
        put_back();
        let saved = checkpoint::index(out, R::KIND).unwrap().saved;
        let tensors = checkpoint::tensors_path(out, R::KIND, saved[0].step);
        let good_tensors = fs::read(&tensors).unwrap();
        let mut bad = good_tensors.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&tensors, bad).unwrap();
        let told = verify::<R>(out, &Part::default()).unwrap_err();
        assert!(told.contains(&*tensors.file_name().unwrap().to_string_lossy()), "{told}");
        fs::write(&tensors, good_tensors).unwrap();
        let json = checkpoint::index_path(out, R::KIND);
        let index = fs::read_to_string(&json).unwrap();
        let other = tempfile::tempdir().unwrap();
        start_other::<R>(other.path());
        let others = checkpoint::index(other.path(), R::KIND).unwrap().saved;
        fs::copy(checkpoint::tensors_path(other.path(), R::KIND, others[0].step), &tensors).unwrap();
        assert_eq!(others[0].step, saved[0].step);
        fs::write(&json, index.replace(&saved[0].sha256, &others[0].sha256)).unwrap();
        match verify::<R>(out, &Part::default()) {
            Ok(Verdict::Differs { what, .. }) => {
                assert!(what.starts_with("the checkpoint has the hash"), "{what}")
            }
            // The snapshot may differ, too: then the tensors do not fit to it.
            Err(told) => assert!(told.contains("its hash is"), "{told}"),
            other => panic!("{other:?}"),
        }
    }
    check::<Gpt>("evaluation", "validation");
    check::<Population>("generation", "best_validation");
    check::<Mlp>("evaluation", "validation");
}

/// A run of the same length with another seed.
fn start_other<R: Small>(out: &Path) {
    let json = serde_json::to_string(&R::small()).unwrap();
    assert!(json.contains("\"seed\":1"), "{json}");
    let recipe: R = serde_json::from_str(&json.replace("\"seed\":1", "\"seed\":2")).unwrap();
    session::start(recipe, &options(out, Some(R::GOAL), &System), &Alone).unwrap();
}

#[test]
fn a_run_in_one_piece_is_verified_too() {
    let directory = tempfile::tempdir().unwrap();
    start::<Gpt>(directory.path(), &System).unwrap();
    // Its log alone is enough.
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("gpt") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(matches!(verify::<Gpt>(directory.path(), &Part::default()), Ok(Verdict::Agrees { .. })));
}
