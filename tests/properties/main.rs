//! What the table of cases cannot say: ways that operands lie, rows alone and together, steps that a fused kernel is equal to.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/pools.rs"]
mod pools;
#[path = "../common/product.rs"]
mod product;

mod attention;
mod linear_loss;
mod matmul;
mod places;
mod rows;
mod sparse;
