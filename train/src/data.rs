//! Data to learn from: text, token files, images, and what the program makes itself.

pub mod csv;
pub mod digits;
pub mod file;
pub mod idx;
pub mod smooth;
pub mod standardize;
mod stories;
pub mod table;
pub mod text;
pub mod tokenizer;
pub mod tokens;
