//! Checking a case, then timing it on every tier and as plain loops, all in turn.

use std::fmt;
use std::time::{Duration, Instant};

use hotlanes::{Tier, with_tier};

use hotlanes_cases::run::Hash;
use hotlanes_cases::{Case, Plain, Run};

/// The bits that each available tier gave from the same inputs: one hash over all outputs.
pub struct Bits(Vec<(Tier, u64)>);

impl Bits {
    /// Whether all tiers gave the same.
    pub fn agree(&self) -> bool {
        self.0.windows(2).all(|w| w[0].1 == w[1].1)
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (tier, hash)) in self.0.iter().enumerate() {
            write!(f, "{}{tier} {hash:016x}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Runs the case once on each of its tiers here, and compares the last result with the naive loop's.
///
/// # Errors
/// A value that is further from the naive loop's than the output's tolerance, named.
pub fn check(case: &Case, run: &mut dyn Run) -> Result<Bits, String> {
    let mut hashes = Vec::new();
    for tier in Tier::available().filter(|t| case.runs_on(*t)) {
        run.reset();
        with_tier(tier, || run.run()).expect("the tier is available");
        let mut hash = Hash::default();
        run.outputs().iter().for_each(|o| hash.add(&o.values.bits()));
        hashes.push((tier, hash.get()));
    }
    let got: Vec<_> = run.outputs().iter().map(|o| o.values.values()).collect();
    run.compare(&got)?;
    Ok(Bits(hashes))
}

/// How long one run of a case takes.
pub struct Timing {
    /// The tier, `naive` or `auto`.
    pub name: &'static str,
    /// Whether it is a tier.
    pub is_tier: bool,
    /// Whether its buffers were plain `Vec`s.
    pub vec: bool,
    /// Seconds, the least of all samples: what the code can do.
    pub min: f64,
    /// Seconds, the median of the samples: what the machine let it do.
    pub median: f64,
}

enum Runner<'a> {
    Plain(Plain),
    Tier(Tier),
    /// A tier on plain `Vec`s.
    Vec(Tier),
    Probe(Probe<'a>),
}

/// Samples a limit beside the kernels, and gives a rate.
pub type Probe<'a> = &'a mut (dyn FnMut() -> f64 + Send);

struct Variant<'a> {
    runner: Runner<'a>,
    /// Runs in one sample.
    runs: u32,
    samples: Vec<f64>,
    spent: Duration,
}

/// A sample lasts at least this long: well above the clock's own cost, and below what a noisy neighbour usually takes.
const WINDOW: Duration = Duration::from_micros(100);
/// Fewer samples than this are not taken, however long they are.
const MIN_SAMPLES: usize = 2;

/// Times the naive loop, its auto-vectorised twin and the kernel on each of `tiers`, also on the plain `Vec`s of
/// `vecs`, for about `time` in all, and gives with them the best rate that `probe` saw meanwhile.
///
/// Whoever has had the least time is next. So all of them are spread over the whole of it and saw the same weather,
/// however slow one of them is.
pub fn sample(
    case: &Case,
    run: &mut dyn Run,
    vecs: &mut dyn Run,
    tiers: &[Tier],
    time: Duration,
    probe: Option<Probe<'_>>,
) -> (Vec<Timing>, Option<f64>) {
    let plain = if case.twin { &[Plain::Naive, Plain::Auto][..] } else { &[Plain::Naive] };
    let tiers = tiers.iter().filter(|t| case.runs_on(**t));
    let runners = plain
        .iter()
        .map(|p| Runner::Plain(*p))
        .chain(tiers.flat_map(|t| [Runner::Tier(*t), Runner::Vec(*t)]));
    let mut variants: Vec<Variant<'_>> = runners
        .chain(probe.map(Runner::Probe))
        .map(|runner| Variant { runner, runs: 1, samples: Vec::new(), spent: Duration::ZERO })
        .collect();
    run.reset();
    vecs.reset();
    let start = Instant::now();
    for v in &mut variants {
        v.calibrate(run, vecs);
    }
    while let Some(next) = variants.iter_mut().min_by_key(|v| (v.samples.len() >= MIN_SAMPLES, v.spent)) {
        if start.elapsed() >= time && next.samples.len() >= MIN_SAMPLES {
            break;
        }
        next.window(run, vecs);
    }
    let rate = variants.pop_if(|v| matches!(v.runner, Runner::Probe(_))).map(|v| 1.0 / v.timing().min);
    (variants.into_iter().map(Variant::timing).collect(), rate)
}

impl Variant<'_> {
    /// Finds how many runs fill a window; this also warms up.
    fn calibrate(&mut self, run: &mut dyn Run, vecs: &mut dyn Run) {
        if matches!(self.runner, Runner::Probe(_)) {
            return;
        }
        loop {
            let took = self.window(run, vecs);
            if took > 100 * WINDOW {
                // A run that fills many windows is itself a sample, and a warm one: the check has run it before.
                return;
            }
            self.spent = Duration::ZERO;
            self.samples.clear();
            if took >= WINDOW {
                return;
            }
            let wanted = WINDOW.as_secs_f64() / took.as_secs_f64().max(1e-9);
            self.runs = (f64::from(self.runs) * wanted.clamp(1.2, 8.0)).ceil() as u32;
        }
    }

    /// Runs one window, keeps it as a sample and says how long it took.
    fn window(&mut self, run: &mut dyn Run, vecs: &mut dyn Run) -> Duration {
        let runs = self.runs;
        let mut sample = None;
        let vec = matches!(self.runner, Runner::Vec(_));
        // Of several short runs the first would fetch what the variant before it, on other buffers, drove from the cache.
        match &self.runner {
            Runner::Tier(tier) | Runner::Vec(tier) if runs > 1 => {
                with_tier(*tier, || if vec { vecs.run() } else { run.run() })
                    .expect("only available tiers are timed");
            }
            Runner::Plain(which) if runs > 1 => run.plain(*which),
            _ => {}
        }
        let start = Instant::now();
        match &mut self.runner {
            Runner::Plain(which) => {
                for _ in 0..runs {
                    run.plain(*which);
                }
            }
            Runner::Tier(tier) | Runner::Vec(tier) => {
                // Outside the loop: choosing a tier costs some nanoseconds once a window.
                with_tier(*tier, || {
                    for _ in 0..runs {
                        if vec { vecs.run() } else { run.run() }
                    }
                })
                .expect("only available tiers are timed");
            }
            Runner::Probe(probe) => sample = Some(1.0 / probe()),
        }
        let took = start.elapsed();
        self.spent += took;
        self.samples.push(sample.unwrap_or(took.as_secs_f64() / f64::from(runs)));
        took
    }

    fn timing(mut self) -> Timing {
        self.samples.sort_by(f64::total_cmp);
        Timing {
            name: match self.runner {
                Runner::Plain(Plain::Naive) => "naive",
                Runner::Plain(Plain::Auto) => "auto",
                Runner::Tier(tier) | Runner::Vec(tier) => tier.name(),
                Runner::Probe(_) => "limit",
            },
            is_tier: matches!(self.runner, Runner::Tier(_) | Runner::Vec(_)),
            vec: matches!(self.runner, Runner::Vec(_)),
            min: self.samples[0],
            median: self.samples[self.samples.len() / 2],
        }
    }
}
