//! Data files, whole and broken.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use hotlanes_train::data::idx::{DataError, Split, read};

const IMAGES: &str = "t10k-images-idx3-ubyte";
const LABELS: &str = "t10k-labels-idx1-ubyte";

/// An IDX file's bytes.
fn idx(magic: u32, shape: &[u32], values: &[u8]) -> Vec<u8> {
    let words = [magic].into_iter().chain(shape.iter().copied());
    words.flat_map(u32::to_be_bytes).chain(values.iter().copied()).collect()
}

fn images(count: u32) -> Vec<u8> {
    let values: Vec<u8> = (0..count * 6).map(|i| i as u8).collect();
    idx(0x0803, &[count, 2, 3], &values)
}

fn labels(count: u32) -> Vec<u8> {
    let values: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
    idx(0x0801, &[count], &values)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What reading a pair of files says.
fn told(images: &[u8], labels: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (i, l) = (directory.path().join("images"), directory.path().join("labels"));
    fs::write(&i, images).unwrap();
    fs::write(&l, labels).unwrap();
    let message = read(&i, &l).map(|_| ()).unwrap_err().to_string();
    message.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn plain_and_gzip_files_give_the_same_images() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path(IMAGES), images(50)).unwrap();
    fs::write(path(LABELS), labels(50)).unwrap();
    let plain = Split::load(directory.path(), 8).unwrap();
    assert_eq!((plain.train.len(), plain.validation.len(), plain.test.len()), (32, 8, 10));
    assert_eq!(plain.test.labels, [4, 9, 4, 9, 4, 9, 4, 9, 4, 9]);
    assert_eq!(plain.test.image(1), &images(50)[16 + 9 * 6..][..6]);

    fs::remove_file(path(IMAGES)).unwrap();
    fs::write(path(&format!("{IMAGES}.gz")), gzip(&images(50))).unwrap();
    fs::write(path(&format!("{LABELS}.gz")), gzip(&labels(50))).unwrap();
    let packed = Split::load(directory.path(), 8).unwrap();
    assert_eq!((&packed.train, &packed.test), (&plain.train, &plain.test));

    // The sixty thousand, where they are, are learnt from.
    fs::write(path("train-images-idx3-ubyte"), images(70)).unwrap();
    fs::write(path("train-labels-idx1-ubyte"), labels(70)).unwrap();
    let both = Split::load(directory.path(), 10).unwrap();
    assert_eq!((both.train.len(), both.validation.len(), both.test.len()), (60, 10, 50));
    fs::write(path("train-images-idx3-ubyte"), idx(0x0803, &[70, 1, 1], &[0; 70])).unwrap();
    let error = Split::load(directory.path(), 10).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "t10k-images-idx3-ubyte.gz: images of 6 pixels, but the training images have 1: must be as many"
        ),
        "{error}"
    );
}

#[test]
fn broken_files_are_named_with_the_value_and_the_rule() {
    let good = (images(20), labels(20));
    assert_eq!(told(&good.1, &good.1), "images: magic number 0x00000801: images start with 0x00000803");
    assert_eq!(told(&good.0, &good.0), "labels: magic number 0x00000803: labels start with 0x00000801");
    assert_eq!(
        told(&good.0[..100], &good.1),
        "images: 100 bytes: the header (images 20 x 2 x 3) asks for 136"
    );
    assert_eq!(
        told(&[&good.0[..], &[0]].concat(), &good.1),
        "images: 137 bytes: the header (images 20 x 2 x 3) asks for 136"
    );
    assert_eq!(
        told(&[], &good.1),
        "images: 0 bytes: the header (magic number and 3 dimensions of images) asks for 16"
    );
    assert_eq!(
        told(&good.0[..9], &good.1),
        "images: 9 bytes: the header (magic number and 3 dimensions of images) asks for 16"
    );
    assert_eq!(told(&good.0, &labels(19)), "labels: 19 labels for the 20 images of images: must be as many");
    assert_eq!(
        told(&idx(0x0803, &[0, 28, 28], &[]), &labels(0)),
        "images: images 0 x 28 x 28: there must be at least one image of at least one pixel"
    );
    assert!(told(&idx(0x0803, &[u32::MAX; 3], &[]), &good.1).ends_with("at most 1073741824 values are read"));
    let mut wrong = good.1.clone();
    wrong[8 + 7] = 12;
    assert_eq!(told(&good.0, &wrong), "labels: label 12 of image 7: must be below 10");
    let packed = gzip(&good.0);
    let cut = told(&packed[..packed.len() / 2], &good.1);
    assert!(cut.starts_with("images: "), "{cut}");
    assert_eq!(
        told(&gzip(&good.0[..50]), &good.1),
        "images: 50 bytes: the header (images 20 x 2 x 3) asks for 136"
    );
}

#[test]
fn a_directory_without_files_and_a_set_too_small_are_told() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Split::load(directory.path(), 5), Err(DataError::Missing { .. })));
    assert!(Split::load(Path::new("/nowhere"), 5).unwrap_err().to_string().starts_with("/nowhere: "));
    fs::write(directory.path().join(IMAGES), images(20)).unwrap();
    fs::write(directory.path().join(LABELS), labels(20)).unwrap();
    for validation in [0, 16, 500] {
        let error = Split::load(directory.path(), validation).unwrap_err().to_string();
        assert!(error.starts_with("16 training images: "), "{error}");
    }
    assert!(Split::procedural(4, 1, 0).is_err());
    assert_eq!(Split::procedural(100, 10, 0).unwrap().train.len(), 70);
}
