//! The loss of a stored model on a text.

use std::path::Path;

use super::batch::covering;
use super::run::Run;
use super::state::{self, LAST, Model, Which};
use super::trainer::Recipe;
use crate::data::text::Corpus;
use crate::data::tokenizer::Tokenizer;
use crate::shell::error::Error;
use crate::shell::ranks::Alone;
use crate::shell::session::{self, About};
use crate::shell::trainer::BEST;
use crate::store::checkpoint::{self, CheckpointError};

/// A model of a run and the text to evaluate it on.
#[derive(Debug)]
pub struct Subject {
    name: String,
    recipe: Recipe,
    model: Model,
    corpus: Corpus,
}

/// What an evaluation came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// Steps that the model was trained for.
    pub step: u64,
    /// The text's name.
    pub data: String,
    /// Tokens of the text.
    pub tokens: usize,
    /// Windows that cover it, some of which overlap.
    pub windows: usize,
    /// Their mean loss, in nats per token.
    pub loss: f64,
    /// `exp(loss)`
    pub perplexity: f64,
    /// The loss in bits per byte of the text, where tokens have bytes.
    pub bits_per_byte: Option<f64>,
}

impl Subject {
    /// Reads a model of a run, and a file, or the run's own validation split if `None`.
    ///
    /// # Errors
    /// There is no such model of a GPT, or the text is not one for it.
    pub fn load(directory: &Path, which: Which, file: Option<&Path>) -> Result<Subject, Error> {
        let About { mut recipe, data, .. } = session::stored::<Recipe>(directory)?;
        let model = state::load_model(directory, Some(which))?;
        if model.config != recipe.settings.model {
            let path = checkpoint::index_path(directory, if which == Which::Best { BEST } else { LAST });
            let what = format!("its model is not the one of the run's settings in {LAST}.json");
            return Err(CheckpointError::Index { path, what }.into());
        }
        let block = recipe.settings.model.block;
        let corpus = match file {
            Some(file) => Corpus::to_evaluate(file, model.tokenizer.clone(), block)?,
            None => session::load_same(&mut recipe, &data, directory)?,
        };
        let split = if file.is_none() { "validation split of " } else { "" };
        Ok(Subject { name: format!("{split}{}", corpus.name), recipe, model, corpus })
    }

    /// Model and text on one line.
    pub fn describe(&self) -> String {
        let Subject { name, recipe, model, corpus } = self;
        let (step, tokens, block) = (model.step, corpus.validation.len(), recipe.settings.model.block);
        let unit = corpus.tokenizer.unit();
        format!("model of step {step}; {name}: {tokens} {unit}, in windows of {block}")
    }

    /// Evaluates as a run does in its end: by windows that cover the whole text. `None` if `stop` said so.
    ///
    /// # Errors
    /// There is not enough memory, or the loss is not finite.
    pub fn evaluate(&self, stop: impl Fn() -> bool) -> Result<Option<Evaluation>, Error> {
        let Subject { name, recipe, model, corpus } = self;
        let mut run = Run::new(recipe.settings.clone(), corpus, &Alone)?;
        let Some(loss) = run.with_params(&model.params, |run| run.validate_all(stop))? else {
            return Ok(None);
        };
        if !loss.is_finite() {
            let rule = "must be finite; the model's parameters are not those of a trained one";
            return Err(Error::Diverged(format!("the loss is {loss}: {rule}")));
        }
        let (tokens, settings) = (corpus.validation.len(), &recipe.settings);
        let bits_per_byte = bytes(corpus).map(|n| loss / std::f64::consts::LN_2 * tokens as f64 / n as f64);
        Ok(Some(Evaluation {
            step: model.step,
            data: name.clone(),
            tokens,
            windows: covering(tokens, settings.model.block, settings.batch),
            loss,
            perplexity: loss.exp(),
            bits_per_byte,
        }))
    }
}

/// Bytes of the text, if its tokens have any.
fn bytes(corpus: &Corpus) -> Option<usize> {
    let mut token = Vec::new();
    let mut bytes = |&t: &u16| {
        token.clear();
        corpus.tokenizer.decode(t, &mut token);
        token.len()
    };
    match corpus.tokenizer {
        Tokenizer::Tokens(_) => None,
        _ => Some(corpus.validation.iter().map(&mut bytes).sum()),
    }
}
