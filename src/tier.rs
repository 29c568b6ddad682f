//! Tiers: the instruction sets a kernel is specialised for, which of them this process may use, and which it does.
//!
//! A tier chooses speed, never bits. One is chosen for the process on first use, best first, each falling to the
//! next; `HOTLANES_TIER=scalar|avx2|avx512|neon` overrides it, and [`with_tier`] does so for one closure.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::lanes::environment;
use crate::tuning;

/// An instruction set that the kernels are specialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Plain Rust over arrays; runs everywhere. Fused multiply-add is emulated exactly where the target lacks it.
    Scalar,
    /// x86-64 with AVX2, FMA, BMI1, BMI2 and LZCNT (x86-64-v3).
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL (x86-64-v4, Skylake-X and later, Zen 4 and later).
    Avx512,
    /// AArch64 with Advanced SIMD.
    Neon,
}

/// The environment variable that overrides the choice of tier for a process.
pub const TIER_ENV: &str = "HOTLANES_TIER";

impl Tier {
    /// Every tier there is, slowest first.
    pub const ALL: [Tier; 4] = [Tier::Scalar, Tier::Avx2, Tier::Avx512, Tier::Neon];

    /// The tier's name, as in the environment, in benchmark ids and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
            Tier::Neon => "neon",
        }
    }

    /// Whether this binary holds the tier's code. A build for a better CPU leaves out the tiers below it.
    pub const fn is_compiled(self) -> bool {
        match self {
            Tier::Scalar => cfg!(hotlanes_scalar),
            Tier::Avx2 => cfg!(hotlanes_avx2),
            Tier::Avx512 => cfg!(hotlanes_avx512),
            Tier::Neon => cfg!(hotlanes_neon),
        }
    }

    /// Whether the CPU that runs this process has the tier's instructions, compiled in or not.
    pub fn is_supported_by_cpu(self) -> bool {
        match self {
            Tier::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => pulp::aarch64::Neon::is_available(),
            _ => false,
        }
    }

    /// Whether the tier can be used in this process: compiled in, and the CPU has it.
    pub fn is_available(self) -> bool {
        self.is_compiled() && self.is_supported_by_cpu()
    }

    /// The tiers that can be used in this process, slowest first; the last one is the default.
    pub fn available() -> impl DoubleEndedIterator<Item = Tier> {
        Tier::ALL.into_iter().filter(|t| t.is_available())
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Tier {
    type Err = TierError;

    fn from_str(s: &str) -> Result<Self, TierError> {
        Tier::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| TierError::Unknown { name: s.to_owned() })
    }
}

/// Why a tier cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TierError {
    /// No tier has this name.
    Unknown {
        /// The name that was given.
        name: String,
    },
    /// The CPU lacks the tier's instructions.
    Unsupported {
        /// The tier that was asked for.
        tier: Tier,
    },
    /// The tier lies below what this binary was built for, or belongs to another architecture.
    NotCompiled {
        /// The tier that was asked for.
        tier: Tier,
    },
    /// The calling thread has not the default floating-point environment, without which no bits are promised: a library
    /// that was built with fast-math may have changed it when it was loaded.
    FloatEnvironment {
        /// What is set.
        what: &'static str,
    },
}

impl fmt::Display for TierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TierError::Unknown { name } => write!(f, "unknown tier {name:?}: the names are")?,
            TierError::Unsupported { tier } => write!(f, "this CPU lacks the tier {tier}: it has")?,
            TierError::NotCompiled { tier } => write!(
                f,
                "this binary was built without the tier {tier} (target {}): it has",
                std::env::consts::ARCH
            )?,
            TierError::FloatEnvironment { what } => {
                return write!(
                    f,
                    "this thread's floating-point environment has {what}: bits need rounding to the nearest, and subnormal \
                     numbers kept"
                );
            }
        }
        let unknown = matches!(self, TierError::Unknown { .. });
        for (i, t) in Tier::ALL.into_iter().filter(|t| unknown || t.is_available()).enumerate() {
            write!(f, "{}{t}", if i == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for TierError {}

/// A tier that was found to be available: the proof that lets `lanes::dispatch` make a token without asking the
/// CPU again. Only [`Active::check`] makes one, and [`active`] in a build for a single tier.
#[derive(Clone, Copy)]
pub(crate) struct Active(Way);

/// A tier and how it is used, in one byte.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As it is.
    Tier(Tier),
    /// AVX-512 with reciprocals by the divider: [`tuning::prefer_division`].
    Dividing,
}

impl Active {
    fn check(tier: Tier) -> Result<Active, TierError> {
        if !tier.is_compiled() {
            Err(TierError::NotCompiled { tier })
        } else if !tier.is_supported_by_cpu() {
            Err(TierError::Unsupported { tier })
        } else {
            Ok(Active::of(tier))
        }
    }

    /// Of a tier that was found to be available.
    #[inline]
    fn of(tier: Tier) -> Active {
        let divides = tier == Tier::Avx512 && tuning::prefer_division();
        Active(if divides { Way::Dividing } else { Way::Tier(tier) })
    }

    /// The tier, which this CPU has and this binary holds.
    #[inline(always)]
    pub(crate) fn tier(self) -> Tier {
        match self.0 {
            Way::Tier(tier) => tier,
            Way::Dividing => Tier::Avx512,
        }
    }

    /// Whether the CPU's divider takes reciprocals faster than its multipliers do.
    #[cfg(hotlanes_avx512)]
    #[inline(always)]
    pub(crate) fn divides(self) -> bool {
        self.0 == Way::Dividing
    }
}

thread_local! {
    static FORCED: Cell<Option<Active>> = const { Cell::new(None) };
}

/// The tier for calls made by this thread: forced, or the process's own.
#[inline]
pub(crate) fn active() -> Active {
    // With one tier compiled in there is nothing to choose, and the compiler sees a constant.
    #[cfg(hotlanes_static)]
    return Active::of(STATIC);
    #[cfg(not(hotlanes_static))]
    match FORCED.get() {
        Some(a) => a,
        None => match selected() {
            Ok(a) => *a,
            Err(e) => panic!("{TIER_ENV}: {e}"),
        },
    }
}

/// The only tier of a binary that was built for one, all of which may use its instructions.
#[cfg(hotlanes_static)]
const STATIC: Tier = if cfg!(hotlanes_avx512) {
    Tier::Avx512
} else if cfg!(hotlanes_avx2) {
    Tier::Avx2
} else if cfg!(hotlanes_neon) {
    Tier::Neon
} else {
    Tier::Scalar
};

/// What the environment and the CPU choose, asked once per process.
fn selected() -> &'static Result<Active, TierError> {
    static SELECTED: OnceLock<Result<Active, TierError>> = OnceLock::new();
    SELECTED.get_or_init(|| match std::env::var_os(TIER_ENV) {
        Some(name) if !name.is_empty() => Active::check(name.to_string_lossy().parse()?),
        // A binary built for a better CPU than this one has no tier to fall to: then the error names the least it needs.
        _ => Tier::available()
            .next_back()
            .or(Tier::ALL.into_iter().find(|t| t.is_compiled()))
            .map_or(Err(TierError::Unknown { name: String::new() }), Active::check),
    })
}

/// The tier that calls made by this thread use.
///
/// # Panics
/// If `HOTLANES_TIER` names no tier, or one that is not available, or the thread's floating-point environment is not the
/// default one; [`try_tier`] gives the error instead. Kernels panic the same way, except in a build with a single tier,
/// where they have nothing to look up; at the environment they look in debug builds only.
pub fn tier() -> Tier {
    match try_tier() {
        Ok(t) => t,
        Err(e @ TierError::FloatEnvironment { .. }) => panic!("{e}"),
        Err(e) => panic!("{TIER_ENV}: {e}"),
    }
}

/// Whether this thread has the default floating-point environment.
pub(crate) fn check_environment() -> Result<(), TierError> {
    environment::altered().map_or(Ok(()), |what| Err(TierError::FloatEnvironment { what }))
}

/// The tier that calls made by this thread use, or what is wrong with `HOTLANES_TIER` or with the thread's floating-point
/// environment.
///
/// A program calls this once at its start, to say it plainly instead of panicking in the first kernel.
///
/// # Errors
/// `HOTLANES_TIER` names no tier, or one that is not available; or the environment is not the default one.
pub fn try_tier() -> Result<Tier, TierError> {
    check_environment()?;
    match FORCED.get() {
        Some(a) => Ok(a.tier()),
        None => selected().clone().map(Active::tier),
    }
}

/// Runs `f` with every hotlanes call that this thread makes on `tier`; the pieces that such a call hands to other
/// threads follow it. For tests and benchmarks: the bits are the same on each tier. A call inside `ThreadPool::install`
/// is made by one of the pool's threads, so `install` goes outside and `with_tier` inside.
///
/// # Errors
/// The tier is not available here.
pub fn with_tier<R>(tier: Tier, f: impl FnOnce() -> R) -> Result<R, TierError> {
    Ok(tuning::with_cell(&FORCED, Some(Active::check(tier)?), f))
}
