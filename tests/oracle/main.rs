//! Net 1: each kernel against its formula in f64, with the bound that its documentation states.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/structure.rs"]
mod structure;

mod activation;
mod adafactor;
mod adamw;
mod adamw_errors;
mod bf16;
mod clip;
mod dropout;
mod embedding;
mod golden;
mod norm;
mod norm_errors;
mod reduce;
mod optim;
mod optim_golden;
mod rms;
mod rms_errors;
mod sparse;
mod sparse_errors;
