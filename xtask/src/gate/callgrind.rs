//! The same counts by another way: callgrind, one valgrind process for each tier that it knows.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::build;
use super::count::{self, Run};
use super::tier::Tier;

/// Tiers whose instructions valgrind knows (3.27 has no AVX-512).
const TIERS: [Tier; 2] = [Tier::Scalar, Tier::Avx2];
/// How many times as many instructions the C library may take under valgrind, whose CPU chooses another `memset` there;
/// and some for its calls.
const LIBRARY: u64 = 4;
const LIBRARY_SLACK: u64 = 64;
/// Instructions that the order of buffers in memory may make: plain loops ask whether they overlap, from both ends.
const ORDER: u64 = 8;

/// What is missing for it on this machine.
pub fn missing() -> Option<String> {
    let missing = !build::has("valgrind");
    missing.then(|| "callgrind's cross-check on scalar and avx2: valgrind not on the PATH".to_owned())
}

/// Runs every case, or one, on each tier under callgrind; the counts are `instructions`, the C library's among them.
pub fn run(program: &Path, target_dir: &Path, only: Option<&str>) -> Result<Vec<Run>> {
    let dir = target_dir.join("callgrind");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::thread::scope(|scope| {
        let tiers = TIERS.map(|tier| {
            let file = dir.join(tier.name());
            scope.spawn(move || one(program, &file, tier, only))
        });
        let mut runs = Vec::new();
        for tier in tiers {
            runs.extend(tier.join().map_err(|_| anyhow!("the reader of callgrind's file failed"))??);
        }
        Ok(runs)
    })
}

fn one(program: &Path, file: &Path, tier: Tier, only: Option<&str>) -> Result<Vec<Run>> {
    // Only what this run writes may be read.
    if file.exists() {
        std::fs::remove_file(file).with_context(|| format!("cannot clear {}", file.display()))?;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind
        // Without the cache's simulation, which makes valgrind 3.19 add some loads and stores to `Ir`.
        .args(["-q", "--tool=callgrind", "--cache-sim=no", "--combine-dumps=yes"])
        // A part of the file for each region. 3.19 compares patterns of two wildcards in the first option alone.
        .args(["--toggle-collect=*hotlanes_probe*measured*", "--dump-after=*measured"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["run", "--tier", tier.name()])
        .args(count::only_arguments(only));
    let said = count::output(&mut valgrind)?;
    let (_, rest) = count::markers(&said)?;
    let mut runs: Vec<Run> = count::lines(rest)?;
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let counts = counts(&text)?;
    if runs.len() != counts.len() {
        bail!("{valgrind:?} ran {} calls, {} has {}", runs.len(), file.display(), counts.len());
    }
    for (run, count) in runs.iter_mut().zip(counts) {
        run.instructions = count;
    }
    Ok(runs)
}

/// The counts in callgrind's file: of each part that the end of a region wrote.
fn counts(text: &str) -> Result<Vec<u64>> {
    let (mut all, mut region) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(trigger) = line.strip_prefix("desc: Trigger: ") {
            region = trigger.starts_with("--dump-after=");
        } else if let Some(events) = line.strip_prefix("events: ") {
            if events != "Ir" {
                bail!("callgrind counted {events:?}, not Ir alone");
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            let total = total.trim().parse().with_context(|| format!("callgrind's {line:?}"))?;
            match region {
                true => all.push(total),
                false if total != 0 => bail!("callgrind counted {total} instructions outside all regions"),
                false => (),
            }
        }
    }
    Ok(all)
}

/// Compares callgrind's counts with the stepper's: the program's own instructions must be equal, and the C library's near.
pub fn compare(callgrind: &[Run], stepper: &[Run]) -> Vec<String> {
    let key = |r: &Run| (r.kernel.clone(), r.tier, r.elements);
    let kernels = |runs: &[Run]| -> Vec<Run> { runs.iter().filter(|r| !r.twin).cloned().collect() };
    let counted: HashMap<_, u64> = kernels(callgrind).iter().map(|r| (key(r), r.instructions)).collect();
    let mut problems = Vec::new();
    for run in kernels(stepper).iter().filter(|r| TIERS.contains(&r.tier)) {
        let what = format!("callgrind: {} on {} at {} elements", run.kernel, run.tier, run.elements);
        let Some(&counted) = counted.get(&key(run)).filter(|n| **n > 0) else {
            problems.push(format!("{what}: no count"));
            continue;
        };
        let most = match run.outside {
            0 => run.instructions,
            outside => run.instructions + outside * LIBRARY + LIBRARY_SLACK,
        };
        if !(run.instructions - ORDER.min(run.instructions)..=most + ORDER).contains(&counted) {
            problems.push(format!(
                "{what}: {counted} instructions, by single steps {} and {} of the C library",
                run.instructions, run.outside
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_its_count() {
        let part = |trigger: &str, n: u64| {
            format!(
                "part: 1\ndesc: Trigger: {trigger}\n\nevents: Ir\nsummary: {n}\nfn=(1)\n7 3\ntotals: {n}\n"
            )
        };
        let regions =
            [("--dump-after=p::measured", 70), ("--dump-after=p::measured", 9), ("Program termination", 0)];
        let text: String = regions.iter().map(|(trigger, n)| part(trigger, *n)).collect();
        assert_eq!(counts(&text).unwrap(), [70, 9]);
        assert!(counts(&part("Program termination", 5)).unwrap_err().to_string().contains("5 instructions"));
        let cache = text.replace("events: Ir", "events: Ir Dr");
        assert!(counts(&cache).unwrap_err().to_string().contains("Ir Dr"));
    }

    #[test]
    fn a_missing_and_another_count_are_refused() {
        let run = |tier, twin, instructions, outside| Run {
            kernel: "k".into(),
            tier,
            twin,
            elements: 1,
            instructions,
            outside,
            outside_calls: outside,
            pcs: Vec::new(),
        };
        let ours = |instructions, outside| [run(Tier::Avx2, false, instructions, outside)];
        let callgrind = [run(Tier::Avx2, false, 70, 0), run(Tier::Avx2, true, 500, 0)];
        for other in
            [&[][..], &[run(Tier::Scalar, false, 70, 0)], &[run(Tier::Avx2, true, 70, 0)], &ours(0, 0)]
        {
            assert!(compare(other, &ours(70, 0))[0].contains("no count"), "{other:?}");
        }
        assert_eq!(compare(&callgrind, &ours(70, 0)), [""; 0]);
        assert_eq!(compare(&callgrind, &ours(67, 0)), [""; 0]);
        assert!(compare(&callgrind, &ours(60, 0))[0].contains("70 instructions, by single steps 60"));
        assert!(compare(&callgrind, &ours(79, 0))[0].contains("by single steps 79"));
        assert_eq!(compare(&callgrind, &ours(60, 2)), [""; 0]);
        // Valgrind does not know this tier.
        assert_eq!(compare(&[], &[run(Tier::Avx512, false, 70, 0)]), [""; 0]);
    }
}
