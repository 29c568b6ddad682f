//! The profile in words: where the time goes, what binds the operations that take most of it, and what would help.

use std::fmt::Write as _;

use super::analyse::Analysis;
use super::memory::Memory;
use super::roof::Roof;
use super::rules::{advice, bound};
use super::table::{By, Row};

/// Operations in the summary and on the terminal.
const TOP: usize = 12;
/// Operations of which it is told what binds them, if they take [`WORTH`] of the time.
const EXPLAINED: usize = 6;
pub(super) const WORTH: f64 = 0.02;

/// All that a summary is made of.
pub struct Facts<'a> {
    /// The run, in a line.
    pub title: &'a str,
    /// The CPU's name.
    pub cpu: &'a str,
    /// What was recorded.
    pub analysis: &'a Analysis,
    /// Its table by operation.
    pub rows: &'a [Row],
    /// Its table by shape.
    pub shapes: &'a [Row],
    /// The limits.
    pub roof: &'a Roof,
    /// The trainer's buffers.
    pub memory: &'a Memory,
    /// The most memory that the process ever had, in bytes.
    pub resident: Option<f64>,
    /// What is missing.
    pub notes: &'a [String],
}

/// Seconds that are not of operations, by name.
pub fn others(analysis: &Analysis) -> impl Iterator<Item = (&'static str, f64)> {
    let all = [
        ("waiting for other threads", analysis.waiting),
        ("idle, or in others' kernels", analysis.apart),
        ("outside of operations", analysis.outside),
    ];
    all.into_iter().map(|(name, time)| (name, 1e-9 * time as f64)).filter(|(_, seconds)| *seconds > 0.0)
}

/// The head of a table.
const HEAD: [&str; 10] =
    ["operation", "calls", "self ms", "total ms", "share", "GFLOP/s", "GB/s", "FLOP/byte", "limit", "of it"];

/// A table's cells, all numbers for one step.
fn cells(row: &Row, steps: f64) -> [String; 10] {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
    [
        row.operation.clone(),
        format!("{}", (row.calls as f64 / steps * 10.0).round() / 10.0),
        format!("{:.3}", 1e3 * row.own / steps),
        format!("{:.3}", 1e3 * row.total / steps),
        percent(row.share),
        number(row.gflops()),
        number(row.gigabytes()),
        number(row.intensity()),
        row.limit.unwrap_or_default().to_owned(),
        row.limit_share().map_or(String::new(), percent),
    ]
}

fn other_cells(name: &str, seconds: f64, analysis: &Analysis) -> [String; 10] {
    let mut cells: [String; 10] = Default::default();
    cells[0] = name.to_owned();
    cells[2] = format!("{:.3}", 1e3 * seconds / steps(analysis));
    cells[4] = percent(seconds / (1e-9 * analysis.thread_time() as f64).max(1e-9));
    cells
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn steps(analysis: &Analysis) -> f64 {
    analysis.steps.len().max(1) as f64
}

/// All rows of a table.
fn table(rows: &[Row], analysis: &Analysis) -> Vec<[String; 10]> {
    let mut all: Vec<_> = rows.iter().take(TOP).map(|row| cells(row, steps(analysis))).collect();
    if rows.len() > TOP {
        let rest: f64 = rows[TOP..].iter().map(|row| row.own).sum();
        all.push(other_cells(&format!("{} other operations", rows.len() - TOP), rest, analysis));
    }
    all.extend(others(analysis).map(|(name, seconds)| other_cells(name, seconds, analysis)));
    all
}

/// The table for a terminal.
pub fn terminal(analysis: &Analysis, roof: &Roof) -> Vec<String> {
    let rows = analysis.table(By::Operation, Some(roof));
    let table = table(&rows, analysis);
    let line = |cells: &[&str; 10]| {
        let [name, calls, own, total, share, gflops, gigabytes, intensity, limit, of_it] = cells;
        format!(
            "{name:28} {calls:>7} {own:>9} {total:>9} {share:>6} {gflops:>8} {gigabytes:>7} \
            {intensity:>9}  {limit:8} {of_it:>6}"
        )
        .trim_end()
        .to_owned()
    };
    let cells = table.iter().map(|row| line(&row.each_ref().map(String::as_str)));
    [times(analysis), line(&HEAD)].into_iter().chain(cells).collect()
}

/// The recorded steps and their times.
fn times(analysis: &Analysis) -> String {
    let mut times: Vec<u64> = analysis.steps.iter().map(|step| step.1).collect();
    times.sort_unstable();
    let ms = |time: Option<&u64>| time.map_or(0.0, |&time| 1e-6 * time as f64);
    let number = |step: Option<&(u64, u64)>| step.map_or(0, |step| step.0);
    format!(
        "profile of steps {} to {}: {:.3} ms a step in the middle, {:.3} to {:.3}; {} threads; per step, all threads:",
        number(analysis.steps.first()),
        number(analysis.steps.last()),
        ms(times.get(times.len() / 2)),
        ms(times.first()),
        ms(times.last()),
        analysis.threads
    )
}

/// The summary as Markdown.
pub fn markdown(facts: &Facts<'_>) -> String {
    let Facts { title, cpu, analysis, rows, shapes, roof, memory, resident, notes } = facts;
    let mut text = format!("# Profile: {}\n\n{}\n\n", escaped(title), escaped(&times(analysis)));
    for note in *notes {
        let _ = writeln!(text, "Note: {}.\n", escaped(note));
    }
    let _ =
        writeln!(text, "## Where the time goes\n\n| {} |\n|{}", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for row in table(rows, analysis) {
        let _ = writeln!(text, "| {} |", row.map(|cell| escaped(&cell)).join(" | "));
    }
    let in_all = 1e-9 * analysis.thread_time() as f64;
    let sum =
        rows.iter().map(|row| row.own).sum::<f64>() + others(analysis).map(|other| other.1).sum::<f64>();
    let flops: f64 = rows.iter().map(|row| row.work.flops).sum();
    let rate = 1e-9 * flops / (1e-9 * analysis.wall() as f64).max(1e-9);
    let _ = writeln!(
        text,
        "\nSelf time is that of an operation without those within it. The rows add up to {} of {} threads' time in\n\
        the steps. All operations together: {rate:.1} GFLOP/s, {} of FMA peak. \"Of it\" is the share of the limit\n\
        that binds: FMA peak, or the bandwidth of the nearest level of memory that holds a call's operands;\n\
        operations that run on one thread beside others are held against a thread's part of it.\n",
        percent(sum / in_all.max(1e-9)),
        analysis.threads,
        percent(1e9 * rate / roof.peak.max(1.0)),
    );
    let _ = writeln!(text, "## What binds\n");
    for row in rows.iter().take(EXPLAINED).filter(|row| row.share >= WORTH) {
        let _ = writeln!(
            text,
            "- **{}**, {} of the time: {}.",
            escaped(&row.operation),
            percent(row.share),
            bound(row)
        );
    }
    let _ = writeln!(text, "\n## What would help\n");
    let advice = advice(analysis, rows, shapes);
    for advice in &advice {
        let _ = writeln!(text, "- {advice}.");
    }
    if advice.is_empty() {
        let _ =
            writeln!(text, "Nothing that these rules know: no large part of the time is far from its limit.");
    }
    let _ = writeln!(text, "\n## Memory\n\n| kind | MB |\n|---|---|");
    for (name, bytes) in memory.kinds() {
        let _ = writeln!(text, "| {name} | {:.2} |", 1e-6 * bytes);
    }
    let _ = writeln!(text, "| together | {:.2} |", 1e-6 * memory.total());
    if let Some(resident) = resident {
        let _ = writeln!(text, "| the process at its peak, the recorder included | {:.2} |", 1e-6 * resident);
    }
    let _ = writeln!(
        text,
        "\n## Limits\n\n{}, {} threads: FMA peak {:.0} GFLOP/s",
        escaped(cpu),
        roof.threads,
        1e-9 * roof.peak
    );
    for level in &roof.levels {
        let _ = writeln!(text, "- {}: {:.0} GB/s", level.name, 1e-9 * level.bandwidth);
    }
    text
}

/// Text that Markdown shows as it is.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| ['\\', c].into_iter().skip(usize::from(!"\\`*_{}[]<>|#".contains(c)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::analyse::tests::record;
    use super::super::roof::tests::roof;
    use super::*;

    #[test]
    fn tables_and_summary_have_everything_and_add_up() {
        let (analysis, roof) = (Analysis::of(&record()), roof());
        let rows = analysis.table(By::Operation, Some(&roof));
        let memory = Memory { parameters: 5e6, ..Memory::default() };
        let notes = ["2 of 3 steps".to_owned()];
        let facts = Facts {
            title: "a_b",
            cpu: "CPU",
            analysis: &analysis,
            rows: &rows,
            shapes: &rows,
            roof: &roof,
            memory: &memory,
            resident: Some(9e6),
            notes: &notes,
        };
        let text = markdown(&facts);
        for words in [
            "# Profile: a\\_b",
            "steps 7 to 7: 0.100 ms a step",
            "Note: 2 of 3 steps.",
            "| nested \\<\"&\\> |",
            "waiting for other threads",
            "add up to 100.0% of 3 threads' time",
            "| parameters | 5.00 |",
            "| the process at its peak, the recorder included | 9.00 |",
            "FMA peak 200 GFLOP/s",
            "DRAM: 20 GB/s",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let lines = terminal(&analysis, &roof);
        assert!(lines[1].starts_with("operation") && lines.len() == 2 + 5 + 3, "{lines:?}");
    }
}
