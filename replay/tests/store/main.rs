//! A buffer in a directory: what comes back, what is detected, what survives.

mod crafted;
mod damage;
mod disk;
mod faults;
mod killed;
mod resume;
mod small;
