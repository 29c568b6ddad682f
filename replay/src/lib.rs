//! Experience replay.
#![deny(unsafe_code)]

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
