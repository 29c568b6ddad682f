//! `hotlanes predict`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::data::csv::{CsvError, Format, Reader};
use crate::data::file::Opened;
use crate::models::mlp::predict::Predictor;
use crate::models::mlp::state;
use crate::shell::error::Error;
use crate::shell::progress::note;
use crate::shell::signals;
use crate::store::files::{self, System};

pub(super) const HELP: &str = "\
Reads rows and writes a prediction for each, as CSV with a header, while it reads: a file of any length needs little
memory. Columns are found by the names that the model was trained on, in any order; others are left out, and the target
need not be there. A prediction is in the target's units, or a class; with --probabilities a class's probabilities
follow it. With --out the file is written beside its place and renamed, so that it is never there in part.

Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + N stopped by signal N (130: Ctrl-C).";

#[derive(clap::Args)]
pub(super) struct Args {
    /// CSV file of rows; - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    data: PathBuf,
    /// Directory of a run of `hotlanes train mlp`.
    #[arg(long, value_name = "RUN", default_value = "mlp-run")]
    model: PathBuf,
    /// Take the latest checkpoint instead of the best model.
    #[arg(long)]
    last: bool,
    /// File for the predictions [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The first line is a row, not the names of columns [default: as the model's file].
    #[arg(long)]
    no_header: bool,
    /// Mark between cells: one character, or tab [default: as the model's file].
    #[arg(long, value_name = "MARK")]
    delimiter: Option<String>,
    /// Write the probability of each class, too.
    #[arg(long)]
    probabilities: bool,
    /// Leave the prediction of a row that cannot be read empty; they are counted, and the first ones shown.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Print nothing but errors beside the predictions.
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
    signals::install(signals::STOPPING);
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
    let predictor = Predictor::new(trained);
    let (input, name) = open(&args.data)?;
    let Some(path) = &args.out else {
        let mut out = io::stdout().lock();
        let result = Predictions::new(args, predictor, delimiter).write(input, name, format, &mut out)?;
        return result.map_err(Error::Output);
    };
    if same_file(path, &args.data) {
        return Err(Error::Usage(format!("--out {}: is the file of the rows", path.display())));
    }
    let mut failed = Ok(());
    let written = files::replace_by(&System, path, true, &mut |out| {
        match Predictions::new(args, predictor.take(), delimiter).write(input, name, format, out) {
            Ok(result) => result,
            Err(e) => {
                failed = Err(e);
                Err(io::Error::other("no predictions"))
            }
        }
    });
    failed?;
    written.map_err(Error::io(path))
}
