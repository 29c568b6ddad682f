//! A GPT: its training step with the whole gradient, and decoding with a cache of keys and values.
//!
//! Learned positions, pre-norm blocks of causal attention and a two-layer perceptron four times as wide, a linear head (Radford
//! et al., "Language Models are Unsupervised Multitask Learners", 2019). A step depends on shape, parameters and data alone:
//! the same bits on every CPU and for every number of threads.

pub mod bench;
mod chunk;
mod clock;
pub mod config;
pub mod decode;
pub mod engine;
mod norms;
pub mod params;
mod weights;
