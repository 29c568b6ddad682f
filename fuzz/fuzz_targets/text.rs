//! Texts and token files, for each tokenizer.
#![no_main]

use std::fs;

use hotlanes_fuzz::scratch;
use hotlanes_train::data::text::Source;
use hotlanes_train::data::tokenizer::Kind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [mode, block, at, bytes @ ..] = bytes else { return };
    let directory = scratch();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("a scratch file");
        Some(path)
    };
    let (kind, ending) =
        [(Kind::Char, "txt"), (Kind::Byte, "txt"), (Kind::Tokens, "bin")][usize::from(mode % 3)];
    let (train, validation) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let two = mode & 64 != 0;
    let source = Source {
        file: write(&format!("train.{ending}"), if two { train } else { bytes }),
        validation_file: if two { write(&format!("validation.{ending}"), validation) } else { None },
        tokenizer: kind,
        ..Source::default()
    };
    if let Ok(corpus) = source.load(usize::from(*block)) {
        let vocab = corpus.tokenizer.vocab();
        assert!(corpus.train.iter().chain(&corpus.validation).all(|&token| usize::from(token) < vocab));
        assert!(corpus.train.len().min(corpus.validation.len()) > usize::from(*block));
        assert_eq!(corpus.hash(), source.load(usize::from(*block)).expect("it was read before").hash());
    }
});
