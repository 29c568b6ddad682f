//! A GPT on text: trained with its whole gradient, evaluated, saved, resumed to the bit, and sampled from with a cache
//! of keys and values.
//!
//! Learned positions, pre-norm blocks of causal attention and a two-layer perceptron four times as wide, a linear head
//! (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019). A step depends on shape, parameters
//! and data alone: the same bits on every CPU and for every number of threads and ranks, however often a run was
//! stopped and resumed.

pub mod batch;
pub mod bench;
mod chunk;
pub mod config;
pub mod decode;
pub mod engine;
pub mod evaluate;
pub mod generate;
mod norms;
pub mod params;
pub mod run;
pub mod sample;
pub mod settings;
pub mod state;
pub mod trainer;
mod weights;
mod work;
