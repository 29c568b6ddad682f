//! Parts of a step that threads share: chunks of a batch, individuals.

use hotlanes::Tier;
use hotlanes::tuning::with_one_thread;

/// How the parts of a step run.
#[derive(Clone, Copy)]
pub struct Parts {
    tier: Tier,
    evenly: bool,
}

impl Parts {
    /// So many parts, with the caller's tier: a thread of the pool would else use the process's. Where parts are `alike` in size and
    /// go evenly into threads, all of those are busy to the end, and cutting kernels further would only cost.
    pub fn new(count: usize, alike: bool) -> Self {
        let evenly = alike && count.is_multiple_of(rayon::current_num_threads());
        Parts { tier: hotlanes::tier(), evenly }
    }

    /// Runs one of them on this thread.
    pub fn run<R>(self, part: impl FnOnce() -> R) -> R {
        hotlanes::with_tier(self.tier, || if self.evenly { with_one_thread(part) } else { part() })
            .expect("it is in use")
    }
}
