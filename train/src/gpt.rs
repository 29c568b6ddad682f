//! A GPT on text: trained with its whole gradient, evaluated, saved, resumed to the bit, and sampled from.

pub mod data;
pub mod ranks;
pub mod sample;
pub mod schedule;
pub mod text;
pub mod tokenizer;
