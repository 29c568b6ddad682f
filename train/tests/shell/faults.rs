//! Every operation on files fails in turn, and the process is killed at each in turn: the last checkpoint and the log
//! stay readable, nothing is left half written, and the resumed run is the run that nothing happened to.

use std::fs;
use std::path::Path;

use hotlanes_train::models::{gpt, mlp, population};
use hotlanes_train::shell::session::{self, LOG};
use hotlanes_train::store::checkpoint;
use hotlanes_train::store::log;

use super::disk::{Fault, Faulty};
use super::runs::{Small, assert_same_lines, computed, resume, start};

/// Operations of a whole run.
fn operations<R: Small>() -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let disk = Faulty::sound();
    start::<R>(directory.path(), &disk).unwrap();
    disk.done()
}

fn every_operation<R: Small>(fault: Fault) {
    let whole = tempfile::tempdir().unwrap();
    start::<R>(whole.path(), &Faulty::sound()).unwrap();
    let want = computed(whole.path());
    let count = operations::<R>();
    assert!(count > 60, "{count} operations");
    let (mut failed, mut kept) = (0, 0);
    for at in 0..count {
        let directory = tempfile::tempdir().unwrap();
        let out = &directory.path().join("run");
        let disk = Faulty::new(fault, at);
        let result = start::<R>(out, &disk);
        // A removal may fail without harm; all else is told, with the file.
        if let Err(error) = &result {
            failed += 1;
            let told = error.to_string();
            assert!(told.contains(out.to_str().unwrap()) && told.contains("injected"), "{at}: {told}");
            assert_eq!(error.exit_code(), 1);
            // What can be saved is saved: a later failure never leaves an older state. A killed process saves no more.
            let saved = checkpoint::index(out, R::KIND).map_or(0, |index| index.saved[0].step);
            assert!(saved >= kept, "{fault:?} at {at}: the checkpoint of {saved}: was {kept} before");
            kept = saved;
        }
        readable::<R>(out, fault, at);
        // The run is resumed from what is there, or started again where nothing was saved.
        match checkpoint::index(out, R::KIND) {
            Ok(_) => {
                resume::<R>(out, &Faulty::sound()).unwrap_or_else(|e| panic!("{fault:?} at {at}: {e}"));
            }
            Err(_) => {
                let _ = fs::remove_dir_all(out);
                start::<R>(out, &Faulty::sound()).unwrap();
            }
        }
        assert_same_lines(&computed(out), &want, format_args!("{fault:?} at {at}"));
        assert!(temporary(out).is_empty(), "{fault:?} at {at}: {:?}", temporary(out));
    }
    assert!(failed * 3 > count * 2, "{failed} of {count} operations failed loudly");
    assert!(kept > 0);
}

/// What a fault left can be read.
fn readable<R: Small>(out: &Path, fault: Fault, at: u64) {
    if let Ok(index) = checkpoint::index(out, R::KIND) {
        let newest = index.saved[0].clone();
        checkpoint::load(out, R::KIND, None).unwrap_or_else(|e| panic!("{fault:?} at {at}: {e}"));
        session::about::<R>(out, &index).unwrap();
        assert!(newest.log.is_some());
    }
    if out.join(LOG).exists() {
        log::read(&out.join(LOG)).unwrap_or_else(|e| panic!("{fault:?} at {at}: {e}"));
    }
    if fault != Fault::Kill {
        assert!(temporary(out).is_empty(), "{fault:?} at {at}: {:?}", temporary(out));
    }
}

fn temporary(out: &Path) -> Vec<String> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().into_string().unwrap()).filter(|name| name.ends_with(".tmp")).collect()
}

macro_rules! faults {
    ($($name:ident: $recipe:ty, $fault:ident;)*) => {$(
        #[test]
        fn $name() {
            every_operation::<$recipe>(Fault::$fault);
        }
    )*};
}

faults! {
    gpt_when_an_operation_fails: gpt::trainer::Recipe, Once;
    gpt_when_the_disk_is_full: gpt::trainer::Recipe, Full;
    gpt_when_it_is_killed: gpt::trainer::Recipe, Kill;
    population_when_an_operation_fails: population::trainer::Recipe, Once;
    population_when_the_disk_is_full: population::trainer::Recipe, Full;
    population_when_it_is_killed: population::trainer::Recipe, Kill;
    mlp_when_an_operation_fails: mlp::trainer::Recipe, Once;
    mlp_when_the_disk_is_full: mlp::trainer::Recipe, Full;
    mlp_when_it_is_killed: mlp::trainer::Recipe, Kill;
}
