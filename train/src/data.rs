//! Data to learn from: text, images, and what the program makes itself.

pub mod digits;
pub mod idx;
mod stories;
pub mod text;
pub mod tokenizer;
