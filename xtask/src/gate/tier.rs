//! The tiers, as the gate knows them: where their code is built and how wide it should be.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::decode::Arch;

/// A tier with its budgets. The scalar tier's are those of x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Plain Rust; on x86-64 its registers are SSE2's.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512.
    Avx512,
    /// AArch64's vectors.
    Neon,
}

impl Tier {
    /// Each tier, slowest first.
    pub const ALL: [Tier; 4] = [Tier::Scalar, Tier::Avx2, Tier::Avx512, Tier::Neon];

    /// The name in budgets, reports and the environment.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
            Tier::Neon => "neon",
        }
    }

    /// The architecture whose machine code has budgets for it.
    pub fn arch(self) -> Arch {
        if self == Tier::Neon { Arch::Arm } else { Arch::X86 }
    }

    /// The width of its vector registers in bits.
    pub fn width(self) -> u32 {
        match self {
            Tier::Avx2 => 256,
            Tier::Avx512 => 512,
            Tier::Scalar | Tier::Neon => 128,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
