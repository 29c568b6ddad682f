//! Data to learn from: text, token files, images, and what the program makes itself.

pub mod digits;
pub mod file;
pub mod idx;
mod stories;
pub mod text;
pub mod tokenizer;
pub mod tokens;
