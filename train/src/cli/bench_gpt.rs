//! `hotlanes bench gpt`.

use std::process::ExitCode;
use std::time::Duration;

use crate::models::gpt::bench::{self, Options, Report};
use crate::models::gpt::config::{Act, Config, Norm};
use crate::models::gpt::engine::chunks;
use crate::models::gpt::settings::{check_memory, check_shape};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Blocks of attention and perceptron.
    #[arg(long, value_name = "N", default_value_t = 4)]
    layers: usize,
    /// Heads of attention.
    #[arg(long, value_name = "N", default_value_t = 8)]
    heads: usize,
    /// Features of a token.
    #[arg(long, value_name = "N", default_value_t = 128)]
    dim: usize,
    /// Different tokens.
    #[arg(long, value_name = "N", default_value_t = 65)]
    vocab: usize,
    /// Sequences in a batch.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Tokens of a sequence.
    #[arg(long, value_name = "N", default_value_t = 64)]
    time: usize,
    /// How rows are normalised.
    #[arg(long, value_enum, default_value = "layernorm")]
    norm: Norm,
    /// What stands between the two layers of the perceptron.
    #[arg(long, value_enum, default_value = "gelu")]
    act: Act,
    /// The head's weights are the embedding's.
    #[arg(long)]
    tied: bool,
    /// Norms and linear layers without biases.
    #[arg(long)]
    no_bias: bool,
    /// Products with the weights rounded to bf16.
    #[arg(long)]
    bf16: bool,
    /// The share of the features that is dropped.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    dropout: f32,
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
    let config = Config {
        layers: args.layers,
        heads: args.heads,
        dim: args.dim,
        block: args.time,
        vocab: args.vocab,
        norm: args.norm,
        act: args.act,
        tied: args.tied,
        bias: !args.no_bias,
        bf16: args.bf16,
        dropout: args.dropout,
    };
    let checked = check_shape(&config, args.batch).and_then(|()| check_memory(&config, args.batch, 1));
    if let Err(e) = checked {
        return super::fail(2, e);
    }
    let threads = match args.threads {
        Some(threads) => threads.into(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let budget = Duration::from_secs(args.seconds);
    let options = Options { config, batch: args.batch, time: args.time, threads, budget };
    match bench::run(&options) {
        Ok(report) if args.json => {
            println!("{}", serde_json::to_string(&report).expect("numbers and names"));
            ExitCode::SUCCESS
        }
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(e) => super::fail(2, e),
    }
}

fn print(report: &Report) {
    let Report { config, parameters, batch, time, step_flops, tier, peak_gflops, .. } = report;
    println!(
        "{} layers, {} heads, {} features, {} tokens: {parameters} parameters; batch {batch} x {time} in {} chunks; tier {tier}",
        config.layers,
        config.heads,
        config.dim,
        config.vocab,
        chunks(*batch, *time)
    );
    println!(
        "{:.2} GFLOP a step; multiply-adds alone reach {:.0} GFLOP/s on one thread, {:.0} on all",
        step_flops / 1e9,
        peak_gflops[0],
        peak_gflops[1]
    );
    println!("fastest (median) window:");
    for s in &report.speeds {
        println!(
            "  {:8} {:2} threads {:9.3} ms ({:.3}) {:9.0} tokens/s {:7.1} GFLOP/s {:5.1}% of peak",
            s.name,
            s.threads,
            1e3 * s.seconds,
            1e3 * s.median,
            s.tokens_per_second,
            s.gflops,
            100.0 * s.peak_share
        );
    }
    println!("all threads against one: {:.2}x", report.scaling);
    println!("a step on one thread, by kernel:");
    for p in &report.phases {
        let gflops = p.gflops.map_or(String::new(), |g| format!("{g:7.1} GFLOP/s"));
        println!("  {:28} {:9.3} ms {:5.1}%  {gflops}", p.name, 1e3 * p.seconds, 100.0 * p.share);
    }
}
