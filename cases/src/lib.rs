//! The table of cases. A [`Case`] describes a kernel, or one path through it, once: what it covers, how to build its
//! inputs, which sizes each driver takes, the plain loop to compare with, and the work that a run does.
//!
//! Its drivers:
//!
//! | driver | takes |
//! |---|---|
//! | `tests/bits.rs` | [`Case::bits`], [`Case::threads`], [`Case::same_as`]; golden hashes in `tests/golden/bits.toml` |
//! | `tests/threads.rs` | [`Case::threads`] |
//! | `tests/no_alloc.rs` | the first size of [`Case::bits`] that is not empty, and of [`Case::threads`] |
//! | `probe/`, the gate, `benches/instructions.rs` | [`Case::counted`]; budgets in `xtask/budgets.toml` |
//! | `hotlanes report`, `benches/kernels.rs`, `benches/peers/pytorch.py` | [`Case::timed`] |
//!
//! To add a kernel, add its cases to the family's file. `tests/table.rs` fails where a public kernel function is in no case.

pub mod memory;
pub mod run;
pub mod sizes;

mod activation;
mod adamw;
mod attention;
mod axpy;
mod bf16;
mod bits;
mod clip;
mod cross_entropy;
mod dropout;
mod embedding;
mod glue;
mod loss;
mod masked;
mod matmul;
mod muon;
mod nonzero;
mod norm;
mod optim;
mod reduce;
mod rms;
mod softmax;
mod sparse;
mod sumtree;

pub use memory::{Buf, Element, Memory, Place, Values};
pub use run::{Output, Plain, Run, Work};
pub use sizes::{Size, label};

use hotlanes::tuning::{with_division, with_gather};
use hotlanes::{Tier, with_tier};

/// All families, in the order of the report.
const FAMILIES: &[&[Case]] = &[
    adamw::CASES,
    norm::CASES,
    rms::CASES,
    sparse::CASES,
    masked::CASES,
    optim::CASES,
    muon::CASES,
    reduce::CASES,
    clip::CASES,
    axpy::CASES,
    activation::CASES,
    softmax::CASES,
    cross_entropy::CASES,
    loss::CASES,
    dropout::CASES,
    embedding::CASES,
    bf16::CASES,
    bits::CASES,
    nonzero::CASES,
    sumtree::CASES,
    glue::CASES,
    matmul::CASES,
    attention::CASES,
];

/// A kernel, or one path through it.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name in every driver: report, benchmarks, budgets, golden hashes, PyTorch's side.
    pub id: &'static str,
    /// The public functions it calls, as paths below the crate: `adamw::AdamWStep::update`.
    pub covers: &'static [&'static str],
    /// The kernel whose machine code runs, as its demangled symbol names it; for a loop of multiversion's, the loop.
    pub kernel: &'static str,
    /// Allocates and fills everything that a run of this size needs.
    pub build: fn(&[usize], &Memory) -> Box<dyn Run>,
    /// How a size is printed.
    pub label: fn(&[usize]) -> String,
    /// Where its bits are tested.
    pub bits: Bits,
    /// Where the work is cut over threads.
    pub threads: Threads,
    /// Another case that gives the same bits in outputs of the same name, and the size at which it does.
    pub same_as: Option<SameAs>,
    /// Instruction counts.
    pub counted: Counted,
    /// Report and benchmarks.
    pub timed: Timed,
    /// Whether the plain loop is one that a compiler would vectorise: its auto-vectorised twin is counted and timed.
    pub twin: bool,
    /// Whether values are gathered by the CPU's instruction where bits or instructions are counted.
    pub gather: bool,
    /// Whether `with_tier` chooses the code; multiversion's choice follows the CPU alone.
    pub forced: bool,
    /// Whether the scalar tier's instructions are counted by single steps. Its machine code is read anyway; a step takes 15
    /// microseconds, and each emulated fused multiply-add is some 25 of them.
    pub scalar_stepped: bool,
}

/// Sizes for bits.
#[derive(Clone, Copy)]
pub enum Bits {
    /// At these.
    At {
        /// Sizes around every vector, tile and threshold edge that is not parallel.
        sizes: fn() -> Vec<Size>,
        /// The inclusive range of each number of a random size.
        random: &'static [(usize, usize)],
    },
    /// Among the sizes of another case, which calls the same functions: this one counts one of their paths.
    In(&'static str),
}

/// Another case, and the size at which it has the same bits.
pub type SameAs = (&'static str, fn(&[usize]) -> Size);

/// Where a case's work is cut.
#[derive(Clone, Copy)]
pub enum Threads {
    /// From a threshold on.
    From {
        /// Just below: all of it runs on the caller's thread.
        below: &'static [usize],
        /// At the threshold and beyond, with uneven pieces: cut into about even shares.
        at: &'static [&'static [usize]],
    },
    /// Never, for this reason.
    Never(&'static str),
}

/// How instructions are counted.
#[derive(Clone, Copy)]
pub enum Counted {
    /// At two sizes, so that the cost of an element can be told from that of a call. Sizes are multiples of sixteen without
    /// tails (the scalar tier's tails call the C library's memcpy, which differs between machines), small (a single step takes
    /// some ten microseconds), at least four turns of the widest loop, and below every parallel threshold.
    At {
        /// The two sizes.
        sizes: [&'static [usize]; 2],
        /// Elements in a size.
        elements: fn(&[usize]) -> usize,
        /// The name of an element.
        element: &'static str,
    },
    /// Not counted, for this reason.
    Not(&'static str),
}

/// Sizes for timing.
#[derive(Clone, Copy)]
pub enum Timed {
    /// Sizes of the report and of the benchmarks.
    At {
        /// Of the report by default, and of the benchmarks.
        report: &'static [&'static [usize]],
        /// Of the report with `--full`, and of the benchmarks with `HOTLANES_BENCH_FULL`.
        full: &'static [&'static [usize]],
        /// Of the benchmarks alone.
        bench: &'static [&'static [usize]],
    },
    /// Not timed, for this reason.
    Not(&'static str),
}

/// All cases, family by family.
pub fn cases() -> impl Iterator<Item = &'static Case> + Clone {
    FAMILIES.iter().copied().flatten()
}

/// The case with this id.
pub fn named(id: &str) -> Option<&'static Case> {
    cases().find(|c| c.id == id)
}

impl Case {
    /// Whether this process runs the case on `tier`: any that is available, or the one that multiversion has chosen.
    pub fn runs_on(&self, tier: Tier) -> bool {
        if self.forced { tier.is_available() } else { tier == multiversions_tier() }
    }

    /// Calls `f` on `tier`, with gathers as the case sets them, and reciprocals by multiplications wherever it runs.
    ///
    /// # Panics
    /// If the case does not run on `tier`.
    pub fn on<R>(&self, tier: Tier, f: impl FnOnce() -> R) -> R {
        assert!(self.runs_on(tier), "{} does not run on {tier} here", self.id);
        // A case that is not forced has its code chosen elsewhere; the tier may then be any that is there.
        with_division(false, || with_tier(tier, || with_gather(self.gather, f)))
            .unwrap_or_else(|e| panic!("{}: {e}", self.id))
    }

    /// Builds the case at `size`, in memory whose faults name case and size.
    ///
    /// # Panics
    /// If the case cannot be built at this size.
    pub fn build(&self, size: &[usize], memory: &Memory) -> Box<dyn Run> {
        (self.build)(size, &memory.named(format!("{} {}", self.id, (self.label)(size))))
    }
}

/// The tier whose instructions multiversion's choice on this CPU has: its two lists are in `convert.rs` of hotlanes.
///
/// For AVX-512 it asks for more than the tier does: the extensions of Ice Lake, as its versions' names say. A CPU without
/// them runs its AVX2 version.
pub fn multiversions_tier() -> Tier {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! has {
            ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
        }
        let avx2 = has!("avx2" "fma" "bmi1" "bmi2" "lzcnt" "popcnt");
        let skylake = has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
        let ice_lake = has!("avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni" "avx512bitalg"
            "avx512vpopcntdq" "gfni" "vaes" "vpclmulqdq");
        if avx2 && skylake && ice_lake {
            return Tier::Avx512;
        }
        if avx2 {
            return Tier::Avx2;
        }
    }
    // There is one version then, and the architecture's baseline is all that it may use.
    if Tier::Neon.is_available() { Tier::Neon } else { Tier::Scalar }
}
