//! The command line of `hotlanes` and its exit codes.
//!
//! 0: done. 1: failed. 2: the command makes no sense, or needs what this machine lacks. 3: time over before the end.
//! 128 + N: stopped by signal N, after saving if there was something to save.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::report::LEGEND;
use crate::shell::error::Error;
use crate::shell::progress::{self, note};

mod bench;
mod config;
mod eval;
mod generate;
mod gpt;
mod mlp;
mod population;
mod predict;
mod replay;
mod report;
mod run;
mod verify;

/// CPU training kernels in explicit SIMD: measure them on this machine, and train models with them.
#[derive(Parser)]
#[command(name = "hotlanes", version, args_conflicts_with_subcommands = true, after_long_help = LEGEND)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    report: report::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Measure every kernel on every tier against a plain loop and this machine's limits (the default).
    #[command(after_long_help = LEGEND)]
    Report(report::Args),
    /// Train a model.
    #[command(subcommand)]
    Train(Train),
    /// Generate text with a GPT that was trained here.
    #[command(after_long_help = generate::HELP)]
    Generate(generate::Args),
    /// Compute a GPT's loss on its validation split or on another text.
    #[command(after_long_help = eval::HELP)]
    Eval(eval::Args),
    /// Predict CSV rows with a perceptron that was trained here.
    #[command(after_long_help = predict::HELP)]
    Predict(predict::Args),
    /// Execute a run again and compare it with its log, bit for bit.
    #[command(after_long_help = verify::HELP)]
    Verify(verify::Args),
    /// Measure whole training steps.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Measure, check and salvage replay buffers.
    #[command(subcommand)]
    Replay(replay::Replay),
}

#[derive(Subcommand)]
enum Train {
    /// Evolve a population of sparse networks that learn by gradient descent.
    #[command(after_long_help = population::help())]
    Population(Box<population::Args>),
    /// Train a GPT on text.
    #[command(after_long_help = gpt::help())]
    Gpt(Box<gpt::Args>),
    /// Train a multi-layer perceptron on a CSV file.
    #[command(after_long_help = mlp::help())]
    Mlp(Box<mlp::Args>),
}

/// All commands with their options, for tests and for whoever documents them.
pub fn command() -> clap::Command {
    // Said here and not at the options, since the benchmark has the settings, too, and no --resume.
    let own = ["Settings", "EvolutionArgs"];
    let cli = Cli::command().mut_subcommand("train", |train| {
        train.mut_subcommand("population", |population| {
            population.mut_arg("resume", |resume| resume.conflicts_with_all(own))
        })
    });
    cli.mut_subcommand("eval", |eval| eval.mut_arg("quiet", |quiet| quiet.help("Print nothing but the loss")))
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let command = command();
    let words = match config::expand(&command, std::env::args_os().collect()) {
        Ok(expanded) => expanded.words,
        Err(why) => return fail(2, why),
    };
    let parsed = command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help or version, which was asked for.
        Err(text) if !text.use_stderr() => return printed(text.print().and_then(|()| io::stdout().flush())),
        Err(error) => {
            // Standard error may be closed.
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    match cli.command {
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Train(Train::Population(args))) => population::run(*args),
        Some(Command::Train(Train::Gpt(args))) => gpt::run(*args),
        Some(Command::Train(Train::Mlp(args))) => mlp::run(*args),
        Some(Command::Predict(args)) => predict::run(args),
        Some(Command::Generate(args)) => generate::run(args),
        Some(Command::Eval(args)) => eval::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Bench(bench)) => bench::run(bench),
        Some(Command::Replay(command)) => replay::run(command),
        None => report::run(cli.report),
    }
}

/// Says why, and ends with this code.
fn fail<W: Display>(code: u8, why: W) -> ExitCode {
    note(format_args!("hotlanes: {why}"));
    ExitCode::from(code)
}

/// The end of a command that exists to print something: whether that could be written.
fn printed(result: io::Result<()>) -> ExitCode {
    match progress::printed(result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(1, Error::Output(e)),
    }
}

/// A pool of so many threads, all there are if `None`; an error in words.
fn pool(threads: Option<u16>) -> Result<rayon::ThreadPool, String> {
    builder(threads).build().map_err(|e| format!("--threads: {e}"))
}

/// Makes rayon's global pool, of so many threads, all there are if `None`. Kernels that the main thread calls spread
/// their work over it: that thread takes a share of a short call and waits awake for the rest, where a worker would soon
/// sleep. To be called before anything uses rayon. An error in words.
fn own_pool(threads: Option<u16>) -> Result<(), String> {
    builder(threads).build_global().map_err(|e| format!("--threads: {e}"))
}

fn builder(threads: Option<u16>) -> rayon::ThreadPoolBuilder {
    // Zero: rayon's default.
    rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from))
}

/// The tier of the process, before a kernel asks for it; an error in words.
fn check_tier() -> Result<(), String> {
    hotlanes::try_tier().map(|_| ()).map_err(|e| format!("{}: {e}", hotlanes::TIER_ENV))
}
