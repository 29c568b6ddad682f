//! The profile of a session: which steps are recorded, and the files that come of it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::analyse::Analysis;
use super::memory::{Memory, Sampler, resident};
use super::roof::Roof;
use super::summary::{self, Facts};
use super::table::{By, Row};
use super::{Record, RecordError, Recording, plots, step, trace};
use crate::shell::error::Error;
use crate::shell::machine;
use crate::store::files::{self, Disk};

/// The files of a profile: a directory with others is refused.
pub const FILES: [&str; 10] = [
    "summary.md",
    "operations.csv",
    "by_shape.csv",
    "by_layer.csv",
    "trace.json",
    "time.svg",
    "distribution.svg",
    "flops.svg",
    "roofline.svg",
    "memory.svg",
];

/// Steps that are left out by default: buffers grow in them, and caches fill.
const WARM_UP: u64 = 5;
/// Steps that are recorded by default.
const STEPS: u64 = 10;
/// Spans of a thread at most: 25 MB. Recording ends with the step after which there is no room for another.
const MOST_SPANS: usize = 1 << 18;

/// A profile to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it goes.
    pub directory: PathBuf,
    /// Steps done before the first recorded one, and after the last; a few after some of warm-up if `None`.
    pub steps: Option<Range<u64>>,
}

impl Plan {
    /// Checks the directory for a run in `out`. Nothing is written.
    ///
    /// # Errors
    /// It is the run's, no directory, or holds something that is not of a profile.
    pub fn check(&self, out: &Path) -> Result<(), Error> {
        let directory = &self.directory;
        let told = |rule: String| Err(Error::Usage(format!("--profile {}: {rule}", directory.display())));
        let same = |a: &Path, b: &Path| match (fs::canonicalize(a), fs::canonicalize(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => std::path::absolute(a).ok() == std::path::absolute(b).ok(),
        };
        if same(directory, out) {
            return told("must be another directory than the run's".into());
        }
        match fs::read_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => told(e.to_string()),
            Ok(entries) => {
                let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
                match names.filter(|name| !FILES.contains(&name.as_str())).min() {
                    None => Ok(()),
                    Some(name) => {
                        told(format!("holds {name}, which is not of a profile: name a new directory"))
                    }
                }
            }
        }
    }
}

/// The profile of a session while it runs.
#[derive(Debug)]
pub struct Profiler {
    directory: PathBuf,
    steps: Range<u64>,
    recording: Option<Recording>,
    sampler: Option<Sampler>,
    /// Why no more is recorded.
    ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All steps were.
    Complete,
    /// There is no room for another step.
    Full,
    /// There can be no recording.
    Refused(RecordError),
}

/// What the files say beside what was recorded.
#[derive(Clone, Debug)]
pub struct About {
    /// The run, in a line.
    pub title: String,
    /// The trainer's buffers.
    pub memory: Memory,
}

impl Profiler {
    /// For a session that goes from and to these numbers of steps done.
    pub fn new(plan: &Plan, session: Range<u64>) -> Profiler {
        let length = session.end.saturating_sub(session.start);
        let by_default = || {
            let start = session.start + WARM_UP.min(length / 2);
            start..start + STEPS
        };
        Profiler {
            directory: plan.directory.clone(),
            steps: plan.steps.clone().unwrap_or_else(by_default),
            recording: None,
            sampler: None,
            ended: None,
        }
    }

    /// Runs a step after `done` steps, and records it if it is one of those to record.
    pub fn step<R>(&mut self, done: u64, run: impl FnOnce() -> R) -> R {
        if !self.steps.contains(&done) || self.ended.is_some() {
            return run();
        }
        if self.recording.is_none() {
            match Recording::new(MOST_SPANS) {
                Ok(recording) => self.recording = Some(recording),
                Err(why) => {
                    self.ended = Some(Ended::Refused(why));
                    return run();
                }
            }
            self.sampler = Sampler::start();
        }
        let Some(recording) = &mut self.recording else { return run() };
        let (before, _) = recording.filled();
        recording.switch(true);
        let span = step(done + 1);
        let result = run();
        drop(span);
        recording.switch(false);
        let (after, room) = recording.filled();
        if done + 1 >= self.steps.end {
            self.ended = Some(Ended::Complete);
        } else if after + (after - before) > room {
            self.ended = Some(Ended::Full);
        }
        result
    }

    /// Whether no more will be recorded, so that there is no reason to wait for the session's end.
    pub fn is_complete(&self) -> bool {
        self.ended.is_some()
    }

    /// Writes the files of what was recorded; what there is to say about it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self, disk: &dyn Disk, about: &About, done: u64) -> Result<Vec<String>, Error> {
        let samples = self.sampler.map(Sampler::finish).unwrap_or_default();
        let Some(recording) = self.recording else {
            let why = match self.ended {
                Some(Ended::Refused(why)) => why.to_string(),
                _ => format!("the session ended after step {done}"),
            };
            let Range { start, end } = self.steps;
            return Ok(vec![format!("no profile of steps {start}..{end}: {why}")]);
        };
        let record = recording.finish();
        let analysis = Analysis::of(&record);
        // Measuring the limits takes memory of its own.
        let most = resident().map(|[_, most]| most);
        let roof = Roof::measure(&analysis.calls);
        let profile = Profile { record, analysis, roof, samples, resident: most };
        let Range { start, end } = self.steps;
        let notes = profile.notes(start..end, self.ended == Some(Ended::Full));
        profile.write(disk, &self.directory, about, &notes)?;
        let mut lines = summary::terminal(&profile.analysis, &profile.roof);
        lines.extend(notes);
        lines.push(format!("profile in {}: summary.md, tables, trace.json, plots", self.directory.display()));
        Ok(lines)
    }
}

/// What was recorded, and what it is held against.
struct Profile {
    record: Record,
    analysis: Analysis,
    roof: Roof,
    samples: Vec<(f64, f64)>,
    /// The most memory that the process had.
    resident: Option<f64>,
}

impl Profile {
    /// What is missing.
    fn notes(&self, wanted: Range<u64>, full: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let (got, want) = (self.analysis.steps.len() as u64, wanted.end - wanted.start);
        if got < want {
            let why = if full { "a thread has no room for more spans" } else { "the session ended before" };
            notes.push(format!("{got} of {want} steps were recorded: {why}"));
        }
        if self.analysis.dropped > 0 {
            notes.push(format!(
                "{} spans were not recorded, as a thread has room for {MOST_SPANS}: operations took more than this",
                self.analysis.dropped
            ));
        }
        notes
    }

    fn write(&self, disk: &dyn Disk, directory: &Path, about: &About, notes: &[String]) -> Result<(), Error> {
        let Profile { record, analysis, roof, samples, resident } = self;
        let put = |name: &str, text: io::Result<String>| {
            let path = directory.join(name);
            text.and_then(|text| files::replace_derived(disk, &path, text.as_bytes()))
                .map_err(Error::io(&path))
        };
        disk.create_directory(directory).map_err(Error::io(directory))?;
        let [rows, shapes, layers] =
            [By::Operation, By::Shape, By::Layer].map(|by| analysis.table(by, Some(roof)));
        put("operations.csv", Ok(csv(&rows, By::Operation)))?;
        put("by_shape.csv", Ok(csv(&shapes, By::Shape)))?;
        put("by_layer.csv", Ok(csv(&layers, By::Layer)))?;
        let trace = trace::trace(record, &about.title, trace::MOST_EVENTS);
        let mut notes = notes.to_vec();
        if trace.events < trace.spans {
            notes.push(format!("trace.json has the first {} of {} spans", trace.events, trace.spans));
        }
        put("trace.json", Ok(trace.json))?;
        let title = &about.title;
        put("time.svg", plots::time(title, &rows, analysis))?;
        put("distribution.svg", plots::distribution(title, &rows))?;
        put("flops.svg", plots::flops(title, &rows))?;
        put("roofline.svg", plots::roofline(title, &rows, roof))?;
        put("memory.svg", plots::memory(title, &about.memory, samples, record))?;
        let facts = Facts {
            title,
            cpu: &machine::cpu(),
            analysis,
            rows: &rows,
            shapes: &shapes,
            roof,
            memory: &about.memory,
            resident: *resident,
            notes: &notes,
        };
        // Last: a directory with a summary is complete.
        put("summary.md", Ok(summary::markdown(&facts)))
    }
}

/// A table as CSV: of all recorded steps together; empty where something is not counted.
fn csv(rows: &[Row], by: By) -> String {
    let first = match by {
        By::Operation => "operation",
        By::Shape => "operation,shape",
        By::Layer => "layer,operation",
    };
    let mut text = format!(
        "{first},calls,total_seconds,self_seconds,share,flops,bytes,gflops,gigabytes_per_second,flops_per_byte,\
        limit,limit_share\n"
    );
    for row in rows {
        let name = quoted(&row.operation);
        let _ = match by {
            By::Operation => write!(text, "{name}"),
            By::Shape => write!(text, "{name},{}", row.shape()),
            By::Layer => {
                write!(text, "{},{name}", row.layer.map_or(String::new(), |layer| layer.to_string()))
            }
        };
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value}"));
        let _ = writeln!(
            text,
            ",{},{},{},{},{},{},{},{},{},{},{}",
            row.calls,
            row.total,
            row.own,
            row.share,
            row.work.flops,
            row.work.bytes,
            number(row.gflops()),
            number(row.gigabytes()),
            number(row.intensity()),
            row.limit.unwrap_or_default(),
            number(row.limit_share())
        );
    }
    text
}

/// A field as CSV quotes it where it must.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
