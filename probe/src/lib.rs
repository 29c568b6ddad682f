//! The region that instructions are counted in: one call of [`measured`].
//!
//! Three counters share it and the cases of `cases/`: the trap-flag stepper of the program `hotlanes-probe` (x86-64), a log of
//! executed addresses under qemu (AArch64), and callgrind.

use std::hint::black_box;
use std::sync::atomic::{Ordering, compiler_fence};

use hotlanes::Tier;
use hotlanes_cases::{Case, Memory, Plain, Run};

/// The region that is counted, from its first instruction to its return. All counters look for this symbol.
#[inline(never)]
pub fn measured(call: &mut dyn FnMut()) {
    call();
    // Something after the call, or it would be a jump and the return another function's.
    compiler_fence(Ordering::SeqCst);
}

/// Called right after [`measured`], so that a log of executed addresses shows where the region ends.
#[inline(never)]
pub fn finished(regions: &mut u64) {
    *black_box(regions) += 1;
}

/// A case at a size that is ready to be measured: the kernel on a tier, or the plain loop compiled for it.
pub struct Ready {
    case: &'static Case,
    tier: Tier,
    twin: bool,
    run: Box<dyn Run>,
}

impl Ready {
    /// Builds it. With `warm`, another run goes to its end before: what is looked up on first use has been looked up then.
    pub fn new(case: &'static Case, tier: Tier, twin: bool, size: &[usize], warm: bool) -> Ready {
        let run = case.on(tier, || {
            if warm {
                call(&mut *case.build(size, &Memory::aligned()), twin);
            }
            case.build(size, &Memory::aligned())
        });
        Ready { case, tier, twin, run }
    }

    /// Calls `count` with the call to measure.
    pub fn measure<R>(&mut self, count: impl FnOnce(&mut dyn FnMut()) -> R) -> R {
        let Ready { case, tier, twin, run } = self;
        case.on(*tier, || count(&mut || call(&mut **run, *twin)))
    }

    /// Compares the result of the measured call with the naive loop's.
    ///
    /// # Errors
    /// The first value that is too far from the naive loop's.
    pub fn check(&mut self) -> Result<(), String> {
        let got: Vec<_> = self.run.outputs().iter().map(|o| o.values.values()).collect();
        // A plain loop has nothing to be compared with but itself; its outputs may lie elsewhere.
        if self.twin {
            return Ok(());
        }
        let naive = self.run.compare(&got);
        naive.map_err(|e| format!("{} on {}: {e}", self.case.id, self.tier))
    }
}

fn call(run: &mut dyn Run, twin: bool) {
    if twin { run.plain(Plain::Auto) } else { run.run() }
}
