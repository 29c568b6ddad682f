//! The records of a CSV file with their lines, read by the crate `csv`, which takes whatever it is given: what that is
//! not told about is told here.

use std::io::{self, Chain, Cursor, Read};

use ::csv::{ByteRecord, ReaderBuilder, Terminator};

use super::CsvError;
use crate::data::file::MARKS;

/// The most bytes of a record: tens of thousands of numbers. An open quote takes no more memory than that.
pub(super) const MAX_RECORD: u64 = 16 << 20;

/// Beginnings of files that people take for CSV files, and what to do.
const FOREIGN: [(&[u8], &str); 2] = [
    (b"\x1f\x8b", "begins as gzip does: must be text; unpack it with gunzip"),
    (b"PK\x03\x04", "begins as spreadsheets and zip files do: must be text; export it as CSV"),
];

/// Two line ends more than there are, see [`Records::next`].
const END: &[u8] = b"\n\n";

/// The records of a file.
pub(super) struct Records<R: Read> {
    /// The file, for messages.
    pub name: String,
    /// The columns, for messages, once they are known.
    pub labels: Vec<String>,
    csv: ::csv::Reader<Input<R>>,
    record: ByteRecord,
}

/// A file with its end marked and the length of a record bounded.
struct Input<R> {
    inner: Chain<Chain<Cursor<Vec<u8>>, R>, &'static [u8]>,
    /// Bytes read, `END` included.
    read: u64,
    /// Bytes that the record may still have.
    left: u64,
    ended: bool,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.read += count as u64;
        self.left = self.left.saturating_sub(count as u64);
        self.ended = count == 0;
        Ok(count)
    }
}

impl<R: Read> Records<R> {
    /// Begins to read.
    pub fn new(mut input: R, name: String, delimiter: u8) -> Result<Self, CsvError> {
        let mut start = Vec::new();
        if let Err(source) = input.by_ref().take(4).read_to_end(&mut start) {
            return Err(CsvError::Read { name, source });
        }
        if let Some((_, mark, encoding)) = MARKS.iter().find(|(mark, ..)| start.starts_with(mark)) {
            let what = format!(
                "begins with {mark}, the byte-order mark of {encoding}: must be UTF-8; \
                 try: iconv -f {encoding} -t UTF-8 OLD.csv > NEW.csv"
            );
            return Err(CsvError::Foreign { name, what });
        }
        if let Some(&(_, what)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(CsvError::Foreign { name, what: what.to_owned() });
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            start.drain(..3);
        }
        let inner = Cursor::new(start).chain(input).chain(END);
        // Lines end by LF alone, so that their numbers are right; the CR before it goes with the spaces around a cell.
        let csv = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(Terminator::Any(b'\n'))
            .buffer_capacity(1 << 16)
            .from_reader(Input { inner, read: 0, left: MAX_RECORD, ended: false });
        Ok(Records { name, labels: Vec::new(), csv, record: ByteRecord::new() })
    }

    /// Reads the next record that is not blank; false at the end.
    pub fn next(&mut self) -> Result<bool, CsvError> {
        loop {
            self.csv.get_mut().left = MAX_RECORD;
            let line = self.csv.position().line();
            match self.csv.read_byte_record(&mut self.record) {
                Err(e) => return Err(self.failed(e.into(), line)),
                Ok(false) => return Ok(false),
                Ok(true) => {}
            }
            if self.is_open() {
                let last = self.record.len() - 1;
                let column = self.labels.get(last).cloned().unwrap_or_else(|| last.to_string());
                let name = self.name.clone();
                return Err(CsvError::Quote { name, line: self.line_of(last), column });
            }
            let blank =
                self.record.len() == 1 && !self.cell(0).is_empty() && self.cell(0).trim_ascii().is_empty();
            if !blank {
                return Ok(true);
            }
        }
    }

    /// Whether the last record goes on to the end of the file. Any other has ended with a line end before: with the
    /// first of the two that were added, if the file has none at its end.
    fn is_open(&self) -> bool {
        let input = self.csv.get_ref();
        input.ended && self.csv.position().byte() == input.read
    }

    fn failed(&self, source: io::Error, line: u64) -> CsvError {
        let name = self.name.clone();
        match self.csv.get_ref().left {
            0 => CsvError::Long { name, line, max: MAX_RECORD },
            _ => CsvError::Read { name, source },
        }
    }

    /// The cells of the record.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// A cell; empty beyond the last.
    pub fn cell(&self, index: usize) -> &[u8] {
        self.record.get(index).unwrap_or_default()
    }

    /// The line in which the record begins.
    pub fn line(&self) -> u64 {
        self.line_of(0)
    }

    /// The line in which a cell of the record begins.
    pub fn line_of(&self, index: usize) -> u64 {
        // Counted back from the end: the record's own position is that of blank lines before it.
        let after: usize = self.record.iter().skip(index).map(line_ends).sum();
        let end = if self.is_open() { 0 } else { 1 };
        self.csv.position().line().saturating_sub(after as u64 + end)
    }
}

fn line_ends(cell: &[u8]) -> usize {
    cell.iter().filter(|&&byte| byte == b'\n').count()
}
