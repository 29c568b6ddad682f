//! GELU, by the hyperbolic tangent and by the normal distribution.

use std::f32::consts::LOG2_E;
use std::hint::black_box;

use super::{Function, GeluErf, GeluTanh, Slope, bounded, clamp, floor, logistic, magnitude, product};
use crate::lanes::{BIASED, Chunk, LANES, Lanes};
use crate::math::{Exponents, exp2_of, power_and_rest};

impl GeluTanh {
    /// From here down the sigmoid is 0.
    const ZERO: f32 = -11.0;
    /// `e^-2u` is finite at -10: the slope is constant from here down.
    const LOW: f32 = -10.0;
    /// The slope there.
    const LEAST: f32 = -2.757_625_5e-36;
    /// `e^-2u` is 0 beyond 10.8.
    const HIGH: f32 = 11.0;
    /// `-2 sqrt(2 / pi) log2(e)`, and that times 0.044715.
    const POWER: [f32; 2] = [-2.302_208_2, -0.102_943_24];
    /// `2 sqrt(2 / pi)`, and that times 3 times 0.044715.
    const SLOPE: [f32; 2] = [1.595_769_2, 0.214_064_45];

    /// `x^2`, `e^-2u = 2^(x (c0 + c1 x^2))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, and the sigmoid of `2u`.
    #[inline(always)]
    fn power<L: Lanes, const N: usize>(l: L, x: [L::F; N], range: Exponents) -> [[L::F; N]; 3] {
        let squares = product(l, x, x);
        let mut factor = squares;
        for i in 0..N {
            factor[i] = l.mul_add(squares[i], l.splat(Self::POWER[1]), l.splat(Self::POWER[0]));
        }
        let e = exp2_of(l, x, factor, range);
        [squares, e, logistic(l, e)]
    }

    /// `s (1 + 2 u' x (1 - s))` with `s` the sigmoid of `2u`, and `1 - s = e s`.
    #[inline(always)]
    fn slope_of<L: Lanes, const N: usize>(l: L, x: [L::F; N], powers: [[L::F; N]; 3]) -> [L::F; N] {
        let [mut squares, mut e, r] = powers;
        for i in 0..N {
            e[i] = l.mul(e[i], r[i]);
            let du = l.mul_add(squares[i], l.splat(Self::SLOPE[1]), l.splat(Self::SLOPE[0]));
            squares[i] = l.mul(x[i], du);
        }
        for i in 0..N {
            e[i] = l.mul(r[i], l.mul_add(e[i], squares[i], l.splat(1.0)));
        }
        e
    }
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        // From 6.5 up e^-2u is below 2^-40, nothing beside 1: what is smaller would only become subnormal, and slow.
        let [x, argument] = bounded(l, x, Self::ZERO, 6.5);
        let [_, _, r] = Self::power(l, argument, Exponents::Large);
        product(l, x, r)
    }
}

impl Slope for GeluTanh {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        let x = clamp(l, x, Self::LOW, Self::HIGH);
        Self::slope_of(l, x, Self::power(l, x, Exponents::Any))
    }

    /// One power and one reciprocal, as for SiLU.
    #[inline(always)]
    fn value_and_slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> ([L::F; N], [L::F; N]) {
        let [x, argument] = bounded(l, x, Self::ZERO, Self::HIGH);
        let powers = Self::power(l, argument, Exponents::Any);
        let slope = floor(l, Self::slope_of(l, argument, powers), x, Self::LOW, Self::LEAST);
        (product(l, x, powers[2]), slope)
    }
}

impl GeluErf {
    /// From here up the tail is 0 and so the result 0 or `x`, and the slope `-z phi(z)` of this `z`, -9e-25, or 1.
    const HIGH: f32 = 10.66;

    /// `log2(2 Phi(-z))`
    #[inline(always)]
    fn log2_tail<L: Lanes, const N: usize>(l: L, z: [L::F; N]) -> [L::F; N] {
        // Where registers are few, the constants are hidden: LLVM would keep all of them in registers, and run the
        // vectors' chains one after the other to have room for them.
        let c = if L::WIDE { &GELU_ERF } else { black_box(&GELU_ERF) };
        let mut p = [l.load(&c[7]); N];
        for k in [6, 5, 4, 3, 2, 1, 0] {
            let c = l.load(&c[k]);
            for i in 0..N {
                p[i] = l.mul_add(p[i], z[i], c);
            }
        }
        product(l, p, z)
    }

    /// `Phi(-z)` from its logarithm, as a power of two and the rest.
    #[inline(always)]
    fn tail<L: Lanes, const N: usize>(l: L, log2: [L::F; N]) -> [[L::F; N]; 2] {
        power_and_rest(l, log2, BIASED - 1.0, &REST)
    }

    /// `max(x, 0) - |x| Phi(-|x|)`
    #[inline(always)]
    fn value_of<L: Lanes, const N: usize>(
        l: L,
        mut x: [L::F; N],
        z: [L::F; N],
        [power, rest]: [[L::F; N]; 2],
    ) -> [L::F; N] {
        for i in 0..N {
            x[i] = l.neg_mul_add(l.mul(z[i], power[i]), rest[i], l.max(l.splat(0.0), x[i]));
        }
        x
    }

    /// `h = Phi(-|x|) - |x| phi(x)`, or `1 - h` where `x` is positive.
    #[inline(always)]
    fn slope_of<L: Lanes, const N: usize>(
        l: L,
        mut x: [L::F; N],
        z: [L::F; N],
        [power, rest]: [[L::F; N]; 2],
    ) -> [L::F; N] {
        let mut log2 = z;
        for i in 0..N {
            log2[i] = l.mul(z[i], l.mul(z[i], l.splat(-0.5 * LOG2_E)));
        }
        let [density, phi] = power_and_rest(l, log2, BIASED, &REST_OF_DENSITY);
        for i in 0..N {
            let h = l.neg_mul_add(l.mul(z[i], density[i]), phi[i], l.mul(power[i], rest[i]));
            let negative = l.gt(l.splat(0.0), x[i]);
            x[i] = l.select(negative, h, l.sub(l.splat(1.0), h));
        }
        x
    }
}

/// `log2(2 Phi(-z)) / z` for `z` up to 10.66, where `2^(z p)` has fallen to 2^-126. Minimax by linear programming,
/// weighted by what the bounds of [`activation`](crate::activation) leave beside the roundings, each coefficient
/// rounded to `f32` before the next is sought. From 5 on the bounds ask for no digits, so few terms are enough. Each
/// in all lanes.
static GELU_ERF: [Chunk; 8] = [
    [-1.151_108_5; LANES],
    [-0.459_171_2; LANES],
    [-0.052_627_742; LANES],
    [0.007_272_205; LANES],
    [-3.057_062e-4; LANES],
    [-1.141_720_86e-4; LANES],
    [2.400_081_2e-5; LANES],
    [-1.545_749e-6; LANES],
];

/// `2^-s` for `|s|` up to 1/2, within 1.6 * 2^-24.
#[expect(clippy::approx_constant, reason = "minimax, not ln 2")]
const REST: [f32; 6] = [1.0, -0.693_147, 0.240_222_47, -0.055_507_11, 0.009_671_291, -0.001_326_952_1];

/// The same over `sqrt(2 pi)`.
const REST_OF_DENSITY: [f32; 6] = over_sqrt_2_pi(REST);

const fn over_sqrt_2_pi(mut c: [f32; 6]) -> [f32; 6] {
    let mut i = 0;
    while i < c.len() {
        c[i] = (c[i] as f64 * 0.398_942_280_401_432_7) as f32;
        i += 1;
    }
    c
}

impl Function for GeluErf {
    const IN_TWO: bool = true;

    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        Self::end(l, x, Self::begin(l, x))
    }

    #[inline(always)]
    fn begin<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [[L::F; N]; 2] {
        let z = magnitude(l, x, Self::HIGH);
        [z, Self::log2_tail(l, z)]
    }

    #[inline(always)]
    fn end<L: Lanes, const N: usize>(l: L, x: [L::F; N], [z, log2]: [[L::F; N]; 2]) -> [L::F; N] {
        Self::value_of(l, x, z, Self::tail(l, log2))
    }
}

impl Slope for GeluErf {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        Self::slope_end(l, x, Self::begin(l, x))
    }

    #[inline(always)]
    fn slope_end<L: Lanes, const N: usize>(l: L, x: [L::F; N], [z, log2]: [[L::F; N]; 2]) -> [L::F; N] {
        Self::slope_of(l, x, z, Self::tail(l, log2))
    }

    /// One tail.
    #[inline(always)]
    fn value_and_slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> ([L::F; N], [L::F; N]) {
        let [z, log2] = Self::begin(l, x);
        let tail = Self::tail(l, log2);
        (Self::value_of(l, x, z, tail), Self::slope_of(l, x, z, tail))
    }
}
