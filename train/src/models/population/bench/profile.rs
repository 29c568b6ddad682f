//! The parts of a training step, for one individual on one thread.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::models::population::baseline::Baseline;
use crate::models::population::network::Network;
use crate::models::population::online::Online;
use crate::models::population::stream::Block;
use crate::models::population::train::{self, Individual, Optimizer, Scratch};
use crate::shell::profile::analyse::Analysis;
use crate::shell::profile::{Recording, Work, op, step};

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

/// Operations and their seconds.
type Parts = Vec<(&'static str, f64)>;

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

fn plain_loop(network: &Network, singles: &Block, floats: &[f32], few: usize) -> Parts {
    let mut baseline = Baseline::new(network);
    recorded(PASSES, |_| {
        for (x, &label) in floats.chunks_exact(singles.features).zip(&singles.labels).take(few) {
            op!("forward", None, [0; 3], Work::default() => baseline.forward(x));
            op!("loss", None, [0; 3], Work::default() => black_box(baseline.loss(label)));
            op!("backward and update", None, [0; 3], Work::default() => baseline.backward::<true>(0.01));
        }
    })
}

fn exact(network: &Network, singles: &Block, few: usize) -> Parts {
    let mut online = Online::new(network);
    recorded(PASSES, |_| {
        for (image, labels) in singles.batches().take(few) {
            black_box(online.step(image, labels[0], 0.01)).expect("the rate is fine");
        }
    })
}

fn batches(network: &Network, block: &Block, optimizer: &Optimizer) -> Parts {
    let Individual { mut network, mut plans, .. } = Individual::new(network.clone());
    let mut scratch = Scratch::default();
    let batch = block.batch;
    scratch.fit(&network, batch);
    plans.load(network.values());
    let all: Vec<_> = block.batches().collect();
    recorded(PASSES * all.len(), |pass| {
        let (tile, labels) = all[pass % all.len()];
        black_box(train::gradient(&network, &plans, tile, labels, &mut scratch));
        optimizer.step(&mut network, &mut plans, batch, pass as u64 + 1, &mut scratch);
    })
}

/// The name and seconds of each operation, in its fastest pass; none where this process has another subscriber of
/// `tracing`.
fn recorded(passes: usize, mut pass: impl FnMut(usize)) -> Parts {
    let Ok(mut recording) = Recording::new(1 << 18) else { return Vec::new() };
    recording.switch(true);
    for number in 0..passes {
        let _span = step(number as u64 + 1);
        pass(number);
    }
    let fastest = Analysis::of(&recording.finish()).fastest();
    fastest.into_iter().map(|(operation, seconds, _)| (operation.name, seconds)).collect()
}

/// The divisor of a way's times.
struct Table {
    way: &'static str,
    examples: usize,
    connections: usize,
    ghz: f64,
}

impl Table {
    fn rows(&self, parts: Parts) -> Vec<Phase> {
        let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let phase = |(name, seconds): (&'static str, f64)| {
            let nanoseconds = seconds * 1e9 / self.examples as f64;
            let cycles = nanoseconds * self.ghz / self.connections as f64;
            Phase { way: self.way, name, nanoseconds, cycles, share: seconds / total }
        };
        parts.into_iter().map(phase).collect()
    }
}
