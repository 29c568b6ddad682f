//! `hotlanes train population` as a process: exit codes, messages, Ctrl-C, kills, resuming.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

mod common;

use common::{Limited, hotlanes, output, stop, text};

/// A small run in a directory.
const SMALL: [&str; 14] = [
    "train",
    "population",
    "--population",
    "3",
    "--hidden",
    "8",
    "--digits",
    "100",
    "--validation",
    "10",
    "--generation",
    "64",
    "--threads",
    "1",
];

fn run(directory: &Path, more: &[&str]) -> Output {
    let out = ["--out", directory.to_str().unwrap()];
    output(&mut hotlanes(&[&SMALL[..], &out, more].concat()))
}

fn resume(directory: &Path, more: &[&str]) -> Output {
    let resume = ["train", "population", "--resume", directory.to_str().unwrap()];
    output(&mut hotlanes(&[&resume[..], more].concat()))
}

/// A run without end whose first generation is done.
fn endless(directory: &Path, more: &[&str]) -> (Limited, BufReader<std::process::ChildStdout>) {
    let out = ["--out", directory.to_str().unwrap(), "--generations", "1000000"];
    let mut command = hotlanes(&[&SMALL[..], &out, more].concat());
    let child = Limited::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = BufReader::new(child.stdout());
    let mut line = String::new();
    while !line.starts_with("generation") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the run ended before its first generation");
    }
    (child, lines)
}

#[test]
fn a_run_leaves_its_files_and_more_of_it_is_the_longer_run() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let done = run(a.path(), &["--generations", "4"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("saved in"), "{}", text(&done.stdout));
    for file in ["population.json", "log.jsonl", "accuracy.svg", "connections.svg", "nodes.svg"] {
        assert!(a.path().join(file).is_file(), "{file}");
    }
    assert!(run(b.path(), &["--generations", "1"]).status.success());
    assert!(resume(b.path(), &["--generations", "4", "--threads", "2"]).status.success());
    assert_eq!(stop(a.path())["hash"], stop(b.path())["hash"]);
    let log = std::fs::read_to_string(b.path().join("log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|l| l.contains("\"event\":\"generation\"")).count(), 4);
}

#[test]
fn ctrl_c_saves_and_the_run_goes_on_as_if_nothing_had_been() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (child, mut lines) = endless(a.path(), &[]);
    child.signal("-INT");
    let (mut out, mut err) = (String::new(), String::new());
    lines.read_to_string(&mut out).unwrap();
    child.stderr().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().code(), Some(130), "{err}");
    assert!(err.contains("saving; once more to stop at once"), "{err}");
    assert!(out.contains("interrupted by SIGINT: saved in") && out.contains("--resume"), "{out}");

    let stopped = stop(a.path());
    assert_eq!(
        (stopped["ending"].as_str(), stopped["signal"].as_str()),
        (Some("interrupted"), Some("SIGINT"))
    );
    let generations = (stopped["examples"].as_u64().unwrap() / 64 + 2).to_string();
    assert!(resume(a.path(), &["--generations", &generations]).status.success());
    assert!(run(b.path(), &["--generations", &generations]).status.success());
    assert_eq!(stop(a.path())["hash"], stop(b.path())["hash"]);
}

#[test]
fn a_kill_leaves_a_checkpoint_that_can_be_resumed() {
    for wait in [0, 3, 7, 12] {
        let directory = tempfile::tempdir().unwrap();
        // A checkpoint each generation: most of the time is spent writing one.
        let (child, _lines) = endless(directory.path(), &["--checkpoint-every", "1"]);
        while !directory.path().join("population.json").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(wait));
        child.signal("-KILL");
        assert_eq!(child.wait().code(), None);
        let more = resume(directory.path(), &["--minutes", "0"]);
        assert_eq!(more.status.code(), Some(3), "{}", text(&more.stderr));
        assert!(stop(directory.path())["examples"].as_u64().unwrap() >= 64);
    }
}

#[test]
fn what_makes_no_sense_ends_with_2_and_what_fails_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let told = |code: i32, output: Output, message: &str| {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert!(err.contains(message), "{err}");
    };
    let new = directory.path().join("new");
    told(2, run(&new, &["--density", "2"]), "density = 2: must be above 0 and at most 1");
    told(2, run(&new, &["--lr=-1"]), "lr = -1: must be at least 0 and at most 1e30");
    told(2, run(&new, &["--minutes=-1"]), "minutes = -1: must be at least 0");
    told(2, run(&new, &["--selection", "roulette"]), "must be tournament:N");
    told(2, run(&new, &["--optimizer", "muon"]), "possible values: sgd, adamw");
    told(1, run(&new, &["--data", "/nowhere"]), "/nowhere: No such file or directory");
    assert!(!new.exists(), "what fails at once leaves nothing");
    told(1, resume(&new, &[]), "population.json");
    told(2, resume(&new, &["--lr", "1"]), "cannot be used with");

    assert!(run(&new, &["--generations", "1"]).status.success());
    told(2, run(&new, &[]), "holds a run: --resume");
    let mut forced = hotlanes(&["train", "population", "--resume", new.to_str().unwrap()]);
    told(2, output(forced.env("HOTLANES_TIER", "sse9")), "unknown tier \"sse9\"");
    let json = new.join("population.json");
    let other = std::fs::read_to_string(&json).unwrap().replace("\"digits\": 100", "\"digits\": 105");
    std::fs::write(&json, other).unwrap();
    told(1, resume(&new, &[]), "the run in");
}

#[test]
fn a_run_that_diverged_is_resumed_and_says_how_many_did() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let huge = ["--lr", "1e30"];
    assert!(run(a.path(), &[&huge[..], &["--generations", "3"]].concat()).status.success());
    assert!(run(b.path(), &[&huge[..], &["--generations", "1"]].concat()).status.success());
    let more = resume(b.path(), &["--generations", "3"]);
    assert_eq!(more.status.code(), Some(0), "{}", text(&more.stderr));
    assert_eq!(stop(a.path())["hash"], stop(b.path())["hash"]);
    let log = std::fs::read_to_string(a.path().join("log.jsonl")).unwrap();
    let line = log.lines().find(|line| line.contains("\"event\":\"generation\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((line["diverged"].as_u64(), line["train_loss"].as_str()), (Some(3), Some("NaN")), "{line}");
}

#[test]
fn the_benchmark_reports_in_json() {
    let arguments = [
        "bench",
        "population",
        "--population",
        "2",
        "--hidden",
        "4",
        "--input-density",
        "0.01",
        "--digits",
        "200",
        "--validation",
        "10",
        "--seconds",
        "1",
        "--threads",
        "2",
        "--json",
    ];
    let output = output(&mut hotlanes(&arguments));
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!((report["population"].as_u64(), report["threads"].as_u64()), (Some(2), Some(2)));
    let rates = report["ways"].as_array().unwrap().iter().map(|w| w["steps_per_second"].as_f64().unwrap());
    assert!(rates.clone().count() == 5 && rates.clone().all(|r| r > 0.0));
}

#[test]
fn a_child_that_hangs_is_killed_and_named() {
    let start = Instant::now();
    let child = Limited::spawn_for(Command::new("sleep").arg("1000"), Duration::from_millis(50));
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| child.wait())).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(
        message.starts_with("killed after 0.05 s: ") && message.contains("\"sleep\" \"1000\""),
        "{message}"
    );
    assert!(start.elapsed() < Duration::from_secs(100));
}
