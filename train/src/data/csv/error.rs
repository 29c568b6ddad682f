//! Faults of CSV files.

use std::io;

use crate::data::file::FileError;
use crate::shell::settings::SettingError;

/// What helps against a row that cannot be repaired.
const MEND: &str = "fill it in, or leave such rows out with --skip-bad-rows";

/// A CSV file that cannot be used. Each message names the file, the line, the column, the cell and the rule, as far as
/// there are such.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Reading failed.
    #[error("{name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{name}: {what}")]
    Foreign {
        /// The file.
        name: String,
        /// Its kind, and what to do.
        what: String,
    },
    /// Nothing, or only blank lines.
    #[error("{name}: is empty: must have at least one row")]
    Empty {
        /// The file.
        name: String,
    },
    /// Only a header.
    #[error("{name}: no rows after the header (line {line})")]
    NoRows {
        /// The file.
        name: String,
        /// The header's line.
        line: u64,
    },
    /// All rows were skipped.
    #[error("{name}: none of the {count} rows can be used; the first: {first}")]
    AllBad {
        /// The file.
        name: String,
        /// Rows.
        count: u64,
        /// The first one's message.
        first: String,
    },
    /// The first line cannot be.
    #[error("{name}: line {line}: {what}")]
    Header {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// The value and the rule.
        what: String,
    },
    /// An option that names no column of this file, or one that is taken.
    #[error("{name}: {option} = {value}: {rule}")]
    Choice {
        /// The file.
        name: String,
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The rule, and what there is.
        rule: String,
    },
    /// Columns of the model that the file does not have.
    #[error("{name}: no column {missing}, which the model needs; there are {there}")]
    Missing {
        /// The file.
        name: String,
        /// The columns.
        missing: String,
        /// The file's columns.
        there: String,
    },
    /// A row of another length.
    #[error("{name}: line {line}: {have} fields: must be {want} as in line {first}; {}", length(*have, *want))]
    Fields {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// Fields in it.
        have: usize,
        /// Fields in the first line.
        want: usize,
        /// The first line.
        first: u64,
    },
    /// A cell.
    #[error("{name}: line {line}, column {column}: {cell}: {fault}")]
    Cell {
        /// The file.
        name: String,
        /// The line in which the cell begins.
        line: u64,
        /// The column.
        column: String,
        /// The cell's text, quoted.
        cell: String,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// The end of the file is in a quoted cell.
    #[error("{name}: line {line}, column {column}: a quote opens here and never closes")]
    Quote {
        /// The file.
        name: String,
        /// The line in which it opens.
        line: u64,
        /// The column.
        column: String,
    },
    /// A row without end.
    #[error(
        "{name}: line {line}: a row of more than {max} bytes begins here: does a quote open that never closes?"
    )]
    Long {
        /// The file.
        name: String,
        /// The line in which it begins.
        line: u64,
        /// The largest length.
        max: u64,
    },
    /// A column of categories that is none.
    #[error("{name}: line {line}, column {column}: more than {max} different values: are these numbers?")]
    Categories {
        /// The file.
        name: String,
        /// The line of the first one too many.
        line: u64,
        /// The column.
        column: String,
        /// The largest number.
        max: usize,
    },
    /// Classes that cannot be told apart.
    #[error("{name}: column {column}: all rows have the class {class:?}: there must be at least two classes")]
    OneClass {
        /// The file.
        name: String,
        /// The target.
        column: String,
        /// The class.
        class: String,
    },
    /// More values than memory holds.
    #[error("{name}: line {line}: more than {values} values: this machine has no memory for them")]
    Memory {
        /// The file.
        name: String,
        /// The line that was read.
        line: u64,
        /// Values that there are.
        values: usize,
    },
}

impl CsvError {
    /// Whether a setting is wrong, whatever the file: wrong usage, not a failure.
    pub fn is_usage(&self) -> bool {
        matches!(self, CsvError::Setting(_))
    }

    /// Whether one row is wrong, after which the next can be read.
    pub fn is_row(&self) -> bool {
        matches!(self, CsvError::Fields { .. } | CsvError::Cell { .. })
    }
}

fn length(have: usize, want: usize) -> &'static str {
    match have {
        1 => "is the delimiter another? --delimiter sets it",
        _ if have > want => "a cell with the delimiter in it needs quotes",
        _ => "is the line cut off?",
    }
}

/// What is wrong with a cell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is nothing.
    #[error("must be {0}, and the cell is empty; {MEND}")]
    Empty(&'static str),
    /// A mark of a missing value.
    #[error("must be a number, and this marks a missing value; {MEND}")]
    Missing,
    /// NaN or an infinity.
    #[error("must be a finite number; {MEND}")]
    NotFinite,
    /// Beyond f32.
    #[error("must be at most 3.4e38 in size, the largest number of 32 bits")]
    Large,
    /// A decimal comma.
    #[error("must be a number with a decimal point: {0}")]
    Comma(String),
    /// Separators of thousands.
    #[error("must be a number without separators of thousands: {0}")]
    Thousands(String),
    /// A comma that may be either.
    #[error("must be a number without commas: {0} or {1}")]
    Either(String, String),
    /// Something else.
    #[error("must be a number{0}")]
    Text(Hint),
    /// Another encoding.
    #[error(
        "must be UTF-8, and byte {at} of the cell is {byte:#04x}; \
         try: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv"
    )]
    NotUtf8 {
        /// Where, from 0.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A category that the model was not trained on.
    #[error("must be a category that the model knows: {0}")]
    Unknown(String),
}

/// What helps against text in a number's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing that we know.
    None,
    /// The first line is a header.
    Header,
    /// The column, which may hold categories.
    OneHot(String),
    /// Classes.
    Classes,
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hint::None => Ok(()),
            Hint::Header => f.write_str("; if this line is a header, leave out --no-header"),
            Hint::OneHot(column) => {
                write!(f, "; --one-hot {column} takes categories, --features leaves columns out")
            }
            Hint::Classes => f.write_str("; --task classification takes names of classes"),
        }
    }
}
