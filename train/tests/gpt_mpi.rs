//! `hotlanes train gpt --mpi` under mpirun: the bits of one process, whatever the number of ranks.
//!
//! `cargo test -p hotlanes-train --features mpi --test gpt_mpi`, with Open MPI's mpirun on the PATH.

#![cfg(all(unix, feature = "mpi"))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[path = "../../tests/common/limited.rs"]
mod limited;

use limited::output;

const HOTLANES: &str = env!("CARGO_BIN_EXE_hotlanes");

/// `hotlanes train gpt --mpi` as so many processes, which share the cores that there are.
fn ranks(count: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new("mpirun");
    command.args([
        "--oversubscribe",
        "-n",
        &count.to_string(),
        HOTLANES,
        "train",
        "gpt",
        "--mpi",
        "--threads",
        "1",
    ]);
    command.args(arguments).stdin(Stdio::null());
    // A container's only user is often root.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    output(&mut command)
}

/// The same as one process, without MPI.
fn alone(arguments: &[&str]) -> Output {
    output(Command::new(HOTLANES).args(["train", "gpt"]).args(arguments).stdin(Stdio::null()))
}

const SMALL: [&str; 19] = [
    "--preset",
    "tiny",
    "--batch",
    "4",
    "--accumulate",
    "2",
    "--dropout",
    "0.1",
    "--stories",
    "3000",
    "--decay-steps",
    "12",
    "--eval-every",
    "3",
    "--eval-batches",
    "2",
    "--warmup",
    "2",
    "--out",
];

fn new(directory: &Path, steps: &'static str) -> Vec<String> {
    let out = directory.to_str().unwrap();
    [&SMALL[..], &[out, "--steps", steps]].concat().into_iter().map(str::to_owned).collect()
}

fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    out.into_owned()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn same_run(a: &Path, b: &Path) {
    for file in ["gpt-000000000012.safetensors", "best.json", "loss.svg"] {
        let read = |directory: &Path| fs::read(directory.join(file)).unwrap();
        assert!(read(a) == read(b), "{file}");
    }
    let ends = |directory: &Path| {
        let log = fs::read_to_string(directory.join("log.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |event: &str| lines.iter().rfind(|line| line["event"] == event).unwrap();
        let (last, stop) = (of("final"), of("stop"));
        assert!(last["whole"].as_f64().unwrap() > 1.0);
        [&last["whole"], &last["whole_best"], &stop["hash"]].map(Clone::clone)
    };
    assert_eq!(ends(a), ends(b));
}

#[test]
fn ranks_have_the_bits_of_one_process_and_take_over_from_each_other() {
    let one = tempfile::tempdir().unwrap();
    done(&alone(&borrowed(&new(one.path(), "12"))));
    for count in [1, 2, 4] {
        let many = tempfile::tempdir().unwrap();
        let out = done(&ranks(count, &borrowed(&new(many.path(), "12"))));
        assert_eq!(out.matches("saved in").count(), 1, "only the first rank speaks: {out}");
        assert!(count == 1 || out.contains(&format!("{count} ranks")), "{out}");
        same_run(one.path(), many.path());
    }
    let mixed = tempfile::tempdir().unwrap();
    let path = mixed.path().to_str().unwrap();
    done(&ranks(2, &borrowed(&new(mixed.path(), "4"))));
    done(&alone(&["--resume", path, "--steps", "7"]));
    done(&ranks(4, &["--resume", path, "--steps", "12"]));
    same_run(one.path(), mixed.path());
}

#[test]
fn what_is_wrong_ends_all_ranks() {
    let directory = tempfile::tempdir().unwrap();
    let new = new(directory.path(), "12");
    let told = |output: Output, code: i32, message: &str| {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert!(err.contains(message), "{err}: {message}");
    };
    told(ranks(3, &borrowed(&new)), 2, "rank 0 of 3: 4 chunks can be shared by a power of two of ranks");
    told(ranks(2, &[&borrowed(&new)[..], &["--data", "/nowhere"]].concat()), 1, "rank 0: /nowhere: ");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    // The first rank alone fails, on its way: the other does not wait for ever.
    fs::create_dir(directory.path().join("gpt.json.tmp")).unwrap();
    told(ranks(2, &borrowed(&new)), 1, "rank 0: ");
}
