//! No kernel allocates: each case of the table is run once, so that CPU, environment and rayon have been looked at, and then
//! again under an allocator that counts.

use hotlanes::Tier;
use hotlanes_cases::{Bits, Case, Memory, Size, cases};

#[path = "common/counting.rs"]
mod counting;

/// A few sizes of a case, or the counted ones where it has no others: each path has scratch of its own.
fn sizes(case: &Case) -> Vec<Size> {
    let mut all = match (case.bits, case.counted) {
        (Bits::At { sizes, .. }, _) => sizes(),
        (Bits::In(_), hotlanes_cases::Counted::At { sizes, .. }) => sizes.map(Vec::from).to_vec(),
        (Bits::In(id), _) => panic!("{}: neither bits nor counts, but those of {id}", case.id),
    };
    let step = all.len().div_ceil(8);
    all = all.into_iter().rev().step_by(step).collect();
    all
}

#[test]
fn nothing_is_allocated() {
    // From outside rayon takes a box for each share that goes to a worker.
    #[cfg(feature = "rayon")]
    rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads").install(each_case);
    #[cfg(not(feature = "rayon"))]
    each_case();
}

fn each_case() {
    let mut calls = 0;
    for case in cases() {
        for tier in Tier::available().filter(|t| case.runs_on(*t)) {
            for size in sizes(case) {
                case.on(tier, || {
                    let mut run = case.build(&size, &Memory::aligned());
                    run.run();
                    let allocated = counting::calls_here(|| run.run());
                    assert_eq!(allocated, 0, "{} {} on {tier}", case.id, (case.label)(&size));
                    calls += 1;
                });
            }
        }
    }
    assert!(calls > 300, "{calls} calls were looked at");
    // The counter itself counts.
    assert!(counting::calls_here(|| drop(std::hint::black_box(vec![0u8; 100]))) > 0);
}
