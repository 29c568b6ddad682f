//! `hotlanes replay bench`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{codecs, memory, saving};
use crate::shell::progress::tell;

pub(super) const HELP: &str = "\
Each row measures two things in turn, several times, and gives the medians and the median ratio. Records of 49,924 bytes
are those of a chess program (8x8x122 planes, 4,672 moves, a value, all f32). \"Earlier\" is the design that this buffer
replaces: vectors resized, gathered, copied again, and a file written in place. Rows of codecs are in bytes of
records as added. Run nothing else; pin it to a core (taskset -c 0) for the rows of one thread.";

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Capacity in records of 49,924 bytes; they are held twice.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(512..=65536))]
    records: u32,
    /// Approximate seconds for each row.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where to save and load [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// One thing against another.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: &'static str,
    /// The median of this buffer.
    value: f64,
    unit: &'static str,
    against: &'static str,
    against_value: f64,
    /// The median ratio, above 1 where this buffer is the faster.
    ratio: f64,
    /// What the ratio should be at least.
    asked: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    records: u32,
    cores: usize,
    rows: Vec<Row>,
}

/// Times of this buffer and of another thing, in turns.
pub(super) struct Versus {
    pub(super) name: &'static str,
    pub(super) against: &'static str,
    pub(super) unit: &'static str,
    pub(super) asked: Option<f64>,
    /// Units that one execution does.
    pub(super) work: f64,
}

const ROUNDS: usize = 7;

impl Versus {
    /// Runs both for about `time` altogether.
    pub(super) fn run(self, time: Duration, mut ours: impl FnMut(), mut other: impl FnMut()) -> Row {
        let share = time / (2 * ROUNDS as u32);
        let (mut speeds, mut others, mut ratios) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let (a, b) = (self.work / seconds(share, &mut ours), self.work / seconds(share, &mut other));
            speeds.push(a);
            others.push(b);
            ratios.push(a / b);
        }
        self.row([median(speeds), median(others), median(ratios)])
    }

    /// A row of what was measured elsewhere.
    pub(super) fn row(self, [value, against_value, ratio]: [f64; 3]) -> Row {
        let Versus { name, against, unit, asked, .. } = self;
        Row { name, value, unit, against, against_value, ratio, asked }
    }
}

/// Seconds of one execution, of as many as fit in the time.
fn seconds(time: Duration, f: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut count = 0;
    loop {
        f();
        count += 1;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return elapsed.as_secs_f64() / f64::from(count);
        }
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(super) fn run(args: &Args) -> ExitCode {
    let time = Duration::from_secs(args.seconds);
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let measured = memory::rows(args.records as usize, time).and_then(|(mut rows, buffer, earlier)| {
        rows.extend(codecs::rows(time)?);
        rows.extend(saving::rows(&directory, &buffer, earlier)?);
        Ok(rows)
    });
    let rows = match measured {
        Ok(rows) => rows,
        Err(why) => return super::super::fail(1, why),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let report = Report { records: args.records, cores, rows };
    super::super::printed(if args.json {
        tell(format_args!("{}\n", serde_json::to_string(&report).expect("numbers and names")))
    } else {
        tell(table(&report))
    })
}

fn table(report: &Report) -> String {
    let mut text = format!(
        "{:42} {:>10} {:12} {:30} {:>10} {:>7} {:>6}\n",
        "", "measured", "", "against", "", "ratio", "asked"
    );
    for row in &report.rows {
        let asked = row.asked.map_or(String::new(), |asked| format!("{asked}"));
        let (value, other) = (short(row.value), short(row.against_value));
        text += &format!(
            "{:42} {value:>10} {:12} {:30} {other:>10} {:>7.2} {asked:>6}\n",
            row.name, row.unit, row.against, row.ratio
        );
    }
    text
}

fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
