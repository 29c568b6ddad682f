//! All that is printed, and a bar on standard error if that is a terminal. Nothing here panics where standard output or
//! standard error is closed, or is a file on a full disk.

use std::fmt::Display;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line about a run on standard output. A run continues when nobody reads it any more: errors are ignored.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes on standard output what a command exists to print, as it is.
///
/// # Errors
/// It cannot be written. That the reader closed the pipe ([`io::ErrorKind::BrokenPipe`]) is no failure of the command.
pub fn tell(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Whether output could be written: a reader who has seen enough is no failure.
///
/// # Errors
/// It could not.
pub fn printed(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// Prints a line on standard error; errors are ignored.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A bar.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that ends at `end` things of a kind, such as "examples", and starts at `start`.
    pub fn new(start: u64, end: u64, things: &str) -> Self {
        let bar = ProgressBar::new(end).with_position(start);
        let template = format!("{{bar:24}} {{human_pos}}/{{human_len}} {things} {{msg}} {{eta}} left");
        bar.set_style(ProgressStyle::with_template(&template).expect("a template that is right"));
        bar.reset_eta();
        Progress(bar)
    }

    /// A counter of steps whose end is not known.
    pub fn spinner(unit: &str) -> Self {
        let bar = ProgressBar::no_length();
        let template = format!("{{spinner}} {unit} {{human_pos}} {{msg}} {{elapsed}}");
        bar.set_style(ProgressStyle::with_template(&template).expect("a template that is right"));
        Progress(bar)
    }

    /// None at all.
    pub fn hidden() -> Self {
        Progress(ProgressBar::hidden())
    }

    /// Where the run is, and what there is to say about it.
    pub fn at(&self, position: u64, message: String) {
        self.0.set_position(position);
        self.0.set_message(message);
    }

    /// Prints a line on standard output, above the bar.
    pub fn line(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
