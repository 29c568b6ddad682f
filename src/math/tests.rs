//! Each function against f64, at every input in the long test.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::activation::functions::*;
use crate::lanes::{Kernel, LANES, dispatch};
use crate::tier::{Tier, active, with_tier};

mod exact;

/// A function or a slope.
struct Entry {
    name: &'static str,
    /// In place.
    run: fn(&mut [[f32; LANES]]),
    exact: fn(f64) -> f64,
    /// The largest error at `x` where the exact value is `y`.
    bound: fn(f64, f64) -> f64,
}

struct Value<'a, F>(&'a mut [[f32; LANES]], PhantomData<F>);
struct Derivative<'a, F>(&'a mut [[f32; LANES]], PhantomData<F>);

impl<F: Function> Kernel for Value<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for chunk in self.0 {
            let [y] = F::value(l, [l.load(chunk)]);
            l.store(chunk, y);
        }
    }
}

impl<F: Slope> Kernel for Derivative<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for chunk in self.0 {
            let [y] = F::slope(l, [l.load(chunk)]);
            l.store(chunk, y);
        }
    }
}

fn value<F: Function>(chunks: &mut [[f32; LANES]]) {
    dispatch(active(), Value::<F>(chunks, PhantomData));
}

fn slope<F: Slope>(chunks: &mut [[f32; LANES]]) {
    dispatch(active(), Derivative::<F>(chunks, PhantomData));
}

/// A unit in the last place of the f32 nearest to `y`.
fn unit(y: f64) -> f64 {
    2f64.powi((y.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX).to_bits() as i32 / (1 << 23) - 127 - 23)
}

/// The error over its bound; infinite where what is not finite is not the same.
fn ratio(entry: &Entry, x: f32, got: f32) -> f64 {
    let want = (entry.exact)(x as f64);
    let near = want as f32;
    if got.is_nan() || near.is_nan() || got.is_infinite() || near.is_infinite() {
        let same = got == near || got.is_nan() && near.is_nan();
        // What rounds to infinity may as well be the largest number, and the other way round.
        let border = got.abs().max(near.abs()) == f32::INFINITY && got.abs().min(near.abs()) == f32::MAX;
        return if same || border { 0.0 } else { f64::INFINITY };
    }
    let error = (got as f64 - want).abs();
    if error == 0.0 { 0.0 } else { error / (entry.bound)(x as f64, want) }
}

/// `ulp` units in the last place of `y`.
macro_rules! ulp {
    ($ulp:expr) => {
        |_, y| $ulp * unit(y)
    };
}

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// What is taken from the argument below zero.
fn below(x: f64) -> f64 {
    (-x).clamp(0.0, 1e6)
}

/// [`log1p_unit`] of `|x|`, at most 1.
struct Log1p;

impl Function for Log1p {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
        for i in 0..N {
            x[i] = l.min(l.splat(1.0), l.abs(x[i]));
        }
        log1p_unit(l, x)
    }
}

fn log1p_of_unit(x: f64) -> f64 {
    x.abs().clamp(0.0, 1.0).ln_1p()
}

/// The bounds are those of the documentation of `activation`.
const ENTRIES: [Entry; 13] = [
    Entry { name: "exp", run: value::<Exp>, exact: f64::exp, bound: ulp!(EXP_ULP) },
    Entry { name: "log", run: value::<Log>, exact: f64::ln, bound: ulp!(LOG_ULP) },
    Entry { name: "log1p", run: value::<Log1p>, exact: log1p_of_unit, bound: ulp!(LOG1P_ULP) },
    Entry { name: "tanh", run: value::<Tanh>, exact: f64::tanh, bound: ulp!(4.5) },
    Entry {
        name: "sigmoid",
        run: value::<Sigmoid>,
        exact: exact::sigmoid,
        bound: |x, y| (2.5 + below(x) / 4.0) * unit(y) + 4e-39,
    },
    Entry {
        name: "silu",
        run: value::<Silu>,
        exact: exact::silu,
        bound: |x, y| (3.5 + below(x) / 4.0) * unit(y) + 3e-37,
    },
    Entry {
        name: "gelu_tanh",
        run: value::<GeluTanh>,
        exact: exact::gelu_tanh,
        bound: |x, y| (3.0 + 2.0 * below(exact::gelu_argument(x))) * unit(y) + 3e-37,
    },
    Entry {
        name: "gelu_erf",
        run: value::<GeluErf>,
        exact: exact::gelu_erf,
        bound: |x, y| if x > 0.0 { 4.0 * unit(y) } else { (4.0 + 3.0 * x * x).min(1e6) * unit(y) + U / 8.0 },
    },
    Entry {
        name: "sigmoid'",
        run: slope::<Sigmoid>,
        exact: exact::sigmoid_slope,
        bound: |x, y| (5.5 + x.abs().min(105.0) / 4.0) * unit(y),
    },
    Entry {
        name: "tanh'",
        run: slope::<Tanh>,
        exact: exact::tanh_slope,
        bound: |x, y| (5.0 + x.abs().min(53.0) / 2.0) * unit(y),
    },
    Entry {
        name: "silu'",
        run: slope::<Silu>,
        exact: exact::silu_slope,
        bound: |x, _| {
            let terms = exact::sigmoid(x) + exact::silu_slope_term(x).abs();
            (5.0 + below(x) / 2.0) * U * terms + 6e-37
        },
    },
    Entry {
        name: "gelu_tanh'",
        run: slope::<GeluTanh>,
        exact: exact::gelu_tanh_slope,
        bound: |x, _| {
            let u = exact::gelu_argument(x);
            let terms = exact::sigmoid(u) + exact::gelu_tanh_slope_term(x).abs();
            (5.0 + 3.0 * below(u)) * U * terms + 3e-36
        },
    },
    Entry {
        name: "gelu_erf'",
        run: slope::<GeluErf>,
        exact: exact::gelu_erf_slope,
        bound: |x, _| {
            let z = x.abs();
            let phi = if x > 0.0 { 1.0 - exact::upper_tail(z) } else { exact::upper_tail(z) };
            (5.0 + 1.5 * below(x).powi(2)) * U * (phi + exact::density_term(z)) + U / 128.0
        },
    },
];

/// How many values go through a function at once.
const BLOCK: u64 = 1 << 12;

/// The largest error over its bound for every `stride`th value of some bits, and where; on all of these tiers, which must
/// agree.
fn worst(entry: &Entry, bits: Range<u64>, stride: u64, tiers: &[Tier]) -> (f64, f32) {
    let (mut worst, mut at) = (0.0, 0.0);
    let (mut input, mut output) = (vec![], vec![]);
    let mut from = bits.start;
    while from < bits.end {
        let end = bits.end.min(from + BLOCK * stride);
        input.clear();
        input.extend((from..end).step_by(stride as usize).map(|b| f32::from_bits(b as u32)));
        from += BLOCK * stride;
        check(entry, &input, tiers, &mut output);
        for (&x, &y) in input.iter().zip(&output) {
            let error = ratio(entry, x, y);
            if error > worst {
                (worst, at) = (error, x);
            }
        }
    }
    (worst, at)
}

/// Runs on these tiers, which must agree.
fn check(entry: &Entry, input: &[f32], tiers: &[Tier], output: &mut Vec<f32>) {
    for (k, &tier) in tiers.iter().enumerate() {
        let mut got = input.to_vec();
        got.resize(input.len().next_multiple_of(LANES), 1.0);
        with_tier(tier, || (entry.run)(got.as_chunks_mut().0)).expect("available");
        if k == 0 {
            *output = got;
            continue;
        }
        for (a, b) in got.iter().zip(&*output) {
            let (name, same) = (entry.name, a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
            assert!(same, "{name}: {a:e} on {tier}, {b:e} on {}", tiers[0]);
        }
    }
}

const ALL: u64 = 1 << 32;

#[test]
fn errors_are_within_the_bounds() {
    let tiers: Vec<Tier> = Tier::available().collect();
    // Every exponent, with a stride that has no pattern in binary.
    let stride = if cfg!(miri) {
        400_009_999
    } else if cfg!(debug_assertions) {
        200_003
    } else {
        5_003
    };
    let edges = [0x42AE_AC4F, 0x42B1_7217, 0x42B1_7218, 0xC2CF_F1B4, 0xC2CF_F1B5, 0x3F7F_FFFF, 0x3F80_0001];
    let special =
        [0, 0x8000_0000, 1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000];
    for entry in &ENTRIES {
        let (mut error, mut at) = worst(entry, 0..ALL, stride, &tiers);
        for bits in edges.into_iter().chain(special) {
            let (e, x) = worst(entry, bits..bits + 1, 1, &tiers);
            if e > error {
                (error, at) = (e, x);
            }
        }
        assert!(error <= 1.0, "{}({at:e}): {error} of its bound", entry.name);
    }
}

/// Every value on the best tier, and a sample on the others.
#[test]
#[ignore = "long: cargo test --release --lib math -- --ignored --nocapture"]
fn errors_of_every_f32() {
    let tiers: Vec<Tier> = Tier::available().collect();
    let best = &tiers[tiers.len() - 1..];
    const PART: u64 = 1 << 24;
    let mut wrong = vec![];
    for entry in &ENTRIES {
        let found = Mutex::new((0..ALL / PART, (0.0, 0.0)));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
                scope.spawn(|| {
                    loop {
                        let Some(part) = found.lock().unwrap().0.next() else { break };
                        let range = part * PART..(part + 1) * PART;
                        let error = worst(entry, range.clone(), 1, best);
                        worst(entry, range, 499, &tiers);
                        let mut found = found.lock().unwrap();
                        if error.0 > found.1.0 {
                            found.1 = error;
                        }
                    }
                });
            }
        });
        let (error, at) = found.into_inner().unwrap().1;
        println!("{}: {error:.3} of its bound, at {at:e}", entry.name);
        // Beyond it, or so far below that the bound means nothing.
        if !(0.4..=1.0).contains(&error) {
            wrong.push(entry.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A function and its slope, apart and together: `x` becomes the slope.
struct Pair {
    name: &'static str,
    value: fn(&mut [[f32; LANES]]),
    slope: fn(&mut [[f32; LANES]]),
    together: fn(&mut [[f32; LANES]], &mut [[f32; LANES]]),
}

struct Together<'a, F>(&'a mut [[f32; LANES]], &'a mut [[f32; LANES]], PhantomData<F>);

impl<F: Slope> Kernel for Together<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (x, y) in self.0.iter_mut().zip(self.1) {
            let ([value], [slope]) = F::value_and_slope(l, [l.load(x)]);
            l.store(y, value);
            l.store(x, slope);
        }
    }
}

const fn pair<F: Slope>(name: &'static str) -> Pair {
    let together = |x: &mut [[f32; LANES]], y: &mut [[f32; LANES]]| {
        dispatch(active(), Together::<F>(x, y, PhantomData));
    };
    Pair { name, value: value::<F>, slope: slope::<F>, together }
}

/// Those that compute something together.
const PAIRS: [Pair; 4] =
    [pair::<Silu>("silu"), pair::<GeluTanh>("gelu_tanh"), pair::<GeluErf>("gelu_erf"), pair::<Tanh>("tanh")];

/// Compares them at these bits on `tier`.
fn check_together(pair: &Pair, bits: impl Iterator<Item = u32>, tier: Tier) {
    let mut x: Vec<f32> = bits.map(f32::from_bits).collect();
    x.resize(x.len().next_multiple_of(LANES), 0.0);
    let [mut value, mut slope, mut both_slope, mut both_value] = [(); 4].map(|()| x.clone());
    with_tier(tier, || {
        (pair.value)(value.as_chunks_mut().0);
        (pair.slope)(slope.as_chunks_mut().0);
        (pair.together)(both_slope.as_chunks_mut().0, both_value.as_chunks_mut().0);
    })
    .expect("available");
    for (what, got, want) in [("value", both_value, value), ("slope", both_slope, slope)] {
        for ((x, got), want) in x.iter().zip(got).zip(want) {
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(same, "{} {tier}: the {what} of {x:e} is {got:e} together, not {want:e}", pair.name);
        }
    }
}

#[test]
fn value_and_slope_together_have_the_bits_of_each() {
    let (stride, near) = if cfg!(miri) { (400_009_999, 2) } else { (100_003, 200) };
    // Where one of the two stops to follow its argument, and powers over- or underflow.
    let edges =
        [-89.0f32, -88.72, -88.0, -11.0, -10.0, 6.5, 10.0, 10.66, 10.8, 11.0, 20.0, 43.7, 53.0, 87.3, 105.0];
    for pair in &PAIRS {
        for tier in Tier::available() {
            check_together(pair, (0..=u32::MAX).step_by(stride), tier);
            for edge in edges {
                check_together(pair, edge.to_bits() - near..edge.to_bits() + near, tier);
            }
        }
    }
}

#[test]
#[ignore = "long: cargo test --release --lib math -- --ignored --nocapture"]
fn value_and_slope_together_have_the_bits_of_each_at_every_f32() {
    const PART: u64 = 1 << 16;
    let best = Tier::available().last().expect("there is a tier");
    for pair in &PAIRS {
        for part in 0..ALL / PART {
            check_together(pair, (part * PART..(part + 1) * PART).map(|bits| bits as u32), best);
        }
    }
}

/// [`exp_flush`], two vectors at a time as its callers have them.
struct Flushed;

impl Function for Flushed {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        exp_flush(l, x)
    }
}

#[test]
fn exp_flush_is_exp_but_for_denormals() {
    let stride = if cfg!(miri) { 40_009_999 } else { 10_007 };
    let edges =
        [0x42B0_0000, 0, 0x8000_0000, 0xC2AE_AC4F, 0xC2AE_AC50, 0xC2B0_0000, 0xFF80_0000, 0x7FC0_0001];
    let x: Vec<f32> = (0..=u32::MAX).step_by(stride).chain(edges).map(f32::from_bits).collect();
    // It is for up to 88.
    let mut x: Vec<f32> = x.into_iter().filter(|x| x.is_nan() || *x <= 88.0).collect();
    x.resize(x.len().next_multiple_of(LANES), 0.0);
    for tier in Tier::available() {
        let (mut exp, mut flush) = (x.clone(), x.clone());
        with_tier(tier, || {
            value::<Exp>(exp.as_chunks_mut().0);
            value::<Flushed>(flush.as_chunks_mut().0);
        })
        .expect("available");
        for ((x, e), f) in x.iter().zip(exp).zip(flush) {
            let same = e.to_bits() == f.to_bits() || e.is_nan() && f.is_nan();
            // Between the two -127 and -126 are equally near.
            let right = if *x > -87.68 || x.is_nan() { same } else { f == 0.0 || same && *x > -87.69 };
            assert!(right, "{tier} {x:e}: {f:e}, not {e:e}");
        }
    }
}
