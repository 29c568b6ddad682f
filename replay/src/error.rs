//! Errors: each names the value and the rule it breaks.

use std::io;
use std::path::PathBuf;

use crate::schema::Dtype;

/// Why the buffer refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("{name} is {value}: {rule}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// The value given.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The system has no memory for the buffer.
    #[error("the buffer needs {bytes} bytes of memory, which the system does not give")]
    Memory {
        /// Bytes.
        bytes: usize,
    },
    /// A column of the schema makes no sense.
    #[error("column {column}: {rule}")]
    Schema {
        /// Its name.
        column: String,
        /// The rule it breaks.
        rule: String,
    },
    /// There is no such column, or it is missing.
    #[error("column {column}: {what} (the columns are {columns})")]
    Column {
        /// The name that was given.
        column: String,
        /// What is wrong with it.
        what: &'static str,
        /// Those of the schema.
        columns: String,
    },
    /// Another dtype than the column's.
    #[error("column {column}: expected {expected}, given {given}")]
    Dtype {
        /// The column.
        column: String,
        /// Its dtype.
        expected: Dtype,
        /// That of the data.
        given: Dtype,
    },
    /// Another number of elements than the column's shape and the number of records give.
    #[error("column {column}: expected {expected} elements ({records} x {shape:?}), given {given}")]
    Length {
        /// The column.
        column: String,
        /// Elements that were expected.
        expected: usize,
        /// Records.
        records: usize,
        /// The shape of a record's elements.
        shape: Vec<usize>,
        /// Elements that were given.
        given: usize,
    },
    /// A value that the column's codec cannot hold.
    #[error("column {column}, record {record}: {what}")]
    Value {
        /// The column.
        column: String,
        /// The record, counted from the first of the call.
        record: usize,
        /// The value and the rule.
        what: String,
    },
    /// Numbers that do not fit each other in a call.
    #[error("{what}: expected {expected}, given {given}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The rule.
        expected: String,
        /// The number that was given.
        given: usize,
    },
    /// A step's kind that cannot follow the one before it.
    #[error("record {record} is {given}: {rule}")]
    Step {
        /// The record, counted from the first of the call.
        record: usize,
        /// Its kind.
        given: &'static str,
        /// What may be.
        rule: &'static str,
    },
    /// Each segment is a writer's open one.
    #[error(
        "{writers} writers: there must be at most {segments}, the segments, and one where eviction is by record"
    )]
    Writers {
        /// Those there would be.
        writers: usize,
        /// Segments of the buffer.
        segments: usize,
    },
    /// There are not enough records that can be drawn.
    #[error("{asked} records to be drawn, of {drawable} that can be: {rule}")]
    Drawable {
        /// Records to be drawn.
        asked: usize,
        /// Those that can be.
        drawable: usize,
        /// What makes one drawable.
        rule: &'static str,
    },
    /// A priority that is not a number from 0 to 1e24.
    #[error("priority {index} is {value}: must be from 0 to 1e24")]
    Priority {
        /// Its place in the call.
        index: usize,
        /// The value.
        value: f32,
    },
    /// What is stored of a record is not what an encoder wrote.
    #[error("column {column}: record {id} cannot be decoded")]
    Stored {
        /// The column.
        column: String,
        /// The record.
        id: u64,
    },
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        what: String,
    },
}

/// Of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn setting(name: &'static str, value: impl ToString, rule: &'static str) -> Error {
        Error::Setting { name, value: value.to_string(), rule }
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}
