//! Text to tokens and back: a number for each character that occurs, one for each byte, or the numbers themselves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Turns text into tokens. It is saved in a model's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum Tokenizer {
    /// A token is a character of the training text; numbers ascend with code points.
    Char(Characters),
    /// A token is a byte, whatever the text: 256 of them.
    Byte,
    /// A token is a number below this one, from 1 to [`Tokenizer::MAX`], and means nothing here. As text it is
    /// written in decimal digits, with a space after it.
    Tokens(usize),
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
    /// A token is a byte, whatever the text's encoding.
    Byte,
    /// The file has tokens of 16 bits, little endian: nanoGPT's or llm.c's .bin.
    Tokens,
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Nothing to make a vocabulary of.
    #[error("empty: there must be a text to learn from")]
    Empty,
    /// Bytes that are no characters.
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
    /// A word that is no token.
    #[error("{word:?} at byte {at}: must be a token's number, below the vocabulary's size, {vocab}")]
    NotToken {
        /// The word, or its beginning.
        word: String,
        /// Its place in the text.
        at: usize,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// A vocabulary of too few or too many tokens.
    #[error("a vocabulary of {0} tokens: must be at least 1 and at most {max}", max = Tokenizer::MAX)]
    Vocabulary(usize),
    /// A vocabulary that does not ascend.
    #[error("the vocabulary's characters must ascend: {after:?} follows {before:?}")]
    Order {
        /// A character.
        before: char,
        /// The next one.
        after: char,
    },
}

/// A tokenizer in a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Stored {
    Char { characters: String },
    Byte,
    Tokens { vocab: usize },
}

impl From<Tokenizer> for Stored {
    fn from(tokenizer: Tokenizer) -> Self {
        match tokenizer {
            Tokenizer::Char(Characters(characters)) => {
                Stored::Char { characters: characters.into_iter().collect() }
            }
            Tokenizer::Byte => Stored::Byte,
            Tokenizer::Tokens(vocab) => Stored::Tokens { vocab },
        }
    }
}

impl TryFrom<Stored> for Tokenizer {
    type Error = TokenizerError;

    fn try_from(stored: Stored) -> Result<Self, TokenizerError> {
        let characters: Vec<char> = match stored {
            Stored::Char { characters } => characters.chars().collect(),
            Stored::Byte => return Ok(Tokenizer::Byte),
            Stored::Tokens { vocab } if (1..=Tokenizer::MAX).contains(&vocab) => {
                return Ok(Tokenizer::Tokens(vocab));
            }
            Stored::Tokens { vocab } => return Err(TokenizerError::Vocabulary(vocab)),
        };
        if let Some(pair) = characters.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(TokenizerError::Order { before: pair[0], after: pair[1] });
        }
        Tokenizer::of(characters)
    }
}

impl Tokenizer {
    /// Tokens are numbers of sixteen bits.
    pub const MAX: usize = 1 << 16;

    /// The tokenizer for a text, which for [`Kind::Tokens`] is numbers with space between them.
    ///
    /// # Errors
    /// The text is empty, or is no text.
    pub fn new(kind: Kind, text: &[u8]) -> Result<Self, TokenizerError> {
        match kind {
            _ if text.is_empty() => Err(TokenizerError::Empty),
            Kind::Byte => Ok(Tokenizer::Byte),
            Kind::Char => Tokenizer::chars(&[text]),
            Kind::Tokens => {
                let tokens = Tokenizer::Tokens(Self::MAX).encode(text)?;
                Ok(Tokenizer::Tokens(1 + usize::from(*tokens.iter().max().ok_or(TokenizerError::Empty)?)))
            }
        }
    }

    /// The tokenizer for the characters of several texts.
    pub(super) fn chars(texts: &[&[u8]]) -> Result<Self, TokenizerError> {
        let mut characters = BTreeSet::new();
        for text in texts {
            characters.extend(utf8(text)?.chars());
        }
        Tokenizer::of(characters.into_iter().collect())
    }

    /// Of characters that ascend.
    fn of(characters: Vec<char>) -> Result<Self, TokenizerError> {
        match characters.len() {
            0 => Err(TokenizerError::Empty),
            n if n > Self::MAX => Err(TokenizerError::TooMany(n)),
            _ => Ok(Tokenizer::Char(Characters(characters))),
        }
    }

    /// The size of the vocabulary.
    pub fn vocab(&self) -> usize {
        match self {
            Tokenizer::Char(Characters(characters)) => characters.len(),
            Tokenizer::Byte => 256,
            Tokenizer::Tokens(vocab) => *vocab,
        }
    }

    /// The unit of a text's length, for messages.
    pub fn unit(&self) -> &'static str {
        match self {
            Tokenizer::Char(_) => "characters",
            Tokenizer::Byte => "bytes",
            Tokenizer::Tokens(_) => "tokens",
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Something in it has no number.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u16>, TokenizerError> {
        let characters = match self {
            Tokenizer::Char(Characters(characters)) => characters,
            Tokenizer::Byte => return Ok(text.iter().map(|&byte| byte.into()).collect()),
            Tokenizer::Tokens(vocab) => return numbers(text, *vocab),
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

    /// The token that a text without any begins with: a line's end, or token 0 where the vocabulary has none.
    pub fn start(&self) -> u16 {
        match self {
            Tokenizer::Tokens(_) => 0,
            _ => self.encode(b"\n").map_or(0, |tokens| tokens[0]),
        }
    }

    /// A prompt as [`Tokenizer::decode`] writes it, so that more can follow.
    pub fn echo(&self, prompt: &str) -> String {
        match self {
            Tokenizer::Tokens(_) => prompt.split_ascii_whitespace().flat_map(|word| [word, " "]).collect(),
            _ => prompt.to_owned(),
        }
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
            Tokenizer::Tokens(vocab) => {
                assert!(usize::from(token) < *vocab, "token {token}: the vocabulary has {vocab}");
                bytes.extend_from_slice(format!("{token} ").as_bytes());
            }
        }
    }
}

/// The tokens of a text that is their numbers.
fn numbers(text: &[u8], vocab: usize) -> Result<Vec<u16>, TokenizerError> {
    let (mut tokens, mut end) = (Vec::new(), 0);
    for word in text.split(u8::is_ascii_whitespace) {
        let at = end;
        end += word.len() + 1;
        if word.is_empty() {
            continue;
        }
        let digits = str::from_utf8(word).ok().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
        match digits.and_then(|word| word.parse::<u16>().ok()).filter(|&token| usize::from(token) < vocab) {
            Some(token) => tokens.push(token),
            None => {
                let word = String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned();
                return Err(TokenizerError::NotToken { word, at, vocab });
            }
        }
    }
    Ok(tokens)
}

pub(super) fn utf8(text: &[u8]) -> Result<&str, TokenizerError> {
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
    fn tokens_are_numbers() {
        let tokenizer = Tokenizer::new(Kind::Tokens, b" 7 0\n12 ").unwrap();
        assert_eq!((&tokenizer, tokenizer.vocab(), tokenizer.unit()), (&Tokenizer::Tokens(13), 13, "tokens"));
        assert_eq!(round_trip(&tokenizer, b"\t7 0\r\n012"), b"7 0 12 ");
        assert_eq!(
            (tokenizer.echo("7  0"), tokenizer.echo(""), tokenizer.start()),
            ("7 0 ".into(), String::new(), 0)
        );
        let told = |text: &str| tokenizer.encode(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            told("7 13"),
            "\"13\" at byte 2: must be a token's number, below the vocabulary's size, 13"
        );
        for wrong in ["1 -1", "1 +1", "1 To", "1 65536", "1 99999999999999999999", "1 1.0"] {
            assert!(told(wrong).contains("at byte 2: must be a token's number"), "{wrong}");
        }
        assert!(told(&"9".repeat(1000)).len() < 200);
        assert_eq!(Tokenizer::new(Kind::Tokens, b" \n"), Err(TokenizerError::Empty));
        let json = serde_json::to_string(&tokenizer).unwrap();
        assert_eq!(json, r#"{"kind":"tokens","vocab":13}"#);
        assert_eq!(serde_json::from_str::<Tokenizer>(&json).unwrap(), tokenizer);
        let stored = |vocab: usize| {
            let json = format!(r#"{{"kind":"tokens","vocab":{vocab}}}"#);
            serde_json::from_str::<Tokenizer>(&json).map_err(|e| e.to_string())
        };
        assert!(stored(65536).is_ok());
        for vocab in [0, 65537, usize::MAX] {
            let error = stored(vocab).unwrap_err();
            assert!(
                error.starts_with(&format!("a vocabulary of {vocab} tokens: must be at least 1")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_empty_prompt_begins_with_a_line() {
        assert_eq!(Tokenizer::new(Kind::Byte, b"a").unwrap().start(), 10);
        assert_eq!(Tokenizer::new(Kind::Char, b"\t\na").unwrap().start(), 1);
        assert_eq!(Tokenizer::new(Kind::Char, b"ab").unwrap().start(), 0);
        assert_eq!(Tokenizer::Byte.echo("a  b"), "a  b");
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
        fn any_bytes_are_numbers_or_an_error(
            text in proptest::collection::vec(proptest::sample::select(&b"0159 \n-x\xff"[..]), 0..20),
        ) {
            if let Ok(tokenizer) = Tokenizer::new(Kind::Tokens, &text) {
                let tokens = tokenizer.encode(&text).unwrap();
                proptest::prop_assert_eq!(tokenizer.encode(&round_trip(&tokenizer, &text)).unwrap(), tokens);
            }
        }

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
