//! Which pieces ran where: for tests of a debug build. A lost parallelisation gives the right bits at half the speed, and no
//! other test notices. In a release build a [`Tag`] is nothing.

#[cfg(debug_assertions)]
pub use on::{Piece, record_pieces};

/// Where a piece of a call comes from.
#[derive(Clone)]
pub(crate) struct Tag {
    #[cfg(debug_assertions)]
    from: Option<on::From>,
}

#[cfg(not(debug_assertions))]
impl Tag {
    #[inline(always)]
    pub(super) fn new() -> Tag {
        Tag {}
    }

    #[cfg(feature = "rayon")]
    #[inline(always)]
    pub(super) fn halves(self) -> (Tag, Tag) {
        (Tag {}, Tag {})
    }

    #[inline(always)]
    pub(super) fn begins(&self, _: impl FnOnce() -> usize) {}

    #[inline(always)]
    pub(super) fn ends(&self) {}
}

/// Notes the way that the piece goes which this thread has in hand.
#[inline(always)]
pub(crate) fn note(way: &'static str) {
    #[cfg(debug_assertions)]
    on::note(way);
    let _ = way;
}

#[cfg(debug_assertions)]
mod on {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::Tag;

    /// A piece that ran.
    #[derive(Clone, Debug)]
    pub struct Piece {
        /// The call it is of, counted from 0; one public function may make several.
        pub call: usize,
        /// The thread that ran it.
        pub thread: ThreadId,
        /// Its size, in the unit of the call's threshold.
        pub size: usize,
        /// Which side of the call's first cut it is of; none, where it was not cut.
        pub half: Option<bool>,
        /// How long it took by the caller's clock.
        pub time: Duration,
        /// The way it went, where the kernel has several.
        pub note: Option<&'static str>,
    }

    /// A call, and which side of its first cut.
    #[derive(Clone)]
    pub(super) struct From {
        call: Arc<Call>,
        half: Option<bool>,
    }

    struct Call {
        number: usize,
        started: Mutex<Vec<ThreadId>>,
        changed: Condvar,
    }

    static ON: AtomicBool = AtomicBool::new(false);
    static RECORDED: Mutex<(usize, Vec<Piece>)> = Mutex::new((0, Vec::new()));
    static CLOCK: Mutex<fn() -> Duration> = Mutex::new(|| Duration::ZERO);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    thread_local! {
        static NOTE: Cell<Option<&'static str>> = const { Cell::new(None) };
        // Of the piece in hand: pieces of other calls may run within it, while it waits.
        static BEGUN: Cell<Option<(Duration, usize)>> = const { Cell::new(None) };
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `f`, and gives with its result the pieces of all calls that all threads made meanwhile, timed by `clock`, such as
    /// one of the thread's CPU time.
    ///
    /// While this goes on, the first pieces of a call that is cut wait for each other, for two seconds at most, until two
    /// threads have one: what is seen does not depend on how soon a thread finds work.
    pub fn record_pieces<R>(clock: fn() -> Duration, f: impl FnOnce() -> R) -> (R, Vec<Piece>) {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                ON.store(false, Ordering::SeqCst);
            }
        }
        let _one = lock(&ONE_AT_A_TIME);
        *lock(&RECORDED) = (0, Vec::new());
        *lock(&CLOCK) = clock;
        ON.store(true, Ordering::SeqCst);
        let off = Off;
        let result = f();
        drop(off);
        let pieces = std::mem::take(&mut lock(&RECORDED).1);
        (result, pieces)
    }

    pub(super) fn note(way: &'static str) {
        NOTE.set(Some(way));
    }

    impl Tag {
        pub(in super::super) fn new() -> Tag {
            if !ON.load(Ordering::SeqCst) {
                return Tag { from: None };
            }
            let mut recorded = lock(&RECORDED);
            recorded.0 += 1;
            let call = Call { number: recorded.0 - 1, started: Mutex::default(), changed: Condvar::new() };
            Tag { from: Some(From { call: Arc::new(call), half: None }) }
        }

        #[cfg(feature = "rayon")]
        pub(in super::super) fn halves(self) -> (Tag, Tag) {
            let half = |second| {
                let from = self.from.as_ref();
                let from = from.map(|f| From { call: f.call.clone(), half: f.half.or(Some(second)) });
                Tag { from }
            };
            (half(false), half(true))
        }

        pub(in super::super) fn begins(&self, size: impl FnOnce() -> usize) {
            let Some(From { call, half }) = &self.from else { return };
            if half.is_some() {
                let mut started = lock(&call.started);
                let here = std::thread::current().id();
                if !started.contains(&here) {
                    started.push(here);
                    call.changed.notify_all();
                }
                let wait = |started: &mut Vec<ThreadId>| started.len() < 2;
                drop(call.changed.wait_timeout_while(started, Duration::from_secs(2), wait));
            }
            NOTE.set(None);
            let (size, clock) = (size(), *lock(&CLOCK));
            BEGUN.set(Some((clock(), size)));
        }

        pub(in super::super) fn ends(&self) {
            let (Some(From { call, half }), Some((start, size))) = (&self.from, BEGUN.take()) else { return };
            let clock = *lock(&CLOCK);
            let (time, thread) = (clock() - start, std::thread::current().id());
            let piece = Piece { call: call.number, thread, size, half: *half, time, note: NOTE.take() };
            lock(&RECORDED).1.push(piece);
        }
    }
}
