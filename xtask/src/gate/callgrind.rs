//! The same counts by another way: callgrind, through `cargo bench --bench instructions`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::build;
use super::count::Run;
use super::decode::Arch;
use super::tier::Tier;

/// How many times as many instructions the C library may take under valgrind, whose CPU chooses another `memset` there;
/// and some for its calls.
const LIBRARY: u64 = 4;
const LIBRARY_SLACK: u64 = 64;
/// Instructions that the order of buffers in memory may make: plain loops ask whether they overlap, from both ends.
const ORDER: u64 = 8;

/// What is missing for it on this machine.
pub fn missing() -> Option<String> {
    let missing: Vec<_> =
        ["valgrind", "iai-callgrind-runner"].into_iter().filter(|program| !build::has(program)).collect();
    (!missing.is_empty()).then(|| {
        format!("callgrind's cross-check on scalar and avx2: {} not on the PATH", missing.join(" and "))
    })
}

/// Builds the benchmark and runs it; returns where its results are.
pub fn run(root: &Path, target_dir: &Path) -> Result<std::path::PathBuf> {
    let home = target_dir.join("iai");
    // Only what this run writes may be read.
    if home.exists() {
        std::fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
    }
    let mut cargo = build::cargo(root);
    cargo.args(["bench", "--locked"]);
    build::choose_everything(&mut cargo);
    cargo.args(["--target", build::triple(Arch::X86), "--target-dir"]).arg(target_dir);
    cargo.args(["--", "--save-summary=json"]).env("IAI_CALLGRIND_HOME", &home).stdin(Stdio::null());
    let output = cargo.output().context("cannot run cargo bench")?;
    if !output.status.success() {
        bail!("cargo bench --bench instructions failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(home.join("hotlanes/instructions/count/kernels"))
}

/// Compares its counts with the stepper's: the program's own instructions must be equal, and the C library's near.
pub fn compare(results: &Path, runs: &[Run]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut size = 0;
    for (n, run) in runs.iter().enumerate() {
        if run.twin || run.tier > Tier::Avx2 {
            continue;
        }
        // Sizes follow each other.
        let before = runs[..n].iter().rev().find(|r| !r.twin);
        size =
            if before.is_some_and(|b| b.kernel == run.kernel && b.tier == run.tier) { size + 1 } else { 0 };
        let file = results.join(format!("{}.{}_{size}/summary.json", run.kernel, run.tier));
        let counted = match std::fs::read(&file) {
            Ok(text) => instructions(&serde_json::from_slice(&text).context(file.display().to_string())?),
            Err(_) => None,
        };
        let Some(counted) = counted.filter(|n| *n > 0) else {
            problems.push(format!("callgrind: no count in {}", file.display()));
            continue;
        };
        let most = match run.outside {
            0 => run.instructions,
            outside => run.instructions + outside * LIBRARY + LIBRARY_SLACK,
        };
        if !(run.instructions - ORDER.min(run.instructions)..=most + ORDER).contains(&counted) {
            problems.push(format!(
                "callgrind: {} on {} at {} elements: {counted} instructions, by single steps {} and {} of the C library",
                run.kernel, run.tier, run.elements, run.instructions, run.outside
            ));
        }
    }
    Ok(problems)
}

/// The count in a summary. Without an older run beside it there is one figure, else the first is this run's.
fn instructions(summary: &Value) -> Option<u64> {
    let metrics = summary.pointer("/profiles/0/summaries/total/summary/Callgrind/Ir/metrics")?;
    let (_, metrics) = metrics.as_object()?.iter().next()?;
    metrics.get(0).unwrap_or(metrics).get("Int")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(metrics: Value) -> Value {
        let ir = serde_json::json!({ "Ir": { "metrics": metrics } });
        serde_json::json!({ "profiles": [{ "summaries": { "total": { "summary": { "Callgrind": ir } } } }] })
    }

    #[test]
    fn a_count_is_found_with_and_without_an_older_one() {
        assert_eq!(instructions(&summary(serde_json::json!({ "Left": { "Int": 7 } }))), Some(7));
        let both = serde_json::json!({ "Both": [{ "Int": 7 }, { "Int": 9 }] });
        assert_eq!(instructions(&summary(both)), Some(7));
        assert_eq!(instructions(&serde_json::json!({})), None);
    }

    #[test]
    fn a_missing_and_another_count_are_refused() {
        let dir = std::env::temp_dir().join(format!("hotlanes-callgrind-{}", std::process::id()));
        let at = dir.join("k.avx2_0");
        std::fs::create_dir_all(&at).unwrap();
        let run = |instructions, outside| Run {
            kernel: "k".into(),
            tier: Tier::Avx2,
            twin: false,
            elements: 1,
            instructions,
            outside,
            outside_calls: outside,
            pcs: Vec::new(),
        };
        assert!(compare(&dir, &[run(70, 0)]).unwrap()[0].contains("no count"));
        let text = summary(serde_json::json!({ "Left": { "Int": 70 } })).to_string();
        std::fs::write(at.join("summary.json"), text).unwrap();
        assert!(compare(&dir, &[run(70, 0)]).unwrap().is_empty());
        assert!(compare(&dir, &[run(67, 0)]).unwrap().is_empty());
        assert!(compare(&dir, &[run(60, 0)]).unwrap()[0].contains("70 instructions, by single steps 60"));
        assert!(compare(&dir, &[run(79, 0)]).unwrap()[0].contains("by single steps 79"));
        assert!(compare(&dir, &[run(60, 2)]).unwrap().is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
