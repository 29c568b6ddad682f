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
mod adafactor;
mod adamw;
mod attention;
mod bf16;
mod cross_entropy;
mod dropout;
mod embedding;
mod linear_loss;
mod matmul;
mod muon;
mod norm;
mod optim;
mod reduce;
mod rms;
mod softmax;
mod sparse;
mod sparse_masked;
