//! Whole training steps and decoding against the machine's arithmetic limit, in one run, in turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hotlanes::{Tier, limits};
use rayon::ThreadPool;
use serde::Serialize;

use super::clock::{Layer, Part};
use super::config::Config;
use super::decode::Decoder;
use super::engine::{Engine, EngineError, Optim};
use super::params;
use crate::rng::Rng;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model.
    pub config: Config,
    /// Sequences in a batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// Threads.
    pub threads: usize,
    /// About how long to measure.
    pub budget: Duration,
}

/// Steps or tokens, and how fast they went.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// What was done.
    pub name: &'static str,
    /// On how many threads.
    pub threads: usize,
    /// Seconds of the fastest window, for one step or one token.
    pub seconds: f64,
    /// Of the median one.
    pub median: f64,
    /// Tokens per second in the fastest window.
    pub tokens_per_second: f64,
    /// 1e9 floating-point operations per second in the fastest window, as [`Config::flops`] counts them.
    pub gflops: f64,
    /// The share of what as many threads reached in fused multiply-adds alone.
    pub peak_share: f64,
}

/// A part of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What is done.
    pub name: &'static str,
    /// Seconds of one step, on one thread.
    pub seconds: f64,
    /// Its share of the step.
    pub share: f64,
    /// 1e9 floating-point operations per second, of a part that consists of products.
    pub gflops: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model.
    pub config: Config,
    /// Its parameters.
    pub parameters: usize,
    /// Sequences in a batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// Floating-point operations of a step.
    pub step_flops: f64,
    /// The tier in use.
    pub tier: &'static str,
    /// 1e9 floating-point operations per second in fused multiply-adds alone: of one thread, and of all.
    pub peak_gflops: [f64; 2],
    /// Steps on one thread and on all, and decoding on one.
    pub speeds: Vec<Speed>,
    /// How much faster a step is with all threads than with one.
    pub scaling: f64,
    /// Where a step's time goes, on one thread.
    pub phases: Vec<Phase>,
}

/// Steps of the profile.
const PROFILED: usize = 20;
/// Tokens of a window of decoding.
const DECODED: usize = 48;
/// Iterations of a window of multiply-adds: some 2 ms.
const CHAIN: usize = 1 << 18;

/// Batches of random tokens: what a step costs does not depend on them.
fn batch(options: &Options) -> [Vec<u32>; 2] {
    let mut rng = Rng::new(1, 0, 0, 0);
    [(); 2]
        .map(|()| (0..options.batch * options.time).map(|_| rng.below(options.config.vocab) as u32).collect())
}

/// Times of one kind of window.
#[derive(Default)]
struct Windows(Vec<f64>);

impl Windows {
    fn take<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let result = black_box(f());
        self.0.push(started.elapsed().as_secs_f64());
        result
    }

    fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::MAX, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn speed(&self, name: &'static str, threads: usize, tokens: usize, flops: f64, peak: f64) -> Speed {
        let [seconds, median] = [self.best(), self.median()];
        let gflops = flops / seconds / 1e9;
        let tokens_per_second = tokens as f64 / seconds;
        Speed { name, threads, seconds, median, tokens_per_second, gflops, peak_share: gflops / peak }
    }
}

/// Multiply-adds on all threads of a pool.
fn multiply_add(pool: &ThreadPool, tier: Tier) {
    pool.broadcast(|_| {
        hotlanes::with_tier(tier, || black_box(limits::fma_chain(CHAIN))).expect("it is in use");
    });
}

/// Measures.
///
/// # Errors
/// The model or the shape breaks a rule.
pub fn run(options: &Options) -> Result<Report, EngineError> {
    let &Options { ref config, batch: sequences, time, threads, budget } = options;
    let pools = [1, threads].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had")
    });
    let tier = hotlanes::tier();
    let [tokens, targets] = batch(options);
    let params = params::init(config, 1);
    let mut decoder = Decoder::new(config.clone(), &params)?;
    let mut engine = Engine::new(config.clone(), Optim::default(), sequences, time, params)?;
    let mut step = |pool: &ThreadPool| {
        pool.install(|| {
            hotlanes::with_tier(tier, || {
                let loss = engine.gradients(&tokens, &targets, 0, 1).expect("a batch of its shape");
                (loss, engine.step(1e-3))
            })
            .expect("it is in use")
        })
    };
    pools.iter().for_each(|pool| {
        step(pool);
    });

    let mut steps = [Windows::default(), Windows::default()];
    let mut chains = [Windows::default(), Windows::default()];
    let mut tokens_out = Windows::default();
    let started = Instant::now();
    // In turns, so that what else the machine does falls on all alike.
    while started.elapsed() < budget || tokens_out.0.len() < 3 {
        for ((pool, steps), chains) in pools.iter().zip(&mut steps).zip(&mut chains) {
            steps.take(|| step(pool));
            chains.take(|| multiply_add(pool, tier));
        }
        pools[0].install(|| {
            decoder.reset();
            tokens_out.take(|| decode(&mut decoder));
        });
    }

    let chain = (CHAIN * limits::FMA_FLOPS) as f64 / 1e9;
    let peaks = [chain / chains[0].best(), threads as f64 * chain / chains[1].best()];
    let flops = config.flops(sequences, time);
    let seen = DECODED.min(config.block);
    let mut decoding = tokens_out;
    decoding.0.iter_mut().for_each(|t| *t /= seen as f64);
    let speeds = vec![
        steps[0].speed("step", 1, sequences * time, flops, peaks[0]),
        steps[1].speed("step", threads, sequences * time, flops, peaks[1]),
        decoding.speed("decoding", 1, 1, config.decode_flops(seen / 2), peaks[0]),
    ];
    let scaling = steps[0].best() / steps[1].best();
    let phases = pools[0].install(|| phases(&mut engine, &tokens, &targets));
    Ok(Report {
        parameters: config.parameters(),
        batch: sequences,
        time,
        step_flops: flops,
        tier: tier.name(),
        peak_gflops: peaks,
        speeds,
        scaling,
        phases,
        config: config.clone(),
    })
}

/// A few tokens, each the likeliest after those before it.
fn decode(decoder: &mut Decoder) -> u32 {
    let mut token = 0;
    for _ in 0..DECODED.min(decoder.config().block) {
        let logits = decoder.logits(token);
        token = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32;
    }
    token
}

/// The parts of a step, each the fastest of a few: what else the machine does is seldom in all of them.
fn phases(engine: &mut Engine, tokens: &[u32], targets: &[u32]) -> Vec<Phase> {
    let mut best = Part::all().map(|_| f64::MAX).collect::<Vec<_>>();
    for _ in 0..PROFILED {
        engine.profile();
        engine.gradients(tokens, targets, 0, 1).expect("a batch of its shape");
        engine.step(1e-3);
        let times = engine.times();
        best.iter_mut().zip(Part::all()).for_each(|(best, part)| *best = best.min(times.seconds(part)));
    }
    let total: f64 = best.iter().sum();
    let config = engine.config();
    let (layers, square) = (config.layers as f64, (config.dim * config.dim) as f64);
    let weights = |layer: Layer| match layer {
        Layer::Qkv => 3.0 * layers * square,
        Layer::Proj => layers * square,
        Layer::Fc | Layer::FcProj => 4.0 * layers * square,
        Layer::Head => (config.vocab * config.dim) as f64,
    };
    let phase = |(part, &seconds): (Part, &f64)| {
        let gflops = part.layer().map(|l| 2.0 * weights(l) * tokens.len() as f64 / seconds / 1e9);
        Phase { name: part.name(), seconds, share: seconds / total, gflops }
    };
    Part::all().zip(&best).map(phase).collect()
}
