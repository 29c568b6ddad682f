//! `hotlanes bench mlp`.

use std::process::ExitCode;

use super::Measure;
use crate::cli::fail;
use crate::models::mlp::bench::{self, Fit, Report, Speed};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    measure: Measure,
}

pub(super) fn run(args: Args) -> ExitCode {
    let [one, all] = match args.measure.pools() {
        Ok(pools) => pools,
        Err(why) => return fail(2, why),
    };
    match bench::run(args.measure.time(), [&one, &all]) {
        Ok(report) => args.measure.print(&report, table),
        Err(e) => fail(e.exit_code(), e),
    }
}

fn table(report: &Report) -> String {
    let Report { tier, threads, fits, speeds, predict: [single, many], resident } = report;
    let mut text = format!(
        "perceptron 5-64-64-64-1, SiLU, AdamW, on rows of a smooth function; tier {tier}\n\
        to the early stop, on one thread:\n"
    );
    for Fit { rows, epochs, best_epoch, seconds, validation_r2, test_r2, memory } in fits {
        let megabytes = 1e-6 * memory;
        text += &format!(
            "  {rows:6} rows {seconds:8.3} s {epochs:4} epochs (best {best_epoch})  R² {validation_r2:.5} validation, \
            {test_r2:.5} test  {megabytes:.1} MB beside the data\n"
        );
    }
    if let Some(resident) = resident {
        text += &format!("the process had {:.1} MB at most\n", 1e-6 * resident);
    }
    let ([single, many], rate) = ([single, many].map(|seconds| 1e6 * seconds), 1e-6 / many);
    text += &format!(
        "a prediction: {single:.2} us of one row alone, {many:.3} us of one among many ({rate:.2} million rows/s)\n"
    );
    text +=
        &format!("1000 rows/s of a training step, fastest window; {threads} threads; plain loops on one\n");
    for Speed { batch, width, one, all, plain, gflops } in speeds {
        let ([k_one, k_all, k_plain], ratio) = ([one, all, plain].map(|rate| 1e-3 * rate), one / plain);
        text += &format!(
            "  batch {batch:5} width {width:4} {k_one:9.1} one thread {gflops:6.1} GFLOP/s {k_all:9.1} all \
            {k_plain:8.1} plain {ratio:6.1}x\n"
        );
    }
    text
}
