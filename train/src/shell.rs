//! Everything that trainers share outside their mathematics.

pub mod error;
pub mod lock;
pub mod machine;
pub mod memory;
pub mod parts;
pub mod peak;
pub mod plot;
pub mod profile;
pub mod progress;
pub mod ranks;
pub mod rehearse;
pub mod session;
pub mod settings;
pub mod signals;
pub mod trainer;
pub mod verify;
pub mod windows;
