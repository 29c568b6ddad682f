//! The report: what each kernel does on this CPU, on each tier, against a plain loop and against the machine's
//! limits, with proof that all tiers gave the same bits.

pub(crate) mod limits;
mod measure;
mod outside;
mod print;

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use hotlanes::{TIER_ENV, Tier};
use hotlanes_cases::{Case, Memory, Timed, cases};

use limits::Limits;
use measure::Probe;
use print::{Printer, Row};
use serde::Serialize;

use crate::shell::machine::Machine;

pub use print::LEGEND;

/// What to report.
#[derive(Clone, Debug)]
pub struct Options {
    /// All sizes, and longer samples of each.
    pub full: bool,
    /// Threads for the kernels and the limits.
    pub threads: usize,
    /// Calls from a thread outside the pool instead.
    pub outside: bool,
    /// JSON lines in place of the table.
    pub json: bool,
    /// Kernels to report on, by name; all if empty.
    pub kernels: Vec<String>,
    /// Tiers to time; all available ones if empty.
    pub tiers: Vec<Tier>,
}

/// The cases that the report takes, each with one of its sizes: of these kernels, or of all if there are none.
fn sizes(full: bool, kernels: &[String]) -> Vec<(&'static Case, &'static [usize])> {
    let mut all = Vec::new();
    for case in cases().filter(|c| kernels.is_empty() || kernels.iter().any(|k| k == c.id)) {
        if let Timed::At { report, full: more, .. } = case.timed {
            all.extend(report.iter().chain(if full { more } else { &[] }).map(|size| (case, *size)));
        }
    }
    all
}

/// The names that `--kernel` takes.
pub fn kernels() -> Vec<&'static str> {
    cases().filter(|c| matches!(c.timed, Timed::At { .. })).map(|c| c.id).collect()
}

/// A kernel and a size of the report.
#[derive(Serialize)]
struct Listed {
    kernel: &'static str,
    size: String,
    /// The numbers of the size.
    numbers: &'static [usize],
    /// The numerator of the throughput for one run, and its unit after division by 1e9 seconds.
    items: f64,
    unit: &'static str,
}

/// Prints the kernels and sizes of the report, a JSON object a line, and measures nothing: for other libraries'
/// benchmarks.
///
/// # Errors
/// Standard output cannot be written.
pub fn list(options: &Options) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for (case, numbers) in sizes(options.full, &options.kernels) {
        let work = case.build(numbers, &Memory::aligned()).work();
        let size = (case.label)(numbers);
        let listed = Listed { kernel: case.id, size, numbers, items: work.items, unit: work.unit };
        writeln!(out, "{}", serde_json::to_string(&listed).map_err(io::Error::from)?)?;
    }
    Ok(out.flush()?)
}

/// Why a report failed.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be had here.
    Usage(String),
    /// Tiers disagree on the bits of these kernels and sizes.
    Bits(Vec<String>),
    /// A kernel's result is not what the naive loop gives.
    Wrong(String),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) => f.write_str(what),
            Failure::Bits(where_) => write!(f, "the tiers' bits disagree:\n  {}", where_.join("\n  ")),
            Failure::Wrong(what) => write!(f, "wrong result, nothing was timed: {what}"),
            Failure::Output(e) => write!(f, "cannot write to standard output: {e}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure::Output(e)
    }
}

/// By when a default report should be done, counted from its start; the rest of the promised 30 s is reserve.
const DEFAULT_TIME: Duration = Duration::from_secs(24);
/// At most this long for the samples of one kernel and size, by default and with `--full`.
const SAMPLING: [Duration; 2] = [Duration::from_millis(800), Duration::from_millis(2500)];

/// Measures and prints.
///
/// # Errors
/// See [`Failure`]. Disagreeing bits are reported after all rows have been printed.
pub fn run(options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    let selected = hotlanes::try_tier().map_err(|e| Failure::Usage(format!("{TIER_ENV}: {e}")))?;
    let tiers = timed_tiers(options)?;
    if options.outside {
        return outside::run(options, &tiers);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Failure::Usage(format!("--threads {}: {e}", options.threads)))?;
    // All of it inside the pool: a kernel then has the threads that were asked for, and no call crosses into it.
    pool.install(|| {
        let machine = Machine::detect();
        let mut printer = Printer::new(options.json);
        printer.machine(&machine, selected, options.threads)?;
        let mut limits = Limits::measure(&machine, options.threads);
        printer.limits(&limits, options.threads)?;
        rows(options, started, &tiers, selected, &mut limits, &mut printer)
    })
}

/// The tiers to time, slowest first.
fn timed_tiers(options: &Options) -> Result<Vec<Tier>, Failure> {
    for tier in &options.tiers {
        hotlanes::with_tier(*tier, || ()).map_err(|e| Failure::Usage(format!("--tier {tier}: {e}")))?;
    }
    let wanted = |t: &Tier| options.tiers.is_empty() || options.tiers.contains(t);
    Ok(Tier::available().filter(wanted).collect())
}

fn rows(
    options: &Options,
    started: Instant,
    tiers: &[Tier],
    selected: Tier,
    limits: &mut Limits,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let cases = sizes(options.full, &options.kernels);
    printer.begin(cases.len())?;
    let (mut disagreements, mut skipped) = (Vec::new(), 0);
    for (i, &(case, numbers)) in cases.iter().enumerate() {
        let (kernel, size) = (case.id, &(case.label)(numbers));
        printer.working_on(kernel, size);
        let mut sampling = SAMPLING[options.full as usize];
        if !options.full {
            let left = DEFAULT_TIME.saturating_sub(started.elapsed());
            if left.is_zero() {
                skipped += 1;
                continue;
            }
            // Half of this one's share for samples: the rest is for making and checking the data.
            sampling = sampling.min(left / (2 * (cases.len() - i) as u32));
        }
        let mut run = case.build(numbers, &Memory::aligned());
        let mut vecs = case.build(numbers, &Memory::plain());
        let bits = measure::check(case, run.as_mut())
            .map_err(|e| Failure::Wrong(format!("{kernel} {size}: {e}")))?;
        if !bits.agree() {
            disagreements.push(format!("{kernel} {size}: {bits}"));
        }
        let work = run.work();
        let mut binding = limits.binding(&work);
        // The memory's bandwidth changes with what the machine's other tenants do: it is sampled beside the kernel.
        let mut probe = binding.dram.map(|(traffic, _)| {
            let tier = Tier::available().next_back().unwrap_or(selected);
            let dram = limits.dram();
            move || dram.sample(tier, traffic)
        });
        let probe = probe.as_mut().map(|p| p as Probe<'_>);
        let (timings, rate) = measure::sample(case, run.as_mut(), vecs.as_mut(), tiers, sampling, probe);
        if let (Some((_, bytes)), Some(rate)) = (binding.dram, rate) {
            binding.seconds = bytes / rate;
        }
        let naive = timings[0].min;
        let rows: Vec<Row<'_>> = timings
            .iter()
            .map(|t| Row {
                kernel,
                size,
                tier: t.name,
                memory: if t.vec { "vec" } else { "aligned" },
                threads: if t.is_tier { options.threads } else { 1 },
                seconds: t.min,
                median: t.median,
                throughput: work.items / t.min / 1e9,
                unit: work.unit,
                vs_naive: naive / t.min,
                limit: &binding.name,
                fraction_of_limit: binding.seconds / t.min,
                bits_agree: bits.agree(),
            })
            .collect();
        printer.rows(&rows)?;
    }
    printer.end(skipped, disagreements.is_empty())?;
    if disagreements.is_empty() { Ok(()) } else { Err(Failure::Bits(disagreements)) }
}
