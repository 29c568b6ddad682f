//! CPU training kernels.
#![deny(unsafe_code)]

pub mod adamw;
mod error;
#[allow(unsafe_code)]
mod lanes;
pub mod limits;
#[doc(hidden)]
pub mod naive;
pub mod norm;
mod parallel;
pub mod sparse;
mod tier;
pub mod tuning;

pub use error::HyperParamError;
pub use lanes::{Index, LANES};
pub use tier::{TIER_ENV, Tier, TierError, tier, try_tier, with_tier};
