//! What binds an operation, and what would help, by rules with numbers.

use super::analyse::Analysis;
use super::roof::PEAK;
use super::summary::{WORTH, percent};
use super::table::Row;

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
/// With steps this many times as long as the fastest, others used the machine.
const UNEVEN: f64 = 1.5;
/// Words by which an operation is known whose time does not grow with the batch.
const OF_OPTIMIZER: [&str; 7] =
    ["adamw", "sgd", "update", "optimizer", "packing weights", "sum of chunks", "norm of the gradient"];

/// What binds an operation, in words with numbers.
pub(super) fn bound(row: &Row) -> String {
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

/// Whether its calls are products, of three sizes, with a small one, and far from every limit.
fn is_thin(row: &Row) -> bool {
    let sizes = row.shape.unwrap_or_default();
    let least = sizes.into_iter().min().unwrap_or(0);
    (1..THIN).contains(&least) && row.limit_share().is_some_and(|share| share < AT_LIMIT)
}

fn is_overhead(row: &Row) -> bool {
    row.quantile(0.5) < SHORT && row.limit_share().is_some_and(|share| share < FAR)
}

/// What would help, from rules with numbers: from the tables by operation and by shape.
pub(super) fn advice(analysis: &Analysis, rows: &[Row], shapes: &[Row]) -> Vec<String> {
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
    let slowest = analysis.steps.iter().map(|step| step.1).max().unwrap_or(0) as f64;
    let fastest = analysis.steps.iter().map(|step| step.1).min().unwrap_or(0) as f64;
    add(
        slowest >= UNEVEN * fastest.max(1.0),
        format!(
            "A quiet machine first: the slowest step took {:.1} times as long as the fastest, so other programs have \
            a part in these figures",
            slowest / fastest.max(1.0)
        ),
    );
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
            "More **width** or a larger **batch**: {} of the time is arithmetic below {} of FMA peak; \
            products with larger sizes, best multiples of 48, come nearer to it",
            percent(far),
            percent(AT_LIMIT)
        ),
    );
    let thin: Vec<&Row> = shapes.iter().filter(|row| is_thin(row)).collect();
    let share = thin.iter().map(|row| row.share).sum::<f64>();
    add(
        share >= WORTH,
        format!(
            "A larger **batch**: {} of the time is products with a size below {THIN}, which \
            leave most of a vector or of the registers unused (most of all {}, {})",
            percent(share),
            thin.first().map_or("", |row| &row.operation),
            thin.first().map_or(String::new(), |row| row.shape())
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
            "**bf16** weights, or a smaller batch for each core: {} of the time is bound by memory beyond \
            the second cache",
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

#[cfg(test)]
mod tests {
    use super::super::Work;
    use super::super::analyse::tests::record;
    use super::super::analyse::{Call, Operation};
    use super::super::roof::tests::roof;
    use super::super::table::By;
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
        [bounds, advice(analysis, &rows, &analysis.table(By::Shape, Some(&roof())))].concat().join("\n")
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

        let mut thin = analysis(&[("product", 800, 1, work(16e6, 1e3))]);
        thin.calls[0].shape = [1, 512, 256];
        let thin = told(&thin);
        assert!(
            thin.contains("80.0% of the time is products with a size below 16")
                && thin.contains("1 x 512 x 256"),
            "{thin}"
        );

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
    fn uneven_steps_are_told() {
        let steps = |slow| Analysis { steps: vec![(1, 1000), (2, slow)], threads: 1, ..Analysis::default() };
        assert!(advice(&steps(1600), &[], &[])[0].contains("1.6 times as long as the fastest"));
        assert!(advice(&steps(1400), &[], &[]).is_empty());
    }

    #[test]
    fn threads_that_wait_are_told() {
        let told = advice(&Analysis::of(&record()), &[], &[]).join("\n");
        assert!(told.contains("25.0% of the threads' time is waiting for the last one"), "{told}");
        assert!(told.contains("in 33.3% of the threads' time only one of them"), "{told}");
        assert!(told.contains("11.7% of the time lies between the operations"), "{told}");
    }
}
