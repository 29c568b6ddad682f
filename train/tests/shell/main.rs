//! What every trainer's run must keep, whatever happens around it: tests of the kind, on each trainer.

mod disk;
mod faults;
mod life;
mod profile;
mod runs;
mod verify;
