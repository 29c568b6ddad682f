//! The command line of `hotlanes`.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hotlanes::Tier;
use hotlanes_train::report::{self, Failure, LEGEND, Options};

/// CPU training kernels in explicit SIMD: what they do on this machine.
#[derive(Parser)]
#[command(name = "hotlanes", version, args_conflicts_with_subcommands = true, after_long_help = LEGEND)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Measure every kernel on every tier against a plain loop and this machine's limits (the default).
    #[command(after_long_help = LEGEND)]
    Report(ReportArgs),
}

#[derive(Args)]
struct ReportArgs {
    /// All sizes, and longer samples of each: minutes instead of half of one.
    #[arg(long)]
    full: bool,
    /// Threads for the kernels and the limits; the naive loops always use one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// One JSON object a line on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Only this kernel; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(report::kernels()))]
    kernel: Vec<String>,
    /// Time only this tier (the bits are still compared on all); may be repeated.
    #[arg(long, value_name = "NAME")]
    tier: Vec<Tier>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = match cli.command {
        Some(Command::Report(args)) => args,
        None => cli.report,
    };
    let options = Options {
        full: args.full,
        threads: args.threads.into(),
        json: args.json,
        kernels: args.kernel,
        tiers: args.tier,
    };
    match report::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: that is no failure of ours.
        Err(Failure::Output(e)) if e.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hotlanes: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}
