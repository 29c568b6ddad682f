//! Keeps samples and inserts in proportion, as reverb's rate limiter.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sync::lock;

/// Lets each record be sampled so many times on average: whoever is ahead waits.
///
/// With `d = inserts * samples_per_insert - samples`, an insert waits while it would raise `d` above
/// `min_size * samples_per_insert + error`, and a sample while it would take `d` below
/// `min_size * samples_per_insert - error`, or fewer than `min_size` records were inserted.
#[derive(Debug)]
pub struct Limiter {
    ratio: f64,
    min_size: u64,
    error: f64,
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// Records inserted and sampled so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inserted.
    pub inserts: u64,
    /// Sampled.
    pub samples: u64,
}

impl Limiter {
    /// A limiter that goes on from `counts`.
    ///
    /// # Errors
    /// A setting is not positive; `error` is less than what one insert changes, so that both sides could wait for ever.
    pub fn new(samples_per_insert: f64, min_size: u64, error: f64, counts: Counts) -> Result<Limiter> {
        if !(samples_per_insert.is_finite() && samples_per_insert > 0.0) {
            return Err(Error::setting("samples_per_insert", samples_per_insert, "must be above 0"));
        }
        if min_size == 0 {
            return Err(Error::setting("min_size", min_size, "must be at least 1"));
        }
        if !(error >= samples_per_insert.max(1.0) * 2.0 && error.is_finite()) {
            return Err(Error::setting(
                "error",
                error,
                "must be at least twice what one insert or sample changes",
            ));
        }
        Ok(Limiter {
            ratio: samples_per_insert,
            min_size,
            error,
            counts: Mutex::new(counts),
            changed: Condvar::new(),
        })
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Waits until `records` may be inserted, and counts them. False if that takes longer than `timeout`.
    pub fn insert(&self, records: u64, timeout: Duration) -> bool {
        let most = self.min_size as f64 * self.ratio + self.error;
        self.wait(timeout, |counts| {
            let next = Counts { inserts: counts.inserts + records, ..counts };
            // Until samples can be drawn, inserts are the only way on.
            (counts.inserts < self.min_size || self.ahead(next) <= most).then_some(next)
        })
    }

    /// Waits until `records` may be sampled, and counts them. False if that takes longer than `timeout`.
    pub fn sample(&self, records: u64, timeout: Duration) -> bool {
        let least = self.min_size as f64 * self.ratio - self.error;
        self.wait(timeout, |counts| {
            let next = Counts { samples: counts.samples + records, ..counts };
            (counts.inserts >= self.min_size && self.ahead(next) >= least).then_some(next)
        })
    }

    fn ahead(&self, counts: Counts) -> f64 {
        counts.inserts as f64 * self.ratio - counts.samples as f64
    }

    fn wait(&self, timeout: Duration, step: impl Fn(Counts) -> Option<Counts>) -> bool {
        let end = Instant::now().checked_add(timeout);
        let mut counts = lock(&self.counts);
        loop {
            if let Some(next) = step(*counts) {
                *counts = next;
                self.changed.notify_all();
                return true;
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(counts, left);
            counts = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn whoever_is_ahead_waits() {
        let limiter = Limiter::new(4.0, 10, 8.0, Counts::default()).unwrap();
        assert!(!limiter.sample(1, NOW), "nothing is there");
        assert!(limiter.insert(10, NOW));
        // 40 ahead: 32 to 48 are allowed.
        assert!(limiter.insert(2, NOW) && !limiter.insert(1, NOW));
        assert!(limiter.sample(16, NOW) && !limiter.sample(1, NOW));
        assert_eq!(limiter.counts(), Counts { inserts: 12, samples: 16 });
        let again = Limiter::new(4.0, 10, 8.0, limiter.counts()).unwrap();
        assert!(!again.sample(1, NOW) && again.insert(1, NOW) && again.sample(4, NOW));
    }

    #[test]
    fn threads_end_in_proportion() {
        let limiter = Limiter::new(2.0, 1, 8.0, Counts::default()).unwrap();
        let long = Duration::from_secs(60);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..1000).for_each(|_| assert!(limiter.insert(1, long))));
            scope.spawn(|| (0..500).for_each(|_| assert!(limiter.sample(4, long))));
        });
        assert_eq!(limiter.counts(), Counts { inserts: 1000, samples: 2000 });
    }

    #[test]
    fn settings_that_could_wait_for_ever_are_refused() {
        let told =
            |ratio, size, error| Limiter::new(ratio, size, error, Counts::default()).unwrap_err().to_string();
        assert_eq!(told(0.0, 1, 9.0), "samples_per_insert is 0: must be above 0");
        assert_eq!(told(1.0, 0, 9.0), "min_size is 0: must be at least 1");
        assert!(told(8.0, 1, 9.0).starts_with("error is 9: must be at least twice"));
        assert!(told(f64::NAN, 1, 9.0).contains("NaN"));
    }
}
