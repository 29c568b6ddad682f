//! `hotlanes train gpt`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;

use crate::data::text::{DataError, Source};
use crate::data::tokenizer::Kind;
use crate::models::gpt::config::{Act, Norm};
use crate::models::gpt::ranks::{Alone, Ranks};
use crate::models::gpt::run::RunError;
use crate::models::gpt::session::{self, Ending, Options, SessionError};
use crate::models::gpt::settings::{Preset, Settings};
use crate::shell::signals;

pub(super) const HELP: &str = "\
Text: --data FILE; without it the program writes stories of its own. The end of the text is to validate by. An evaluation is the
mean loss, in nats per token, over windows that are spread evenly over that part, the same ones each time; in the end all of it.

Left in --out: gpt.json and gpt-*.safetensors (the checkpoint, optimizer included), best.json and best-*.safetensors (the model
with the least loss by validation), log.jsonl (one JSON object a line: start, step, evaluation, stop), loss.svg. A run depends on
settings and text alone, to the bit, whatever the CPU, the threads, the ranks, and however often it was stopped, killed and resumed.

Ctrl-C saves and stops with exit code 130; a second one stops at once. Exit codes: 0 done, 1 failed, 2 wrong usage.";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where settings start from; the options below change single ones.
    #[arg(long, value_enum, value_name = "NAME", default_value_t, conflicts_with = "resume")]
    preset: Preset,
    /// The text to learn from; without it, stories that the program writes.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Where checkpoints, log and plot go.
    #[arg(long, value_name = "DIR", default_value = "gpt-run", conflicts_with = "resume")]
    out: PathBuf,
    /// Go on with the run in this directory, with the settings that it has.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ModelArgs", "LearningArgs", "TextArgs"])]
    resume: Option<PathBuf>,
    /// Stop after so many steps, counted from the run's beginning [default: the preset's, or those of the run that goes on].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Stop after so many minutes.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Steps from one checkpoint to the next; there is one after each evaluation too.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: u64,
    /// Do not evaluate by all of the text to validate by in the end.
    #[arg(long)]
    no_whole_validation: bool,
    /// Print nothing but errors; the log has it all.
    #[arg(long)]
    quiet: bool,
    /// Threads; all cores if not given. The results are the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// One of the processes that mpirun started; they train one model together, with the bits of one process. Needs a build
    /// with the feature `mpi`.
    #[arg(long)]
    mpi: bool,
    // Last, as their headings hold for what follows.
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    learning: LearningArgs,
}

/// The model.
#[derive(clap::Args)]
#[command(next_help_heading = "Model (default: the preset's)")]
struct ModelArgs {
    /// Blocks of attention and perceptron.
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Heads of attention.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Features of a token.
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// Tokens that are seen at most, and that a window has.
    #[arg(long, value_name = "N")]
    block: Option<usize>,
    /// How rows are normalised.
    #[arg(long, value_enum, value_name = "NAME")]
    norm: Option<Norm>,
    /// The perceptron's activation.
    #[arg(long, value_enum, value_name = "NAME")]
    act: Option<Act>,
    /// Whether the head's weights are the embedding's.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tied: Option<bool>,
    /// Whether LayerNorm and the linear layers have biases.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bias: Option<bool>,
    /// Whether products see the weights rounded to bf16.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bf16: Option<bool>,
    /// The share of the features that is dropped in training.
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f32>,
}

/// How it learns.
#[derive(clap::Args)]
#[command(next_help_heading = "Learning (default: the preset's)")]
struct LearningArgs {
    /// Windows of a micro-batch, of all ranks together.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Micro-batches of a step, whose gradients are added.
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// The highest learning rate.
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// The learning rate after the cosine [default: a tenth of --lr].
    #[arg(long, value_name = "RATE")]
    min_lr: Option<f64>,
    /// Steps of warm-up.
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// The step at which the cosine ends [default: --steps].
    #[arg(long, value_name = "N")]
    decay_steps: Option<u64>,
    /// AdamW's decay of the first moment.
    #[arg(long, value_name = "BETA")]
    beta1: Option<f64>,
    /// AdamW's decay of the second moment.
    #[arg(long, value_name = "BETA")]
    beta2: Option<f64>,
    /// AdamW's weight decay, of matrices.
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// The largest norm of the gradient; 0 clips nothing.
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// Steps from one evaluation to the next.
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
    /// Batches of an evaluation.
    #[arg(long, value_name = "N")]
    eval_batches: Option<usize>,
    /// Stop after so many evaluations in a row that are no better; 0 never does.
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Steps from one line of the log, and point of the curve, to the next.
    #[arg(long, value_name = "N")]
    log_every: Option<u64>,
    /// All randomness.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The text.
#[derive(clap::Args)]
#[command(next_help_heading = "Text")]
struct TextArgs {
    /// What a token is.
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    tokenizer: Kind,
    /// The share of the text, at its end, to validate by.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    validation: f64,
    /// Bytes of the stories that the program writes where there is no --data.
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 30))]
    stories: usize,
}

/// Puts a value that is given in the place of another.
fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *place = value;
    }
}

impl Args {
    /// The settings, and where the run ends.
    fn settings(&self) -> (Settings, u64) {
        let (model, learning) = (&self.model, &self.learning);
        let (mut settings, mut steps) = self.preset.settings();
        set(&mut steps, self.steps);
        let to = &mut settings.model;
        set(&mut to.layers, model.layers);
        set(&mut to.heads, model.heads);
        set(&mut to.dim, model.dim);
        set(&mut to.block, model.block);
        set(&mut to.norm, model.norm);
        set(&mut to.act, model.act);
        set(&mut to.tied, model.tied);
        set(&mut to.bias, model.bias);
        set(&mut to.bf16, model.bf16);
        set(&mut to.dropout, model.dropout);
        let to = &mut settings.schedule;
        set(&mut to.lr, learning.lr);
        to.min_lr = learning.min_lr.unwrap_or(0.1 * to.lr);
        to.decay = learning.decay_steps.unwrap_or(steps);
        // A short run has a short warm-up, unless one is asked for.
        to.warmup = learning.warmup.unwrap_or(to.warmup.min(to.decay / 10));
        set(&mut settings.batch, learning.batch);
        set(&mut settings.accumulate, learning.accumulate);
        set(&mut settings.beta1, learning.beta1);
        set(&mut settings.beta2, learning.beta2);
        set(&mut settings.weight_decay, learning.weight_decay);
        set(&mut settings.clip, learning.clip);
        set(&mut settings.eval_every, learning.eval_every);
        set(&mut settings.eval_batches, learning.eval_batches);
        set(&mut settings.patience, learning.patience);
        set(&mut settings.log_every, learning.log_every);
        set(&mut settings.seed, learning.seed);
        (settings, steps)
    }

    fn train(
        &self,
        options: &Options,
        data: Option<&Path>,
        ranks: &dyn Ranks,
    ) -> Result<Ending, SessionError> {
        if self.resume.is_some() {
            return session::resume(data, options, ranks);
        }
        let (settings, steps) = self.settings();
        let TextArgs { tokenizer, validation, stories } = self.text;
        let source = Source { file: data.map(Path::to_owned), stories, tokenizer, validation };
        session::start(settings, source, &Options { steps: Some(steps), ..options.clone() }, ranks)
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let time = match super::minutes(args.minutes) {
        Ok(time) => time,
        Err(why) => return super::fail(2, why),
    };
    let options = Options {
        out: args.resume.clone().unwrap_or_else(|| args.out.clone()),
        steps: args.steps,
        time,
        checkpoint_every: args.checkpoint_every,
        whole: !args.no_whole_validation,
        quiet: args.quiet,
    };
    // A run that is resumed from elsewhere finds its text again.
    let data = match args.data.as_deref().map(std::path::absolute).transpose() {
        Ok(data) => data,
        Err(e) => return super::fail(2, format!("--data: {e}")),
    };
    let pool = match super::check_tier().and_then(|()| super::pool(args.threads)) {
        Ok(pool) => pool,
        Err(why) => return super::fail(2, why),
    };
    signals::install(signals::SAVING);
    if args.mpi {
        return across(&pool, |ranks| args.train(&options, data.as_deref(), ranks));
    }
    let (code, why) = code(pool.install(|| args.train(&options, data.as_deref(), &Alone)));
    why.map_or(ExitCode::from(code), |why| super::fail(code, why))
}

/// The exit code, and what to say.
fn code(ending: Result<Ending, SessionError>) -> (u8, Option<SessionError>) {
    use SessionError::{Data, Occupied, Run};
    let why = match ending {
        Ok(Ending::Done | Ending::Early) => return (0, None),
        Ok(Ending::Interrupted) => return (signals::EXIT_CODE, None),
        Err(why) => why,
    };
    let usage = match &why {
        // What the engine refuses are settings: a run hands it nothing else that could be wrong.
        // A text too short is too short for --block and --validation.
        Occupied(_)
        | Data(DataError::Share(_) | DataError::Short { .. })
        | Run(RunError::Config(_) | RunError::Engine(_)) => true,
        _ => false,
    };
    (if usage { 2 } else { 1 }, Some(why))
}

#[cfg(feature = "mpi")]
fn across(
    pool: &rayon::ThreadPool,
    train: impl Fn(&dyn Ranks) -> Result<Ending, SessionError> + Sync,
) -> ExitCode {
    use crate::models::gpt::ranks::processes::{Mpi, Processes};
    let Some(mpi) = Mpi::start() else {
        return super::fail(1, "--mpi: this MPI library lets no other thread than the first call it");
    };
    // MPI is called from one thread of the pool.
    let (code, why) = code(pool.install(|| train(&Processes::of(&mpi))));
    let Some(why) = why else { return ExitCode::from(code) };
    let rank = mpi.rank();
    if rank > 0 {
        // What all have met the first one says, and ends them; here is what befell this one alone.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    eprintln!("hotlanes: rank {rank}: {why}");
    mpi.abort(code)
}

#[cfg(not(feature = "mpi"))]
fn across(_: &rayon::ThreadPool, _: impl Fn(&dyn Ranks) -> Result<Ending, SessionError> + Sync) -> ExitCode {
    super::fail(
        2,
        "--mpi: this program was built without the feature: cargo build --release -p hotlanes-train --features mpi",
    )
}
