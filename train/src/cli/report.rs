//! `hotlanes report`.

use std::process::ExitCode;

use hotlanes::Tier;

use crate::report::{self, Failure, Options};

#[derive(clap::Args)]
pub(super) struct Args {
    /// All sizes and longer samples: minutes instead of half a minute.
    #[arg(long)]
    full: bool,
    /// Threads for the kernels and the limits; the naive loops always use one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Time instead what threads gain where the main thread calls, which is not of the pool: on plain `Vec`s, from each
    /// kernel's threshold on, with workers that are awake from the call before and with workers that sleep.
    #[arg(long, conflicts_with = "full")]
    outside: bool,
    /// Print one JSON object per line, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
    /// Print kernels and sizes as JSON, one object per line, and measure nothing.
    #[arg(long, conflicts_with_all = ["json", "threads", "tier", "outside"])]
    list_json: bool,
    /// Measure this kernel only; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(report::kernels()))]
    kernel: Vec<String>,
    /// Time this tier only (bits are still compared on all); may be repeated.
    #[arg(long, value_name = "NAME")]
    tier: Vec<Tier>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let options = Options {
        full: args.full,
        threads: args.threads.into(),
        outside: args.outside,
        json: args.json,
        kernels: args.kernel,
        tiers: args.tier,
    };
    let result = if args.list_json { report::list(&options) } else { report::run(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(e)) => super::printed(Err(e)),
        Err(failure) => super::fail(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 }, failure),
    }
}
