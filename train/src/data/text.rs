//! A text as tokens, cut into a training and a validation split.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stories;
use super::tokenizer::{Kind, Tokenizer, TokenizerError};
use crate::store::hash;

/// The seed of the text that the program writes: the same for every run, so that losses can be compared.
const TEXT_SEED: u64 = 1;

/// Where a run's text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file; without one the program writes stories.
    pub file: Option<PathBuf>,
    /// Bytes of the stories, at least.
    pub stories: usize,
    /// What a token is.
    pub tokenizer: Kind,
    /// The share of the text, at its end, to validate by.
    pub validation: f64,
}

/// A text, ready to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// What the text is called.
    pub name: String,
    /// How it became tokens.
    pub tokenizer: Tokenizer,
    /// The tokens to learn from.
    pub train: Vec<u16>,
    /// The tokens to validate by.
    pub validation: Vec<u16>,
}

/// Why there is nothing to learn from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text has no tokens.
    #[error("{name}: {source}")]
    Tokens {
        /// What the text is called.
        name: String,
        /// Why.
        source: TokenizerError,
    },
    /// The share to validate by.
    #[error("validation = {0}: must be above 0 and below 1")]
    Share(f64),
    /// A part is too short.
    #[error(
        "{name}: {train} tokens to train with and {validation} to validate by: must be at least block + 1 = {least} each"
    )]
    Short {
        /// What the text is called.
        name: String,
        /// Tokens to learn from.
        train: usize,
        /// Tokens to validate by.
        validation: usize,
        /// What is needed.
        least: usize,
    },
    /// Too many tokens.
    #[error("{name}: {len} tokens: must be at most 2^32 - 1")]
    Long {
        /// What the text is called.
        name: String,
        /// How many.
        len: usize,
    },
}

impl Source {
    /// Reads or writes the text, which must fill at least one window of `block` tokens and its targets in each part.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(&self, block: usize) -> Result<Corpus, DataError> {
        let (name, text) = match &self.file {
            Some(path) => (path.display().to_string(), read(path)?),
            None => {
                ("stories that the program writes".into(), stories::stories(TEXT_SEED, self.stories).into())
            }
        };
        Corpus::new(name, &text, self.tokenizer, self.validation, block)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

impl Corpus {
    /// Cuts a text into tokens and parts.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn new(
        name: String,
        text: &[u8],
        kind: Kind,
        validation: f64,
        block: usize,
    ) -> Result<Self, DataError> {
        if !(validation > 0.0 && validation < 1.0) {
            return Err(DataError::Share(validation));
        }
        let wrong = |source| DataError::Tokens { name: name.clone(), source };
        let tokenizer = Tokenizer::new(kind, text).map_err(wrong)?;
        let mut train = tokenizer.encode(text).map_err(wrong)?;
        if u32::try_from(train.len()).is_err() {
            return Err(DataError::Long { name, len: train.len() });
        }
        let validation = train.split_off((train.len() as f64 * (1.0 - validation)) as usize);
        let least = block + 1;
        if train.len().min(validation.len()) < least {
            let (train, validation) = (train.len(), validation.len());
            return Err(DataError::Short { name, train, validation, least });
        }
        Ok(Corpus { name, tokenizer, train, validation })
    }

    /// A hash of the tokens and of what they stand for.
    pub fn hash(&self) -> u64 {
        let mut vocabulary = Vec::new();
        (0..self.tokenizer.vocab()).for_each(|token| self.tokenizer.decode(token as u16, &mut vocabulary));
        [&self.train, &self.validation].into_iter().fold(hash::bytes(&vocabulary), |hash, part| {
            part.iter().fold(hash::add(hash, part.len() as u64), |hash, &t| hash::add(hash, t.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(text: &[u8], kind: Kind, block: usize) -> Result<Corpus, String> {
        Corpus::new("t".into(), text, kind, 0.1, block).map_err(|e| e.to_string())
    }

    #[test]
    fn the_end_of_the_text_is_to_validate_by() {
        let text: Vec<u8> = (0..100).map(|i| b'a' + i % 26).collect();
        let c = corpus(&text, Kind::Char, 9).unwrap();
        assert_eq!((c.train.len(), c.validation.len(), c.tokenizer.vocab()), (90, 10, 26));
        assert_eq!((c.train[27], c.validation[0]), (1, 90 % 26));
        let other = corpus(&text.iter().map(|b| b + 1).collect::<Vec<_>>(), Kind::Char, 9).unwrap();
        assert!(other.train == c.train && other.hash() != c.hash(), "the hash sees the characters too");
        let short = corpus(&text, Kind::Char, 10).unwrap_err();
        assert_eq!(
            short,
            "t: 90 tokens to train with and 10 to validate by: must be at least block + 1 = 11 each"
        );
        assert!(corpus(b"", Kind::Byte, 9).unwrap_err().starts_with("t: empty"));
        assert!(
            corpus(b"\xff", Kind::Char, 9).unwrap_err().starts_with("t: byte 0 (0xff) is not valid UTF-8")
        );
        for share in [0.0, 1.0, f64::NAN] {
            let error = Corpus::new("t".into(), &text, Kind::Byte, share, 4).unwrap_err();
            assert!(error.to_string().starts_with("validation = "), "{error}");
        }
    }
}
