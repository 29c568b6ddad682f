//! A process that adds and saves is killed at random moments.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hotlanes_replay::store::{self, MANIFEST, Store};

use super::small::{add, all, buffer};

/// The directory in which the child works.
const DIRECTORY: &str = "HOTLANES_REPLAY_KILLED";

/// Not a test: the child.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut store = if directory.join(MANIFEST).exists() {
        Store::open(directory).unwrap()
    } else {
        Store::create(directory, &buffer(64, 8)).unwrap()
    };
    let buffer = store.buffer().clone();
    let mut writer = buffer.resume_writers().unwrap().pop().unwrap_or_else(|| buffer.writer(1).unwrap());
    let mut number = store.extra().first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
    loop {
        add(&mut writer, 0, number, 3);
        number += 3;
        store.save(&number.to_le_bytes()).unwrap();
    }
}

fn loops(count: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for turn in 0..count {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + turn * 37 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        if !directory.path().join(MANIFEST).exists() {
            continue;
        }
        let checked = store::verify(directory.path()).unwrap();
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        let store = Store::open(directory.path()).unwrap();
        let number = i32::from_le_bytes(*store.extra().first_chunk().unwrap());
        assert!(number >= newest, "{number} after {newest}");
        newest = number;
        let (drawn, obs, ..) = all(store.buffer()).unwrap();
        // The newest record has no successor, unless it ended an episode.
        let ends = (number - 1) % 7 == 6;
        assert_eq!(obs[1], number - if ends { 1 } else { 2 });
        assert!(obs.chunks(2).map(|obs| obs[1]).is_sorted_by(|a, b| a > b), "{:?}", drawn.ids);
    }
    println!("{count} kills, {newest} records");
    assert!(newest > 0);
}

#[test]
fn a_process_that_is_killed_leaves_a_buffer() {
    loops(12);
}

#[test]
#[ignore = "minutes"]
fn a_process_that_is_killed_a_thousand_times_leaves_a_buffer() {
    loops(1000);
}
