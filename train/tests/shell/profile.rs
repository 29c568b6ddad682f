//! A profile of a run: it moves no bit, its files are complete, and its times add up.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use hotlanes_train::models::gpt::config::{Act, Config, Norm};
use hotlanes_train::models::gpt::engine::{Engine, Optim};
use hotlanes_train::models::gpt::params;
use hotlanes_train::models::{gpt, population};
use hotlanes_train::shell::profile::analyse::Analysis;
use hotlanes_train::shell::profile::profiler::FILES;
use hotlanes_train::shell::profile::{Plan, Recording, step};
use hotlanes_train::shell::ranks::Alone;
use hotlanes_train::shell::session;
use hotlanes_train::store::files::System;
use serde_json::Value;

use super::runs::{Small, assert_same_lines, computed, options, start};

/// Runs `f` on a pool of its own: other tests' threads are not recorded then.
fn pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// A small run with a profile.
fn profiled<R: Small>(out: &Path, profile: &Path, steps: Option<std::ops::Range<u64>>) {
    let mut options = options(out, Some(R::GOAL), &System);
    options.profile = Some(Plan { directory: profile.to_owned(), steps });
    session::start(R::small(), &options, &Alone).unwrap();
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The complete events of a trace: name, thread, start and end in microseconds, category.
fn events(profile: &Path) -> Vec<(String, u64, f64, f64, String)> {
    let trace: Value = serde_json::from_slice(&fs::read(profile.join("trace.json")).unwrap()).unwrap();
    let spans = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    let event = |e: &Value| {
        let (start, text) = (e["ts"].as_f64().unwrap(), |field: &str| e[field].as_str().unwrap().to_owned());
        (text("name"), e["tid"].as_u64().unwrap(), start, start + e["dur"].as_f64().unwrap(), text("cat"))
    };
    spans.map(event).collect()
}

/// A column of a table.
fn column(profile: &Path, table: &str, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(profile.join(table)).unwrap();
    let mut lines = text.lines();
    let at = lines.next().unwrap().split(',').position(|field| field == name).unwrap();
    lines.map(|line| line.split(',').nth(at).unwrap().parse().unwrap_or(0.0)).collect()
}

#[test]
fn a_profile_moves_no_bit_and_its_files_are_complete() {
    fn check<R: Small>(operations: &[&str], steps: u64) {
        for threads in [1, 2] {
            let [plain, run, profile] = [(); 3].map(|()| tempfile::tempdir().unwrap());
            start::<R>(plain.path(), &System).unwrap();
            pool(threads, || profiled::<R>(run.path(), profile.path(), Some(1..1 + steps)));
            assert_same_lines(&computed(run.path()), &computed(plain.path()), R::KIND);
            assert_eq!(names(profile.path()), FILES.iter().map(|&name| name.to_owned()).collect());

            let events = events(profile.path());
            let of_steps: Vec<_> = events.iter().filter(|event| event.4 == "step").collect();
            assert_eq!(of_steps.len() as u64, steps, "{}", R::KIND);
            assert_eq!(of_steps[0].2, 0.0, "it begins at 0");
            assert!(of_steps.iter().all(|step| step.1 == 0));
            // Whatever any thread did lies within a step.
            let within = |e: &(String, u64, f64, f64, String)| {
                of_steps.iter().any(|step| step.2 <= e.2 && e.3 <= step.3)
            };
            for event in &events {
                assert!(within(event) && event.1 < threads as u64, "{event:?}: {of_steps:?}");
            }
            for operation in operations {
                assert!(events.iter().any(|event| event.0 == *operation), "{operation}");
            }
            let own: f64 = column(profile.path(), "operations.csv", "self_seconds").iter().sum();
            for table in ["by_shape.csv", "by_layer.csv"] {
                let same: f64 = column(profile.path(), table, "self_seconds").iter().sum();
                assert!((same - own).abs() < 1e-9, "{table}: {same} {own}");
            }
            let summary = fs::read_to_string(profile.path().join("summary.md")).unwrap();
            assert!(summary.contains("The rows add up to 100.0% of"), "{summary}");
            let shares: f64 = column(profile.path(), "operations.csv", "share").iter().sum();
            assert!(shares > 0.0 && shares <= 1.0 + 1e-9, "{shares}");
        }
    }
    check::<gpt::trainer::Recipe>(&["qkv: forward", "attention: backward", "clip and AdamW"], 3);
    check::<population::trainer::Recipe>(&["forward", "backward: weights", "update", "evaluation"], 2);
}

#[test]
fn what_was_not_reached_is_said() {
    let [run, profile] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    pool(1, || profiled::<gpt::trainer::Recipe>(run.path(), profile.path(), Some(3..100)));
    let summary = fs::read_to_string(profile.path().join("summary.md")).unwrap();
    assert!(summary.contains("Note: 2 of 97 steps were recorded: the session ended before."), "{summary}");
    let [run, profile] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let none = profile.path().join("none");
    pool(1, || profiled::<gpt::trainer::Recipe>(run.path(), &none, Some(50..100)));
    assert!(!none.exists());
    // By default a run of five steps is profiled from the third on.
    let run = tempfile::tempdir().unwrap();
    pool(1, || profiled::<gpt::trainer::Recipe>(run.path(), &none, None));
    let summary = fs::read_to_string(none.join("summary.md")).unwrap();
    assert!(summary.contains("profile of steps 3 to 5"), "{summary}");
}

/// The engine of a model as small as the preset `tiny`, and a batch for it.
fn engine() -> (Engine, Vec<u32>) {
    let config = Config {
        layers: 2,
        heads: 2,
        dim: 32,
        block: 32,
        vocab: 20,
        norm: Norm::LayerNorm,
        act: Act::Gelu,
        tied: false,
        bias: true,
        bf16: false,
        dropout: 0.1,
    };
    let params = params::init(&config, 1);
    let engine = Engine::new(config, Optim::default(), 8, 32, params).unwrap();
    (engine, (0..256).map(|i| i % 20).collect())
}

fn train(engine: &mut Engine, tokens: &[u32]) {
    engine.gradients(tokens, tokens, 0, 1).unwrap();
    engine.step(1e-3);
}

/// The times of a step on one thread against a clock of our own. Another program may take the CPU between the two, so
/// the best of a few counts.
#[test]
fn self_times_add_up_to_the_wall_time() {
    let (mut engine, tokens) = engine();
    let off = pool(1, || {
        let measure = |_| {
            let mut recording = Recording::new(1 << 12).unwrap();
            recording.switch(true);
            let started = Instant::now();
            let span = step(1);
            train(&mut engine, &tokens);
            drop(span);
            let wall = started.elapsed().as_secs_f64();
            let analysis = Analysis::of(&recording.finish());
            assert_eq!((analysis.dropped, analysis.apart), (0, 0));
            let sum = analysis.operations() + analysis.waiting + analysis.outside;
            assert_eq!(sum, analysis.wall(), "on one thread nothing is left");
            (1.0 - 1e-9 * analysis.operations() as f64 / wall).abs()
        };
        (0..20).map(measure).fold(f64::MAX, f64::min)
    });
    assert!(off < 0.03, "operations' self times are {:.1}% off the wall time", 100.0 * off);
}

/// `cargo test --release -p hotlanes-train --test shell -- --ignored --nocapture recording_costs_little`
#[test]
#[ignore = "timing: in release, on a quiet machine"]
fn recording_costs_little() {
    const STEPS: usize = 20;
    let (mut engine, tokens) = engine();
    let [off, on, spans] = pool(1, || {
        let mut steps = |on: bool| {
            let mut recording = Recording::new(1 << 14).unwrap();
            recording.switch(on);
            let started = Instant::now();
            for number in 0..STEPS {
                let _span = step(number as u64 + 1);
                train(&mut engine, &tokens);
            }
            (started.elapsed().as_secs_f64() / STEPS as f64, recording.filled().0 / STEPS)
        };
        let (mut off, mut on, mut spans) = (f64::MAX, f64::MAX, 0);
        for _ in 0..200 {
            off = off.min(steps(false).0);
            let (seconds, filled) = steps(true);
            (on, spans) = (on.min(seconds), filled);
        }
        [off, on, spans as f64]
    });
    let cost = 100.0 * (on / off - 1.0);
    println!("a step of {spans} spans: {:.1} us off, {:.1} us on: {cost:.2}%", 1e6 * off, 1e6 * on);
    assert!(cost < 5.0);
}
