//! The machine's peak in fused multiply-adds, measured: what a step's speed is held against.

use std::hint::black_box;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hotlanes::{Tier, limits, with_tier};

/// How long each tier is measured for [`fma_peak`]: the best window of some dozens.
const TIER_TIME: Duration = Duration::from_millis(50);
/// A window lasts at least this long, well above the cost of waking the pool.
const WINDOW: f64 = 200e-6;

/// The best rate at which any tier does fused multiply-adds on all threads of the current pool, in operations per
/// second (an addition and a multiplication each count). It is measured once for each number of threads, which takes 50
/// ms for each tier; later calls return the same figure.
///
/// It occupies all threads of the pool: only one of them may call it at a time.
pub fn fma_peak() -> f64 {
    static MEASURED: Mutex<Vec<(usize, f64)>> = Mutex::new(Vec::new());
    // Not held while measuring, which would block another thread of the pool that asks for the figure.
    let measured = || MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = rayon::current_num_threads();
    if let Some(&(_, rate)) = measured().iter().find(|m| m.0 == threads) {
        return rate;
    }
    let of = |tier| peak(tier, TIER_TIME, limits::FMA_FLOPS, limits::fma_chain);
    let rate = fast_tiers().into_iter().map(of).fold(0.0, f64::max);
    measured().push((threads, rate));
    rate
}

/// The tiers that can reach a limit of the machine: all but scalar, unless there is no other.
pub fn fast_tiers() -> Vec<Tier> {
    let tiers: Vec<Tier> = Tier::available().filter(|t| *t != Tier::Scalar).collect();
    if tiers.is_empty() { vec![Tier::Scalar] } else { tiers }
}

/// The best rate of `run` on all threads of the current pool, measured for `time`: it does `count` things in each of
/// the iterations that it is given.
pub fn peak(tier: Tier, time: Duration, count: usize, run: fn(usize) -> f32) -> f64 {
    let mut iterations = 16;
    let mut rate = 0.0f64;
    let until = Instant::now() + time;
    while Instant::now() < until {
        let seconds = together(tier, |_| {
            move || {
                black_box(run(black_box(iterations)));
            }
        });
        rate = rate.max((iterations * count * rayon::current_num_threads()) as f64 / seconds);
        if seconds < WINDOW {
            iterations *= 2;
        }
    }
    rate
}

/// Runs the closure that `prepare` returns for each thread of the current pool, all at once; the seconds from the first
/// start to the last end.
pub fn together<F: FnOnce()>(tier: Tier, prepare: impl Fn(usize) -> F + Sync) -> f64 {
    let barrier = Barrier::new(rayon::current_num_threads());
    let times = rayon::broadcast(|context| {
        let work = prepare(context.index());
        with_tier(tier, || {
            barrier.wait();
            let start = Instant::now();
            work();
            (start, Instant::now())
        })
        .expect("only available tiers are measured")
    });
    let start = times.iter().map(|t| t.0).min().expect("a pool has a thread");
    let end = times.iter().map(|t| t.1).max().expect("a pool has a thread");
    (end - start).as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_measured_once_for_each_number_of_threads() {
        let pools = [1, 2].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
        let rates = [0, 1, 0, 1].map(|i: usize| pools[i].install(fma_peak));
        assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 1e6), "{rates:?}");
        assert_eq!(rates[..2], rates[2..]);
    }
}
