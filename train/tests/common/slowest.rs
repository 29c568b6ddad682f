//! A tier for tests of options, in builds of any kind.

use hotlanes::Tier;

/// The slowest tier that this binary holds: a build for a better CPU leaves out those below it.
pub const SLOWEST: &str = if Tier::Scalar.is_compiled() {
    "scalar"
} else if Tier::Avx2.is_compiled() {
    "avx2"
} else if Tier::Avx512.is_compiled() {
    "avx512"
} else {
    "neon"
};
