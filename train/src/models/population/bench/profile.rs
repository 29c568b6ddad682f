//! Where a training step's time goes, for one individual on one thread.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use crate::models::population::baseline::Baseline;
use crate::models::population::network::Network;
use crate::models::population::online::Online;
use crate::models::population::stream::Block;
use crate::models::population::train::{self, Individual, Optimizer, Scratch};

/// A part of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// The way it belongs to.
    pub way: &'static str,
    /// What is done.
    pub name: &'static str,
    /// Nanoseconds per example.
    pub nanoseconds: f64,
    /// Clock cycles per connection and example.
    pub cycles: f64,
    /// Its share of the way's step.
    pub share: f64,
}

/// The clock of this core in GHz, from a chain of multiplications and exclusive ors: 4 cycles a link on today's x86-64 and
/// most AArch64 cores.
pub fn clock_ghz() -> f64 {
    const LINKS: u64 = 1_000_000;
    let chain = || {
        let mut x = black_box(1_u64);
        for i in 0..LINKS {
            x = (x ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        x
    };
    let best = (0..20).map(|_| seconds(chain)).fold(f64::MAX, f64::min);
    4.0 * LINKS as f64 / best / 1e9
}

fn seconds<R>(f: impl FnOnce() -> R) -> f64 {
    let started = Instant::now();
    black_box(f());
    started.elapsed().as_secs_f64()
}

/// Least time of each of a step's parts over many steps.
struct Parts<const N: usize>([f64; N]);

impl<const N: usize> Parts<N> {
    fn new() -> Self {
        Parts([f64::MAX; N])
    }

    fn time<R>(&mut self, part: usize, f: impl FnOnce() -> R) {
        self.0[part] = self.0[part].min(seconds(f));
    }

    fn phases(
        &self,
        way: &'static str,
        names: [&'static str; N],
        examples: usize,
        connections: usize,
        ghz: f64,
    ) -> Vec<Phase> {
        let total: f64 = self.0.iter().sum();
        let phase = |(&seconds, name): (&f64, &'static str)| {
            let nanoseconds = seconds * 1e9 / examples as f64;
            let cycles = nanoseconds * ghz / connections as f64;
            Phase { way, name, nanoseconds, cycles, share: seconds / total }
        };
        self.0.iter().zip(names).map(phase).collect()
    }
}

/// Passes over the block: the least time of each part is taken over all batches of all passes.
const PASSES: usize = 20;

/// The parts of a step of the loop, of online learning, and of a batch.
pub(super) fn phases(
    network: &Network,
    block: &Block,
    singles: &Block,
    floats: &[f32],
    optimizer: &Optimizer,
) -> Vec<Phase> {
    let (ghz, connections) = (clock_ghz(), network.connections());
    let few = singles.len().min(64);

    // Single examples differ in what they skip, so a part's time is that of many examples in a row.
    let mut baseline = Baseline::new(network);
    let mut parts = Parts::<2>::new();
    for _ in 0..PASSES {
        let (mut forward, mut backward) = (0.0, 0.0);
        for (x, &label) in floats.chunks_exact(singles.features).zip(&singles.labels).take(few) {
            forward += seconds(|| baseline.forward(x));
            black_box(baseline.loss(label));
            backward += seconds(|| baseline.backward::<true>(0.01));
        }
        parts.0 = [parts.0[0].min(forward), parts.0[1].min(backward)];
    }
    let mut all = parts.phases("loop", ["forward", "backward and update"], few, connections, ghz);

    let mut online = Online::new(network);
    let mut parts = Parts::<3>::new();
    for _ in 0..PASSES {
        let mut times = [0.0; 3];
        for (image, labels) in singles.batches().take(few) {
            times[0] += seconds(|| {
                online.unpack(image);
                online.forward();
            });
            times[1] += seconds(|| online.loss(labels[0]));
            times[2] += seconds(|| online.backward(0.01).expect("the rate is fine"));
        }
        for (least, time) in parts.0.iter_mut().zip(times) {
            *least = least.min(time);
        }
    }
    all.extend(parts.phases("exact", ["forward", "loss", "backward and update"], few, connections, ghz));

    let Individual { mut network, mut plans, .. } = Individual::new(network.clone());
    let mut scratch = Scratch::default();
    let batch = block.batch;
    scratch.fit(&network, batch);
    let mut parts = Parts::<6>::new();
    plans.load(network.values());
    let mut step = 0;
    for _ in 0..PASSES {
        for (tile, labels) in block.batches() {
            step += 1;
            parts.time(0, || train::unpack(&network, tile, batch, &mut scratch));
            parts.time(1, || train::forward(&network, &plans, batch, &mut scratch));
            parts.time(2, || train::loss(&network, labels, &mut scratch));
            parts.time(3, || train::node_gradients(&plans, batch, &mut scratch));
            parts.time(4, || optimizer.step(&mut network, &mut plans, batch, step, &mut scratch));
            // A part of the one before, once more.
            parts.time(5, || plans.transpose());
        }
    }
    parts.0[4] -= parts.0[5];
    let names = [
        "pixels to f32",
        "forward",
        "loss",
        "backward: nodes",
        "backward: weights, update",
        "transposed weights",
    ];
    all.extend(parts.phases("batch", names, batch, connections, ghz));
    all
}
