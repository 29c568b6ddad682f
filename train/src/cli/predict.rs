//! `hotlanes predict`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::data::csv::{CsvError, Format, Reader};
use crate::models::mlp::predict::{Predictor, TILE};
use crate::models::mlp::state;
use crate::shell::error::Error;
use crate::shell::progress::note;
use crate::shell::settings;
use crate::shell::signals;
use crate::store::files::{self, System};

pub(super) const HELP: &str = "\
Writes a prediction for each row as CSV with a header, while it reads: a file of any length needs little memory. Columns
are found by the names that the model was trained on, in any order; others, and the target, are ignored. A prediction is
in the target's units, or the likeliest class, which --probabilities follows with the probability of each. --out
replaces a file only when all of it is written.

Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + N stopped by signal N (130: Ctrl-C).";

#[derive(clap::Args)]
pub(super) struct Args {
    /// CSV file; - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    data: PathBuf,
    /// Directory of a run of `hotlanes train mlp`.
    #[arg(long, value_name = "RUN", default_value = "mlp-run")]
    model: PathBuf,
    /// Use the last checkpoint instead of the best model.
    #[arg(long)]
    last: bool,
    /// File to write [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file has no header: its first line is a row [default: as in training].
    #[arg(long)]
    no_header: bool,
    /// Delimiter: one character, or tab [default: as in training].
    #[arg(long, value_name = "MARK")]
    delimiter: Option<String>,
    /// Also write the probability of each class.
    #[arg(long)]
    probabilities: bool,
    /// Leave the predictions of unreadable rows empty; they are counted, and the first ones shown.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Print predictions and errors only.
    #[arg(long)]
    quiet: bool,
}

/// Bad rows that are shown.
const SHOWN: u64 = 5;
/// Bytes of output that are kept together.
const BUFFER: usize = 1 << 16;

pub(super) fn run(args: Args) -> ExitCode {
    if let Err(why) = super::check_tier() {
        return super::fail(2, why);
    }
    signals::install(signals::READING);
    // Rows are read one after the other: a second thread would wait.
    let pool = match super::pool(Some(1)) {
        Ok(pool) => pool,
        Err(why) => return super::fail(1, why),
    };
    match pool.install(|| predict(&args)) {
        Ok(()) => signals::requested().map_or(ExitCode::SUCCESS, |signal| ExitCode::from(signal.exit_code())),
        Err(Error::Output(e)) => super::printed(Err(e)),
        Err(e) => super::fail(e.exit_code(), e),
    }
}

fn predict(args: &Args) -> Result<(), Error> {
    let trained = state::load(&args.model, args.last)?;
    let schema = &trained.model.schema;
    if args.probabilities && schema.classes().is_none() {
        return Err(Error::Usage("--probabilities: the model predicts a number".into()));
    }
    let delimiter = match &args.delimiter {
        Some(text) => Format::delimiter(text)?,
        None => schema.delimiter,
    };
    let format = Format { header: schema.header && !args.no_header, delimiter };
    let (input, name) = open(&args.data)?;
    let reader = Reader::new(input, name, schema, format)?;
    let mut predictions = Predictions {
        probabilities: args.probabilities,
        skip: args.skip_bad_rows,
        quiet: args.quiet,
        predictor: Predictor::new(trained),
        bad: Vec::new(),
        rows: 0,
        skipped: 0,
        line: String::new(),
    };
    let Some(path) = &args.out else {
        let mut out = io::BufWriter::with_capacity(BUFFER, io::stdout().lock());
        return predictions.write_all(reader, delimiter, &mut out);
    };
    let mut failed = None;
    let written = files::replace_by(&System, path, |out| {
        let result = predictions.write_all(reader, delimiter, out);
        let stopped = signals::requested().map(|_| io::Error::other("stopped"));
        match result {
            Ok(()) => stopped.map_or(Ok(()), Err),
            Err(Error::Output(e)) => Err(e),
            Err(e) => {
                failed = Some(e);
                Err(io::Error::other("no predictions"))
            }
        }
    });
    match failed {
        Some(e) => Err(e),
        None if signals::requested().is_some() => Ok(()),
        None => written.map_err(Error::io(path)),
    }
}

/// The rows, and their name for messages. A pipe is as good as a file.
fn open(path: &Path) -> Result<(Box<dyn Read>, String), Error> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), "standard input".into()));
    }
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.is_dir() {
        return Err(Error::Usage(format!("{}: is a directory: must be a CSV file", path.display())));
    }
    Ok((Box::new(file), path.display().to_string()))
}

/// Predictions on their way out.
struct Predictions {
    probabilities: bool,
    skip: bool,
    quiet: bool,
    predictor: Predictor,
    /// Which of the rows that wait are bad ones, by how many good ones come before.
    bad: Vec<usize>,
    rows: usize,
    skipped: u64,
    line: String,
}

impl Predictions {
    fn write_all<R: Read>(
        &mut self,
        mut reader: Reader<R>,
        delimiter: u8,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
        let failed = |e: csv::Error| Error::Output(e.into());
        out.write_record(self.header()).map_err(failed)?;
        while signals::requested().is_none() {
            let full = match reader.next_row() {
                Ok(Some(row)) => {
                    self.rows += 1;
                    !self.predictor.push(row)
                }
                Ok(None) => break,
                Err(e) if self.skip && e.is_row() => {
                    self.skip(&e);
                    // A file of bad rows alone takes no more memory than another.
                    self.bad.len() >= TILE
                }
                Err(e) => {
                    // What was predicted before is told first.
                    self.flush(&mut out).map_err(failed)?;
                    out.flush().map_err(Error::Output)?;
                    return Err(e.into());
                }
            };
            if full {
                self.flush(&mut out).map_err(failed)?;
                // Rows may come slowly.
                out.flush().map_err(Error::Output)?;
            }
        }
        self.flush(&mut out).map_err(failed)?;
        out.flush().map_err(Error::Output)?;
        if self.skipped > 0 && !self.quiet {
            note(format_args!("{} rows could not be read: their predictions are empty", self.skipped));
        }
        Ok(())
    }

    /// Column names.
    fn header(&self) -> Vec<String> {
        let schema = &self.predictor.model().schema;
        let classes = schema.classes().filter(|_| self.probabilities).unwrap_or_default();
        let of_class = classes.iter().map(|class| format!("{}={class}", schema.target.name));
        [schema.target.name.clone()].into_iter().chain(of_class).collect()
    }

    fn skip(&mut self, error: &CsvError) {
        self.skipped += 1;
        if self.skipped <= SHOWN && !self.quiet {
            note(format_args!("hotlanes: {error}"));
        }
        self.bad.push(self.rows);
    }

    /// Predicts and writes the rows that wait.
    fn flush<W: Write>(&mut self, out: &mut csv::Writer<W>) -> csv::Result<()> {
        let Predictions { probabilities, predictor, bad, rows, line, .. } = self;
        let width = predictor.width();
        let columns = if *probabilities { 1 + width } else { 1 };
        let mut empty = bad.drain(..).peekable();
        let values = predictor.flush().to_vec();
        for (written, prediction) in values.chunks_exact(width).enumerate() {
            while empty.next_if(|&at| at <= written).is_some() {
                out.write_record(std::iter::repeat_n("", columns))?;
            }
            match predictor.class(prediction) {
                None => number(line, prediction[0], out)?,
                Some(class) => {
                    out.write_field(class)?;
                    for &p in prediction.iter().filter(|_| *probabilities) {
                        number(line, p, out)?;
                    }
                }
            }
            out.write_record(None::<&[u8]>)?;
        }
        empty.try_for_each(|_| out.write_record(std::iter::repeat_n("", columns)))?;
        *rows = 0;
        Ok(())
    }
}

/// Writes a number, which reads back to the bit.
fn number<W: Write>(text: &mut String, value: f64, out: &mut csv::Writer<W>) -> csv::Result<()> {
    text.clear();
    settings::write_number(text, value);
    out.write_field(&*text)
}
