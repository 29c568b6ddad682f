//! Files that come from others and are made to harm: every command that reads them says which file is wrong, soon, in
//! little memory, and changes nothing.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hotlanes_train::store::checkpoint;
use serde_json::{Value, json};

#[path = "../../tests/common/limited.rs"]
mod limited;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hotlanes");

/// Address space that a command may take, in KiB: a gigabyte more than an idle program maps.
const SPACE: u64 = 1_500_000;

/// From a command's start to its end, in an unoptimised build on a busy machine.
const TIME: Duration = Duration::from_secs(10);

/// Checkpoints or lines; an unoptimised build parses a tenth in the time.
const MANY: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(arguments: &[&str]) -> (Output, Duration) {
    let script = format!("ulimit -v {SPACE}; exec \"$0\" \"$@\"");
    let start = Instant::now();
    let output = limited::output(Command::new("sh").args(["-c", &script, PROGRAM]).args(arguments));
    (output, start.elapsed())
}

/// The small run of a trainer, made once.
fn make(kind: &str, directory: &Path) {
    let small: &[&str] = match kind {
        "gpt" => &[
            "--layers",
            "1",
            "--heads",
            "1",
            "--dim",
            "8",
            "--block",
            "8",
            "--batch",
            "2",
            "--steps",
            "4",
            "--stories",
            "2000",
            "--eval-every",
            "2",
            "--eval-batches",
            "1",
            "--log-every",
            "1",
        ],
        "mlp" => &["--rows", "60", "--hidden", "4", "--batch", "16", "--epochs", "2"],
        _ => &[
            "--population",
            "3",
            "--hidden",
            "4",
            "--digits",
            "100",
            "--validation",
            "10",
            "--generation",
            "64",
            "--generations",
            "2",
        ],
    };
    let out = [&["train", kind, "--out", text(directory), "--threads", "1", "--quiet"], small].concat();
    let (made, _) = run(&out);
    assert!(made.status.success(), "{kind}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Every file with its length and, if it is small, its contents.
fn listing(directory: &Path) -> Vec<(PathBuf, u64, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let small = about.is_file() && about.len() < 1 << 20;
            let contents = if small { fs::read(&path).unwrap() } else { Vec::new() };
            (path, about.len(), contents)
        })
        // Whoever means to write takes it first.
        .filter(|(path, ..)| !path.ends_with("hotlanes.lock"))
        .collect();
    all.sort();
    all
}

struct Case {
    kind: &'static str,
    directory: tempfile::TempDir,
}

impl Case {
    fn of(kind: &'static str, whole: &Path) -> Case {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.unwrap();
        for entry in fs::read_dir(whole).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, directory.path().join(from.file_name().unwrap())).unwrap();
        }
        Case { kind, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn index_name(&self) -> String {
        format!("{}.json", self.kind)
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path(&self.index_name())).unwrap()).unwrap()
    }

    fn tensors(&self) -> String {
        format!("{}-{:012}.safetensors", self.kind, self.index()["saved"][0]["step"].as_u64().unwrap())
    }

    fn write_index(&self, index: &Value) {
        fs::write(self.path(&self.index_name()), index.to_string()).unwrap();
    }

    /// These commands refuse the directory by one of these names.
    #[track_caller]
    fn refused(&self, commands: &[&str], names: &[&str]) {
        let before = listing(self.directory.path());
        let directory = text(self.directory.path());
        for &command in commands {
            let arguments: Vec<&str> = match command {
                "resume" => vec!["train", self.kind, "--resume", directory],
                "generate" if self.kind == "gpt" => {
                    vec!["generate", "--model", directory, "--checkpoint", "last"]
                }
                "generate" | "eval" if self.kind != "gpt" => continue,
                "predict" if self.kind == "mlp" => {
                    vec!["predict", "--model", directory, "--last", "/dev/null"]
                }
                "predict" => continue,
                _ => vec![command, directory],
            };
            let (output, took) = run(&arguments);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{arguments:?}: {:?}: {told} {}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            );
            assert!(names.iter().any(|name| told.contains(name)), "{arguments:?}: {names:?}: {told}");
            assert!(told.len() < 2000 && !told.contains("panicked"), "{arguments:?}: {told}");
            assert!(took < TIME, "{arguments:?} took {took:?}");
            assert!(listing(self.directory.path()) == before, "{arguments:?} changed the directory");
        }
    }
}

const ALL: [&str; 5] = ["resume", "generate", "eval", "predict", "verify"];
const LOADS: [&str; 4] = ["resume", "generate", "eval", "predict"];

/// A safetensors file with this header.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn each(test: impl Fn(&dyn Fn() -> Case)) {
    for kind in ["gpt", "population", "mlp"] {
        let whole = tempfile::tempdir().unwrap();
        make(kind, whole.path());
        test(&|| Case::of(kind, whole.path()));
    }
}

#[test]
fn an_index_that_lies_is_refused() {
    each(|case| {
        let change = |pointer: &str, value: Value, names: &[&str]| {
            let case = case();
            let mut index = case.index();
            *index.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
            case.write_index(&index);
            case.refused(&LOADS, names);
        };
        let kind = case().kind;
        let (json, tensors) = (format!("{kind}.json"), format!("{kind}-"));
        let both = [json.as_str(), tensors.as_str()];
        // Names come from the step: nothing else in the index is ever opened.
        for name in ["/dev/zero", "../../etc/passwd"] {
            change("/saved/0/sha256", name.into(), &[&tensors]);
            change("/saved/0/step", name.into(), &[&json]);
            change("/saved/0/snapshot", name.into(), &both);
        }
        for step in [0, u64::MAX, u64::MAX - 1] {
            change("/saved/0/step", step.into(), &[&tensors]);
        }
        change("/saved", json!([]), &[&json]);
        change("/format", json!(1), &["format 1: this program reads format"]);
        change("/format", json!(u64::MAX), &[&json]);
        // Checkpoints of which the first is missing.
        let one = json!({ "step": 7_777_777, "sha256": "", "log": null, "snapshot": null });
        let many = vec![one; MANY];
        change("/saved", many.into(), &[&tensors]);
        if kind == "gpt" {
            for (field, value) in
                [("layers", 100_000_000_u64), ("dim", u64::MAX), ("vocab", 1 << 40), ("heads", 0)]
            {
                let case = case();
                let mut index = case.index();
                index["about"]["model"]["config"][field] = value.into();
                case.write_index(&index);
                case.refused(&["generate"], &both);
                index["about"]["recipe"]["settings"]["model"][field] = value.into();
                case.write_index(&index);
                if field != "vocab" {
                    case.refused(&["resume"], &[field, "size", "parameters"]);
                }
            }
        }
    });
}

#[test]
fn tensors_that_lie_are_refused() {
    each(|case| {
        let refused = |contents: &[u8]| {
            let case = case();
            let name = case.tensors();
            fs::write(case.path(&name), contents).unwrap();
            case.refused(&ALL, &[&name]);
        };
        let a = |name: &str, shape: &str, offsets: &str| {
            format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
        };
        refused(b"");
        refused(&[0xff; 8]);
        refused(&u64::MAX.to_le_bytes());
        refused(&safetensors("{}", b""));
        // Twice, overlapping, apart, beyond the end, and shapes whose product wraps.
        refused(&safetensors(&format!("{{{},{}}}", a("x", "[1]", "[0,4]"), a("x", "[1]", "[4,8]")), &[0; 8]));
        refused(&safetensors(&format!("{{{},{}}}", a("x", "[1]", "[0,4]"), a("y", "[1]", "[0,4]")), &[0; 4]));
        refused(&safetensors(
            &format!("{{{},{}}}", a("x", "[1]", "[0,4]"), a("y", "[1]", "[8,12]")),
            &[0; 12],
        ));
        refused(&safetensors(&format!("{{{}}}", a("x", "[1000]", "[0,4000]")), &[0; 4]));
        let huge = "[9223372036854775808,2]";
        refused(&safetensors(&format!("{{{}}}", a("x", huge, "[0,0]")), b""));
        refused(&safetensors(&format!("{{{}}}", a("x", "[18446744073709551615]", "[0,4]")), &[0; 4]));
        refused(&safetensors(&format!("{{\"x\":{}", "[".repeat(100_000)), b""));
    });
}

#[test]
fn what_is_no_regular_file_is_refused() {
    each(|case| {
        let kind = case().kind;
        for name in [case().tensors(), format!("{kind}.json"), "log.jsonl".into()] {
            let commands: &[&str] = match name.as_str() {
                "log.jsonl" => &["resume", "verify"],
                name if name.ends_with(".json") => &LOADS,
                _ => &ALL,
            };
            let put = |make: &dyn Fn(&Path)| {
                let case = case();
                fs::remove_file(case.path(&name)).unwrap();
                make(&case.path(&name));
                case.refused(commands, &[&name]);
            };
            put(&|path| fs::create_dir(path).unwrap());
            put(&|path| symlink(path, path).unwrap());
            put(&|path| symlink("/dev/zero", path).unwrap());
            put(&|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()));
            // A terabyte that takes no space.
            put(&|path| File::create(path).unwrap().set_len(1 << 40).unwrap());
        }
    });
}

#[test]
fn long_files_take_little_time() {
    each(|case| {
        let kind = case().kind;
        let index = case();
        fs::write(index.path(&index.index_name()), vec![b'['; 100_000_000]).unwrap();
        index.refused(&LOADS, &[&format!("{kind}.json")]);
        // Below the limit of an index.
        fs::write(index.path(&index.index_name()), vec![b'['; 10_000_000]).unwrap();
        index.refused(&LOADS, &[&format!("{kind}.json")]);

        let log = case();
        fs::write(log.path("log.jsonl"), vec![b'x'; 100_000_000]).unwrap();
        log.refused(&["resume", "verify"], &["log.jsonl"]);
        // Many lines: the last one is none.
        let mut lines = "{\"event\":\"step\",\"step\":1}\n".repeat(MANY);
        lines.push_str("{\n");
        fs::write(log.path("log.jsonl"), lines).unwrap();
        log.refused(&["verify"], &[&format!("log.jsonl, line {}", MANY + 1)]);
    });
}

/// Gives the newest checkpoint of a directory the hash of what it is now.
fn sign(case: &Case) {
    let error = checkpoint::load(case.directory.path(), case.kind, None).unwrap_err().to_string();
    let (_, hash) = error.split_once("its hash is ").unwrap_or_else(|| panic!("{error}"));
    let mut index = case.index();
    index["saved"][0]["sha256"] = hash[..64].into();
    case.write_index(&index);
}

/// Training counts on from these, and must not wrap: they are refused although the hash is right.
#[test]
fn counts_that_no_run_reaches_are_refused() {
    each(|case| {
        let fields: &[&str] = match case().kind {
            "gpt" => &[
                "optimizer_steps",
                "history/skipped",
                "history/skipped_in_row",
                "history/pending/1",
                "history/since_best",
            ],
            "mlp" => &["history/step", "history/since_best"],
            _ => &["generation"],
        };
        for field in fields {
            for value in [u64::MAX, u64::MAX - 1, 1 << 63] {
                let case = case();
                let mut index = case.index();
                *index.pointer_mut(&format!("/saved/0/snapshot/{field}")).unwrap() = value.into();
                case.write_index(&index);
                sign(&case);
                case.refused(&["resume"], &[&format!("{value}: must be at most")]);
            }
        }
        if case().kind == "population" {
            let case = case();
            let path = case.path(&case.tensors());
            let mut bytes = fs::read(&path).unwrap();
            let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..head]).unwrap();
            let at = header["individual.steps"]["data_offsets"][0].as_u64().unwrap() as usize;
            bytes[head + at..][..8].fill(0xff);
            fs::write(&path, bytes).unwrap();
            sign(&case);
            case.refused(&["resume"], &["individual.steps = 18446744073709551615: must be at most"]);
        }
    });
}
