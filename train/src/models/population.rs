//! Evolving a population of sparse networks: each individual learns by gradient from one stream of examples, and
//! evolution chooses among them and changes their structure.
//!
//! The run depends on its settings and its seed alone: the same bits on every CPU, for every number of threads, and
//! however often it was stopped and resumed.

pub mod baseline;
pub mod bench;
pub mod evolve;
pub mod network;
pub mod online;
pub mod plan;
pub mod run;
pub mod settings;
pub mod state;
pub mod stream;
pub mod train;
pub mod trainer;
