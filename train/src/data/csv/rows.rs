//! A record's cells as numbers, and rows for a model.

use std::collections::HashMap;
use std::io::Read;

use super::cell::{self, diagnose, listed, number, shown};
use super::columns::Columns;
use super::error::{Fault, Hint};
use super::records::Records;
use super::{CsvError, Format};
use crate::data::table::{Column, Kind, Schema};

/// The most categories of a column, and the most classes.
const MAX_CATEGORIES: usize = 10_000;

/// Stands for a category that is not known yet.
const NEW: f64 = -1.0;

/// Categories that a message lists.
const LISTED: usize = 10;

/// A column's categories.
#[derive(Default)]
pub(super) struct Categories {
    pub names: Vec<String>,
    indices: HashMap<String, usize>,
}

impl Categories {
    fn new(names: &[String]) -> Self {
        let indices = names.iter().cloned().enumerate().map(|(i, name)| (name, i)).collect();
        Categories { names: names.to_vec(), indices }
    }

    fn list(&self) -> String {
        listed(self.names.iter().map(|name| format!("{name:?}")), LISTED)
    }
}

/// A column that is read.
pub(super) struct Wanted {
    /// Where it is in a record.
    place: usize,
    /// Its name, for messages.
    label: String,
    /// "a category" or "a class".
    what: &'static str,
    /// What helps against text in it.
    hint: Hint,
    /// Its categories, unless it has numbers.
    pub categories: Option<Categories>,
}

/// The columns that are read.
pub(super) struct Cells {
    pub wanted: Vec<Wanted>,
    /// Whether a category that is new is added.
    learns: bool,
    /// Fields of a record.
    width: usize,
    /// The line of the first record.
    first: u64,
    header: bool,
}

impl Cells {
    /// For a table to train on: features, and the target last. Categories are learned.
    pub fn learning(columns: &Columns, features: &[Column], target: &Column) -> Self {
        let last = features.len();
        let wanted = features.iter().chain([target]).enumerate().map(|(i, column)| {
            let (label, hint) = (columns.label(column.number), Hint::OneHot(column.name.clone()));
            let (what, hint) = if i == last { ("a class", Hint::Classes) } else { ("a category", hint) };
            let categories = (column.kind != Kind::Number).then(Categories::default);
            Wanted { place: column.number, label, what, hint, categories }
        });
        Cells::new(columns, wanted.collect(), true)
    }

    /// For a model: its features.
    fn known(columns: &Columns, schema: &Schema) -> Result<Self, CsvError> {
        let places = columns.places(&schema.columns, schema.width)?;
        let wanted = schema.columns.iter().zip(places).map(|(column, place)| {
            let categories = match &column.kind {
                Kind::Number => None,
                Kind::Categories(names) => Some(Categories::new(names)),
            };
            Wanted { place, label: columns.label(place), what: "a category", hint: Hint::None, categories }
        });
        Ok(Cells::new(columns, wanted.collect(), false))
    }

    fn new(columns: &Columns, wanted: Vec<Wanted>, learns: bool) -> Self {
        let Columns { names, line, header, .. } = columns;
        Cells { wanted, learns, width: names.len(), first: *line, header: *header }
    }

    /// Appends the values of a record, a number or a category's index for each column. After an error `out` may have
    /// some of them.
    pub fn read(&mut self, records: &Records<impl Read>, out: &mut Vec<f64>) -> Result<(), CsvError> {
        let have = records.len();
        if have != self.width {
            let (name, line) = (records.name.clone(), records.line());
            return Err(CsvError::Fields { name, line, have, want: self.width, first: self.first });
        }
        let start = out.len();
        for wanted in &self.wanted {
            let cell = records.cell(wanted.place);
            let value = match &wanted.categories {
                None => number(cell),
                Some(known) => match cell::text(cell, wanted.what) {
                    Err(_) => None,
                    Ok(text) => match known.indices.get(text) {
                        Some(&index) => Some(index as f64),
                        // Added once the whole row is known to be good.
                        None => self.learns.then_some(NEW),
                    },
                },
            };
            match value {
                Some(value) => out.push(value),
                None => return Err(self.wrong(records, wanted)),
            }
        }
        if self.learns {
            self.learn(records, &mut out[start..])?;
        }
        Ok(())
    }

    /// Adds the categories of a record that are new.
    fn learn(&mut self, records: &Records<impl Read>, values: &mut [f64]) -> Result<(), CsvError> {
        for (wanted, value) in self.wanted.iter_mut().zip(values) {
            let Some(known) = wanted.categories.as_mut().filter(|_| *value == NEW) else { continue };
            let Ok(text) = cell::text(records.cell(wanted.place), wanted.what) else { continue };
            let index = known.names.len();
            if index == MAX_CATEGORIES {
                let (name, line) = (records.name.clone(), records.line_of(wanted.place));
                let (column, max) = (wanted.label.clone(), MAX_CATEGORIES);
                return Err(CsvError::Categories { name, line, column, max });
            }
            known.names.push(text.to_owned());
            known.indices.insert(text.to_owned(), index);
            *value = index as f64;
        }
        Ok(())
    }

    /// What is wrong with a cell.
    #[cold]
    fn wrong(&self, records: &Records<impl Read>, wanted: &Wanted) -> CsvError {
        let (cell, line) = (records.cell(wanted.place), records.line_of(wanted.place));
        let fault = match &wanted.categories {
            None if !self.header && line == self.first && self.learns => diagnose(cell, Hint::Header),
            None => diagnose(cell, wanted.hint.clone()),
            Some(known) => match cell::text(cell, wanted.what) {
                Err(fault) => fault,
                Ok(_) => Fault::Unknown(known.list()),
            },
        };
        let (name, column, cell) = (records.name.clone(), wanted.label.clone(), shown(cell));
        CsvError::Cell { name, line, column, cell, fault: Box::new(fault) }
    }
}

/// The first record of a file, and its columns; `one` is the rule that a file of one column breaks.
pub(super) fn open<R: Read>(
    input: R,
    name: String,
    format: Format,
    one: Option<&'static str>,
) -> Result<(Records<R>, Columns), CsvError> {
    format.check()?;
    let mut records = Records::new(input, name, format.delimiter)?;
    if !records.next()? {
        return Err(CsvError::Empty { name: records.name });
    }
    let columns = Columns::new(&records, format.header, one)?;
    records.labels = (0..columns.names.len()).map(|i| columns.label(i)).collect();
    Ok((records, columns))
}

/// The rows of a file for a model, one at a time, in little memory: columns are found by name, in any order, and others
/// are left out. Without a header they are found by their numbers in the file that the model was trained on; a file
/// that has as many columns as the model's features has these alone, in their order.
///
/// ```
/// # use hotlanes_train::data::csv::{Format, Reader};
/// # use hotlanes_train::data::smooth;
/// let schema = smooth::draw(10, 1)?.schema().clone();
/// let file = "id,x4,x3,x2,x1,x0\nfirst,5,4,3,2,1\n";
/// let mut reader = Reader::new(file.as_bytes(), "data.csv".into(), &schema, Format::default())?;
/// assert_eq!(reader.next_row()?, Some(&[1.0, 2.0, 3.0, 4.0, 5.0][..]));
/// assert_eq!(reader.next_row()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<R: Read> {
    records: Records<R>,
    cells: Cells,
    row: Vec<f64>,
    /// Whether the first record is a row that has not been given yet.
    fresh: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header, if there is one. `name` is the file's, for messages.
    ///
    /// # Errors
    /// See [`CsvError`].
    pub fn new(input: R, name: String, schema: &Schema, format: Format) -> Result<Self, CsvError> {
        let one = (schema.columns.len() > 1).then_some("the model needs more");
        let (records, columns) = open(input, name, format, one)?;
        if format.header && !schema.header {
            // Its columns have no names.
            let numbered = Columns::new(&records, false, one)?;
            return Ok(Reader::of(records, Cells::known(&numbered, schema)?, false));
        }
        let cells = Cells::known(&columns, schema)?;
        Ok(Reader::of(records, cells, !format.header))
    }

    fn of(records: Records<R>, cells: Cells, fresh: bool) -> Self {
        Reader { records, cells, row: Vec::new(), fresh }
    }

    /// The next row: for each of the schema's columns a number, or the index of a category. [`Schema::expand`] makes
    /// them features.
    ///
    /// # Errors
    /// See [`CsvError`]; after one that [`CsvError::is_row`] the next row can be read.
    pub fn next_row(&mut self) -> Result<Option<&[f64]>, CsvError> {
        if !std::mem::take(&mut self.fresh) && !self.records.next()? {
            return Ok(None);
        }
        self.row.clear();
        self.cells.read(&self.records, &mut self.row)?;
        Ok(Some(&self.row))
    }

    /// The line in which the last row begins, from 1.
    pub fn line(&self) -> u64 {
        self.records.line()
    }
}
