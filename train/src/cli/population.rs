//! `hotlanes train population`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;

use crate::data::idx::DataError;
use crate::models::population::evolve::{Evolution, Mutation, Selection};
use crate::models::population::run::{Config, OptimizerKind};
use crate::models::population::session::{self, Ending, Options, SessionError};
use crate::models::population::state::Source;
use crate::shell::signals;

pub(super) const HELP: &str = "\
Data: --data DIR has MNIST's files, plain or .gz. With train-images-idx3-ubyte and train-labels-idx1-ubyte those are learnt
from and t10k-... is the test; with t10k-... alone every fifth image is held out (8,000 and 2,000). Without --data the program
draws digits itself. The test images choose nothing: individuals are ranked by training images that are set aside.

Left in --out: population.json and population-*.safetensors (the checkpoint), log.jsonl (one JSON object a line: start,
generation, stop), accuracy.svg, connections.svg, nodes.svg. A run depends on settings, data and seed alone, to the bit,
whatever the CPU, the threads, and however often it was stopped and resumed.

Ctrl-C saves and stops with exit code 130; a second one stops at once. Exit codes: 0 done, 1 failed, 2 wrong usage.";

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Directory of MNIST's IDX files; without it, digits that the program draws.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where checkpoint, log and plots go.
    #[arg(long, value_name = "DIR", default_value = "population-run", conflicts_with = "resume")]
    out: PathBuf,
    /// Go on with the run in this directory, with the settings that it has.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["Settings", "EvolutionArgs"])]
    resume: Option<PathBuf>,
    /// Stop after so many generations, counted from the run's beginning.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    generations: u64,
    /// Stop after so many minutes, at the next block of examples.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Generations from one checkpoint to the next.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: u64,
    /// Threads; all cores if not given. The results are the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    // Last, as its heading holds for what follows.
    #[command(flatten)]
    evolution: EvolutionArgs,
}

/// What a network is and how it learns.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// Individuals.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) population: usize,
    /// Nodes of the hidden layers of the first networks.
    #[arg(long, value_name = "N,N,...", default_value = "128,64", value_delimiter = ',')]
    pub(super) hidden: Vec<usize>,
    /// The share of the layer before that a node of a later layer reads.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(super) density: f64,
    /// The share of the pixels that a node of the first layer reads.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub(super) input_density: f64,
    /// Examples per step; 1 is exact online learning.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch: usize,
    /// How weights follow gradients.
    #[arg(long, value_name = "NAME", default_value = "sgd", value_parser = ["sgd", "adamw"])]
    optimizer: String,
    /// Learning rate [default: sgd 0.01 times the batch, at most 0.3; adamw 0.002].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// AdamW's weight decay.
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    weight_decay: f64,
    /// Examples in a generation [default: 8000, less what the batch does not divide].
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    /// Training images set aside to select by.
    #[arg(long, value_name = "N", default_value_t = 500)]
    validation: usize,
    /// Digits that the program draws where there is no --data; every fifth is held out.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = RangedU64ValueParser::<usize>::new().range(..=1 << 20))]
    images: usize,
    /// All randomness.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// Evolution.
#[derive(clap::Args)]
#[command(next_help_heading = "Evolution")]
struct EvolutionArgs {
    /// How parents are chosen: tournament:N or truncation:SHARE.
    #[arg(long, value_name = "HOW", default_value_t = Evolution::default().selection)]
    selection: Selection,
    /// The share of the population that children replace after each generation.
    #[arg(long, value_name = "SHARE", default_value_t = Evolution::default().cull)]
    cull: f64,
    /// At least so many of the best are never replaced.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().elites)]
    elites: usize,
    /// The probability that a child has two parents.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().crossover)]
    crossover: f64,
    /// Connections that a child gains.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().mutation.add_connections)]
    add_connections: usize,
    /// Connections that a child loses.
    #[arg(long, value_name = "N", default_value_t = Evolution::default().mutation.remove_connections)]
    remove_connections: usize,
    /// The probability that a node splits one of a child's connections.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.split)]
    split: f64,
    /// The probability that a child loses a node.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.remove_node)]
    remove_node: f64,
    /// The probability that a node of a child changes its activation.
    #[arg(long, value_name = "P", default_value_t = Evolution::default().mutation.activation)]
    change_activation: f64,
    /// The share of a child's weights that is perturbed.
    #[arg(long, value_name = "SHARE", default_value_t = Evolution::default().mutation.perturb)]
    perturb: f64,
    /// The standard deviation of a perturbation.
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

    pub(super) fn source(&self, data: Option<PathBuf>) -> Source {
        Source { directory: data, images: self.images, validation: self.validation }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let time = match super::minutes(args.minutes) {
        Ok(time) => time,
        Err(why) => return super::fail(2, why),
    };
    let options = Options {
        out: args.resume.clone().unwrap_or_else(|| args.out.clone()),
        generations: args.generations,
        time,
        checkpoint_every: args.checkpoint_every,
    };
    let pool = match super::check_tier().and_then(|()| super::pool(args.threads)) {
        Ok(pool) => pool,
        Err(why) => return super::fail(2, why),
    };
    signals::install(signals::SAVING);
    let ending = pool.install(|| match &args.resume {
        Some(_) => session::resume(args.data.as_deref(), &options),
        None => {
            let config = args.settings.config(args.evolution.evolution());
            session::start(config, args.settings.source(args.data.clone()), &options)
        }
    });
    match ending {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(signals::EXIT_CODE),
        // Too few images are too few for --validation.
        Err(
            e @ (SessionError::Config(_)
            | SessionError::Occupied(_)
            | SessionError::Data(DataError::TooFew { .. })),
        ) => super::fail(2, e),
        Err(e) => super::fail(1, e),
    }
}
