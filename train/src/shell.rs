//! Everything that trainers share outside their mathematics.

pub mod plot;
pub mod progress;
pub mod signals;
