//! A run: a population that learns block by block and evolves generation by generation.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evolve::{self, Birth, Evolution};
use super::network::{Layers, Network};
pub use super::settings::{Config, OptimizerKind};
use super::stream::{Block, Order};
use super::train::{self, Individual, Optimizer, Rooms, Score, Scratch};
use crate::data::idx::{CLASSES, Split};
use crate::rng::Rng;
use crate::shell::parts::Parts;
use crate::shell::profile::{Memory, Work, bytes, group, op, region};
use crate::shell::settings::SettingError;
use crate::store::number;

/// What random numbers are for.
const FIRST_NETWORKS: u64 = 1;
const PARENTS: u64 = 2;
const CHILDREN: u64 = 3;

/// Examples in a batch of an evaluation.
const EVALUATION_BATCH: usize = 32;

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
    /// The mean loss over the generation of those that did not diverge, each example's from before its step; NaN if all
    /// did.
    #[serde(with = "number")]
    pub train_loss: f64,
    /// Individuals whose loss or weights are not finite.
    #[serde(default)]
    pub diverged: usize,
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
    /// Examples learnt from when it was made or resumed.
    pub(super) from: u64,
    /// The last generation.
    pub(super) last: Option<Generation>,
    /// The accuracy of all on the test images: least, median, most.
    pub(super) tested: Option<[f64; 3]>,
}

impl<'a> Run<'a> {
    /// A run from its beginning.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn new(config: Config, data: &'a Split) -> Result<Self, SettingError> {
        Run::check(&config, data)?;
        let population = Population::new(&config, data.train.features);
        Run::resume(config, data, population)
    }

    /// A run that continues from a state.
    ///
    /// # Errors
    /// A setting breaks a rule.
    pub fn resume(config: Config, data: &'a Split, population: Population) -> Result<Self, SettingError> {
        let optimizer = Run::check(&config, data)?;
        Ok(Run {
            optimizer,
            data,
            order: Order::new(config.seed, data.train.len()),
            validation: Block::of(&data.validation, EVALUATION_BATCH),
            test: Block::of(&data.test, EVALUATION_BATCH),
            rooms: Rooms::default(),
            config,
            from: population.examples,
            population,
            times: Times::default(),
            last: None,
            tested: None,
        })
    }

    fn check(config: &Config, data: &Split) -> Result<Optimizer, SettingError> {
        let optimizer = config.check(data.train.features)?;
        let examples = data.train.len() + data.validation.len() + data.test.len();
        config.check_memory(data.train.features, examples)?;
        Ok(optimizer)
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
        let count = left.min(self.block_examples());
        let features = self.data.train.features;
        let bytes = (2 * features) as f64 * count as f64;
        let shape = [count as usize, features, 0];
        let block = op!("block of examples", None, shape, Work { flops: 0.0, bytes } => {
            let examples: Vec<usize> = (done..done + count).map(|place| self.order.at(place)).collect();
            Block::new(&self.data.train, &examples, batch)
        });
        self.times.data += started.elapsed();

        let started = Instant::now();
        let optimizer = self.optimizer;
        self.each(|individual, scratch| train::train(individual, &block, &optimizer, scratch));
        self.population.examples += count;
        self.times.train += started.elapsed();
        (count == left).then(|| self.end_generation())
    }

    /// Examples of a block, but for the last one of a generation.
    pub(super) fn block_examples(&self) -> u64 {
        let Config { batch, .. } = self.config;
        (Block::batches_for(batch, self.data.train.features) * batch) as u64
    }

    /// Bytes of its buffers.
    pub(super) fn memory_by_kind(&self) -> Memory {
        let Split { train, validation, test, .. } = self.data;
        let blocks = self.validation.iter().chain(&self.test);
        let pixels = [train, validation, test].map(|data| bytes(&data.pixels) + bytes(&data.labels));
        let block = train.features as f64 * self.block_examples() as f64;
        let data = blocks.map(|block| bytes(&block.tiles) + bytes(&block.labels)).sum::<f64>();
        let mut memory = self.rooms.memory();
        memory.data = pixels.iter().sum::<f64>() + data + block;
        for Individual { network, plans, .. } in &self.population.individuals {
            memory.parameters += bytes(network.values()) + network.structure_bytes() + plans.bytes();
            memory.optimizer += network.moments().map(bytes).iter().sum::<f64>();
        }
        memory
    }

    /// Calls `f` for every individual, in parallel, on this thread's tier; results by place.
    fn each<R: Send>(&mut self, f: impl Fn(&mut Individual, &mut Scratch) -> R + Sync) -> Vec<R> {
        let parts = Parts::new(self.population.individuals.len(), false);
        let rooms = &self.rooms;
        let one = |individual: &mut Individual| rooms.with(|scratch| parts.run(|| f(individual, scratch)));
        let individuals = self.population.individuals.par_iter_mut().with_max_len(1);
        region!("individuals" => {
            individuals.map(|individual| group!("individual" => one(individual))).collect()
        })
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

    /// Who has not diverged, by place: losses and weights are finite.
    fn finite(&self, scores: &[Score]) -> Vec<bool> {
        let individuals = self.population.individuals.par_iter().with_max_len(1).zip(scores);
        individuals.map(|(individual, score)| individual.is_finite() && score.loss.is_finite()).collect()
    }

    fn end_generation(&mut self) -> Generation {
        let started = Instant::now();
        let scores = self.validate();
        let finite = self.finite(&scores);
        let ranking = ranking(&scores, &finite);
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
            train_loss: mean_loss(&self.population.individuals, &finite, generation),
            diverged: finite.iter().filter(|&&finite| !finite).count(),
            connections: spread(&self.population.individuals, |i| i.network.connections()),
            nodes: spread(&self.population.individuals, |i| i.network.rows()),
            levels: spread(&self.population.individuals, |i| i.network.levels().len() - 1)[2],
            births: [births.len(), births.iter().filter(|b| b.other.is_some()).count()],
        };
        let individuals = &self.population.individuals;
        let born = |birth: &Birth| {
            let mut rng = Rng::new(seed, CHILDREN, number, birth.place as u64);
            op!("children and their plans", None, [0; 3], Work::default() => {
                child(individuals, birth, &evolution, &mut rng)
            })
        };
        let children: Vec<Individual> =
            region!("children" => births.par_iter().with_max_len(1).map(born).collect());
        for (birth, child) in births.iter().zip(children) {
            self.population.individuals[birth.place] = child;
        }
        self.population.individuals.iter_mut().for_each(|i| i.loss = 0.0);
        self.times.evolve += started.elapsed();
        report
    }
}

/// The mean loss per example of those that are finite; NaN if none is.
fn mean_loss(individuals: &[Individual], finite: &[bool], examples: u64) -> f64 {
    let losses = individuals.iter().zip(finite).filter(|&(_, &finite)| finite).map(|(i, _)| i.loss);
    let count = losses.clone().count() as u64;
    if count == 0 { f64::NAN } else { losses.sum::<f64>() / (examples * count) as f64 }
}

/// Places from best to worst: those that diverged last, then by what is right, by the loss, by place. The order of
/// losses that are NaN would be that of their signs, which differ between CPUs.
fn ranking(scores: &[Score], finite: &[bool]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| {
        let (x, y) = (&scores[a], &scores[b]);
        let by_loss = || if finite[a] { x.loss.total_cmp(&y.loss) } else { Ordering::Equal };
        finite[b].cmp(&finite[a]).then(y.correct.cmp(&x.correct)).then_with(by_loss).then(a.cmp(&b))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_diverged_are_the_last_whatever_the_sign_of_their_nan() {
        let score = |correct, loss| Score { correct, examples: 10, loss };
        let finite = [true, false, true, false, true, false];
        for nan in [f64::NAN, -f64::NAN] {
            let scores = [
                score(3, 0.5),
                score(9, nan),
                score(3, 0.25),
                score(9, -nan),
                score(4, 9.0),
                score(1, f64::INFINITY),
            ];
            assert_eq!(ranking(&scores, &finite), [4, 2, 0, 1, 3, 5]);
        }
    }
}
