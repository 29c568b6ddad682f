//! Signals that end a run: the first asks a command to stop in good order, the second stops it at once.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Ctrl-C.
    pub const INTERRUPT: Signal = Signal(2);

    /// The exit code of a command that it stopped, saved or not: 128 plus its number, as shells have it.
    pub fn exit_code(self) -> u8 {
        128 + self.0 as u8
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The signal of a number.
    pub fn of(number: i32) -> Signal {
        Signal(number)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self.0 {
            1 => "SIGHUP",
            15 => "SIGTERM",
            _ => "SIGINT",
        }
    }
}

/// The first signal that came, 0 for none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// What signals say, and how long they wait.
#[derive(Clone, Copy, Debug)]
pub struct Notes {
    /// At the first.
    pub first: &'static str,
    /// At the second.
    pub second: &'static str,
    /// How long a command may take after the first to stop by itself.
    pub within: Option<Duration>,
}

/// For a run that saves.
pub const SAVING: Notes = Notes {
    first: "\nhotlanes: saving; once more to stop at once\n",
    second: "\nhotlanes: stopped; the last checkpoint is kept\n",
    within: None,
};

/// For a run that saves and prints errors alone.
pub const SAVING_QUIETLY: Notes = Notes { first: "", ..SAVING };

/// For a command that has nothing to save.
pub const STOPPING: Notes = Notes { first: "", second: "\n", within: None };

/// For a command that may be waiting for input when it is asked to stop.
pub const READING: Notes = Notes { within: Some(Duration::from_millis(500)), ..STOPPING };

/// Takes the signals over from the system. More calls do nothing more. Where the system refuses, they kill as ever.
pub fn install(notes: Notes) {
    static DONE: OnceLock<bool> = OnceLock::new();
    DONE.get_or_init(|| take_over(notes).is_ok());
}

/// The signal that asked for the end.
pub fn requested() -> Option<Signal> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => None,
        number => Some(Signal(number)),
    }
}

fn received(number: i32, notes: Notes) {
    let first = RECEIVED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    // Standard error may be closed.
    let _ = io::stderr().write_all(if first { notes.first } else { notes.second }.as_bytes());
    let exit = move || std::process::exit(Signal(number).exit_code().into());
    match notes.within.filter(|_| first) {
        Some(within) => {
            // Another signal need not wait.
            std::thread::spawn(move || {
                std::thread::sleep(within);
                exit();
            });
        }
        None if first => {}
        None => exit(),
    }
}

#[cfg(unix)]
fn take_over(notes: Notes) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut numbers = vec![SIGINT, SIGTERM];
    if !hangups_are_ignored() {
        numbers.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(numbers)?;
    let wait = move || signals.forever().for_each(|number| received(number, notes));
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(|_| ())
}

/// Whether nohup started this process, where Linux tells.
#[cfg(unix)]
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[cfg(not(unix))]
fn take_over(notes: Notes) -> io::Result<()> {
    ctrlc::set_handler(move || received(Signal::INTERRUPT.0, notes)).map_err(io::Error::other)
}
