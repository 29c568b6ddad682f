//! Net 2: one hash for all tiers, lengths, offsets, cuts and thread counts, and nothing touched beyond a slice.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/pools.rs"]
mod pools;
#[path = "../common/product.rs"]
mod product;
#[path = "../common/structure.rs"]
mod structure;

mod activation;
mod adamw;
mod matmul;
mod norm;
mod sparse;
