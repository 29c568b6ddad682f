//! A GPT: gradients against an f64 oracle and PyTorch, golden bits, ranks, decoding.

mod bits;
mod common;
mod decode;
mod engine;
mod golden;
mod gradients;
mod oracle;
