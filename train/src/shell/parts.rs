//! Parts of a step that threads share: chunks of a batch, individuals.

use hotlanes::Tier;
use hotlanes::tuning::with_one_thread;

/// Runs one of `count` parts on this thread, with the tier of who shares them out: a thread of the pool would else use the process's.
/// Where the parts go evenly into threads all of those are busy, and kernels are not cut further, which would only cost.
pub fn part<R>(tier: Tier, count: usize, run: impl FnOnce() -> R) -> R {
    let evenly = count.is_multiple_of(rayon::current_num_threads());
    hotlanes::with_tier(tier, || if evenly { with_one_thread(run) } else { run() }).expect("it is in use")
}
