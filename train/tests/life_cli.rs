//! The ends of a run as a process, two at once, and verification: the same for each trainer.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Output, Stdio};
use std::time::Duration;

mod common;

use common::{Limited, SLOWEST, hotlanes, output, stop, text, told};

/// A trainer with small settings, the option for its end, an end that no test reaches, and what a line begins with
/// after which there is a checkpoint.
struct Trainer {
    name: &'static str,
    small: &'static [&'static str],
    goal: &'static str,
    never: u64,
    first: &'static str,
}

const TRAINERS: [Trainer; 3] = [
    Trainer {
        name: "gpt",
        small: &[
            "--preset=tiny",
            "--layers=1",
            "--dim=16",
            "--block=16",
            "--batch=4",
            "--stories=3000",
            "--decay-steps=40",
            "--warmup=2",
            "--eval-every=4",
            "--eval-batches=2",
            "--log-every=2",
            "--no-whole-validation",
            "--threads=1",
        ],
        goal: "--steps",
        never: 100_000_000,
        first: "step      4",
    },
    Trainer {
        name: "population",
        small: &[
            "--population=3",
            "--hidden=8",
            "--digits=100",
            "--validation=10",
            "--generation=64",
            "--threads=1",
            "--checkpoint-every=1",
        ],
        goal: "--generations",
        never: 100_000_000,
        first: "generation",
    },
    Trainer {
        name: "mlp",
        small: &[
            "--rows=60",
            "--hidden=8,8",
            "--batch=16",
            "--patience=0",
            "--threads=1",
            "--checkpoint-every=1",
        ],
        goal: "--epochs",
        never: 1_000_000,
        first: "epoch     0",
    },
];

impl Trainer {
    fn start(&self, out: &Path, goal: u64, more: &[&str]) -> Command {
        let goal = format!("{}={goal}", self.goal);
        let out = format!("--out={}", out.display());
        hotlanes(&[&["train", self.name], self.small, &[&goal, &out], more].concat())
    }

    fn resume(&self, out: &Path, more: &[&str]) -> Output {
        let resume = format!("--resume={}", out.display());
        let last: &[&str] = if self.name == "gpt" { &["--no-whole-validation"] } else { &[] };
        output(&mut hotlanes(&[&["train", self.name, &resume], last, more].concat()))
    }

    /// A run without end, after its first checkpoint.
    fn endless(&self, out: &Path, more: &[&str]) -> (Limited, BufReader<ChildStdout>) {
        let mut command = self.start(out, self.never, more);
        let child = Limited::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut lines = BufReader::new(child.stdout());
        let mut line = String::new();
        while !line.starts_with(self.first) {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the run ended");
        }
        // The line comes before the checkpoint.
        while !out.join(format!("{}.json", self.name)).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        (child, lines)
    }
}

/// Whether this process was started under nohup, which its children inherit.
fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[test]
fn every_signal_that_ends_a_run_saves_it() {
    for trainer in &TRAINERS {
        for (signal, name, code) in
            [("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143), ("-HUP", "SIGHUP", 129)]
        {
            if name == "SIGHUP" && hangups_are_ignored() {
                eprintln!("NOT run here: SIGHUP, which is ignored: the tests were started under nohup");
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let (child, mut lines) = trainer.endless(directory.path(), &[]);
            child.signal(signal);
            let (mut out, mut err) = (String::new(), String::new());
            lines.read_to_string(&mut out).unwrap();
            child.stderr().read_to_string(&mut err).unwrap();
            assert_eq!(child.wait().code(), Some(code), "{err}");
            assert!(err.contains("saving; once more to stop at once"), "{err}");
            let resume = format!("train {} --resume {}", trainer.name, directory.path().display());
            assert!(
                out.contains(&format!("interrupted by {name}: saved in")) && out.contains(&resume),
                "{out}"
            );
            let stop = stop(directory.path());
            assert_eq!((&stop["ending"], &stop["signal"]), (&"interrupted".into(), &name.into()));
            // The command that it prints takes the run further: its goal is its own.
            let more = trainer.resume(directory.path(), &["--minutes=0.002"]);
            told(3, &more, "time is over");
        }
    }
}

#[test]
fn an_interrupted_run_leaves_the_profile_so_far() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let (out, profile) = (directory.path().join("run"), directory.path().join("profile"));
        let to = format!("--profile={}", profile.display());
        let (child, mut lines) = trainer.endless(&out, &[&to, "--profile-steps=0..100000000"]);
        child.signal("-INT");
        let mut printed = String::new();
        lines.read_to_string(&mut printed).unwrap();
        assert_eq!(child.wait().code(), Some(130), "{printed}");
        assert!(printed.contains("profile of steps 1 to ") && printed.contains("profile in "), "{printed}");
        let trace = fs::read(profile.join("trace.json")).unwrap();
        let trace: serde_json::Value = serde_json::from_slice(&trace).unwrap();
        let spans = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
        let ended = |event: &serde_json::Value| event["dur"].as_f64().is_some_and(|dur| dur >= 0.0);
        assert!(spans.clone().count() > 10 && spans.into_iter().all(ended));
        let summary = fs::read_to_string(profile.join("summary.md")).unwrap();
        assert!(summary.contains("steps were recorded: "), "{summary}");
        // The resumed run has another profile in its place.
        let steps = ["--minutes=0.02", &to];
        told(3, trainer.resume(&out, &steps), "profile of steps ");
    }
}

#[test]
fn a_profile_that_cannot_be_is_refused_before_anything_is_written() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("run");
        let refused = |more: &[&str], why: &str| {
            told(2, output(&mut trainer.start(&out, 3, more)), why);
            assert!(!out.exists(), "{why}");
        };
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("trace.json"), "").unwrap();
        fs::write(taken.join("thesis.tex"), "").unwrap();
        let [to, taken, own] = [directory.path().join("profile"), taken, out.clone()]
            .map(|directory| format!("--profile={}", directory.display()));
        refused(&[&taken], "taken: holds thesis.tex, which is not of a profile");
        refused(&[&own], "must be another directory than the run's");
        refused(&[&to, "--dry-run"], "cannot be used with");
        refused(&["--profile-steps=1..2"], "--profile <DIR>");
        for (steps, why) in [
            ("7", "must be two whole numbers, as in 5..15"),
            ("-1..2", "must be two whole numbers"),
            ("3..18446744073709551616", "must be two whole numbers"),
            ("3..3", "must end after it begins"),
            ("4..3", "must end after it begins"),
        ] {
            refused(&[&to, &format!("--profile-steps={steps}")], why);
        }
        let quiet = output(&mut trainer.start(&out, 3, &[&to, "--quiet", "--profile-steps=1..2"]));
        assert_eq!(
            (quiet.status.code(), text(&quiet.stdout), text(&quiet.stderr)),
            (Some(0), String::new(), String::new())
        );
        assert!(directory.path().join("profile/summary.md").exists());
    }
}

/// The buffers of a model with millions of parameters are most of what the process has.
#[test]
#[cfg(target_os = "linux")]
fn memory_by_kind_is_about_the_process_memory() {
    let directory = tempfile::tempdir().unwrap();
    let [out, profile] = ["run", "profile"].map(|name| directory.path().join(name));
    let (out_is, to) = (format!("--out={}", out.display()), format!("--profile={}", profile.display()));
    let mut command = hotlanes(&[
        "train",
        "gpt",
        "--preset=tiny",
        "--layers=2",
        "--heads=4",
        "--dim=256",
        "--block=4",
        "--batch=1",
        "--stories=3000",
        "--steps=2",
        "--eval-batches=1",
        "--no-whole-validation",
        "--threads=1",
        &out_is,
        &to,
        "--profile-steps=0..2",
    ]);
    told(0, output(&mut command), "profile in ");
    let summary = fs::read_to_string(profile.join("summary.md")).unwrap();
    let of = |kind: &str| {
        let line = summary.lines().find_map(|line| line.strip_prefix(&format!("| {kind} | "))).unwrap();
        line.trim_end_matches(" |").parse::<f64>().unwrap()
    };
    let (ours, process) = (of("together"), of("the process at its peak, the recorder included"));
    // The program, the initial values beside the first copies, and the recorder's buffers are the rest.
    assert!(ours > 0.5 * process && ours <= process, "{summary}");
    assert!(of("optimizer state") < of("parameters"), "{summary}");
}

#[test]
fn nohup_is_respected() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let trainer = &TRAINERS[1];
    let directory = tempfile::tempdir().unwrap();
    let command = trainer.start(directory.path(), trainer.never, &[]);
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    let child = Limited::spawn(nohup.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = BufReader::new(child.stdout());
    let mut line = String::new();
    while !line.starts_with(trainer.first) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0);
    }
    child.signal("-HUP");
    // It goes on to its next generation.
    line.clear();
    assert_ne!(lines.read_line(&mut line).unwrap(), 0);
    child.signal("-TERM");
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().code(), Some(143));
}

#[test]
fn time_that_is_over_is_not_work_that_is_done() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let late = output(&mut trainer.start(directory.path(), trainer.never, &["--minutes=0.002"]));
        told(3, &late, "time is over: saved in");
        assert_eq!(stop(directory.path())["ending"], "out of time");
        let directory = tempfile::tempdir().unwrap();
        told(0, output(&mut trainer.start(directory.path(), 2, &[])), "saved in");
        assert_eq!(stop(directory.path())["ending"], "done");
    }
}

#[test]
fn the_second_of_two_is_told_and_readers_are_not() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let (child, mut lines) = trainer.endless(directory.path(), &[]);
        let second = trainer.resume(directory.path(), &[]);
        told(1, &second, "another run writes there (process ");
        told(1, &second, &format!("hotlanes train {}", trainer.name));
        let third = output(&mut trainer.start(directory.path(), 3, &[]));
        told(2, &third, "holds a run");
        if trainer.name == "gpt" {
            let model = format!("--model={}", directory.path().display());
            for _ in 0..5 {
                told(0, output(&mut hotlanes(&["generate", &model, "--tokens=3", "--checkpoint=last"])), "");
            }
        }
        if trainer.name == "mlp" {
            let (model, rows) = (directory.path().to_str().unwrap(), directory.path().join("rows.csv"));
            fs::write(&rows, "x4,x3,x2,x1,x0\n.1,.2,.3,.4,.5\n").unwrap();
            for _ in 0..5 {
                for more in [&[][..], &["--last"]] {
                    let predict = [&["predict", rows.to_str().unwrap(), "--model", model], more].concat();
                    told(0, output(&mut hotlanes(&predict)), "y\n");
                }
            }
        }
        child.signal("-TERM");
        std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
        assert_eq!(child.wait().code(), Some(143));
    }
}

#[test]
fn a_run_is_verified_and_what_was_edited_is_named() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().to_str().unwrap();
        let mut start = trainer.start(directory.path(), 9, &[&format!("--tier={SLOWEST}"), "--keep=3"]);
        told(0, output(&mut start), "");
        let verify = |more: &[&str]| output(&mut hotlanes(&[&["verify", run], more].concat()));
        told(0, verify(&["--threads=2"]), "hashes agree");
        told(0, verify(&["--sample=1", "--seed=3"]), "hashes agree");
        let quiet = verify(&["--quiet"]);
        assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (String::new(), String::new()));
        told(2, verify(&["--from=1"]), "must be a kept checkpoint: there are ");
        told(2, verify(&["--tier=sse9"]), "sse9");
        let log = directory.path().join("log.jsonl");
        let good = fs::read_to_string(&log).unwrap();
        fs::write(&log, good.replacen("\"loss\":", "\"loss\":1", 1).replacen("_loss\":", "_loss\":1", 1))
            .unwrap();
        told(1, verify(&[]), "log.jsonl, line ");
        fs::write(&log, good).unwrap();
        told(0, verify(&[]), "hashes agree");
    }
    let nothing = tempfile::tempdir().unwrap();
    told(1, output(&mut hotlanes(&["verify", nothing.path().to_str().unwrap()])), "log.jsonl: No such file");
}

#[test]
fn a_dry_run_writes_nothing() {
    for trainer in &TRAINERS {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("new");
        let dry = output(&mut trainer.start(&out, 500, &["--dry-run"]));
        told(0, &dry, "memory: about ");
        told(0, &dry, " minutes in all");
        assert!(!out.exists());
    }
}
