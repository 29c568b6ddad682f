//! Files that promise much: refused in little memory and time.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hotlanes_train::data::idx;
use hotlanes_train::data::text::Source;
use hotlanes_train::data::tokenizer::Kind;

/// The most address space that the process has had, in kilobytes: memory that was asked for counts, used or not.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn idx(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A file of this length that takes no room on the disk.
fn sparse(path: &Path, start: &[u8], len: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(start).unwrap();
    file.set_len(len).unwrap();
}

/// `bytes` and then so many megabytes of zeros, packed.
fn bomb(path: &Path, bytes: &[u8], megabytes: usize) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap();
}

#[test]
fn files_that_promise_much_cost_little() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (many, two) = (idx(&[0x0803, 1 << 20, 32, 32]), idx(&[0x0803, 2, 1, 2]));
    fs::write(at("cut"), &many).unwrap();
    fs::write(at("cut.gz"), [&[0x1f, 0x8b, 8, 0][..], &[0; 6]].concat()).unwrap();
    sparse(&at("long"), &many, 1 << 40);
    sparse(&at("longer"), &two, 1 << 40);
    bomb(&at("bomb"), &two, 64);
    bomb(&at("lie"), &many, 1);
    bomb(&at("huge"), &idx(&[0x0803, u32::MAX, u32::MAX, u32::MAX]), 1);
    sparse(&at("many labels"), &idx(&[0x0801, 1 << 20]), 8 + (1 << 20));
    fs::write(at("two labels"), idx(&[0x0801, 2]).into_iter().chain([1, 2]).collect::<Vec<u8>>()).unwrap();
    sparse(&at("text"), b"text", 1 << 42);
    let header = [20_240_520_u32, 1, i32::MAX as u32].map(u32::to_le_bytes).concat();
    sparse(&at("llm.c"), &header, 1 << 42);
    fs::write(at("short llm.c"), header.iter().copied().chain([0; 1012]).collect::<Vec<u8>>()).unwrap();

    let (before, start) = (peak(), Instant::now());
    for images in ["cut", "cut.gz", "long", "longer", "bomb", "lie", "huge"] {
        for labels in ["many labels", "two labels", "long"] {
            let read = idx::read(&at(images), &at(labels));
            assert!(read.is_err(), "{images}, {labels}");
        }
    }
    for kind in [Kind::Char, Kind::Byte, Kind::Tokens] {
        for name in ["text", "llm.c"] {
            let source = Source { file: Some(at(name)), tokenizer: kind, ..Source::default() };
            let error = source.load(4).unwrap_err().to_string();
            assert!(error.contains("4398046511104 bytes: must be at most"), "{error}");
        }
    }
    let source = Source { file: Some(at("short llm.c")), tokenizer: Kind::Tokens, ..Source::default() };
    let error = source.load(4).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "byte 8: number of tokens 2147483647: must be 0, the number of tokens after the header"
        ),
        "{error}"
    );
    for digits in [1_000_001, usize::MAX] {
        assert!(idx::Source { place: None, digits, validation: 1 }.load(1).is_err());
    }
    for stories in [(1 << 30) + 1, usize::MAX] {
        assert!(Source { stories, ..Source::default() }.load(4).is_err());
    }
    let grown = peak() - before;
    assert!(grown < 32 << 10, "{grown} kB");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
