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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_parts_that_go_evenly_into_threads_stay_whole() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        for (count, alike, evenly) in [(4, true, true), (4, false, false), (3, true, false), (1, true, false)]
        {
            assert_eq!(
                pool.install(|| Parts::new(count, alike)).evenly,
                evenly,
                "{count} parts, alike: {alike}"
            );
        }
    }

    #[test]
    fn a_part_has_the_tier_of_who_shares_them_out() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("threads");
        for tier in Tier::available() {
            let parts = hotlanes::with_tier(tier, || Parts::new(2, false)).expect("it is available");
            assert_eq!(pool.install(|| parts.run(hotlanes::tier)), tier);
        }
    }
}
