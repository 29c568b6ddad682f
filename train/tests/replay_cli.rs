//! `hotlanes replay` on directories that are whole, damaged, and none.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use hotlanes_replay::store::Store;
use hotlanes_replay::{Buffer, Codec, Column, Config, Data, Dtype, Schema};

fn replay(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_hotlanes")).arg("replay").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn saved(directory: &Path) {
    let policy = Column::new("policy", Dtype::F32, &[50]).codec(Codec::TopK { k: 4, bf16: true });
    let schema = Schema::new(vec![Column::new("obs", Dtype::U8, &[4]), policy]).unwrap();
    let buffer = Buffer::new(schema, Config { segments: 4, ..Config::new(40) }).unwrap();
    let mut writer = buffer.writer(1).unwrap();
    writer.add(25, &[Data::U8(&[1; 100]), Data::F32(&[0.0; 25 * 50])], &[]).unwrap();
    Store::create(directory, &buffer).unwrap().save(&[]).unwrap();
}

#[test]
fn a_saved_buffer_is_described_verified_and_salvaged() {
    let root = tempfile::tempdir().unwrap();
    let (from, into) = (root.path().join("from"), root.path().join("into"));
    saved(&from);
    let (from_text, into_text) = (from.to_str().unwrap(), into.to_str().unwrap());
    let (code, info, _) = replay(&["info", from_text]);
    assert_eq!(code, 0);
    assert!(info.contains(": 25 records in 3 segments, "), "{info}");
    assert!(info.contains("capacity 40 records, eviction by segment\n"), "{info}");
    assert!(
        info.contains("  obs: u8 [4], Raw\n  policy: f32 [50], TopK { k: 4, bf16: true }, rounded\n"),
        "{info}"
    );
    assert_eq!(replay(&["verify", from_text]), (0, info, String::new()));

    let segment = fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.to_str().unwrap().contains("/segment-")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, out, err) = replay(&["verify", from_text]);
    assert_eq!(code, 1);
    assert!(out.contains(" in 2 segments, ") && out.ends_with("1 files are damaged\n"), "{out}");
    assert!(err.contains(segment.to_str().unwrap()) && err.contains("its checksum differs"), "{err}");

    // It says by its code that not all was there.
    let (code, out, _) = replay(&["salvage", from_text, "--out", into_text]);
    assert_eq!(code, 1);
    assert!(out.starts_with(into_text), "{out}");
    assert_eq!(replay(&["verify", into_text]).0, 0);
    let (code, _, err) = replay(&["salvage", from_text, "--out", into_text]);
    assert!(code == 1 && err.contains("there is a buffer in the directory"), "{err}");
}

#[test]
fn a_directory_without_a_buffer_is_named() {
    for command in ["info", "verify"] {
        let (code, out, err) = replay(&[command, "/nowhere"]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.starts_with("hotlanes: /nowhere/MANIFEST: "), "{err}");
    }
}
