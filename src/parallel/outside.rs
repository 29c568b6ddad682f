//! Calls from a thread that is not of rayon's pool, such as the main thread.
//!
//! rayon's `join` puts such a caller to sleep and wakes two workers. Here the caller takes a share itself and waits
//! awake: on two cores of an Intel Xeon (AVX-512) a call of 20 us becomes one of 11 us while the worker is still awake
//! from the call before, and 15 to 40 us with `join`. A worker that sleeps takes 43 us to wake: then a call of 160 us
//! becomes one of 123 us (236 with `join`), and one below 90 us would be slower. So a call is spread from
//! [`tuning::OUTSIDE`] times its threshold on, or at once where the workers are awake.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::tuning;

/// How long after its last piece a worker still looks for work before it sleeps.
const AWAKE: u64 = 10_000;
/// How long a caller waits awake for the others.
const PATIENCE: Duration = Duration::from_micros(100);
/// Turns until a worker, which says that its piece is done, has told rayon: the caller then need not sleep for that.
const TURNS: usize = 32;

/// When a call from outside ended last: nanoseconds from the first one on.
static ENDED: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Where a call comes from, and what follows for its pieces.
#[derive(Clone, Copy)]
pub(super) enum Caller {
    /// One of the pool's threads: the pieces may be as small as they are meant to be.
    Inside,
    /// Another thread: shares of this size, a thread's, since it cannot take up what the others leave.
    Outside(usize),
}

impl Caller {
    /// Of a call of `size`, which is no less than its threshold; from outside it wants `from`, unless the workers are
    /// awake. `None` where it is better not cut.
    #[inline]
    pub(super) fn of(size: usize, from: usize) -> Option<Caller> {
        let threads = rayon::current_num_threads();
        if threads < 2 || tuning::one_thread() {
            return None;
        }
        if rayon::current_thread_index().is_some() {
            return Some(Caller::Inside);
        }
        let ended = ENDED.load(Ordering::Relaxed);
        if size < from && (ended == 0 || now().saturating_sub(ended) > AWAKE) {
            return None;
        }
        // A long call can pay for two sleeps, and has pieces enough to even out what the threads are given.
        let long = size >= from.saturating_mul(32);
        // Halves are not quite of one size.
        Some(if long { Caller::Inside } else { Caller::Outside(size.div_ceil(threads) / 4 * 5) })
    }

    /// The least size that is cut, where it would be `piece`.
    #[inline]
    pub(super) fn piece(self, piece: usize) -> usize {
        match self {
            Caller::Inside => piece,
            Caller::Outside(share) => piece.max(share),
        }
    }

    /// Both results, the first from this thread.
    #[inline]
    pub(super) fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Caller::Inside => rayon::join(a, b),
            Caller::Outside(_) => join(a, b),
        }
    }
}

fn join<A, B: Send>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
    let done = AtomicBool::new(false);
    let mut second = None;
    let first = rayon::in_place_scope(|scope| {
        scope.spawn(|_| {
            second = Some(b());
            done.store(true, Ordering::Release);
        });
        let first = a();
        let start = Instant::now();
        while !done.load(Ordering::Acquire) && start.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        for _ in 0..TURNS {
            std::hint::spin_loop();
        }
        first
    });
    ENDED.store(now().max(1), Ordering::Relaxed);
    (first, second.expect("the scope has waited for it, and passes a panic on"))
}
