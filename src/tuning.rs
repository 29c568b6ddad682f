//! Every size threshold: its unit, why it is there, and the benchmark that measured it.
//!
//! A threshold chooses speed, never bits; the tests straddle each.

/// Elements (of all tensors together) from which an AdamW step is spread over threads.
pub const ADAMW_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel AdamW step.
pub const ADAMW_PIECE: usize = 1 << 15;
