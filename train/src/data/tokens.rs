//! Files of tokens that another program made: 16-bit numbers, little endian.
//!
//! Two layouts are read. nanoGPT's `train.bin` and `val.bin` are the tokens and nothing else. llm.c's
//! (`write_datafile` in its dev/data/data_common.py) begin with 256 32-bit integers: the magic number 20240520, the
//! version 1, the number of tokens, zeros. A file that begins with that magic number is llm.c's.
//!
//! A token file does not say what its tokens mean. nanoGPT's meta.pkl does, but is not read: a pickle is a program.

use std::path::{Path, PathBuf};

use super::file::{FileError, Opened};
use super::tokenizer::Tokenizer;

/// The largest number of tokens of a split.
pub const MAX_TOKENS: u64 = u32::MAX as u64;

/// llm.c's first number.
const MAGIC: u32 = 20_240_520;
/// llm.c's second number.
const VERSION: u32 = 1;
/// Bytes of llm.c's header.
const HEADER: usize = 256 * 4;

/// A token file that cannot be used. Each message names the file, the place, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No token at all.
    #[error("{}: no tokens: there must be at least one", .0.display())]
    Empty(PathBuf),
    /// Half a token.
    #[error("{}: {len} bytes: must be an even number, as each token has two", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// llm.c's header is cut short.
    #[error("{}: {len} bytes: begins like a file of llm.c, whose header alone has {HEADER}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// One of the header's numbers.
    #[error("{}: byte {offset}: {name} {value}: must be {rule}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The number's place, in bytes from the file's beginning.
        offset: usize,
        /// Its name.
        name: &'static str,
        /// Its value.
        value: i64,
        /// The rule.
        rule: String,
    },
    /// A token without a place in the vocabulary.
    #[error("{}: byte {offset}: token {token}: must be below the vocabulary's size, {vocab}", path.display())]
    Beyond {
        /// The file.
        path: PathBuf,
        /// The token's place, in bytes from the file's beginning.
        offset: usize,
        /// The token.
        token: u16,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
}

/// A token file's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    path: PathBuf,
    /// Bytes before the first token.
    start: usize,
    /// The tokens.
    pub tokens: Vec<u16>,
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`TokenFileError`].
    pub fn read(path: &Path) -> Result<TokenFile, TokenFileError> {
        let bytes = Opened::new(path)?.read(HEADER as u64 + 2 * MAX_TOKENS, "2^32 - 1 tokens")?;
        TokenFile::parse(path, &bytes)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// See [`TokenFileError`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<TokenFile, TokenFileError> {
        let start = header(path, bytes)?;
        let (pairs, rest) = bytes[start..].as_chunks();
        if !rest.is_empty() {
            return Err(TokenFileError::Odd { path: path.to_owned(), len: bytes.len() });
        }
        if pairs.is_empty() {
            return Err(TokenFileError::Empty(path.to_owned()));
        }
        let tokens = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
        Ok(TokenFile { path: path.to_owned(), start, tokens })
    }

    /// The tokenizer for these files: its vocabulary has `vocab` tokens, or one more than the largest token.
    ///
    /// # Errors
    /// A token is not below `vocab`.
    pub fn tokenizer(files: &[&TokenFile], vocab: Option<usize>) -> Result<Tokenizer, TokenFileError> {
        let largest = files.iter().flat_map(|file| &file.tokens).max().map_or(0, |&token| token.into());
        let vocab = vocab.unwrap_or(largest + 1);
        if largest < vocab {
            return Ok(Tokenizer::Tokens(vocab));
        }
        let first = |file: &&TokenFile| file.tokens.iter().position(|&token| usize::from(token) >= vocab);
        let (file, at) =
            files.iter().find_map(|file| Some((file, first(file)?))).expect("the largest is in one");
        let (path, offset) = (file.path.clone(), file.start + 2 * at);
        Err(TokenFileError::Beyond { path, offset, token: file.tokens[at], vocab })
    }
}

/// The length of a file's header: none, or llm.c's.
fn header(path: &Path, bytes: &[u8]) -> Result<usize, TokenFileError> {
    let (words, _) = bytes.as_chunks();
    let word = |i: usize| words.get(i).map(|&word| u32::from_le_bytes(word));
    let field = |at: usize, name, value: u32, rule: String| {
        // llm.c's numbers have a sign.
        let value = value.cast_signed().into();
        Err(TokenFileError::Field { path: path.to_owned(), offset: 4 * at, name, value, rule })
    };
    let (magic, version, count) = (word(0), word(1), word(2));
    if magic != Some(MAGIC) {
        // Nobody's text begins with 500 zeros after its own length: it is a header with a wrong number.
        let promised =
            |size: u64| count.is_some_and(|n| HEADER as u64 + size * u64::from(n) == bytes.len() as u64);
        let zeros = || (3..HEADER / 4).all(|i| word(i) == Some(0));
        return match magic {
            Some(magic) if (promised(2) || promised(4)) && zeros() => {
                field(0, "magic number", magic, format!("{MAGIC}, llm.c's for tokens of 16 bits"))
            }
            _ => Ok(0),
        };
    }
    let (Some(version), Some(count), true) = (version, count, bytes.len() >= HEADER) else {
        return Err(TokenFileError::Header { path: path.to_owned(), len: bytes.len() });
    };
    if version != VERSION {
        return field(1, "version", version, VERSION.to_string());
    }
    let len = bytes.len() - HEADER;
    if count > i32::MAX.cast_unsigned() || 2 * u64::from(count) != len as u64 {
        let rule = match len % 2 {
            0 => format!("{}, the number of tokens after the header", len / 2),
            _ => format!("half of {len}, the number of bytes after the header, which must be even"),
        };
        return field(2, "number of tokens", count, rule);
    }
    Ok(HEADER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(tokens: &[u16]) -> Vec<u8> {
        tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
    }

    fn with_header(words: &[u32], tokens: &[u16]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(HEADER, 0);
        bytes.extend(raw(tokens));
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<TokenFile, String> {
        TokenFile::parse(Path::new("t.bin"), bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn both_layouts_give_the_tokens() {
        let tokens = [3, 0, 50256, 0x0102];
        let plain = parse(&raw(&tokens)).unwrap();
        let llm_c = parse(&with_header(&[MAGIC, 1, 4], &tokens)).unwrap();
        assert_eq!((&plain.tokens[..], plain.start), (&tokens[..], 0));
        assert_eq!((&llm_c.tokens[..], llm_c.start), (&tokens[..], 1024));
        assert_eq!(raw(&tokens)[6..], [2, 1], "little endian");
        let vocabulary = |vocab| TokenFile::tokenizer(&[&plain, &llm_c], vocab);
        assert_eq!(vocabulary(None).unwrap(), Tokenizer::Tokens(50257));
        assert_eq!(vocabulary(Some(65536)).unwrap(), Tokenizer::Tokens(65536));
    }

    #[test]
    fn wrong_files_are_named_with_place_value_and_rule() {
        let told = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(told(b""), "t.bin: no tokens: there must be at least one");
        assert_eq!(told(b"abc"), "t.bin: 3 bytes: must be an even number, as each token has two");
        let good = with_header(&[MAGIC, 1, 2], &[5, 6]);
        assert_eq!(
            told(&good[..1022]),
            "t.bin: 1022 bytes: begins like a file of llm.c, whose header alone has 1024"
        );
        assert_eq!(
            told(&good[..4]),
            "t.bin: 4 bytes: begins like a file of llm.c, whose header alone has 1024"
        );
        assert_eq!(told(&with_header(&[MAGIC, 2, 2], &[5, 6])), "t.bin: byte 4: version 2: must be 1");
        let count = |words: &[u32], tokens: &[u16]| told(&with_header(words, tokens));
        assert_eq!(
            count(&[MAGIC, 1, 3], &[5, 6]),
            "t.bin: byte 8: number of tokens 3: must be 2, the number of tokens after the header"
        );
        assert_eq!(
            count(&[MAGIC, 1, u32::MAX], &[5, 6]),
            "t.bin: byte 8: number of tokens -1: must be 2, the number of tokens after the header"
        );
        assert!(
            told(&good[..1027])
                .ends_with("must be half of 3, the number of bytes after the header, which must be even")
        );
        assert_eq!(count(&[MAGIC, 1, 0], &[]), "t.bin: no tokens: there must be at least one");
        // Llama 3's tokens have 32 bits, and another magic number.
        assert_eq!(
            count(&[20_240_801, 7, 2], &[5, 0, 6, 0]),
            "t.bin: byte 0: magic number 20240801: must be 20240520, llm.c's for tokens of 16 bits"
        );
        assert!(count(&[MAGIC + 1, 1, 2], &[5, 6]).starts_with("t.bin: byte 0: magic number 20240521"));
        assert_eq!(parse(&raw(&[0; 600])).unwrap().tokens.len(), 600, "zeros are tokens");

        let files =
            [&[1, 2, 3][..], &[4, 500, 4]].map(|tokens| parse(&with_header(&[MAGIC, 1, 3], tokens)).unwrap());
        let told = |vocab| TokenFile::tokenizer(&files.each_ref(), Some(vocab)).unwrap_err().to_string();
        assert_eq!(told(500), "t.bin: byte 1026: token 500: must be below the vocabulary's size, 500");
        assert_eq!(told(2), "t.bin: byte 1026: token 2: must be below the vocabulary's size, 2");
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_unread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.bin");
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = TokenFile::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("1099511627776 bytes: must be at most 8589935614 (2^32 - 1 tokens)"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_tokens_or_an_error(
            bytes: Vec<u8>, head in prop::option::of((any::<u32>(), 0..3_u32, 0..40_u32)), flip in any::<(usize, u8)>(),
            cut in 0..1100_usize,
        ) {
            let mut bytes = match head {
                None => bytes,
                Some((magic, version, count)) => {
                    let magic = if magic % 4 > 0 { MAGIC } else { magic };
                    [with_header(&[magic, version, count], &[]), bytes].concat()
                }
            };
            let check = |bytes: &[u8]| {
                if let Ok(file) = parse(bytes) {
                    assert_eq!(file.start + 2 * file.tokens.len(), bytes.len());
                    assert_eq!(bytes[file.start..], raw(&file.tokens));
                    let vocab = TokenFile::tokenizer(&[&file], None).unwrap().vocab();
                    assert!((1..=Tokenizer::MAX).contains(&vocab));
                    assert!(vocab == 1 || TokenFile::tokenizer(&[&file], Some(vocab - 1)).is_err());
                }
            };
            check(&bytes);
            check(&bytes[..cut.min(bytes.len())]);
            if !bytes.is_empty() {
                let at = flip.0 % bytes.len().min(16);
                bytes[at] ^= flip.1;
                check(&bytes);
            }
        }
    }
}
