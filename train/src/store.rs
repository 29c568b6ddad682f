//! Files that survive a crash: checkpoints, logs, and the hashes that tell them apart.

pub mod checkpoint;
pub mod files;
pub mod hash;
pub mod log;
pub mod metrics;
pub mod number;
pub mod tensors;
