//! Images and labels: the IDX files of MNIST, or digits that the program draws itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::digits;

/// Classes of the labels.
pub const CLASSES: usize = 10;

/// Images of one size with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Values of an image.
    pub features: usize,
    /// `[images][features]`, 0 to 255.
    pub pixels: Vec<u8>,
    /// `[images]`, each below [`CLASSES`].
    pub labels: Vec<u8>,
}

/// What is wrong with a data set. Each message names the file, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory has none of the files that are looked for.
    #[error("{}: no MNIST files here: wanted {wanted}, plain or with .gz", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The names that were looked for.
        wanted: &'static str,
    },
    /// The first four bytes are not those of the kind of file.
    #[error("{}: magic number {magic:#010x}: {kind} start with {want:#010x}", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// What it starts with.
        magic: u32,
        /// What it should start with.
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
        len: usize,
        /// Bytes that the header asks for.
        want: usize,
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
        /// How many values may be.
        max: usize,
    },
    /// Images and labels differ in number.
    #[error("{}: {labels} labels for the {images} images of {}: must be as many", label_file.display(), image_file.display())]
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
    #[error("{}: images of {test} pixels, but those to train with have {train}: must be as many", path.display())]
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
    /// Too few images for what was asked.
    #[error("{have} images to train with: {want} are asked for ({what})")]
    TooFew {
        /// Images there are.
        have: usize,
        /// Images that are wanted.
        want: usize,
        /// What for.
        what: &'static str,
    },
}

impl Data {
    /// Images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One image.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.features..][..self.features]
    }

    /// The images for which `wanted` holds of their number.
    pub fn select(&self, wanted: impl Fn(usize) -> bool) -> Data {
        let mut data = Data { features: self.features, pixels: Vec::new(), labels: Vec::new() };
        for i in (0..self.len()).filter(|&i| wanted(i)) {
            data.pixels.extend_from_slice(self.image(i));
            data.labels.push(self.labels[i]);
        }
        data
    }
}

/// What a run learns from, what it selects by, and what neither has seen.
#[derive(Clone, Debug)]
pub struct Split {
    /// The stream of examples.
    pub train: Data,
    /// What individuals are selected by; taken from the training images, never trained on.
    pub validation: Data,
    /// Held out: only reported.
    pub test: Data,
    /// Where the data come from, for logs.
    pub source: String,
}

/// Every fifth image of a set that has no test images of its own is held out.
const TEST_EVERY: usize = 5;

impl Split {
    /// MNIST's files in `directory`, plain or gzip: with the 60,000 training images those, tested on the 10,000 others; with
    /// the 10,000 alone, every fifth of them is held out (8,000 and 2,000). `validation` images are taken out of those to
    /// train with, evenly.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(directory: &Path, validation: usize) -> Result<Split, DataError> {
        let find = |name: &str| -> Option<PathBuf> {
            [format!("{name}.gz"), name.to_owned()].iter().map(|n| directory.join(n)).find(|p| p.is_file())
        };
        let files = |images: &str, labels: &str| Some((find(images)?, find(labels)?));
        let tenth = files("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
        let sixty = files("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
        let (train, test) = match (sixty, tenth) {
            (Some((images, labels)), Some((test_images, test_labels))) => {
                let (train, test) = (read(&images, &labels)?, read(&test_images, &test_labels)?);
                if test.features != train.features {
                    let (test, train) = (test.features, train.features);
                    return Err(DataError::Features { path: test_images, test, train });
                }
                (train, test)
            }
            (Some((images, labels)), None) | (None, Some((images, labels))) => {
                hold_out(&read(&images, &labels)?)
            }
            (None, None) => {
                let wanted =
                    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, or train-... in place of t10k-...";
                return Err(DataError::Missing { directory: directory.to_owned(), wanted });
            }
        };
        Split::new(train, test, validation, directory.display().to_string())
    }

    /// Digits that the program draws: `images` of them, of which every fifth is held out.
    ///
    /// # Errors
    /// There are fewer than `validation` asks for.
    pub fn procedural(images: usize, validation: usize, seed: u64) -> Result<Split, DataError> {
        let (train, test) = hold_out(&digits::draw(images, seed));
        Split::new(train, test, validation, format!("{images} digits drawn by the program, seed {seed}"))
    }

    fn new(train: Data, test: Data, validation: usize, source: String) -> Result<Split, DataError> {
        let have = train.len();
        if test.is_empty() {
            return Err(DataError::TooFew { have, want: TEST_EVERY, what: "every fifth image is held out" });
        }
        if validation == 0 || validation >= have {
            let what = "some of them to select by, at least 1, and at least 1 to train with";
            return Err(DataError::TooFew { have, want: validation.max(1).saturating_add(1), what });
        }
        // Image i is taken where the running share of the wanted ones reaches a whole number.
        let taken = |i: usize| (i + 1) * validation / have > i * validation / have;
        let (validation, train) = (train.select(taken), train.select(|i| !taken(i)));
        Ok(Split { train, validation, test, source })
    }
}

fn hold_out(data: &Data) -> (Data, Data) {
    let test = |i: usize| i % TEST_EVERY == TEST_EVERY - 1;
    (data.select(|i| !test(i)), data.select(test))
}

/// Images and labels from a pair of IDX files, unpacked if they are gzip.
///
/// # Errors
/// See [`DataError`].
pub fn read(images: &Path, labels: &Path) -> Result<Data, DataError> {
    let (shape, pixels) = idx::<3>(images, "images", 0x0803)?;
    let ([count], classes) = idx::<1>(labels, "labels", 0x0801)?;
    if count != shape[0] {
        let (image_file, label_file) = (images.to_owned(), labels.to_owned());
        return Err(DataError::Counts { image_file, label_file, images: shape[0], labels: count });
    }
    if let Some(index) = classes.iter().position(|&c| usize::from(c) >= CLASSES) {
        return Err(DataError::Label { path: labels.to_owned(), index, label: classes[index] });
    }
    Ok(Data { features: shape[1] * shape[2], pixels, labels: classes })
}

/// A gigabyte: MNIST has 47 megabytes. A header that lies does not make the program ask for all memory.
const MAX_VALUES: usize = 1 << 30;

/// The dimensions and bytes of an IDX file of `N` dimensions.
fn idx<const N: usize>(
    path: &Path,
    kind: &'static str,
    want: u32,
) -> Result<([usize; N], Vec<u8>), DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(io)?;
    // One more than is allowed, so that what is too long is seen to be.
    let limit = MAX_VALUES as u64 + 64;
    file.by_ref().take(limit).read_to_end(&mut bytes).map_err(io)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let packed = std::mem::take(&mut bytes);
        MultiGzDecoder::new(packed.as_slice()).take(limit).read_to_end(&mut bytes).map_err(io)?;
    }
    let head = 4 + 4 * N;
    let word = |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    if bytes.len() >= 4 && word(0) != want {
        return Err(DataError::Magic { path: path.to_owned(), magic: word(0), want, kind });
    }
    if bytes.len() < head {
        let header = format!("magic number and {N} dimensions of {kind}");
        return Err(DataError::Length { path: path.to_owned(), len: bytes.len(), want: head, header });
    }
    let mut shape = [0; N];
    for (i, n) in shape.iter_mut().enumerate() {
        *n = word(4 + 4 * i) as usize;
    }
    let header = format!("{kind} {}", shape.map(|n| n.to_string()).join(" x "));
    let values = shape.iter().try_fold(1_usize, |a, &n| a.checked_mul(n)).filter(|&n| n <= MAX_VALUES);
    match values {
        None => Err(DataError::TooLarge { path: path.to_owned(), header, max: MAX_VALUES }),
        Some(0) => Err(DataError::Empty { path: path.to_owned(), header }),
        Some(n) if bytes.len() != head + n => {
            Err(DataError::Length { path: path.to_owned(), len: bytes.len(), want: head + n, header })
        }
        Some(_) => Ok((shape, bytes.split_off(head))),
    }
}
