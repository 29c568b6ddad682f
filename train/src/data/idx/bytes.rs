//! IDX files, plain or gzip: a magic number, the dimensions, the values. Nothing is believed before it is read.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{CLASSES, Data, DataError};
use crate::data::file::{FileError, Opened};

/// A gigabyte: MNIST has 47 megabytes.
const MAX_VALUES: usize = 1 << 30;

/// A byte of deflate unpacks to at most 1032; headers only lower that.
const MAX_RATIO: u64 = 1032;

/// Images and labels from a pair of IDX files, unpacked if they are gzip, whatever their names.
///
/// # Errors
/// See [`DataError`].
pub fn read(images: &Path, labels: &Path) -> Result<Data, DataError> {
    // Both headers first: a pair that does not match is not worth reading.
    let image_file = Idx::<3>::open(images, "images", 0x0803)?;
    let label_file = Idx::<1>::open(labels, "labels", 0x0801)?;
    let [count, height, width] = image_file.shape;
    if label_file.shape[0] != count {
        return Err(DataError::Counts {
            image_file: images.to_owned(),
            label_file: labels.to_owned(),
            images: count,
            labels: label_file.shape[0],
        });
    }
    let labels_read = label_file.values()?;
    if let Some(index) = labels_read.iter().position(|&label| usize::from(label) >= CLASSES) {
        return Err(DataError::Label { path: labels.to_owned(), index, label: labels_read[index] });
    }
    Ok(Data { features: height * width, pixels: image_file.values()?, labels: labels_read })
}

/// An IDX file of `N` dimensions, of which the header has been read.
struct Idx<const N: usize> {
    path: PathBuf,
    shape: [usize; N],
    /// The header in words.
    header: String,
    /// The file's length, if it is not packed.
    plain: Option<u64>,
    /// The values, from the first.
    rest: Box<dyn Read>,
}

impl<const N: usize> Idx<N> {
    /// Bytes of the header.
    const HEAD: usize = 4 + 4 * N;

    /// Reads the header of a file of `kind`, which begins with the number `want`.
    fn open(path: &Path, kind: &'static str, want: u32) -> Result<Self, DataError> {
        let Opened { file, len, .. } = Opened::new(path)?;
        let mut file = BufReader::new(file);
        let start = file.fill_buf().map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        let plain = (!start.starts_with(&[0x1f, 0x8b])).then_some(len);
        let rest: Box<dyn Read> = match plain {
            Some(_) => Box::new(file),
            None => Box::new(MultiGzDecoder::new(file)),
        };
        let mut idx = Idx { path: path.to_owned(), shape: [0; N], header: String::new(), plain, rest };
        let path = || path.to_owned();
        let mut head = Vec::with_capacity(Self::HEAD);
        idx.rest.by_ref().take(Self::HEAD as u64).read_to_end(&mut head).map_err(|e| idx.failed(e))?;
        let (words, _) = head.as_chunks();
        let words: Vec<u32> = words.iter().map(|&word| u32::from_be_bytes(word)).collect();
        if let Some(&magic) = words.first()
            && magic != want
        {
            return Err(DataError::Magic { path: path(), magic, want, kind });
        }
        if head.len() < Self::HEAD {
            let header = format!("magic number and {N} dimensions of {kind}");
            return Err(DataError::Length {
                path: path(),
                len: head.len() as u64,
                want: Self::HEAD as u64,
                header,
            });
        }
        for (n, &word) in idx.shape.iter_mut().zip(&words[1..]) {
            *n = word as usize;
        }
        let header = format!("{kind} {}", idx.shape.map(|n| n.to_string()).join(" x "));
        let values =
            idx.shape.iter().try_fold(1_usize, |a, &n| a.checked_mul(n)).filter(|&n| n <= MAX_VALUES);
        let want = match values {
            None => return Err(DataError::TooLarge { path: path(), header, max: MAX_VALUES }),
            Some(0) => return Err(DataError::Empty { path: path(), header }),
            Some(n) => (Self::HEAD + n) as u64,
        };
        match plain {
            Some(_) if len != want => Err(DataError::Length { path: path(), len, want, header }),
            None if len.saturating_mul(MAX_RATIO) < want => {
                Err(DataError::Packed { path: path(), len, want, header })
            }
            _ => Ok(Idx { header, ..idx }),
        }
    }

    /// Reads the values, and at most one byte beyond.
    fn values(mut self) -> Result<Vec<u8>, DataError> {
        let count: usize = self.shape.iter().product();
        let mut values = Vec::new();
        if self.plain.is_some() {
            // They are there: the file's length says so.
            let full = values.try_reserve_exact(count + 1);
            full.map_err(|_| self.failed(io::ErrorKind::OutOfMemory.into()))?;
        }
        self.rest.by_ref().take(count as u64 + 1).read_to_end(&mut values).map_err(|e| self.failed(e))?;
        let (read, want) = ((Self::HEAD + values.len()) as u64, (Self::HEAD + count) as u64);
        let Idx { path, header, plain, .. } = self;
        match plain {
            _ if read == want => Ok(values),
            Some(opened) => Err(FileError::Changed { path, opened, read }.into()),
            None if read > want => Err(DataError::Longer { path, want, header }),
            None => Err(DataError::Length { path, len: read, want, header }),
        }
    }

    /// The error of a failed read.
    fn failed(&self, source: io::Error) -> DataError {
        let path = self.path.clone();
        match self.plain {
            Some(_) => FileError::Io { path, source }.into(),
            None => DataError::Gzip { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn idx(words: &[u32], values: &[u8]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).chain(values.iter().copied()).collect()
    }

    fn read_bytes(images: &[u8], labels: &[u8]) -> Result<Data, String> {
        let directory = tempfile::tempdir().unwrap();
        let [i, l] = ["images", "labels"].map(|name| directory.path().join(name));
        fs::write(&i, images).unwrap();
        fs::write(&l, labels).unwrap();
        read(&i, &l).map_err(|e| e.to_string().replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn a_header_that_lies_is_told_before_the_values_are_read() {
        let labels = idx(&[0x0801, 1 << 20], &[]);
        let images = |values: &[u8]| idx(&[0x0803, 1 << 20, 32, 32], values);
        let header = "the header (images 1048576 x 32 x 32) asks for 1073741840";
        let told = |images: &[u8]| read_bytes(images, &labels).unwrap_err();
        assert_eq!(told(&images(&[])), format!("images: 16 bytes: {header}"));
        let packed = gzip(&images(&[0; 1000]));
        let want = format!("images: {} bytes of gzip: {header}, more than they can unpack to", packed.len());
        assert_eq!(told(&packed), want);
        // A bomb: a small header, and then megabytes.
        let small = idx(&[0x0803, 2, 1, 2], &vec![0; 8_000_000]);
        assert_eq!(
            read_bytes(&gzip(&small), &idx(&[0x0801, 2], &[1, 2])).unwrap_err(),
            "images: unpacks to more than the 20 bytes that the header (images 2 x 1 x 2) asks for"
        );
        assert_eq!(
            read_bytes(&small, &idx(&[0x0801, 2], &[1, 2])).unwrap_err(),
            "images: 8000016 bytes: the header (images 2 x 1 x 2) asks for 20"
        );
    }

    #[test]
    fn a_packed_file_that_is_damaged_is_told() {
        let labels = idx(&[0x0801, 2], &[1, 2]);
        let images = idx(&[0x0803, 2, 1, 2], &[1, 2, 3, 4]);
        let packed = gzip(&images);
        assert_eq!(read_bytes(&packed, &gzip(&labels)).unwrap().pixels, [1, 2, 3, 4]);
        for (at, bit) in [(packed.len() - 8, 1), (packed.len() - 4, 1), (2, 0xff)] {
            let mut wrong = packed.clone();
            wrong[at] ^= bit;
            let told = read_bytes(&wrong, &labels).unwrap_err();
            assert!(told.starts_with("images: unpacking gzip: "), "byte {at}: {told}");
        }
        let told = read_bytes(&packed[..packed.len() - 1], &labels).unwrap_err();
        assert!(told.starts_with("images: unpacking gzip: "), "{told}");
        // Two members, one after the other, are one file.
        let halves = [gzip(&images[..9]), gzip(&images[9..])].concat();
        assert_eq!(read_bytes(&halves, &labels).unwrap().pixels, [1, 2, 3, 4]);
    }

    #[test]
    fn a_file_that_changes_after_its_header_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images");
        // Shorter, and longer, than when its header was read; the values do not fit into that read's buffer.
        for (len, end) in [(50_000, "at its end: changed"), (200_000, "more at its end: changed")] {
            fs::write(&path, idx(&[0x0803, 100_000, 1, 1], &[7; 100_000])).unwrap();
            let file = Idx::<3>::open(&path, "images", 0x0803).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
            let told = file.values().unwrap_err().to_string();
            assert!(
                told.contains("images: 100016 bytes when it was opened, ") && told.contains(end),
                "{told}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let told = read(Path::new("/dev/zero"), Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(told.starts_with("/dev/zero: is a character device: must be a regular file"), "{told}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_images_or_an_error(
            shape in prop::array::uniform3(0..4_u32), count in 0..4_u32, values: Vec<u8>, flip in any::<(usize, u8)>(),
            cut in any::<usize>(), pack: [bool; 2],
        ) {
            let images = idx(&[&[0x0803], &shape[..]].concat(), &values);
            let labels = idx(&[0x0801, count], &values[..values.len().min(count as usize)]);
            let packed = |bytes: Vec<u8>, pack| if pack { gzip(&bytes) } else { bytes };
            let (images, labels) = (packed(images, pack[0]), packed(labels, pack[1]));
            let check = |images: &[u8], labels: &[u8]| {
                if let Ok(data) = read_bytes(images, labels) {
                    assert!(data.features > 0 && !data.is_empty());
                    assert_eq!(data.pixels.len(), data.features * data.len());
                    assert!(data.labels.iter().all(|&label| usize::from(label) < CLASSES));
                }
            };
            check(&images, &labels);
            check(&values, &labels);
            for which in [0, 1] {
                let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
                    let mut pair = [images.clone(), labels.clone()];
                    change(&mut pair[which]);
                    check(&pair[0], &pair[1]);
                };
                wrong(&|bytes| bytes.truncate(cut % bytes.len()));
                wrong(&|bytes| {
                    let at = flip.0 % bytes.len();
                    bytes[at] ^= flip.1;
                });
            }
        }
    }
}
