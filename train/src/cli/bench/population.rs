//! `hotlanes bench population`.

use std::process::ExitCode;

use super::Measure;
use crate::cli::fail;
use crate::cli::population::{DataArgs, Settings};
use crate::models::population::bench::{self, Options, Phase, Report, Way};
use crate::models::population::evolve::Evolution;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    measure: Measure,
}

pub(super) fn run(args: Args) -> ExitCode {
    let config = args.settings.config(Evolution::default());
    let data = match args.settings.source(args.data.place()).load(config.seed) {
        Ok(data) => data,
        Err(e) => return fail(if e.is_usage() { 2 } else { 1 }, e),
    };
    if let Err(e) = config.check(data.train.features) {
        return fail(2, e);
    }
    let [one, all] = match args.measure.pools() {
        Ok(pools) => pools,
        Err(why) => return fail(2, why),
    };
    let options = Options { config, time: args.measure.time() };
    match bench::run(&options, &data, [&one, &all]) {
        Ok(report) => args.measure.print(&report, |report| table(report, &data.source)),
        Err(e) => fail(1, e),
    }
}

fn table(report: &Report, source: &str) -> String {
    let Report { population, connections, threads, batch, tier, clock_ghz, scaling, .. } = report;
    let mut text = format!(
        "{population} individuals of {connections:.0} connections, batches of {batch}, {threads} threads, tier {tier}, \
        {source}\n\
        example-steps/s: an example through all individuals, forward, backward and update; fastest (median) window\n"
    );
    for Way { name, steps_per_second, median, ratio } in &report.ways {
        text += &format!("  {name:36} {steps_per_second:9.0} ({median:.0})  {ratio:6.2}x\n");
    }
    text += &format!(
        "{threads} threads against one, batches: {scaling:.2}x\n\
        one individual on one thread; cycles per connection and example at {clock_ghz:.2} GHz (estimated):\n"
    );
    for Phase { way, name, nanoseconds, cycles, share } in &report.phases {
        let percent = 100.0 * share;
        text += &format!("  {way:6} {name:24} {nanoseconds:9.1} ns {cycles:7.3} cycles {percent:5.1}%\n");
    }
    text
}
