//! Ctrl-C: the first asks a run to save and stop, the second kills it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The exit code of a run that Ctrl-C stopped, saved or not: 128 plus the signal's number, as shells have it.
pub const EXIT_CODE: u8 = 130;

static PRESSED: AtomicUsize = AtomicUsize::new(0);

/// Takes Ctrl-C over from the system. More calls do nothing more. Where the system refuses, Ctrl-C kills as ever.
pub fn install() {
    static DONE: OnceLock<bool> = OnceLock::new();
    DONE.get_or_init(|| {
        ctrlc::set_handler(|| {
            if PRESSED.fetch_add(1, Ordering::SeqCst) > 0 {
                eprintln!("\nhotlanes: stopped at once; the last checkpoint is as it was");
                std::process::exit(EXIT_CODE.into());
            }
            eprintln!("\nhotlanes: saving; once more to stop at once");
        })
        .is_ok()
    });
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}
