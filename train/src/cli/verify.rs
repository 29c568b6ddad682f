//! `hotlanes verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::run::Machine;
use crate::models::{gpt, mlp, population};
use crate::shell::error::Error;
use crate::shell::progress::{Progress, say};
use crate::shell::session::LOG;
use crate::shell::signals;
use crate::shell::trainer::Recipe;
use crate::shell::verify::{self, Part, Verdict};
use crate::store::log;

pub(super) const HELP: &str = "\
Executes the run again on this CPU and compares every loss, figure and hash in its log: of each evaluation or
generation, each checkpoint, the best model. A run that agrees came from these data by these settings, to the bit.

Before that it checks the log's chain (a line that was edited or removed is named), the data (by the run's hash) and the
kept checkpoints (by the hashes in the log). Train with --keep N to keep checkpoints from which parts of a run can be
verified. A run that was made by a version with other bits is refused with a message.

Exit codes: 0 everything agrees, 1 something differs or cannot be read, 2 wrong usage, 128 + N stopped by signal N.";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the run.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Where the data are now, if they were moved; repeat it for each file.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Start from the kept checkpoint of this step (of a population: after this many examples).
    #[arg(long, value_name = "STEP")]
    from: Option<u64>,
    /// Execute at most this many steps or generations.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Execute K of the segments between kept checkpoints, chosen by --seed.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Seed of --sample's choice.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sample")]
    seed: u64,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: Args) -> ExitCode {
    signals::install(signals::STOPPING);
    let verdict = args.machine.run(|| verify(&args));
    let verdict = match verdict {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(why)) => return super::fail(why.exit_code(), why),
        Err(why) => return super::fail(2, why),
    };
    let run = args.run.display();
    match verdict {
        Verdict::Agrees { lines, hashes } => {
            if !args.machine.quiet {
                say(format_args!(
                    "{run}: all {hashes} hashes agree, and all {lines} lines of the log that were computed again"
                ));
            }
            ExitCode::SUCCESS
        }
        Verdict::Differs { line, position, what } => {
            super::fail(1, format_args!("{run}: differs at step {position} ({LOG}, line {line}): {what}"))
        }
        Verdict::Stopped(lines) => {
            let signal = signals::requested().map_or(130, signals::Signal::exit_code);
            super::fail(signal, format_args!("{run}: stopped; {lines} lines agreed so far"))
        }
    }
}

fn verify(args: &Args) -> Result<Verdict, Error> {
    let lines = log::read(&args.run.join(LOG))?;
    let kind = lines.first().and_then(|line| line.value["kind"].as_str()).unwrap_or_default();
    match kind {
        population::trainer::Recipe::KIND => verify_as::<population::trainer::Recipe>(args),
        mlp::trainer::Recipe::KIND => verify_as::<mlp::trainer::Recipe>(args),
        // Another one is told there.
        _ => verify_as::<gpt::trainer::Recipe>(args),
    }
}

fn verify_as<R: Recipe>(args: &Args) -> Result<Verdict, Error> {
    let part = Part {
        from: args.from,
        steps: args.steps,
        sample: args.sample.map(|count| (count as usize, args.seed)),
    };
    let progress = if args.machine.quiet { Progress::hidden() } else { Progress::spinner(R::POSITION) };
    let data: Vec<PathBuf> = args.data.iter().map(|p| absolute(p)).collect();
    let verdict = verify::verify::<R>(&args.run, &data, &part, &progress);
    progress.finish();
    verdict
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
