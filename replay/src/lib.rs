//! An experience replay buffer for self-play and reinforcement learning: samples are never torn, an observation is
//! never paired with another step's successor, a draw depends on the seed alone, and a saved buffer survives a crash.
//!
//! ```
//! use hotlanes_replay::*;
//!
//! let schema = Schema::new(vec![
//!     Column::new("obs", Dtype::F32, &[4]),
//!     Column::new("action", Dtype::I32, &[]),
//!     Column::new("reward", Dtype::F32, &[]),
//! ])?;
//! let buffer = Buffer::new(schema, Config { seed: 1, ..Config::new(100_000) })?;
//!
//! // One environment, three steps; more writers may add at the same time.
//! let mut writer = buffer.writer(1)?;
//! let obs = [[0.0; 4], [1.0; 4], [2.0; 4]];
//! let data = [Data::F32(obs.as_flattened()), Data::I32(&[0, 1, 0]), Data::F32(&[1.0, 2.0, 4.0])];
//! writer.add(3, &data, &[Step::Continues, Step::Continues, Step::Terminated])?;
//!
//! // Returns over up to two steps, and the observations after them.
//! let returns = Returns { n: 2, gamma: 0.5, reward: 2 };
//! let request = Request { method: Method::Newest, replace: false, unit: Unit::Returns(returns) };
//! let mut sampler = buffer.sampler(request)?;
//! let (mut obs, mut next) = ([0.0; 12], [0.0; 12]);
//! let mut targets = [
//!     Target { column: 0, of: Of::Drawn, data: DataMut::F32(&mut obs) },
//!     Target { column: 0, of: Of::Next, data: DataMut::F32(&mut next) },
//! ];
//! let drawn = sampler.sample_into(3, &mut targets)?;
//! assert_eq!(drawn.returns, [4.0, 4.0, 2.0]); // 4, 2 + 0.5 * 4, 1 + 0.5 * 2
//! assert_eq!(drawn.discounts, [0.0, 0.0, 0.25]); // only the oldest goes on: by the observation two steps later
//! assert_eq!(next[8..], [2.0; 4]);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Guarantees
//! - **Whole records.** Records are stored in segments, column by column. A writer publishes a prefix of its segment by
//!   a store with release order, after the bytes; what is published is never written again while a reader has the
//!   segment. The records of one [`Writer::add`] become visible together, but for those that go to a next segment.
//!   There is no lock over all: a writer takes one once for a segment; samplers take none, but for prioritised ones,
//!   which share that of the priorities with each other and with updates.
//! - **First in, first out.** [`Eviction::Segment`]: the oldest segment goes as a whole, when a writer needs a new one.
//!   The segment that a slow writer still fills is passed over, and goes a round later. [`Eviction::Record`]: of one
//!   writer's records always the newest `capacity` can be drawn. In both, a segment that is closed before it is full (a
//!   writer with another number of streams, or a [`Column::budget`] that is used up) counts as a full one.
//! - **Episodes.** A record's successor is the next one of its stream, by place and not by a stored link, and never
//!   across the end of an episode, a writer, or an eviction. An episode that [terminates](Step::Terminated) has no
//!   value after it; one that is [cut](Step::Truncated) has, by the observation that may be added as [`Step::Final`].
//!   See [`Returns`] for what is drawn at either end.
//! - **Determinism.** Each draw has a number, by the order of the calls, and is a function of the seed, this number and
//!   the buffer's contents: not of threads, nor of the CPU. With several threads the order of the calls is theirs.
//! - **No drift.** Priorities are in a [`SumTree`] whose sums are always computed from what is below. A record of
//!   priority 0 is never drawn. A new one gets the greatest priority so far. Priorities of records that were evicted
//!   meanwhile are left out.
//! - **Saved or not saved.** [`store::Store`] writes immutable checksummed files and commits by renaming: whatever
//!   stops it, the old state or the new one is there. The next add and the next draw of a loaded buffer are those of
//!   the one that was saved.
//! - **Strict input.** Dtypes, lengths, kinds of step, priorities, and values that a [`Codec`] cannot hold are refused
//!   with the column, the expected and the given, and then nothing was added.
//!
//! A reader's pin delays a writer only where it needs a second new segment during one draw: there is one to spare.
//!
//! # Memory
//! Beside the records a buffer takes one segment to spare (by default a 128th), a byte for each record where there are
//! episodes, and 4.3 bytes for each where there are priorities.
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("columns are stored and saved as little-endian machines have them");

#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
mod codec;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod files;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod limiter;
#[cfg(not(loom))]
mod priority;
#[cfg(not(loom))]
mod rng;
#[cfg(not(loom))]
mod sampler;
#[cfg(not(loom))]
mod schema;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
pub mod store;
#[cfg(not(loom))]
mod sumtree;
#[cfg(not(loom))]
mod writer;

mod sync;

// The one room with `unsafe` code. Public in a model, for loom's tests.
#[cfg(loom)]
pub mod ring;
#[cfg(not(loom))]
mod ring;
#[cfg(loom)]
#[allow(unsafe_code)]
pub mod segment;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod segment;

#[cfg(not(loom))]
pub use self::{
    buffer::{Buffer, Config, Eviction},
    codec::Codec,
    error::{Error, Result},
    limiter::{Counts, Limiter},
    sampler::{Drawn, Method, Of, Request, Returns, Sampler, Sequences, Target, Unit},
    schema::{Column, Data, DataMut, Dtype, Schema},
    sumtree::SumTree,
    writer::{Step, Writer},
};
