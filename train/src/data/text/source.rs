//! Where a text comes from, and reading it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Corpus, DataError};
use crate::data::file::{self, Opened};
use crate::data::stories;
use crate::data::tokenizer::{self, Kind, Tokenizer, TokenizerError};
use crate::data::tokens::{MAX_TOKENS, TokenFile};

/// The seed of the text that the program writes: the same for every run, so that losses can be compared.
const TEXT_SEED: u64 = 1;

/// The most bytes of stories.
const MAX_STORIES: usize = 1 << 30;

/// Where a run's text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file; without one the program writes stories.
    pub file: Option<PathBuf>,
    /// The file of the validation split; then all of `file` is the training split. The vocabulary is of both, so a
    /// character that only this file has is a token like any other, which training never shows to the model.
    pub validation_file: Option<PathBuf>,
    /// Bytes of the stories, at least.
    pub stories: usize,
    /// The kind of tokens.
    pub tokenizer: Kind,
    /// The vocabulary of token files; one more than the largest token if `None`.
    pub vocab: Option<usize>,
    /// The share of the text, at its end, that is the validation split.
    pub validation: f64,
}

impl Default for Source {
    fn default() -> Self {
        Source {
            file: None,
            validation_file: None,
            stories: 500_000,
            tokenizer: Kind::Char,
            vocab: None,
            validation: 0.1,
        }
    }
}

impl Source {
    /// Checks the settings without reading anything.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self) -> Result<(), DataError> {
        let Source { file, validation_file, stories, tokenizer, vocab, validation } = self;
        let wrong = |name, value: String, rule: String| Err(DataError::Setting { name, value, rule });
        if validation_file.is_none() && !(*validation > 0.0 && *validation < 1.0) {
            return Err(DataError::Share(*validation));
        }
        if file.is_none() {
            if let Some(path) = validation_file {
                let rule = "needs a file of training text, --data".to_owned();
                return wrong("validation-data", path.display().to_string(), rule);
            }
            if *tokenizer == Kind::Tokens {
                return wrong("tokenizer", "tokens".into(), "needs a token file, --data".into());
            }
            if !(1..=MAX_STORIES).contains(stories) {
                return wrong(
                    "stories",
                    stories.to_string(),
                    format!("must be at least 1 and at most {MAX_STORIES}"),
                );
            }
        }
        match vocab {
            Some(n) if *tokenizer != Kind::Tokens => wrong(
                "vocab",
                n.to_string(),
                "needs --tokenizer tokens: other vocabularies are the text's".into(),
            ),
            Some(n) if !(1..=Tokenizer::MAX).contains(n) => {
                wrong("vocab", n.to_string(), format!("must be at least 1 and at most {}", Tokenizer::MAX))
            }
            _ => Ok(()),
        }
    }

    /// The same source with absolute paths, for a checkpoint: a run that is resumed from another directory finds its
    /// text.
    ///
    /// # Errors
    /// A path is empty.
    pub fn absolute(mut self) -> Result<Self, DataError> {
        for path in [&mut self.file, &mut self.validation_file].into_iter().flatten() {
            *path = file::absolute(path)?;
        }
        Ok(self)
    }

    /// Takes the text from where it has moved to.
    ///
    /// # Errors
    /// A path is empty.
    pub fn relocate(&mut self, file: Option<&Path>, validation_file: Option<&Path>) -> Result<(), DataError> {
        for (place, moved) in [(&mut self.file, file), (&mut self.validation_file, validation_file)] {
            if let Some(path) = moved {
                *place = Some(file::absolute(path)?);
            }
        }
        Ok(())
    }

    /// Reads or writes the text, which must fill at least one window of `block` tokens and its targets in each split.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(&self, block: usize) -> Result<Corpus, DataError> {
        self.check()?;
        let Source { stories, tokenizer: kind, vocab, validation: share, .. } = *self;
        let Some(path) = &self.file else {
            let text = stories::stories(TEXT_SEED, stories);
            let corpus =
                Corpus::new("stories that the program writes".into(), text.as_bytes(), kind, share, block);
            return corpus.map_err(|e| match e {
                // The files are not to blame: there are none.
                DataError::Short { .. } => {
                    DataError::Setting { name: "stories", value: stories.to_string(), rule: e.to_string() }
                }
                e => e,
            });
        };
        let (one, more) = (path.display(), self.validation_file.as_deref());
        let name = more.map_or(one.to_string(), |more| format!("{one} and {}", more.display()));
        match (kind, more) {
            (Kind::Tokens, None) => {
                let file = TokenFile::read(path)?;
                let tokenizer = TokenFile::tokenizer(&[&file], vocab)?;
                Corpus::split(name, tokenizer, file.tokens, share, block)
            }
            (Kind::Tokens, Some(more)) => {
                let files = [TokenFile::read(path)?, TokenFile::read(more)?];
                let tokenizer = TokenFile::tokenizer(&files.each_ref(), vocab)?;
                let [train, validation] = files.map(|file| file.tokens);
                Corpus::of(name, tokenizer, train, validation, block)
            }
            (_, None) => Corpus::new(name, &text(path, kind)?, kind, share, block),
            (_, Some(more)) => {
                let texts = [text(path, kind)?, text(more, kind)?];
                let wrong = |path: &Path| {
                    let name = path.display().to_string();
                    move |source| DataError::Tokens { name, source }
                };
                if let Some(empty) = texts.iter().position(Vec::is_empty) {
                    return Err(wrong([path, more][empty])(TokenizerError::Empty));
                }
                let tokenizer = match kind {
                    Kind::Byte => Tokenizer::Byte,
                    _ => Tokenizer::chars(&texts.each_ref().map(Vec::as_slice))
                        .map_err(|source| DataError::Tokens { name: name.clone(), source })?,
                };
                let [train, validation] = texts.map(|text| tokenizer.encode(&text));
                let (train, validation) = (train.map_err(wrong(path))?, validation.map_err(wrong(more))?);
                Corpus::of(name, tokenizer, train, validation, block)
            }
        }
    }
}

impl Corpus {
    /// A text to evaluate a trained model on: all of a file, in the model's tokens, and nothing to train on.
    ///
    /// # Errors
    /// The file cannot be read, has something that is no token of the model, or does not fill a window of `block`
    /// tokens and their targets.
    pub fn to_evaluate(path: &Path, tokenizer: Tokenizer, block: usize) -> Result<Corpus, DataError> {
        let name = path.display().to_string();
        let encoded = |kind| {
            let text = text(path, kind)?;
            tokenizer.encode(&text).map_err(|source| DataError::Tokens { name: name.clone(), source })
        };
        let validation = match tokenizer {
            Tokenizer::Char(_) => encoded(Kind::Char)?,
            Tokenizer::Byte => encoded(Kind::Byte)?,
            Tokenizer::Tokens(vocab) => {
                let file = TokenFile::read(path)?;
                TokenFile::tokenizer(&[&file], Some(vocab))?;
                file.tokens
            }
        };
        let (tokens, least) = (validation.len(), block.saturating_add(1));
        if tokens < least {
            return Err(DataError::NoWindow { name, tokens, least });
        }
        Ok(Corpus { name, tokenizer, train: Vec::new(), validation })
    }
}

/// The text of a file, without byte-order mark and with the line ends of Unix.
fn text(path: &Path, kind: Kind) -> Result<Vec<u8>, DataError> {
    // A character has at most four bytes.
    let longest = if kind == Kind::Byte { 1 } else { 4 };
    let mut bytes = Opened::new(path)?.read(longest * MAX_TOKENS, "2^32 - 1 tokens")?;
    clean(path, kind, &mut bytes)?;
    Ok(bytes)
}

fn clean(path: &Path, kind: Kind, bytes: &mut Vec<u8>) -> Result<(), DataError> {
    if let Some(&(_, mark, encoding)) = file::MARKS.iter().find(|(mark, ..)| bytes.starts_with(mark)) {
        return Err(DataError::Encoding { path: path.to_owned(), encoding, mark });
    }
    if kind == Kind::Char {
        // Here, where places are still those of the file.
        let name = || path.display().to_string();
        tokenizer::utf8(bytes).map_err(|source| DataError::Tokens { name: name(), source })?;
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    // Most files have none.
    let first = bytes.iter().position(|&byte| byte == b'\r').unwrap_or(bytes.len());
    let mut to = first;
    for at in first..bytes.len() {
        if bytes[at] != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            bytes[to] = bytes[at];
            to += 1;
        }
    }
    bytes.truncate(to);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in a directory of their own.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &[u8])]) -> Files {
            let directory = tempfile::tempdir().unwrap();
            files
                .iter()
                .for_each(|(name, bytes)| std::fs::write(directory.path().join(name), bytes).unwrap());
            Files(directory)
        }

        fn source(&self, tokenizer: Kind, file: &str, validation: Option<&str>) -> Source {
            let at = |name: &str| Some(self.0.path().join(name));
            Source {
                file: at(file),
                validation_file: validation.and_then(at),
                tokenizer,
                ..Source::default()
            }
        }

        fn told(&self, source: &Source) -> String {
            let error = source.load(4).unwrap_err().to_string();
            error.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    #[test]
    fn marks_and_line_ends_are_those_of_unix() {
        for kind in [Kind::Char, Kind::Byte] {
            let clean = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                clean(Path::new("t"), kind, &mut bytes).map(|()| bytes).map_err(|e| e.to_string())
            };
            assert_eq!(clean(b"\xef\xbb\xbfa\r\nb\r\n").unwrap(), b"a\nb\n");
            assert_eq!(clean(b"\r\r\n\n\ra\r").unwrap(), b"\r\n\n\ra\r", "a lone CR stays");
            assert_eq!(clean(b"a\xef\xbb\xbf").unwrap(), b"a\xef\xbb\xbf", "elsewhere it is a character");
            assert_eq!(clean(b"").unwrap(), b"");
            let told = |bytes: &[u8]| clean(bytes).unwrap_err();
            assert_eq!(
                told(b"\xff\xfea\0"),
                "t: begins with ff fe, the byte-order mark of UTF-16LE: must be UTF-8; \
                 try: iconv -f UTF-16LE -t UTF-8 t > utf8.txt"
            );
            assert!(told(b"\xfe\xff\0a").contains("UTF-16BE"));
            assert!(told(b"\xff\xfe\0\0a\0\0\0").contains("UTF-32LE"));
            assert!(told(b"\0\0\xfe\xff\0\0\0a").contains("UTF-32BE"));
        }
        let text = "To be, or not to be\n".repeat(20);
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let files = Files::new(&[
            ("unix", text.as_bytes()),
            ("windows", windows.as_bytes()),
            ("bad", b"\xef\xbb\xbfab\r\n\xff"),
        ]);
        for kind in [Kind::Char, Kind::Byte] {
            let [a, b] = ["unix", "windows"].map(|file| files.source(kind, file, None).load(4).unwrap());
            assert_eq!((a.hash(), a.train, a.validation), (b.hash(), b.train, b.validation));
        }
        let told = files.told(&files.source(Kind::Char, "bad", None));
        assert!(told.starts_with("bad: byte 7 (0xff) is not valid UTF-8"), "as the file counts: {told}");
    }

    #[test]
    fn a_validation_file_of_its_own() {
        let files =
            Files::new(&[("train", b"abcabcabc"), ("val", b"abXab\r\n"), ("bad", b"ab\xff"), ("empty", b"")]);
        let corpus = files.source(Kind::Char, "train", Some("val")).load(4).unwrap();
        assert_eq!((corpus.tokenizer.vocab(), corpus.train.len(), corpus.validation.len()), (5, 9, 6));
        assert_eq!(corpus.validation[2], 1, "X comes after the line's end and before a");
        assert!(corpus.name.ends_with("val") && corpus.name.contains("train and "), "{}", corpus.name);
        let bytes = files.source(Kind::Byte, "train", Some("val")).load(4).unwrap();
        assert_eq!((bytes.tokenizer, bytes.validation[2]), (Tokenizer::Byte, b'X'.into()));
        // The share is not asked for, and so not checked.
        let source = Source { validation: f64::NAN, ..files.source(Kind::Char, "train", Some("val")) };
        assert_eq!(source.load(4).unwrap().hash(), corpus.hash());
        let told = |file, more| files.told(&files.source(Kind::Char, file, Some(more)));
        assert!(told("train", "bad").starts_with("bad: byte 2 (0xff)"), "{}", told("train", "bad"));
        assert!(told("bad", "train").starts_with("bad: byte 2 (0xff)"));
        assert!(told("train", "empty").starts_with("empty: empty"));
        assert!(told("train", "none").starts_with("none: "));
        assert!(told("empty", "train").starts_with("empty: empty"));
        let short = files.source(Kind::Char, "train", Some("val")).load(6).unwrap_err().to_string();
        assert!(
            short.contains("train and ") && short.contains("val: 9 tokens to train on and 6 for"),
            "{short}"
        );
    }

    #[test]
    fn token_files_are_read_with_their_vocabulary() {
        let raw = |tokens: &[u16]| tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>();
        let (train, val) = (raw(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), raw(&[9, 10, 11, 12, 13]));
        let files = Files::new(&[("train.bin", &train), ("val.bin", &val), ("odd.bin", b"abc")]);
        let source = |vocab, more| Source { vocab, ..files.source(Kind::Tokens, "train.bin", more) };
        let both = source(None, Some("val.bin")).load(4).unwrap();
        assert_eq!(
            (both.tokenizer.vocab(), both.train.len(), &both.validation[..]),
            (14, 10, &[9, 10, 11, 12, 13][..])
        );
        let gpt2 = source(Some(50257), Some("val.bin")).load(4).unwrap();
        assert_eq!((gpt2.tokenizer.vocab(), &gpt2.train), (50257, &both.train));
        assert_ne!(gpt2.hash(), both.hash());
        let one = Source { validation: 0.5, ..source(None, None) }.load(4).unwrap();
        assert_eq!((one.tokenizer.vocab(), &one.validation[..]), (11, &[6, 7, 8, 9, 10][..]));
        let told = files.told(&source(Some(12), Some("val.bin")));
        assert_eq!(told, "val.bin: byte 6: token 12: must be below the vocabulary's size, 12");
        assert!(
            files
                .told(&files.source(Kind::Tokens, "odd.bin", None))
                .starts_with("odd.bin: 3 bytes: must be an even")
        );
        let all = source(Some(1 << 16), None);
        assert_eq!(Source { validation: 0.5, ..all }.load(4).unwrap().tokenizer.vocab(), 65536);
    }

    #[test]
    fn settings_are_checked_before_any_file_is_read() {
        let nowhere = || Some(PathBuf::from("/nowhere"));
        let base = Source::default;
        let tokens = || Source { tokenizer: Kind::Tokens, file: nowhere(), ..base() };
        let wrong = [
            (Source { validation: 0.0, file: nowhere(), ..base() }, "validation = 0: "),
            (
                Source { validation_file: nowhere(), ..base() },
                "validation-data = /nowhere: needs a file of training",
            ),
            (Source { tokenizer: Kind::Tokens, ..base() }, "tokenizer = tokens: needs a token file"),
            (Source { stories: 0, ..base() }, "stories = 0: must be at least 1 and at most 1073741824"),
            (Source { stories: usize::MAX, ..base() }, "stories = 18446744073709551615: must be"),
            (Source { stories: 1, ..base() }, "stories = 1: stories that the program writes: "),
            (Source { vocab: Some(9), file: nowhere(), ..base() }, "vocab = 9: needs --tokenizer tokens"),
            (Source { vocab: Some(0), ..tokens() }, "vocab = 0: must be at least 1 and at most 65536"),
            (Source { vocab: Some(usize::MAX), ..tokens() }, "vocab = 18446744073709551615: must be"),
        ];
        for (source, message) in wrong {
            let error = source.load(999).unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(message), "{error}: {message}");
        }
        let error = tokens().load(4).unwrap_err();
        assert!(!error.is_usage() && error.to_string().starts_with("/nowhere: "), "{error}");
    }

    #[test]
    fn paths_are_stored_absolute() {
        let here = std::env::current_dir().unwrap();
        let source =
            Source { file: Some("a".into()), validation_file: Some("b".into()), ..Source::default() };
        let mut source = source.absolute().unwrap();
        assert_eq!(source.file, Some(here.join("a")));
        source.relocate(None, Some(Path::new("c"))).unwrap();
        assert_eq!((&source.file, &source.validation_file), (&Some(here.join("a")), &Some(here.join("c"))));
        source.relocate(Some(Path::new("/d")), None).unwrap();
        assert_eq!((source.file, source.validation_file), (Some("/d".into()), Some(here.join("c"))));
        let empty = Source { file: Some("".into()), ..Source::default() };
        assert!(empty.absolute().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_for_every_tokenizer() {
        for kind in [Kind::Char, Kind::Byte, Kind::Tokens] {
            let files = Files::new(&[("train", b"abababab")]);
            for [file, more] in [["/dev/zero", "train"], ["train", "/dev/zero"]] {
                let told = files.told(&files.source(kind, file, Some(more)));
                assert_eq!(
                    told,
                    "/dev/zero: is a character device: must be a regular file; \
                     what comes through a pipe must be saved to a file first"
                );
            }
            assert!(files.told(&files.source(kind, ".", None)).contains("is a directory"));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_files_are_a_corpus_or_an_error(
            train in proptest::collection::vec(
                proptest::sample::select(&b"ab\r\n\xef\xbb\xbf\xff\xfe\0\xc3\xa4"[..]), 0..60,
            ),
            val: Vec<u8>, share in 0.0..1.0_f64, block in 1..9_usize, vocab in proptest::option::of(0..70000_usize),
        ) {
            let files = Files::new(&[("train", &train), ("val", &val)]);
            for kind in [Kind::Char, Kind::Byte, Kind::Tokens] {
                for more in [None, Some("val")] {
                    let vocab = vocab.filter(|_| kind == Kind::Tokens);
                    let source = Source { validation: share, vocab, ..files.source(kind, "train", more) };
                    let Ok(corpus) = source.load(block) else { continue };
                    let least = corpus.train.len().min(corpus.validation.len());
                    proptest::prop_assert!(least > block);
                    let all = corpus.train.iter().chain(&corpus.validation);
                    proptest::prop_assert!(all.copied().all(|t| usize::from(t) < corpus.tokenizer.vocab()));
                }
            }
        }
    }
}
