//! A text as tokens, in a training and a validation split.
//!
//! A file of text is taken as text on every system: a byte-order mark at its beginning is dropped, and CR LF, the
//! line end of Windows, becomes LF, whatever the tokenizer; a lone CR stays. UTF-16 and UTF-32, told by their
//! byte-order mark, are refused. The hash of a text is that of the tokens, so that it does not depend on which line
//! ends a checkout has given a file.

use std::path::PathBuf;

use super::file::FileError;
use super::tokenizer::{Kind, Tokenizer, TokenizerError};
use super::tokens::{MAX_TOKENS, TokenFileError};
use crate::store::hash;
pub use source::Source;

mod source;

/// A text, ready to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// Its name, for messages: the files.
    pub name: String,
    /// How it became tokens.
    pub tokenizer: Tokenizer,
    /// The training split.
    pub train: Vec<u16>,
    /// The validation split.
    pub validation: Vec<u16>,
}

/// Why there is nothing to learn from. Each message names the file or the setting, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token file is none.
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    /// Text, but not in UTF-8.
    #[error(
        "{}: begins with {mark}, the byte-order mark of {encoding}: must be UTF-8; \
         try: iconv -f {encoding} -t UTF-8 {} > utf8.txt",
        path.display(),
        path.display()
    )]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding's name, as iconv has it.
        encoding: &'static str,
        /// Its mark.
        mark: &'static str,
    },
    /// The text has no tokens.
    #[error("{name}: {source}")]
    Tokens {
        /// The text's name.
        name: String,
        /// Why.
        source: TokenizerError,
    },
    /// The share of the validation split.
    #[error("validation = {0}: must be above 0 and below 1")]
    Share(f64),
    /// Another setting.
    #[error("{name} = {value}: {rule}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        rule: String,
    },
    /// A split is too short.
    #[error(
        "{name}: {train} tokens to train on and {validation} for validation: \
         must be at least block + 1 = {least} each"
    )]
    Short {
        /// The text's name.
        name: String,
        /// Tokens of the training split.
        train: usize,
        /// Tokens of the validation split.
        validation: usize,
        /// The least number.
        least: usize,
    },
    /// A text to evaluate a model on is too short.
    #[error("{name}: {tokens} tokens: must be at least block + 1 = {least}")]
    NoWindow {
        /// The text's name.
        name: String,
        /// Its tokens.
        tokens: usize,
        /// The least number.
        least: usize,
    },
    /// Too many tokens.
    #[error("{name}: {len} tokens: must be at most 2^32 - 1")]
    Long {
        /// The text's name.
        name: String,
        /// How many.
        len: usize,
    },
}

impl DataError {
    /// Whether a setting is wrong, whatever the files: wrong usage, not a failure.
    pub fn is_usage(&self) -> bool {
        matches!(self, DataError::Share(_) | DataError::Setting { .. })
    }
}

impl Corpus {
    /// Cuts a text into tokens and splits.
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
        let wrong = |source| DataError::Tokens { name: name.clone(), source };
        let tokenizer = Tokenizer::new(kind, text).map_err(wrong)?;
        let tokens = tokenizer.encode(text).map_err(wrong)?;
        Corpus::split(name, tokenizer, tokens, validation, block)
    }

    /// The last tokens are the validation split.
    fn split(
        name: String,
        tokenizer: Tokenizer,
        mut train: Vec<u16>,
        validation: f64,
        block: usize,
    ) -> Result<Self, DataError> {
        if !(validation > 0.0 && validation < 1.0) {
            return Err(DataError::Share(validation));
        }
        if train.len() as u64 > MAX_TOKENS {
            return Err(DataError::Long { name, len: train.len() });
        }
        let validation = train.split_off((train.len() as f64 * (1.0 - validation)) as usize);
        Corpus::of(name, tokenizer, train, validation, block)
    }

    /// Of both splits.
    fn of(
        name: String,
        tokenizer: Tokenizer,
        train: Vec<u16>,
        validation: Vec<u16>,
        block: usize,
    ) -> Result<Self, DataError> {
        let longest = train.len().max(validation.len());
        if longest as u64 > MAX_TOKENS {
            return Err(DataError::Long { name, len: longest });
        }
        let least = block.saturating_add(1);
        if train.len().min(validation.len()) < least {
            let (train, validation) = (train.len(), validation.len());
            return Err(DataError::Short { name, train, validation, least });
        }
        Ok(Corpus { name, tokenizer, train, validation })
    }

    /// A hash of the tokens and of the text that each stands for.
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
            "t: 90 tokens to train on and 10 for validation: must be at least block + 1 = 11 each"
        );
        assert!(corpus(b"", Kind::Byte, 9).unwrap_err().starts_with("t: empty"));
        assert!(
            corpus(b"\xff", Kind::Char, 9).unwrap_err().starts_with("t: byte 0 (0xff) is not valid UTF-8")
        );
        let numbers = corpus(b"3 1 4 1 5 9 2 6 5 3", Kind::Tokens, 0).unwrap();
        assert_eq!((numbers.tokenizer, &numbers.train[..3]), (Tokenizer::Tokens(10), &[3, 1, 4][..]));
        for share in [0.0, 1.0, f64::NAN] {
            let error = Corpus::new("t".into(), &text, Kind::Byte, share, 4).unwrap_err();
            assert!(error.to_string().starts_with("validation = "), "{error}");
        }
    }
}
