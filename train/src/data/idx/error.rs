//! Faults of images and labels.

use std::io;
use std::path::PathBuf;

use super::CLASSES;
use crate::data::file::FileError;

/// A data set that cannot be used. Each message names the file or the setting, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A gzip file is damaged.
    #[error("{}: unpacking gzip: {source}", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting.
    #[error("{name} = {value}: {rule}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The rule.
        rule: String,
    },
    /// The directory has none of the expected files.
    #[error("{}: no MNIST files here: wanted {wanted}, plain or with .gz", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The expected names.
        wanted: &'static str,
    },
    /// Images without labels, or labels without images.
    #[error(
        "{}: has {have}, but not {wanted}, plain or with .gz: images and labels belong together",
        directory.display()
    )]
    Half {
        /// The directory.
        directory: PathBuf,
        /// The file that is there.
        have: String,
        /// The file that is not.
        wanted: &'static str,
    },
    /// The first four bytes are not those of the kind of file.
    #[error("{}: magic number {magic:#010x}: {kind} start with {want:#010x}", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The file's.
        magic: u32,
        /// The kind's.
        want: u32,
        /// "images" or "labels".
        kind: &'static str,
    },
    /// The header promises another length than the file has.
    #[error("{}: {len} bytes: the header ({header}) asks for {want}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes in the file, unpacked.
        len: u64,
        /// Bytes that the header asks for.
        want: u64,
        /// The header in words.
        header: String,
    },
    /// A gzip file goes on after all that its header promises.
    #[error("{}: unpacks to more than the {want} bytes that the header ({header}) asks for", path.display())]
    Longer {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for.
        want: u64,
        /// The header in words.
        header: String,
    },
    /// A gzip file cannot have as much in it as its header promises.
    #[error(
        "{}: {len} bytes of gzip: the header ({header}) asks for {want}, more than they can unpack to",
        path.display()
    )]
    Packed {
        /// The file.
        path: PathBuf,
        /// Bytes in the file, packed.
        len: u64,
        /// Bytes that the header asks for.
        want: u64,
        /// The header in words.
        header: String,
    },
    /// Images of no pixels, or no images.
    #[error("{}: {header}: there must be at least one image of at least one pixel", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The header in words.
        header: String,
    },
    /// More than memory is likely to hold.
    #[error("{}: {header}: at most {max} values are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The header in words.
        header: String,
        /// The largest number of values.
        max: usize,
    },
    /// Images and labels differ in number.
    #[error(
        "{}: {labels} labels for the {images} images of {}: must be as many",
        label_file.display(),
        image_file.display()
    )]
    Counts {
        /// The images' file.
        image_file: PathBuf,
        /// The labels' file.
        label_file: PathBuf,
        /// Images.
        images: usize,
        /// Labels.
        labels: usize,
    },
    /// Training and test images differ in size.
    #[error("{}: images of {test} pixels, but the training images have {train}: must be as many", path.display())]
    Features {
        /// The test images' file.
        path: PathBuf,
        /// Pixels of a test image.
        test: usize,
        /// Pixels of a training image.
        train: usize,
    },
    /// A label is not a digit.
    #[error("{}: label {label} of image {index}: must be below {CLASSES}", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The image, from 0.
        index: usize,
        /// Its label.
        label: u8,
    },
    /// Fewer images than the settings need.
    #[error("{have} training images: {want} are asked for ({what})")]
    TooFew {
        /// Images there are.
        have: usize,
        /// Images that are needed.
        want: usize,
        /// The reason.
        what: &'static str,
    },
}

impl DataError {
    /// Whether a setting is wrong, whatever the files: wrong usage, not a failure.
    pub fn is_usage(&self) -> bool {
        matches!(self, DataError::Setting { .. })
    }
}
