//! Timing windows: ways of doing something, timed in turns, so that other load on the machine falls on all of them
//! alike.

use std::time::{Duration, Instant};

/// Rounds measured even if the budget allows fewer.
const LEAST_ROUNDS: usize = 3;

/// One way, and the time of each of its windows.
pub struct Way<'a> {
    window: Box<dyn FnMut() + 'a>,
    seconds: Vec<f64>,
}

impl<'a> Way<'a> {
    /// A way whose windows each call `window` once. Its result should go through [`std::hint::black_box`].
    pub fn new(window: impl FnMut() + 'a) -> Self {
        Way { window: Box::new(window), seconds: Vec::new() }
    }

    /// Seconds of the fastest window.
    pub fn fastest(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::MAX, f64::min)
    }

    /// Seconds of the median window.
    ///
    /// # Panics
    /// If none was measured.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Warms up by a window of each way, then measures a window of each in turn until `budget` has passed, three rounds at
/// least.
pub fn measure(ways: &mut [Way<'_>], budget: Duration) {
    ways.iter_mut().for_each(|way| (way.window)());
    let started = Instant::now();
    let mut rounds = 0;
    while rounds < LEAST_ROUNDS || started.elapsed() < budget {
        rounds += 1;
        for way in &mut *ways {
            let started = Instant::now();
            (way.window)();
            way.seconds.push(started.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn ways_take_turns_and_the_first_window_of_each_is_not_counted() {
        let order = RefCell::new(Vec::new());
        let way = |name| {
            let order = &order;
            Way::new(move || order.borrow_mut().push(name))
        };
        let mut ways = ["a", "b"].map(way);
        measure(&mut ways, Duration::ZERO);
        assert_eq!(order.borrow().concat(), "ab".repeat(1 + LEAST_ROUNDS));
        assert!(ways.iter().all(|way| way.seconds.len() == LEAST_ROUNDS));

        let started = Instant::now();
        measure(&mut ways, Duration::from_millis(5));
        assert!(started.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn fastest_and_median_window() {
        let mut way = Way::new(|| ());
        way.seconds = vec![5.0, 1.0, 2.0, 9.0, 3.0];
        assert_eq!([way.fastest(), way.median()], [1.0, 3.0]);
    }
}
