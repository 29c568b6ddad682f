//! Populations of sparse networks: gradients against an f64 oracle, invariants of evolution, golden bits, files.

mod bits;
mod data;
mod evolution;
mod gradients;
mod oracle;
