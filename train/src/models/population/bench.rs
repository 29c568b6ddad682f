//! The kernels against the loop of earlier work, in one run: whole training steps over a whole population, in turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;

use super::baseline::Baseline;
use super::online::Online;
use super::run::{Config, Population};
use super::stream::{Block, Order};
use super::train::{self, Individual, Optimizer, Rooms, SCALE};
use crate::data::idx::Split;

mod profile;

pub use profile::{Phase, clock_ghz};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The networks and the batch.
    pub config: Config,
    /// Threads.
    pub threads: usize,
    /// About how long to measure.
    pub time: Duration,
}

/// One way to train, over the whole population.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// Its name.
    pub name: &'static str,
    /// Examples per second, each through all individuals: of the fastest window.
    pub steps_per_second: f64,
    /// Of the median window.
    pub median: f64,
    /// Against the first way.
    pub ratio: f64,
}

/// What was measured.
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
    /// The ways, the baseline first.
    pub ways: Vec<Way>,
    /// How much faster the batches are with all threads than with one.
    pub scaling: f64,
    /// Where a step's time goes, on one thread.
    pub phases: Vec<Phase>,
}

/// A result that is not what the baseline computes; nothing was timed.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "after {examples} examples a weight is {ours}, the baseline's {baseline}: they should agree; nothing was timed"
)]
pub struct Disagreement {
    /// Examples learnt from.
    pub examples: usize,
    /// Our weight.
    pub ours: f32,
    /// The baseline's.
    pub baseline: f32,
}

/// Examples in a window of the baseline and of online learning: about as long as a block of batches takes, so that what else
/// the machine does falls into one as often as into another.
const BASELINE_WINDOW: usize = 96;
const ONLINE_WINDOW: usize = 384;

/// One way's individuals and windows.
struct Side<'a> {
    name: &'static str,
    examples: usize,
    window: Box<dyn FnMut() + Send + 'a>,
    times: Vec<f64>,
}

/// Measures.
///
/// # Errors
/// The ways do not compute the same.
///
/// # Panics
/// If the settings were not checked for the data.
pub fn run(options: &Options, data: &Split) -> Result<Report, Disagreement> {
    let pool =
        |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
    let all = pool(options.threads);
    let one = pool(1);
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
    let mut sides = vec![
        Side::new("array-of-structs loop, one example", BASELINE_WINDOW, {
            let (floats, all) = (&floats, &all);
            let baselines = &mut baselines;
            move || loops::<true>(all, baselines, floats, labels, lr as f32)
        }),
        Side::new("the same without gradients of inputs", BASELINE_WINDOW, {
            let (floats, all) = (&floats, &all);
            let leaner = &mut leaner;
            move || loops::<false>(all, leaner, floats, labels, lr as f32)
        }),
        Side::new("exact, one example", ONLINE_WINDOW, {
            let (singles, all) = (&singles, &all);
            let onlines = &mut onlines;
            move || {
                each(all, onlines, |online| {
                    for (image, labels) in singles.batches() {
                        black_box(online.step(image, labels[0], lr)).expect("the rate is fine");
                    }
                })
            }
        }),
        Side::new("batches", wanted, batches(&all, &mut individuals, &block, optimizer)),
        Side::new("batches, one thread", wanted, batches(&one, &mut alone, &block, optimizer)),
    ];
    measure(&mut sides, options.time);

    let baseline = sides[0].best();
    let ways = sides.iter().map(|side| Way {
        name: side.name,
        steps_per_second: side.best(),
        median: side.median(),
        ratio: side.best() / baseline,
    });
    let ways: Vec<Way> = ways.collect();
    let connections = networks.iter().map(|n| n.connections()).sum::<usize>() as f64 / networks.len() as f64;
    Ok(Report {
        population: networks.len(),
        connections,
        threads: options.threads,
        batch: config.batch,
        tier: hotlanes::tier().name(),
        clock_ghz: clock_ghz(),
        scaling: ways[3].steps_per_second / ways[4].steps_per_second,
        ways,
        phases: one.install(|| profile::phases(&networks[0], &block, &singles, &floats, &optimizer)),
    })
}

impl<'a> Side<'a> {
    fn new(name: &'static str, examples: usize, window: impl FnMut() + Send + 'a) -> Self {
        Side { name, examples, window: Box::new(window), times: Vec::new() }
    }

    fn best(&self) -> f64 {
        self.examples as f64 / self.times.iter().copied().fold(f64::MAX, f64::min)
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        self.examples as f64 / times[times.len() / 2]
    }
}

/// In turns, so that what else the machine does falls on all alike.
fn measure(sides: &mut [Side<'_>], time: Duration) {
    let started = Instant::now();
    sides.iter_mut().for_each(|side| (side.window)());
    while started.elapsed() < time || sides[0].times.len() < 3 {
        for side in &mut *sides {
            let started = Instant::now();
            (side.window)();
            side.times.push(started.elapsed().as_secs_f64());
        }
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
) -> impl FnMut() + Send + 'a {
    let rooms = Rooms::default();
    move || {
        each(pool, individuals, |individual| {
            rooms.with(|scratch| train::train(individual, block, &optimizer, scratch));
        });
    }
}

/// The exact step must give what the loop does, to rounding.
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
