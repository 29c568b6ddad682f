//! The rows of a run, from a CSV file or drawn by the program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::head::Targets;
use crate::data::csv::{self, CsvError, Options, Skipped, Task};
use crate::data::standardize::{Scale, Standardizer};
use crate::data::table::{Part, Schema, Shares, Split, SplitError};
use crate::data::{file, smooth};
use crate::shell::error::Error;
use crate::shell::settings::SettingError;

/// The seed of the rows that the program draws: the same for every run, so that figures can be compared.
const ROWS_SEED: u64 = 1;

/// Where a run's rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file; without one the program draws rows.
    pub file: Option<PathBuf>,
    /// Its columns.
    pub columns: Options,
    /// Rows that the program draws.
    pub rows: usize,
    /// The shares of the rows for validation and test.
    pub shares: Shares,
}

/// Rows to learn from, to choose by, and to report on.
#[derive(Clone, Debug)]
pub struct Data {
    /// Where they come from, in words.
    pub name: String,
    /// A hash of them all.
    pub hash: u64,
    /// Their columns.
    pub schema: Schema,
    /// What the features were standardised by.
    pub standardizer: Standardizer,
    /// The target's scale, unless it is a class.
    pub target: Option<Scale>,
    /// Rows that were left out.
    pub skipped: Skipped,
    /// Learnt from.
    pub train: Part,
    /// The model is chosen by them.
    pub validation: Part,
    /// Held out.
    pub test: Part,
}

impl From<CsvError> for Error {
    fn from(error: CsvError) -> Self {
        if error.is_usage() { Error::Usage(error.to_string()) } else { Error::data(error) }
    }
}

impl From<SplitError> for Error {
    fn from(error: SplitError) -> Self {
        if error.is_usage() { Error::Usage(error.to_string()) } else { Error::data(error) }
    }
}

impl Source {
    /// Checks what can be checked without reading.
    ///
    /// # Errors
    /// A setting breaks its rule.
    pub fn check(&self) -> Result<(), Error> {
        self.shares.check()?;
        self.columns.format.check()?;
        if self.file.is_some() {
            if self.columns.target.is_none() {
                let rule = "must name the column to predict, by its name or, from 0, its number";
                return Err(SettingError::new("target", "none", rule).into());
            }
            return Ok(());
        }
        let Options { target, features, one_hot, task, .. } = &self.columns;
        let given = [
            ("target", target.is_some()),
            ("features", !features.is_empty()),
            ("one-hot", !one_hot.is_empty()),
            ("task", *task == Task::Classification),
        ];
        if let Some((name, _)) = given.into_iter().find(|&(_, given)| given) {
            let rule = "needs a file, --data: the rows that the program draws have a number as target";
            return Err(Error::Usage(format!("--{name}: {rule}")));
        }
        Ok(smooth::check(self.rows)?)
    }

    /// Reads or draws the rows, and splits them by a seed.
    ///
    /// # Errors
    /// See [`CsvError`] and [`SplitError`].
    pub fn load(&self, seed: u64) -> Result<Data, Error> {
        let (table, skipped) = match &self.file {
            Some(path) => csv::load(path, &self.columns)?,
            None => (smooth::draw(self.rows, ROWS_SEED)?, Skipped::default()),
        };
        let Split { train, validation, test, standardizer, target } = table.split(self.shares, seed)?;
        let (name, hash, schema) = (table.name().to_owned(), table.hash(), table.schema().clone());
        Ok(Data { name, hash, schema, standardizer, target, skipped, train, validation, test })
    }

    /// The same source with an absolute path, for a checkpoint: a run that is resumed from another directory finds its
    /// file.
    ///
    /// # Errors
    /// The path is empty.
    pub fn absolute(mut self) -> Result<Self, Error> {
        if let Some(path) = &mut self.file {
            *path = file::absolute(path).map_err(CsvError::from)?;
        }
        Ok(self)
    }
}

impl Data {
    /// Classes, unless the target is a number.
    pub fn classes(&self) -> Option<usize> {
        self.schema.classes().map(<[String]>::len)
    }

    /// Makes numbers of two classes, 0 and 1, as the loss of one logit takes them.
    pub(super) fn number_classes(&mut self) {
        for part in [&mut self.train, &mut self.validation, &mut self.test] {
            part.targets = part.labels.drain(..).map(|label| label as f32).collect();
        }
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        [&self.train, &self.validation, &self.test].map(|part| part.rows).iter().sum()
    }
}

/// A part's targets.
pub fn targets(part: &Part) -> Targets<'_> {
    if part.labels.is_empty() { Targets::Numbers(&part.targets) } else { Targets::Classes(&part.labels) }
}
