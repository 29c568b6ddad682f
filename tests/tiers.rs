//! Net 3: the tiers that this CPU advertises are there, are chosen in order, and are the ones that run.

mod common;
#[path = "common/limited.rs"]
mod limited;

use std::collections::BTreeSet;
use std::process::Command;

use common::panic_message;
use hotlanes::{TIER_ENV, Tier, TierError, tier, try_tier, with_tier};
use limited::output;

/// What the CPU has according to std, asked without pulp.
fn advertised() -> BTreeSet<Tier> {
    let mut tiers = BTreeSet::from([Tier::Scalar]);
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let avx2 =
            has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
        if avx2 {
            tiers.insert(Tier::Avx2);
        }
        let (vector, width) = (has!("avx512f") && has!("avx512vl"), has!("avx512bw") && has!("avx512dq"));
        if avx2 && vector && width && has!("avx512cd") {
            tiers.insert(Tier::Avx512);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        tiers.insert(Tier::Neon);
    }
    tiers
}

/// What build.rs should have left in, from the features this test was compiled with.
fn compiled() -> Vec<Tier> {
    let avx2 = cfg!(all(
        target_arch = "x86_64",
        target_feature = "avx2",
        target_feature = "fma",
        target_feature = "bmi1",
        target_feature = "bmi2",
        target_feature = "lzcnt"
    ));
    let avx512 = cfg!(all(
        target_feature = "avx512f",
        target_feature = "avx512bw",
        target_feature = "avx512cd",
        target_feature = "avx512dq",
        target_feature = "avx512vl"
    ));
    match std::env::consts::ARCH {
        "x86_64" if avx2 && avx512 => vec![Tier::Avx512],
        "x86_64" if avx2 => vec![Tier::Avx2, Tier::Avx512],
        "x86_64" => vec![Tier::Scalar, Tier::Avx2, Tier::Avx512],
        "aarch64" if cfg!(target_endian = "little") => vec![Tier::Scalar, Tier::Neon],
        _ => vec![Tier::Scalar],
    }
}

fn names(tiers: impl IntoIterator<Item = Tier>) -> String {
    tiers.into_iter().map(Tier::name).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_advertised_tier_is_available() {
    let compiled = compiled();
    for tier in Tier::ALL {
        assert_eq!(tier.is_compiled(), compiled.contains(&tier), "is {tier} compiled in?");
        assert_eq!(tier.is_supported_by_cpu(), advertised().contains(&tier), "does the CPU have {tier}?");
    }
    let expected: Vec<Tier> = compiled.into_iter().filter(|t| advertised().contains(t)).collect();
    assert_eq!(Tier::available().collect::<Vec<_>>(), expected, "slowest first");
    assert!(!expected.is_empty());
}

/// The tiers in the CPU flags that Linux lists, asked without std's detection; none where Linux lists no flags, or those of a
/// CPU that an emulator hides.
fn listed_by_linux() -> Option<BTreeSet<Tier>> {
    if cfg!(any(miri, not(all(target_arch = "x86_64", target_os = "linux")))) || !runner().is_empty() {
        return None;
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags: BTreeSet<&str> =
        info.lines().find_map(|line| line.strip_prefix("flags"))?.split_whitespace().collect();
    let has = |needed: &[&str]| needed.iter().all(|flag| flags.contains(flag));
    let mut tiers = BTreeSet::from([Tier::Scalar]);
    // Linux calls lzcnt by the name of the set that it came with.
    if has(&["avx2", "fma", "bmi1", "bmi2", "abm", "popcnt"]) {
        tiers.insert(Tier::Avx2);
        if has(&["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]) {
            tiers.insert(Tier::Avx512);
        }
    }
    Some(tiers)
}

/// CI says which tiers its machine must run, since a test cannot know what it was not shown. Elsewhere Linux or std says what
/// the CPU has.
#[test]
fn the_expected_tiers_are_available() {
    let (expected, source) = match std::env::var("HOTLANES_EXPECT_TIERS") {
        Ok(list) => (list.split(',').map(|s| s.trim().parse().unwrap()).collect(), "HOTLANES_EXPECT_TIERS"),
        Err(_) => {
            let (cpu, source) = listed_by_linux().map_or((advertised(), "std"), |t| (t, "/proc/cpuinfo"));
            let compiled = compiled().into_iter().filter(|t| cpu.contains(t));
            (compiled.collect::<Vec<Tier>>(), source)
        }
    };
    println!("tiers expected by {source}: {}", names(expected.iter().copied()));
    assert_eq!(names(Tier::available()), names(expected), "expected by {source}");
}

#[test]
fn names_are_the_closed_vocabulary() {
    assert_eq!(names(Tier::ALL), "scalar, avx2, avx512, neon");
    for tier in Tier::ALL {
        assert_eq!(tier.to_string(), tier.name());
        assert_eq!(tier.name().parse(), Ok(tier));
        assert_eq!(tier.name().to_uppercase().parse(), Ok(tier));
        assert_eq!(format!("{tier:>8}").len(), 8, "width is honoured");
    }
    assert_eq!(TIER_ENV, "HOTLANES_TIER");
}

#[test]
fn errors_name_what_there_is() {
    for name in ["", "avx", "avx2 ", "sse4"] {
        let error = name.parse::<Tier>().unwrap_err();
        assert_eq!(error, TierError::Unknown { name: name.to_owned() });
        assert_eq!(
            error.to_string(),
            format!("unknown tier {name:?}: the names are scalar, avx2, avx512, neon")
        );
    }
    let has = names(Tier::available());
    let lacking = TierError::Unsupported { tier: Tier::Avx512 };
    assert_eq!(lacking.to_string(), format!("this CPU lacks the tier avx512: it has {has}"));
    let mut refused = 0;
    for tier in Tier::ALL.into_iter().filter(|t| !t.is_available()) {
        let error = with_tier(tier, || panic!("ran on {tier}, which is not available")).unwrap_err();
        let expected = if tier.is_compiled() {
            TierError::Unsupported { tier }
        } else {
            TierError::NotCompiled { tier }
        };
        assert_eq!(error, expected);
        assert!(error.to_string().contains(&format!("the tier {tier}")), "{error}");
        assert!(error.to_string().ends_with(&format!("it has {has}")), "{error}");
        refused += 1;
    }
    assert!(refused > 0, "no machine has both avx512 and neon");
}

#[test]
fn with_tier_nests_and_restores() {
    let before = tier();
    let all: Vec<Tier> = Tier::available().collect();
    for &outer in &all {
        for &inner in &all {
            let value = with_tier(outer, || {
                assert_eq!(tier(), outer);
                assert_eq!(with_tier(inner, tier), Ok(inner));
                assert_eq!(try_tier(), Ok(outer), "restored to the outer one");
                // Another thread is not forced.
                let elsewhere = std::thread::spawn(tier).join().unwrap();
                assert_eq!(elsewhere, before);
                7
            });
            assert_eq!(value, Ok(7));
            assert_eq!(tier(), before);
        }
        let message = panic_message(|| {
            let _ = with_tier(outer, || panic!("within {outer}"));
        });
        assert_eq!(message, format!("within {outer}"));
        assert_eq!(tier(), before, "restored after a panic");
    }
}

/// Run in a process of its own by the tests below: says on stdout which tier that process chose.
#[test]
#[ignore = "a child of the tests below"]
fn child() {
    match try_tier() {
        Ok(chosen) => {
            assert_eq!(tier(), chosen);
            println!("CHILD tier {chosen}.");
        }
        Err(e) => {
            println!("CHILD error {e}.");
            println!("CHILD panic {}.", panic_message(|| assert!(tier() == Tier::Scalar, "chosen")));
            // The way out that a wrong environment leaves: a tier given by name.
            for t in Tier::available() {
                assert_eq!(with_tier(t, tier), Ok(t));
            }
        }
    }
}

/// The emulator that cargo runs this test under, if any: its own variable for this architecture says so.
fn runner() -> String {
    let arch = std::env::consts::ARCH.to_uppercase();
    std::env::vars()
        .find(|(k, _)| k.starts_with(&format!("CARGO_TARGET_{arch}_")) && k.ends_with("_RUNNER"))
        .map(|(_, v)| v)
        .unwrap_or_default()
}

/// Runs [`child`] with `HOTLANES_TIER` set to `value`, or not set, and returns its stdout.
fn spawn(value: Option<&str>) -> String {
    let exe = std::env::current_exe().unwrap();
    let runner = runner();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(program) => {
            let mut c = Command::new(program);
            c.args(words).arg(&exe);
            c
        }
        None => Command::new(&exe),
    };
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env_remove(TIER_ENV);
    if let Some(value) = value {
        command.env(TIER_ENV, value);
    }
    let output = output(&mut command);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("CHILD "), "the child did not run: {stdout}");
    stdout
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn the_best_tier_is_the_default() {
    let best = Tier::available().next_back().unwrap();
    for value in [None, Some("")] {
        let said = spawn(value);
        assert!(said.contains(&format!("CHILD tier {best}.")), "{value:?}: {said}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn the_environment_chooses_the_tier() {
    for tier in Tier::ALL {
        let said = spawn(Some(tier.name()));
        if tier.is_available() {
            assert!(said.contains(&format!("CHILD tier {tier}.")), "{said}");
        } else {
            let error = with_tier(tier, || ()).unwrap_err();
            assert!(said.contains(&format!("CHILD error {error}.")), "{said}");
            assert!(said.contains(&format!("CHILD panic HOTLANES_TIER: {error}.")), "{said}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn a_wrong_name_in_the_environment_is_an_error() {
    for name in ["avx1024", "fastest", " avx2"] {
        let said = spawn(Some(name));
        let error = name.parse::<Tier>().unwrap_err();
        assert!(said.contains(&format!("CHILD error {error}.")), "{said}");
        assert!(said.contains(&format!("CHILD panic HOTLANES_TIER: {error}.")), "{said}");
    }
}
