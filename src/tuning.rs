//! Every size threshold: its unit, why it is there, and the benchmark that measured it.
//!
//! A threshold chooses speed, never bits; the tests straddle each.

/// Elements (of all tensors together) from which an AdamW step is spread over threads.
pub const ADAMW_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel AdamW step.
pub const ADAMW_PIECE: usize = 1 << 15;

/// Features up to which LayerNorm takes sixteen rows together and transposes their horizontal sums.
pub const NORM_SMALL: usize = 128;
/// Elements from which a LayerNorm is spread over threads.
pub const NORM_PARALLEL: usize = 1 << 16;
/// Elements in one piece of a parallel LayerNorm.
pub const NORM_PIECE: usize = 1 << 14;
