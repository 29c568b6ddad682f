//! Damage is detected, wherever it is, and what is whole can be had.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hotlanes_replay::files::System;
use hotlanes_replay::store::{self, LOCK, MANIFEST, Store};

use super::small::{add, all, buffer};

/// A saved buffer of some segments.
fn saved(compress: bool) -> tempfile::TempDir {
    let buffer = buffer(24, 4);
    let mut writer = buffer.writer(1).unwrap();
    add(&mut writer, 0, 0, 20);
    let directory = tempfile::tempdir().unwrap();
    Store::create(directory.path(), &buffer).unwrap().compress(compress).save(b"extra").unwrap();
    directory
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with(LOCK)).collect()
}

/// Whether both a full check and an open see something, and name the file.
fn detected(directory: &Path, file: &Path, told: &str) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let problem = match store::verify(directory) {
        Err(problem) => problem.to_string(),
        Ok(checked) => {
            assert_eq!(checked.problems.len(), 1, "{name}: {told}");
            checked.problems[0].to_string()
        }
    };
    assert!(problem.contains(name), "{name}: {told}: {problem}");
    let error = Store::open(directory).err().unwrap_or_else(|| panic!("{name}: {told}: opened")).to_string();
    assert!(error.contains(name), "{name}: {told}: {error}");
}

#[test]
fn every_flipped_byte_is_detected() {
    for compress in [false, true] {
        let directory = saved(compress);
        let files = files(directory.path());
        assert_eq!(files.len(), 4 + 2);
        for file in files {
            let bytes = fs::read(&file).unwrap();
            for at in 0..bytes.len() {
                let flip = [1, 0xFF, 0x80][at % 3];
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                fs::write(&file, damaged).unwrap();
                detected(directory.path(), &file, &format!("byte {at} of {} ^ {flip}", bytes.len()));
            }
            for len in [0, 3, bytes.len() / 2, bytes.len() - 1] {
                fs::write(&file, &bytes[..len]).unwrap();
                detected(directory.path(), &file, &format!("cut to {len}"));
            }
            fs::write(&file, [&bytes[..], b"x"].concat()).unwrap();
            detected(directory.path(), &file, "a byte more");
            fs::remove_file(&file).unwrap();
            detected(directory.path(), &file, "removed");
            fs::write(&file, &bytes).unwrap();
        }
        assert!(store::verify(directory.path()).unwrap().problems.is_empty());
        Store::open(directory.path()).unwrap();
    }
}

#[test]
fn segments_that_were_exchanged_are_detected() {
    let directory = saved(false);
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("segment");
    let segments: Vec<_> = files(directory.path()).into_iter().filter(is_segment).collect();
    assert_eq!(segments.len(), 4);
    for a in &segments {
        for b in segments.iter().filter(|b| *b != a) {
            let whole = fs::read(b).unwrap();
            fs::copy(a, b).unwrap();
            detected(directory.path(), b, "exchanged");
            fs::write(b, whole).unwrap();
        }
    }
}

#[test]
fn what_is_whole_is_salvaged() {
    let whole = |directory: &Path| -> BTreeSet<u64> {
        all(Store::open(directory).unwrap().buffer()).unwrap().0.ids.into_iter().collect()
    };
    for file in
        files(saved(true).path()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
    {
        let directory = saved(true);
        let want = whole(directory.path());
        // Names differ from run to run: the same kind of file, with the same number.
        let path = files(directory.path()).into_iter().find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split('-').next() == file.split('-').next()
                && name.split('-').next_back() == file.split('-').next_back()
        });
        let path = path.unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        let into = tempfile::tempdir().unwrap();
        let (checked, store, _) = store::salvage(&System, directory.path(), into.path()).unwrap();
        assert_eq!(checked.problems.len(), 1, "{file}: {:?}", checked.problems);
        drop(store);
        let got = whole(into.path());
        assert!(got.is_subset(&want), "{file}");
        let lost = want.len() - got.len();
        // Only a segment's damage loses records: its own, and the end of the return before it.
        if file.starts_with("segment") {
            assert!((1..=8).contains(&lost), "{file}: {lost} lost");
        } else {
            assert_eq!(lost, 0, "{file}");
        }
        assert!(store::verify(into.path()).unwrap().problems.is_empty());
        assert_eq!(file == MANIFEST, Store::open(into.path()).unwrap().extra().is_empty());
    }
    let told = store::salvage(&System, tempfile::tempdir().unwrap().path(), Path::new("x"))
        .err()
        .unwrap()
        .to_string();
    assert!(told.contains("has no segment whose head can be read"), "{told}");
}
