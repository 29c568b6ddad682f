//! `hotlanes train population`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::config::{self, Printed};
use super::run::{ENDS, Plan, RunArgs};
use crate::data::idx::{Pair, Place, Source};
use crate::models::population::evolve::{Evolution, Mutation, Selection};
use crate::models::population::run::{Config, OptimizerKind};
use crate::models::population::trainer::Recipe;
use crate::shell::error::Error;
use crate::shell::ranks::Alone;

const HELP: &str = "\
Data: --data DIR holds MNIST's files, plain or .gz. The networks learn from train-images-idx3-ubyte and
train-labels-idx1-ubyte, and t10k-... is the test set; with t10k-... alone every fifth image is held out (8,000 and
2,000). Names with dots for dashes, in upper case, or with test-... for t10k-... are recognised; if several files fit,
the uncompressed one with the original name is used. Files of other names: --images and --labels. Without either, the
program draws digits itself. Test images never influence selection: networks are ranked on training images that are
set aside.

Written to --out: population.json and population-*.safetensors (the checkpoints), log.jsonl (one JSON object a line:
run, generation, checkpoint, final, stop), metrics.csv, accuracy.svg, connections.svg, nodes.svg. Settings and data
determine a run to the bit, whatever the CPU and threads, and however often it was stopped, killed and resumed:
hotlanes verify proves it.
";

/// The help after the options.
pub(super) fn help() -> String {
    format!("{HELP}\n{}\n\n{ENDS}", config::HELP)
}

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    data: DataArgs,
    /// Train up to this generation of the run [default: 50, or the resumed run's own].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    generations: Option<u64>,
    #[command(flatten)]
    pub(super) run: RunArgs,
    // Last, as its heading holds for what follows.
    #[command(flatten)]
    evolution: EvolutionArgs,
}

/// Where the images come from.
#[derive(clap::Args)]
pub(super) struct DataArgs {
    /// Directory of MNIST's IDX files; without files, the program draws digits.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "labels", "test_images", "test_labels"])]
    data: Option<PathBuf>,
    /// IDX file of the training images, plain or gzip, instead of --data.
    #[arg(long, value_name = "FILE", requires = "labels")]
    images: Option<PathBuf>,
    /// IDX file of the training images' labels.
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// IDX file of the test images [default: every fifth of --images].
    #[arg(long, value_name = "FILE", requires_all = ["images", "test_labels"])]
    test_images: Option<PathBuf>,
    /// IDX file of the test images' labels.
    #[arg(long, value_name = "FILE", requires = "test_images")]
    test_labels: Option<PathBuf>,
}

impl DataArgs {
    pub(super) fn place(&self) -> Option<Place> {
        let pair = |images: &Option<PathBuf>, labels: &Option<PathBuf>| {
            Some(Pair { images: images.clone()?, labels: labels.clone()? })
        };
        let files = || {
            let train = pair(&self.images, &self.labels)?;
            Some(Place::Files { train, test: pair(&self.test_images, &self.test_labels) })
        };
        self.data.clone().map(Place::Directory).or_else(files)
    }
}

/// What a network is and how it learns.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// Number of networks.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) population: usize,
    /// Sizes of the first networks' hidden layers.
    #[arg(long, value_name = "N,N,...", default_value = "128,64", value_delimiter = ',')]
    pub(super) hidden: Vec<usize>,
    /// Share of the previous layer that a node reads, from the second layer on.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(super) density: f64,
    /// Share of the pixels that a node of the first layer reads.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(super) input_density: f64,
    /// Examples per step; 1 is exact online learning.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch: usize,
    /// Optimizer.
    #[arg(long, value_name = "NAME", default_value = "sgd", value_parser = ["sgd", "adamw"])]
    optimizer: String,
    /// Learning rate [default: for sgd 0.01 times the batch, at most 0.3; for adamw 0.002].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// AdamW's weight decay.
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    weight_decay: f64,
    /// Examples per generation [default: 8000, rounded down to whole batches].
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    /// Training images set aside for selection.
    #[arg(long, value_name = "N", default_value_t = 500)]
    validation: usize,
    /// Number of digits that the program draws if given no files; every fifth is held out.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    digits: usize,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// Evolution.
#[derive(clap::Args)]
#[command(next_help_heading = "Evolution")]
struct EvolutionArgs {
    /// How parents are chosen: tournament:N (the best of N drawn at random) or truncation:SHARE (any of the best
    /// SHARE of the population).
    #[arg(long, value_name = "HOW", default_value_t = Evolution::default().selection)]
    selection: Selection,
    /// Share of the population that children replace after each generation.
    #[arg(long, value_name = "SHARE", default_value_t = Evolution::default().cull)]
    cull: f64,
    /// At least this many of the best networks are never replaced.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().elites)]
    elites: usize,
    /// Probability that a child has two parents.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().crossover)]
    crossover: f64,
    /// Connections added to a child.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().mutation.add_connections)]
    add_connections: usize,
    /// Connections removed from a child.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().mutation.remove_connections)]
    remove_connections: usize,
    /// Probability that a new node splits one of a child's connections.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.split)]
    split: f64,
    /// Probability that a child loses a node.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.remove_node)]
    remove_node: f64,
    /// Probability that one of a child's nodes changes its activation.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.activation)]
    change_activation: f64,
    /// Share of a child's weights that are perturbed.
    #[arg(long, value_name = "SHARE", default_value_t = Evolution::default().mutation.perturb)]
    perturb: f64,
    /// Standard deviation of a perturbation.
    #[arg(long, value_name = "SIZE", default_value_t = Evolution::default().mutation.perturb_by)]
    perturb_by: f32,
}

impl EvolutionArgs {
    fn evolution(&self) -> Evolution {
        Evolution {
            selection: self.selection,
            cull: self.cull,
            elites: self.elites,
            crossover: self.crossover,
            mutation: Mutation {
                add_connections: self.add_connections,
                remove_connections: self.remove_connections,
                split: self.split,
                remove_node: self.remove_node,
                activation: self.change_activation,
                perturb: self.perturb,
                perturb_by: self.perturb_by,
            },
        }
    }
}

impl Settings {
    pub(super) fn config(&self, evolution: Evolution) -> Config {
        let adamw = self.optimizer == "adamw";
        let lr = self.lr.unwrap_or(if adamw { 0.002 } else { (0.01 * self.batch as f64).min(0.3) });
        let batch = self.batch.max(1) as u64;
        Config {
            population: self.population,
            hidden: self.hidden.clone(),
            input_density: self.input_density,
            density: self.density,
            batch: self.batch,
            optimizer: if adamw { OptimizerKind::AdamW } else { OptimizerKind::Sgd },
            lr,
            weight_decay: self.weight_decay,
            generation: self.generation.unwrap_or((8000 / batch).max(1) * batch),
            evolution,
            seed: self.seed,
        }
    }

    pub(super) fn source(&self, place: Option<Place>) -> Source {
        Source { place, digits: self.digits, validation: self.validation }
    }
}

impl Args {
    /// The recipe, and where the run ends.
    pub(super) fn recipe(&self) -> Result<(Recipe, u64), Error> {
        let config = self.settings.config(self.evolution.evolution());
        let source = self.settings.source(self.data.place()).absolute()?;
        Ok((Recipe { config, source }, self.generations.unwrap_or(GENERATIONS)))
    }
}

/// The options that give a recipe.
pub(super) fn print(recipe: &Recipe, generations: u64) -> Result<Printed, Error> {
    let Recipe { config, source } = recipe;
    let Source { place, digits, validation } = source;
    let mut to = Printed::default();
    to.title("For hotlanes train population --config FILE.");
    to.title("Data");
    match place {
        None => {}
        Some(Place::Directory(directory)) => to.put("data", directory.as_path())?,
        Some(Place::Files { train, test }) => {
            to.put("images", train.images.as_path())?;
            to.put("labels", train.labels.as_path())?;
            to.put("test-images", test.as_ref().map(|pair| pair.images.as_path()))?;
            to.put("test-labels", test.as_ref().map(|pair| pair.labels.as_path()))?;
        }
    }
    to.put("digits", *digits)?;
    to.put("validation", *validation)?;
    #[rustfmt::skip]
    let Config {
        population, hidden, input_density, density, batch, optimizer, lr, weight_decay, generation, evolution, seed,
    } = config;
    to.title("Networks and learning; without lr and generation those follow batch and optimizer");
    to.put("population", *population)?;
    to.put("hidden", &hidden[..])?;
    to.put("input-density", *input_density)?;
    to.put("density", *density)?;
    to.put("batch", *batch)?;
    to.put("optimizer", optimizer_name(*optimizer))?;
    to.put("lr", *lr)?;
    to.put("weight-decay", *weight_decay)?;
    to.put("generation", *generation)?;
    to.put("generations", generations)?;
    to.put("seed", *seed)?;
    let Evolution { selection, cull, elites, crossover, mutation } = evolution;
    to.title("Evolution");
    to.put("selection", &*selection.to_string())?;
    to.put("cull", *cull)?;
    to.put("elites", *elites)?;
    to.put("crossover", *crossover)?;
    #[rustfmt::skip]
    let Mutation {
        add_connections, remove_connections, split, remove_node, activation, perturb, perturb_by,
    } = mutation;
    to.put("add-connections", *add_connections)?;
    to.put("remove-connections", *remove_connections)?;
    to.put("split", *split)?;
    to.put("remove-node", *remove_node)?;
    to.put("change-activation", *activation)?;
    to.put("perturb", *perturb)?;
    to.put("perturb-by", *perturb_by)?;
    Ok(to)
}

/// The optimizer's name as it is typed.
fn optimizer_name(kind: OptimizerKind) -> &'static str {
    match kind {
        OptimizerKind::Sgd => "sgd",
        OptimizerKind::AdamW => "adamw",
    }
}

/// Generations of a run that is not told otherwise.
const GENERATIONS: u64 = 50;

pub(super) fn run(args: Args) -> ExitCode {
    let plan = Plan {
        goal: args.generations,
        checkpoint_every: 10,
        finish: true,
        samples: None,
        recipe: &|| args.recipe(),
        print: &print,
        change: &|recipe: &mut Recipe| {
            if let Some(place) = args.data.place() {
                recipe.source.place = Some(place.absolute()?);
            }
            Ok(())
        },
    };
    args.run.run(|| args.run.train(&plan, &Alone))
}
