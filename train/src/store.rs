//! Files that survive a crash: checkpoints, logs, and the hashes that tell them apart.

pub mod checkpoint;
pub mod hash;
pub mod log;
pub mod metrics;
pub mod number;
pub mod tensors;

// Written once, in the lower of the two crates that need it.
pub use hotlanes_replay::files;
