//! A log of JSON objects, one a line, whose lines that anyone can compute again are chained by their hashes.
//!
//! A chained line is `{"event":...,...,"chain":"H",...}`: H is the SHA-256 of the chained line before, by its own H,
//! and of this line's text before `,"chain"`. What follows the chain depends on clock and machine (seconds, tokens per
//! second) and is not covered. Whoever edits a chained line, or takes one out, has to forge all that follow, and with
//! them the hashes of states that `hotlanes verify` computes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{self, Disk, Output};
use super::hash::Sha;

/// Bytes of a log at most.
const MOST: u64 = 1 << 32;

/// What stands before the hash in a chained line. No JSON string can contain it: its quotes would be escaped.
const CHAIN: &str = ",\"chain\":\"";

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is none of a log, or was changed.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It ends before the checkpoint was saved.
    #[error("{}: {have} bytes: the checkpoint was saved when it had {want}; it was cut or exchanged", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        have: u64,
        /// The least that it must have.
        want: u64,
    },
}

/// A log as it was when a checkpoint was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes.
    pub bytes: u64,
    /// The last line's hash.
    pub chain: String,
    /// Lines that could not be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwritten: Vec<String>,
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// All of it.
    pub value: Value,
    /// What its hash covers, if it is chained.
    pub text: Option<String>,
}

/// A log that is written to.
pub struct Log<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    /// Opened at the first line.
    file: Option<Box<dyn Output>>,
    mark: Mark,
}

impl<'a> Log<'a> {
    /// A new log, in the place of one that may be there.
    pub fn new(disk: &'a dyn Disk, path: &Path) -> Log<'a> {
        Log { disk, path: path.to_owned(), file: None, mark: Mark::default() }
    }

    /// Resumes a log where a checkpoint left it; gives its lines. Where none is left, begins another that is chained to
    /// it.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn resume(disk: &'a dyn Disk, path: &Path, mark: Mark) -> Result<(Log<'a>, Vec<Line>), LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let (bytes, mark) = match files::read_regular(path, MOST) {
            Ok(bytes) => (bytes, mark),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (Vec::new(), Mark { bytes: 0, ..mark }),
            Err(e) => return Err(io(e)),
        };
        let Some(kept) = bytes.get(..mark.bytes as usize) else {
            let (have, want) = (bytes.len() as u64, mark.bytes);
            return Err(LogError::Short { path: path.to_owned(), have, want });
        };
        let lines = parse(path, &[kept, mark.unwritten.concat().as_bytes()].concat())?;
        // None is chained yet where the log was begun anew.
        if let Some(last) = lines.iter().rev().find_map(chain_of)
            && last != mark.chain
        {
            let what = format!("its hash is {last}: the checkpoint says {}", mark.chain);
            return Err(LogError::Line { path: path.to_owned(), line: lines.len(), what });
        }
        Ok((Log { disk, path: path.to_owned(), file: None, mark }, lines))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log as it is.
    pub fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// Writes a line: an event and its fields, which are chained if that is so, and fields that are not covered by the
    /// chain. Gives the line.
    ///
    /// # Errors
    /// Of the file system. The line is kept for the next write and for the mark.
    ///
    /// # Panics
    /// If `fields` is no JSON object, or `aside` neither that nor null.
    pub fn write(&mut self, event: &str, fields: &str, chained: bool, aside: &Value) -> io::Result<Value> {
        let mut line = text(event, fields);
        if chained {
            self.mark.chain = next(&self.mark.chain, &line);
            line.push_str(CHAIN);
            line.push_str(&self.mark.chain);
            line.push('"');
        }
        if !aside.is_null() {
            push_fields(&mut line, &aside.to_string());
        }
        line.push_str("}\n");
        let value = serde_json::from_str(&line).expect("an object of objects");
        self.mark.unwritten.push(line);
        self.flush()?;
        Ok(value)
    }

    /// Writes what could not be written so far.
    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.disk.append(&self.path, self.mark.bytes)?),
        };
        while let Some(line) = self.mark.unwritten.first() {
            // In one call, so that lines do not mix.
            if let Err(e) = file.write_all(line.as_bytes()) {
                let _ = file.cut(self.mark.bytes);
                return Err(e);
            }
            self.mark.bytes += line.len() as u64;
            self.mark.unwritten.remove(0);
        }
        Ok(())
    }

    /// Puts it on the medium, as far as it was written: before a checkpoint that refers to it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.as_mut().map_or(Ok(()), |file| file.sync())
    }
}

/// The part of a line that the chain covers.
pub fn text(event: &str, fields: &str) -> String {
    let mut line = format!("{{\"event\":{}", Value::from(event));
    push_fields(&mut line, fields);
    line
}

/// Appends the fields of an object.
fn push_fields(line: &mut String, object: &str) {
    let fields = object.strip_prefix('{').and_then(|t| t.strip_suffix('}')).expect("an object");
    if !fields.is_empty() {
        line.push(',');
        line.push_str(fields);
    }
}

/// The hash of a chained line, by that of the one before and its text.
fn next(before: &str, text: &str) -> String {
    Sha::default().part(before.as_bytes()).part(text.as_bytes()).hex()
}

fn chain_of(line: &Line) -> Option<String> {
    line.text.as_ref()?;
    Some(line.value["chain"].as_str()?.to_owned())
}

/// Reads a log and checks its chain. A last line that was cut is left out.
///
/// # Errors
/// See [`LogError`].
pub fn read(path: &Path) -> Result<Vec<Line>, LogError> {
    let bytes =
        files::read_regular(path, MOST).map_err(|source| LogError::Io { path: path.to_owned(), source })?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    parse(path, &bytes[..whole])
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Line>, LogError> {
    let mut lines = Vec::new();
    let mut before: Option<String> = None;
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let number = i + 1;
        let wrong = |what: String| LogError::Line { path: path.to_owned(), line: number, what };
        let line = std::str::from_utf8(line).map_err(|e| wrong(e.to_string()))?;
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let mut text = None;
        if let Some(at) = line.find(CHAIN) {
            let have = value["chain"].as_str().unwrap_or_default();
            // A log that was begun anew does not begin with a chained line, and its first one follows one that is not
            // here.
            let begun_anew = before.is_none() && number > 1;
            let want = next(before.as_deref().unwrap_or_default(), &line[..at]);
            if have != want && !begun_anew {
                return Err(wrong("was changed, or a line before it was taken out".into()));
            }
            before = Some(have.to_owned());
            text = Some(line[..at].to_owned());
        }
        lines.push(Line { number, value, text });
    }
    Ok(lines)
}

/// The event of a log's first chained line.
pub const RUN: &str = "run";

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::store::files::System;

    fn write(log: &mut Log<'_>, at: u64) {
        log.write("step", &format!("{{\"at\":{at}}}"), at % 2 == 1, &json!({ "seconds": 0.5 })).unwrap();
    }

    #[test]
    fn a_log_is_resumed_from_a_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut log = Log::new(&System, &path);
        log.write(RUN, "{}", true, &Value::Null).unwrap();
        (1..=3).for_each(|at| write(&mut log, at));
        let mark = log.mark();
        let whole = {
            (4..=6).for_each(|at| write(&mut log, at));
            fs::read(&path).unwrap()
        };
        // A line that was cut short, and lines after the mark, go.
        fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 6);
        let (mut log, lines) = Log::resume(&System, &path, mark.clone()).unwrap();
        assert_eq!(lines.len(), 4);
        (4..=6).for_each(|at| write(&mut log, at));
        assert_eq!(fs::read(&path).unwrap(), whole);

        fs::write(&path, &whole[..mark.bytes as usize - 1]).unwrap();
        let told = |mark: &Mark| Log::resume(&System, &path, mark.clone()).err().unwrap().to_string();
        assert!(told(&mark).contains("it was cut or exchanged"), "{}", told(&mark));
        fs::remove_file(&path).unwrap();
        let (mut log, lines) = Log::resume(&System, &path, mark).unwrap();
        assert!(lines.is_empty());
        (4..=6).for_each(|at| write(&mut log, at));
        let (_, lines) = Log::resume(&System, &path, log.mark()).unwrap();
        assert_eq!(lines.len(), 3, "it was begun anew");
    }

    #[test]
    fn every_change_of_a_chained_line_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut log = Log::new(&System, &path);
        log.write(RUN, &json!({ "text": ",\"chain\":\"" }).to_string(), true, &Value::Null).unwrap();
        (1..=5).for_each(|at| write(&mut log, at));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(read(&path).unwrap().iter().filter(|l| l.text.is_some()).count(), 4);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let told = |text: String, number: usize| {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, LogError::Line { line, .. } if line == number), "{error}: {number}");
        };
        for i in [0, 1, 3, 5] {
            told(text.replace(lines[i], &lines[i].replacen("\"event\":\"", "\"event\":\"x", 1)), i + 1);
            if i > 0 && i < 5 {
                told(text.replace(lines[i], ""), if i == 1 { 3 } else { 5 });
            }
        }
        told(text.replace(lines[1], lines[3]), 2);
        // What depends on the clock may be changed.
        fs::write(&path, text.replace("0.5", "0.6")).unwrap();
        assert_eq!(read(&path).unwrap().len(), 6);
    }
}
