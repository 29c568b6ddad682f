//! The buffer that writers and samplers share.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::priority::Priorities;
use crate::ring::Ring;
use crate::schema::Schema;
use crate::snapshot::Snapshot;
use crate::sync::lock;
use crate::writer::{State, Writer};

/// Segments beyond the live ones, so that an evicted one may still be read while a writer goes on.
const SPARE: usize = 1;

/// Which records are evicted when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// The oldest segment, as a whole: at times the buffer has a segment less than its capacity, which is rounded up to
    /// whole segments. Any number of writers.
    #[default]
    Segment,
    /// The oldest record: of one writer's records always the newest `capacity` ones.
    Record,
}

/// A buffer's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Records.
    pub capacity: usize,
    /// Which records are evicted when it is full.
    pub eviction: Eviction,
    /// Segments that the capacity is divided into; 0 for 2 to 128, by the capacity.
    pub segments: usize,
    /// Whether records are steps of episodes: then each has a kind ([`Step`](crate::Step)), a byte.
    pub episodes: bool,
    /// For prioritised sampling: the exponent of a priority, `alpha`.
    pub priorities: Option<f32>,
    /// Of all draws.
    pub seed: u64,
}

impl Config {
    /// Episodes, eviction by segment, no priorities, seed 0.
    pub fn new(capacity: usize) -> Config {
        Config {
            capacity,
            eviction: Eviction::Segment,
            segments: 0,
            episodes: true,
            priorities: None,
            seed: 0,
        }
    }
}

/// A replay buffer: a handle that can be cloned and sent to other threads.
#[derive(Clone)]
pub struct Buffer(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) schema: Schema,
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) ring: Ring,
    /// Writers that were dropped, with their open segments.
    pub(crate) idle: Mutex<Vec<State>>,
    /// Those that live: of one at most where eviction is by record.
    pub(crate) writers: Mutex<usize>,
    pub(crate) priorities: Option<Mutex<Priorities>>,
    /// Draws so far, each with random numbers of its own.
    pub(crate) draws: std::sync::atomic::AtomicU64,
}

impl Buffer {
    /// An empty buffer.
    ///
    /// # Errors
    /// A setting is out of range; the system has no memory for so much.
    pub fn new(schema: Schema, config: Config) -> Result<Buffer> {
        let layout = Layout::new(&schema, &config)?;
        let priorities = match config.priorities {
            None => None,
            Some(alpha) => Some(Mutex::new(Priorities::new(&layout, alpha)?)),
        };
        let bytes = layout.bytes(SPARE);
        let ring = Ring::new(&layout.sizes, layout.places, SPARE).ok_or(Error::Memory { bytes })?;
        Ok(Buffer(Arc::new(Shared {
            ring,
            schema,
            config,
            layout,
            idle: Mutex::default(),
            writers: Mutex::new(0),
            priorities,
            draws: 0.into(),
        })))
    }

    /// The columns.
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Records that can be seen now.
    pub fn len(&self) -> usize {
        self.snapshot().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the buffer takes for records, all of it from the beginning (the system may give it page by page).
    pub fn bytes(&self) -> usize {
        self.0.layout.bytes(SPARE)
            + self.0.priorities.as_ref().map_or(0, |priorities| lock(priorities).bytes())
    }

    /// A new writer for `streams` environments that are stepped together: each call of [`Writer::add`] has one or more
    /// rounds of a record for each. Its first records begin episodes.
    ///
    /// # Errors
    /// `streams` is 0 or more than a segment's records; there are as many writers as segments, or one where eviction is
    /// by record.
    pub fn writer(&self, streams: usize) -> Result<Writer> {
        let mut state = self.open(streams)?;
        state.begin();
        Ok(Writer::new(self, state))
    }

    /// Writers that continue the streams of those that were dropped, or whose buffer was loaded, in the order of their
    /// segments.
    ///
    /// # Errors
    /// A writer lives where eviction is by record.
    pub fn resume_writers(&self) -> Result<Vec<Writer>> {
        let mut idle = std::mem::take(&mut *lock(&self.0.idle));
        idle.sort_by_key(|state| state.ordinal());
        let mut resumed = Vec::new();
        while !idle.is_empty() {
            if let Err(error) = self.count() {
                lock(&self.0.idle).extend(idle);
                return Err(error);
            }
            resumed.push(Writer::new(self, idle.remove(0)));
        }
        Ok(resumed)
    }

    fn count(&self) -> Result<()> {
        let mut writers = lock(&self.0.writers);
        if self.0.config.eviction == Eviction::Record && *writers > 0 {
            return Err(self.writers_error(*writers + 1));
        }
        *writers += 1;
        Ok(())
    }

    fn writers_error(&self, writers: usize) -> Error {
        Error::Writers { writers, segments: self.0.layout.places }
    }

    fn open(&self, streams: usize) -> Result<State> {
        if !(1..=self.0.layout.rows).contains(&streams) {
            return Err(Error::setting("streams", streams, "must be 1 to the number of a segment's records"));
        }
        self.count()?;
        let state = {
            let mut idle = lock(&self.0.idle);
            idle.sort_by_key(|state| state.ordinal());
            match idle.iter().position(|state| state.streams() == streams) {
                Some(at) => Some(idle.remove(at)),
                None => {
                    // Of other streams: their segments are closed as they are.
                    idle.clear();
                    None
                }
            }
        };
        let state = match state {
            Some(state) => Ok(state),
            None => match self.0.ring.rotate(None, streams) {
                Ok(tail) => Ok(State::new(&self.0.schema, tail, streams)),
                Err(crate::ring::Full) => Err(self.writers_error(*lock(&self.0.writers))),
            },
        };
        if state.is_err() {
            *lock(&self.0.writers) -= 1;
        }
        state
    }

    /// The records that are visible now; they stay until the snapshot is dropped.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        self.0.snapshot()
    }
}

impl Shared {
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let window = (self.config.eviction == Eviction::Record).then_some(self.config.capacity);
        Snapshot::new(&self.ring, &self.layout, window)
    }
}
