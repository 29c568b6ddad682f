//! What is built on the hotlanes kernels: the report that the binary `hotlanes` prints, and trainers.
#![forbid(unsafe_code)]
// Both panic where nobody reads: `shell::progress` has what prints.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod data;
pub mod models;
pub mod report;
pub mod rng;
pub mod schedule;
pub mod shell;
pub mod store;
