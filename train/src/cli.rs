//! The command line of `hotlanes` and its exit codes.
//!
//! 0: done. 1: failed. 2: the command makes no sense, or needs what this machine lacks. 3: time over before the end.
//! 128 + N: stopped by signal N, after saving if there was something to save.

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::LEGEND;

mod bench;
mod bench_gpt;
mod generate;
mod gpt;
mod population;
mod report;
mod run;
mod verify;

/// CPU training kernels in explicit SIMD: what they do on this machine, and what is trained with them.
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
    /// Train.
    #[command(subcommand)]
    Train(Train),
    /// Continue a text with a GPT that was trained here.
    #[command(after_long_help = generate::HELP)]
    Generate(generate::Args),
    /// Execute a run again, and compare it with its log to the bit.
    #[command(after_long_help = verify::HELP)]
    Verify(verify::Args),
    /// Measure whole training steps.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Train {
    /// Evolve a population of sparse networks that learn by gradient.
    #[command(after_long_help = population::help())]
    Population(Box<population::Args>),
    /// Train a GPT on text, with its whole gradient.
    #[command(after_long_help = gpt::help())]
    Gpt(Box<gpt::Args>),
}

#[derive(Subcommand)]
enum Bench {
    /// A population of sparse networks against the scalar loop of earlier work, in one run.
    Population(bench::Args),
    /// Training steps of a GPT, and decoding, against multiply-adds alone.
    Gpt(bench_gpt::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Train(Train::Population(args))) => population::run(*args),
        Some(Command::Train(Train::Gpt(args))) => gpt::run(*args),
        Some(Command::Generate(args)) => generate::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Bench(Bench::Population(args))) => bench::run(args),
        Some(Command::Bench(Bench::Gpt(args))) => bench_gpt::run(args),
        None => report::run(cli.report),
    }
}

/// Says why, and ends with this code.
fn fail(code: u8, why: impl Display) -> ExitCode {
    eprintln!("hotlanes: {why}");
    ExitCode::from(code)
}

/// A pool of so many threads, all there are if `None`; an error in words.
fn pool(threads: Option<u16>) -> Result<rayon::ThreadPool, String> {
    let mut builder = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = threads {
        builder = builder.num_threads(threads.into());
    }
    builder.build().map_err(|e| format!("--threads: {e}"))
}

/// The tier of the process, before a kernel asks for it; an error in words.
fn check_tier() -> Result<(), String> {
    hotlanes::try_tier().map(|_| ()).map_err(|e| format!("{}: {e}", hotlanes::TIER_ENV))
}
