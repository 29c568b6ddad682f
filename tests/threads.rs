//! A lost parallelisation is seen like a lost vectorisation: for each case of the table that is cut, pieces run on both of two
//! threads with about even shares from its threshold on, and below all of it runs uncut on the caller's thread.
//!
//! In a process of its own, as what it records is the process's; in a debug build alone, as a release build records nothing.

use std::process::ExitCode;

use hotlanes_cases::{Bits, Case, Memory, Threads, cases};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // For calls from outside: two threads, whatever the machine has.
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().expect("no pool before this one");
    // Calls of other tests would be recorded too.
    args.test_threads = Some(1);
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
    trials.push(Trial::test("a_caller_outside_takes_a_share", || {
        a_caller_outside_takes_a_share();
        Ok(())
    }));
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
        pub time: std::time::Duration,
        pub note: Option<&'static str>,
    }
    pub fn record_pieces<R>(_: fn() -> std::time::Duration, _: impl FnOnce() -> R) -> (R, Vec<Piece>) {
        unreachable!("no test runs")
    }
}
use recorder::{Piece, record_pieces};

/// The CPU time of this thread: on a clock, whoever else uses the machine counts too.
fn cpu_time() -> std::time::Duration {
    cpu_time::ThreadTime::now().as_duration()
}

/// One run at `size` in a pool of two threads: the caller's thread, and the pieces of each call.
fn record(case: &Case, size: &[usize]) -> (std::thread::ThreadId, Vec<Vec<Piece>>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    let tier = hotlanes::Tier::available().rfind(|t| case.runs_on(*t)).expect("a tier");
    let mut run = case.on(tier, || case.build(size, &Memory::aligned()));
    pool.install(|| {
        let ((), pieces) = record_pieces(cpu_time, || case.on(tier, || run.run()));
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
    let one = |p: &Piece| format!("{} in {:?} on {:?} of half {:?}", p.size, p.time, p.thread, p.half);
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
        // The first calls of a process find pages and caches cold.
        for _ in 0..4 {
            let (_, calls) = record(case, size);
            last = words(&calls);
            let what = format!("{} {}", case.id, (case.label)(size));
            let cut: Vec<_> = calls.iter().filter(|c| c.iter().any(|p| p.half.is_some())).collect();
            assert!(!cut.is_empty(), "{what} was not cut:\n{last}");
            let mut worst = 1.0f64;
            for call in cut {
                let first = call[0].thread;
                assert!(call.iter().any(|p| p.thread != first), "{what}: a call ran on one thread:\n{last}");
                let of = |half: bool, value: fn(&Piece) -> f64| -> f64 {
                    call.iter().filter(|p| p.half == Some(half)).map(value).sum()
                };
                let sizes = [false, true].map(|half| of(half, |p| p.size as f64));
                assert!(ratio(sizes) <= 4.0, "{what} was cut into {sizes:?}:\n{last}");
                worst = worst.max(ratio([false, true].map(|half| of(half, |p| p.time.as_secs_f64()))));
            }
            best = best.min(worst);
            if best <= MOST {
                break;
            }
        }
        let label = (case.label)(size);
        assert!(best <= MOST, "{} {label}: one half took {best:.1} times as long:\n{last}", case.id);
    }
}

/// Halves are not quite of one size: rows, heads and chunks are whole.
const MOST: f64 = 4.0;

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
        let (_, pieces) = pool.install(|| record_pieces(cpu_time, || with_product_path(path, product)));
        let first = pieces[0].thread;
        assert!(pieces.iter().any(|p| p.thread != first), "{name}: it ran on one thread");
        assert!(pieces.iter().all(|p| p.note == Some(name)), "{name}: {pieces:?}", pieces = words(&[pieces]));
    }
}

/// Who is not of the pool is cut for from a larger size on, and takes one of as many shares as there are threads.
fn a_caller_outside_takes_a_share() {
    use hotlanes::tuning::{OUTSIDE, REDUCE_PARALLEL};
    let here = std::thread::current().id();
    let from = OUTSIDE * REDUCE_PARALLEL;
    let x: Vec<f32> = (0..from).map(|i| (i % 1000) as f32 * 0.25).collect();
    let call = |len: usize| {
        // The workers fall asleep.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let (sum, pieces) = record_pieces(cpu_time, || hotlanes::reduce::sum(&x[..len]));
        (sum.to_bits(), pieces)
    };
    let (sum, pieces) = call(from);
    let share = |half: bool| {
        let of: Vec<_> = pieces.iter().filter(|p| p.half == Some(half)).collect();
        assert!(of.iter().all(|p| p.thread == of[0].thread), "a share on several threads");
        (of[0].thread, of.iter().map(|p| p.size).sum::<usize>())
    };
    let ((mine, first), (other, second)) = (share(false), share(true));
    assert!(mine == here && other != here, "{mine:?} {other:?}: called by {here:?}");
    assert!(ratio([first as f64, second as f64]) <= 1.5, "shares of {first} and {second}");
    let inside = rayon::join(|| hotlanes::reduce::sum(&x), || ()).0;
    assert_eq!(sum, inside.to_bits());
    let (_, pieces) = call(from / 2);
    assert!(pieces.iter().all(|p| p.half.is_none() && p.thread == here), "{}", words(&[pieces]));
}
