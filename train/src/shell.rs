//! Everything that trainers share outside their mathematics.

pub mod memory;
pub mod plot;
pub mod progress;
pub mod settings;
pub mod signals;
