//! Every numeric option of every command at values that make trouble: the program says what is wrong and ends with 2
//! before it writes anything, or it works. It never panics, wraps, or asks for gigabytes first.
//!
//! The options are those that clap knows: a new one is tested by itself.

#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

#[path = "../../tests/common/limited.rs"]
mod limited;
#[path = "common/slowest.rs"]
mod slowest;

use limited::{Limited, output};
use slowest::SLOWEST;

/// The longest that a child may take on a busy machine.
const TIME: Duration = Duration::from_secs(60);
/// From here on a benchmark that goes on has taken its options; its numbers are not what is tested here.
const BENCHMARK: Duration = Duration::from_millis(500);
/// KiB of address space.
const MEMORY: u64 = 4 << 20;
/// Bytes that are read of what a command prints, after which it finds a closed pipe.
const READ: u64 = 1 << 14;

/// The ends of every kind of number.
const VALUES: [&str; 10] = [
    "-1",
    "0",
    "1",
    "NaN",
    "inf",
    "5e-324",
    "1e300",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
];

/// More of them, for the long test.
const MORE: [&str; 11] = [
    "-0",
    "-NaN",
    "-inf",
    "1e-320",
    "1e30",
    "1.7976931348623157e308",
    "0.5",
    "2147483648",
    "9223372036854775807",
    "18446744073709551584",
    "340282346638528859811704183484516925440",
];

/// A command and the options that make it small.
struct Small {
    path: &'static [&'static str],
    options: &'static [(&'static str, &'static str)],
    /// Whether it has a directory of its own to write to.
    writes: bool,
    /// Whether it measures, for as long as it is told.
    measures: bool,
}

const COMMANDS: [Small; 12] = [
    Small { path: &[], options: &[("kernel", "adamw"), ("tier", SLOWEST)], writes: false, measures: true },
    Small {
        path: &["report"],
        options: &[("kernel", "adamw"), ("tier", SLOWEST)],
        writes: false,
        measures: true,
    },
    Small {
        path: &["train", "gpt"],
        options: &[
            ("preset", "tiny"),
            ("layers", "1"),
            ("heads", "1"),
            ("dim", "4"),
            ("block", "4"),
            ("batch", "2"),
            ("stories", "400"),
            ("steps", "2"),
            ("minutes", "0.01"),
            ("eval-batches", "1"),
            ("threads", "1"),
        ],
        writes: true,
        measures: false,
    },
    Small {
        path: &["train", "population"],
        options: &[
            ("population", "3"),
            ("hidden", "2"),
            ("digits", "30"),
            ("validation", "5"),
            ("generation", "8"),
            ("batch", "8"),
            ("input-density", "0.01"),
            ("generations", "1"),
            ("minutes", "0.01"),
            ("threads", "1"),
            ("cull", "0.5"),
            ("elites", "1"),
        ],
        writes: true,
        measures: false,
    },
    Small {
        path: &["train", "mlp"],
        options: &[
            ("hidden", "3"),
            ("rows", "40"),
            ("batch", "16"),
            ("epochs", "2"),
            ("minutes", "0.01"),
            ("threads", "1"),
        ],
        writes: true,
        measures: false,
    },
    Small { path: &["generate"], options: &[("tokens", "5")], writes: false, measures: false },
    Small { path: &["eval"], options: &[("threads", "1")], writes: false, measures: false },
    Small { path: &["verify"], options: &[("threads", "1")], writes: false, measures: false },
    Small {
        path: &["bench", "gpt"],
        options: &[
            ("layers", "1"),
            ("heads", "1"),
            ("dim", "4"),
            ("vocab", "5"),
            ("batch", "1"),
            ("time", "2"),
            ("seconds", "1"),
            ("threads", "1"),
        ],
        writes: false,
        measures: true,
    },
    Small {
        path: &["replay", "bench"],
        options: &[("records", "512"), ("seconds", "1")],
        writes: false,
        measures: true,
    },
    Small {
        path: &["bench", "population"],
        options: &[
            ("population", "1"),
            ("hidden", "1"),
            ("digits", "30"),
            ("validation", "5"),
            ("input-density", "0.01"),
            ("batch", "4"),
            ("seconds", "1"),
            ("threads", "1"),
        ],
        writes: false,
        measures: true,
    },
    Small {
        path: &["bench", "mlp"],
        options: &[("seconds", "1"), ("threads", "1")],
        writes: false,
        measures: true,
    },
];

/// Whether an option takes a number: it has a value, and clap or the program refuses a word for it. Options that name
/// something are known by their value's name.
fn is_numeric(option: &clap::Arg) -> bool {
    let name = option.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let words = ["DIR", "RUN", "FILE", "PATH", "NAME", "TEXT", "BOOL", "HOW", "COLUMN", "MARK"];
    option.get_action().takes_values() && option.get_possible_values().is_empty() && !words.contains(&name)
}

/// All commands without subcommands, and those that do something without one.
fn leaves(command: &clap::Command, path: Vec<String>, all: &mut Vec<(Vec<String>, Vec<String>)>) {
    let options = command.get_arguments().filter(|option| is_numeric(option));
    let options: Vec<String> = options.filter_map(|o| o.get_long()).map(str::to_owned).collect();
    if !command.is_subcommand_required_set() {
        all.push((path.clone(), options));
    }
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        leaves(sub, [&path[..], &[sub.get_name().to_owned()]].concat(), all);
    }
}

/// What is executed.
struct Case {
    small: &'static Small,
    option: String,
    value: String,
}

fn cases(values: &[&'static str]) -> Vec<Case> {
    let mut all = Vec::new();
    leaves(&hotlanes_train::cli::command(), Vec::new(), &mut all);
    let mut cases = Vec::new();
    // `predict` and some of `replay` have no numbers.
    for (path, options) in all.into_iter().filter(|(_, options)| !options.is_empty()) {
        let small = COMMANDS.iter().find(|small| small.path == path);
        let small =
            small.unwrap_or_else(|| panic!("`hotlanes {}` needs small settings here", path.join(" ")));
        for option in options {
            let lists: &[&str] = if option == "hidden" { &["2,0", "2,18446744073709551615,2"] } else { &[] };
            for value in values.iter().chain(lists) {
                cases.push(Case { small, option: option.clone(), value: (*value).to_owned() });
            }
        }
    }
    // A number within a word.
    let small = &COMMANDS[3];
    for how in ["tournament", "truncation"] {
        for value in values {
            cases.push(Case { small, option: "selection".into(), value: format!("{how}:{value}") });
        }
    }
    cases
}

impl Case {
    fn arguments(&self, directory: &Path, model: &Path) -> Vec<String> {
        let mut arguments: Vec<String> = self.small.path.iter().map(|&word| word.to_owned()).collect();
        let others = self.small.options.iter().filter(|(option, _)| *option != self.option);
        arguments.extend(others.map(|(option, value)| format!("--{option}={value}")));
        arguments.push(format!("--{}={}", self.option, self.value));
        if self.small.writes {
            arguments.push(format!("--out={}", directory.display()));
        }
        match self.small.path {
            ["generate"] => arguments.push(format!("--model={}", model.display())),
            ["eval" | "verify"] => arguments.push(model.display().to_string()),
            _ => {}
        }
        arguments
    }

    /// What is wrong, if anything is. A benchmark that runs after `patience` is taken as one that works.
    fn fault(&self, root: &Path, model: &Path, patience: Option<Duration>) -> Option<String> {
        let directory = root.join(format!("{:?}", thread::current().id()));
        let arguments = self.arguments(&directory, model);
        let mut command = limited_command(&arguments);
        let started = Instant::now();
        let child = Limited::spawn_for(command.stdout(Stdio::piped()).stderr(Stdio::piped()), TIME);
        let (out, mut err) = (child.stdout(), child.stderr());
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        });
        let printed = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = out.take(READ).read_to_end(&mut text);
        });
        if let Some(patience) = patience.filter(|_| self.small.measures) {
            while started.elapsed() < patience && !errors.is_finished() {
                thread::sleep(Duration::from_millis(2));
            }
            if !errors.is_finished() {
                return None;
            }
        }
        let status = child.wait();
        printed.join().unwrap();
        let errors = errors.join().unwrap();
        let written = fs::read_dir(&directory).is_ok_and(|mut files| files.next().is_some());
        let _ = fs::remove_dir_all(&directory);
        let fine = match status.code() {
            Some(0) => true,
            // Its time was over, which is short here.
            Some(3) => errors.is_empty(),
            Some(2) => !written && !errors.is_empty(),
            Some(1) => errors.contains("must be finite") || errors.contains("no gradient of the last"),
            _ => false,
        };
        let said = || format!("{status}, written: {written}: hotlanes {}\n{errors}", arguments.join(" "));
        (!fine).then(said)
    }
}

/// The program with little memory.
fn limited_command(arguments: &[String]) -> Command {
    let program = env!("CARGO_BIN_EXE_hotlanes");
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\""), program]);
        shell
    } else {
        Command::new(program)
    };
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A model to generate with.
fn model(root: &Path) -> PathBuf {
    let directory = root.join("model");
    let small = Case { small: &COMMANDS[2], option: "seed".into(), value: "1".into() };
    let arguments = small.arguments(&directory, root);
    let trained = output(&mut limited_command(&arguments));
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    directory
}

fn check_all(cases: Vec<Case>, patience: Option<Duration>) {
    let root = tempfile::tempdir().unwrap();
    let model = model(root.path());
    let (count, left, faults) = (cases.len(), Mutex::new(cases), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().unwrap().pop() else { return };
                    if let Some(fault) = case.fault(root.path(), &model, patience) {
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} of {count} cases:\n\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_number_is_refused_in_words_or_works() {
    check_all(cases(&VALUES), Some(BENCHMARK));
}

#[test]
#[ignore = "long: twice as many values"]
fn every_other_number_is_refused_in_words_or_works() {
    check_all(cases(&MORE), Some(BENCHMARK));
}

/// Without this, a small setting that is refused would pass for every value of every option.
#[test]
fn the_small_settings_work() {
    let root = tempfile::tempdir().unwrap();
    let model = model(root.path());
    for small in COMMANDS.iter().filter(|small| !small.measures) {
        let option = match small.path {
            ["generate"] => "tokens",
            ["verify"] => "steps",
            ["eval"] => "threads",
            _ => "seed",
        };
        let case = Case { small, option: option.into(), value: "7".into() };
        let output = output(&mut limited_command(&case.arguments(&root.path().join("out"), &model)));
        assert!(output.status.success(), "{:?}: {}", small.path, String::from_utf8_lossy(&output.stderr));
        let _ = fs::remove_dir_all(root.path().join("out"));
    }
}

#[test]
#[ignore = "long: benchmarks to their end, a second and more each"]
fn every_number_that_a_benchmark_takes_works_to_its_end() {
    // Without the report: unoptimised, it takes minutes.
    check_all(
        cases(&[&VALUES[..], &MORE].concat())
            .into_iter()
            .filter(|case| case.small.path.first() == Some(&"bench"))
            .collect(),
        None,
    );
}

#[test]
fn all_numbers_are_found() {
    let cases = cases(&VALUES);
    let has = |path: &[&str], option: &str| cases.iter().any(|c| c.small.path == path && c.option == option);
    for option in
        ["layers", "dropout", "lr", "warmup", "steps", "minutes", "threads", "seed", "validation", "stories"]
    {
        assert!(has(&["train", "gpt"], option), "{option}");
    }
    for option in ["population", "hidden", "perturb-by", "digits", "checkpoint-every", "keep"] {
        assert!(has(&["train", "population"], option), "{option}");
    }
    for option in
        ["hidden", "rows", "test", "delta", "patience", "epochs", "decay-epochs", "eval-every", "beta2"]
    {
        assert!(has(&["train", "mlp"], option), "{option}");
    }
    assert!(
        has(&["verify"], "sample")
            && has(&["generate"], "top-k")
            && has(&["bench", "gpt"], "time")
            && has(&["report"], "threads")
            && has(&["eval"], "threads")
            && has(&["train", "gpt"], "sample-tokens")
    );
    assert!(cases.iter().all(|c| {
        !["tied", "data", "out", "norm", "optimizer", "target", "delimiter"].contains(&&c.option[..])
    }));
}
