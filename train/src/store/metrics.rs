//! The figures of a run as CSV, one number a line: position, event, metric, value. Written anew from the log when a run
//! is resumed.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{self, Disk, Output};

/// The file's name in a run's directory.
pub const FILE: &str = "metrics.csv";

/// The file that a run appends to.
pub struct Metrics<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    /// The field of a line that has its place in the run.
    position: &'static str,
    file: Option<Box<dyn Output>>,
    len: u64,
}

impl<'a> Metrics<'a> {
    /// A file with the figures of these lines of a log.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(
        disk: &'a dyn Disk,
        directory: &Path,
        position: &'static str,
        lines: &[Value],
    ) -> io::Result<Metrics<'a>> {
        let path = directory.join(FILE);
        let rows: String = lines.iter().map(|line| rows(position, line)).collect();
        let text = format!("{position},event,metric,value\n{rows}");
        files::replace_derived(disk, &path, text.as_bytes())?;
        Ok(Metrics { disk, path, position, file: None, len: text.len() as u64 })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the figures of a line of the log.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(&mut self, line: &Value) -> io::Result<()> {
        let rows = rows(self.position, line);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.disk.append(&self.path, self.len)?),
        };
        if let Err(e) = file.write_all(rows.as_bytes()) {
            let _ = file.cut(self.len);
            return Err(e);
        }
        self.len += rows.len() as u64;
        Ok(())
    }
}

/// A row for each number of a line.
fn rows(position: &str, line: &Value) -> String {
    let mut rows = String::new();
    let (Some(fields), Some(at), Some(event)) =
        (line.as_object(), line[position].as_u64(), line["event"].as_str())
    else {
        return rows;
    };
    for (name, value) in fields.iter().filter(|(name, _)| *name != position) {
        let mut row = |name: &str, value: &Value| {
            if value.is_number() {
                let _ = writeln!(rows, "{at},{event},{name},{value}");
            }
        };
        match value {
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(i, v)| row(&format!("{name}.{i}"), v));
            }
            Value::Object(fields) => fields.iter().for_each(|(k, v)| row(&format!("{name}.{k}"), v)),
            value => row(name, value),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::files::System;

    #[test]
    fn every_number_has_a_row() {
        let directory = tempfile::tempdir().unwrap();
        let line = |at: u64| json!({ "event": "e", "step": at, "loss": 0.5, "best": true, "nodes": [1, 2] });
        let mut metrics = Metrics::new(&System, directory.path(), "step", &[line(1)]).unwrap();
        metrics.write(&line(2)).unwrap();
        let row = |at: u64| format!("{at},e,loss,0.5\n{at},e,nodes.0,1\n{at},e,nodes.1,2\n");
        let text = std::fs::read_to_string(metrics.path()).unwrap();
        assert_eq!(text, format!("step,event,metric,value\n{}{}", row(1), row(2)));
    }
}
