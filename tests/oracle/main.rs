//! Net 1: each kernel against its formula in f64, with the bound that its documentation states.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/structure.rs"]
mod structure;

mod adamw;
mod adamw_errors;
mod attention;
mod attention_errors;
mod attention_golden;
mod golden;
mod norm;
mod norm_errors;
mod sparse;
mod sparse_errors;
