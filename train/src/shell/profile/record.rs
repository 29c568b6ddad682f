//! The recorder: a [`tracing`] subscriber that keeps the spans of some threads in memory that was allocated before.
//!
//! Of the libraries for it `tracing` was measured first, with this subscriber and the TSC as its clock (`quanta`): a
//! span costs 44 ns where it is recorded, of which the clock takes 19, and 1.1 ns where nothing is, so nothing more
//! special is needed. Each field costs 4 ns: there are two of 128 bits, as a field for each number made it 55 ns.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quanta::Clock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::subscriber::{Interest, Subscriber, set_global_default};
use tracing::{Event, Metadata};

use super::Work;

/// Targets of spans, which tell what they are.
pub const STEP: &str = "hotlanes::step";
/// A region whose work is done by several threads: what the thread that opened it does not work in it, it waits.
pub const REGION: &str = "hotlanes::region";
/// Operations of one part of the work.
pub const GROUP: &str = "hotlanes::group";
/// The same, and its name is put before those of its operations: for the same functions called for another purpose.
pub const PHASE: &str = "hotlanes::phase";
/// An operation.
pub const OPERATION: &str = "hotlanes::operation";

/// In place of a layer's number where there is none.
const NO_LAYER: u32 = u32::MAX;

/// The first field of an operation: its layer, and three sizes, 32 bits each. Larger sizes are cut to 2^32 - 1.
pub(crate) fn place(layer: impl Into<Option<usize>>, shape: [usize; 3]) -> u128 {
    let bits = |size: usize| u128::from(u32::try_from(size).unwrap_or(u32::MAX));
    let layer = layer.into().map_or(u128::from(NO_LAYER), bits);
    layer << 96 | bits(shape[2]) << 64 | bits(shape[1]) << 32 | bits(shape[0])
}

/// The second field: floating-point operations and bytes.
pub(crate) fn work(work: Work) -> u128 {
    u128::from(work.bytes.to_bits()) << 64 | u128::from(work.flops.to_bits())
}

/// What a span is, by its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`STEP`]
    Step,
    /// [`REGION`]
    Region,
    /// [`GROUP`]
    Group,
    /// [`PHASE`]
    Phase,
    /// [`OPERATION`]
    Operation,
}

impl Kind {
    fn of(target: &str) -> Option<Kind> {
        Some(match target {
            OPERATION => Kind::Operation,
            GROUP => Kind::Group,
            PHASE => Kind::Phase,
            REGION => Kind::Region,
            STEP => Kind::Step,
            _ => return None,
        })
    }
}

/// A stretch of time on a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Nanoseconds from the start of the recording.
    pub start: u64,
    /// The same, of its end.
    pub end: u64,
    /// The span of the same thread that it lies in.
    pub parent: Option<usize>,
    /// The layer of the model.
    pub layer: Option<usize>,
    /// Up to three sizes of an operation, zeros behind them; of a step its number, in two halves of 32 bits.
    pub shape: [u32; 3],
    /// An operation's work.
    pub work: Work,
}

impl Span {
    /// Nanoseconds that it takes.
    pub fn duration(&self) -> u64 {
        self.end - self.start
    }

    /// A step's number.
    pub fn step(&self) -> u64 {
        u64::from(self.shape[0]) | u64::from(self.shape[1]) << 32
    }
}

/// What was recorded of a thread: spans in the order of their starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// The spans.
    pub spans: Vec<Span>,
    /// Spans for which there was no room.
    pub dropped: u64,
}

/// What was recorded: the thread that takes the steps first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The threads.
    pub threads: Vec<Thread>,
}

impl Record {
    /// Spans of all threads for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.threads.iter().map(|thread| thread.dropped).sum()
    }
}

/// A span in a buffer.
struct Raw {
    metadata: &'static Metadata<'static>,
    start: u64,
    end: u64,
    parent: u32,
    layer: u32,
    shape: [u32; 3],
    work: Work,
}

impl Visit for Raw {
    fn record_u128(&mut self, field: &Field, value: u128) {
        match field.index() {
            0 => {
                self.shape = [0, 32, 64].map(|shift| (value >> shift) as u32);
                self.layer = (value >> 96) as u32;
            }
            _ => {
                let [flops, bytes] = [0, 64].map(|shift| f64::from_bits((value >> shift) as u64));
                self.work = Work { flops, bytes };
            }
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// A thread's spans, in memory that does not grow.
struct Buffer {
    spans: Vec<Raw>,
    capacity: usize,
    /// The number of the innermost span that is open, from 1; 0 if there is none.
    open: u32,
    dropped: u64,
    /// Whether the recording is on: others may be while it is not.
    on: Arc<AtomicBool>,
    /// How many spans there are, for the recording to look at.
    count: Arc<AtomicUsize>,
}

thread_local! {
    static BUFFER: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

/// The number of a span that is not recorded.
const NONE: u64 = u64::MAX;

/// Recordings that are on.
static ON: AtomicUsize = AtomicUsize::new(0);

struct Recorder {
    clock: Clock,
}

impl Recorder {
    /// The process' recorder; `None` where another subscriber is installed.
    fn get() -> Option<&'static Clock> {
        static CLOCK: OnceLock<Option<Clock>> = OnceLock::new();
        let install = || {
            let clock = Clock::new();
            set_global_default(Recorder { clock: clock.clone() }).ok().map(|()| clock)
        };
        CLOCK.get_or_init(install).as_ref()
    }

    fn edit(id: &Id, edit: impl FnOnce(&mut Buffer, usize)) {
        BUFFER.with_borrow_mut(|buffer| {
            let at = id.into_u64();
            if let Some(buffer) = buffer
                && at <= buffer.spans.len() as u64
            {
                edit(buffer, at as usize - 1);
            }
        });
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Kind::of(metadata.target()).is_some() { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Kind::of(metadata.target()).is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if ON.load(Relaxed) > 0 { LevelFilter::TRACE } else { LevelFilter::OFF })
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let number = BUFFER.with_borrow_mut(|buffer| {
            let buffer = buffer.as_mut().filter(|buffer| buffer.on.load(Relaxed))?;
            if buffer.spans.len() == buffer.capacity {
                buffer.dropped += 1;
                return None;
            }
            let mut raw = Raw {
                metadata: attributes.metadata(),
                start: 0,
                end: 0,
                parent: buffer.open,
                layer: NO_LAYER,
                shape: [0; 3],
                work: Work::default(),
            };
            attributes.record(&mut raw);
            buffer.spans.push(raw);
            buffer.count.store(buffer.spans.len(), Relaxed);
            Some(buffer.spans.len() as u64)
        });
        Id::from_u64(number.unwrap_or(NONE))
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        Recorder::edit(id, |buffer, at| {
            buffer.open = at as u32 + 1;
            buffer.spans[at].start = self.clock.raw();
        });
    }

    fn exit(&self, id: &Id) {
        let now = self.clock.raw();
        Recorder::edit(id, |buffer, at| {
            buffer.spans[at].end = now;
            buffer.open = buffer.spans[at].parent;
        });
    }
}

/// Whether anything is recorded anywhere. A relaxed load and a comparison.
#[inline]
pub fn is_on() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

/// Switches recordings on or off, as seen by every place that makes spans.
fn switch(by: impl FnOnce(&AtomicUsize)) {
    // One change after the other, or the later one's filter could be overwritten by the earlier one's.
    static SWITCH: Mutex<()> = Mutex::new(());
    let _one = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
    by(&ON);
    tracing::callsite::rebuild_interest_cache();
}

/// A recording of the current thread and of those of its pool; other threads' spans are in none.
#[derive(Debug)]
pub struct Recording {
    clock: &'static Clock,
    start: u64,
    on: Arc<AtomicBool>,
    capacity: usize,
    counts: Vec<Arc<AtomicUsize>>,
}

/// Why nothing can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The process has another [`tracing`] subscriber.
    #[error("cannot record a profile: the process has another subscriber of `tracing`")]
    Subscriber,
    /// These threads are being recorded.
    #[error("cannot record a profile: these threads are being recorded")]
    Busy,
}

/// Runs `f` on the current thread, and on all of its pool if it is one of them; the current thread's result first.
fn on_all<R: Send>(f: impl Fn() -> R + Sync) -> Vec<R> {
    match rayon::current_thread_index() {
        Some(own) => {
            let mut all = rayon::broadcast(|_| f());
            all[..=own].rotate_right(1);
            all
        }
        None => std::iter::once_with(&f).chain(rayon::broadcast(|_| f())).collect(),
    }
}

impl Recording {
    /// Allocates room for `capacity` spans of each thread; nothing is recorded before [`Recording::switch`].
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn new(capacity: usize) -> Result<Recording, RecordError> {
        let clock = Recorder::get().ok_or(RecordError::Subscriber)?;
        let capacity = capacity.min(u32::MAX as usize - 1);
        let is_free = on_all(|| BUFFER.with_borrow(Option::is_none));
        if is_free.contains(&false) {
            return Err(RecordError::Busy);
        }
        let on = Arc::new(AtomicBool::new(false));
        let counts = on_all(|| {
            let count = Arc::new(AtomicUsize::new(0));
            let spans = Vec::with_capacity(capacity);
            BUFFER.set(Some(Buffer {
                spans,
                capacity,
                open: 0,
                dropped: 0,
                on: on.clone(),
                count: count.clone(),
            }));
            count
        });
        Ok(Recording { clock, start: clock.raw(), on, capacity, counts })
    }

    /// Records from now on, or no more.
    pub fn switch(&mut self, on: bool) {
        if self.on.swap(on, Relaxed) != on {
            switch(|recordings| {
                if on {
                    recordings.fetch_add(1, Relaxed)
                } else {
                    recordings.fetch_sub(1, Relaxed)
                };
            });
        }
    }

    /// The most spans that a thread has so far, and how many it may have.
    pub fn filled(&self) -> (usize, usize) {
        let most = self.counts.iter().map(|count| count.load(Relaxed)).max();
        (most.unwrap_or(0), self.capacity)
    }

    /// What was recorded. A span that is open ends now.
    pub fn finish(mut self) -> Record {
        self.switch(false);
        let (clock, start, now) = (self.clock, self.start, self.clock.raw());
        let time = move |raw: u64| clock.delta_as_nanos(start, raw.max(start));
        let span = move |raw: &Raw| {
            let begin = time(raw.start);
            Some(Span {
                name: raw.metadata.name(),
                kind: Kind::of(raw.metadata.target())?,
                start: begin,
                end: time(if raw.end == 0 { now } else { raw.end }).max(begin),
                parent: (raw.parent as usize).checked_sub(1),
                layer: (raw.layer != NO_LAYER).then_some(raw.layer as usize),
                shape: raw.shape,
                work: raw.work,
            })
        };
        let thread = |buffer: Buffer| Thread {
            spans: buffer.spans.iter().filter_map(span).collect(),
            dropped: buffer.dropped,
        };
        Record { threads: on_all(|| BUFFER.take().map(thread).unwrap_or_default()) }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.switch(false);
        on_all(|| drop(BUFFER.take()));
    }
}

#[cfg(test)]
mod tests;
