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

/// Connections (times examples, for a batch) from which a sparse kernel is spread over threads.
pub const SPARSE_PARALLEL: usize = 1 << 19;
/// Connections times examples in one piece of a parallel sparse kernel.
pub const SPARSE_PIECE: usize = 1 << 17;

/// Whether sixteen values are gathered by the CPU's instruction or by one load each. The bits are the same.
///
/// Intel CPUs from Skylake to Ice Lake with the microcode against "Downfall" (gather data sampling) gather several times
/// slower than they load; Linux says so. Elsewhere, without the instruction (NEON) or without word from the system, the
/// loads are never far behind.
pub fn prefer_gather() -> bool {
    use std::sync::OnceLock;
    static PREFER: OnceLock<bool> = OnceLock::new();
    *PREFER.get_or_init(|| {
        let file = "/sys/devices/system/cpu/vulnerabilities/gather_data_sampling";
        std::fs::read_to_string(file).is_ok_and(|s| !s.contains("Mitigat"))
    })
}
