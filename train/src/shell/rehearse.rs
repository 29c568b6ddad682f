//! A run as it would be: what it is, what it needs, and about how long it takes. Writes nothing.

use std::time::{Duration, Instant};

use super::error::Error;
use super::memory;
use super::progress::say;
use super::ranks::Alone;
use super::trainer::{Position, Recipe, Trainer};

/// How long the steps are that time is estimated by.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// Checks a run's settings and data, and says what there is to expect of it.
///
/// # Errors
/// As those of [`start`](super::session::start).
pub fn rehearse<R: Recipe>(mut recipe: R, goal: u64) -> Result<(), Error> {
    let data = recipe.load()?;
    let mut trainer = recipe.trainer(&data, &Alone)?;
    trainer.describe(goal).iter().for_each(say);
    let available = memory::available().map_or(String::new(), |have| format!(" of {:.1} GB", 1e-9 * have));
    say(format_args!("memory: about {:.2} GB{available}", 1e-9 * trainer.memory()));
    // What is due at the beginning, and a step whose buffers grow, are not what a step takes.
    while trainer.is_due() {
        trainer.advance()?;
    }
    trainer.advance()?;
    let first = trainer.progress(goal);
    let started = Instant::now();
    loop {
        trainer.advance()?;
        let Position { at, end, unit } = trainer.progress(goal);
        let (done, elapsed) = (at - first.at, started.elapsed());
        if done > 0 && (elapsed >= LONG_ENOUGH || at >= end) {
            let each = elapsed.as_secs_f64() / done as f64;
            say(format_args!(
                "about {:.3} ms each of {} {unit}: {:.1} minutes in all; {} threads, tier {}",
                1e3 * each,
                end - first.at.min(end),
                each * end as f64 / 60.0,
                rayon::current_num_threads(),
                hotlanes::tier()
            ));
            return Ok(());
        }
    }
}
