//! `hotlanes generate`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::models::gpt::generate::{GenerateError, Generator};
use crate::models::gpt::sample::{SampleError, Sampling};
use crate::models::gpt::state::{self, Model, Which};
use crate::shell::progress::note;
use crate::shell::signals;

pub(super) const HELP: &str = "\
The text goes to standard output as it is generated, everything else to standard error. Model, prompt and options
determine it: it is the same on every CPU. When the model's context is full, its later half is kept and generation
continues from there.

Exit codes: 0 done (also if the reader closes the pipe), 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of a run of `hotlanes train gpt`.
    #[arg(long, value_name = "DIR", default_value = "gpt-run")]
    model: PathBuf,
    /// Checkpoint to load [default: best, or last where there was no evaluation].
    #[arg(long, value_enum, value_name = "NAME")]
    checkpoint: Option<Which>,
    /// Text to continue; for a model of token files, token numbers separated by spaces.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Number of tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 500)]
    tokens: u64,
    /// Divide logits by this; 0 always takes the most probable token.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// Sample from the K most probable tokens only.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the most probable tokens that together reach this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Number of threads [default: all cores]; they share the products of a large model, and the text does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the text only.
    #[arg(long)]
    quiet: bool,
}

/// Why there is no more text.
enum Stop {
    Generate(GenerateError),
    Output(io::Error),
}

impl From<GenerateError> for Stop {
    fn from(e: GenerateError) -> Self {
        Stop::Generate(e)
    }
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Stop::Output(e)
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    if let Err(why) = super::check_tier() {
        return super::fail(2, why);
    }
    if let Err(why) = super::own_pool(args.threads) {
        return super::fail(1, why);
    }
    let model = match state::load_model(&args.model, args.checkpoint) {
        Ok(model) => model,
        Err(e) => return super::fail(1, e),
    };
    signals::install(signals::STOPPING);
    match generate(&args, &model) {
        Ok(()) => signals::requested().map_or(ExitCode::SUCCESS, |signal| ExitCode::from(signal.exit_code())),
        Err(Stop::Output(e)) => super::printed(Err(e)),
        Err(Stop::Generate(
            e @ (GenerateError::Prompt(_) | GenerateError::Sample(SampleError::Setting(_))),
        )) => super::fail(2, e),
        Err(Stop::Generate(e)) => super::fail(1, e),
    }
}

fn generate(args: &Args, model: &Model) -> Result<(), Stop> {
    let Args { temperature, top_k, top_p, seed, .. } = *args;
    let sampling = Sampling { temperature, top_k, top_p, seed };
    let mut out = io::stdout().lock();
    let started = Instant::now();
    let mut generator = Generator::new(model, &args.prompt, sampling)?;
    let read = started.elapsed().as_secs_f64();
    out.write_all(model.tokenizer.echo(&args.prompt).as_bytes())?;
    out.flush()?;
    let started = Instant::now();
    let mut tokens = 0;
    while tokens < args.tokens && signals::requested().is_none() {
        // A character at a time, for whoever looks on.
        out.write_all(generator.token()?.as_bytes())?;
        out.flush()?;
        tokens += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    out.write_all(generator.finish().as_bytes())?;
    writeln!(out)?;
    out.flush()?;
    if !args.quiet {
        let loss = model.validation.map_or(String::new(), |l| format!(", validation loss {l:.4}"));
        note(format_args!(
            "model of step {}{loss}; prompt {:.1} ms; {tokens} tokens in {seconds:.2} s, {:.0} tokens/s",
            model.step,
            1e3 * read,
            tokens as f64 / seconds.max(1e-9)
        ));
    }
    Ok(())
}
