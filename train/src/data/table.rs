//! Rows of features with their targets, and their split into training, validation and test.

use crate::store::hash;
pub use schema::{Column, Kind, Schema};
pub use split::{Part, Shares, Split, SplitError};

mod schema;
mod split;

/// Rows of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    name: String,
    schema: Schema,
    /// `[rows][columns]`: a number, or the index of a category.
    values: Vec<f64>,
    /// `[rows]`: a number, or the index of a class.
    targets: Vec<f64>,
}

impl Table {
    /// A table of `[rows][columns]` values and `[rows]` targets, which must be those that the schema allows: a
    /// category's or class's index is below their number.
    ///
    /// # Panics
    /// If there are not as many values as columns for each target, or an index has no category.
    pub fn new(name: String, schema: Schema, values: Vec<f64>, targets: Vec<f64>) -> Table {
        let (columns, rows) = (schema.columns.len(), targets.len());
        assert_eq!(values.len(), rows * columns, "{rows} rows of {columns} values");
        let all = schema.columns.iter().enumerate().map(|(i, column)| (column, values.get(i..), columns));
        for (column, values, step) in all.chain([(&schema.target, Some(&targets[..]), 1)]) {
            if let (Kind::Categories(names), Some(values)) = (&column.kind, values) {
                let known = values.iter().step_by(step).all(|&v| v >= 0.0 && (v as usize) < names.len());
                assert!(known, "column {}: an index that has no category", column.name);
            }
        }
        Table { name, schema, values, targets }
    }

    /// Its name, for messages and logs: the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.targets.len()
    }

    /// A row's values, one for each of the schema's columns: a number, or the index of a category.
    pub fn row(&self, index: usize) -> &[f64] {
        let columns = self.schema.columns.len();
        &self.values[index * columns..][..columns]
    }

    /// The rows' targets: numbers, or indices of classes.
    pub fn targets(&self) -> &[f64] {
        &self.targets
    }

    /// A hash of names, categories, values and targets: the same wherever the file lies, and whatever its delimiter,
    /// quotes, and columns that are not used.
    pub fn hash(&self) -> u64 {
        let text =
            |hash, text: &str| hash::words(hash::add(hash, text.len() as u64), text.bytes().map(u64::from));
        let columns = self.schema.columns.iter().chain([&self.schema.target]);
        let names = columns.fold(hash::START, |hash, column| {
            let hash = text(hash, &column.name);
            match &column.kind {
                Kind::Number => hash::add(hash, 0),
                Kind::Categories(names) => {
                    names.iter().fold(hash::add(hash, names.len() as u64), |hash, name| text(hash, name))
                }
            }
        });
        let lengths = hash::words(names, [self.schema.columns.len() as u64, self.rows() as u64]);
        hash::words(lengths, self.values.iter().chain(&self.targets).map(|value| value.to_bits()))
    }
}
