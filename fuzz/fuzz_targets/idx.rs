//! Pairs of IDX files: plain, packed, and packed by the target itself, since no random bytes have the right checksum.
#![no_main]

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hotlanes_fuzz::scratch;
use hotlanes_train::data::idx::{self, CLASSES};
use libfuzzer_sys::fuzz_target;

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, at, bytes @ ..] = bytes else { return };
    let (labels, images) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let directory = scratch();
    let paths = ["images", "labels"].map(|name| directory.path().join(name));
    for ((path, bytes), bit) in paths.iter().zip([images, labels]).zip([1, 2]) {
        let packed = (mode & bit != 0).then(|| pack(bytes));
        fs::write(path, packed.as_deref().unwrap_or(bytes)).expect("a scratch file");
    }
    if let Ok(data) = idx::read(&paths[0], &paths[1]) {
        assert_eq!(data.pixels.len(), data.labels.len() * data.features);
        assert!(data.labels.iter().all(|&label| usize::from(label) < CLASSES));
    }
});
