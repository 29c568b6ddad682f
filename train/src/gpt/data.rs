//! A text as tokens, cut into a part to learn from and a part to validate by, and batches of it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::text;
use super::tokenizer::{Kind, Tokenizer, TokenizerError};
use crate::hash;
use crate::population::stream::Order;
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
}

/// Which windows of the text a run learns from, one batch after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Windows {
    /// From anywhere, with replacement, as nanoGPT has them.
    Random,
    /// Side by side, all of them once before one comes again, in an order and from an offset that each round has for itself.
    Rounds,
}

/// The windows to learn from: where row `r` of a micro-batch begins is a function of seed, text and number alone.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    block: usize,
    /// Where a window may begin.
    places: usize,
    rounds: Option<Order>,
}

impl Draws {
    /// Of a text of `len` tokens, which are more than `block`.
    pub fn new(windows: Windows, seed: u64, len: usize, block: usize) -> Self {
        let side_by_side = (len / block - 1).max(1);
        let rounds = (windows == Windows::Rounds).then(|| Order::new(seed, side_by_side));
        Draws { seed, block, places: len - block, rounds }
    }

    /// Where rows `rows` of micro-batch number `number` of the run begin, if it has `batch` of them. A rank that asks for its
    /// rows gets those of the one batch that all ranks share.
    pub fn starts(&mut self, number: u64, batch: usize, rows: Range<usize>) -> impl Iterator<Item = usize> {
        let mut rng = Rng::new(self.seed, PURPOSE, number, 0);
        if self.rounds.is_none() {
            (0..rows.start).for_each(|_| {
                rng.below(self.places);
            });
        }
        rows.map(move |row| match &mut self.rounds {
            None => rng.below(self.places),
            Some(order) => {
                let place = number * batch as u64 + row as u64;
                let mut rng = Rng::new(self.seed, PURPOSE, place / order.len() as u64, 1);
                let room = self.places - (order.len() - 1) * self.block;
                rng.below(room) + order.at(place) * self.block
            }
        })
    }
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
    use std::collections::BTreeSet;

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
        for windows in [Windows::Random, Windows::Rounds] {
            let mut draws = Draws::new(windows, 3, text.len(), 8);
            let mut draw = |number, rows| {
                let mut batch = Batch::default();
                batch.fill(&text, 8, draws.starts(number, 6, rows));
                batch
            };
            let whole = draw(5, 0..6);
            assert_eq!((whole.tokens.len(), whole.targets.len()), (48, 48));
            for (tokens, targets) in whole.tokens.chunks(8).zip(whole.targets.chunks(8)) {
                assert!(tokens.iter().zip(targets).all(|(t, n)| t + 1 == *n));
                assert!(tokens.iter().zip(tokens[0]..).all(|(t, n)| *t == n));
            }
            assert_eq!([draw(5, 0..3).tokens, draw(5, 3..6).tokens].concat(), whole.tokens);
            assert!(draw(4, 0..6) != whole && draw(6, 0..6) != whole && draw(5, 0..6) == whole);
            // Far on and back: nothing depends on what was drawn before.
            draw(1_000_000, 0..6);
            assert!(draw(5, 0..6) == whole);
        }
        // Every place is drawn, the last one too.
        for windows in [Windows::Random, Windows::Rounds] {
            for len in [9, 10, 15, 16, 17, 24, 25] {
                let mut draws = Draws::new(windows, 1, len, 8);
                let starts: BTreeSet<usize> =
                    (0..400).flat_map(|n| draws.starts(n, 2, 0..2).collect::<Vec<_>>()).collect();
                assert!(starts.into_iter().eq(0..len - 8), "{len}");
            }
        }
    }

    #[test]
    fn a_round_has_each_window_once() {
        let mut draws = Draws::new(Windows::Rounds, 1, 830, 8);
        let windows = 830 / 8 - 1;
        let rounds: Vec<Vec<usize>> = (0..3)
            .map(|round| {
                let mut starts: Vec<usize> = (0..windows)
                    .flat_map(|i| draws.starts((round * windows + i) as u64, 1, 0..1).collect::<Vec<_>>())
                    .collect();
                assert!(starts.windows(2).any(|p| p[0] > p[1]));
                starts.sort_unstable();
                starts
            })
            .collect();
        assert!(rounds.iter().all(|r| r[0] < 16 && r.windows(2).all(|p| p[1] == p[0] + 8)));
        assert!(rounds[0][0] != rounds[1][0] || rounds[1][0] != rounds[2][0]);
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
