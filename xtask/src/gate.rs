//! The gate: machine code and instruction counts of every kernel on every tier, against committed budgets.
//!
//! `build` compiles the probe for both architectures, `symbols` finds the kernels in it, `decode`, `loops` and
//! `mix` say what they consist of, `count` how much of it runs, `hot` where; `check` compares with `budget` and
//! `report` says so. CONTRIBUTING.md says what to do about a failure.

mod budget;
mod build;
mod callgrind;
mod check;
mod count;
mod decode;
mod explain;
mod hot;
mod loops;
mod mix;
mod report;
mod sources;
mod symbols;
mod tier;

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use budget::{Budgets, Count};
use build::Extent;
use check::{Line, Measured, Table};
use count::{Case, Run};
use decode::Arch;
use hot::Program;
use symbols::Function;
use tier::Tier;

/// The command's options.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Rewrite the budgets to what was measured; the difference is for a reviewer to read
    #[arg(long, conflicts_with_all = ["json", "explain", "markdown"])]
    pub bless: bool,
    /// Show the hot loop of a kernel on each tier, with its mix
    #[arg(long, value_name = "KERNEL", conflicts_with_all = ["json", "markdown", "strict"])]
    pub explain: Option<String>,
    /// Fail where something cannot be counted on this machine, instead of saying SKIPPED
    #[arg(long)]
    pub strict: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also write the table as Markdown to a file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// How much of the gate to run: all of it, but for its own tests.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The repository.
    pub root: PathBuf,
    /// Where to build.
    pub target_dir: PathBuf,
    /// One case instead of all.
    pub only: Option<String>,
    /// Whether to count under callgrind too.
    pub callgrind: bool,
    /// Whether to build everything that stands on the kernels with them.
    pub whole: bool,
}

impl Scope {
    /// All of this repository.
    pub fn all() -> Scope {
        // Asked at run time: with a target directory shared by two checkouts, this program may be the other's.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = here.parent().unwrap_or(&here).to_owned();
        Scope { target_dir: root.join("target/gate"), root, only: None, callgrind: true, whole: true }
    }
}

/// What the gate found.
#[derive(Debug, serde::Serialize)]
pub struct Outcome {
    /// The compiler.
    pub rustc: String,
    /// A line for each kernel and tier.
    pub lines: Vec<Line>,
    /// What is wrong besides.
    pub problems: Vec<String>,
    /// What this machine could not count, and why.
    pub skipped: Vec<String>,
    /// Whether the gate passed.
    pub passed: bool,
}

/// Runs the command; false if the gate refused something.
pub fn run(args: &Args) -> Result<bool> {
    let start = Instant::now();
    let quick = args.bless || args.explain.is_some();
    let scope = Scope { callgrind: !quick, only: args.explain.clone(), ..Scope::all() };
    if args.bless {
        return bless(Facts::gather(&scope)?, &scope.root.join(budget::FILE));
    }
    if let Some(kernel) = &args.explain {
        let mut facts = Facts::gather(&scope)?;
        // The first kernel has no budget yet.
        if let Ok(budgets) = Budgets::read(&scope.root.join(budget::FILE)) {
            facts.find_nearest(&budgets);
        }
        return explain::explain(&facts.table, kernel).map(|()| true);
    }
    let outcome = judge(&scope, args.strict)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("{}", report::text(&outcome, std::io::stdout().is_terminal()));
        println!("{:.0} s", start.elapsed().as_secs_f64());
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, report::markdown(&outcome))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(outcome.passed)
}

/// Measures, and compares with the budgets and the rules. With `strict`, what was skipped is a problem.
pub fn judge(scope: &Scope, strict: bool) -> Result<Outcome> {
    let mut budgets = Budgets::read(&scope.root.join(budget::FILE))?;
    let mut facts = Facts::gather(scope)?;
    if let Some(only) = &scope.only {
        budgets.kernels.retain(|name, _| name == only);
    }
    facts.find_nearest(&budgets);
    let mut problems = std::mem::take(&mut facts.problems);
    if budgets.rustc != facts.rustc {
        problems.push(format!("the budgets belong to rustc {}, this is {}", budgets.rustc, facts.rustc));
    }
    let lines = check::check(&facts.table, &budgets);
    for line in lines.iter().filter(|l| l.count.is_none()) {
        let budget = budgets.kernels.get(&line.kernel).and_then(|t| t.get(&line.tier)).and_then(|r| r.count);
        // A whole tier that was not counted has been said.
        if let (Some(_), Some(why)) = (budget, line.skipped.as_ref().filter(|why| *why == MULTIVERSION)) {
            facts.skipped.push(format!("count of {} on {}: {why}", line.kernel, line.tier));
        }
    }
    if strict {
        problems.extend(facts.skipped.iter().map(|s| format!("SKIPPED, and --strict was given: {s}")));
    }
    let passed = problems.is_empty() && lines.iter().all(|l| l.problems.is_empty());
    Ok(Outcome { rustc: facts.rustc, lines, problems, skipped: facts.skipped, passed })
}

fn bless(mut facts: Facts, file: &Path) -> Result<bool> {
    if !facts.skipped.is_empty() || !facts.problems.is_empty() {
        for line in facts.problems.iter().chain(&facts.skipped) {
            eprintln!("cannot bless: {line}");
        }
        bail!("budgets are written only where everything was measured");
    }
    let mut kernels = BTreeMap::<String, BTreeMap<Tier, budget::Row>>::new();
    for ((kernel, tier), measured) in &mut facts.table {
        if measured.hot.is_none() && measured.skipped.is_some() {
            measured.hot = measured.function.as_ref().and_then(hot::busiest);
        }
        let row =
            measured.row().with_context(|| format!("{kernel} on {tier}: no symbol, or never executed"))?;
        kernels.entry(kernel.clone()).or_default().insert(*tier, row);
    }
    let budgets = Budgets { rustc: facts.rustc.clone(), kernels };
    // What the rules refuse cannot be blessed.
    let refused: Vec<_> =
        check::check(&facts.table, &budgets).into_iter().filter(|l| !l.problems.is_empty()).collect();
    for line in &refused {
        eprintln!("cannot bless {} on {}: {}", line.kernel, line.tier, line.problems.join("; "));
    }
    if !refused.is_empty() {
        bail!("{} rows break a rule that needs no budget", refused.len());
    }
    let old = std::fs::read_to_string(file).unwrap_or_default();
    if let Ok(before) = Budgets::parse(&old) {
        let lost = before.kernels.iter().flat_map(|(k, tiers)| tiers.iter().map(move |(t, row)| (k, t, row)));
        let lost = lost.filter(|(k, t, row)| {
            let now = budgets.kernels.get(*k).and_then(|tiers| tiers.get(t));
            let skipped = facts.table.get(&((*k).clone(), **t)).and_then(|now| now.skipped.as_deref());
            row.count.is_some() && now.is_some_and(|now| now.count.is_none()) && skipped != Some(NOT_STEPPED)
        });
        if let Some((kernel, tier, _)) = lost.into_iter().next() {
            bail!("{kernel} on {tier} had a count and cannot be counted on this CPU: bless on one that can");
        }
    }
    let new = budgets.text();
    std::fs::write(file, &new).with_context(|| format!("cannot write {}", file.display()))?;
    let same = if old == new { ", as they were" } else { ": read the difference before you commit it" };
    println!("{}: {} kernels{same}", budget::FILE, budgets.kernels.len());
    Ok(true)
}

/// Everything that was found out.
struct Facts {
    rustc: String,
    table: Table,
    problems: Vec<String>,
    skipped: Vec<String>,
}

/// Where the runs of one program come from.
struct Counted {
    program: Program,
    runs: Vec<Run>,
}

impl Facts {
    fn gather(scope: &Scope) -> Result<Facts> {
        let Scope { root, target_dir, .. } = scope;
        let rustc = build::rustc(root)?;
        let (mut problems, mut skipped) = (Vec::new(), Vec::new());
        let here = cfg!(all(target_arch = "x86_64", target_os = "linux"));
        note("building for x86-64");
        let extent = match (here, scope.whole) {
            (false, _) => Extent::Libraries,
            (true, false) => Extent::Program,
            (true, true) => Extent::Everything,
        };
        let x86 = build::probe(root, target_dir, build::triple(Arch::X86), extent)?;
        // A cross compiler without its C library cannot link.
        let library = Path::new(SYSROOT).join("lib/ld-linux-aarch64.so.1");
        let cross = here && build::has("aarch64-linux-gnu-gcc") && library.exists();
        let extent = if cross { Extent::Program } else { Extent::Libraries };
        let only = scope.only.as_deref();
        // Steps are counted, not timed: they go on beside a compiler that leaves a core now and then.
        note("counting by single steps; building for AArch64, and counting under qemu and callgrind");
        let missing = scope.callgrind.then(callgrind::missing).flatten();
        let (stepped, emulated, ground, arm) = std::thread::scope(|s| {
            let stepped =
                s.spawn(|| x86.program.as_deref().map(|program| count::stepper(program, only)).transpose());
            let arm = build::probe(root, target_dir, build::triple(Arch::Arm), extent);
            // The emulator leaves a core to it.
            let ground = x86.program.as_deref().filter(|_| scope.callgrind && missing.is_none());
            let ground =
                s.spawn(move || ground.map(|program| callgrind::run(program, target_dir, only)).transpose());
            let qemu = arm.as_ref().ok().and_then(|arm| arm.program.as_deref());
            let qemu = qemu.filter(|_| here && build::has("qemu-aarch64"));
            let emulated = qemu.map(|program| emulate(program, only)).transpose();
            (stepped.join(), emulated, ground.join(), arm)
        });
        let arm = arm?;
        let runs = stepped.map_err(|_| anyhow!("the stepper's reader failed"))??;
        let (emulated, ground) = (emulated?, ground.map_err(|_| anyhow!("callgrind's reader failed"))??);

        note("reading machine code");
        let mut functions = HashMap::new();
        for (built, arch) in [(&x86, Arch::X86), (&arm, Arch::Arm)] {
            for library in &built.libraries {
                for f in symbols::load(library, arch)?.into_iter().filter(|f| f.tier.arch() == arch) {
                    let (name, tier) = (f.kernel.clone(), f.tier);
                    let key = (name.clone(), tier);
                    if functions.insert(key, f).is_some() {
                        problems.push(format!(
                            "two copies of {name} on {tier} in {}: one would hide the other",
                            library.display()
                        ));
                    }
                }
            }
        }
        let mut cases = match &x86.program {
            Some(program) => count::cases(program)?,
            // Another system's program cannot run here: ask one of its own.
            None => count::cases(&build::host_probe(root, target_dir)?)?,
        };
        problems.extend(coverage(root, &cases, &functions)?);
        cases.retain(|c| scope.only.as_ref().is_none_or(|only| c.name == *only));

        let mut counted = Vec::new();
        if !here {
            skipped.push("counts: they need an x86-64 Linux host; machine code was read".to_owned());
        }
        if here && emulated.is_none() {
            skipped.push("counts on neon: they need qemu-aarch64 and aarch64-linux-gnu-gcc".to_owned());
        }
        if let (Some(program), Some(runs)) = (&x86.program, runs) {
            skipped.extend(missing);
            if let Some(ground) = ground {
                problems.extend(callgrind::compare(&ground, &runs));
            }
            counted.push(Counted { program: Program::read(program, Arch::X86)?, runs });
            counted.extend(emulated);
        }
        let table = table(&cases, &functions, &counted, &mut skipped);
        Ok(Facts { rustc, table, problems, skipped })
    }

    /// Where nothing was counted, the hot loop is the one nearest to the budget.
    fn find_nearest(&mut self, budgets: &Budgets) {
        for ((kernel, tier), measured) in &mut self.table {
            let row = budgets.kernels.get(kernel).and_then(|t| t.get(tier));
            if let (None, Some(function), Some(row), Some(_)) =
                (&measured.hot, &measured.function, row, &measured.skipped)
            {
                measured.hot = hot::nearest(function, &row.hot);
            }
        }
    }
}

/// Where Debian puts AArch64's C library.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Counts NEON, and AArch64's scalar tier beside it, on a CPU without extensions.
fn emulate(program: &Path, only: Option<&str>) -> Result<Counted> {
    let qemu = ["qemu-aarch64", "-cpu", "cortex-a72", "-L", SYSROOT];
    let file = Program::read(program, Arch::Arm)?;
    let runs = count::qemu(&qemu, program, file.library(), only)?;
    Ok(Counted { program: file, runs })
}

/// Why a case that no tier can be forced on was not counted.
const MULTIVERSION: &str = "multiversion chooses by the CPU alone";

/// Why a case was not counted on the scalar tier.
const NOT_STEPPED: &str = "its scalar tier is read, and not stepped through";

/// Says on the error stream what takes its time.
fn note(what: &str) {
    eprintln!("gate: {what}");
}

/// Kernels without a case: in the sources, and among what was compiled.
fn coverage(
    root: &Path,
    cases: &[Case],
    functions: &HashMap<(String, Tier), Function>,
) -> Result<Vec<String>> {
    let sources = sources::kernels(&root.join("src"))?;
    let uncovered = check::uncovered(&sources, cases.iter().map(|c| c.kernel.as_str()));
    let mut problems: Vec<_> = uncovered
        .into_iter()
        .map(|k| format!("{k} has no case in cases/: each kernel brings its budget"))
        .collect();
    let mut instances: Vec<_> = functions
        .keys()
        .filter(|(k, _)| !k.contains("hotlanes::naive::") && !cases.iter().any(|c| c.kernel == *k))
        .map(|(k, tier)| format!("{k} was compiled for {tier} and has no case in cases/"))
        .collect();
    instances.sort();
    problems.append(&mut instances);
    Ok(problems)
}

/// One entry for each case and tier.
fn table(
    cases: &[Case],
    functions: &HashMap<(String, Tier), Function>,
    counted: &[Counted],
    skipped: &mut Vec<String>,
) -> Table {
    let mut table = Table::new();
    for case in cases {
        // Said by x86-64's counter; the emulator's log holds this library alone.
        let calls_library = counted.iter().any(|c| twin_calls_library(&case.name, &c.runs));
        for tier in Tier::ALL {
            let mut now = Measured {
                function: functions.get(&(case.kernel.clone(), tier)).cloned(),
                unforced: !case.forced,
                ..Measured::default()
            };
            let from = counted.iter().find(|c| c.program.arch() == tier.arch());
            match from {
                Some(from) => now.count_from(case, tier, from, calls_library),
                None => now.skipped = Some("not counted on this machine".to_owned()),
            }
            if now.count.is_none() && now.skipped.is_none() {
                let ran = from.is_some_and(|c| c.runs.iter().any(|r| r.tier == tier));
                now.skipped = match (case.forced, ran) {
                    (false, _) => Some(MULTIVERSION.to_owned()),
                    (true, false) => Some(format!("this CPU lacks {tier}")),
                    (true, true) if tier == Tier::Scalar => Some(NOT_STEPPED.to_owned()),
                    (true, true) => None,
                };
            }
            table.insert((case.name.clone(), tier), now);
        }
    }
    let missing = Tier::ALL.into_iter().filter(|t| {
        let lacks = format!("this CPU lacks {t}");
        table.values().any(|m| m.skipped.as_ref() == Some(&lacks))
    });
    skipped.extend(missing.map(|t| format!("counts on {t}: this CPU lacks it; its machine code was read")));
    table
}

/// Whether a case's plain loop enters the C library the more often the more elements it has.
fn twin_calls_library(case: &str, runs: &[Run]) -> bool {
    Tier::ALL.into_iter().any(|tier| {
        let of = |r: &&Run| r.kernel == case && r.twin && r.tier == tier;
        let calls: Vec<u64> = runs.iter().filter(of).map(|r| r.outside_calls).collect();
        calls.windows(2).any(|c| c[0] < c[1])
    })
}

impl Measured {
    fn count_from(&mut self, case: &Case, tier: Tier, from: &Counted, calls_library: bool) {
        let runs = |tier: Tier, twin: bool| -> Vec<&Run> {
            from.runs.iter().filter(|r| r.kernel == case.name && r.tier == tier && r.twin == twin).collect()
        };
        let count = |runs: &[&Run], weigh: &dyn Fn(&Run) -> u64| match runs {
            [a, b] => Some(Count {
                elements: [a.elements, b.elements],
                instructions: [weigh(a), weigh(b)],
                library: [a.outside_calls, b.outside_calls],
            }),
            _ => None,
        };
        let (ours, twin) = (runs(tier, false), runs(tier, true));
        self.count = count(&ours, &|r| r.instructions);
        self.twin = !twin.is_empty();
        if let (Some(function), [_, larger]) = (&self.function, ours.as_slice()) {
            self.hot = hot::counted(function, &from.program, larger);
        }
        // The scalar tier emulates fused multiply-adds, which the plain loop does not use. A plain loop that calls the C
        // library for each element or row is not the compiler's work, and the library's is not in the count.
        if tier != Tier::Scalar && !calls_library {
            self.weighted =
                count(&ours, &|r| from.program.weighted(r)).zip(count(&twin, &|r| from.program.weighted(r)));
        }
        let narrower = Tier::ALL.into_iter().filter(|t| *t < tier);
        self.narrower = narrower
            .filter_map(|t| Some((t.name().to_owned(), count(&runs(t, false), &|r| r.instructions)?)))
            .collect();
    }
}
