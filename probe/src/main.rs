//! Runs every kernel on small inputs and counts its instructions, or runs them for a counter outside. JSON, a line each.

mod image;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod stepper;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hotlanes::Tier;
use hotlanes_cases::{Case, Counted, Size, cases, named};
use hotlanes_probe::{Ready, finished, measured};
use serde::Serialize;

use image::Image;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The cases that there are.
    List,
    /// The tiers that can be used here.
    Tiers,
    /// Counts instructions by the CPU's trap flag (x86-64 Linux).
    Count(Which),
    /// Runs without counting, for a log of executed addresses: the first line says where the region and its end are.
    Run {
        #[command(flatten)]
        which: Which,
        /// Compare no results: most of a log would be that. Run the same without this too, it takes no time.
        #[arg(long)]
        unchecked: bool,
    },
}

/// Which runs; without any, all that are possible here.
#[derive(Args)]
struct Which {
    /// A tier; may be given several times.
    #[arg(long)]
    tier: Vec<Tier>,
    /// A case; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// A size instead of the cases' own, such as 16x64, to see whether counts lie on a line; may be given several times.
    #[arg(long, value_parser = size)]
    size: Vec<Size>,
}

/// A size as its numbers with a cross between them.
fn size(text: &str) -> Result<Size, std::num::ParseIntError> {
    text.split('x').map(str::parse).collect()
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    kernel: &'static str,
    /// Empty for a case that is not counted.
    sizes: Vec<String>,
    element: &'static str,
    forced: bool,
    gather: bool,
    has_twin: bool,
}

/// One call of `measured`.
#[derive(Serialize)]
struct Run {
    kernel: &'static str,
    tier: &'static str,
    twin: bool,
    size: String,
    elements: usize,
    /// Whether it comes before the others of its case.
    #[serde(skip)]
    is_first: bool,
    #[serde(skip)]
    case: &'static Case,
    #[serde(skip)]
    on: Tier,
    #[serde(skip)]
    numbers: Size,
}

/// Where a log of executed addresses finds the region, as the file has it.
#[derive(Serialize)]
struct Places {
    measured: usize,
    finished: usize,
    bias: usize,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List => list(),
        Command::Tiers => tiers(),
        Command::Count(which) => count(&which),
        Command::Run { which, unchecked } => run(&which, !unchecked),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hotlanes-probe: {error}");
            ExitCode::from(2)
        }
    }
}

fn tiers() -> Result<(), Failure> {
    for tier in Tier::available() {
        line(&serde_json::json!({ "tier": tier.name() }))?;
    }
    Ok(())
}

fn list() -> Result<(), Failure> {
    for c in cases() {
        let (sizes, element): (&[&[usize]], _) = match &c.counted {
            Counted::At { sizes, element, .. } => (sizes, *element),
            Counted::Not(_) => (&[], ""),
        };
        line(&Listed {
            name: c.id,
            kernel: c.kernel,
            sizes: sizes.iter().map(|size| (c.label)(size)).collect(),
            element,
            forced: c.forced,
            gather: c.gather,
            has_twin: c.twin,
        })?;
    }
    Ok(())
}

fn line(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn stepped(case: &Case, tier: Tier) -> bool {
    tier != Tier::Scalar || case.scalar_stepped
}

/// Tier by tier, case by case, size by size, kernel before twin.
fn runs(which: &Which) -> Result<Vec<Run>, Failure> {
    if let Some(name) = which.only.iter().find(|name| named(name).is_none()) {
        return Err(format!("no case is named {name:?}: see `hotlanes-probe list`").into());
    }
    if let Some(tier) = which.tier.iter().find(|tier| !tier.is_available()) {
        return Err(format!("the tier {tier} is not available here").into());
    }
    let mut runs = Vec::new();
    for tier in Tier::available().filter(|t| which.tier.is_empty() || which.tier.contains(t)) {
        let wanted = |c: &&Case| which.only.is_empty() || which.only.iter().any(|name| name == c.id);
        for case in cases().filter(wanted).filter(|c| c.runs_on(tier) && stepped(c, tier)) {
            let Counted::At { sizes, elements, .. } = case.counted else { continue };
            let sizes =
                if which.size.is_empty() { sizes.map(Vec::from).to_vec() } else { which.size.clone() };
            for (i, numbers) in sizes.into_iter().enumerate() {
                // The scalar tier emulates fused multiply-adds, which a plain loop does not use: nothing to compare.
                let twins: &[bool] =
                    if case.twin && tier != Tier::Scalar { &[false, true] } else { &[false] };
                runs.extend(twins.iter().map(|&twin| Run {
                    kernel: case.id,
                    tier: tier.name(),
                    twin,
                    size: (case.label)(&numbers),
                    elements: elements(&numbers),
                    is_first: i == 0,
                    case,
                    on: tier,
                    numbers: numbers.clone(),
                }));
            }
        }
    }
    Ok(runs)
}

impl Run {
    /// Calls `count` with the call, and compares the result if `check` says so.
    fn measure<R>(&self, check: bool, count: impl FnOnce(&mut dyn FnMut()) -> R) -> Result<R, Failure> {
        let mut ready = Ready::new(self.case, self.on, self.twin, &self.numbers, self.is_first);
        let result = ready.measure(count);
        if check {
            ready.check()?;
        }
        Ok(result)
    }
}

fn run(which: &Which, check: bool) -> Result<(), Failure> {
    let image = Image::of_this_program().ok_or("this system does not say where a program lies")?;
    let runs = runs(which)?;
    line(&Places {
        measured: image.in_file(measured as fn(&mut dyn FnMut()) as usize),
        finished: image.in_file(finished as fn(&mut u64) as usize),
        bias: image.bias,
    })?;
    let mut regions = 0;
    for run in runs {
        line(&run)?;
        run.measure(check, |call| {
            measured(call);
            finished(&mut regions);
        })?;
    }
    Ok(())
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn count(which: &Which) -> Result<(), Failure> {
    use std::collections::HashMap;
    use std::collections::hash_map::Entry;

    #[derive(Serialize)]
    struct Stepped<'a> {
        #[serde(flatten)]
        run: &'a Run,
        instructions: u64,
        outside: u64,
        outside_calls: u64,
        pcs: Vec<(usize, u32)>,
    }

    let image = Image::of_this_program().ok_or("this system does not say where a program lies")?;
    let mut stepper = stepper::Stepper::new(image.text.clone())?;
    // Cases that look at the same run from several sides have it counted once.
    let mut known = HashMap::new();
    for run in &runs(which)? {
        // A plain loop gathers nothing.
        let key =
            (run.case.build as usize, run.numbers.clone(), run.tier, run.twin, run.case.gather || run.twin);
        let count = match known.entry(key) {
            Entry::Occupied(count) => count.into_mut(),
            Entry::Vacant(place) => place.insert(
                run.measure(true, |call| stepper.count(call))?
                    .ok_or_else(|| format!("{} on {}: the stepper saw no region", run.kernel, run.tier))?,
            ),
        };
        line(&Stepped {
            run,
            instructions: count.instructions,
            outside: count.outside,
            outside_calls: count.outside_calls,
            pcs: count.by_address.iter().map(|&(at, times)| (image.in_file(at), times)).collect(),
        })?;
    }
    Ok(())
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn count(_: &Which) -> Result<(), Failure> {
    Err("counting needs x86-64 Linux: the trap flag and its signal; elsewhere `run` under a log of addresses"
        .into())
}
