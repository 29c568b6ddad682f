//! Mutation testing: a fixed sample of `cargo mutants` over the kernels, whose survivors must be listed with the reason why
//! no test can tell them from the code.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Options of `cargo xtask mutants`.
#[derive(clap::Args)]
pub struct Args {
    /// Print the sample and run nothing
    #[arg(long)]
    list: bool,
    /// How many mutants, besides those of attention's pieces
    #[arg(long, default_value_t = 60)]
    count: usize,
    /// Only mutants of the sample that this text is in; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// The survivors that are accepted
    #[arg(long, value_name = "FILE", default_value = "xtask/mutants.toml")]
    accepted: PathBuf,
}

/// A mutant as `cargo mutants --list --json` has it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    file: String,
    genre: String,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    function_name: String,
    return_type: String,
}

/// A mutant of the sample.
struct Mutant {
    /// As `cargo mutants` names it, with line and column.
    name: String,
    /// Without, but numbered where several have the same.
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    same: Vec<Same>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Same {
    mutant: String,
    reason: String,
}

/// The tests of the kernel crate, in rounds: the next takes what the one before let through. First those that end soonest. And
/// seconds, several times what a round takes, after which it never ends.
const ROUNDS: [(&[&str], u32); 3] = [
    (&["--lib", "--test=tiers", "--test=threads"], 100),
    (&["--test=oracle"], 200),
    (&["--test=bits", "--test=properties", "--test=no_alloc"], 600),
];

/// Runs the sample; false where a mutant survives that is not listed, or one that is listed does not.
pub fn run(args: &Args) -> Result<bool> {
    let accepted = accepted(&args.accepted)?;
    let listed = list()?;
    let names: Vec<String> = listed.iter().map(|m| m.name.clone()).collect();
    let sample: Vec<Mutant> = sample(listed, args.count)
        .into_iter()
        .filter(|m| args.only.is_empty() || args.only.iter().any(|text| m.key.contains(text.as_str())))
        .collect();
    ensure!(!sample.is_empty(), "no mutant of the sample has {:?} in its name", args.only);
    if args.list {
        sample.iter().for_each(|m| println!("{}", m.key));
        return Ok(true);
    }
    let missed = survivors(&names, &sample)?;
    let mut good = judge(&sample, &missed, &accepted);
    if args.only.is_empty() {
        for key in accepted.keys().filter(|key| !sample.iter().any(|m| m.key == **key)) {
            println!("no longer in the sample, take it off the list: {key}");
            good = false;
        }
    }
    Ok(good)
}

/// The mutants of the sample that no test of any round tells from the code.
fn survivors(names: &[String], sample: &[Mutant]) -> Result<Vec<String>> {
    // What is not in the sample counts as caught before: the filters by name leave out no mutant of a struct's field.
    let output = Path::new("target/mutants");
    let before = output.join("mutants.out");
    fs::remove_dir_all(output).or_else(|e| if e.kind() == NotFound { Ok(()) } else { Err(e) })?;
    fs::create_dir_all(&before)?;
    let write = |names: Vec<String>| fs::write(before.join("caught.txt"), names.join("\n") + "\n");
    write(names.iter().filter(|name| !sample.iter().any(|m| m.name == **name)).cloned().collect())?;
    let lines = |name: &str| -> Result<Vec<String>> {
        let path = before.join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let mut left: Vec<String> = sample.iter().map(|m| m.name.clone()).collect();
    for (tests, seconds) in ROUNDS {
        if left.is_empty() {
            break;
        }
        let mut command = Command::new("cargo");
        command.args(["mutants", "--package=hotlanes", "--no-shuffle", "--baseline=skip"]);
        command.arg(format!("--timeout={seconds}"));
        command.args(["--colors=never", "--iterate", "--output"]).arg(output).arg("--").args(tests);
        // A mutant is one more build of the same crate. Overflow and the checks of unoptimised builds are part of the net.
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "none");
        let status = command.status().context("cargo mutants")?;
        // 2: some were missed; 3: some ran out of time.
        ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo mutants: {status}");
        // A test that no longer ends tells as well.
        let told = [lines("caught.txt")?, lines("timeout.txt")?].concat();
        let [missed, unviable] = [lines("missed.txt")?, lines("unviable.txt")?];
        let all = told.len() + missed.len() + unviable.len();
        ensure!(all == left.len(), "{all} mutants ran of {}", left.len());
        println!(
            "mutants: {} of {all} killed by {}, {} do not compile",
            told.len(),
            tests.join(" "),
            unviable.len()
        );
        write(told)?;
        left = missed;
    }
    println!("mutants: {} of {} survived", left.len(), sample.len());
    Ok(left)
}

/// Says what is wrong; true if nothing is.
fn judge(sample: &[Mutant], missed: &[String], accepted: &BTreeMap<String, String>) -> bool {
    let mut good = true;
    for m in sample {
        match (missed.contains(&m.name), accepted.get(&m.key)) {
            (true, None) => {
                println!("survived, and is not in the list of those that may: {} ({})", m.key, m.name);
                good = false;
            }
            (true, Some(reason)) => println!("survived, as it may: {} ({reason})", m.key),
            (false, Some(_)) => {
                println!("no longer survives, take it off the list: {}", m.key);
                good = false;
            }
            (false, None) => {}
        }
    }
    good
}

fn accepted(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let list: Accepted = toml::from_str(&text).with_context(|| path.display().to_string())?;
    if let Some(same) = list.same.iter().find(|s| s.reason.trim().is_empty()) {
        bail!("{}: {} has no reason", path.display(), same.mutant);
    }
    Ok(list.same.into_iter().map(|s| (s.mutant, s.reason)).collect())
}

fn list() -> Result<Vec<Listed>> {
    let output = Command::new("cargo")
        .args(["mutants", "--package=hotlanes", "--list", "--json"])
        .output()
        .context("cargo mutants: `cargo install cargo-mutants --locked` brings it")?;
    ensure!(output.status.success(), "cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Code that this machine does not compile, and loops that kernels are only measured against.
fn is_left_out(file: &str) -> bool {
    let other = if cfg!(target_arch = "aarch64") { &["avx2.rs", "avx512.rs"][..] } else { &["neon.rs"] };
    let is_test = file.contains("/tests") || file.ends_with("recorder.rs");
    let is_plain = file.starts_with("src/naive") || file.starts_with("src/limits");
    !file.starts_with("src/") || is_test || is_plain || other.iter().any(|name| file.ends_with(name))
}

/// Arithmetic, comparisons and sizes: the `count` whose names have the least hashes, so that a change elsewhere in the code
/// does not change the sample; and all of how attention's work is measured and cut.
fn sample(listed: Vec<Listed>, count: usize) -> Vec<Mutant> {
    let mut seen = HashMap::new();
    let mut all = Vec::new();
    for m in listed {
        let without = without_place(&m.name);
        let nth = seen.entry(without.clone()).or_insert(0);
        *nth += 1;
        let key = if *nth == 1 { without } else { format!("{without} ({nth})") };
        let (name, result) = match &m.function {
            Some(f) => (f.function_name.as_str(), f.return_type.as_str()),
            None => ("", ""),
        };
        let sized = m.genre == "FnValue" && result.contains("usize");
        if is_left_out(&m.file) || !(sized || matches!(m.genre.as_str(), "BinaryOperator" | "UnaryOperator"))
        {
            continue;
        }
        let pieces =
            m.file.starts_with("src/attention") && matches!(name.rsplit("::").next(), Some("size" | "split"));
        all.push((!pieces, fnv(&key), Mutant { name: m.name, key }));
    }
    all.sort_by_key(|a| (a.0, a.1));
    let always = all.iter().filter(|m| !m.0).count();
    let mut sample: Vec<Mutant> = all.into_iter().take(always + count).map(|m| m.2).collect();
    sample.sort_by(|a, b| a.key.cmp(&b.key));
    sample
}

/// `src/a.rs:1:2: replace ..` without line and column.
fn without_place(name: &str) -> String {
    let (place, change) = name.split_once(": ").unwrap_or((name, ""));
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {change}")
}

/// FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, genre: &str, function: &str) -> Listed {
        let function = Function { function_name: function.into(), return_type: "-> usize".into() };
        let file = name.split(':').next().unwrap().to_owned();
        Listed { name: name.into(), file, genre: genre.into(), function: Some(function) }
    }

    #[test]
    fn the_sample_does_not_follow_lines() {
        let of = |line: usize| {
            let names = (0..40).map(|i| {
                let genre = ["BinaryOperator", "FnValue", "MatchArm"][i % 3];
                listed(&format!("src/a.rs:{}:9: replace + with - in f{i}", line + i), genre, "f")
            });
            sample(names.collect(), 10).into_iter().map(|m| m.key).collect::<Vec<_>>()
        };
        assert_eq!(of(1).len(), 10);
        assert_eq!(of(1), of(500));
    }

    #[test]
    fn equal_names_are_numbered_and_attention_is_always_there() {
        let list = vec![
            listed("src/a.rs:1:9: replace + with - in f", "BinaryOperator", "f"),
            listed("src/a.rs:2:9: replace + with - in f", "BinaryOperator", "f"),
            listed("src/naive/a.rs:2:9: replace + with - in f", "BinaryOperator", "f"),
            listed("src/attention/forward.rs:2:9: replace size with 0", "FnValue", "<impl Work for X>::size"),
        ];
        let keys: Vec<_> = sample(list, 2).into_iter().map(|m| m.key).collect();
        let want = [
            "src/a.rs: replace + with - in f",
            "src/a.rs: replace + with - in f (2)",
            "src/attention/forward.rs: replace size with 0",
        ];
        assert_eq!(keys, want);
    }

    #[test]
    fn a_survivor_is_listed_or_refused_and_the_list_is_kept_short() {
        let sample = [Mutant { name: "src/a.rs:1:2: x".into(), key: "src/a.rs: x".into() }];
        let missed = ["src/a.rs:1:2: x".to_owned()];
        let list = BTreeMap::from([("src/a.rs: x".to_owned(), "the same".to_owned())]);
        assert!(judge(&sample, &missed, &list));
        assert!(!judge(&sample, &missed, &BTreeMap::new()));
        assert!(!judge(&sample, &[], &list));
        assert!(judge(&sample, &[], &BTreeMap::new()));
    }
}
