//! The chores behind `cargo xtask`, as a library so that tests reach them.

pub mod gate;
pub mod mutants;
