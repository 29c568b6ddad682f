//! `hotlanes bench gpt`.

use std::process::ExitCode;

use super::Measure;
use crate::cli::fail;
use crate::models::gpt::bench::{self, Options, Phase, Reading, Report, Speed};
use crate::models::gpt::config::{Act, Config, Norm};
use crate::models::gpt::engine::chunks;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Transformer blocks.
    #[arg(long, value_name = "N", default_value_t = 4)]
    layers: usize,
    /// Attention heads.
    #[arg(long, value_name = "N", default_value_t = 8)]
    heads: usize,
    /// Width of the residual stream.
    #[arg(long, value_name = "N", default_value_t = 128)]
    dim: usize,
    /// Size of the vocabulary.
    #[arg(long, value_name = "N", default_value_t = 65)]
    vocab: usize,
    /// Sequences in a batch.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Tokens in a sequence.
    #[arg(long, value_name = "N", default_value_t = 64)]
    time: usize,
    /// Normalisation.
    #[arg(long, value_enum, value_name = "NAME", default_value = "layernorm")]
    norm: Norm,
    /// Activation of the perceptron.
    #[arg(long, value_enum, value_name = "NAME", default_value = "gelu")]
    act: Act,
    /// Share the head's weights with the token embedding.
    #[arg(long)]
    tied: bool,
    /// Leave out the biases of norms and linear layers.
    #[arg(long)]
    no_bias: bool,
    /// Multiply by weights rounded to bf16.
    #[arg(long)]
    bf16: bool,
    /// Dropout probability.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    dropout: f32,
    #[command(flatten)]
    measure: Measure,
}

pub(super) fn run(args: Args) -> ExitCode {
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
    if let Err(e) = config.check() {
        return fail(2, e);
    }
    let [one, all] = match args.measure.pools() {
        Ok(pools) => pools,
        Err(why) => return fail(2, why),
    };
    let options = Options { config, batch: args.batch, time: args.time, budget: args.measure.time() };
    match bench::run(&options, [&one, &all]) {
        Ok(report) => args.measure.print(&report, table),
        Err(e) => fail(2, e),
    }
}

fn table(report: &Report) -> String {
    let Report { config, parameters, batch, time, tier, scaling, peak_gflops: [one, all], .. } = report;
    let Config { layers, heads, dim, vocab, .. } = config;
    let mut text = format!(
        "{layers} layers, {heads} heads, {dim} features, {vocab} tokens: {parameters} parameters; \
        batch {batch} x {time} in {} chunks; tier {tier}\n\
        {:.2} GFLOP a step; multiply-adds alone reach {one:.0} GFLOP/s on one thread, {all:.0} on all\n\
        fastest (median) window:\n",
        chunks(config, *batch, *time),
        report.step_flops / 1e9
    );
    for Speed { name, threads, seconds, median, tokens_per_second, gflops, peak_share } in &report.speeds {
        let ([ms, median], percent) = ([seconds, median].map(|t| 1e3 * t), 100.0 * peak_share);
        text += &format!(
            "  {name:8} {threads:2} threads {ms:9.3} ms ({median:.3}) {tokens_per_second:9.0} tokens/s \
            {gflops:7.1} GFLOP/s {percent:5.1}% of peak\n"
        );
    }
    for Reading { threads, decoding_gbps, sum_gbps } in &report.reading {
        text += &format!(
            "  decoding on {threads} threads reads its weights at {decoding_gbps:.1} GB/s; a sum reads the parameters at \
            {sum_gbps:.1} GB/s\n"
        );
    }
    text += &format!("all threads against one: {scaling:.2}x\na step on one thread, by kernel:\n");
    for Phase { name, seconds, share, gflops } in &report.phases {
        let gflops = gflops.map_or(String::new(), |g| format!("{g:7.1} GFLOP/s"));
        text += &format!("  {name:28} {:9.3} ms {:5.1}%  {gflops}\n", 1e3 * seconds, 100.0 * share);
    }
    text
}
