//! A log of JSON objects, one a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::store::files;

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log to go on with it, from the lines for which `keep` holds: a run that is resumed drops what was logged
    /// after its checkpoint, and a line that was cut short.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(path: &Path, keep: impl Fn(&Value) -> bool) -> io::Result<Log> {
        if path.exists() {
            let text = fs::read_to_string(path)?;
            let kept = text.lines().filter(|line| serde_json::from_str(line).is_ok_and(|value| keep(&value)));
            let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
            files::replace(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Log { path: path.to_owned(), file })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an object with its kind as the field `event`, in one call, so that lines do not mix.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write<T: Serialize>(&mut self, event: &str, object: &T) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a, T> {
            event: &'a str,
            #[serde(flatten)]
            object: &'a T,
        }
        let mut line = serde_json::to_string(&Line { event, object })?;
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_from_what_is_kept() {
        #[derive(Serialize)]
        struct At {
            at: u64,
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut log = Log::open(&path, |_| true).unwrap();
        (1..=3).for_each(|at| log.write("step", &At { at }).unwrap());
        log.file.write_all(b"{\"event\":\"st").unwrap();
        let mut log = Log::open(&path, |line| line["at"].as_u64() < Some(3)).unwrap();
        log.write("step", &At { at: 9 }).unwrap();
        let lines = [
            "{\"event\":\"step\",\"at\":1}",
            "{\"event\":\"step\",\"at\":2}",
            "{\"event\":\"step\",\"at\":9}",
            "",
        ];
        assert_eq!(fs::read_to_string(log.path()).unwrap(), lines.join("\n"));
    }
}
