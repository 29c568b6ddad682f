//! Net 2: one hash for all tiers, lengths, offsets, cuts and thread counts, and nothing touched beyond a slice.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/pools.rs"]
mod pools;
#[path = "../common/structure.rs"]
mod structure;

mod adamw;
mod attention;
mod norm;
mod sparse;
