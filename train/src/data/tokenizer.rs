//! Text to tokens and back: a number for each character that occurs, or one for each byte.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How a text is cut into tokens. It is saved in a model's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum Tokenizer {
    /// A token is a character of the text that was learnt from; numbers ascend with code points.
    Char(Characters),
    /// A token is a byte, whatever the text: 256 of them.
    Byte,
}

/// The characters that have a number, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characters(Vec<char>);

/// Which tokenizer to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A token is a character that occurs in the text, which is UTF-8.
    #[default]
    Char,
    /// A token is a byte; any file will do.
    Byte,
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Nothing to make a vocabulary of.
    #[error("empty: there must be a text to learn from")]
    Empty,
    /// Characters are asked for, and these bytes are none.
    #[error(
        "byte {at} (0x{byte:02x}) is not valid UTF-8, which characters need: --tokenizer byte takes any file"
    )]
    NotUtf8 {
        /// Where the first wrong sequence begins.
        at: usize,
        /// Its first byte.
        byte: u8,
    },
    /// More characters than numbers.
    #[error("{0} different characters: must be at most {max}; --tokenizer byte has 256 tokens", max = Tokenizer::MAX)]
    TooMany(usize),
    /// A character without a number.
    #[error(
        "character {character:?} at byte {at} is not in the model's vocabulary of {vocab} characters: {known}"
    )]
    Unknown {
        /// The character.
        character: char,
        /// Where it stands.
        at: usize,
        /// How many the vocabulary has.
        vocab: usize,
        /// The vocabulary, or its beginning.
        known: String,
    },
    /// A vocabulary that does not ascend.
    #[error("the vocabulary's characters must ascend: {after:?} follows {before:?}")]
    Order {
        /// A character.
        before: char,
        /// The next one.
        after: char,
    },
}

/// What a file holds of a tokenizer.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Stored {
    Char { characters: String },
    Byte,
}

impl From<Tokenizer> for Stored {
    fn from(tokenizer: Tokenizer) -> Self {
        match tokenizer {
            Tokenizer::Char(Characters(characters)) => {
                Stored::Char { characters: characters.into_iter().collect() }
            }
            Tokenizer::Byte => Stored::Byte,
        }
    }
}

impl TryFrom<Stored> for Tokenizer {
    type Error = TokenizerError;

    fn try_from(stored: Stored) -> Result<Self, TokenizerError> {
        let Stored::Char { characters } = stored else { return Ok(Tokenizer::Byte) };
        let characters: Vec<char> = characters.chars().collect();
        if let Some(pair) = characters.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(TokenizerError::Order { before: pair[0], after: pair[1] });
        }
        Tokenizer::of(characters)
    }
}

impl Tokenizer {
    /// Tokens are numbers of sixteen bits.
    pub const MAX: usize = 1 << 16;

    /// The tokenizer for a text.
    ///
    /// # Errors
    /// The text is empty, or is no text.
    pub fn new(kind: Kind, text: &[u8]) -> Result<Self, TokenizerError> {
        match kind {
            _ if text.is_empty() => Err(TokenizerError::Empty),
            Kind::Byte => Ok(Tokenizer::Byte),
            Kind::Char => Tokenizer::of(utf8(text)?.chars().collect::<BTreeSet<_>>().into_iter().collect()),
        }
    }

    /// Of characters that ascend.
    fn of(characters: Vec<char>) -> Result<Self, TokenizerError> {
        match characters.len() {
            0 => Err(TokenizerError::Empty),
            n if n > Self::MAX => Err(TokenizerError::TooMany(n)),
            _ => Ok(Tokenizer::Char(Characters(characters))),
        }
    }

    /// How many tokens there are.
    pub fn vocab(&self) -> usize {
        match self {
            Tokenizer::Char(Characters(characters)) => characters.len(),
            Tokenizer::Byte => 256,
        }
    }

    /// What a token is, in a word.
    pub fn unit(&self) -> &'static str {
        match self {
            Tokenizer::Char(_) => "characters",
            Tokenizer::Byte => "bytes",
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Something in it has no number.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u16>, TokenizerError> {
        let Tokenizer::Char(Characters(characters)) = self else {
            return Ok(text.iter().map(|&byte| byte.into()).collect());
        };
        let number = |(at, character): (usize, char)| match characters.binary_search(&character) {
            Ok(number) => Ok(number as u16),
            Err(_) => {
                let mut known: String =
                    characters.iter().take(200).collect::<String>().escape_debug().collect();
                known.extend((characters.len() > 200).then_some(" ..."));
                Err(TokenizerError::Unknown { character, at, vocab: characters.len(), known })
            }
        };
        utf8(text)?.char_indices().map(number).collect()
    }

    /// Appends the bytes of a token.
    ///
    /// # Panics
    /// If it is not in the vocabulary.
    pub fn decode(&self, token: u16, bytes: &mut Vec<u8>) {
        match self {
            Tokenizer::Char(Characters(characters)) => {
                let mut buffer = [0; 4];
                bytes.extend_from_slice(characters[usize::from(token)].encode_utf8(&mut buffer).as_bytes());
            }
            Tokenizer::Byte => bytes.push(u8::try_from(token).expect("a byte's token is below 256")),
        }
    }
}

fn utf8(text: &[u8]) -> Result<&str, TokenizerError> {
    str::from_utf8(text)
        .map_err(|e| TokenizerError::NotUtf8 { at: e.valid_up_to(), byte: text[e.valid_up_to()] })
}

/// Bytes on their way to a reader of text: characters that are not complete wait, and what can never become one is
/// replaced.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream(Vec<u8>);

impl Utf8Stream {
    /// The bytes to add to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Takes what is complete.
    pub fn take(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.0.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            // At the end, the beginning of a character may still be followed by its rest.
            let last = done + invalid.len() == self.0.len();
            let waits = last && str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if !invalid.is_empty() && !waits {
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid.len();
            }
        }
        self.0.drain(..done);
        text
    }

    /// Takes all; what is not complete is replaced.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.0).into_owned();
        self.0.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tokenizer: &Tokenizer, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        tokenizer.encode(text).unwrap().into_iter().for_each(|token| tokenizer.decode(token, &mut bytes));
        bytes
    }

    #[test]
    fn characters_are_numbered_in_order_and_come_back() {
        let text = "zebra, Äpfel, 漢字 🦀\n".as_bytes();
        let tokenizer = Tokenizer::new(Kind::Char, text).unwrap();
        assert_eq!(round_trip(&tokenizer, text), text);
        assert_eq!(tokenizer.encode("\n ,a".as_bytes()).unwrap(), [0, 1, 2, 3]);
        assert_eq!(tokenizer.vocab(), 15);
        let json = serde_json::to_string(&tokenizer).unwrap();
        assert!(json.starts_with(r#"{"kind":"char","characters":"\n ,abefl"#), "{json}");
        assert_eq!(serde_json::from_str::<Tokenizer>(&json).unwrap(), tokenizer);
    }

    #[test]
    fn bytes_take_anything() {
        let all: Vec<u8> = (0..=255).collect();
        let tokenizer = Tokenizer::new(Kind::Byte, &all[128..]).unwrap();
        assert_eq!((tokenizer.vocab(), round_trip(&tokenizer, &all)), (256, all));
        assert_eq!(serde_json::to_string(&tokenizer).unwrap(), r#"{"kind":"byte"}"#);
    }

    #[test]
    fn what_has_no_number_is_named() {
        let told = |text: &[u8]| Tokenizer::new(Kind::Char, text).unwrap_err().to_string();
        assert!(told(b"").starts_with("empty"));
        assert!(told(b"good\xffbad").starts_with("byte 4 (0xff) is not valid UTF-8"));
        assert!(told("cut: ä".as_bytes().split_last().unwrap().1).starts_with("byte 5 (0xc3)"));
        let tokenizer = Tokenizer::new(Kind::Char, b"ab\n").unwrap();
        let unknown = tokenizer.encode("abba!".as_bytes()).unwrap_err().to_string();
        assert_eq!(
            unknown,
            "character '!' at byte 4 is not in the model's vocabulary of 3 characters: \\nab"
        );
        let many: String = (0..=0x1_1000).filter_map(char::from_u32).collect();
        assert!(told(many.as_bytes()).contains("67585 different characters: must be at most 65536"));
        let stored = |json: &str| serde_json::from_str::<Tokenizer>(json).unwrap_err().to_string();
        assert!(stored(r#"{"kind":"char","characters":"ba"}"#).contains("must ascend: 'a' follows 'b'"));
        assert!(stored(r#"{"kind":"char","characters":"aa"}"#).contains("must ascend"));
        assert!(stored(r#"{"kind":"char","characters":""}"#).contains("empty"));
        assert!(stored(r#"{"kind":"words"}"#).contains("words"));
    }

    proptest::proptest! {
        #[test]
        fn a_stream_gives_what_the_whole_gives(pieces: Vec<Vec<u8>>) {
            let mut stream = Utf8Stream::default();
            let mut text = String::new();
            for piece in &pieces {
                stream.bytes().extend_from_slice(piece);
                text.push_str(&stream.take());
            }
            text.push_str(&stream.finish());
            let whole = pieces.concat();
            proptest::prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }

        #[test]
        fn any_text_comes_back(text: String) {
            if let Ok(tokenizer) = Tokenizer::new(Kind::Char, text.as_bytes()) {
                proptest::prop_assert_eq!(round_trip(&tokenizer, text.as_bytes()), text.as_bytes());
                let json = serde_json::to_string(&tokenizer).unwrap();
                proptest::prop_assert_eq!(serde_json::from_str::<Tokenizer>(&json).unwrap(), tokenizer);
            }
        }
    }

    #[test]
    fn a_stream_holds_back_what_is_not_complete() {
        let mut stream = Utf8Stream::default();
        let mut seen = Vec::new();
        for &byte in "aä漢🦀".as_bytes() {
            stream.bytes().push(byte);
            seen.push(stream.take());
        }
        assert_eq!(seen, ["a", "", "ä", "", "", "漢", "", "", "", "🦀"]);
        // A lone continuation byte is replaced at once, a start that is not continued when that is known.
        stream.bytes().extend_from_slice(b"x\x80y\xe6\xbc");
        assert_eq!(stream.take(), "x\u{fffd}y");
        stream.bytes().push(b'z');
        assert_eq!(stream.take(), "\u{fffd}z");
        stream.bytes().extend_from_slice(b"\xf0\x9f");
        assert_eq!(
            (stream.take(), stream.finish(), stream.finish()),
            (String::new(), "\u{fffd}".into(), String::new())
        );
    }
}
