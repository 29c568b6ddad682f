//! The machine's limits that operations are held against.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::Work;
use super::analyse::Call;
use crate::report::limits::{self, Place};
use crate::shell::machine::Machine;
use crate::shell::peak::fma_peak;

/// How long each level of memory is measured.
const LEVEL_TIME: Duration = Duration::from_millis(100);

/// A level of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// `L1`, `L2`, `L3` or `DRAM`.
    pub name: &'static str,
    /// Bytes that it holds: of one core for L1 and L2.
    pub capacity: usize,
    /// Whether the cores share it.
    pub shared: bool,
    /// The best bandwidth of reading, copying and updating, in bytes per second, all threads together.
    pub bandwidth: f64,
}

/// The limits, all threads together.
#[derive(Clone, Debug, PartialEq)]
pub struct Roof {
    /// Threads.
    pub threads: usize,
    /// Floating-point operations per second in fused multiply-adds.
    pub peak: f64,
    /// The levels, nearest first: as far as there are operands for them.
    pub levels: Vec<Level>,
}

/// The limit's name where arithmetic binds.
pub const PEAK: &str = "FMA peak";

impl Roof {
    /// Measures them with the threads of the current pool, a tenth of a second for each level of memory, and keeps the
    /// figures for the next time. Levels beyond those that hold the operands of these calls are left out.
    pub fn measure(calls: &[Call]) -> Roof {
        static MEASURED: Mutex<Option<Roof>> = Mutex::new(None);
        let measured = || MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = rayon::current_num_threads();
        let places = limits::places(&Machine::detect(), threads);
        let level = |place: &Place| Level {
            name: place.name,
            capacity: place.capacity,
            shared: place.is_shared(),
            bandwidth: 0.0,
        };
        let mut roof = Roof { threads, peak: 0.0, levels: places.iter().map(level).collect() };
        let farthest = calls.iter().map(|call| roof.level_of(call.work.bytes, call.whole)).max();
        let needed = farthest.unwrap_or(0) + 1;
        if let Some(old) = &*measured()
            && old.threads == threads
            && old.levels.len() >= needed
        {
            return old.clone();
        }
        roof.levels.truncate(needed);
        for (level, place) in roof.levels.iter_mut().zip(&places) {
            level.bandwidth = place.bandwidth(threads, LEVEL_TIME).into_iter().fold(0.0, f64::max);
        }
        roof.peak = fma_peak();
        *measured() = Some(roof.clone());
        roof
    }

    /// The nearest level that holds the operands of a call: one of as many as there are threads, or one that has all.
    fn level_of(&self, bytes: f64, whole: bool) -> usize {
        let threads = self.threads as f64;
        let fits = |level: &Level| {
            let each = match (level.shared, whole) {
                (true, false) => bytes * threads,
                (false, true) => bytes / threads,
                _ => bytes,
            };
            each <= level.capacity as f64
        };
        self.levels.iter().position(fits).unwrap_or(self.levels.len() - 1)
    }

    /// The limit that binds a call, and the least seconds that it allows. Calls that share the machine with as many
    /// others as there are threads have their share of it.
    pub fn limit(&self, work: &Work, whole: bool) -> Option<(&'static str, f64)> {
        let sharing = if whole { 1.0 } else { self.threads as f64 };
        let level = &self.levels[self.level_of(work.bytes, whole)];
        let arithmetic = (PEAK, sharing * work.flops / self.peak);
        let memory = (level.name, sharing * work.bytes / level.bandwidth);
        let limit = if arithmetic.1 >= memory.1 { arithmetic } else { memory };
        (limit.1 > 0.0).then_some(limit)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::shell::profile) fn roof() -> Roof {
        let level = |name, capacity, shared, bandwidth| Level { name, capacity, shared, bandwidth };
        Roof {
            threads: 2,
            peak: 200e9,
            levels: vec![
                level("L1", 32_000, false, 800e9),
                level("L2", 1_000_000, false, 400e9),
                level("L3", 8_000_000, true, 60e9),
                level("DRAM", usize::MAX, true, 20e9),
            ],
        }
    }

    #[test]
    fn the_limit_that_binds_depends_on_intensity_place_and_threads() {
        let roof = roof();
        let limit = |flops, bytes, whole| roof.limit(&Work { flops, bytes }, whole);
        assert_eq!(limit(0.0, 0.0, true), None);
        assert_eq!(limit(1e6, 1e3, true), Some((PEAK, 1e6 / 200e9)));
        assert_eq!(limit(1e6, 1e3, false), Some((PEAK, 2.0 * 1e6 / 200e9)));
        assert_eq!(limit(1.0, 30_000.0, false), Some(("L1", 2.0 * 30_000.0 / 800e9)));
        // Two threads have two first levels.
        assert_eq!(limit(1.0, 60_000.0, true), Some(("L1", 60_000.0 / 800e9)));
        assert_eq!(limit(1.0, 60_000.0, false).unwrap().0, "L2");
        // And one third.
        assert_eq!(limit(1.0, 5e6, true).unwrap().0, "L3");
        assert_eq!(limit(1.0, 5e6, false).unwrap().0, "DRAM");
    }

    #[test]
    fn limits_are_measured_once_and_only_as_far_as_needed() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (small, again) = pool.install(|| (Roof::measure(&[]), Roof::measure(&[])));
        assert_eq!(small, again);
        assert!(small.peak > 1e6 && small.levels.iter().all(|level| level.bandwidth > 1e6), "{small:?}");
        assert!(small.levels.len() < 3, "{small:?}");
    }
}
