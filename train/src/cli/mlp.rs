//! `hotlanes train mlp`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use super::config::{self, Printed, named};
use super::run::{ENDS, Plan, RunArgs};
use crate::data::csv::{self, Format, Task};
use crate::data::table::Shares;
use crate::models::mlp::data::Source;
use crate::models::mlp::settings::{Act, EPOCHS, LossKind, MOST_EPOCHS, Settings};
use crate::models::mlp::trainer::Recipe;
use crate::shell::error::Error;
use crate::shell::ranks::Alone;

const HELP: &str = "\
Data: --data FILE with --target COLUMN; without it the program draws rows of a smooth function of five features with a
little noise. A column is given by its name in the header, or by its number, from 0. All other columns are features,
unless --features and --one-hot name them. --seed splits the rows into training, validation and test. Features and a
numeric target are standardised by the training split; predictions and metrics are in the file's units. Text where a
number should be, empty cells, NA and the like are errors that name line, column and cell; --skip-bad-rows skips
such rows.

Training stops when the validation loss has not improved for --patience evaluations. The best model by validation loss
is kept, and evaluated once on the test split at the end.

Written to --out: mlp.json and mlp-*.safetensors (the checkpoints, optimizer included), best.json and best-*.safetensors
(the best model; its tensors have the names of torch.nn.Sequential(Linear, activation, Linear, ...)), log.jsonl (one
JSON object a line: run, evaluation, best, checkpoint, final, stop), metrics.csv, loss.svg. Settings and data determine
a run to the bit, whatever the CPU and threads, and however often it was stopped, killed and resumed: hotlanes verify
proves it.
";

/// The help after the options.
pub(super) fn help() -> String {
    format!("{HELP}\n{}\n\n{ENDS}", config::HELP)
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// CSV file to train on; without it, rows that the program draws.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Train up to this epoch of the run [default: 200, or the resumed run's own].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_EPOCHS))]
    epochs: Option<u64>,
    #[command(flatten)]
    pub(super) run: RunArgs,
    // Last, as their headings hold for what follows.
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    learning: LearningArgs,
    #[command(flatten)]
    tunable: TunableArgs,
}

/// The kind of target.
#[derive(Clone, Copy, Default, ValueEnum)]
enum TaskName {
    /// A number.
    #[default]
    Regression,
    /// A class.
    Classification,
}

/// The table.
#[derive(clap::Args)]
#[command(next_help_heading = "Table")]
#[group(conflicts_with = "resume")]
struct TableArgs {
    /// Column to predict.
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Kind of target.
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    task: TaskName,
    /// Numeric feature columns [default: all but the target and --one-hot's].
    #[arg(long, value_name = "COLUMN", num_args = 1..)]
    features: Vec<String>,
    /// Categorical feature columns: each value becomes a feature of 0 or 1.
    #[arg(long, value_name = "COLUMN", num_args = 1..)]
    one_hot: Vec<String>,
    /// The file has no header: its first line is a row.
    #[arg(long)]
    no_header: bool,
    /// Delimiter: one character, or tab.
    #[arg(long, value_name = "MARK", default_value = ",")]
    delimiter: String,
    /// Skip rows that cannot be read; they are counted, and the first ones shown.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Rows that the program draws without --data.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rows: usize,
    /// Share of the rows for the validation split, which selects the best model.
    #[arg(long, value_name = "SHARE", default_value_t = Shares::default().validation)]
    validation: f64,
    /// Share of the rows for the test split, which is evaluated at the end.
    #[arg(long, value_name = "SHARE", default_value_t = Shares::default().test)]
    test: f64,
}

/// The model.
#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
#[group(conflicts_with = "resume")]
struct ModelArgs {
    /// Sizes of the hidden layers.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Settings::default().hidden)]
    hidden: Vec<usize>,
    /// Activation of the hidden layers.
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    activation: Act,
    /// Dropout probability, after each hidden layer.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
    /// Loss [default: mse; bce for two classes, cross-entropy for more].
    #[arg(long, value_enum, value_name = "NAME")]
    loss: Option<LossKind>,
    /// Where the Huber loss turns from quadratic to linear, in standard deviations of the target.
    #[arg(long, value_name = "SIZE", default_value_t = Settings::default().delta)]
    delta: f64,
}

/// How it learns.
#[derive(clap::Args)]
#[command(next_help_heading = "Learning")]
#[group(conflicts_with = "resume")]
struct LearningArgs {
    /// Rows per step.
    #[arg(long, value_name = "N", alias = "batch-size", default_value_t = Settings::default().batch)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, value_name = "RATE", alias = "learning-rate", default_value_t = Settings::default().lr)]
    lr: f64,
    /// Learning rate at the cosine's end and after.
    #[arg(long, value_name = "RATE", default_value_t = Settings::default().min_lr)]
    min_lr: f64,
    /// Warm-up epochs [default: 2, at most a tenth of --decay-epochs].
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// AdamW's decay of the first moment.
    #[arg(long, value_name = "BETA", default_value_t = Settings::default().beta1)]
    beta1: f64,
    /// AdamW's decay of the second moment.
    #[arg(long, value_name = "BETA", default_value_t = Settings::default().beta2)]
    beta2: f64,
    /// AdamW's weight decay, for weights and biases.
    #[arg(long, value_name = "RATE", default_value_t = Settings::default().weight_decay)]
    weight_decay: f64,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Settings that a resumed run may change; its log tells each change.
#[derive(clap::Args)]
#[command(next_help_heading = "Schedule (a resumed run may change these)")]
struct TunableArgs {
    /// Epoch at which the cosine ends [default: --epochs]; on a resumed run, stretches it.
    #[arg(long, value_name = "N")]
    decay_epochs: Option<u64>,
    /// Epochs between evaluations [default: 1].
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
    /// Stop after this many evaluations in a row without improvement; 0 never stops [default: 20].
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
}

impl TunableArgs {
    fn change(&self, settings: &mut Settings) {
        settings.decay = self.decay_epochs.unwrap_or(settings.decay);
        settings.eval_every = self.eval_every.unwrap_or(settings.eval_every);
        settings.patience = self.patience.unwrap_or(settings.patience);
    }
}

impl Args {
    /// The recipe, and where the run ends.
    pub(super) fn recipe(&self) -> Result<(Recipe, u64), Error> {
        let (table, model, learning) = (&self.table, &self.model, &self.learning);
        let epochs = self.epochs.unwrap_or(EPOCHS);
        let mut settings = Settings {
            hidden: model.hidden.clone(),
            activation: model.activation,
            dropout: model.dropout,
            loss: model.loss,
            delta: model.delta,
            batch: learning.batch,
            lr: learning.lr,
            min_lr: learning.min_lr,
            warmup: 0,
            decay: epochs,
            beta1: learning.beta1,
            beta2: learning.beta2,
            weight_decay: learning.weight_decay,
            eval_every: 1,
            patience: Settings::default().patience,
            seed: learning.seed,
        };
        self.tunable.change(&mut settings);
        settings.warmup = learning.warmup.unwrap_or(Settings::default().warmup.min(settings.decay / 10));
        let format = Format { header: !table.no_header, delimiter: Format::delimiter(&table.delimiter)? };
        let task = match table.task {
            TaskName::Regression => Task::Regression,
            TaskName::Classification => Task::Classification,
        };
        let columns = csv::Options {
            format,
            target: table.target.clone(),
            features: table.features.clone(),
            one_hot: table.one_hot.clone(),
            task,
            skip_bad_rows: table.skip_bad_rows,
        };
        let shares = Shares { validation: table.validation, test: table.test };
        let source = Source { file: self.data.clone(), columns, rows: table.rows, shares };
        Ok((Recipe { settings, source: source.absolute()? }, epochs))
    }
}

/// The options that give a recipe.
pub(super) fn print(recipe: &Recipe, epochs: u64) -> Result<Printed, Error> {
    let Recipe { settings, source } = recipe;
    let Source { file, columns, rows, shares } = source;
    let csv::Options { format, target, features, one_hot, task, skip_bad_rows } = columns;
    let Format { header, delimiter } = format;
    let Shares { validation, test } = shares;
    let mut to = Printed::default();
    to.title("For hotlanes train mlp --config FILE.");
    to.title("Table");
    to.put("data", file.as_deref())?;
    to.put("target", target.as_deref())?;
    to.put("task", if *task == Task::Regression { "regression" } else { "classification" })?;
    to.put("features", &features[..])?;
    to.put("one-hot", &one_hot[..])?;
    to.put("no-header", !header)?;
    to.put(
        "delimiter",
        if *delimiter == b'\t' { "tab".into() } else { char::from(*delimiter).to_string() }.as_str(),
    )?;
    to.put("skip-bad-rows", *skip_bad_rows)?;
    to.put("rows", *rows)?;
    to.put("validation", *validation)?;
    to.put("test", *test)?;
    #[rustfmt::skip]
    let Settings {
        hidden, activation, dropout, loss, delta, batch, lr, min_lr, warmup, decay, beta1, beta2, weight_decay,
        eval_every, patience, seed,
    } = settings;
    to.title("Model");
    to.put("hidden", &hidden[..])?;
    to.put("activation", &*named(activation))?;
    to.put("dropout", *dropout)?;
    to.put("loss", loss.as_ref().map(named).as_deref())?;
    to.put("delta", *delta)?;
    to.title("Learning");
    to.put("batch", *batch)?;
    to.put("lr", *lr)?;
    to.put("min-lr", *min_lr)?;
    to.put("warmup", *warmup)?;
    to.put("beta1", *beta1)?;
    to.put("beta2", *beta2)?;
    to.put("weight-decay", *weight_decay)?;
    to.put("patience", *patience)?;
    to.put("seed", *seed)?;
    to.title("Schedule");
    to.put("epochs", epochs)?;
    to.put("decay-epochs", *decay)?;
    to.put("eval-every", *eval_every)?;
    Ok(to)
}

pub(super) fn run(args: Args) -> ExitCode {
    let plan = Plan {
        goal: args.epochs,
        checkpoint_every: 100,
        finish: true,
        samples: None,
        recipe: &|| args.recipe(),
        print: &print,
        change: &|recipe: &mut Recipe| {
            if let Some(file) = &args.data {
                recipe.source.file = Some(file.clone());
                recipe.source = recipe.source.clone().absolute()?;
            }
            args.tunable.change(&mut recipe.settings);
            Ok(())
        },
    };
    args.run.run(|| args.run.train(&plan, &Alone))
}
