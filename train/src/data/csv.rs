//! Tables from CSV files: numbers and categories, with a target to predict.
//!
//! # What is read
//! Records as RFC 4180 has them, with any delimiter: a cell in double quotes may hold delimiters, line
//! ends, and quotes written twice. Lines end with LF or CR LF. A byte-order mark, blank lines, and spaces around a cell
//! are left out. The text must be UTF-8 where it is used.
//!
//! A number is written with a decimal point, and must be finite as `f32`. It is kept as `f64` until it is standardised,
//! so that small differences of large numbers are not lost.
//!
//! # Columns
//! A column is given by its name in the header or by its number, from 0; a name wins over a number. Without a
//! header there are only numbers. Features are in the order of the file, however they are given. A `one_hot` column and
//! a target of classes are texts, of which two are equal if their bytes are (`1` and `1.0` differ); they are sorted by
//! their values if all of them are numbers, else by their bytes. Each category of all rows is a feature: one that no
//! row for training has is always 0.
//!
//! # Bad rows
//! With `skip_bad_rows` a row with a bad cell or of another length is left out and counted. What makes the
//! rest of the file doubtful, such as a quote that never closes, is always an error.

use std::cmp::Ordering;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{FileError, Opened};
use super::table::{Kind, Schema, Table};
use crate::shell::memory;
use crate::shell::settings::{self, SettingError};
pub use error::{CsvError, Fault, Hint};
use records::Records;
pub use rows::Reader;
use rows::{Cells, open};

mod cell;
mod columns;
mod error;
mod records;
mod rows;

/// The most messages of skipped rows that are kept.
const KEPT: usize = 5;

/// How cells are laid out in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Whether the first record has the columns' names.
    pub header: bool,
    /// The byte between cells.
    pub delimiter: u8,
}

impl Default for Format {
    fn default() -> Self {
        Format { header: true, delimiter: b',' }
    }
}

impl Format {
    /// Checks the delimiter.
    ///
    /// # Errors
    /// It may be part of a number, or means something else.
    pub fn check(self) -> Result<(), SettingError> {
        let byte = self.delimiter;
        let may =
            byte == b'\t' || byte == b' ' || (byte.is_ascii_punctuation() && !b"\"+-._'".contains(&byte));
        let value = format!("{:?}", char::from(byte));
        settings::check(
            may,
            "delimiter",
            value,
            "must be a tab, a space or a mark that no number and no quote has",
        )
    }

    /// A delimiter as a person types it: one character, `tab` or `\t`.
    ///
    /// # Errors
    /// It is none.
    pub fn delimiter(text: &str) -> Result<u8, SettingError> {
        let delimiter = match text {
            "tab" | "\\t" => b'\t',
            _ => match text.as_bytes() {
                &[byte] => byte,
                _ => return Err(SettingError::new("delimiter", text, "must be one ASCII character, or tab")),
            },
        };
        Format { header: true, delimiter }.check().map(|()| delimiter)
    }
}

/// What is predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A number.
    #[default]
    Regression,
    /// A class, which may have any text as its name.
    Classification,
}

/// Which columns of a file are taken, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// How cells are laid out.
    pub format: Format,
    /// The column to predict.
    pub target: Option<String>,
    /// The columns to predict from; all others if empty.
    pub features: Vec<String>,
    /// Columns of categories, which are features too.
    pub one_hot: Vec<String>,
    /// What is predicted.
    pub task: Task,
    /// Leave bad rows out.
    pub skip_bad_rows: bool,
}

/// Rows that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The messages of the first few.
    pub first: Vec<String>,
}

impl Skipped {
    fn add(&mut self, error: &CsvError) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(error.to_string());
        }
    }
}

/// Reads a file.
///
/// # Errors
/// See [`CsvError`].
pub fn load(path: &Path, options: &Options) -> Result<(Table, Skipped), CsvError> {
    options.format.check()?;
    let Opened { path, file, len } = Opened::new(path)?;
    let result = read((&file).take(len), path.display().to_string(), options);
    match file.metadata() {
        // Whatever was wrong with it.
        Ok(now) if now.len() != len => Err(FileError::Changed { path, opened: len, read: now.len() }.into()),
        _ => result,
    }
}

/// Reads all of an input. `name` is its name, for messages.
///
/// # Errors
/// See [`CsvError`].
pub fn read(input: impl Read, name: String, options: &Options) -> Result<(Table, Skipped), CsvError> {
    let Format { header, delimiter } = options.format;
    let (mut records, columns) =
        open(input, name, options.format, Some("must be at least a feature and a target"))?;
    let (mut features, mut target) = columns.choose(options)?;
    let mut cells = Cells::learning(&columns, &features, &target);
    let (mut values, mut targets, mut skipped) = (Vec::new(), Vec::new(), Skipped::default());
    let mut more = !header || records.next()?;
    while more {
        let start = values.len();
        reserve(&mut values, features.len() + 1, &records)?;
        match cells.read(&records, &mut values) {
            // The target is the last.
            Ok(()) => targets.extend(values.pop()),
            Err(e) if options.skip_bad_rows && e.is_row() => {
                values.truncate(start);
                skipped.add(&e);
            }
            Err(e) => return Err(e),
        }
        more = records.next()?;
    }
    let (name, width) = (records.name, columns.names.len());
    if targets.is_empty() {
        return Err(match skipped.first.into_iter().next() {
            Some(first) => CsvError::AllBad { name, count: skipped.count, first },
            None => CsvError::NoRows { name, line: columns.line },
        });
    }
    let step = features.len();
    for (i, (column, wanted)) in features.iter_mut().chain([&mut target]).zip(cells.wanted).enumerate() {
        if let Some(categories) = wanted.categories {
            let (names, ranks) = sorted(categories.names);
            let (all, step) = if i < step { (&mut values[i..], step) } else { (&mut targets[..], 1) };
            all.iter_mut().step_by(step).for_each(|index| *index = ranks[*index as usize]);
            column.kind = Kind::Categories(names);
        }
    }
    if let Kind::Categories(classes) = &target.kind
        && let [class] = &classes[..]
    {
        let (column, class) = (columns.label(target.number), class.clone());
        return Err(CsvError::OneClass { name, column, class });
    }
    let schema = Schema { header, delimiter, width, columns: features, target };
    Ok((Table::new(name, schema, values, targets), skipped))
}

/// Makes room for a row, in memory that this process may have.
fn reserve(values: &mut Vec<f64>, row: usize, records: &Records<impl Read>) -> Result<(), CsvError> {
    let len = values.len();
    if values.capacity() - len >= row {
        return Ok(());
    }
    let more = row.max(len).max(1 << 12);
    let bytes = 8.0 * (len as f64 + more as f64);
    if memory::available().is_some_and(|have| bytes > have) || values.try_reserve_exact(more).is_err() {
        return Err(CsvError::Memory { name: records.name.clone(), line: records.line(), values: len });
    }
    Ok(())
}

/// Sorts categories, by value if all are numbers, and gives the new index of each.
fn sorted(names: Vec<String>) -> (Vec<String>, Vec<f64>) {
    let values: Option<Vec<f64>> = names.iter().map(|name| cell::number(name.as_bytes())).collect();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|&a, &b| {
        let by_value = values.as_ref().map_or(Ordering::Equal, |values| values[a].total_cmp(&values[b]));
        by_value.then_with(|| names[a].cmp(&names[b]))
    });
    let mut ranks = vec![0.0; names.len()];
    order.iter().enumerate().for_each(|(rank, &index)| ranks[index] = rank as f64);
    (order.into_iter().map(|index| names[index].clone()).collect(), ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_in_order() {
        let sort = |names: &[&str]| {
            let (names, ranks) = sorted(names.iter().map(|&name| name.to_owned()).collect());
            (names.join(" "), ranks)
        };
        assert_eq!(sort(&["10", "9", "-1", "9.0"]), ("-1 9 9.0 10".into(), vec![3.0, 1.0, 0.0, 2.0]));
        assert_eq!(sort(&["10", "9", "b", "B"]), ("10 9 B b".into(), vec![0.0, 1.0, 3.0, 2.0]));
    }

    #[test]
    fn delimiters_are_checked() {
        let good = [
            (",", b','),
            (";", b';'),
            ("tab", b'\t'),
            ("\\t", b'\t'),
            ("\t", b'\t'),
            ("|", b'|'),
            (" ", b' '),
        ];
        for (text, byte) in good {
            assert_eq!(Format::delimiter(text).unwrap(), byte);
        }
        for text in ["", ",,", "\u{e4}", "a", "1", ".", "-", "+", "\"", "\n", "\r", "\0", "_", "'"] {
            let told = Format::delimiter(text).unwrap_err().to_string();
            assert!(told.starts_with("delimiter = ") && told.contains("must be"), "{told}");
        }
    }
}
