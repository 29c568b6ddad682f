//! The program as a process, for tests of its commands.

// Each test crate uses a part of it.
#![allow(dead_code, unused_imports)]

use std::borrow::Borrow;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[path = "../../../tests/common/limited.rs"]
mod limited;
#[path = "slowest.rs"]
mod slowest;

pub use limited::{Limited, output};
pub use slowest::SLOWEST;

pub fn hotlanes(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotlanes"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks an exit code, and that this was said: of errors, on standard error.
#[track_caller]
pub fn told(code: i32, output: impl Borrow<Output>, message: &str) {
    let Output { status, stdout, stderr } = output.borrow();
    let (out, err) = (text(stdout), text(stderr));
    assert_eq!(status.code(), Some(code), "{out}{err}");
    let said = if matches!(code, 1 | 2) { err } else { out + &err };
    assert!(said.contains(message), "{said}: {message}");
}

/// The lines of a directory's log.
pub fn log(directory: &Path) -> Vec<Value> {
    let log = fs::read_to_string(directory.join("log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Those of this kind.
pub fn events(directory: &Path, kind: &str) -> Vec<Value> {
    log(directory).into_iter().filter(|line| line["event"] == kind).collect()
}

/// The last "stop".
pub fn stop(directory: &Path) -> Value {
    events(directory, "stop").pop().unwrap()
}
