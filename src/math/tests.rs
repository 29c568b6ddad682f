//! Each function against f64, at every input in the long test.

use super::*;
use crate::lanes::{Kernel, LANES, dispatch};
use crate::tier::{Tier, active, with_tier};

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Log,
}

/// The function, its exact value in f64, its bound.
const FUNCTIONS: [(Function, fn(f64) -> f64, f64); 2] =
    [(Function::Exp, f64::exp, EXP_ULP), (Function::Log, f64::ln, LOG_ULP)];

struct Map<'a>(Function, &'a mut [[f32; LANES]]);

impl Kernel for Map<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for chunk in self.1 {
            let x = l.load(chunk);
            let y = match self.0 {
                Function::Exp => exp(l, x),
                Function::Log => log(l, x),
            };
            l.store(chunk, y);
        }
    }
}

/// The distance in units in the last place of the f32 nearest to `want`.
fn ulp(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if got.is_nan() || want.is_nan() || near.is_infinite() || got.is_infinite() {
        let same = got == near || got.is_nan() && want.is_nan();
        // What rounds to infinity may as well be the largest number, and the other way round.
        let border = got.abs().max(near.abs()) == f32::INFINITY && got.abs().min(near.abs()) == f32::MAX;
        return if same {
            0.0
        } else if border {
            0.5
        } else {
            f64::INFINITY
        };
    }
    let unit = 2f64.powi((near.abs().max(f32::MIN_POSITIVE).to_bits() >> 23) as i32 - 127 - 23);
    (got as f64 - want).abs() / unit
}

/// The greatest error over these inputs, and where. All tiers must agree on the way.
fn worst(function: Function, exact: fn(f64) -> f64, bits: impl Iterator<Item = u32>) -> (f64, f32) {
    let (mut worst, mut at) = (0.0, 0.0);
    let mut bits = bits.peekable();
    while bits.peek().is_some() {
        let block: Vec<f32> = bits.by_ref().take(1 << 12).map(f32::from_bits).collect();
        let mut input = block.clone();
        input.resize(block.len().next_multiple_of(LANES), 1.0);
        let mut first: Option<Vec<f32>> = None;
        for tier in Tier::available() {
            let mut output = input.clone();
            with_tier(tier, || dispatch(active(), Map(function, output.as_chunks_mut().0)))
                .expect("available");
            let first = first.get_or_insert_with(|| output.clone());
            for (a, b) in output.iter().zip(first) {
                assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{tier}: {a:e}, not {b:e}");
            }
        }
        for (&x, &y) in block.iter().zip(first.expect("there is a tier").iter()) {
            let error = ulp(y, exact(x as f64));
            if error > worst {
                (worst, at) = (error, x);
            }
        }
    }
    (worst, at)
}

#[test]
fn errors_are_within_the_bounds() {
    // Every exponent, with a stride that has no pattern in binary.
    let stride = if cfg!(miri) {
        40_009_999
    } else if cfg!(debug_assertions) {
        100_003
    } else {
        5_003
    };
    for (function, exact, bound) in FUNCTIONS {
        let edges =
            [0x42AE_AC4F, 0x42B1_7217, 0x42B1_7218, 0xC2CF_F1B4, 0xC2CF_F1B5, 0x3F7F_FFFF, 0x3F80_0001];
        let special =
            [0, 0x8000_0000, 1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000];
        let inputs = (0..=u32::MAX).step_by(stride).chain(edges).chain(special);
        let (error, at) = worst(function, exact, inputs);
        assert!(error <= bound, "{function:?}({at:e}): {error} ULP, not {bound}");
    }
}

#[test]
#[ignore = "long: cargo test --release --lib math -- --ignored --nocapture"]
fn errors_of_every_f32() {
    for (function, exact, bound) in FUNCTIONS {
        let (error, at) = worst(function, exact, 0..=u32::MAX);
        println!("{function:?}: {error:.3} ULP at {at:e}");
        assert!(error <= bound, "{function:?}({at:e}): {error} ULP, not {bound}");
    }
}

/// [`exp_or_zero`] is [`exp`] down to -87, and there 0.
#[test]
fn exp_or_zero_is_exp_without_what_is_tiny() {
    struct Both([f32; LANES]);

    impl Kernel for Both {
        type Output = [[f32; LANES]; 2];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let (mut all, mut large) = ([0.0; LANES], [0.0; LANES]);
            l.store(&mut all, exp(l, l.load(&self.0)));
            l.store(&mut large, exp_or_zero(l, l.load(&self.0)));
            [all, large]
        }
    }

    let below = f32::from_bits((-87.0f32).to_bits() + 1);
    let x = [-87.0, below, -86.99, -1.0, -0.0, 0.0, 1.0, 88.5, 89.5, 1e30, -104.0, -1e30];
    let x: Vec<f32> = x.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN]).collect();
    for tier in Tier::available() {
        let [all, large] = with_tier(tier, || dispatch(active(), Both(x[..].try_into().unwrap()))).unwrap();
        for ((x, all), large) in x.iter().zip(all).zip(large) {
            let want = if *x < -87.0 { 0.0 } else { all };
            assert!(
                large.to_bits() == want.to_bits() || large.is_nan() && x.is_nan(),
                "{tier}: {x} gives {large}"
            );
        }
        assert!(large[0] >= f32::MIN_POSITIVE, "{tier}");
    }
}
