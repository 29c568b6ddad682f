//! MNIST's files by the names that are in use.
//!
//! The names are those of the original, `train-images-idx3-ubyte`, and what mirrors have made of them: a dot or an
//! underscore for a dash, upper case, `test` for `t10k`, `.gz`, and in front `emnist-digits-`, `emnist-mnist-`,
//! `fashion-mnist-` or `mnist-`. A directory of such a name, as some archives have, does not count.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DataError, Pair};
use crate::data::file::FileError;

/// The original names: images and labels for training and for the test.
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Which of [`NAMES`] a file's name stands for. Of several the one with the least key counts: plain before packed, the
/// original name before others, then in the order of their bytes.
fn role(name: &str) -> Option<(usize, (bool, bool))> {
    let lower = name.to_ascii_lowercase();
    let packed = lower.ends_with(".gz");
    let stem = &lower[..lower.len() - if packed { 3 } else { 0 }];
    let flat = stem.replace(['.', '_'], "-");
    let fronts = ["emnist-digits-", "emnist-mnist-", "fashion-mnist-", "mnist-"];
    let tail = fronts.iter().find_map(|front| flat.strip_prefix(front)).unwrap_or(&flat);
    let tail =
        if let Some(rest) = tail.strip_prefix("test-") { format!("t10k-{rest}") } else { tail.to_owned() };
    let role = NAMES.iter().position(|name| *name == tail)?;
    Some((role, (packed, !name.starts_with(NAMES[role]))))
}

/// MNIST's files in a directory.
#[derive(Debug)]
pub(super) struct Found {
    /// The training images: the 60,000, or where they are missing the 10,000.
    pub(super) train: Pair,
    /// The images to test with, unless they are trained with.
    pub(super) test: Option<Pair>,
    /// In words, the files that were passed over and what for; empty if there are none.
    pub(super) notes: String,
}

/// Looks for the files in a directory.
pub(super) fn find(directory: &Path) -> Result<Found, DataError> {
    let io = |source| FileError::Io { path: directory.to_owned(), source };
    let mut found: [Vec<_>; 4] = Default::default();
    for entry in fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some((role, key)) = role(&name)
            && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file())
        {
            found[role].push((key, name));
        }
    }
    let mut notes = String::new();
    for files in &mut found {
        files.sort();
        if let [(_, first), others @ ..] = &files[..]
            && !others.is_empty()
        {
            let others: Vec<&str> = others.iter().map(|(_, name)| name.as_str()).collect();
            notes += &format!("; {first}, not {}", others.join(", "));
        }
    }
    let first = found.map(|files| files.into_iter().next().map(|(_, name)| name));
    let [images, labels, test_images, test_labels] = first;
    let pair = |images: Option<String>, labels: Option<String>, wanted: [&'static str; 2]| {
        let half = |have, wanted| Err(DataError::Half { directory: directory.to_owned(), have, wanted });
        match (images, labels) {
            (None, None) => Ok(None),
            (Some(have), None) => half(have, wanted[1]),
            (None, Some(have)) => half(have, wanted[0]),
            (Some(images), Some(labels)) => {
                let at = |name: String| -> PathBuf { directory.join(name) };
                Ok(Some(Pair { images: at(images), labels: at(labels) }))
            }
        }
    };
    let train = pair(images, labels, [NAMES[0], NAMES[1]])?;
    let test = pair(test_images, test_labels, [NAMES[2], NAMES[3]])?;
    match (train, test) {
        (Some(train), test) => Ok(Found { train, test, notes }),
        (None, Some(train)) => Ok(Found { train, test: None, notes }),
        (None, None) => {
            let wanted =
                "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, or train-... in place of t10k-...";
            Err(DataError::Missing { directory: directory.to_owned(), wanted })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_use_are_known() {
        let known = [
            ("train-images-idx3-ubyte", (0, (false, false))),
            ("train-images-idx3-ubyte.gz", (0, (true, false))),
            ("train-images.idx3-ubyte", (0, (false, true))),
            ("train-labels.idx1-ubyte.gz", (1, (true, true))),
            ("t10k-images.idx3-ubyte", (2, (false, true))),
            ("T10K-LABELS-IDX1-UBYTE", (3, (false, true))),
            ("Train-Images-idx3-ubyte.GZ", (0, (true, true))),
            ("test-images-idx3-ubyte", (2, (false, true))),
            ("test_labels_idx1_ubyte.gz", (3, (true, true))),
            ("emnist-digits-train-images-idx3-ubyte.gz", (0, (true, true))),
            ("emnist-digits-test-labels-idx1-ubyte", (3, (false, true))),
            ("fashion-mnist-t10k-images-idx3-ubyte", (2, (false, true))),
        ];
        for (name, want) in known {
            assert_eq!(role(name), Some(want), "{name}");
        }
        for name in [
            "",
            ".gz",
            "train",
            "train-images-idx1-ubyte",
            "train-images-idx3-ubyte.gz.part",
            "train-images-idx3-ubyte.zip",
            "train-images-idx3-ubyte-t10k",
            "emnist-letters-train-images-idx3-ubyte",
            "train-images-idx3-ubyte.gz.gz",
            "Ünïcode.gz",
        ] {
            assert_eq!(role(name), None, "{name}");
        }
    }

    fn touch(directory: &Path, names: &[&str]) {
        names.iter().for_each(|name| fs::write(directory.join(name), b"").unwrap());
    }

    #[test]
    fn of_several_files_the_plain_original_name_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let order = [
            "train-images-idx3-ubyte",
            "train-images.idx3-ubyte",
            "train-images_idx3-ubyte",
            "train-images-idx3-ubyte.gz",
            "train-images.idx3-ubyte.gz",
        ];
        touch(directory.path(), &order);
        touch(directory.path(), &["train-labels.idx1-ubyte", "notes.txt", "t10k-images-idx3-ubyte.txt"]);
        // As in an archive that packs each file into a directory of its name.
        fs::create_dir(directory.path().join("train-labels-idx1-ubyte")).unwrap();
        for first in 0..order.len() {
            let Found { train, test, notes } = find(directory.path()).unwrap();
            assert_eq!(train.images, directory.path().join(order[first]));
            assert_eq!((train.labels, test), (directory.path().join("train-labels.idx1-ubyte"), None));
            let others = order[first + 1..].join(", ");
            let want =
                if others.is_empty() { String::new() } else { format!("; {}, not {others}", order[first]) };
            assert_eq!(notes, want);
            fs::remove_file(directory.path().join(order[first])).unwrap();
        }
        assert_eq!(
            find(directory.path()).unwrap_err().to_string(),
            format!(
                "{}: has train-labels.idx1-ubyte, but not train-images-idx3-ubyte, \
                 plain or with .gz: images and labels belong together",
                directory.path().display()
            )
        );
        fs::remove_file(directory.path().join("train-labels.idx1-ubyte")).unwrap();
        touch(directory.path(), &["test-images.idx3-ubyte"]);
        let half = find(directory.path()).unwrap_err().to_string();
        assert!(half.contains("has test-images.idx3-ubyte, but not t10k-labels-idx1-ubyte"), "{half}");
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_told() {
        let told = |path: &str| find(Path::new(path)).unwrap_err().to_string();
        assert!(told("/nowhere").starts_with("/nowhere: "), "{}", told("/nowhere"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(told(path).starts_with(&format!("{path}: ")), "{}", told(path));
    }
}
