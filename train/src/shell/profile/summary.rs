//! The profile in words: where the time goes, what binds the operations that take most of it, and what would help.

use std::fmt::Write as _;

use super::analyse::{Analysis, Row};
use super::memory::Memory;
use super::roof::{PEAK, Roof};

/// Operations in the summary and on the terminal.
const TOP: usize = 12;
/// Operations of which it is told what binds them, if they take [`WORTH`] of the time.
const EXPLAINED: usize = 6;
const WORTH: f64 = 0.02;
/// From this share of a limit on, it is what binds.
const AT_LIMIT: f64 = 0.6;
/// Below this share of all limits, calls shorter than [`SHORT`] seconds are mostly overhead.
const FAR: f64 = 0.3;
const SHORT: f64 = 5e-6;
/// A product with a smaller size than this is thin.
const THIN: u32 = 16;
/// Shares of the time from which on there is advice: waiting, the stepping thread alone, the optimizer, between the
/// operations.
const WAITING: f64 = 0.2;
const APART: f64 = 0.2;
const OPTIMIZER: f64 = 0.15;
const OUTSIDE: f64 = 0.05;
/// Words by which an operation is known whose time does not grow with the batch.
const OF_OPTIMIZER: [&str; 7] =
    ["adamw", "sgd", "update", "optimizer", "packing weights", "sum of chunks", "norm of the gradient"];

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

fn percent(share: f64) -> String {
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
    let rows = analysis.table(super::analyse::By::Operation, Some(roof));
    let table = table(&rows, analysis);
    let line = |cells: &[&str; 10]| {
        let [name, calls, own, total, share, gflops, gigabytes, intensity, limit, of_it] = cells;
        format!(
            "{name:28} {calls:>7} {own:>9} {total:>9} {share:>6} {gflops:>8} {gigabytes:>7} {intensity:>9}  {limit:8} {of_it:>6}"
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
    let Facts { title, cpu, analysis, rows, roof, memory, resident, notes } = facts;
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
        "\nSelf time is that of an operation without those within it. The rows add up to {} of {} threads' time in the\n\
        steps. All operations together: {rate:.1} GFLOP/s, {} of FMA peak. \"Of it\" is the share of the limit that binds:\n\
        FMA peak, or the bandwidth of the nearest level of memory that holds a call's operands; operations that run on one\n\
        thread beside others are held against a thread's part of it.\n",
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
    let advice = advice(analysis, rows);
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

/// What binds an operation, in words with numbers.
fn bound(row: &Row) -> String {
    let (median, share) = (row.quantile(0.5), row.limit_share());
    let call = format!("calls of {:.1} us", 1e6 * median);
    match (row.limit, share) {
        (Some(limit), Some(share)) if share >= AT_LIMIT => {
            let what = if limit == PEAK { "arithmetic" } else { "memory" };
            format!("bound by {what}, {} of {limit}", percent(share))
        }
        (Some(limit), Some(share)) if is_overhead(row) => {
            format!("bound by overhead: {call}, {} of {limit}", percent(share))
        }
        (Some(limit), Some(share)) => {
            format!(
                "{} of {limit}, the nearest limit, which it could come closer to ({call})",
                percent(share)
            )
        }
        _ => format!("its work is not counted ({call})"),
    }
}

fn is_overhead(row: &Row) -> bool {
    row.quantile(0.5) < SHORT && row.limit_share().is_some_and(|share| share < FAR)
}

/// What would help, from rules with numbers.
fn advice(analysis: &Analysis, rows: &[Row]) -> Vec<String> {
    let all = (1e-9 * analysis.thread_time() as f64).max(1e-9);
    let sum = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).map(|row| row.share).sum::<f64>();
    let [waiting, apart, outside] =
        [analysis.waiting, analysis.apart, analysis.outside].map(|time| 1e-9 * time as f64 / all);
    let mut advice = Vec::new();
    let mut add = |holds: bool, words: String| {
        if holds {
            advice.push(words);
        }
    };
    let overhead = sum(&is_overhead);
    add(
        overhead >= WORTH,
        format!(
            "A larger **batch**: {} of the time is calls shorter than {} us that are far from every limit",
            percent(overhead),
            1e6 * SHORT
        ),
    );
    let products = |row: &Row, thin: bool| {
        row.limit == Some(PEAK) && row.limit_share().is_some_and(|s| s < AT_LIMIT) == thin
    };
    let far = sum(&|row| products(row, true) && !is_overhead(row));
    add(
        far >= OPTIMIZER,
        format!(
            "More **width** or a larger **batch**: {} of the time is arithmetic below {} of FMA peak; products with sizes of {THIN} and more, better multiples of 48, come nearer to it",
            percent(far),
            percent(AT_LIMIT)
        ),
    );
    let near = sum(&|row| products(row, false));
    add(
        near >= 0.5,
        format!(
            "More or faster cores (**threads**): {} of the time is arithmetic at the machine's peak",
            percent(near)
        ),
    );
    let beyond = sum(&|row| {
        matches!(row.limit, Some("L3" | "DRAM")) && row.limit_share().is_some_and(|s| s >= AT_LIMIT)
    });
    add(
        beyond >= OPTIMIZER,
        format!(
            "**bf16** weights, or a smaller batch for each core: {} of the time is bound by memory beyond the second cache",
            percent(beyond)
        ),
    );
    let optimizer = sum(&|row| OF_OPTIMIZER.iter().any(|word| row.operation.to_lowercase().contains(word)));
    add(
        optimizer >= OPTIMIZER,
        format!(
            "A larger **batch**: {} of the time is the optimizer's, which does not grow with it",
            percent(optimizer)
        ),
    );
    add(
        waiting >= WAITING,
        format!(
            "Fewer **threads**, or a larger **batch**: {} of the threads' time is waiting for the last one",
            percent(waiting)
        ),
    );
    add(
        apart >= APART,
        format!(
            "A larger **batch**: in {} of the threads' time only one of them has work of its own",
            percent(apart)
        ),
    );
    add(
        outside >= OUTSIDE,
        format!(
            "{} of the time lies between the operations: a larger **batch** makes it less",
            percent(outside)
        ),
    );
    advice
}

/// Text that Markdown shows as it is.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| ['\\', c].into_iter().skip(usize::from(!"\\`*_{}[]<>|#".contains(c)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::analyse::tests::record;
    use super::super::analyse::{Call, Operation};
    use super::super::roof::tests::roof;
    use super::super::{Work, analyse::By};
    use super::*;

    /// One thread and a step of 1 ms with these calls: name, microseconds each, how often, and each one's work.
    fn analysis(calls: &[(&'static str, u64, usize, Work)]) -> Analysis {
        let call = |&(name, us, count, work): &(&'static str, u64, usize, Work)| {
            let operation = Operation { phase: None, name };
            let (time, shape) = (1000 * us, [1, 0, 0]);
            let call = Call { operation, layer: None, shape, step: 0, time, own: time, work, whole: true };
            std::iter::repeat_n(call, count)
        };
        let calls: Vec<Call> = calls.iter().flat_map(call).collect();
        Analysis { steps: vec![(1, 1_000_000)], threads: 1, calls, ..Analysis::default() }
    }

    fn told(analysis: &Analysis) -> String {
        let rows = analysis.table(By::Operation, Some(&roof()));
        let bounds: Vec<String> =
            rows.iter().map(|row| format!("{}: {}", row.operation, bound(row))).collect();
        [bounds, advice(analysis, &rows)].concat().join("\n")
    }

    #[test]
    fn rules_tell_what_binds_and_what_would_help() {
        let work = |flops, bytes| Work { flops, bytes };
        // 200 GFLOP/s are 200 operations a nanosecond, and 20 GB/s of DRAM 20 bytes.
        let at_peak = told(&analysis(&[("product", 800, 1, work(128e6, 1e3))]));
        assert!(at_peak.contains("product: bound by arithmetic, 80.0% of FMA peak"), "{at_peak}");
        assert!(at_peak.contains("**threads**") && !at_peak.contains("**batch**"), "{at_peak}");

        let far = told(&analysis(&[("product", 800, 1, work(16e6, 1e3))]));
        assert!(far.contains("10.0% of FMA peak, the nearest limit") && far.contains("**width**"), "{far}");

        let short = told(&analysis(&[("tiny", 2, 400, work(100.0, 50.0))]));
        assert!(
            short.contains("bound by overhead: calls of 2.0 us") && short.contains("80.0% of the time"),
            "{short}"
        );

        let dram = told(&analysis(&[("stream", 900, 1, work(0.0, 14.4e6))]));
        assert!(dram.contains("bound by memory, 80.0% of DRAM") && dram.contains("**bf16**"), "{dram}");

        let optimizer = told(&analysis(&[("clip and AdamW", 160, 1, work(1e6, 1e3))]));
        assert!(optimizer.contains("16.0% of the time is the optimizer's"), "{optimizer}");
        let little = told(&analysis(&[("clip and AdamW", 140, 1, work(28e6, 1e3))]));
        assert_eq!(little.lines().count(), 1, "{little}");
    }

    #[test]
    fn threads_that_wait_are_told() {
        let told = advice(&Analysis::of(&record()), &[]).join("\n");
        assert!(told.contains("25.0% of the threads' time is waiting for the last one"), "{told}");
        assert!(told.contains("in 33.3% of the threads' time only one of them"), "{told}");
        assert!(told.contains("11.7% of the time lies between the operations"), "{told}");
    }

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
