//! Every operation fails in turn, and the machine stops at each: what is opened next is the old state or the new one.

use std::path::Path;

use hotlanes_replay::store::{MANIFEST, Store};
use hotlanes_replay::{Buffer, Writer};

use super::disk::{Fault, Faulty, Loss};
use super::small::{Sampled, add, all, buffer};

/// Two saves, with records added and evicted between them.
struct Script {
    buffer: Buffer,
    writer: Writer,
    first: Option<Sampled>,
}

const ROUNDS: [usize; 2] = [70, 45];

impl Script {
    fn new() -> Script {
        let buffer = buffer(90, 5);
        let writer = buffer.writer(1).unwrap();
        Script { buffer, writer, first: None }
    }

    /// Runs on a disk; returns how many saves succeeded.
    fn run(&mut self, disk: &Faulty, directory: &Path) -> usize {
        let Ok(store) = Store::create_on(disk, directory, &self.buffer) else { return 0 };
        let mut store = store.compress(true);
        let mut number = 0;
        let mut saved = 0;
        for (i, rounds) in ROUNDS.into_iter().enumerate() {
            add(&mut self.writer, 0, number, rounds);
            number += rounds as i32;
            if i == 0 {
                self.first = all(&self.buffer);
            }
            if let Err(error) = store.save(&[i as u8]) {
                let told = error.to_string();
                assert!(told.contains("injected") && told.contains(directory.to_str().unwrap()), "{told}");
                return saved;
            }
            saved += 1;
        }
        saved
    }
}

/// The states that may be found.
struct States {
    first: Sampled,
    second: Sampled,
    /// Operations until each save was done.
    operations: u64,
}

fn states() -> States {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Faulty::sound());
    let mut script = Script::new();
    assert_eq!(script.run(&disk, directory.path()), 2);
    let second = all(&script.buffer).unwrap();
    States { first: script.first.unwrap(), second, operations: disk.operations() }
}

/// Which of the states a directory has; `None` where no save was ever done.
fn found(directory: &Path, states: &States, told: &str) -> Option<usize> {
    if !directory.join(MANIFEST).exists() {
        return None;
    }
    let store = Store::open(directory).unwrap_or_else(|e| panic!("{told}: {e}"));
    let here = all(store.buffer()).unwrap();
    let state = [&states.first, &states.second].iter().position(|state| **state == here);
    let state = state.unwrap_or_else(|| panic!("{told}: neither the old state nor the new one"));
    assert_eq!(store.extra(), [state as u8], "{told}");
    Some(state + 1)
}

#[test]
fn a_machine_that_stops_leaves_the_old_state_or_the_new_one() {
    let states = states();
    assert!(states.operations > 40, "{} operations", states.operations);
    let mut seen = [0; 3];
    for at in 0..=states.operations {
        let (directory, disk) = (tempfile::tempdir().unwrap(), Faulty::new(Fault::Stop, at));
        let saved = Script::new().run(&disk, directory.path());
        for loss in Loss::EACH {
            let after = tempfile::tempdir().unwrap();
            disk.after(loss, after.path());
            let told = format!("stopped at {at}, lost {loss:?}");
            let state = found(after.path(), &states, &told).unwrap_or(0);
            // What was reported as saved is there; more may be.
            assert!((saved..=saved + 1).contains(&state), "{told}: state {state} after {saved} saves");
            seen[state] += 1;
        }
    }
    println!("{} operations, each with {} losses: {seen:?} states", states.operations, Loss::EACH.len());
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_failed_save_leaves_the_old_state_and_can_be_repeated() {
    let states = states();
    let mut failed = 0;
    for fault in [Fault::Once, Fault::Full] {
        for at in 0..states.operations {
            let (directory, disk) = (tempfile::tempdir().unwrap(), Faulty::new(fault, at));
            let mut script = Script::new();
            let saved = script.run(&disk, directory.path());
            failed += usize::from(saved < 2);
            let told = format!("{fault:?} at {at}");
            // With the disk as it is, and not only with what was fsynced.
            let state = found(directory.path(), &states, &told).unwrap_or(0);
            assert!((saved..=saved + 1).contains(&state), "{told}: state {state} after {saved} saves");
        }
    }
    assert!(failed > 60, "{failed}");
}

#[test]
fn a_save_that_failed_is_made_good_by_the_next() {
    let states = states();
    for at in 1..states.operations {
        let (directory, disk) = (tempfile::tempdir().unwrap(), Faulty::new(Fault::Once, at));
        let script = Script::new();
        let mut writer = script.writer;
        let mut store = Store::create_on(&disk, directory.path(), &script.buffer).unwrap();
        add(&mut writer, 0, 0, ROUNDS[0]);
        let mut failures = u32::from(store.save(&[0]).is_err());
        add(&mut writer, 0, ROUNDS[0] as i32, ROUNDS[1]);
        failures += u32::from(store.save(&[1]).is_err());
        assert!(failures <= 1, "{at}");
        store.save(&[1]).unwrap();
        drop(store);
        assert_eq!(found(directory.path(), &states, &format!("once at {at}")), Some(2));
        // Nothing lies around.
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        let want = 5 + "MANIFEST LOCK priorities".split(' ').count();
        assert!(files <= want, "{at}: {files} files");
    }
}
