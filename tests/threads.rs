//! A lost parallelisation is seen like a lost vectorisation: for each case of the table that is cut, pieces run on both of two
//! threads with about even shares from its threshold on, and below all of it runs uncut on the caller's thread.
//!
//! In a process of its own, as what it records is the process's; in a debug build alone, as a release build records nothing.

use std::process::ExitCode;

use hotlanes_cases::{Bits, Case, Memory, Threads, cases};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let mut trials = vec![];
    for case in cases() {
        let mut add = |what: &str, test: fn(&Case)| {
            trials.push(Trial::test(format!("{}::{what}", case.id), move || {
                test(case);
                Ok(())
            }));
        };
        match case.threads {
            Threads::From { .. } => {
                add("stays_whole_below", stays_whole_below);
                add("is_shared", is_shared);
            }
            Threads::Never(_) => add("stays_whole", stays_whole),
        }
    }
    trials.push(Trial::test("products_go_the_forced_way", || {
        products_go_the_forced_way();
        Ok(())
    }));
    // Without the recorder there is nothing to see.
    if !cfg!(debug_assertions) {
        println!("tests/threads.rs: NOT run: a release build records no pieces");
        trials.clear();
    }
    libtest_mimic::run(&args, trials).exit_code()
}

#[cfg(not(debug_assertions))]
use absent as recorder;
#[cfg(debug_assertions)]
use hotlanes::tuning as recorder;
#[cfg(not(debug_assertions))]
mod absent {
    pub struct Piece {
        pub call: usize,
        pub thread: std::thread::ThreadId,
        pub size: usize,
        pub half: Option<bool>,
        pub nanos: u128,
        pub note: Option<&'static str>,
    }
    pub fn record_pieces<R>(_: impl FnOnce() -> R) -> (R, Vec<Piece>) {
        unreachable!("no test runs")
    }
}
use recorder::{Piece, record_pieces};

/// One run at `size` in a pool of two threads: the caller's thread, and the pieces of each call.
fn record(case: &Case, size: &[usize]) -> (std::thread::ThreadId, Vec<Vec<Piece>>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    let tier = hotlanes::Tier::available().rfind(|t| case.runs_on(*t)).expect("a tier");
    let mut run = case.on(tier, || case.build(size, &Memory::aligned()));
    pool.install(|| {
        let ((), pieces) = record_pieces(|| case.on(tier, || run.run()));
        let calls = pieces.iter().map(|p| p.call + 1).max().unwrap_or(0);
        let mut by_call: Vec<Vec<Piece>> = (0..calls).map(|_| vec![]).collect();
        for piece in pieces {
            by_call[piece.call].push(piece);
        }
        (std::thread::current().id(), by_call)
    })
}

/// The pieces of each call, in a few words.
fn words(calls: &[Vec<Piece>]) -> String {
    let one =
        |p: &Piece| format!("{} in {} us on {:?} of half {:?}", p.size, p.nanos / 1000, p.thread, p.half);
    let call = |c: &Vec<Piece>| c.iter().take(12).map(one).collect::<Vec<_>>().join("; ");
    calls.iter().map(call).collect::<Vec<_>>().join("\n")
}

fn assert_whole(case: &Case, size: &[usize]) {
    let (caller, calls) = record(case, size);
    let label = (case.label)(size);
    assert!(
        !calls.is_empty() || size.iter().product::<usize>() == 0,
        "{} {label}: nothing was recorded",
        case.id
    );
    let whole = calls.iter().flatten().all(|p| p.half.is_none() && p.thread == caller);
    assert!(whole, "{} {label} was cut:\n{}", case.id, words(&calls));
}

fn stays_whole_below(case: &Case) {
    let Threads::From { below, .. } = case.threads else { unreachable!("it is cut somewhere") };
    assert_whole(case, below);
}

/// A case that is never cut: at the largest of its sizes.
fn stays_whole(case: &Case) {
    let Bits::At { sizes, .. } = case.bits else { return };
    let largest = sizes().into_iter().max_by_key(|size| size.iter().product::<usize>()).expect("a size");
    let (caller, calls) = record(case, &largest);
    // Some kernels never ask whether to be cut.
    let whole = calls.iter().flatten().all(|p| p.half.is_none() && p.thread == caller);
    assert!(whole, "{} {} was cut:\n{}", case.id, (case.label)(&largest), words(&calls));
}

/// The larger of two shares over the smaller.
fn ratio(shares: [f64; 2]) -> f64 {
    shares[0].max(shares[1]) / shares[0].min(shares[1])
}

fn is_shared(case: &Case) {
    let Threads::From { at, .. } = case.threads else { unreachable!("it is cut somewhere") };
    for size in at {
        let mut best = f64::INFINITY;
        let mut last = String::new();
        // Others use the machine too: a thread may be kept waiting.
        for _ in 0..6 {
            let (_, calls) = record(case, size);
            last = words(&calls);
            let what = format!("{} {}", case.id, (case.label)(size));
            let cut: Vec<_> = calls.iter().filter(|c| c.iter().any(|p| p.half.is_some())).collect();
            assert!(!cut.is_empty(), "{what} was not cut:\n{last}");
            let mut worst = 1.0f64;
            for call in cut {
                let first = call[0].thread;
                let of = |is: &dyn Fn(&Piece) -> bool, value: &dyn Fn(&Piece) -> f64| -> f64 {
                    call.iter().filter(|p| is(p)).map(value).sum()
                };
                assert!(call.iter().any(|p| p.thread != first), "{what}: a call ran on one thread:\n{last}");
                let halves = [false, true].map(|half| of(&|p| p.half == Some(half), &|p| p.size as f64));
                assert!(ratio(halves) <= 4.0, "{what} was cut into {halves:?}:\n{last}");
                let time = |p: &Piece| p.nanos as f64;
                let shares = [of(&|p| p.thread == first, &time), of(&|p| p.thread != first, &time)];
                worst = worst.max(ratio(shares));
            }
            best = best.min(worst);
            if best <= 3.0 {
                break;
            }
        }
        assert!(
            best <= 3.0,
            "{} {}: one thread had {best:.1} times as much:\n{last}",
            case.id,
            (case.label)(size)
        );
    }
}

/// A forced path is that of the caller's thread; the pieces that others run follow it.
fn products_go_the_forced_way() {
    use hotlanes::matmul::{Mat, MatMut, matmul};
    use hotlanes::tuning::{MATMUL_PARALLEL, ProductPath, with_product_path};
    let (m, n) = (170, 160);
    let k = MATMUL_PARALLEL / m / n + 1;
    let (a, b) = (vec![0.5; m * k], vec![0.25; k * n]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    for (path, name) in
        [(ProductPath::Thin, "thin"), (ProductPath::Plain, "plain"), (ProductPath::BothPacked, "both packed")]
    {
        let mut c = vec![f32::NAN; m * n];
        let product = || matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n));
        let (_, pieces) = pool.install(|| record_pieces(|| with_product_path(path, product)));
        let first = pieces[0].thread;
        assert!(pieces.iter().any(|p| p.thread != first), "{name}: it ran on one thread");
        assert!(pieces.iter().all(|p| p.note == Some(name)), "{name}: {pieces:?}", pieces = words(&[pieces]));
    }
}
