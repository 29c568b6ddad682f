//! What is built on the hotlanes kernels: the report that the binary `hotlanes` prints, and trainers.
#![forbid(unsafe_code)]

pub mod aligned;
pub mod cli;
pub mod data;
pub mod models;
pub mod report;
pub mod rng;
pub mod shell;
pub mod store;
