//! What is built on the hotlanes kernels; for now the report, which the binary `hotlanes` prints.
#![forbid(unsafe_code)]

pub mod report;
