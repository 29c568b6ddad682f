//! What is built on the hotlanes kernels: the report that the binary `hotlanes` prints, and trainers.
#![forbid(unsafe_code)]

pub mod aligned;
pub mod checkpoint;
pub mod cli;
pub mod files;
pub mod gpt;
pub mod hash;
pub mod interrupt;
pub mod log;
pub mod plot;
pub mod population;
pub mod progress;
pub mod report;
pub mod rng;
