//! Checking a case, then timing it on every tier and as plain loops, all in turn.

use std::fmt;
use std::time::{Duration, Instant};

use hotlanes::{Tier, with_tier};

use super::cases::{Case, Output, Plain};

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

/// Runs the case once on each available tier, and compares what the selected one gave with the naive loop's result.
///
/// # Errors
/// A value that is further from the naive loop's than the output's tolerance, named.
pub fn check(case: &mut dyn Case, selected: Tier) -> Result<Bits, String> {
    let mut hashes = Vec::new();
    let mut got = Vec::new();
    for tier in Tier::available() {
        case.reset();
        with_tier(tier, || case.run()).expect("the tier is available");
        let outputs = case.outputs();
        hashes.push((tier, hash(&outputs)));
        if tier == selected {
            got = outputs.iter().map(sample_of).collect();
        }
    }
    case.reset();
    case.run_plain(Plain::Naive);
    for (got, want) in got.iter().zip(case.plain_outputs()) {
        compare(got, &want)?;
    }
    Ok(Bits(hashes))
}

/// A prime number of values apart, beyond this many, is what an output is compared at.
const DENSE: usize = 1 << 20;

fn step(len: usize) -> usize {
    if len > DENSE { 31 } else { 1 }
}

fn sample_of(output: &Output<'_>) -> Vec<f32> {
    output.values.iter().step_by(step(output.values.len())).copied().collect()
}

fn compare(got: &[f32], want: &Output<'_>) -> Result<(), String> {
    let step = step(want.values.len());
    let largest = want.values.iter().step_by(step).fold(0.0f32, |a, x| a.max(x.abs()));
    for (i, (got, want_one)) in got.iter().zip(want.values.iter().step_by(step)).enumerate() {
        let near = (got - want_one).abs() <= want.tolerance * largest;
        // A NaN is never near.
        if !near {
            return Err(format!("{}[{}] is {got}, the naive loop says {want_one}", want.name, i * step));
        }
    }
    Ok(())
}

/// A 64-bit hash of the outputs' bits, every NaN the same; FNV's step on eight strands, as one is slow.
fn hash(outputs: &[Output<'_>]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bits = |x: f32| u64::from(if x.is_nan() { f32::NAN } else { x }.to_bits());
    let mut strands = [0xcbf2_9ce4_8422_2325u64; 8];
    for output in outputs {
        let (blocks, rest) = output.values.as_chunks::<8>();
        for block in blocks {
            for (h, x) in strands.iter_mut().zip(block) {
                *h = (*h ^ bits(*x)).wrapping_mul(PRIME);
            }
        }
        for (h, x) in strands.iter_mut().zip(rest) {
            *h = (*h ^ bits(*x)).wrapping_mul(PRIME);
        }
        strands[0] = (strands[0] ^ output.values.len() as u64).wrapping_mul(PRIME);
    }
    // The strands are joined with a rotation: a sum or a plain xor would not see two of them exchanged.
    strands.iter().fold(0, |all, h| (all.rotate_left(5) ^ h).wrapping_mul(PRIME | 1 << 63))
}

/// How long one run of a case takes.
pub struct Timing {
    /// The tier, `naive` or `auto`.
    pub name: &'static str,
    /// Whether it is a tier.
    pub is_tier: bool,
    /// Seconds, the least of all samples: what the code can do.
    pub min: f64,
    /// Seconds, the median of the samples: what the machine let it do.
    pub median: f64,
}

enum Runner<'a> {
    Plain(Plain),
    Tier(Tier),
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

/// Times the naive loop, its auto-vectorised twin and the kernel on each of `tiers`, for about `time` in all, and
/// gives with them the best rate that `probe` saw meanwhile.
///
/// Whoever has had the least time is next. So all of them are spread over the whole of it and saw the same weather,
/// however slow one of them is.
pub fn sample(
    case: &mut dyn Case,
    tiers: &[Tier],
    time: Duration,
    probe: Option<Probe<'_>>,
) -> (Vec<Timing>, Option<f64>) {
    let plain = [Plain::Naive, Plain::Auto].map(Runner::Plain);
    let runners = plain.into_iter().chain(tiers.iter().map(|t| Runner::Tier(*t)));
    let mut variants: Vec<Variant<'_>> = runners
        .chain(probe.map(Runner::Probe))
        .map(|runner| Variant { runner, runs: 1, samples: Vec::new(), spent: Duration::ZERO })
        .collect();
    case.reset();
    let start = Instant::now();
    for v in &mut variants {
        v.calibrate(case);
    }
    while let Some(next) = variants.iter_mut().min_by_key(|v| (v.samples.len() >= MIN_SAMPLES, v.spent)) {
        if start.elapsed() >= time && next.samples.len() >= MIN_SAMPLES {
            break;
        }
        next.window(case);
    }
    let rate = variants.pop_if(|v| matches!(v.runner, Runner::Probe(_))).map(|v| 1.0 / v.timing().min);
    (variants.into_iter().map(Variant::timing).collect(), rate)
}

impl Variant<'_> {
    /// Finds how many runs fill a window; this also warms up.
    fn calibrate(&mut self, case: &mut dyn Case) {
        if matches!(self.runner, Runner::Probe(_)) {
            return;
        }
        loop {
            let took = self.window(case);
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
    fn window(&mut self, case: &mut dyn Case) -> Duration {
        let runs = self.runs;
        let mut sample = None;
        let start = Instant::now();
        match &mut self.runner {
            Runner::Plain(which) => {
                for _ in 0..runs {
                    case.run_plain(*which);
                }
            }
            Runner::Tier(tier) => {
                // Outside the loop: choosing a tier costs some nanoseconds once a window.
                with_tier(*tier, || {
                    for _ in 0..runs {
                        case.run();
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
                Runner::Tier(tier) => tier.name(),
                Runner::Probe(_) => "limit",
            },
            is_tier: matches!(self.runner, Runner::Tier(_)),
            min: self.samples[0],
            median: self.samples[self.samples.len() / 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn output(values: &[f32]) -> [Output<'_>; 1] {
        [Output { name: "x", values: Cow::Borrowed(values), tolerance: 1e-3 }]
    }

    #[test]
    fn hash_sees_each_bit_and_place_but_no_payload() {
        let values: Vec<f32> = (0..19).map(|i| i as f32).collect();
        let first = hash(&output(&values));
        for i in 0..values.len() {
            let mut other = values.clone();
            other[i] = f32::from_bits(other[i].to_bits() ^ 1);
            assert_ne!(first, hash(&output(&other)), "{i}");
            other.clone_from(&values);
            other.swap(i, (i + 1) % values.len());
            assert_ne!(first, hash(&output(&other)), "{i} exchanged");
        }
        let nan = f32::from_bits(0xffc1_2345);
        assert_eq!(hash(&output(&[nan])), hash(&output(&[f32::NAN])));
        assert_ne!(hash(&output(&[0.0])), hash(&output(&[-0.0])));
    }

    #[test]
    fn comparison_refuses_what_is_far_or_nan() {
        let want = &output(&[1.0, -100.0])[0];
        assert!(compare(&[1.05, -100.0], want).is_ok());
        assert!(compare(&[1.2, -100.0], want).is_err());
        assert!(compare(&[f32::NAN, -100.0], want).is_err());
    }
}
