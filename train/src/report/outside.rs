//! The gain from threads for calls made outside the pool, as from the main thread.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use hotlanes::Tier;
use hotlanes_cases::run::Hash;
use hotlanes_cases::{Memory, Run, Threads, cases};
use serde::Serialize;

use super::{Failure, Options};
use crate::shell::progress::note;

/// Times the size at a kernel's threshold.
const TIMES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Calls of each kind, at most, of which the median is taken, and at least.
const CALLS: [usize; 2] = [200, 15];
/// For all calls of one size.
const TIME: Duration = Duration::from_millis(150);
/// After so long without work the workers sleep.
const SLEEP: Duration = Duration::from_micros(300);

/// Medians of the calls of one size. As JSON in seconds.
#[derive(Serialize)]
struct Row<'a> {
    kernel: &'a str,
    size: &'a str,
    tier: &'a str,
    threads: usize,
    /// On the calling thread alone.
    one: f64,
    /// One call after the other.
    awake: f64,
    /// After a pause in which the workers fall asleep.
    asleep: f64,
}

/// Calls each kernel that is spread over threads, from its threshold on.
///
/// # Errors
/// Standard output cannot be written; there is a global pool already; a call gives other bits than on one thread.
pub(super) fn run(options: &Options, tiers: &[Tier]) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global();
    pool.map_err(|e| Failure::Usage(format!("--threads {}: {e}", options.threads)))?;
    let mut out = io::stdout().lock();
    if !options.json {
        writeln!(
            out,
            "{:24} {:22} {:6} {:>10} {:>7} {:>7}\n",
            "kernel", "size", "tier", "one thread", "awake", "asleep"
        )?;
    }
    for case in cases().filter(|c| options.kernels.is_empty() || options.kernels.iter().any(|k| k == c.id)) {
        let Threads::From { at, .. } = case.threads else { continue };
        for times in TIMES {
            let mut numbers = at[0].to_vec();
            numbers[0] *= times;
            let size = &(case.label)(&numbers);
            let mut run = case.build(&numbers, &Memory::plain());
            for &tier in tiers.iter().filter(|t| case.runs_on(**t)) {
                let measured =
                    hotlanes::with_tier(tier, || same_bits(run.as_mut()).then(|| medians(run.as_mut())));
                let Some([one, awake, asleep]) = measured.expect("it is available") else {
                    let what = format!("{} {size} on {tier}: other bits than on one thread", case.id);
                    return Err(Failure::Wrong(what));
                };
                let (kernel, threads) = (case.id, options.threads);
                let row = Row { kernel, size, tier: tier.name(), threads, one, awake, asleep };
                if options.json {
                    writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
                } else {
                    writeln!(
                        out,
                        "{kernel:24} {size:22} {:6} {:>7.1} us {:>6.2}x {:>6.2}x",
                        row.tier,
                        one * 1e6,
                        one / awake,
                        one / asleep
                    )?;
                }
            }
        }
    }
    if options.threads < 2 {
        note(format_args!("hotlanes: --outside compares with one thread: --threads N for more"));
    }
    Ok(out.flush()?)
}

/// Whether a call from outside gives the bits of one thread.
fn same_bits(run: &mut dyn Run) -> bool {
    let mut bits = |one_thread: bool| {
        run.reset();
        if one_thread {
            hotlanes::tuning::with_one_thread(|| run.run())
        } else {
            run.run()
        }
        let mut hash = Hash::default();
        run.outputs().iter().for_each(|output| hash.add(&output.values.bits()));
        hash.get()
    };
    bits(true) == bits(false)
}

/// Of calls on one thread, with workers awake, and asleep, in turns.
fn medians(run: &mut dyn Run) -> [f64; 3] {
    run.reset();
    run.run();
    let mut times: [Vec<f64>; 3] = Default::default();
    let start = Instant::now();
    while times[0].len() < CALLS[1] || (start.elapsed() < TIME && times[0].len() < CALLS[0]) {
        pause();
        times[0].push(hotlanes::tuning::with_one_thread(|| call(run)));
        pause();
        // This one wakes them: only where it is spread are they awake for the next.
        times[2].push(call(run));
        call(run);
        times[1].push(call(run));
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn call(run: &mut dyn Run) -> f64 {
    let start = Instant::now();
    run.run();
    start.elapsed().as_secs_f64()
}

/// Without giving the core away, which would change its speed.
fn pause() {
    let start = Instant::now();
    while start.elapsed() < SLEEP {
        std::hint::spin_loop();
    }
}
