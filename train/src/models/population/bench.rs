//! Training steps of a whole population against the scalar loop of earlier work, timed in turns.

use std::hint::black_box;
use std::time::Duration;

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;

use super::baseline::Baseline;
use super::online::Online;
use super::run::{Config, Population};
use super::stream::{Block, Order};
use super::train::{self, Individual, Optimizer, Rooms, SCALE};
use crate::data::idx::Split;
use crate::shell::windows;

mod profile;

pub use profile::{Phase, clock_ghz};

/// A benchmark: the population, and for how long to measure it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The networks and the batch.
    pub config: Config,
    /// About how long to measure.
    pub time: Duration,
}

/// One way to train, over the whole population.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// Its name.
    pub name: &'static str,
    /// Examples per second in the fastest window, each through all individuals.
    pub steps_per_second: f64,
    /// The same in the median window.
    pub median: f64,
    /// Speed over the first way's.
    pub ratio: f64,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Individuals.
    pub population: usize,
    /// Connections of each, on average.
    pub connections: f64,
    /// Threads.
    pub threads: usize,
    /// Examples in a batch.
    pub batch: usize,
    /// The tier in use.
    pub tier: &'static str,
    /// The core's clock, estimated.
    pub clock_ghz: f64,
    /// All ways, the baseline first.
    pub ways: Vec<Way>,
    /// Speed of batches on all threads over that on one.
    pub scaling: f64,
    /// The parts of a step on one thread.
    pub phases: Vec<Phase>,
}

/// A result that is not what the baseline computes; nothing was timed.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "after {examples} examples a weight is {ours}, the baseline's {baseline}: they should agree; nothing was timed"
)]
pub struct Disagreement {
    /// Training examples.
    pub examples: usize,
    /// Our weight.
    pub ours: f32,
    /// The baseline's.
    pub baseline: f32,
}

/// Examples in a window of the baseline and of online learning: about as long as a block of batches takes, so that
/// other load on the machine falls on all windows alike.
const BASELINE_WINDOW: usize = 96;
const ONLINE_WINDOW: usize = 384;

/// A way and what one of its windows does.
struct Side<'a> {
    name: &'static str,
    examples: usize,
    way: windows::Way<'a>,
}

/// Measures on a pool of one thread and on one of all.
///
/// # Errors
/// The ways do not compute the same.
///
/// # Panics
/// If the settings were not checked for the data.
pub fn run(options: &Options, data: &Split, [one, all]: [&ThreadPool; 2]) -> Result<Report, Disagreement> {
    let Options { config, .. } = options;
    let optimizer = config.check(data.train.features).expect("settings were checked");
    let population = all.install(|| Population::new(config, data.train.features));
    let networks: Vec<_> = population.individuals.iter().map(|i| i.network.clone()).collect();

    let mut order = Order::new(config.seed, data.train.len());
    let wanted = Block::batches_for(config.batch, data.train.features) * config.batch;
    let examples: Vec<usize> = (0..wanted.max(ONLINE_WINDOW) as u64).map(|i| order.at(i)).collect();
    let block = Block::new(&data.train, &examples[..wanted], config.batch);
    let singles = Block::new(&data.train, &examples[..ONLINE_WINDOW], 1);
    let floats: Vec<f32> = singles.tiles.iter().map(|&p| f32::from(p) * SCALE).collect();
    let lr = 0.01;

    let mut baselines: Vec<Baseline> = networks.iter().map(Baseline::new).collect();
    let mut onlines: Vec<Online> = networks.iter().map(Online::new).collect();
    agree(&mut baselines[0].clone(), &mut onlines[0].clone(), &networks[0], &singles, &floats, lr)?;
    let mut leaner = baselines.clone();
    let mut individuals = population.individuals;
    let mut alone = individuals.clone();

    let labels = &singles.labels[..];
    let sides = [
        Side::new("array-of-structs loop, one example", BASELINE_WINDOW, {
            let floats = &floats;
            let baselines = &mut baselines;
            move || loops::<true>(all, baselines, floats, labels, lr as f32)
        }),
        Side::new("the same without gradients of inputs", BASELINE_WINDOW, {
            let floats = &floats;
            let leaner = &mut leaner;
            move || loops::<false>(all, leaner, floats, labels, lr as f32)
        }),
        Side::new("exact, one example", ONLINE_WINDOW, {
            let singles = &singles;
            let onlines = &mut onlines;
            move || {
                each(all, onlines, |online| {
                    for (image, labels) in singles.batches() {
                        black_box(online.step(image, labels[0], lr)).expect("the rate is fine");
                    }
                })
            }
        }),
        Side::new("batches", wanted, batches(all, &mut individuals, &block, optimizer)),
        Side::new("batches, one thread", wanted, batches(one, &mut alone, &block, optimizer)),
    ];
    let names = sides.each_ref().map(|side| (side.name, side.examples as f64));
    let mut timed = sides.map(|side| side.way);
    windows::measure(&mut timed, options.time);

    let baseline = names[0].1 / timed[0].fastest();
    let ways = names.into_iter().zip(&timed).map(|((name, examples), way)| {
        let steps_per_second = examples / way.fastest();
        Way { name, steps_per_second, median: examples / way.median(), ratio: steps_per_second / baseline }
    });
    let ways: Vec<Way> = ways.collect();
    let connections = networks.iter().map(|n| n.connections()).sum::<usize>() as f64 / networks.len() as f64;
    Ok(Report {
        population: networks.len(),
        connections,
        threads: all.current_num_threads(),
        batch: config.batch,
        tier: hotlanes::tier().name(),
        clock_ghz: clock_ghz(),
        scaling: ways[3].steps_per_second / ways[4].steps_per_second,
        ways,
        phases: one.install(|| profile::phases(&networks[0], &block, &singles, &floats, &optimizer)),
    })
}

impl<'a> Side<'a> {
    fn new(name: &'static str, examples: usize, window: impl FnMut() + 'a) -> Self {
        Side { name, examples, way: windows::Way::new(window) }
    }
}

fn each<T: Send>(pool: &ThreadPool, individuals: &mut [T], f: impl Fn(&mut T) + Sync + Send) {
    pool.install(|| individuals.par_iter_mut().with_max_len(1).for_each(f));
}

fn loops<const INPUT_GRADS: bool>(
    pool: &ThreadPool,
    all: &mut [Baseline],
    x: &[f32],
    labels: &[u32],
    lr: f32,
) {
    let features = x.len() / labels.len();
    each(pool, all, |baseline| {
        for (x, &label) in x.chunks_exact(features).zip(labels).take(BASELINE_WINDOW) {
            black_box(baseline.step::<INPUT_GRADS>(x, label, lr));
        }
    });
}

fn batches<'a>(
    pool: &'a ThreadPool,
    individuals: &'a mut [Individual],
    block: &'a Block,
    optimizer: Optimizer,
) -> impl FnMut() + 'a {
    let rooms = Rooms::default();
    move || {
        each(pool, individuals, |individual| {
            rooms.with(|scratch| train::train(individual, block, &optimizer, scratch));
        });
    }
}

/// Checks that the exact step computes what the loop does, to rounding.
fn agree(
    baseline: &mut Baseline,
    online: &mut Online,
    network: &super::network::Network,
    singles: &Block,
    floats: &[f32],
    lr: f64,
) -> Result<(), Disagreement> {
    let examples = 32;
    for (e, (image, labels)) in singles.batches().take(examples).enumerate() {
        online.step(image, labels[0], lr).expect("the rate is fine");
        baseline.step::<true>(&floats[e * singles.features..][..singles.features], labels[0], lr as f32);
    }
    let mut network = network.clone();
    online.store(&mut network);
    for (&ours, baseline) in network.values().iter().zip(baseline.weights()) {
        if (ours - baseline).abs() > 1e-4 {
            return Err(Disagreement { examples, ours, baseline });
        }
    }
    Ok(())
}
