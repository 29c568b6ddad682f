//! `hotlanes bench`.

use std::process::ExitCode;
use std::time::Duration;

use rayon::ThreadPool;
use serde::Serialize;

use crate::shell::progress::tell;

mod gpt;
mod mlp;
mod population;

#[derive(clap::Subcommand)]
pub(super) enum Bench {
    /// Measure training steps of a population of sparse networks against a plain scalar loop.
    Population(population::Args),
    /// Measure training steps and decoding of a GPT against the machine's FMA peak.
    Gpt(gpt::Args),
    /// Measure runs of a perceptron on drawn rows, and its training steps by batch and width against plain loops.
    Mlp(mlp::Args),
}

/// Options of every benchmark.
#[derive(clap::Args)]
struct Measure {
    /// Number of threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Approximate seconds to measure for.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

impl Measure {
    /// A pool of one thread, and one of all.
    fn pools(&self) -> Result<[ThreadPool; 2], String> {
        Ok([super::pool(Some(1))?, super::pool(self.threads)?])
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Prints a benchmark's result.
    fn print<R: Serialize>(&self, result: &R, table: impl FnOnce(&R) -> String) -> ExitCode {
        super::printed(if self.json {
            tell(format_args!("{}\n", serde_json::to_string(result).expect("numbers and names")))
        } else {
            tell(table(result))
        })
    }
}

pub(super) fn run(bench: Bench) -> ExitCode {
    if let Err(why) = super::check_tier() {
        return super::fail(2, why);
    }
    match bench {
        Bench::Population(args) => population::run(args),
        Bench::Gpt(args) => gpt::run(args),
        Bench::Mlp(args) => mlp::run(args),
    }
}
