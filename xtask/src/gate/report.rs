//! What the gate found, for people and for a CI job's page.

use std::fmt::Write as _;

use super::Outcome;
use super::check::Line;

const HEADER: [&str; 14] = [
    "kernel", "tier", "insns", "packed", "fma", "sqrt", "div", "gather", "narrow", "scalar", "calls",
    "stack", "/element", "/call",
];

fn cells(line: &Line) -> Vec<String> {
    let mut cells = vec![line.kernel.clone(), line.tier.to_string()];
    match &line.hot {
        Some(mix) => cells.extend(mix.columns().into_iter().take(10).map(|(_, n)| n.to_string())),
        None => cells.extend(std::iter::repeat_n("-".to_owned(), 10)),
    }
    match line.count {
        Some((element, call)) => cells.extend([format!("{element:.3}"), format!("{call:.0}")]),
        None => cells.extend(["-".to_owned(), "-".to_owned()]),
    }
    cells
}

/// For a terminal: the table, then what was refused, then what was skipped.
pub fn text(outcome: &Outcome, color: bool) -> String {
    let (red, green, plain) = if color { ("\x1b[31m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
    let rows: Vec<_> = outcome.lines.iter().map(cells).collect();
    let mut widths = HEADER.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut out = String::new();
    let mut put = |cells: &[String], end: &str| {
        for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let _ = if n < 2 { write!(out, "{cell:<width$}  ") } else { write!(out, "{cell:>width$} ") };
        }
        let _ = writeln!(out, " {end}");
    };
    put(&HEADER.map(str::to_owned), "");
    for (row, line) in rows.iter().zip(&outcome.lines) {
        let state = match (line.problems.is_empty(), &line.skipped) {
            (false, _) => format!("{red}REFUSED{plain}"),
            (true, Some(why)) => format!("ok, not counted: {why}"),
            (true, None) => "ok".to_owned(),
        };
        put(row, &state);
    }
    let _ = writeln!(
        out,
        "Columns up to stack: the hot loop's instructions. /element, /call: instructions executed.\n"
    );
    for line in &outcome.lines {
        for problem in &line.problems {
            let _ = writeln!(out, "{red}REFUSED{plain} {} on {}: {problem}", line.kernel, line.tier);
        }
    }
    for problem in &outcome.problems {
        let _ = writeln!(out, "{red}REFUSED{plain} {problem}");
    }
    for skipped in &outcome.skipped {
        let _ = writeln!(out, "SKIPPED {skipped}");
    }
    let refused = refused(outcome);
    let _ = match outcome.passed {
        true => write!(out, "{green}gate passed{plain}: {} rows, ", rows.len()),
        false => write!(
            out,
            "{red}gate refused{plain}: {refused} problems in {} rows; `cargo xtask gate --explain KERNEL` shows a loop, CONTRIBUTING.md says what to do, ",
            rows.len()
        ),
    };
    out
}

fn refused(outcome: &Outcome) -> usize {
    outcome.problems.len() + outcome.lines.iter().map(|l| l.problems.len()).sum::<usize>()
}

/// For a CI job's page.
pub fn markdown(outcome: &Outcome) -> String {
    let state = if outcome.passed { "passed" } else { "refused" };
    let mut out = format!("## Gate {state}: {} rows, rustc {}\n\n", outcome.lines.len(), outcome.rustc);
    let problems = outcome
        .lines
        .iter()
        .flat_map(|l| l.problems.iter().map(move |p| format!("`{}` on {}: {p}", l.kernel, l.tier)));
    for problem in problems.chain(outcome.problems.iter().cloned()) {
        let _ = writeln!(out, "- **REFUSED** {problem}");
    }
    for skipped in &outcome.skipped {
        let _ = writeln!(out, "- SKIPPED {skipped}");
    }
    let _ = writeln!(out, "\n| {} | |\n|---|---|{}---|", HEADER.join(" | "), "--:|".repeat(HEADER.len() - 2));
    for line in &outcome.lines {
        let state = if line.problems.is_empty() { "ok" } else { "**REFUSED**" };
        let _ = writeln!(out, "| {} | {state} |", cells(line).join(" | "));
    }
    out
}
