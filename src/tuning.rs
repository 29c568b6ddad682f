//! Every size threshold for threads and forms of a kernel: its unit, why it is there, and the benchmark that measured it.
//! From where on slices are cut at cache lines stands beside the cut (`elementwise.rs`, `tensors.rs`, `reduce/sums.rs`), what makes a
//! sparse batch worth copying in `sparse/batch.rs`.
//!
//! A threshold chooses speed, never bits; the tests straddle each.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::OnceLock;
use std::thread::LocalKey;

use crate::tier::{active, with_tier};

// Figures: Intel Xeon (L2 2 MiB, AVX-512), 2 cores, rayon's workers awake, medians of 30, two threads against one, with the
// loop of the benchmark in brackets and the threshold at 1.

/// A call from outside the pool, as from the main thread, is spread from so many times its threshold on: some 100 us on
/// one thread, of which 43 go by before a sleeping worker is awake. While the workers are awake, up to 10 us after the
/// last such call, and inside the pool (`ThreadPool::install`), the thresholds are as they are given. A matrix product
/// takes 110 us at its threshold, and is spread from there. With sleeping workers two threads make a call at this size
/// 1.2 to 2.9 times as fast, from plain `Vec`s; at 4 times the threshold attention would lose 11%, column sums 6%
/// (`report --outside --threads 2`).
pub const OUTSIDE: usize = 8;

/// Elements (of all tensors together) from which an AdamW step is spread over threads. A call of 2^16 takes 15 us on one;
/// two threads make 2^15 1.16 times as fast, 2^16 1.4, 2^17 1.7, 2^19 1.9 times (`adamw/avx512/*`).
pub const ADAMW_PARALLEL: usize = 1 << 16;
/// Elements in one piece of a parallel AdamW step: 4 us of work.
pub const ADAMW_PIECE: usize = 1 << 14;

/// Features up to which LayerNorm takes sixteen rows together and transposes their horizontal sums; beyond, four, whose
/// sums are a small part. When this was set, sixteen against four was 1.36 times as fast at 13 features, 1.03 at 512
/// (`layernorm_fwd/avx512/*`). Rows of 64 and 128 features have loops of their own.
pub const NORM_SMALL: usize = 128;
/// Features beyond which the backward takes four rows together instead of two, because the sums over rows leave the
/// nearest cache.
pub const NORM_LONG: usize = 1024;
/// Elements from which a LayerNorm is spread over threads. The forward of 2^17 takes 20 us on one; two threads make 2^15
/// 1.2 times as fast, 2^17 1.7, 2^18 1.9 times (`layernorm_fwd/avx512/*`). The backward has whole chunks of 128 rows to
/// share and gains from 2^18 on.
pub const NORM_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel LayerNorm.
pub const NORM_PIECE: usize = 1 << 14;

/// Features up to which softmax and cross-entropy take sixteen rows together and transpose their horizontal sums and maxima;
/// beyond, four.
pub const SOFTMAX_SMALL: usize = 128;
/// Features beyond which softmax and cross-entropy take one row at a time, so that it stays in the nearest cache.
pub const SOFTMAX_LONG: usize = 1024;
/// Elements from which a softmax or a cross-entropy is spread over threads: 22 to 37 us on one. Two make 2^17 1.6 times as
/// fast, 2^20 1.9 to 2.0 times (the report's `softmax_fwd` and `cross_entropy`).
pub const SOFTMAX_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel softmax or cross-entropy.
pub const SOFTMAX_PIECE: usize = 1 << 14;

/// Elements from which an elementwise loss is spread over threads, in pieces of [`crate::loss::PIECE`]. On an AMD EPYC
/// (Zen 4, L2 1 MiB, AVX-512) a binary cross-entropy of 2^16 with its gradient takes 33 us on one (AVX2: 48 us;
/// PyTorch: 220 us), a squared error 7.3 us (PyTorch: 77 us). Two threads make the first 1.9 times as fast, the second
/// no faster; of 2^20 they make them 2.0 and 1.7 times as fast (the report's `bce_with_logits` and `mse`).
pub const LOSS_PARALLEL: usize = 1 << 16;

/// Connections (times examples, for a batch) from which a sparse kernel is spread over threads. The forward of 2^19 takes
/// 14 us on one; two threads make it 1.8 times as fast. The backward gains 1.3 times at 6.5 * 10^5 and a batch of 64, 1.8
/// times at a batch of 256, nothing below 2^19: threads then meet in the cache lines of `dvalues` (`sparse_fwd/avx512/*`,
/// `sparse_bwd/avx512/*`).
pub const SPARSE_PARALLEL: usize = 1 << 19;
/// Connections times examples in one piece of a parallel sparse kernel: 4 us.
pub const SPARSE_PIECE: usize = 1 << 17;

/// Whether both gradients of a sparse layer's batch are taken in one sweep or in two; the bits are the same. One sweep loads
/// each destination's gradient once, but keeps sixteen products in registers and writes the values' gradient here and there.
/// With AVX-512 it is as fast as two at 784x128, density 0.1 and a batch of 32, 1.15 times at 64, 1.6 times at 512; with AVX2
/// two sweeps are 1.1 to 1.5 times as fast at each of these (`sparse_bwd/*`). NEON is not measured, and goes as AVX2.
pub(crate) fn one_sparse_sweep(tier: crate::tier::Tier) -> bool {
    FORCED_SWEEP.get().unwrap_or(tier == crate::tier::Tier::Avx512)
}

thread_local! {
    static FORCED_SWEEP: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `f` with the sparse backwards that this thread calls taking both gradients in one sweep, or in two. For tests and
/// counting.
#[doc(hidden)]
pub fn with_one_sparse_sweep<R>(one: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED_SWEEP.set(self.0);
        }
    }
    let _restore = Restore(FORCED_SWEEP.replace(Some(one)));
    f()
}

/// Multiplications from which attention is spread over threads: some 10 us on one. Two threads make forward and backward of
/// 2^25 (32 examples, 8 heads, 64 places, heads of 16) 2.0 times as fast, of 2^29 (8, 12, 256, 64) 2.1 and 1.9 times.
pub const ATTENTION_PARALLEL: usize = 1 << 19;
/// Multiplications in one piece of a parallel attention, at least; a quarter of a thread's share if that is more, and no more than
/// [`ATTENTION_PIECE_MOST`]. Each piece clears its scratch first.
pub const ATTENTION_PIECE: usize = 1 << 20;
/// Multiplications in one piece at most.
pub const ATTENTION_PIECE_MOST: usize = 1 << 25;
/// Pairs of an example and a head of keys below which the backward may cut a head in two, for queries and for keys. Both then
/// find the weights anew: seven products instead of five, so that two threads gain 1.3 times, but more of them gain more.
pub const ATTENTION_FEW_HEADS: usize = 4;
/// Elements (of all slices together) from which a reduction, an aggregation or a global norm is spread over threads. A sum
/// of 2^18 takes 10 us on one, from L2; not yet measured on two (`sum/avx512/*`, `norm/avx512/*`).
pub const REDUCE_PARALLEL: usize = 1 << 18;
/// Elements in one piece of a parallel reduction, about [`crate::reduce::PIECE`].
pub const REDUCE_PIECE: usize = 1 << 16;
/// Elements from which a weighted addition or a product ([`crate::axpy`]) is spread over threads. Two make 2^20 1.9
/// times as fast, and 2^25 2.0 times (the report's `add_scaled` and `lerp`); nearer to here it was not measured.
pub const AXPY_PARALLEL: usize = 1 << 18;
/// Elements in one piece of a parallel weighted addition or product.
pub const AXPY_PIECE: usize = 1 << 16;
/// Values from which the sums of columns are spread over threads, columns to each. Two make 2048 x 128, which is 2^18, 1.7 times
/// as fast, 2048 x 512 and 8192 x 2048 1.9 times (the report's `column_sums`).
pub const COLUMN_SUMS_PARALLEL: usize = 1 << 18;
/// Values in one piece of parallel sums of columns, at least; half of a thread's share if that is more, as a narrow piece reads
/// little of a row at a time.
pub const COLUMN_SUMS_PIECE: usize = 1 << 16;
/// Elements of the positions' rows from which an embedding is spread over threads. The forward of 2^18 takes 21 us on one; two
/// threads make it 1.5 times as fast, and 2^22 as well. The dense backward, whose zeros and plan stay on one thread, gains
/// nothing at 2^18 and 1.3 times at 2^22 (the report's `embedding_fwd` and `embedding_bwd`).
pub const EMBEDDING_PARALLEL: usize = 1 << 18;
/// Elements in one piece of a parallel embedding.
pub const EMBEDDING_PIECE: usize = 1 << 14;

/// Elements from which a dropout is spread over threads. 2^16 take 25 us on one; two make it 1.8 times as fast, 2^20 2.0 times
/// (the report's `dropout`).
pub const DROPOUT_PARALLEL: usize = 1 << 16;
/// Elements in one piece of a parallel dropout: 3 us.
pub const DROPOUT_PIECE: usize = 1 << 13;
/// Elements from which an activation is spread over threads. A GELU of 2^16 takes 15 us on one; two make 2^20 2.0 times as
/// fast (the report's `gelu_tanh_fwd`), nearer to here it was not measured.
pub const ACTIVATION_PARALLEL: usize = 1 << 16;
/// Elements in one piece of a parallel activation: 3 us of work.
pub const ACTIVATION_PIECE: usize = 1 << 14;
/// Elements (of all tensors together) from which an SGD step is spread over threads. A call of 2^16 takes 9 us on one, of
/// 2^17 about twice that; not yet measured on two near here (`sgd_momentum/avx512/*`).
pub const SGD_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel SGD step.
pub const SGD_PIECE: usize = 1 << 15;
/// Elements (of all tensors together) from which a Lion step is spread over threads. A call of 2^16 takes 9 us on one; two
/// threads make 2.4 * 10^6 2.0 times as fast, not yet measured near here (the report's `lion`).
pub const LION_PARALLEL: usize = 1 << 17;
/// Elements in one piece of a parallel Lion step.
pub const LION_PIECE: usize = 1 << 15;
/// Elements from which the passes of an Adafactor step are spread over threads, each by itself. The four of 2^16 take 13 us
/// on one; two threads make 2.4 * 10^6 1.9 times as fast, not yet measured near here (the report's `adafactor`).
pub const ADAFACTOR_PARALLEL: usize = 1 << 18;
/// Elements in one piece of a pass of a parallel Adafactor step.
pub const ADAFACTOR_PIECE: usize = 1 << 15;

/// Multiplications from which a matrix product is spread over threads: 80 us on one (AVX-512). Fewer than five rows count as
/// five, since they take as long as it takes to read the other operand. Two threads make 256 x 256 x 256, twice that, 1.9 times as
/// fast, 2048 x 64 x 64 1.8 times (`matmul_gemm -- threads`).
pub const MATMUL_PARALLEL: usize = 1 << 23;
/// A product of fewer than five rows is spread inside a pool, or while workers are awake, from this part of [`MATMUL_PARALLEL`]
/// on: its other operand, of 1.6 MiB, often comes from memory, and workers that find nothing to do meanwhile fall asleep. Of more
/// rows the arithmetic takes longer, and it was not measured. Two threads so take 19 ms for a token of
/// 124 million parameters instead of 22 (`bench gpt`).
pub const MATMUL_READING: usize = 4;
/// Multiplications in one piece of a parallel matrix product, at least: 20 us; about half of a thread's share if that is more, and
/// no more than [`MATMUL_PIECE_MOST`]. Each piece packs its operands itself, which costs as much as about 20 rows and 20 columns
/// of results. With 2^23 two threads took 1.03 to 1.09 times as long for 204 and 256 cubed, and more of them had two pieces of
/// those to share.
pub const MATMUL_PIECE: usize = 1 << 21;
/// Multiplications in one piece at most: 2 ms on one thread (AVX-512).
pub const MATMUL_PIECE_MOST: usize = 1 << 28;
/// Columns from which a matrix product packs its left operand too, if it has more than 36 rows and the right one was packed
/// before: packing costs as much as about 20 columns, and saves the CPU from rows that lie apart.
pub const MATMUL_PACK_COLS: usize = 129;
/// It does so where the right one is packed on the way as well, if the left one's rows lie a multiple of this apart: then they
/// meet in the same sets of the L1 cache (1024 x 1024 x 1024: 148 GFLOP/s packed, 123 as it lies; 512 x 512 x 512: 155 and 157).
pub const MATMUL_PACK_STRIDE: usize = 1024;
/// Steps of k from which it packs its left operand, as columns.
pub const MATMUL_PACK_STEPS: usize = 64;
/// Values of a left operand that is a transpose up to which it is read where it lies: an L2 cache holds them (1 MiB), and keeps
/// them for all columns, unless its rows lie a multiple of [`MATMUL_PACK_STRIDE`] apart. 784 x 512 times 512 x 128 would take
/// 1.1 times as long (both ways in one process).
pub const MATMUL_BESIDE_VALUES: usize = 1 << 18;

/// Columns up to which such an operand is not packed: packing takes as long as some 20 columns, reading it where it lies a line of
/// the L2 cache each step. With AVX-512, 512 x 256 times 256 x 128 takes 0.94 of the time, 64 x 256 x 64 and 256 x 1024 x 48 take 0.8 to
/// 0.86; 512 x 256 x 512 would take 1.05. With AVX2, whose tiles are one vector wide, the second and third take 0.94; of
/// 128 columns all take as long or longer (both ways in one process). NEON and the scalar tier are not measured, and go as AVX2.
pub(crate) fn matmul_beside_cols(tier: crate::tier::Tier) -> usize {
    if tier == crate::tier::Tier::Avx512 { 144 } else { 64 }
}

/// Rows up to which a matrix product reads its right operand where it lies, by tiles of up to six rows: 512 x 512 by one row
/// takes 11 us, by six 18, by sixteen 50 (`matmul_gemm`).
pub const MATMUL_THIN_ROWS: usize = 24;
/// Columns up to which a matrix product is made as its transpose's, with rows of the left operand in the lanes, which costs
/// turning them: 512 x 512 by two columns takes 35 us that way and 56 with columns in the lanes, by twelve 61 and 64, by
/// sixteen more (`matmul_gemm`).
pub const MATMUL_THIN_COLS: usize = 12;

/// The ways of a matrix product; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum ProductPath {
    /// Operands as they are.
    Thin,
    /// The right operand packed, the left one as it is.
    Plain,
    /// Both packed.
    BothPacked,
}

thread_local! {
    static PRODUCT_PATH: Cell<Option<ProductPath>> = const { Cell::new(None) };
}

pub(crate) fn product_path() -> Option<ProductPath> {
    PRODUCT_PATH.get()
}

/// Runs `f` with the matrix products that this thread makes going the given way, where they can. For tests and counting.
#[doc(hidden)]
pub fn with_product_path<R>(path: ProductPath, f: impl FnOnce() -> R) -> R {
    with_cell(&PRODUCT_PATH, Some(path), f)
}

/// Whether sixteen values are gathered by the CPU's instruction or by one load each. The bits are the same.
///
/// The instruction is the faster one on CPUs of Intel, by 7 to 20% on the Xeon of the figures above
/// (`sparse_matvec/*/784x128@0.1b1`), but for those from Skylake to Ice Lake with the microcode against "Downfall"
/// (gather data sampling), where it is several times slower; Linux says so. On a CPU of AMD (Zen 4) loads take 0.70
/// of its time. Elsewhere, without the instruction (NEON) or without word from the system, loads.
pub fn prefer_gather() -> bool {
    static PREFER: OnceLock<bool> = OnceLock::new();
    FORCED_GATHER.get().unwrap_or_else(|| {
        *PREFER.get_or_init(|| {
            let file = "/sys/devices/system/cpu/vulnerabilities/gather_data_sampling";
            let is_fast = std::fs::read_to_string(file).is_ok_and(|s| !s.contains("Mitigat"));
            is_fast && cpuinfo().says("vendor_id", "GenuineIntel")
        })
    })
}

/// Whether AVX-512 takes reciprocals of several vectors by division alone, or by multiplications for all or some. The
/// bits are the same.
///
/// Division is the faster way on CPUs of AMD whose 512-bit operations take two turns (Zen 4, family 25): activations
/// take 0.75 of the time (`silu_fwd/*/65536`), and `adamw` 0.85 (`adamw/*/65536`). Elsewhere it was not measured, or
/// is slower: Intel's dividers take up to 16 cycles for a vector.
pub fn prefer_division() -> bool {
    static PREFER: OnceLock<bool> = OnceLock::new();
    FORCED_DIVISION.get().unwrap_or_else(|| {
        *PREFER.get_or_init(|| {
            let cpu = cpuinfo();
            cpu.says("vendor_id", "AuthenticAMD") && cpu.says("cpu family", "25")
        })
    })
}

/// The first entry of `/proc/cpuinfo`: empty where there is no such file.
struct CpuInfo(Vec<String>);

fn cpuinfo() -> CpuInfo {
    // Reading all takes long where there are hundreds of CPUs.
    let first = |file| CpuInfo::read(BufReader::with_capacity(1024, file));
    File::open("/proc/cpuinfo").map_or(CpuInfo(Vec::new()), first)
}

impl CpuInfo {
    /// Vendor and family are on the second and third line.
    fn read(cpuinfo: impl BufRead) -> Self {
        CpuInfo(cpuinfo.lines().map_while(Result::ok).take(32).collect())
    }

    fn says(&self, key: &str, value: &str) -> bool {
        let mut fields = self.0.iter().filter_map(|line| line.split_once(':'));
        fields.any(|(k, v)| k.trim() == key && v.trim() == value)
    }
}

thread_local! {
    static FORCED_GATHER: Cell<Option<bool>> = const { Cell::new(None) };
    static FORCED_DIVISION: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `f` with [`prefer_gather`] answering `gather` to the calls that this thread makes. For tests and benchmarks.
pub fn with_gather<R>(gather: bool, f: impl FnOnce() -> R) -> R {
    with_cell(&FORCED_GATHER, Some(gather), f)
}

/// Runs `f` with [`prefer_division`] answering `division` to the calls that this thread makes. For tests and
/// benchmarks.
///
/// # Panics
/// As [`tier`](crate::tier()).
pub fn with_division<R>(division: bool, f: impl FnOnce() -> R) -> R {
    // A tier takes the answer with it when it is chosen: the process's own is chosen before, and once more for `f`.
    let tier = active().tier();
    with_cell(&FORCED_DIVISION, Some(division), || with_tier(tier, f)).expect("the tier is in use")
}

/// Runs `f` with a value of this thread's, and puts the old one back.
pub(crate) fn with_cell<T: Copy, R>(cell: &'static LocalKey<Cell<T>>, value: T, f: impl FnOnce() -> R) -> R {
    struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<T>>, T);
    impl<T: Copy> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(value));
    f()
}

thread_local! {
    static ONE_THREAD: Cell<bool> = const { Cell::new(false) };
}

#[cfg(feature = "rayon")]
pub(crate) fn one_thread() -> bool {
    ONE_THREAD.get()
}

/// Runs `f` with the calls that this thread makes staying on it (not those that other threads make for `f`): for who spreads work
/// over all threads already, so that cutting it further would only cost, and for measuring what threads gain. The bits are the same.
pub fn with_one_thread<R>(f: impl FnOnce() -> R) -> R {
    with_cell(&ONE_THREAD, true, f)
}

#[cfg(debug_assertions)]
#[doc(hidden)]
pub use crate::parallel::recorder::{Piece, record_pieces};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_and_family_are_read() {
        let of = |vendor, family| {
            let text =
                format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 25\n");
            CpuInfo::read(text.as_bytes())
        };
        assert!(of("GenuineIntel", 6).says("vendor_id", "GenuineIntel"));
        assert!(of("AuthenticAMD", 25).says("cpu family", "25"));
        assert!(!of("AuthenticAMD", 26).says("cpu family", "25"));
        for other in
            ["", "processor\t: 0\nBogoMIPS\t: 243.75\n", "vendor_id\t: HygonGenuine\n", "vendor_id\n"]
        {
            let cpu = CpuInfo::read(other.as_bytes());
            assert!(!cpu.says("vendor_id", "GenuineIntel") && !cpu.says("cpu family", "25"), "{other:?}");
        }
    }
}
