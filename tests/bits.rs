//! Net 2: every case of the table has the same bits on each tier, at each offset, between guard zones, in each cut, for
//! each number of threads, and those of `tests/golden/bits.toml`.
//!
//! A test for each case and property, by name: `adamw::threads`. `HOTLANES_BLESS=1 cargo test --test bits -- golden`
//! writes the golden hashes anew: a change of the format, which belongs in CHANGELOG.md.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};

use hotlanes::tuning::with_division;
use hotlanes::{LANES, Tier, with_tier};
use hotlanes_cases::run::Hash;
use hotlanes_cases::{Bits, Case, Memory, Place, Run, Size, Values, cases, named};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let mut trials = vec![
        Trial::test("every_hash_has_its_case", every_hash_has_its_case),
        Trial::test("the_version_of_the_bits::golden", the_version_of_the_bits),
    ];
    if Tier::Avx512.is_available() {
        trials.push(Trial::test("reciprocals_by_division", reciprocals_by_division));
    } else {
        eprintln!("NOT run here: reciprocals_by_division, for which this CPU lacks avx512");
    }
    for case in cases() {
        let mut add = |property: &str, test: fn(&Case)| {
            trials.push(Trial::test(format!("{}::{property}", case.id), move || {
                test(case);
                Ok(())
            }));
        };
        if let Bits::In(_) = case.bits {
            add("is_in_another", is_in_another);
            continue;
        }
        add("golden", golden);
        add("offsets", offsets);
        add("prefix", prefix);
        if case.same_as.is_some() {
            add("same", same);
        }
        // Slow under Miri, which looks at memory and not at results.
        if !cfg!(miri) {
            add("plain", plain);
            add("random", random);
            #[cfg(feature = "rayon")]
            if let hotlanes_cases::Threads::From { .. } = case.threads {
                add("threads", threads);
            }
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}

/// The outputs of a run: names, and bits.
type Result = Vec<(&'static str, Vec<u32>)>;

/// Builds a case, once for all tiers.
fn build(case: &Case, size: &[usize], place: Place, values: Values) -> Box<dyn Run> {
    let memory = Memory::new(place, values).named(format!("{place:?}, {values:?}"));
    case.on(tiers(case).last().expect("a tier"), || case.build(size, &memory))
}

fn result(case: &Case, run: &mut dyn Run, tier: Tier) -> Result {
    let bits = case.on(tier, || run.result());
    run.outputs().iter().map(|o| o.name).zip(bits).collect()
}

fn tiers(case: &Case) -> impl DoubleEndedIterator<Item = Tier> {
    let tiers: Vec<_> = Tier::available().filter(|t| case.runs_on(*t)).collect();
    assert!(!tiers.is_empty(), "{} runs on no tier", case.id);
    tiers.into_iter()
}

/// Fails with the first element that differs.
#[track_caller]
fn assert_same(case: &Case, size: &[usize], got: &Result, want: &Result, what: impl Display) {
    assert_eq!(got.len(), want.len());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        assert_same_bits(got, want, format_args!("{} {}, {what}: {name}", case.id, (case.label)(size)));
    }
}

#[track_caller]
fn assert_same_bits(got: &[u32], want: &[u32], what: impl Display) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    // At once, which an unoptimised build does many times as fast.
    if got == want {
        return;
    }
    if let Some(i) = got.iter().zip(want).position(|(g, w)| g != w) {
        panic!("{what}: element {i} of {} is {:#010x}, not {:#010x}", got.len(), got[i], want[i]);
    }
}

/// A case without sizes of its own counts a path of one that has them, and calls nothing else.
fn is_in_another(case: &Case) {
    let Bits::In(id) = case.bits else { panic!("{} has sizes of its own", case.id) };
    let other = named(id).unwrap_or_else(|| panic!("{}: no case is named {id}", case.id));
    assert!(matches!(other.bits, Bits::At { .. }), "{id} has no sizes of its own");
    assert_eq!(case.covers, other.covers, "{} calls other functions than {id}", case.id);
}

/// The sizes of a case; under Miri a few small ones.
fn sizes(case: &Case) -> Vec<Size> {
    let Bits::At { sizes, .. } = case.bits else { panic!("{} has no sizes of its own", case.id) };
    let mut all = sizes();
    assert!(!all.is_empty(), "{} has no sizes for this test", case.id);
    if cfg!(miri) {
        let values = |size: &Size| size.iter().product::<usize>();
        all.retain(|size| values(size) > 0);
        all.sort_by_key(values);
        let small = all.iter().filter(|size| values(size) < 400).count();
        all.truncate(small.max(3));
        all = all.into_iter().step_by(small.div_ceil(3).max(1)).collect();
    }
    all
}

const GOLDEN: &str = "tests/golden/bits.toml";

/// The file of golden hashes.
#[derive(Deserialize, Serialize)]
struct Golden {
    /// [`hotlanes::BITS`] when a hash moved last.
    bits: u32,
    hashes: BTreeMap<String, String>,
}

fn golden_file() -> Golden {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    toml::from_str(&std::fs::read_to_string(file).expect("the golden hashes")).expect("ids and hashes")
}

/// All tiers agree on every size and kind of values, and on the golden hash.
fn golden(case: &Case) {
    let mut hash = Hash::default();
    for size in sizes(case) {
        for values in Values::ALL {
            let mut first: Option<Result> = None;
            let mut run = build(case, &size, Place::Aligned, values);
            for tier in tiers(case) {
                let got = result(case, &mut *run, tier);
                let want = first.get_or_insert_with(|| got.clone());
                assert_same(case, &size, &got, want, format_args!("{tier}, {values:?}"));
            }
            first.into_iter().flatten().for_each(|(_, bits)| hash.add(&bits));
        }
    }
    if cfg!(miri) {
        return;
    }
    let hash = format!("{:#018x}", hash.get());
    if std::env::var_os("HOTLANES_BLESS").is_some() {
        return bless(case.id, hash);
    }
    let known = golden_file().hashes;
    assert_eq!(Some(&hash), known.get(case.id), "the golden hash of {}: see {GOLDEN}", case.id);
}

fn bless(id: &str, hash: String) {
    static WRITING: Mutex<()> = Mutex::new(());
    /// Whether the version was raised before this process began to bless.
    static RAISED: OnceLock<bool> = OnceLock::new();
    let _one = WRITING.lock();
    let Golden { bits, mut hashes } = golden_file();
    let raised = *RAISED.get_or_init(|| bits != hotlanes::BITS);
    hashes.retain(|id, _| named(id).is_some());
    let old = hashes.insert(id.to_owned(), hash.clone());
    assert!(
        raised || old.as_ref().is_none_or(|old| *old == hash),
        "the golden hash of {id} moves: raise hotlanes::BITS first, so that runs made before are told as old"
    );
    let text = "# The bits of every case, over all sizes and values of tests/bits.rs, which writes this file: HOTLANES_BLESS=1.\n\
                # Changing a hash is a change of the format: it raises hotlanes::BITS, and is written in CHANGELOG.md.\n"
        .to_owned()
        + &toml::to_string(&Golden { bits: hotlanes::BITS, hashes }).expect("strings");
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN), text)
        .expect("the file can be written");
}

fn every_hash_has_its_case() -> std::result::Result<(), Failed> {
    // Isolated, Miri reads no files.
    if cfg!(miri) {
        return Ok(());
    }
    match golden_file().hashes.keys().find(|id| named(id).is_none()) {
        Some(id) => Err(format!("{GOLDEN} has a hash of {id}, which is no case").into()),
        None => Ok(()),
    }
}

fn the_version_of_the_bits() -> std::result::Result<(), Failed> {
    if cfg!(miri) || std::env::var_os("HOTLANES_BLESS").is_some() {
        return Ok(());
    }
    let (recorded, now) = (golden_file().bits, hotlanes::BITS);
    if recorded == now {
        return Ok(());
    }
    Err(format!("{GOLDEN} is of version {recorded} of the bits, hotlanes::BITS is {now}: HOTLANES_BLESS=1")
        .into())
}

/// AVX-512's two ways to a reciprocal give the same bits.
fn reciprocals_by_division() -> std::result::Result<(), Failed> {
    let tier = Tier::Avx512;
    for case in cases().filter(|c| matches!(c.bits, Bits::At { .. }) && c.runs_on(tier)) {
        for size in sizes(case) {
            let mut run = build(case, &size, Place::Aligned, Values::Wild);
            let want = result(case, &mut *run, tier);
            let bits = with_division(true, || with_tier(tier, || run.result())).expect("it is available");
            let got = want.iter().map(|(name, _)| *name).zip(bits).collect();
            assert_same(case, &size, &got, &want, "by division");
        }
    }
    Ok(())
}

/// Offsets and guard zones change nothing, and nothing is written outside of a slice.
fn offsets(case: &Case) {
    for size in sizes(case) {
        // All offsets for a size of a few vectors; the more it has, the fewer.
        let step = match size.iter().product() {
            _ if cfg!(miri) => LANES,
            0..64 => 1,
            64..600 => 4,
            _ => LANES,
        };
        let mut aligned = build(case, &size, Place::Aligned, Values::Wild);
        let want: Vec<_> = tiers(case).map(|tier| result(case, &mut *aligned, tier)).collect();
        for offset in (0..=LANES).step_by(step) {
            let mut run = build(case, &size, Place::Guarded(offset), Values::Wild);
            for (tier, want) in tiers(case).zip(&want) {
                let got = result(case, &mut *run, tier);
                assert_same(case, &size, &got, want, format_args!("{tier} at offset {offset}"));
            }
        }
    }
}

/// Fewer rows (or elements) give a prefix of the bits: a row's result does not depend on where the body ends and the
/// tail begins, nor on how many rows are taken together.
fn prefix(case: &Case) {
    let mut all = sizes(case);
    all.retain(|size| !size.is_empty());
    all.sort_by(|a, b| (&a[1..], a[0]).cmp(&(&b[1..], b[0])));
    let tier = tiers(case).last().expect("a tier");
    for alike in all.chunk_by(|a, b| a[1..] == b[1..]) {
        let [fewer @ .., most] = alike else { continue };
        for values in Values::ALL {
            let mut run = build(case, most, Place::Aligned, values);
            let names: Vec<_> = run.outputs().iter().filter(|o| o.is_prefix).map(|o| o.name).collect();
            if names.is_empty() {
                return;
            }
            let want = result(case, &mut *run, tier);
            for size in fewer {
                let mut run = build(case, size, Place::Aligned, values);
                for ((name, got), (_, want)) in result(case, &mut *run, tier).iter().zip(&want) {
                    if names.contains(name) {
                        let what =
                            format_args!("{} {size:?} as a prefix of {most:?}, {values:?}: {name}", case.id);
                        assert_same_bits(got, &want[..got.len()], what);
                    }
                }
            }
        }
    }
}

/// Two cases that promise the same bits keep the promise, in the outputs that both have.
fn same(case: &Case) {
    let (id, convert) = case.same_as.expect("another case");
    let other = named(id).unwrap_or_else(|| panic!("{}: no case is named {id}", case.id));
    let mut all = 0;
    for size in sizes(case) {
        for values in Values::ALL {
            let mut run = build(case, &size, Place::Aligned, values);
            let mut with = build(other, &convert(&size), Place::Aligned, values);
            for tier in tiers(case) {
                let got = result(case, &mut *run, tier);
                let want = result(other, &mut *with, tier);
                let mut compared = 0;
                for (name, got) in &got {
                    // One of the two may leave an output out.
                    let both =
                        want.iter().find(|(n, want)| n == name && !(want.is_empty() || got.is_empty()));
                    if let Some((_, want)) = both {
                        let label = (case.label)(&size);
                        assert_same_bits(
                            got,
                            want,
                            format_args!("{} {label} as {id}, {tier}, {values:?}: {name}", case.id),
                        );
                        compared += 1;
                    }
                }
                all += compared;
            }
        }
    }
    assert!(all > 0 || cfg!(miri), "{} and {id} have no output in common", case.id);
}

/// The kernel is near its plain loop.
fn plain(case: &Case) {
    let tier = tiers(case).last().expect("a tier");
    // Where a number is 1 everything may cancel, and what is left has no scale.
    for size in sizes(case).into_iter().filter(|s| s.iter().all(|&n| n > 1)) {
        let checked = case.on(tier, || case.build(&size, &Memory::aligned()).check());
        checked.unwrap_or_else(|e| panic!("{} {}: {e}", case.id, (case.label)(&size)));
    }
}

/// Any size, any values, any offset: one result on all tiers.
fn random(case: &Case) {
    let config = ProptestConfig {
        cases: 12,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/bits.txt"))),
        test_name: Some(case.id),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let Bits::At { random, .. } = case.bits else { return };
    let numbers: Vec<_> = random.iter().map(|&(low, high)| low..=high).collect();
    let inputs = (numbers, prop::sample::select(&Values::ALL[..]), 0..=LANES);
    let run = TestRunner::new(config).run(&inputs, |(size, values, offset)| {
        let first = tiers(case).next().expect("a tier");
        let want = result(case, &mut *build(case, &size, Place::Plain, values), first);
        let mut run = build(case, &size, Place::Guarded(offset), values);
        for tier in tiers(case) {
            let got = result(case, &mut *run, tier);
            assert_same(case, &size, &got, &want, format_args!("{tier}, {values:?} at {offset}"));
        }
        Ok(())
    });
    run.unwrap_or_else(|e| panic!("{}: {e}", case.id));
}

/// Cuts and the number of threads change nothing.
#[cfg(feature = "rayon")]
fn threads(case: &Case) {
    let hotlanes_cases::Threads::From { below, at } = case.threads else { return };
    let pools =
        [1, 2, 3, 8].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads"));
    for (i, size) in [below].iter().chain(at).enumerate() {
        let mut first: Option<Result> = None;
        let mut run = build(case, size, Place::Plain, Values::Wild);
        for tier in tiers(case) {
            for pool in &pools {
                let threads = pool.current_num_threads();
                // The cuts are the same on each tier: one size and number of threads shows that a tier follows them.
                // And below the threshold there are none.
                let is_last = tiers(case).last() == Some(tier);
                if !is_last && (i, threads) != (1, 3) || i == 0 && ![1, 8].contains(&threads) {
                    continue;
                }
                let got = pool.install(|| result(case, &mut *run, tier));
                let want = first.get_or_insert_with(|| got.clone());
                assert_same(case, size, &got, want, format_args!("{tier}, {threads} threads"));
            }
        }
    }
}
