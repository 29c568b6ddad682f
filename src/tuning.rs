//! Every size threshold: its unit, why it is there, and the benchmark that measured it.
//!
//! A threshold chooses speed, never bits; the tests straddle each.

use std::cell::Cell;
use std::sync::OnceLock;

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
    static PREFER: OnceLock<bool> = OnceLock::new();
    FORCED_GATHER.get().unwrap_or_else(|| {
        *PREFER.get_or_init(|| {
            let file = "/sys/devices/system/cpu/vulnerabilities/gather_data_sampling";
            std::fs::read_to_string(file).is_ok_and(|s| !s.contains("Mitigat"))
        })
    })
}

thread_local! {
    static FORCED_GATHER: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `f` with [`prefer_gather`] answering `gather` to the calls that this thread makes. For tests and benchmarks.
pub fn with_gather<R>(gather: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED_GATHER.set(self.0);
        }
    }
    let _restore = Restore(FORCED_GATHER.replace(Some(gather)));
    f()
}
