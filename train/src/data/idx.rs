//! Images and labels: the IDX files of MNIST, or digits that the program draws itself.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{digits, file};
pub use bytes::read;
pub use error::DataError;
use names::Found;

mod bytes;
mod error;
mod names;

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

    /// The images for whose index `wanted` is true.
    pub fn select(&self, wanted: impl Fn(usize) -> bool) -> Data {
        let mut data = Data { features: self.features, pixels: Vec::new(), labels: Vec::new() };
        for i in (0..self.len()).filter(|&i| wanted(i)) {
            data.pixels.extend_from_slice(self.image(i));
            data.labels.push(self.labels[i]);
        }
        data
    }
}

/// Where a run's images come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The files; without them the program draws digits.
    pub place: Option<Place>,
    /// Digits that the program draws.
    pub digits: usize,
    /// Training images set aside to select by.
    pub validation: usize,
}

impl Default for Source {
    fn default() -> Self {
        Source { place: None, digits: 5000, validation: 500 }
    }
}

/// Where images and labels are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a directory, by MNIST's names or those that mirrors have made of them.
    Directory(PathBuf),
    /// In these files, whatever their names. Without a `test` every fifth image is held out.
    Files {
        /// The training images, some of which are set aside to select by.
        train: Pair,
        /// Held out.
        test: Option<Pair>,
    },
}

/// A file of images and the file of their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The images.
    pub images: PathBuf,
    /// Their labels.
    pub labels: PathBuf,
}

/// The most digits that the program draws: 784 megabytes.
const MAX_DIGITS: usize = 1_000_000;

impl Place {
    /// The same place with absolute paths, for a checkpoint: a run that is resumed from another directory finds its
    /// images.
    ///
    /// # Errors
    /// A path is empty.
    pub fn absolute(mut self) -> Result<Self, DataError> {
        let paths = match &mut self {
            Place::Directory(directory) => vec![directory],
            Place::Files { train, test } => {
                [train].into_iter().chain(test).flat_map(|p| [&mut p.images, &mut p.labels]).collect()
            }
        };
        for path in paths {
            *path = file::absolute(path)?;
        }
        Ok(self)
    }
}

/// Checks a number of digits before any is drawn.
fn check_digits(digits: usize) -> Result<(), DataError> {
    if (TEST_EVERY..=MAX_DIGITS).contains(&digits) {
        return Ok(());
    }
    let rule = format!("must be at least {TEST_EVERY} and at most {MAX_DIGITS}");
    Err(DataError::Setting { name: "digits", value: digits, rule })
}

impl Source {
    /// Checks the settings without reading anything.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self) -> Result<(), DataError> {
        let Source { ref place, digits, validation } = *self;
        let wrong = |name, value, rule: String| Err(DataError::Setting { name, value, rule });
        if place.is_none() {
            check_digits(digits)?;
        }
        // Every fifth is held out.
        let train = place.is_none().then(|| digits - digits / TEST_EVERY);
        if validation == 0 {
            return wrong(
                "validation",
                validation,
                "must be at least 1: individuals are selected by it".into(),
            );
        }
        if let Some(train) = train
            && validation >= train
        {
            let rule = format!("must be below {train}, the digits that are not held out of {digits}");
            return wrong("validation", validation, rule);
        }
        Ok(())
    }

    /// The same source with absolute paths.
    ///
    /// # Errors
    /// A path is empty.
    pub fn absolute(self) -> Result<Self, DataError> {
        Ok(Source { place: self.place.map(Place::absolute).transpose()?, ..self })
    }

    /// Reads or draws the images.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(&self, seed: u64) -> Result<Split, DataError> {
        self.check()?;
        match &self.place {
            Some(place) => Split::read(place, self.validation),
            None => Split::procedural(self.digits, self.validation, seed),
        }
    }
}

/// Training, validation and test images.
#[derive(Clone, Debug)]
pub struct Split {
    /// The images of the stream of examples.
    pub train: Data,
    /// Individuals are selected by them; taken from the training images, never trained on.
    pub validation: Data,
    /// Held out: only reported.
    pub test: Data,
    /// The data's origin, for logs.
    pub source: String,
}

/// Every fifth image of a set that has no test images of its own is held out.
const TEST_EVERY: usize = 5;

impl Split {
    /// MNIST's files in `directory`, plain or gzip: with the 60,000 training images those, tested on the 10,000
    /// others; with the 10,000 alone, every fifth of them is held out (8,000 and 2,000). `validation` images are
    /// taken evenly out of the training images.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(directory: &Path, validation: usize) -> Result<Split, DataError> {
        let Found { train, test, notes } = names::find(directory)?;
        Split::of(&train, test.as_ref(), validation, format!("{}{notes}", directory.display()))
    }

    /// The images of a place.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn read(place: &Place, validation: usize) -> Result<Split, DataError> {
        match place {
            Place::Directory(directory) => Split::load(directory, validation),
            Place::Files { train, test } => {
                let source = train.images.display().to_string();
                Split::of(train, test.as_ref(), validation, source)
            }
        }
    }

    fn of(train: &Pair, test: Option<&Pair>, validation: usize, source: String) -> Result<Split, DataError> {
        let images = read(&train.images, &train.labels)?;
        let (train, test) = match test {
            None => hold_out(&images),
            Some(pair) => {
                let test = read(&pair.images, &pair.labels)?;
                if test.features != images.features {
                    let (path, test, train) = (pair.images.clone(), test.features, images.features);
                    return Err(DataError::Features { path, test, train });
                }
                (images, test)
            }
        };
        Split::new(train, test, validation, source)
    }

    /// Digits that the program draws: `images` of them, of which every fifth is held out.
    ///
    /// # Errors
    /// There are too many, or fewer than `validation` asks for.
    pub fn procedural(images: usize, validation: usize, seed: u64) -> Result<Split, DataError> {
        check_digits(images)?;
        let (train, test) = hold_out(&digits::draw(images, seed));
        Split::new(train, test, validation, format!("{images} digits drawn by the program, seed {seed}"))
    }

    fn new(train: Data, test: Data, validation: usize, source: String) -> Result<Split, DataError> {
        let have = train.len();
        if test.is_empty() {
            return Err(DataError::TooFew { have, want: TEST_EVERY, what: "every fifth image is held out" });
        }
        if validation == 0 || validation >= have {
            let what = "some of them to select by, at least 1, and at least 1 to train on";
            return Err(DataError::TooFew { have, want: validation.max(1).saturating_add(1), what });
        }
        // Image i is taken where the running share of the wanted ones reaches a whole number.
        let share = |i: usize| i as u128 * validation as u128 / have as u128;
        let taken = |i: usize| share(i + 1) > share(i);
        let (validation, train) = (train.select(taken), train.select(|i| !taken(i)));
        Ok(Split { train, validation, test, source })
    }
}

fn hold_out(data: &Data) -> (Data, Data) {
    let test = |i: usize| i % TEST_EVERY == TEST_EVERY - 1;
    (data.select(|i| !test(i)), data.select(test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_before_anything_is_drawn_or_read() {
        let source = |digits, validation| Source { place: None, digits, validation };
        let place = Some(Place::Directory("/nowhere".into()));
        let most = usize::MAX;
        let wrong = [
            (source(0, 1), "digits = 0: must be at least 5 and at most 1000000"),
            (source(4, 1), "digits = 4: must be"),
            (source(most, 1), "digits = 18446744073709551615: must be"),
            (source(100, 0), "validation = 0: must be at least 1"),
            (source(100, 80), "validation = 80: must be below 80, the digits that are not held out of 100"),
            (source(100, most), "validation = 18446744073709551615: must be below 80"),
            (Source { place: place.clone(), ..source(0, 0) }, "validation = 0: must be at least 1"),
        ];
        for (source, message) in wrong {
            let error = source.load(1).unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(message), "{error}: {message}");
        }
        assert_eq!(source(100, 79).load(1).unwrap().train.len(), 1);
        assert_eq!(source(5, 3).load(1).unwrap().test.len(), 1);
        let error = Source { place, ..source(0, most) }.load(1).unwrap_err();
        assert!(!error.is_usage() && error.to_string().starts_with("/nowhere: "), "{error}");
    }

    #[test]
    fn a_count_beyond_all_images_does_not_wrap() {
        for validation in [80, usize::MAX - 1, usize::MAX] {
            let error = Split::procedural(100, validation, 1).unwrap_err().to_string();
            let want = validation.saturating_add(1);
            assert!(error.starts_with(&format!("80 training images: {want} are asked for")), "{error}");
        }
    }

    #[test]
    fn paths_are_stored_absolute() {
        let here = std::env::current_dir().unwrap();
        let pair = |at: &Path| Pair { images: at.join("i"), labels: at.join("l") };
        let files = |at: &Path| Place::Files { train: pair(at), test: Some(pair(&at.join("test"))) };
        assert_eq!(files(Path::new("a")).absolute().unwrap(), files(&here.join("a")));
        assert_eq!(Place::Directory("a".into()).absolute().unwrap(), Place::Directory(here.join("a")));
        let source = Source { place: Some(Place::Directory("".into())), digits: 5, validation: 1 };
        assert!(source.absolute().is_err());
        let json = serde_json::to_string(&files(Path::new("/a"))).unwrap();
        assert!(
            json.starts_with(r#"{"files":{"train":{"images":"/a/i","labels":"/a/l"},"test":{"#),
            "{json}"
        );
    }
}
