//! Ctrl-C: the first asks a command to stop in good order, the second kills it.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The exit code of a run that Ctrl-C stopped, saved or not: 128 plus the signal's number, as shells have it.
pub const EXIT_CODE: u8 = 130;

static PRESSED: AtomicUsize = AtomicUsize::new(0);

/// What the presses of Ctrl-C print.
#[derive(Clone, Copy, Debug)]
pub struct Notes {
    /// The first.
    pub first: &'static str,
    /// The second.
    pub second: &'static str,
}

/// For a run that saves.
pub const SAVING: Notes = Notes {
    first: "\nhotlanes: saving; once more to stop at once\n",
    second: "\nhotlanes: stopped at once; the last checkpoint is as it was\n",
};

/// For a command that has nothing to save.
pub const STOPPING: Notes = Notes { first: "", second: "\n" };

/// Takes Ctrl-C over from the system. More calls do nothing more. Where the system refuses, Ctrl-C kills as ever.
pub fn install(notes: Notes) {
    static DONE: OnceLock<bool> = OnceLock::new();
    DONE.get_or_init(|| {
        ctrlc::set_handler(move || {
            if PRESSED.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = io::stderr().write_all(notes.second.as_bytes());
                std::process::exit(EXIT_CODE.into());
            }
            let _ = io::stderr().write_all(notes.first.as_bytes());
        })
        .is_ok()
    });
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}
