//! A multi-layer perceptron on tables: the smallest of the trainers, and the one to read first.
//!
//! ```text
//! a_0 = x        z_l = a_(l-1) W_l^T + b_l        a_l = dropout(f(z_l))        outputs = z_L
//! ```

pub mod baseline;
pub mod bench;
pub mod data;
pub mod engine;
pub mod head;
pub mod layout;
pub mod metrics;
pub mod predict;
pub mod run;
pub mod settings;
pub mod state;
pub mod trainer;
