//! Instructions executed: by the trap-flag stepper on x86-64, by qemu's log of executed addresses for AArch64.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::tier::Tier;

/// A kernel's case, as the probe lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Its name in the budgets.
    pub name: String,
    /// The kernel whose machine code it runs.
    pub kernel: String,
    /// Whether `with_tier` chooses its code.
    pub forced: bool,
    /// The sizes that it is counted at; none, where it is not.
    sizes: Vec<String>,
}

/// One call, counted.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// The case's name.
    pub kernel: String,
    /// The tier that it ran on.
    pub tier: Tier,
    /// Whether it was the plain loop, compiled for the tier.
    pub twin: bool,
    /// Elements of the call.
    pub elements: u64,
    /// Instructions executed.
    #[serde(default)]
    pub instructions: u64,
    /// Instructions of the C library, which are not in the count: it chooses its `memset` by the CPU.
    #[serde(default)]
    pub outside: u64,
    /// How often the C library was entered.
    #[serde(default)]
    pub outside_calls: u64,
    /// How often each instruction was executed, by its address in the file; without the C library's.
    #[serde(default)]
    pub pcs: Vec<(u64, u64)>,
}

/// Lists the cases that are counted.
pub fn cases(program: &Path) -> Result<Vec<Case>> {
    let mut all: Vec<Case> = lines(&output(Command::new(program).arg("list"))?)?;
    all.retain(|case| !case.sizes.is_empty());
    Ok(all)
}

/// Counts every case, or one, on every tier of this CPU by single steps: the tiers at once, each in a process of its own.
pub fn stepper(program: &Path, only: Option<&str>) -> Result<Vec<Run>> {
    let count = |tier: Tier| {
        let arguments = ["count", "--tier", tier.name()].into_iter().chain(only_arguments(only));
        lines::<Run>(&output(Command::new(program).args(arguments))?)
    };
    let available: Vec<Available> = lines(&output(Command::new(program).arg("tiers"))?)?;
    std::thread::scope(|scope| {
        let tiers: Vec<_> = available.iter().map(|a| scope.spawn(|| count(a.tier))).collect();
        let mut all = Vec::new();
        for tier in tiers {
            all.extend(tier.join().map_err(|_| anyhow!("a tier's counter failed"))??);
        }
        Ok(all)
    })
}

/// A tier that the probe can use here.
#[derive(Deserialize)]
struct Available {
    tier: Tier,
}

pub(super) fn only_arguments(only: Option<&str>) -> impl Iterator<Item = &str> {
    only.into_iter().flat_map(|name| ["--only", name])
}

pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(output.stdout)
}

pub(super) fn lines<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<Vec<T>> {
    let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).context(String::from_utf8_lossy(l).into_owned())).collect()
}

/// Where the probe was loaded, and the functions that mark what is counted.
#[derive(Debug, Deserialize)]
pub(super) struct Markers {
    measured: u64,
    finished: u64,
    bias: u64,
}

/// Counts every case, or one, under qemu, on the tiers of its CPU, from its log of executed addresses. The log holds the
/// `functions` alone (first address and length): everything else that the probe does would be a hundred times as much.
pub fn qemu(qemu: &[&str], program: &Path, functions: &[(u64, u64)], only: Option<&str>) -> Result<Vec<Run>> {
    let (qemu, arguments) = qemu.split_first().context("no qemu")?;
    // Once without a log, for the results, which are compared, and for the address that qemu loads a program to each time.
    let mut ask = Command::new(qemu);
    let text = output(ask.args(arguments).arg(program).arg("run").args(only_arguments(only)))?;
    let bias = markers(&text)?.0.bias;
    // It looks through all of them at each instruction: the fewer, the sooner it is done.
    let ranges = merged(functions);
    let ranges: Vec<_> = ranges.iter().map(|(at, len)| format!("{:#x}+{len:#x}", at + bias)).collect();
    // Debian's 7.2 has `-singlestep`; newer releases renamed it.
    let help = Command::new(qemu).arg("-help").output().with_context(|| format!("cannot run {qemu}"))?;
    let renamed = String::from_utf8_lossy(&help.stdout).contains("-one-insn-per-tb");
    let one = if renamed { "-one-insn-per-tb" } else { "-singlestep" };
    let mut command = Command::new(qemu);
    command
        .args([one, "-d", "exec,nochain", "-dfilter", &ranges.join(",")])
        .args(arguments)
        .arg(program)
        .args(["run", "--unchecked"])
        .args(only_arguments(only));
    // qemu writes its log to the error stream.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let (mut stdout, log) =
        (child.stdout.take().context("no output")?, child.stderr.take().context("no log")?);
    // Both pipes are read at once, or a full one would stop the program.
    let said = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text)?;
        Ok(text)
    });
    let (executed, complaint) = addresses(BufReader::with_capacity(1 << 20, log))?;
    let status = child.wait()?;
    let text = said.join().map_err(|_| anyhow!("the reader of qemu's output failed"))??;
    if !status.success() {
        bail!("{command:?}: {status}: {complaint}");
    }
    let (markers, rest) = markers(&text)?;
    let mut runs: Vec<Run> = lines(rest)?;
    let regions = regions(&executed, &markers);
    if runs.len() != regions.len() {
        bail!("{command:?} ran {} calls, its log has {}", runs.len(), regions.len());
    }
    for (run, counts) in runs.iter_mut().zip(regions) {
        run.instructions = counts.values().sum();
        run.pcs = counts.into_iter().collect();
    }
    Ok(runs)
}

/// Functions (first address and length) in order, those in one that have nothing between them but what fills up to an address
/// that a function may have.
fn merged(functions: &[(u64, u64)]) -> Vec<(u64, u64)> {
    const FILL: u64 = 12;
    let mut sorted = functions.to_vec();
    sorted.sort_unstable();
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (at, len) in sorted {
        match all.last_mut() {
            Some((first, whole)) if at <= *first + *whole + FILL => *whole = (*whole).max(at + len - *first),
            _ => all.push((at, len)),
        }
    }
    all
}

/// The probe's first line, and the rest.
pub(super) fn markers(text: &[u8]) -> Result<(Markers, &[u8])> {
    let first = text.iter().position(|b| *b == b'\n').context("the probe said nothing")?;
    let markers = serde_json::from_slice(&text[..first]).context("the probe's first line")?;
    Ok((markers, &text[first + 1..]))
}

/// The addresses that were executed, in order, and the last line that is not of the log.
fn addresses(mut log: impl BufRead) -> Result<(Vec<u64>, String)> {
    let (mut all, mut line, mut other) = (Vec::new(), Vec::new(), String::new());
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line)? == 0 {
            return Ok((all, other));
        }
        let text = String::from_utf8_lossy(&line);
        match address(&text) {
            // A block that was entered and left before it ran is taken back.
            Some(pc) if text.starts_with("Stopped execution") && all.last() == Some(&pc) => {
                all.pop();
            }
            Some(pc) if text.starts_with("Trace") => all.push(pc),
            _ => other = text.trim().to_owned(),
        }
    }
}

/// The guest's address in a line such as `Trace 0: 0x7fed50e00100 [0000000001009331/000000550287cc40/00000001/00000201]`;
/// a line that takes one back has nothing else in its brackets.
fn address(line: &str) -> Option<u64> {
    let (inside, _) = line.split_once('[')?.1.split_once(']')?;
    let mut fields = inside.split('/');
    let first = fields.next()?;
    u64::from_str_radix(fields.next().unwrap_or(first), 16).ok()
}

/// What was executed from `measured` up to `finished`, by address in the file: a map for each call.
fn regions(executed: &[u64], markers: &Markers) -> Vec<BTreeMap<u64, u64>> {
    let (mut all, mut inside) = (Vec::new(), None::<BTreeMap<u64, u64>>);
    for pc in executed.iter().map(|pc| pc.wrapping_sub(markers.bias)) {
        if pc == markers.measured {
            inside = Some(BTreeMap::new());
        } else if pc == markers.finished {
            all.extend(inside.take());
        }
        if let Some(counts) = &mut inside {
            *counts.entry(pc).or_default() += 1;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_next_to_each_other_are_one_range() {
        let functions = [(0x200, 0x10), (0x100, 0x20), (0x120, 8), (0x100, 0x20), (0x130, 0x10), (0x180, 4)];
        assert_eq!(merged(&functions), [(0x100, 0x40), (0x180, 4), (0x200, 0x10)]);
        assert!(merged(&[]).is_empty());
    }

    #[test]
    fn a_log_is_cut_at_the_markers() {
        let log = "Trace 0: 0x7f [00/0000000000001000/01/02] \n\
                   Trace 0: 0x7f [00/0000000000001004/01/02] measured\n\
                   Trace 0: 0x7f [00/0000000000002000/01/02] \n\
                   Trace 0: 0x7f [00/0000000000002000/01/02] \n\
                   Stopped execution of TB chain before 0x7f [0000000000002000] \n\
                   Trace 0: 0x7f [00/0000000000001010/01/02] finished\n\
                   Trace 0: 0x7f [00/0000000000002000/01/02] \n\
                   qemu: unhandled signal\n";
        let (executed, other) = addresses(log.as_bytes()).unwrap();
        assert_eq!(executed.len(), 5);
        assert_eq!(other, "qemu: unhandled signal");
        let markers = Markers { measured: 0x4, finished: 0x10, bias: 0x1000 };
        assert_eq!(regions(&executed, &markers), [BTreeMap::from([(0x4, 1), (0x1000, 1)])]);
        // A call that never finished is no call.
        assert!(regions(&executed[..3], &markers).is_empty());
    }
}
