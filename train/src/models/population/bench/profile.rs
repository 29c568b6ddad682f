//! The parts of a training step, for one individual on one thread.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::models::population::baseline::Baseline;
use crate::models::population::network::Network;
use crate::models::population::online::Online;
use crate::models::population::stream::Block;
use crate::models::population::train::{self, Individual, Optimizer, Scratch};
use crate::shell::profile::{Clock, Part, Profile, Span, parts};

/// A part of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// The way to train that it belongs to.
    pub way: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Nanoseconds per example.
    pub nanoseconds: f64,
    /// Clock cycles per connection and example.
    pub cycles: f64,
    /// Its share of the way's step.
    pub share: f64,
}

/// This core's clock in GHz, estimated from a chain of multiplications and exclusive ors: 4 cycles a link on today's
/// x86-64 and most AArch64 cores.
pub fn clock_ghz() -> f64 {
    const LINKS: u64 = 1_000_000;
    let chain = || {
        let mut x = black_box(1_u64);
        for i in 0..LINKS {
            x = (x ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        x
    };
    let seconds = || {
        let started = Instant::now();
        black_box(chain());
        started.elapsed().as_secs_f64()
    };
    let best = (0..20).map(|_| seconds()).fold(f64::MAX, f64::min);
    4.0 * LINKS as f64 / best / 1e9
}

parts!(
    enum Loop {
        Forward = "forward",
        Backward = "backward and update",
    }
);
parts!(
    enum Exact {
        Forward = "forward",
        Loss = "loss",
        Backward = "backward and update",
    }
);
parts!(
    enum Batch {
        Unpack = "pixels to f32",
        Forward = "forward",
        Loss = "loss",
        Nodes = "backward: nodes",
        Weights = "backward: weights, update",
        Transpose = "transposed weights",
    }
);

/// Measurements, of which the fastest of each part is kept.
const PASSES: usize = 20;

/// The parts of a step of the loop, of online learning, and of a batch.
pub(super) fn phases(
    network: &Network,
    block: &Block,
    singles: &Block,
    floats: &[f32],
    optimizer: &Optimizer,
) -> Vec<Phase> {
    let ghz = clock_ghz();
    // Single examples differ in the connections that they skip, so a part is timed over many of them.
    let few = singles.len().min(64);
    let table = |way, examples: usize| Table { way, examples, connections: network.connections(), ghz };
    let mut all = table("loop", few).rows(plain_loop(network, singles, floats, few));
    all.extend(table("exact", few).rows(exact(network, singles, few)));
    all.extend(table("batch", block.batch).rows(batches(network, block, optimizer)));
    all
}

fn plain_loop(network: &Network, singles: &Block, floats: &[f32], few: usize) -> Vec<(&'static str, f64)> {
    let mut baseline = Baseline::new(network);
    let mut clock = Clock::default();
    named(Profile::fastest((0..PASSES).map(|_| {
        clock.reset();
        for (x, &label) in floats.chunks_exact(singles.features).zip(&singles.labels).take(few) {
            clock.start();
            baseline.forward(x);
            clock.lap(Loop::Forward);
            black_box(baseline.loss(label));
            clock.start();
            baseline.backward::<true>(0.01);
            clock.lap(Loop::Backward);
        }
        clock.profile()
    })))
}

fn exact(network: &Network, singles: &Block, few: usize) -> Vec<(&'static str, f64)> {
    let mut online = Online::new(network);
    let mut clock = Clock::default();
    named(Profile::fastest((0..PASSES).map(|_| {
        clock.reset();
        for (image, labels) in singles.batches().take(few) {
            clock.start();
            online.unpack(image);
            online.forward();
            clock.lap(Exact::Forward);
            black_box(online.loss(labels[0]));
            clock.lap(Exact::Loss);
            online.backward(0.01).expect("the rate is fine");
            clock.lap(Exact::Backward);
        }
        clock.profile()
    })))
}

fn batches(network: &Network, block: &Block, optimizer: &Optimizer) -> Vec<(&'static str, f64)> {
    let Individual { mut network, mut plans, .. } = Individual::new(network.clone());
    let mut scratch = Scratch::default();
    let batch = block.batch;
    scratch.fit(&network, batch);
    plans.load(network.values());
    let mut clock = Clock::default();
    let passes = (0..PASSES).flat_map(|_| block.batches());
    let mut parts = named(Profile::fastest(passes.enumerate().map(|(step, (tile, labels))| {
        clock.reset();
        clock.start();
        train::unpack(&network, tile, batch, &mut scratch);
        clock.lap(Batch::Unpack);
        train::forward(&network, &plans, batch, &mut scratch);
        clock.lap(Batch::Forward);
        black_box(train::loss(&network, labels, &mut scratch));
        clock.lap(Batch::Loss);
        train::node_gradients(&plans, batch, &mut scratch);
        clock.lap(Batch::Nodes);
        optimizer.step(&mut network, &mut plans, batch, step as u64 + 1, &mut scratch);
        clock.lap(Batch::Weights);
        // Done by the step above as well; repeated to time it alone.
        plans.transpose();
        clock.lap(Batch::Transpose);
        clock.profile()
    })));
    parts[Batch::Weights as usize].1 -= parts[Batch::Transpose as usize].1;
    parts
}

/// Each part's name and seconds.
fn named<P: Part>(profile: Profile<P>) -> Vec<(&'static str, f64)> {
    profile.spans().map(|(part, span): (P, Span)| (part.name(), span.seconds)).collect()
}

/// The divisor of a way's times.
struct Table {
    way: &'static str,
    examples: usize,
    connections: usize,
    ghz: f64,
}

impl Table {
    fn rows(&self, parts: Vec<(&'static str, f64)>) -> Vec<Phase> {
        let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let phase = |(name, seconds): (&'static str, f64)| {
            let nanoseconds = seconds * 1e9 / self.examples as f64;
            let cycles = nanoseconds * self.ghz / self.connections as f64;
            Phase { way: self.way, name, nanoseconds, cycles, share: seconds / total }
        };
        parts.into_iter().map(phase).collect()
    }
}
