//! `hotlanes train gpt`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;

use super::config::{self, Printed, named};
use super::run::{ENDS, Plan, RunArgs};
use crate::data::text::Source;
use crate::data::tokenizer::Kind;
use crate::models::gpt::config::{Act, Config, Norm};
use crate::models::gpt::schedule::Schedule;
use crate::models::gpt::settings::{Preset, Settings};
use crate::models::gpt::trainer::Recipe;
use crate::shell::error::Error;
use crate::shell::ranks::{Alone, Ranks};
use crate::shell::session::{Ending, Samples};

const HELP: &str = "\
Text: --data FILE; without it the program writes stories of its own. The validation split is the end of the text, or
the file --validation-data. A byte-order mark is dropped and CR LF becomes LF. With --tokenizer tokens the files are
nanoGPT's train.bin and val.bin or llm.c's .bin: 16-bit tokens, little endian. Such tokens are printed as numbers, as
nanoGPT's meta.pkl is not read.

An evaluation is the mean loss, in nats per token, over windows that are spread evenly over the validation split, the
same ones each time; in the end over all of it.

Left in --out: gpt.json and gpt-*.safetensors (the checkpoints, optimizer included), best.json and best-*.safetensors
(the model with the least validation loss), log.jsonl (one JSON object a line: run, step, evaluation, checkpoint,
sample, final, stop), metrics.csv, loss.svg. A run depends on settings and text alone, to the bit, whatever the CPU, the
threads, the ranks, and however often it was stopped, killed and resumed: hotlanes verify shows it.

nanoGPT's names are understood: --batch-size, --block-size, --n-layer, --n-head, --n-embd, --max-iters,
--learning-rate, --warmup-iters, --lr-decay-iters, --grad-clip, --eval-interval, --eval-iters,
--gradient-accumulation-steps, --out-dir.
";

/// The help after the options.
pub(super) fn help() -> String {
    format!("{HELP}\n{}\n\n{ENDS}", config::HELP)
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// Settings to start from; the options below change single ones.
    #[arg(long, value_enum, value_name = "NAME", default_value_t, conflicts_with = "resume")]
    preset: Preset,
    /// Text to learn from; without it, stories that the program writes.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Take the validation split from this file, and train on all of --data.
    #[arg(long, value_name = "FILE", requires = "data", conflicts_with = "validation")]
    validation_data: Option<PathBuf>,
    /// Step at which to stop, counted from the run's beginning [default: the preset's, or the resumed run's own].
    #[arg(long, value_name = "N", alias = "max-iters", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Print a text of the model after every so many steps, and log it. It changes nothing about the run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample_every: Option<u64>,
    /// Tokens of such a text.
    #[arg(long, value_name = "N", default_value_t = 200, requires = "sample_every", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sample_tokens: u32,
    /// Skip the final pass over the whole validation split.
    #[arg(long)]
    no_whole_validation: bool,
    /// Run as an MPI rank: all processes that mpirun started train one model, with the bits of one process. Needs a
    /// build with the feature `mpi`.
    #[arg(long, conflicts_with_all = ["dry_run", "print_config"])]
    mpi: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
    // Last, as their headings hold for what follows.
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    learning: LearningArgs,
    #[command(flatten)]
    tunable: TunableArgs,
}

/// The model.
#[derive(clap::Args)]
#[command(next_help_heading = "Model (default: the preset's)")]
#[group(conflicts_with = "resume")]
struct ModelArgs {
    /// Blocks of attention and perceptron.
    #[arg(long, value_name = "N", alias = "n-layer")]
    layers: Option<usize>,
    /// Heads of attention.
    #[arg(long, value_name = "N", alias = "n-head")]
    heads: Option<usize>,
    /// Features of a token.
    #[arg(long, value_name = "N", alias = "n-embd")]
    dim: Option<usize>,
    /// Tokens of a window: the context.
    #[arg(long, value_name = "N", alias = "block-size")]
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
#[group(conflicts_with = "resume")]
struct LearningArgs {
    /// Windows of a micro-batch, of all ranks together.
    #[arg(long, value_name = "N", alias = "batch-size")]
    batch: Option<usize>,
    /// Micro-batches of a step, whose gradients are added.
    #[arg(long, value_name = "N", alias = "gradient-accumulation-steps")]
    accumulate: Option<usize>,
    /// Highest learning rate.
    #[arg(long, value_name = "RATE", alias = "learning-rate")]
    lr: Option<f64>,
    /// Learning rate after the cosine [default: a tenth of --lr].
    #[arg(long, value_name = "RATE")]
    min_lr: Option<f64>,
    /// Steps of warm-up.
    #[arg(long, value_name = "N", alias = "warmup-iters")]
    warmup: Option<u64>,
    /// AdamW's decay of the first moment.
    #[arg(long, value_name = "BETA")]
    beta1: Option<f64>,
    /// AdamW's decay of the second moment.
    #[arg(long, value_name = "BETA")]
    beta2: Option<f64>,
    /// AdamW's weight decay, of matrices.
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient; 0 clips nothing.
    #[arg(long, value_name = "NORM", alias = "grad-clip")]
    clip: Option<f64>,
    /// Batches of an evaluation.
    #[arg(long, value_name = "N", alias = "eval-iters")]
    eval_batches: Option<usize>,
    /// Stop after so many evaluations in a row that are no better; 0 never does.
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// All randomness.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Settings that a resumed run may change; its log tells each change.
#[derive(clap::Args)]
#[command(next_help_heading = "Schedule (a resumed run may change these)")]
struct TunableArgs {
    /// Step at which the cosine ends [default: --steps]; on a resumed run, stretches it.
    #[arg(long, value_name = "N", alias = "lr-decay-iters")]
    decay_steps: Option<u64>,
    /// Steps from one evaluation to the next.
    #[arg(long, value_name = "N", alias = "eval-interval")]
    eval_every: Option<u64>,
    /// Steps averaged into one point of the curve, and from one line of the log to the next.
    #[arg(long, value_name = "N", alias = "log-interval")]
    log_every: Option<u64>,
}

impl TunableArgs {
    fn change(&self, settings: &mut Settings) {
        set(&mut settings.schedule.decay, self.decay_steps);
        set(&mut settings.eval_every, self.eval_every);
        set(&mut settings.log_every, self.log_every);
    }
}

/// The text.
#[derive(clap::Args)]
#[command(next_help_heading = "Text")]
#[group(conflicts_with = "resume")]
struct TextArgs {
    /// What a token is.
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    tokenizer: Kind,
    /// Vocabulary size of token files, above the largest token: 50257 for GPT-2 [default: the largest token + 1].
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Share of the text, at its end, that is the validation split.
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

/// A tenth, of 15 digits: 0.00003 of 0.0003, where a division gives 0.000029999999999999997.
fn tenth(rate: f64) -> f64 {
    format!("{:.14e}", rate / 10.0).parse().expect("a number as it is printed")
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
        to.min_lr = learning.min_lr.unwrap_or_else(|| tenth(to.lr));
        to.decay = self.tunable.decay_steps.unwrap_or(steps);
        // A short run has a short warm-up, unless one is asked for.
        to.warmup = learning.warmup.unwrap_or(to.warmup.min(to.decay / 10));
        set(&mut settings.batch, learning.batch);
        set(&mut settings.accumulate, learning.accumulate);
        set(&mut settings.beta1, learning.beta1);
        set(&mut settings.beta2, learning.beta2);
        set(&mut settings.weight_decay, learning.weight_decay);
        set(&mut settings.clip, learning.clip);
        set(&mut settings.eval_batches, learning.eval_batches);
        set(&mut settings.patience, learning.patience);
        set(&mut settings.seed, learning.seed);
        self.tunable.change(&mut settings);
        (settings, steps)
    }

    fn train(&self, ranks: &dyn Ranks) -> Result<Ending, Error> {
        let tokens = self.sample_tokens.into();
        let plan = Plan {
            goal: self.steps,
            checkpoint_every: 250,
            finish: !self.no_whole_validation,
            samples: self.sample_every.map(|every| Samples { every, tokens }),
            recipe: &|| self.recipe(),
            print: &|recipe, steps| self.print(recipe, steps),
            change: &|recipe: &mut Recipe| {
                recipe.source.relocate(self.data.as_deref(), self.validation_data.as_deref())?;
                self.tunable.change(&mut recipe.settings);
                Ok(())
            },
        };
        self.run.train(&plan, ranks)
    }

    /// The recipe.
    pub(super) fn recipe(&self) -> Result<(Recipe, u64), Error> {
        let TextArgs { tokenizer, vocab, validation, stories } = self.text;
        let (settings, steps) = self.settings();
        let (file, validation_file) = (self.data.clone(), self.validation_data.clone());
        let source = Source { file, validation_file, stories, tokenizer, vocab, validation };
        Ok((Recipe { settings, source: source.absolute()? }, steps))
    }

    /// The options that give a recipe, and those of this command.
    pub(super) fn print(&self, recipe: &Recipe, steps: u64) -> Result<Printed, Error> {
        let Recipe { settings, source } = recipe;
        let Source { file, validation_file, stories, tokenizer, vocab, validation } = source;
        let mut to = Printed::default();
        to.title("For hotlanes train gpt --config FILE.");
        to.title("Text");
        to.put("data", file.as_deref())?;
        to.put("validation-data", validation_file.as_deref())?;
        // A file of its own takes the share's place.
        to.put("validation", validation_file.is_none().then_some(*validation))?;
        to.put("stories", *stories)?;
        to.put("tokenizer", &*named(tokenizer))?;
        to.put("vocab", *vocab)?;
        #[rustfmt::skip]
        let Settings {
            model, schedule, batch, accumulate, beta1, beta2, weight_decay, clip,
            eval_every, eval_batches, patience, log_every, seed,
        } = settings;
        // The vocabulary's size is the text's.
        let Config { layers, heads, dim, block, vocab: _, norm, act, tied, bias, bf16, dropout } = model;
        to.title("Model");
        to.put("layers", *layers)?;
        to.put("heads", *heads)?;
        to.put("dim", *dim)?;
        to.put("block", *block)?;
        to.put("norm", &*named(norm))?;
        to.put("act", &*named(act))?;
        to.put("tied", *tied)?;
        to.put("bias", *bias)?;
        to.put("bf16", *bf16)?;
        to.put("dropout", *dropout)?;
        let Schedule { lr, min_lr, warmup, decay } = schedule;
        to.title("Learning; without min-lr, warmup and decay-steps those follow lr and steps");
        to.put("batch", *batch)?;
        to.put("accumulate", *accumulate)?;
        to.put("lr", *lr)?;
        to.put("min-lr", *min_lr)?;
        to.put("warmup", *warmup)?;
        to.put("decay-steps", *decay)?;
        to.put("beta1", *beta1)?;
        to.put("beta2", *beta2)?;
        to.put("weight-decay", *weight_decay)?;
        to.put("clip", *clip)?;
        to.put("seed", *seed)?;
        to.title("Length, evaluations, samples");
        to.put("steps", steps)?;
        to.put("eval-every", *eval_every)?;
        to.put("eval-batches", *eval_batches)?;
        to.put("patience", *patience)?;
        to.put("log-every", *log_every)?;
        to.put("no-whole-validation", self.no_whole_validation)?;
        to.put("sample-every", self.sample_every)?;
        to.put("sample-tokens", self.sample_every.map(|_| self.sample_tokens))?;
        Ok(to)
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    if args.mpi {
        return across(&args);
    }
    args.run.run(|| args.train(&Alone))
}

#[cfg(feature = "mpi")]
fn across(args: &Args) -> ExitCode {
    use crate::shell::ranks::processes::{Mpi, Processes};
    let Some(mpi) = Mpi::start() else {
        return super::fail(1, "--mpi: this MPI library lets no other thread than the first call it");
    };
    let rank = mpi.rank();
    args.run.run_or(
        // MPI is called from one thread of the pool.
        || args.train(&Processes::of(&mpi)),
        |code, why| {
            if rank > 0 {
                // The first rank tells what all have met, and ends them: here is an error of this one alone.
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            let _ = super::fail(code, format_args!("rank {rank}: {why}"));
            mpi.abort(code)
        },
    )
}

#[cfg(not(feature = "mpi"))]
fn across(_: &Args) -> ExitCode {
    super::fail(
        2,
        "--mpi: this program was built without the feature: cargo build --release -p hotlanes-train --features mpi",
    )
}
