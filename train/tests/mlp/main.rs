//! A perceptron: gradients against an f64 oracle and PyTorch, golden bits, resuming, early stopping, predictions,
//! figures.

mod bits;
mod common;
mod figures;
mod file;
mod golden;
mod gradients;
mod lies;
mod oracle;
mod predict;
mod resume;
