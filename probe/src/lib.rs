//! Every kernel on small inputs, with its result checked: what the instruction counters run.
//!
//! Three counters share these cases and the region that they count, which is one call of [`measured`]: the trap-flag
//! stepper of the program `hotlanes-probe` (x86-64), a log of executed addresses under qemu (AArch64), and callgrind
//! (`cargo bench --bench instructions`).
//!
//! # Sizes
//! Each case has two, so that what an element costs can be told from what a call costs. They are
//! - multiples of sixteen without tails: the scalar tier's tails call the C library's memcpy, which differs between machines;
//! - small: a step takes some ten microseconds, and the scalar tier emulates each fused multiply-add;
//! - large enough for four turns of the widest loop, and below each threshold of `hotlanes::tuning`, so one thread runs.
//!
//! The data is the same in each run, and ordinary: no kernel leaves its usual path for it.

mod cases;
mod check;

use std::hint::black_box;
use std::sync::atomic::{Ordering, compiler_fence};

use hotlanes::tuning::with_gather;
use hotlanes::{Tier, with_tier};

pub use cases::CASES;

/// A kernel, or one path through it, on inputs of two sizes.
pub struct Case {
    /// Its name in the budgets.
    pub name: &'static str,
    /// The kernel whose machine code runs, as its demangled symbol names it; for a loop of multiversion's, the loop.
    pub kernel: &'static str,
    /// What a size counts is the case's own: parameters, rows, sources, iterations.
    pub sizes: [usize; 2],
    /// Elements in one unit of size.
    pub elements_per_size: usize,
    /// What an element is.
    pub element: &'static str,
    /// Whether values are gathered by the CPU's instruction. Never left to the default, which follows the CPU.
    pub gather: bool,
    /// Whether `with_tier` chooses the case's code; multiversion's choice follows the CPU alone.
    pub forced: bool,
    /// Allocates and fills everything that a run of this size needs.
    pub prepare: fn(usize) -> Box<dyn Prepared>,
    /// The same for the auto-vectorised plain loop on the same inputs, where there is one.
    pub twin: Option<fn(usize) -> Box<dyn Prepared>>,
}

/// A run that is ready.
pub trait Prepared {
    /// Calls the kernel, once, and allocates nothing.
    fn run(&mut self);

    /// Compares the result of one run with a plain loop's.
    ///
    /// # Panics
    /// If it is not right.
    fn check(&self);
}

impl Case {
    /// The case of this name.
    pub fn named(name: &str) -> Option<&'static Case> {
        CASES.iter().find(|c| c.name == name)
    }

    /// Whether this process runs the case on `tier`: any that is available, or the one that multiversion has chosen.
    pub fn runs_on(&self, tier: Tier) -> bool {
        if self.forced { tier.is_available() } else { tier == multiversions_tier() }
    }

    /// Calls `f` with the kernels on `tier`, and gathers as the case wants them.
    ///
    /// # Panics
    /// If the case does not run on `tier`.
    pub fn on<R>(&self, tier: Tier, f: impl FnOnce() -> R) -> R {
        assert!(self.runs_on(tier), "{} does not run on {tier} here", self.name);
        // A case that is not forced has its code chosen elsewhere; the tier may then be any that is there.
        with_tier(tier, || with_gather(self.gather, f)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

/// The tier whose instructions multiversion's choice on this CPU has: its two lists are in `convert.rs` of hotlanes.
///
/// For AVX-512 it asks for more than the tier does: what Ice Lake brought, as its versions' names say. A CPU without that
/// runs its AVX2 version.
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

/// The region that is counted, from its first instruction to its return. All counters look for this symbol.
#[inline(never)]
pub fn measured(prepared: &mut dyn Prepared) {
    prepared.run();
    // Something after the call, or it would be a jump and the return another function's.
    compiler_fence(Ordering::SeqCst);
}

/// Called right after [`measured`], so that a log of executed addresses shows where the region ends.
#[inline(never)]
pub fn finished(regions: &mut u64) {
    *black_box(regions) += 1;
}
