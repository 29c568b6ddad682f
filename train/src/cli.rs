//! The command line: what `hotlanes` can be told, and with what code it ends.
//!
//! 0: done. 1: failed. 2: what was asked for makes no sense or cannot be had here. 130: stopped by Ctrl-C, after saving if
//! there was something to save.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::report::LEGEND;
use crate::shell::settings::number;

mod bench;
mod bench_gpt;
mod generate;
mod gpt;
mod population;
mod report;

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
    /// Measure whole training steps.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Train {
    /// Evolve a population of sparse networks that learn by gradient.
    #[command(after_long_help = population::HELP)]
    Population(Box<population::Args>),
    /// Train a GPT on text, with its whole gradient.
    #[command(after_long_help = gpt::HELP)]
    Gpt(Box<gpt::Args>),
}

#[derive(Subcommand)]
enum Bench {
    /// A population of sparse networks against the scalar loop of earlier work, in one run.
    Population(bench::Args),
    /// Training steps of a GPT, and decoding, against multiply-adds alone.
    Gpt(bench_gpt::Args),
}

/// All commands with their options, for tests and for whoever documents them.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Train(Train::Population(args))) => population::run(*args),
        Some(Command::Train(Train::Gpt(args))) => gpt::run(*args),
        Some(Command::Generate(args)) => generate::run(args),
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

/// So many minutes; an error in words.
fn minutes(minutes: Option<f64>) -> Result<Option<Duration>, String> {
    let time = |minutes| {
        let told = || format!("--minutes {}: must be at least 0 and at most 1e15", number(minutes));
        let fits = (0.0..=1e15).contains(&minutes);
        fits.then(|| Duration::from_secs_f64(60.0 * minutes)).ok_or_else(told)
    };
    minutes.map(time).transpose()
}

/// The tier of the process, before a kernel asks for it; an error in words.
fn check_tier() -> Result<(), String> {
    hotlanes::try_tier().map(|_| ()).map_err(|e| format!("{}: {e}", hotlanes::TIER_ENV))
}
