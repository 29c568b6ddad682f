//! `hotlanes train gpt` and `hotlanes generate` as processes: exit codes, messages, Ctrl-C, kills, resuming, pipes.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

mod common;

use common::{Limited, SLOWEST, events, hotlanes, output, stop, text, told};

/// A small run, whose cosine does not depend on where it stops.
const SMALL: [&str; 25] = [
    "train",
    "gpt",
    "--preset",
    "tiny",
    "--layers",
    "1",
    "--dim",
    "16",
    "--block",
    "16",
    "--batch",
    "4",
    "--stories",
    "3000",
    "--decay-steps",
    "40",
    "--warmup",
    "2",
    "--eval-every",
    "4",
    "--eval-batches",
    "2",
    "--no-whole-validation",
    "--threads",
    "1",
];

fn run(directory: &Path, more: &[&str]) -> Output {
    let out = ["--out", directory.to_str().unwrap()];
    output(&mut hotlanes(&[&SMALL[..], &out, more].concat()))
}

fn resume(directory: &Path, more: &[&str]) -> Output {
    let resume = ["train", "gpt", "--resume", directory.to_str().unwrap(), "--no-whole-validation"];
    output(&mut hotlanes(&[&resume[..], more].concat()))
}

fn generate(directory: &Path, more: &[&str]) -> Output {
    let model = ["generate", "--model", directory.to_str().unwrap()];
    output(&mut hotlanes(&[&model[..], more].concat()))
}

/// A run without end whose first evaluation after a step is done.
fn endless(directory: &Path, more: &[&str]) -> (Limited, BufReader<std::process::ChildStdout>) {
    let out = ["--out", directory.to_str().unwrap(), "--steps", "100000000"];
    let mut command = hotlanes(&[&SMALL[..], &out, more].concat());
    let child = Limited::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = BufReader::new(child.stdout());
    let mut line = String::new();
    while !line.starts_with("step      4") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the run ended before its first evaluation");
    }
    (child, lines)
}

/// Drops what depends on the clock and on the sessions: what is left is the run's.
fn same_run(a: &Path, b: &Path) {
    let stopped = |directory: &Path| {
        let stop = stop(directory);
        ["step", "hash"].map(|key| stop[key].clone())
    };
    assert_eq!(stopped(a), stopped(b));
    for file in ["best.json", "loss.svg"] {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{file}");
    }
    let losses = |directory: &Path| -> Vec<serde_json::Value> {
        events(directory, "evaluation").iter().map(|e| e["validation"].clone()).collect()
    };
    assert_eq!(losses(a), losses(b));
}

#[test]
fn a_run_leaves_its_files_and_more_of_it_is_the_longer_run() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let done = run(a.path(), &["--steps", "12"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let out = text(&done.stdout);
    for said in
        ["parameters", "GFLOP/s", "% of FMA peak", "best validation loss", "saved in", "hotlanes generate"]
    {
        assert!(out.contains(said), "{out}");
    }
    for file in ["gpt.json", "best.json", "log.jsonl", "loss.svg"] {
        assert!(a.path().join(file).is_file(), "{file}");
    }
    let quiet = run(b.path(), &["--steps", "6", "--quiet"]);
    assert_eq!(
        (quiet.status.code(), text(&quiet.stdout), text(&quiet.stderr)),
        (Some(0), String::new(), String::new())
    );
    assert!(resume(b.path(), &["--steps", "12", "--threads", "2"]).status.success());
    same_run(a.path(), b.path());
    assert_eq!(events(a.path(), "evaluation").len(), 4);
    assert_eq!(events(a.path(), "step").len(), 1);
}

#[test]
fn a_run_ends_well_though_nobody_reads_what_it_prints() {
    let directory = tempfile::tempdir().unwrap();
    let out = ["--out", directory.path().to_str().unwrap(), "--steps", "12"];
    let mut command = hotlanes(&[&SMALL[..], &out].concat());
    let child = Limited::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    drop(child.stdout());
    assert_eq!(child.wait().code(), Some(0));
    assert_eq!(stop(directory.path())["step"], 12);
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
    assert!(out.contains("interrupted by SIGINT: saved in") && out.contains("train gpt --resume"), "{out}");

    let stopped = stop(a.path());
    assert_eq!(stopped["ending"], "interrupted");
    let steps = (stopped["step"].as_u64().unwrap() + 6).to_string();
    assert!(resume(a.path(), &["--steps", &steps]).status.success());
    assert!(run(b.path(), &["--steps", &steps]).status.success());
    same_run(a.path(), b.path());
}

#[test]
fn a_kill_changes_nothing() {
    let killed = [0, 3, 7, 12, 30].map(|wait| {
        let directory = tempfile::tempdir().unwrap();
        // A checkpoint each step: most of the time is spent writing one.
        let (child, _lines) = endless(directory.path(), &["--checkpoint-every", "1"]);
        std::thread::sleep(Duration::from_millis(wait));
        child.signal("-KILL");
        assert_eq!(child.wait().code(), None);
        directory
    });
    let step = |directory: &tempfile::TempDir| {
        let json = fs::read(directory.path().join("gpt.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json["saved"][0]["step"].as_u64().unwrap()
    };
    let steps = (killed.iter().map(step).max().unwrap() + 6).to_string();
    let whole = tempfile::tempdir().unwrap();
    assert!(run(whole.path(), &["--steps", &steps]).status.success());
    for directory in &killed {
        let more = resume(directory.path(), &["--steps", &steps]);
        assert_eq!(more.status.code(), Some(0), "{}", text(&more.stderr));
        same_run(whole.path(), directory.path());
    }
}

#[test]
fn what_makes_no_sense_ends_with_2_and_what_fails_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    told(2, run(&new, &["--heads", "3"]), "dim = 16: must be a multiple of heads, 3");
    told(2, run(&new, &["--lr=-1"]), "lr = -1: must be finite, at least 0");
    told(2, run(&new, &["--beta1", "1"]), "beta1 = 1");
    told(2, run(&new, &["--dropout", "1"]), "dropout = 1: must be at least 0 and below 1");
    let large = |more: [&str; 2]| {
        let out = ["train", "gpt", "--out", new.to_str().unwrap()];
        output(&mut hotlanes(&[&out[..], &more].concat()))
    };
    told(2, large(["--layers", "99999999"]), "layers = 99999999: must be at most 4096");
    told(2, large(["--batch", "99999999999"]), "batch = 99999999999: must be at most 16777216, 2^30 tokens");
    told(2, run(&new, &["--minutes=-1"]), "minutes = -1: must be at least 0");
    told(2, run(&new, &["--norm", "batchnorm"]), "possible values: layernorm, rmsnorm");
    told(2, run(&new, &["--steps", "0"]), "0 is not in");
    told(2, run(&new, &["--validation", "1"]), "validation = 1: must be above 0 and below 1");
    if cfg!(not(feature = "mpi")) {
        told(2, run(&new, &["--mpi"]), "built without the feature");
    }

    let file = directory.path().join("text");
    let data = |bytes: &[u8], more: &[&str]| {
        fs::write(&file, bytes).unwrap();
        run(&new, &[&["--data", file.to_str().unwrap()][..], more].concat())
    };
    told(1, data(b"", &[]), "text: empty: there must be a text to learn from");
    told(1, data(b"", &["--tokenizer", "byte"]), "text: empty");
    told(1, data(b"To be, or not to be", &[]), "2 for validation: must be at least block + 1 = 17 each");
    let mut bad = b"Half of a text".repeat(100);
    bad.push(0xff);
    told(1, data(&bad, &[]), "byte 1400 (0xff) is not valid UTF-8, which characters need: --tokenizer byte");
    told(1, run(&new, &["--data", "/nowhere/text"]), "/nowhere/text: ");
    assert!(!new.exists(), "what fails at once leaves nothing");
    told(1, resume(&new, &[]), "gpt.json");
    told(2, resume(&new, &["--lr", "1"]), "cannot be used with");
    told(2, resume(&new, &["--preset", "tiny"]), "cannot be used with");

    let done = data(&bad, &["--tokenizer", "byte", "--steps", "4"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    told(2, run(&new, &[]), "holds a run: --resume");
    let mut forced = hotlanes(&["train", "gpt", "--resume", new.to_str().unwrap()]);
    told(2, output(forced.env("HOTLANES_TIER", "sse9")), "unknown tier \"sse9\"");
    fs::write(&file, b"Another text. ".repeat(101)).unwrap();
    told(1, resume(&new, &["--steps", "8"]), "the run in");
    fs::remove_file(&file).unwrap();
    told(1, resume(&new, &["--steps", "8"]), "text: No such file");
    fs::write(directory.path().join("moved"), &bad).unwrap();
    let moved = directory.path().join("moved");
    let done = resume(&new, &["--steps", "8", "--data", moved.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
}

#[test]
fn text_is_generated_the_same_each_time_and_on_each_tier() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(run(path, &["--steps", "12"]).status.success());
    let arguments =
        ["--prompt", "Anna had ", "--tokens", "50", "--seed", "3", "--top-k", "20", "--top-p", "0.9"];
    let first = generate(path, &arguments);
    let out = text(&first.stdout);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert!(out.starts_with("Anna had ") && out.ends_with('\n') && out.chars().count() == 60, "{out:?}");
    assert!(text(&first.stderr).contains("50 tokens in"), "{}", text(&first.stderr));
    for tier in hotlanes::Tier::available() {
        let mut forced = hotlanes(&["generate", "--quiet", "--model", path.to_str().unwrap()]);
        let forced = output(forced.args(arguments).env("HOTLANES_TIER", tier.name()));
        assert_eq!((text(&forced.stdout), text(&forced.stderr)), (out.clone(), String::new()));
    }
    assert_ne!(
        text(&generate(path, &["--prompt", "Anna had ", "--tokens", "50", "--seed", "4"]).stdout),
        out
    );
    let last = generate(path, &[&arguments[..], &["--checkpoint", "last"]].concat());
    assert!(text(&last.stderr).contains("model of step 12"), "{}", text(&last.stderr));
    assert_eq!(text(&generate(path, &["--tokens", "0", "--prompt", "Ben"]).stdout), "Ben\n");

    told(2, generate(path, &["--temperature=-1"]), "temperature = -1: must be finite, at least 0");
    told(2, generate(path, &["--top-k", "0"]), "top-k = 0: must be at least 1");
    told(2, generate(path, &["--top-p", "0"]), "top-p = 0: must be above 0 and at most 1");
    told(
        2,
        generate(path, &["--prompt", "Ünna"]),
        "character 'Ü' at byte 0 is not in the model's vocabulary",
    );
    told(1, generate(Path::new("/nowhere"), &[]), "/nowhere/gpt.json: ");
    let best = fs::read_to_string(path.join("best.json")).unwrap();
    let step =
        serde_json::from_str::<serde_json::Value>(&best).unwrap()["saved"][0]["step"].as_u64().unwrap();
    let tensors = path.join(format!("best-{step:012}.safetensors"));
    let bytes = fs::read(&tensors).unwrap();
    fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
    told(1, generate(path, &[]), "best-");
    fs::write(&tensors, &bytes).unwrap();
    fs::write(path.join("best.json"), best.replace("\"dim\": 16", "\"dim\": 8")).unwrap();
    told(1, generate(path, &[]), "has the shape");
}

#[test]
fn who_reads_the_text_may_leave_and_ctrl_c_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    assert!(run(directory.path(), &["--steps", "4"]).status.success());
    let start = || {
        let endless = ["generate", "--model", directory.path().to_str().unwrap(), "--tokens", "1000000000"];
        let child = Limited::spawn(hotlanes(&endless).stdout(Stdio::piped()).stderr(Stdio::piped()));
        // It streams: text is there while it goes on.
        let mut out = child.stdout();
        out.read_exact(&mut [0; 20]).unwrap();
        (child, out)
    };
    let (child, out) = start();
    drop(out);
    assert_eq!(child.wait().code(), Some(0));
    let mut err = String::new();
    child.stderr().read_to_string(&mut err).unwrap();
    assert_eq!(err, "", "a broken pipe is no failure");

    let (child, mut out) = start();
    child.signal("-INT");
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().code(), Some(130));
    assert!(rest.ends_with(b"\n"));
}

/// Samples decide nothing: the chained lines and the checkpoints are those of a run without.
#[test]
fn samples_are_printed_and_logged_and_change_nothing() {
    let [plain, sampled, resumed, quiet] = [(); 4].map(|()| tempfile::tempdir().unwrap());
    assert!(run(plain.path(), &["--steps", "12"]).status.success());
    let samples = ["--sample-every", "3", "--sample-tokens", "20", "--steps"];
    let done = run(sampled.path(), &[&samples[..], &["12"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let logged = |directory: &Path| -> Vec<(u64, String)> {
        let sample = |line: serde_json::Value| {
            assert!(line["chain"].is_null(), "{line}");
            (line["step"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())
        };
        events(directory, "sample").into_iter().map(sample).collect()
    };
    let texts = logged(sampled.path());
    assert_eq!(texts.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 9, 12]);
    assert!(texts.iter().all(|(_, text)| text.chars().count() == 20), "{texts:?}");
    assert!(texts.windows(2).all(|pair| pair[0].1 != pair[1].1), "{texts:?}");
    let out = text(&done.stdout);
    assert!(texts.iter().all(|(_, text)| out.contains(&format!("sample:\n{text}\n"))), "{out}");
    let chains = |directory: &Path| -> Vec<String> {
        common::log(directory).iter().filter_map(|line| Some(line["chain"].as_str()?.to_owned())).collect()
    };
    assert_eq!(chains(sampled.path()), chains(plain.path()));
    same_run(plain.path(), sampled.path());
    let tensors = |directory: &Path| fs::read(directory.join("gpt-000000000012.safetensors")).unwrap();
    assert!(tensors(plain.path()) == tensors(sampled.path()));
    assert!(!fs::read_to_string(sampled.path().join("metrics.csv")).unwrap().contains("sample"));
    let verify = ["verify", sampled.path().to_str().unwrap(), "--threads", "1", "--quiet"];
    told(0, output(&mut hotlanes(&verify)), "");

    // Resumed, with more of them, on two threads and another tier: those of the same step are the same.
    assert!(run(resumed.path(), &[&samples[..], &["7"]].concat()).status.success());
    let more = [
        "--sample-every",
        "1",
        "--sample-tokens",
        "20",
        "--steps",
        "12",
        "--threads",
        "2",
        "--tier",
        SLOWEST,
    ];
    assert!(resume(resumed.path(), &more).status.success());
    let all = logged(resumed.path());
    assert_eq!(all.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 8, 9, 10, 11, 12]);
    assert!(texts.iter().all(|sample| all.contains(sample)), "{texts:?} {all:?}");

    let done = run(quiet.path(), &[&samples[..], &["12", "--quiet"]].concat());
    assert_eq!((text(&done.stdout), text(&done.stderr)), (String::new(), String::new()));
    assert_eq!(logged(quiet.path()), texts);
}

#[test]
fn bytes_of_a_sample_do_not_command_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text");
    fs::write(&file, b"\x1b[2J\x07 \xff".repeat(100)).unwrap();
    let data = ["--data", file.to_str().unwrap(), "--tokenizer", "byte", "--steps", "2"];
    let done = run(&directory.path().join("run"), &[&data[..], &["--sample-every", "1"]].concat());
    let out = text(&done.stdout);
    assert!(done.status.success() && out.contains("sample:") && out.contains('\u{fffd}'), "{out:?}");
    assert!(!out.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{out:?}");
}
