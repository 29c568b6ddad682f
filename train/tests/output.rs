//! Every command where standard output or standard error is closed or full: none panics or dies of a signal, a command
//! whose product is its output says that it could not be written, and a run goes on.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

#[path = "../../tests/common/limited.rs"]
mod limited;

use limited::Limited;

/// Where a command's standard output or error goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sink {
    /// Into a file, to be looked at.
    Kept,
    /// Into a pipe that nobody reads any more: `hotlanes ... | true`.
    Unread,
    /// Onto a full disk.
    Full,
    /// Nowhere: `hotlanes ... >&-`.
    Closed,
}

use Sink::{Closed, Full, Kept, Unread};

impl Sink {
    fn stdio(self, kept: &Path) -> Stdio {
        match self {
            Kept => File::create(kept).unwrap().into(),
            Unread => std::io::pipe().unwrap().1.into(),
            Full => File::options().write(true).open("/dev/full").unwrap().into(),
            Closed => Stdio::null(),
        }
    }
}

/// Exit code, standard output and standard error.
fn ends(arguments: &[&str], out: Sink, err: Sink) -> (i32, String, String) {
    let kept = TempDir::new().unwrap();
    let [out_file, err_file] = ["out", "err"].map(|name| kept.path().join(name));
    // The shell closes what is to be closed.
    let close = |sink: Sink, how: &'static str| if sink == Closed { how } else { "" };
    let script = format!("exec \"$@\" {} {}", close(out, ">&-"), close(err, "2>&-"));
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_hotlanes")]).args(arguments);
    command.stdin(Stdio::null()).stdout(out.stdio(&out_file)).stderr(err.stdio(&err_file));
    let status = Limited::spawn(&mut command).wait();
    let code = status.code().unwrap_or_else(|| panic!("{arguments:?}, {out:?}, {err:?}: {status}"));
    let read = |path| fs::read(path).map_or(String::new(), |text| String::from_utf8(text).unwrap());
    (code, read(out_file), read(err_file))
}

/// Runs a command for each of these pairs of sinks. Its code is `code`, or 1 where standard output is full and is what
/// the command is for.
#[track_caller]
fn check(arguments: &[&str], sinks: &[[Sink; 2]], code: i32, product: bool) {
    for &[out, err] in sinks {
        let (got, _, stderr) = ends(arguments, out, err);
        let lost = product && out == Full;
        let want = if lost { 1 } else { code };
        assert_eq!(got, want, "{arguments:?}, {out:?}, {err:?}: {stderr}");
        let told = stderr.contains("hotlanes: cannot write to standard output: No space left on device");
        assert_eq!(told, lost && err == Kept, "{arguments:?}, {out:?}, {err:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}, {out:?}, {err:?}: {stderr}");
    }
}

/// Each of the two alone, and both.
const ALL: [[Sink; 2]; 9] = [
    [Unread, Kept],
    [Full, Kept],
    [Closed, Kept],
    [Kept, Unread],
    [Kept, Full],
    [Kept, Closed],
    [Unread, Full],
    [Full, Unread],
    [Closed, Closed],
];
/// For commands that take seconds.
const FEW: [[Sink; 2]; 3] = [[Full, Kept], [Unread, Full], [Closed, Unread]];

const GPT: [&str; 15] = [
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
    "--steps",
    "2",
    "--stories",
];
const POPULATION: [&str; 14] = [
    "train",
    "population",
    "--population",
    "2",
    "--hidden",
    "8",
    "--digits",
    "100",
    "--validation",
    "10",
    "--generation",
    "64",
    "--generations",
    "1",
];

const MLP: [&str; 10] = ["train", "mlp", "--rows", "60", "--hidden", "4", "--epochs", "2", "--threads", "1"];

fn gpt(out: &str) -> Vec<&str> {
    let more = ["3000", "--eval-batches", "1", "--no-whole-validation", "--threads", "1", "--out", out];
    [&GPT[..], &more].concat()
}

#[test]
fn help_version_and_errors() {
    for arguments in
        [&["--help"][..], &["--version"], &["train", "mlp", "--help"], &["predict", "-h"], &["report", "-h"]]
    {
        check(arguments, &ALL, 0, true);
    }
    for kind in ["gpt", "population", "mlp"] {
        check(&["train", kind, "--print-config"], &ALL, 0, true);
    }
    // Each prints at most a message.
    check(&["--no-such-option"], &ALL, 2, false);
    check(&["bench"], &ALL, 2, false);
    check(&["generate", "--model", "/no/such/directory"], &ALL, 1, false);
    check(&["predict", "--model", "/no/such/directory"], &ALL, 1, false);
}

#[test]
fn report() {
    check(&["report", "--list-json", "--kernel", "muon"], &ALL, 0, true);
    // It notes on standard error that there are more threads than cores, and ends at its first line of output.
    let threads = (std::thread::available_parallelism().unwrap().get() + 1).to_string();
    let report = ["report", "--kernel", "muon", "--threads", &threads];
    check(&report, &[[Unread, Kept], [Unread, Full], [Full, Unread], [Full, Full], [Full, Kept]], 0, true);
}

#[test]
fn trainers_go_on_and_generate_says_what_it_lost() {
    let directory = TempDir::new().unwrap();
    let path =
        |kind: &str, i: usize| directory.path().join(format!("{kind}{i}")).to_str().unwrap().to_owned();
    for (i, sinks) in ALL.into_iter().enumerate() {
        let out = path("gpt", i);
        check(&gpt(&out), &[sinks], 0, false);
        assert!(fs::exists(format!("{out}/loss.svg")).unwrap(), "{sinks:?}: the run came to its end");
        let out = path("population", i);
        check(&[&POPULATION[..], &["--threads", "1", "--out", &out]].concat(), &[sinks], 0, false);
        assert!(fs::exists(format!("{out}/nodes.svg")).unwrap(), "{sinks:?}: the run came to its end");
        let out = path("mlp", i);
        check(&[&MLP[..], &["--out", &out]].concat(), &[sinks], 0, false);
        assert!(fs::exists(format!("{out}/loss.svg")).unwrap(), "{sinks:?}: the run came to its end");
    }
    let (rows, predictions, model) = (path("rows", 0), path("predictions", 0), path("mlp", 0));
    let bad = "y,x4,x3,x2,x1,x0\n".to_owned() + &"?,.1,.2,.3,.4,.5\n".repeat(600) + "1,2\n";
    fs::write(&rows, bad).unwrap();
    let predict = ["predict", "--model", &model, &rows, "--skip-bad-rows"];
    check(&predict, &ALL, 0, true);
    // Nothing of it goes to standard output.
    check(&[&predict[..], &["--out", &predictions]].concat(), &ALL, 0, false);
    let (_, text, note) = ends(&predict, Kept, Kept);
    assert!(text == fs::read_to_string(&predictions).unwrap() && text.lines().count() == 602, "{text}");
    assert!(note.contains("line 602: 2 fields") && note.contains("1 rows could not be read"), "{note}");
    let model = path("gpt", 0);
    let generate = ["generate", "--model", &model, "--tokens", "2"];
    check(&generate, &ALL, 0, true);
    let eval = ["eval", &model, "--threads", "1"];
    check(&eval, &ALL, 0, true);
    check(&[&eval[..], &["--json"]].concat(), &[[Full, Kept]], 0, true);
    let (_, text, note) = ends(&eval, Kept, Kept);
    assert!(text.starts_with("loss ") && note.contains("model of step 2"), "{text} {note}");
    let (_, text, note) = ends(&generate, Kept, Kept);
    assert!(!text.is_empty() && note.contains("tokens/s"), "{text} {note}");
}

#[test]
fn bench_gpt() {
    let bench =
        ["bench", "gpt", "--layers", "1", "--heads", "1", "--dim", "8", "--batch", "1", "--time", "4"];
    let bench = [&bench[..], &["--threads", "1", "--seconds", "1"]].concat();
    check(&bench, &FEW, 0, true);
    check(&[&bench[..], &["--json"]].concat(), &[[Full, Kept]], 0, true);
}

#[test]
fn bench_population() {
    let bench = ["bench", "population", "--population", "1", "--hidden", "8", "--digits", "100"];
    let bench = [&bench[..], &["--validation", "10", "--threads", "1", "--seconds", "1"]].concat();
    check(&bench, &FEW, 0, true);
    check(&[&bench[..], &["--json"]].concat(), &[[Full, Kept]], 0, true);
}
