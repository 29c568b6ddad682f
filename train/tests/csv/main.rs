//! CSV files: each fault with its message, what is accepted, and rows for a model.

use hotlanes_train::data::csv::{CsvError, Format, Options, Reader, Skipped, read};
use hotlanes_train::data::table::{Kind, Schema, Table};

mod accepted;
mod faults;

/// Predicts column `y`.
fn options() -> Options {
    Options { target: Some("y".into()), ..Options::default() }
}

fn with(delimiter: u8) -> Options {
    Options { format: Format { header: true, delimiter }, ..options() }
}

/// Column 1 of a file without a header.
fn headerless() -> Options {
    Options {
        format: Format { header: false, delimiter: b',' },
        target: Some("1".into()),
        ..Options::default()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn parse(text: impl AsRef<[u8]>, options: &Options) -> Result<(Table, Skipped), CsvError> {
    read(text.as_ref(), "f".into(), options)
}

#[track_caller]
fn table(text: impl AsRef<[u8]>, options: &Options) -> Table {
    parse(text, options).unwrap().0
}

#[track_caller]
fn told(text: impl AsRef<[u8]>, options: &Options) -> String {
    parse(text, options).unwrap_err().to_string()
}

fn rows(table: &Table) -> Vec<Vec<f64>> {
    (0..table.rows()).map(|i| [table.row(i), &table.targets()[i..=i]].concat()).collect()
}

fn categories(kind: &Kind) -> &[String] {
    match kind {
        Kind::Categories(names) => names,
        Kind::Number => panic!("numbers"),
    }
}

/// All rows of a file for a model.
fn rows_for(text: &str, schema: &Schema, format: Format) -> Result<Vec<Vec<f64>>, CsvError> {
    let mut reader = Reader::new(text.as_bytes(), "p".into(), schema, format)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row.to_vec());
    }
    Ok(rows)
}
