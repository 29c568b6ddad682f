//! `hotlanes eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::run::Machine;
use crate::models::gpt::evaluate::{Evaluation, Subject};
use crate::models::gpt::state::Which;
use crate::shell::error::Error;
use crate::shell::progress::{note, tell};
use crate::shell::signals;

pub(super) const HELP: &str = "\
Prints the mean loss in nats per token over windows that cover the whole text, its perplexity exp(loss), and, where a
token is a character or a byte, the loss in bits per byte. On the run's own validation split it is what training
computes at its end (in log.jsonl \"whole\", and \"whole_best\" for --best), to the bit on every CPU.

Nothing is written: the directory may be read-only, or that of a run in progress.

Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + N stopped by signal N (130: Ctrl-C).";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of a run of `hotlanes train gpt`.
    #[arg(value_name = "RUN", default_value = "gpt-run")]
    run: PathBuf,
    /// File to evaluate on, of the kind that the run was trained on [default: the run's validation split].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Evaluate the model with the lowest validation loss instead of the latest checkpoint.
    #[arg(long)]
    best: bool,
    /// Print one JSON object, with all digits.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: Args) -> ExitCode {
    signals::install(signals::STOPPING);
    let evaluation = match args.machine.run(|| evaluate(&args)) {
        Ok(Ok(Some(evaluation))) => evaluation,
        Ok(Ok(None)) => return ExitCode::from(signals::requested().map_or(130, signals::Signal::exit_code)),
        Ok(Err(why)) => return super::fail(why.exit_code(), why),
        Err(why) => return super::fail(2, why),
    };
    super::printed(if args.json {
        tell(format_args!("{}\n", serde_json::to_string(&evaluation).expect("numbers and names")))
    } else {
        tell(words(&evaluation))
    })
}

fn evaluate(args: &Args) -> Result<Option<Evaluation>, Error> {
    let which = if args.best { Which::Best } else { Which::Last };
    let subject = Subject::load(&args.run, which, args.data.as_deref())?;
    if !args.machine.quiet {
        note(subject.describe());
    }
    subject.evaluate(|| signals::requested().is_some())
}

fn words(evaluation: &Evaluation) -> String {
    let Evaluation { loss, perplexity, bits_per_byte, .. } = evaluation;
    let bits = bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.4} bits per byte"));
    format!("loss {loss:.6} nats per token, perplexity {perplexity:.4}{bits}\n")
}
