//! Everything that trainers share outside their mathematics.

pub mod machine;
pub mod peak;
pub mod plot;
pub mod profile;
pub mod progress;
pub mod signals;
pub mod windows;
