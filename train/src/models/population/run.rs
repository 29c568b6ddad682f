//! A run: a population that learns block by block and evolves generation by generation.

use std::time::{Duration, Instant};

use hotlanes::HyperParamError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evolve::{self, Birth, Evolution, EvolutionError};
use super::network::{Layers, MAX_NODES, Network};
use super::stream::{Block, Order};
use super::train::{self, Individual, Optimizer, Rooms, Score, Scratch};
use crate::data::idx::{CLASSES, Split};
use crate::rng::Rng;

/// What random numbers are for.
const FIRST_NETWORKS: u64 = 1;
const PARENTS: u64 = 2;
const CHILDREN: u64 = 3;

/// Examples in a batch of an evaluation.
const EVALUATION_BATCH: usize = 32;

/// How weights follow gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain stochastic gradient descent.
    Sgd,
    /// AdamW.
    AdamW,
}

/// The settings of a run, on which, with the data, every bit of it depends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Individuals.
    pub population: usize,
    /// Nodes of each hidden layer of the first networks.
    pub hidden: Vec<usize>,
    /// The share of the inputs that a node of the first hidden layer reads.
    pub input_density: f64,
    /// The share of the layer before that every later node reads.
    pub density: f64,
    /// Examples per step; 1 is exact online learning.
    pub batch: usize,
    /// How weights follow gradients.
    pub optimizer: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Examples in a generation, a multiple of `batch`.
    pub generation: u64,
    /// What happens at the end of one.
    pub evolution: Evolution,
    /// All randomness.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            population: 200,
            hidden: vec![128, 64],
            input_density: 0.1,
            density: 0.5,
            batch: 32,
            optimizer: OptimizerKind::Sgd,
            lr: 0.3,
            weight_decay: 0.0,
            generation: 8000,
            evolution: Evolution::default(),
            seed: 1,
        }
    }
}

/// A setting that breaks a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting of the run.
    #[error("{name} = {value}: {rule}")]
    Rule {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        rule: String,
    },
    /// A setting of the evolution.
    #[error(transparent)]
    Evolution(#[from] EvolutionError),
    /// A setting of the optimizer.
    #[error(transparent)]
    Optimizer(#[from] HyperParamError),
}

impl Config {
    /// Checks the settings for images of `inputs` values, and makes the optimizer.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self, inputs: usize) -> Result<Optimizer, ConfigError> {
        let rule = |name, value: String, rule: String| ConfigError::Rule { name, value, rule };
        let at_least_1 = || "must be at least 1".to_owned();
        for (name, value) in [("population", self.population), ("batch", self.batch)] {
            if value == 0 {
                return Err(rule(name, value.to_string(), at_least_1()));
            }
        }
        if self.hidden.contains(&0) {
            return Err(rule(
                "hidden",
                format!("{:?}", self.hidden),
                "every layer has at least 1 node".into(),
            ));
        }
        let nodes = (self.hidden.iter()).try_fold(inputs + 1 + CLASSES, |sum, &n| sum.checked_add(n));
        // Half of what can be, so that there is room to grow.
        if nodes.is_none_or(|n| n > MAX_NODES / 2) {
            let limit = format!("with {inputs} inputs there may be {} nodes in all", MAX_NODES / 2);
            return Err(rule("hidden", format!("{:?}", self.hidden), limit));
        }
        for (name, value) in [("density", self.density), ("input_density", self.input_density)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(rule(name, value.to_string(), "must be above 0 and at most 1".into()));
            }
        }
        if self.generation == 0 || !self.generation.is_multiple_of(self.batch as u64) {
            let multiple = format!("must be a multiple of the batch, {}, and at least that", self.batch);
            return Err(rule("generation", self.generation.to_string(), multiple));
        }
        self.evolution.check()?;
        if self.optimizer == OptimizerKind::AdamW && self.batch == 1 {
            let what = "must be sgd for a batch of 1, which is the exact online step".into();
            return Err(rule("optimizer", "adamw".into(), what));
        }
        Ok(match self.optimizer {
            OptimizerKind::Sgd => Optimizer::sgd(self.lr)?,
            OptimizerKind::AdamW => Optimizer::adamw(self.lr, self.weight_decay)?,
        })
    }
}

/// The state of a run: what a checkpoint holds.
#[derive(Clone, Debug)]
pub struct Population {
    /// The individuals, each at its place.
    pub individuals: Vec<Individual>,
    /// Examples of the stream that have been learnt from.
    pub examples: u64,
    /// Generations that have ended.
    pub generation: u64,
}

impl Population {
    /// The first individuals.
    pub fn new(config: &Config, inputs: usize) -> Self {
        let layers = Layers {
            inputs,
            hidden: &config.hidden,
            outputs: CLASSES,
            input_density: config.input_density,
            density: config.density,
        };
        let first = |i: usize| {
            let mut rng = Rng::new(config.seed, FIRST_NETWORKS, 0, i as u64);
            Individual::new(Network::layered(&layers, &mut rng))
        };
        let individuals = (0..config.population).into_par_iter().map(first).collect();
        Population { individuals, examples: 0, generation: 0 }
    }

    /// A hash of everything that the run goes on from: every structure, weight and moment.
    pub fn hash(&self) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325 ^ self.examples ^ self.generation.rotate_left(32);
        self.individuals.iter().fold(start, |hash, i| i.network.hash(hash ^ i.steps))
    }
}

/// How long a run spent on what, as wall-clock time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Laying out blocks of examples.
    pub data: Duration,
    /// Forward, backward and optimizer.
    pub train: Duration,
    /// Evaluations.
    pub evaluate: Duration,
    /// Selection, crossover, mutations and plans.
    pub evolve: Duration,
}

impl Times {
    /// Their sum.
    pub fn total(&self) -> Duration {
        self.data + self.train + self.evaluate + self.evolve
    }
}

/// What a generation came to, before its culling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, from 1.
    pub generation: u64,
    /// Examples of the stream so far.
    pub examples: u64,
    /// The place of the best individual by validation.
    pub best: usize,
    /// Its accuracy on the validation images.
    pub best_validation: f64,
    /// The median of all on the validation images.
    pub median_validation: f64,
    /// The best individual's accuracy on the test images, which chose nothing.
    pub best_test: f64,
    /// The population's mean loss over the generation, each example's from before its step.
    pub train_loss: f64,
    /// Connections: least, median, most.
    pub connections: [usize; 3],
    /// Nodes that are not inputs: least, median, most.
    pub nodes: [usize; 3],
    /// The most levels of a network.
    pub levels: usize,
    /// Children born at its end, and how many of them have two parents.
    pub births: [usize; 2],
}

/// A population with its data and the room that training needs.
#[derive(Debug)]
pub struct Run<'a> {
    config: Config,
    optimizer: Optimizer,
    data: &'a Split,
    order: Order,
    validation: Vec<Block>,
    test: Vec<Block>,
    rooms: Rooms,
    /// The state.
    pub population: Population,
    /// Since this run was made or resumed.
    pub times: Times,
}

impl<'a> Run<'a> {
    /// A run from its beginning.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn new(config: Config, data: &'a Split) -> Result<Self, ConfigError> {
        config.check(data.train.features)?;
        let population = Population::new(&config, data.train.features);
        Run::resume(config, data, population)
    }

    /// A run that goes on from a state.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn resume(config: Config, data: &'a Split, population: Population) -> Result<Self, ConfigError> {
        let optimizer = config.check(data.train.features)?;
        Ok(Run {
            optimizer,
            data,
            order: Order::new(config.seed, data.train.len()),
            validation: Block::of(&data.validation, EVALUATION_BATCH),
            test: Block::of(&data.test, EVALUATION_BATCH),
            rooms: Rooms::default(),
            config,
            population,
            times: Times::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data.
    pub fn data(&self) -> &'a Split {
        self.data
    }

    /// Trains everybody on the next block. At the end of a generation it is evaluated, and the next one bred.
    pub fn advance(&mut self) -> Option<Generation> {
        let started = Instant::now();
        let Config { batch, generation, .. } = self.config;
        let done = self.population.examples;
        let left = generation - done % generation;
        let most = (Block::batches_for(batch, self.data.train.features) * batch) as u64;
        let count = left.min(most);
        let examples: Vec<usize> = (done..done + count).map(|place| self.order.at(place)).collect();
        let block = Block::new(&self.data.train, &examples, batch);
        self.times.data += started.elapsed();

        let started = Instant::now();
        let optimizer = self.optimizer;
        self.each(|individual, scratch| train::train(individual, &block, &optimizer, scratch));
        self.population.examples += count;
        self.times.train += started.elapsed();
        (count == left).then(|| self.end_generation())
    }

    /// Calls `f` for every individual, in parallel, on this thread's tier; results by place.
    fn each<R: Send>(&mut self, f: impl Fn(&mut Individual, &mut Scratch) -> R + Sync) -> Vec<R> {
        let tier = hotlanes::tier();
        let rooms = &self.rooms;
        let one = |individual: &mut Individual| {
            rooms.with(|scratch| {
                hotlanes::with_tier(tier, || f(individual, scratch)).expect("the tier is in use")
            })
        };
        self.population.individuals.par_iter_mut().with_max_len(1).map(one).collect()
    }

    /// What everybody makes of the validation images.
    pub fn validate(&mut self) -> Vec<Score> {
        let blocks = std::mem::take(&mut self.validation);
        let scores = self.each(|individual, scratch| train::evaluate(individual, &blocks, scratch));
        self.validation = blocks;
        scores
    }

    /// What everybody makes of the test images.
    pub fn test(&mut self) -> Vec<Score> {
        let blocks = std::mem::take(&mut self.test);
        let scores = self.each(|individual, scratch| train::evaluate(individual, &blocks, scratch));
        self.test = blocks;
        scores
    }

    fn end_generation(&mut self) -> Generation {
        let started = Instant::now();
        let scores = self.validate();
        let ranking = ranking(&scores);
        let best = ranking[0];
        let mut scratch = Scratch::default();
        let tested = train::evaluate(&mut self.population.individuals[best], &self.test, &mut scratch);
        self.times.evaluate += started.elapsed();

        let started = Instant::now();
        self.population.generation += 1;
        let number = self.population.generation;
        let Config { evolution, seed, generation, .. } = self.config;
        let births = evolution.births(&ranking, &mut Rng::new(seed, PARENTS, number, 0));
        let report = Generation {
            generation: number,
            examples: self.population.examples,
            best,
            best_validation: scores[best].accuracy(),
            median_validation: scores[ranking[ranking.len() / 2]].accuracy(),
            best_test: tested.accuracy(),
            train_loss: self.population.individuals.iter().map(|i| i.loss).sum::<f64>()
                / (generation * ranking.len() as u64) as f64,
            connections: spread(&self.population.individuals, |i| i.network.connections()),
            nodes: spread(&self.population.individuals, |i| i.network.rows()),
            levels: spread(&self.population.individuals, |i| i.network.levels().len() - 1)[2],
            births: [births.len(), births.iter().filter(|b| b.other.is_some()).count()],
        };
        let individuals = &self.population.individuals;
        let children: Vec<Individual> = (births.par_iter().with_max_len(1))
            .map(|birth| {
                child(
                    individuals,
                    birth,
                    &evolution,
                    &mut Rng::new(seed, CHILDREN, number, birth.place as u64),
                )
            })
            .collect();
        for (birth, child) in births.iter().zip(children) {
            self.population.individuals[birth.place] = child;
        }
        self.population.individuals.iter_mut().for_each(|i| i.loss = 0.0);
        self.times.evolve += started.elapsed();
        report
    }
}

/// Places from best to worst: by what is right, then by the loss, then by place.
fn ranking(scores: &[Score]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| {
        let (x, y) = (&scores[a], &scores[b]);
        y.correct.cmp(&x.correct).then(x.loss.total_cmp(&y.loss)).then(a.cmp(&b))
    });
    places
}

fn child(individuals: &[Individual], birth: &Birth, evolution: &Evolution, rng: &mut Rng) -> Individual {
    let fitter = &individuals[birth.fitter];
    let mut network = match birth.other {
        Some(other) => evolve::crossover(&fitter.network, &individuals[other].network, rng),
        None => fitter.network.clone(),
    };
    evolve::mutate(&mut network, &evolution.mutation, rng);
    let mut plans = fitter.plans.clone();
    plans.update(&network);
    Individual { network, plans, steps: fitter.steps, loss: 0.0 }
}

/// Least, median and most.
fn spread(individuals: &[Individual], what: impl Fn(&Individual) -> usize) -> [usize; 3] {
    let mut all: Vec<usize> = individuals.iter().map(what).collect();
    all.sort_unstable();
    [all[0], all[all.len() / 2], all[all.len() - 1]]
}
