//! `<kernel>/<tier>/<size>` for every timed case of the table, beside its naive loop (`naive`) and the auto-vectorised twin
//! (`auto`). Each result is checked before it is timed. `HOTLANES_BENCH_FULL=1` takes the largest sizes too, which take
//! minutes and gigabytes; `HOTLANES_BENCH_VEC=1` takes memory as a plain `Vec` has it, not aligned to cache lines.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use hotlanes::{Tier, with_tier};
use hotlanes_cases::{Case, Memory, Place, Plain, Run, Timed, Values, cases};

fn main() {
    let mut c = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let set = |name| std::env::var_os(name).is_some();
    let full = set("HOTLANES_BENCH_FULL");
    let place = if set("HOTLANES_BENCH_VEC") { Place::Plain } else { Place::Aligned };
    for case in cases() {
        let Timed::At { report, full: more, bench } = case.timed else { continue };
        let mut group = c.benchmark_group(case.id);
        let large = |size: &&&[usize]| !full && size.iter().product::<usize>() >= 10_000_000;
        for size in report.iter().chain(bench).chain(if full { more } else { &[] }).filter(|s| !large(s)) {
            let label = (case.label)(size);
            // Built when criterion asks for it: most are filtered out in most runs.
            let build = || checked(case, size, place);
            let plain = if case.twin {
                &[("naive", Plain::Naive), ("auto", Plain::Auto)][..]
            } else {
                &[("naive", Plain::Naive)]
            };
            for (name, which) in plain {
                group.bench_function(BenchmarkId::new(*name, &label), |b| {
                    let mut run = build();
                    b.iter(|| run.plain(*which));
                });
            }
            for tier in Tier::available().filter(|t| case.runs_on(*t)) {
                group.bench_function(BenchmarkId::new(tier.name(), &label), |b| {
                    let mut run = build();
                    with_tier(tier, || b.iter(|| run.run())).expect("the tier is available");
                });
            }
        }
        group.finish();
    }
    c.final_summary();
}

/// A run whose result was compared with the naive loop's, and on all tiers.
fn checked(case: &Case, size: &[usize], place: Place) -> Box<dyn Run> {
    let mut run = case.build(size, &Memory::new(place, Values::Ordinary));
    let mut first = None;
    for tier in Tier::available().filter(|t| case.runs_on(*t)) {
        let bits = with_tier(tier, || run.result()).expect("the tier is available");
        assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{} on {tier} has other bits", case.id);
    }
    let got: Vec<_> = run.outputs().iter().map(|o| o.values.values()).collect();
    run.compare(&got).unwrap_or_else(|e| panic!("{} {}: {e}", case.id, (case.label)(size)));
    run
}
