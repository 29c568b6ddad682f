//! The trainers: settings, engine and [`Trainer`](crate::shell) of each model.

pub mod gpt;
pub mod mlp;
pub mod population;
