//! Training steps and decoding against the machine's arithmetic limit, timed in turns.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use hotlanes::{Tier, limits, reduce};
use rayon::ThreadPool;
use serde::Serialize;

use super::config::Config;
use super::decode::Decoder;
use super::engine::{Engine, EngineError, Optim};
use super::params;
use crate::rng::Rng;
use crate::shell::profile::analyse::{Analysis, Operation};
use crate::shell::profile::{Recording, Work, step};
use crate::shell::windows::{self, Way};

/// A benchmark: the model and its batch, and for how long to measure them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model.
    pub config: Config,
    /// Sequences in a batch.
    pub batch: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// About how long to measure.
    pub budget: Duration,
}

/// The speed of steps, or of decoding.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Name of the way.
    pub name: &'static str,
    /// Threads.
    pub threads: usize,
    /// Seconds for one step or token, in the fastest window.
    pub seconds: f64,
    /// The same in the median window.
    pub median: f64,
    /// Tokens per second in the fastest window.
    pub tokens_per_second: f64,
    /// 1e9 floating-point operations per second in the fastest window, as [`Config::flops`] counts them.
    pub gflops: f64,
    /// Share of what as many threads reach in fused multiply-adds alone.
    pub peak_share: f64,
}

/// How fast memory hands over what decoding reads of it, in 1e9 bytes per second in the fastest window.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// Threads.
    pub threads: usize,
    /// The weights of the linear layers, each once for a token.
    pub decoding_gbps: f64,
    /// As many `f32` as the model has parameters, of which the sum is made, for comparison.
    pub sum_gbps: f64,
}

/// A part of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// Seconds of one step, on one thread.
    pub seconds: f64,
    /// Its share of the step.
    pub share: f64,
    /// 1e9 floating-point operations per second, if the part has any.
    pub gflops: Option<f64>,
}

/// The result.
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
    /// 1e9 floating-point operations per second in fused multiply-adds alone, on one thread and on all.
    pub peak_gflops: [f64; 2],
    /// Steps and decoding, on one thread and on all.
    pub speeds: Vec<Speed>,
    /// Speed of a step on all threads over that on one.
    pub scaling: f64,
    /// How fast decoding reads the weights, on one thread and on all.
    pub reading: [Reading; 2],
    /// The parts of a step on one thread.
    pub phases: Vec<Phase>,
}

/// Profiled steps.
const PROFILED: usize = 20;
/// Tokens decoded in a window.
const DECODED: usize = 48;
/// Iterations in a window of multiply-adds: about 2 ms.
const CHAIN: usize = 1 << 18;

/// Random tokens and targets: the cost of a step does not depend on them.
fn batch(options: &Options) -> [Vec<u32>; 2] {
    let mut rng = Rng::new(1, 0, 0, 0);
    [(); 2]
        .map(|()| (0..options.batch * options.time).map(|_| rng.below(options.config.vocab) as u32).collect())
}

/// A way's speed, if one of its windows is so many repetitions of something on this many tokens and operations.
fn speed(
    name: &'static str,
    way: &Way<'_>,
    repetitions: usize,
    (threads, tokens): (usize, usize),
    (flops, peak): (f64, f64),
) -> Speed {
    let [seconds, median] = [way.fastest(), way.median()].map(|t| t / repetitions as f64);
    let gflops = flops / seconds / 1e9;
    let tokens_per_second = tokens as f64 / seconds;
    Speed { name, threads, seconds, median, tokens_per_second, gflops, peak_share: gflops / peak }
}

/// Multiply-adds on all threads of a pool.
fn multiply_add(pool: &ThreadPool, tier: Tier) {
    pool.broadcast(|_| {
        hotlanes::with_tier(tier, || black_box(limits::fma_chain(CHAIN))).expect("it is in use");
    });
}

/// Measures on a pool of one thread and on one of all.
///
/// # Errors
/// The model or the shape breaks a rule.
pub fn run(options: &Options, [one, all]: [&ThreadPool; 2]) -> Result<Report, EngineError> {
    let &Options { ref config, batch: sequences, time, budget } = options;
    let (tier, threads) = (hotlanes::tier(), all.current_num_threads());
    let params = params::init(config, 1);
    let mut decoder = Decoder::new(config.clone(), &params)?;
    let weights = params.to_vec();
    let mut engine = Engine::new(config.clone(), Optim::default(), sequences, time, params)?;
    // The engine has checked the shape.
    let [tokens, targets] = batch(options);
    // Inside the pool of one thread, so that its windows do not include waking that thread.
    let (peaks, speeds, reading) = one.install(|| {
        // Both ways use the one engine.
        let step = &RefCell::new(|pool: &ThreadPool| {
            pool.install(|| {
                hotlanes::with_tier(tier, || {
                    let loss = engine.gradients(&tokens, &targets, 0, 1).expect("a batch of its shape");
                    black_box((loss, engine.step(1e-3)));
                })
                .expect("it is in use")
            })
        });
        let steps = |pool| Way::new(move || (step.borrow_mut())(pool));
        let bytes = decoder.weight_bytes();
        let decoding = &RefCell::new(|pool: &ThreadPool| {
            pool.install(|| {
                hotlanes::with_tier(tier, || black_box(decode(&mut decoder))).expect("it is in use");
            });
        });
        let decodings = |pool| Way::new(move || (decoding.borrow_mut())(pool));
        let sums = |pool: &ThreadPool| {
            pool.install(|| {
                hotlanes::with_tier(tier, || black_box(reduce::sum(&weights))).expect("it is in use")
            });
        };
        let mut ways = [
            steps(one),
            Way::new(|| multiply_add(one, tier)),
            steps(all),
            Way::new(|| multiply_add(all, tier)),
            decodings(one),
            decodings(all),
            Way::new(|| sums(one)),
            Way::new(|| sums(all)),
        ];
        windows::measure(&mut ways, budget);
        let [step_one, chain_one, step_all, chain_all, decode_one, decode_all, sum_one, sum_all] = &ways;

        let chain = (CHAIN * limits::FMA_FLOPS) as f64 / 1e9;
        let peaks = [chain / chain_one.fastest(), threads as f64 * chain / chain_all.fastest()];
        let (tokens, flops) = (sequences * time, config.flops(sequences, time));
        let seen = DECODED.min(config.block);
        let speeds = vec![
            speed("step", step_one, 1, (1, tokens), (flops, peaks[0])),
            speed("step", step_all, 1, (threads, tokens), (flops, peaks[1])),
            speed("decoding", decode_one, seen, (1, 1), (config.decode_flops(seen / 2), peaks[0])),
            speed("decoding", decode_all, seen, (threads, 1), (config.decode_flops(seen / 2), peaks[1])),
        ];
        let reading = |threads, decoding: &Way<'_>, sum: &Way<'_>| Reading {
            threads,
            decoding_gbps: seen as f64 * bytes / decoding.fastest() / 1e9,
            sum_gbps: size_of_val(&weights[..]) as f64 / sum.fastest() / 1e9,
        };
        let reading = [reading(1, decode_one, sum_one), reading(threads, decode_all, sum_all)];
        (peaks, speeds, reading)
    });
    let phases = one.install(|| phases(&mut engine, &tokens, &targets));
    Ok(Report {
        parameters: config.parameters(),
        batch: sequences,
        time,
        step_flops: config.flops(sequences, time),
        tier: tier.name(),
        peak_gflops: peaks,
        scaling: speeds[0].seconds / speeds[1].seconds,
        speeds,
        reading,
        phases,
        config: config.clone(),
    })
}

/// Some tokens from the beginning, each the likeliest after those before it.
fn decode(decoder: &mut Decoder) -> u32 {
    decoder.reset();
    let mut token = 0;
    for _ in 0..DECODED.min(decoder.config().block) {
        let logits = decoder.logits(token);
        token = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32;
    }
    token
}

/// The parts of a step, each the fastest of a few; none where this process has another subscriber of `tracing`.
fn phases(engine: &mut Engine, tokens: &[u32], targets: &[u32]) -> Vec<Phase> {
    let Ok(mut recording) = Recording::new(PROFILED << 14) else { return Vec::new() };
    for number in 0..PROFILED {
        recording.switch(true);
        let span = step(number as u64 + 1);
        engine.gradients(tokens, targets, 0, 1).expect("a batch of its shape");
        engine.step(1e-3);
        drop(span);
        recording.switch(false);
    }
    let fastest = Analysis::of(&recording.finish()).fastest();
    let total: f64 = fastest.iter().map(|(_, seconds, _)| seconds).sum();
    let phase = |(operation, seconds, work): (Operation, f64, Work)| {
        let gflops = (work.flops > 0.0).then(|| work.flops / seconds / 1e9);
        Phase { name: operation.name, seconds, share: seconds / total, gflops }
    };
    fastest.into_iter().map(phase).collect()
}
