//! `hotlanes replay`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hotlanes_replay::files::System;
use hotlanes_replay::store::{self, Checked};

use crate::shell::progress::{note, tell};

mod bench;
mod codecs;
mod earlier;
mod memory;
mod saving;

#[derive(clap::Subcommand)]
pub(super) enum Replay {
    /// Measure a replay buffer against memory, the disk and an earlier design, in ratios from one run.
    #[command(after_long_help = bench::HELP)]
    Bench(bench::Args),
    /// Read every byte of a saved buffer and compare it with its checksums.
    Verify(Saved),
    /// Save to a new directory what is whole of a damaged one.
    Salvage(Salvage),
    /// Print what a saved buffer holds.
    Info(Saved),
}

#[derive(clap::Args)]
pub(super) struct Saved {
    /// Directory of the buffer.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct Salvage {
    /// Directory of the damaged buffer, which is only read.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Directory to save to, which has no buffer yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(command: Replay) -> ExitCode {
    let checked = match command {
        Replay::Bench(args) => return bench::run(&args),
        Replay::Verify(Saved { directory }) => (store::verify(&directory), directory),
        Replay::Info(Saved { directory }) => (store::info(&directory), directory),
        Replay::Salvage(Salvage { from, out }) => {
            let salvaged = store::salvage(&System, &from, &out);
            (salvaged.map(|(checked, ..)| checked), out)
        }
    };
    let (checked, directory) = match checked {
        (Ok(checked), directory) => (checked, directory),
        (Err(why), _) => return super::fail(1, why),
    };
    for problem in &checked.problems {
        note(format_args!("hotlanes: {problem}"));
    }
    let printed = super::printed(tell(text(&directory, &checked)));
    if checked.problems.is_empty() { printed } else { ExitCode::from(1) }
}

/// What a directory holds.
fn text(directory: &Path, checked: &Checked) -> String {
    let Checked { schema, config, segments, records, bytes, problems } = checked;
    let mut text = format!(
        "{}: {records} records in {segments} segments, {bytes} bytes; capacity {} records, eviction by {}\n",
        directory.display(),
        config.capacity,
        format!("{:?}", config.eviction).to_lowercase(),
    );
    for column in schema.columns() {
        let codec = format!("{:?}", column.storage());
        let lossy = if column.storage().is_lossless() { "" } else { ", rounded" };
        text += &format!("  {}: {} {:?}, {codec}{lossy}\n", column.name(), column.dtype(), column.shape());
    }
    if !problems.is_empty() {
        text += &format!("{} files are damaged\n", problems.len());
    }
    text
}
