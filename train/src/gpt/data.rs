//! A text as tokens, cut into a part to learn from and a part to validate by, and batches of it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::text;
use super::tokenizer::{Kind, Tokenizer, TokenizerError};
use crate::hash;
use crate::rng::Rng;

/// What the random numbers are for.
const PURPOSE: u64 = 0x7769_6e64_6f77;

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
            None => ("stories that the program writes".into(), text::stories(TEXT_SEED, self.stories).into()),
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

/// Inputs and targets of some windows, `[windows][block]` each: the target of a token is the one after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Inputs.
    pub tokens: Vec<u32>,
    /// Targets.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Lays out the windows that begin there. Allocates only if there never were so many.
    pub fn fill(&mut self, text: &[u16], block: usize, starts: impl Iterator<Item = usize>) {
        self.tokens.clear();
        self.targets.clear();
        for start in starts {
            let window = &text[start..=start + block];
            self.tokens.extend(window[..block].iter().map(|&t| u32::from(t)));
            self.targets.extend(window[1..].iter().map(|&t| u32::from(t)));
        }
    }

    /// Rows `rows` of the batch of `batch` windows that a step learns from, drawn with replacement: a function of the
    /// arguments alone. A rank that asks for its rows gets those of the one batch that all ranks share.
    pub fn draw(&mut self, text: &[u16], block: usize, at: At, rows: Range<usize>) {
        let mut rng = Rng::new(at.seed, PURPOSE, at.step, at.micro as u64);
        let places = text.len() - block;
        (0..rows.start).for_each(|_| {
            rng.below(places);
        });
        self.fill(text, block, rows.map(|_| rng.below(places)));
    }
}

/// Which batch.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The run's.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
    /// The micro-batch of the step, from 0.
    pub micro: usize,
}

/// Where window `i` of `count` begins, if they are spread evenly over a text from its first token to its last.
pub fn spread(len: usize, block: usize, count: usize, i: usize) -> usize {
    let last = (len - 1 - block) as u128;
    if count < 2 { 0 } else { (last * i as u128 / (count - 1) as u128) as usize }
}

/// The least multiple of `batch` at which windows, spread evenly, cover the whole text.
pub fn covering(len: usize, block: usize, batch: usize) -> usize {
    (len - 1).div_ceil(block).next_multiple_of(batch)
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

    #[test]
    fn batches_are_windows_of_the_text_and_ranks_share_them() {
        let text: Vec<u16> = (0..500).collect();
        let draw = |step, micro, rows| {
            let mut batch = Batch::default();
            batch.draw(&text, 8, At { seed: 3, step, micro }, rows);
            batch
        };
        let whole = draw(5, 1, 0..6);
        assert_eq!((whole.tokens.len(), whole.targets.len()), (48, 48));
        for (tokens, targets) in whole.tokens.chunks(8).zip(whole.targets.chunks(8)) {
            assert!(
                tokens
                    .iter()
                    .zip(targets)
                    .enumerate()
                    .all(|(i, (t, n))| t + 1 == *n && *t == tokens[0] + i as u32)
            );
        }
        assert_eq!([draw(5, 1, 0..3).tokens, draw(5, 1, 3..6).tokens].concat(), whole.tokens);
        assert!(draw(5, 0, 0..6) != whole && draw(6, 1, 0..6) != whole && draw(5, 1, 0..6) == whole);
        // Every place is drawn, the last one too.
        let short: Vec<u16> = (0..10).collect();
        let mut seen = [false; 2];
        for step in 0..50 {
            let mut batch = Batch::default();
            batch.draw(&short, 8, At { seed: 1, step, micro: 0 }, 0..1);
            seen[batch.tokens[0] as usize] = true;
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn windows_are_spread_and_cover() {
        for len in [9, 10, 16, 17, 18, 100, 1000] {
            let count = covering(len, 8, 3);
            assert_eq!(count % 3, 0);
            let mut seen = vec![false; len];
            // Targets are what is predicted: all tokens but the first.
            (0..count).for_each(|i| {
                let start = spread(len, 8, count, i);
                seen[start + 1..=start + 8].fill(true);
            });
            assert!(seen[1..].iter().all(|&s| s), "{len}");
        }
        assert_eq!([0, 1, 2].map(|i| spread(101, 20, 3, i)), [0, 40, 80]);
        assert_eq!(spread(101, 20, 1, 0), 0);
    }
}
