//! Net 2: one hash for all tiers, lengths, offsets, cuts and thread counts, and nothing touched beyond a slice.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/pools.rs"]
mod pools;
#[path = "../common/structure.rs"]
mod structure;

mod activation;
mod adafactor;
mod adamw;
mod bf16;
mod dropout;
mod embedding;
mod norm;
mod reduce;
mod optim;
mod rms;
mod sparse;
