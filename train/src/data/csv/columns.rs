//! Which columns a file has, and which are taken.

use std::io::Read;

use super::cell::{listed, number, shown, text};
use super::error::Fault;
use super::records::Records;
use super::{CsvError, Options, Task};
use crate::data::table::{Column, Kind};

/// The most columns of a file.
const MAX_COLUMNS: usize = 1 << 16;

/// Names that a message lists.
const LISTED: usize = 20;

/// The columns of a file.
pub(super) struct Columns {
    /// The file, for messages.
    file: String,
    /// Their names; their numbers without a header.
    pub names: Vec<String>,
    /// Whether the names are a header's.
    pub header: bool,
    /// The line of the first record.
    pub line: u64,
}

impl Columns {
    /// Of the first record, which is the header, if there is one. A file of one column breaks the rule for such files,
    /// if there is one.
    pub fn new(
        records: &Records<impl Read>,
        header: bool,
        one: Option<&'static str>,
    ) -> Result<Self, CsvError> {
        let (file, count, line) = (records.name.clone(), records.len(), records.line());
        let wrong = |what: String| Err(CsvError::Header { name: file.clone(), line, what });
        if count > MAX_COLUMNS {
            return wrong(format!("{count} columns: must be at most {MAX_COLUMNS}"));
        }
        if (0..count).any(|i| records.cell(i).trim_ascii().contains(&b'\r')) {
            return wrong(
                "lines end with CR alone: must be LF or CR LF; try: tr '\\r' '\\n' < OLD.csv > NEW.csv"
                    .into(),
            );
        }
        if let Some(rule) = one.filter(|_| count == 1) {
            let cell = records.cell(0);
            let other = [b';', b'\t', b',', b'|'].into_iter().find(|byte| cell.contains(byte));
            let hint = other.map_or(String::new(), |byte| {
                format!("; is the delimiter another? --delimiter {:?}", char::from(byte))
            });
            return wrong(format!("one column, {}: {rule}{hint}", shown(cell)));
        }
        if !header {
            return Ok(Columns { names: (0..count).map(|i| i.to_string()).collect(), file, header, line });
        }
        let mut names: Vec<String> = Vec::with_capacity(count);
        for i in 0..count {
            match text(records.cell(i), "a name") {
                Ok(name) => names.push(name.to_owned()),
                // Told only where it matters, in `choose`.
                Err(Fault::Empty(_)) => names.push(String::new()),
                Err(fault) => {
                    let (column, cell) = (i.to_string(), shown(records.cell(i)));
                    return Err(CsvError::Cell { name: file, line, column, cell, fault: Box::new(fault) });
                }
            }
        }
        let mut sorted: Vec<usize> = (0..count).filter(|&i| !names[i].is_empty()).collect();
        sorted.sort_by_key(|&i| (&names[i], i));
        if let Some(pair) = sorted.windows(2).find(|pair| names[pair[0]] == names[pair[1]]) {
            let twice = &names[pair[0]];
            return wrong(format!(
                "the header has {twice:?} twice, as columns {} and {}: rename one",
                pair[0], pair[1]
            ));
        }
        if looks_like_numbers(&names) {
            let start = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            return wrong(format!("the header ({start}...) looks like numbers; is there none? --no-header"));
        }
        Ok(Columns { file, names, header, line })
    }

    /// A column's name as messages show it: in quotes, or its number.
    pub fn label(&self, index: usize) -> String {
        match self.names.get(index) {
            Some(name) if self.header && !name.is_empty() => format!("{name:?}"),
            _ => index.to_string(),
        }
    }

    /// The names there are, for messages.
    fn list(&self) -> String {
        listed((0..self.names.len()).map(|i| self.label(i)), LISTED)
    }

    /// The column of a name or, if there is none, of a number.
    fn find(&self, option: &'static str, wanted: &str) -> Result<usize, CsvError> {
        let wanted = wanted.trim_ascii();
        if let Some(index) = self.names.iter().position(|name| name == wanted && !name.is_empty()) {
            return Ok(index);
        }
        if let Some(index) = wanted.parse().ok().filter(|&index: &usize| index < self.names.len()) {
            return Ok(index);
        }
        let near = self.near(wanted).map_or(String::new(), |name| format!("; is it {name:?}?"));
        let rule = match self.header {
            true => format!("must be a column's name or number, from 0; there are {}{near}", self.list()),
            false => {
                format!("must be a column's number, from 0 to {}: there is no header", self.names.len() - 1)
            }
        };
        Err(self.choice(option, wanted, rule))
    }

    fn choice(&self, option: &'static str, value: &str, rule: String) -> CsvError {
        CsvError::Choice { name: self.file.clone(), option, value: value.to_owned(), rule }
    }

    /// The name that somebody may have meant.
    fn near(&self, wanted: &str) -> Option<&String> {
        let lower = wanted.to_lowercase();
        let distance = |name: &String| strsim::osa_distance(&name.to_lowercase(), &lower);
        let most = (lower.chars().count() / 3).min(3);
        let names = self.names.iter().filter(|name| self.header && !name.is_empty());
        names
            .map(|name| (distance(name), name))
            .filter(|&(d, _)| d <= most)
            .min_by_key(|&(d, _)| d)
            .map(|(_, n)| n)
    }

    /// The features' columns, in the order of the file, and the target's. Categories are still unknown.
    pub fn choose(&self, options: &Options) -> Result<(Vec<Column>, Column), CsvError> {
        let Options { target, features, one_hot, task, .. } = options;
        let Some(target) = target else {
            let rule = format!("must name the column to predict; there are {}", self.list());
            return Err(self.choice("target", "none", rule));
        };
        let target = self.find("target", target)?;
        let mut taken = vec![None; self.names.len()];
        if features.is_empty() {
            taken.fill(Some(Kind::Number));
            taken[target] = None;
        }
        for (option, wanted) in [("features", features), ("one-hot", one_hot)] {
            let kind = if option == "features" { Kind::Number } else { Kind::Categories(Vec::new()) };
            let mut seen = vec![false; self.names.len()];
            for wanted in wanted {
                let index = self.find(option, wanted)?;
                if index == target {
                    let rule =
                        format!("column {} is the target: must not be a feature too", self.label(index));
                    return Err(self.choice(option, wanted, rule));
                }
                if std::mem::replace(&mut seen[index], true) {
                    let rule = format!("column {} is named twice", self.label(index));
                    return Err(self.choice(option, wanted, rule));
                }
                taken[index] = Some(kind.clone());
            }
        }
        // A model could not find it by name.
        let unnamed = |(kind, name): (&Option<Kind>, &String)| kind.is_some() && name.is_empty();
        if let Some(index) = taken.iter().zip(&self.names).position(unnamed) {
            let rule = "has no name in the header: name it, or choose other columns by --features".to_owned();
            return Err(self.choice("features", &format!("column {index}"), rule));
        }
        let column = |number: usize, kind| Column { name: self.names[number].clone(), number, kind };
        let kind = match task {
            Task::Regression => Kind::Number,
            Task::Classification => Kind::Categories(Vec::new()),
        };
        let columns = taken.into_iter().enumerate().filter_map(|(i, kind)| Some(column(i, kind?)));
        Ok((columns.collect(), column(target, kind)))
    }

    /// Where the columns of a model are in this file: by name, or without a header by number. A file without a header
    /// that has as many columns as the model has features' has these alone, in their order.
    pub fn places(&self, columns: &[Column], trained: usize) -> Result<Vec<usize>, CsvError> {
        let count = self.names.len();
        if !self.header && count == columns.len() && count < trained {
            return Ok((0..count).collect());
        }
        let place = |column: &Column| match self.header {
            true => self.names.iter().position(|name| *name == column.name),
            false => Some(column.number).filter(|&number| number < count),
        };
        let places: Vec<Option<usize>> = columns.iter().map(place).collect();
        let missing = columns.iter().zip(&places).filter(|(_, place)| place.is_none());
        let missing: Vec<String> = missing
            .map(
                |(column, _)| {
                    if self.header { format!("{:?}", column.name) } else { column.number.to_string() }
                },
            )
            .collect();
        if missing.is_empty() {
            return Ok(places.into_iter().flatten().collect());
        }
        Err(CsvError::Missing { name: self.file.clone(), missing: missing.join(", "), there: self.list() })
    }
}

/// Whether these are a row's values: all numbers, or one that is not whole. A count such as 0, 1, 2 is what pandas
/// names columns that have no names, and years are names too.
fn looks_like_numbers(names: &[String]) -> bool {
    let values: Vec<Option<f64>> = names.iter().map(|name| number(name.as_bytes())).collect();
    if values.iter().flatten().any(|value| value.trunc() != *value) {
        return true;
    }
    let all: Vec<f64> = values.into_iter().flatten().collect();
    all.len() == names.len() && !all.windows(2).all(|pair| pair[1] == pair[0] + 1.0)
}
