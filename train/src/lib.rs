//! What is built on the hotlanes kernels: the report that the binary `hotlanes` prints, and trainers.
#![forbid(unsafe_code)]

pub mod aligned;
pub mod population;
pub mod report;
pub mod rng;
