//! `hotlanes bench population`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::population::Settings;
use crate::data::idx::DataError;
use crate::models::population::bench::{self, Options, Report};
use crate::models::population::evolve::Evolution;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Directory of MNIST's IDX files; without it, digits that the program draws.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Threads; all cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// About how long to measure.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// One JSON object on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    if let Err(why) = super::check_tier() {
        return super::fail(2, why);
    }
    let config = args.settings.config(Evolution::default());
    let source = args.settings.source(args.data);
    if let Err(e) = source.check(&config) {
        return super::fail(2, e);
    }
    let data = match source.load(config.seed) {
        Ok(data) => data,
        Err(e) => return super::fail(if matches!(e, DataError::TooFew { .. }) { 2 } else { 1 }, e),
    };
    if let Err(e) = config.check(data.train.features) {
        return super::fail(2, e);
    }
    let threads = match args.threads {
        Some(threads) => threads.into(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let options = Options { config, threads, time: Duration::from_secs(args.seconds) };
    match bench::run(&options, &data) {
        Ok(report) if args.json => {
            println!("{}", serde_json::to_string(&report).expect("numbers and names"));
            ExitCode::SUCCESS
        }
        Ok(report) => {
            print(&report, &data.source);
            ExitCode::SUCCESS
        }
        Err(e) => super::fail(1, e),
    }
}

fn print(report: &Report, source: &str) {
    let Report { population, connections, threads, batch, tier, clock_ghz, .. } = report;
    println!(
        "{population} individuals of {connections:.0} connections, batches of {batch}, {threads} threads, tier {tier}, {source}"
    );
    println!(
        "example-steps/s: an example through all individuals, forward, backward and update; fastest (median) window"
    );
    for way in &report.ways {
        println!("  {:36} {:9.0} ({:.0})  {:6.2}x", way.name, way.steps_per_second, way.median, way.ratio);
    }
    println!("{threads} threads against one, batches: {:.2}x", report.scaling);
    println!(
        "one individual on one thread; cycles per connection and example at {clock_ghz:.2} GHz (estimated):"
    );
    for p in &report.phases {
        println!(
            "  {:6} {:24} {:9.1} ns {:7.3} cycles {:5.1}%",
            p.way,
            p.name,
            p.nanoseconds,
            p.cycles,
            100.0 * p.share
        );
    }
}
