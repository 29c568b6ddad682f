//! Text from a model, token by token.

use super::config::Config;
use super::decode::Decoder;
use super::engine::EngineError;
use super::run::Run;
use super::sample::{SampleError, Sampler, Sampling};
use super::state::Model;
use crate::data::tokenizer::{Tokenizer, TokenizerError, Utf8Stream};
use crate::rng::Rng;

/// Purpose of the seeds of samples.
const PURPOSE: u64 = 0x006c_6f6f_6b69_6e67;

/// Temperature of samples: that of `hotlanes generate` by default.
const TEMPERATURE: f32 = 0.8;

/// Why there is no text, or no more of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The model.
    #[error(transparent)]
    Model(#[from] EngineError),
    /// How to choose, or what from.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The prompt.
    #[error("the prompt: {0}")]
    Prompt(TokenizerError),
}

/// Continues a prompt. The text depends on model, prompt and [`Sampling`] alone: the same on every tier and CPU.
pub struct Generator {
    decoder: Decoder,
    tokenizer: Tokenizer,
    sampler: Sampler,
    logits: Vec<f32>,
    stream: Utf8Stream,
}

impl Generator {
    /// Reads a prompt. Of one that is longer than the model's block only the end counts; an empty one is taken as a
    /// line's end, or as token 0 where the vocabulary has none.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn new(model: &Model, prompt: &str, sampling: Sampling) -> Result<Self, GenerateError> {
        Self::of(&model.config, &model.params, &model.tokenizer, prompt, sampling)
    }

    fn of(
        config: &Config,
        params: &[f32],
        tokenizer: &Tokenizer,
        prompt: &str,
        sampling: Sampling,
    ) -> Result<Self, GenerateError> {
        let sampler = Sampler::new(sampling)?;
        let mut tokens = tokenizer.encode(prompt.as_bytes()).map_err(GenerateError::Prompt)?;
        if tokens.is_empty() {
            tokens.push(tokenizer.start());
        }
        let tokens: Vec<u32> = tokens.into_iter().map(u32::from).collect();
        let mut decoder = Decoder::new(config.clone(), params)?;
        let logits = decoder.prefill(&tokens).to_vec();
        let (tokenizer, stream) = (tokenizer.clone(), Utf8Stream::default());
        Ok(Generator { decoder, tokenizer, sampler, logits, stream })
    }

    /// One more token: the text that it completes, which may be empty where a character has several tokens.
    ///
    /// # Errors
    /// The model's logits are not finite.
    pub fn token(&mut self) -> Result<String, GenerateError> {
        let token = self.sampler.choose(&self.logits)?;
        self.tokenizer.decode(token as u16, self.stream.bytes());
        self.logits.copy_from_slice(self.decoder.logits(token));
        Ok(self.stream.take())
    }

    /// What waits for the rest of its character, which does not come.
    pub fn finish(mut self) -> String {
        self.stream.finish()
    }
}

/// Text from a run's model as it is, without a prompt. Its random numbers depend on the run's seed and step alone, and
/// the run uses none of them.
///
/// # Errors
/// See [`GenerateError`].
pub fn sample(run: &Run<'_>, tokens: u64) -> Result<String, GenerateError> {
    let seed = Rng::new(run.settings().seed, PURPOSE, run.history.step, 0).bits();
    let sampling = Sampling { temperature: TEMPERATURE, seed, ..Sampling::default() };
    let tokenizer = &run.corpus().tokenizer;
    let mut generator = Generator::of(run.engine.config(), run.engine.params(), tokenizer, "", sampling)?;
    let mut text = String::new();
    for _ in 0..tokens {
        text += &generator.token()?;
    }
    Ok(text + &generator.finish())
}
