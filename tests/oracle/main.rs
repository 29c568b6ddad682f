//! Net 1: each kernel against its formula in f64, with the bound that its documentation states.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/product.rs"]
mod product;
#[path = "../common/structure.rs"]
mod structure;

mod activation;
mod adamw;
mod adamw_errors;
mod golden;
mod matmul;
mod matmul_errors;
mod matmul_golden;
mod norm;
mod norm_errors;
mod sparse;
mod sparse_errors;
