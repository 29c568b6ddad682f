//! The functions and their slopes on the lanes, `N` vectors in lockstep; with `N` 1, the epilogue of another kernel.
//!
//! Each is defined by the correctly rounded reciprocal, which AVX-512 has a quick way to: a product with it is not the
//! quotient, bit for bit. Arguments are cut off where the result no longer changes, with the argument as the second operand of
//! minimum and maximum, where a NaN stands.

use std::f32::consts::LOG2_E;

use crate::lanes::Lanes;
use crate::math::{self, Exponents, exp2_of, one_less_exp2_of};

mod gelu;

/// A function of one variable, of no size: kernels are generic over it.
pub(crate) trait Function: Send {
    /// Whether [`Function::value`] is [`Function::begin`] and [`Function::end`], each a chain of a dozen operations or
    /// more. Where registers are few, the loops then begin one vector before they end the one before it: a CPU does not
    /// look far enough ahead to overlap whole chains.
    const IN_TWO: bool = false;

    /// `f(x)`
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N];

    /// The first part of a function that comes in two.
    #[inline(always)]
    fn begin<L: Lanes, const N: usize>(_: L, x: [L::F; N]) -> [[L::F; N]; 2] {
        [x, x]
    }

    /// `f(x)`, with what was begun.
    #[inline(always)]
    fn end<L: Lanes, const N: usize>(l: L, x: [L::F; N], _begun: [[L::F; N]; 2]) -> [L::F; N] {
        Self::value(l, x)
    }
}

/// A function with a backward.
pub(crate) trait Slope: Function {
    /// `f'(x)`
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N];

    /// `f(x)` and `f'(x)`, the bits of [`Function::value`] and [`Slope::slope`]: together where they share what is
    /// slow.
    #[inline(always)]
    fn value_and_slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> ([L::F; N], [L::F; N]) {
        (Self::value(l, x), Self::slope(l, x))
    }

    /// `f'(x)`, with what was begun.
    #[inline(always)]
    fn slope_end<L: Lanes, const N: usize>(l: L, x: [L::F; N], _begun: [[L::F; N]; 2]) -> [L::F; N] {
        Self::slope(l, x)
    }

    /// `dy f'(x)`
    #[inline(always)]
    fn gradient<L: Lanes, const N: usize>(l: L, dy: [L::F; N], x: [L::F; N]) -> [L::F; N] {
        product(l, dy, Self::slope(l, x))
    }
}

/// `e^x`
pub(crate) struct Exp;
/// The natural logarithm.
pub(crate) struct Log;
/// `x`
#[allow(dead_code)] // Not of the loops here, which copy: for the epilogues of other kernels.
pub(crate) struct Identity;
/// `max(x, 0)`
pub(crate) struct Relu;
/// `max(x, 0)^2`
pub(crate) struct SquaredRelu;
/// `x sigmoid(x)`
pub(crate) struct Silu;
/// `x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`
pub(crate) struct GeluTanh;
/// `x Phi(x)`
pub(crate) struct GeluErf;
/// `1 / (1 + e^-x)`
pub(crate) struct Sigmoid;
/// The hyperbolic tangent.
pub(crate) struct Tanh;

/// `x` between `low` and `high`; NaN stays.
#[inline(always)]
fn clamp<L: Lanes, const N: usize>(l: L, mut x: [L::F; N], low: f32, high: f32) -> [L::F; N] {
    let (low, high) = (l.splat(low), l.splat(high));
    for i in 0..N {
        x[i] = l.max(low, l.min(high, x[i]));
    }
    x
}

/// `|x|` up to `high`; NaN stays.
#[inline(always)]
fn magnitude<L: Lanes, const N: usize>(l: L, mut x: [L::F; N], high: f32) -> [L::F; N] {
    let high = l.splat(high);
    for i in 0..N {
        x[i] = l.min(high, l.abs(x[i]));
    }
    x
}

/// `1 / x` for `x` from 1 to infinity. Where AVX-512's divider is slow it takes two of four vectors, as it is otherwise
/// idle, and the multipliers two, which are busy: the bits are the same, since both round correctly.
#[inline(always)]
fn recip<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
    if N != 4 || l.divides() {
        return l.recip_each(x, true);
    }
    let one = l.splat(1.0);
    x[0] = l.div(one, x[0]);
    x[1] = l.div(one, x[1]);
    [x[2], x[3]] = l.recip_each([x[2], x[3]], true);
    x
}

/// `1 / (1 + e)` for `e` from 0 to infinity.
#[inline(always)]
fn logistic<L: Lanes, const N: usize>(l: L, mut e: [L::F; N]) -> [L::F; N] {
    let one = l.splat(1.0);
    for i in 0..N {
        e[i] = l.add(one, e[i]);
    }
    recip(l, e)
}

/// `x y`
#[inline(always)]
pub(super) fn product<L: Lanes, const N: usize>(l: L, mut x: [L::F; N], y: [L::F; N]) -> [L::F; N] {
    for i in 0..N {
        x[i] = l.mul(x[i], y[i]);
    }
    x
}

impl Function for Exp {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
        for i in 0..N {
            x[i] = math::exp(l, x[i]);
        }
        x
    }
}

impl Function for Log {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
        for i in 0..N {
            x[i] = math::log(l, x[i]);
        }
        x
    }
}

impl Function for Identity {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(_: L, x: [L::F; N]) -> [L::F; N] {
        x
    }
}

impl Slope for Identity {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, _: [L::F; N]) -> [L::F; N] {
        [l.splat(1.0); N]
    }

    #[inline(always)]
    fn gradient<L: Lanes, const N: usize>(_: L, dy: [L::F; N], _: [L::F; N]) -> [L::F; N] {
        dy
    }
}

impl Function for Relu {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
        let zero = l.splat(0.0);
        for i in 0..N {
            x[i] = l.max(zero, x[i]);
        }
        x
    }
}

impl Slope for Relu {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        Self::gradient(l, [l.splat(1.0); N], x)
    }

    /// By choice, as an infinite `dy` times 0 would be NaN.
    #[inline(always)]
    fn gradient<L: Lanes, const N: usize>(l: L, mut dy: [L::F; N], x: [L::F; N]) -> [L::F; N] {
        let zero = l.splat(0.0);
        for i in 0..N {
            // 0, or the NaN.
            let none = l.min(zero, l.abs(x[i]));
            // Joined, not chosen: in place, the compiler would make that a masked store, which AVX2 of AMD has slow.
            let dy_or_0 = l.select(l.gt(x[i], zero), dy[i], zero);
            dy[i] = l.from_bits(l.or(l.to_bits(dy_or_0), l.to_bits(none)));
        }
        dy
    }
}

impl Function for SquaredRelu {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        let mut x = Relu::value(l, x);
        for i in 0..N {
            x[i] = l.mul(x[i], x[i]);
        }
        x
    }
}

impl Slope for SquaredRelu {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        let mut x = Relu::value(l, x);
        for i in 0..N {
            x[i] = l.add(x[i], x[i]);
        }
        x
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        // e^89 is infinite, and e^-20 beside 1 is nothing: what is smaller would only become subnormal, and slow.
        let x = clamp(l, x, -89.0, 20.0);
        logistic(l, exp2_of(l, x, [l.splat(-LOG2_E); N], Exponents::Large))
    }
}

impl Slope for Sigmoid {
    /// `e / (1 + e)^2`, which keeps its digits where the function is all but 1.
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        let x = magnitude(l, x, 105.0);
        let mut e = exp2_of(l, x, [l.splat(-LOG2_E); N], Exponents::Small);
        let r = logistic(l, e);
        for i in 0..N {
            e[i] = l.mul(l.mul(e[i], r[i]), r[i]);
        }
        e
    }
}

/// `x` from `low` up, and that up to `high`; NaN stays.
#[inline(always)]
fn bounded<L: Lanes, const N: usize>(l: L, mut x: [L::F; N], low: f32, high: f32) -> [[L::F; N]; 2] {
    let mut argument = x;
    for i in 0..N {
        x[i] = l.max(l.splat(low), x[i]);
        argument[i] = l.min(l.splat(high), x[i]);
    }
    [x, argument]
}

/// `slope`, but `least` where `x` is below `low`.
#[inline(always)]
fn floor<L: Lanes, const N: usize>(
    l: L,
    mut slope: [L::F; N],
    x: [L::F; N],
    low: f32,
    least: f32,
) -> [L::F; N] {
    for i in 0..N {
        slope[i] = l.select(l.gt(l.splat(low), x[i]), l.splat(least), slope[i]);
    }
    slope
}

impl Silu {
    /// From here down the sigmoid is 0: so the result is 0 for minus infinity too.
    const ZERO: f32 = -89.0;
    /// `e^88` is finite: the slope is constant from here down.
    const LOW: f32 = -88.0;
    /// The slope there.
    const LEAST: f32 = -5.267_508_7e-37;
    /// `e^-105` is 0.
    const HIGH: f32 = 105.0;

    /// `e^-x`, and the sigmoid.
    #[inline(always)]
    fn power<L: Lanes, const N: usize>(l: L, x: [L::F; N], range: Exponents) -> ([L::F; N], [L::F; N]) {
        let e = exp2_of(l, x, [l.splat(-LOG2_E); N], range);
        (e, logistic(l, e))
    }

    /// `s (1 + x (1 - s))` with `s` the sigmoid, and `1 - s = e s`.
    #[inline(always)]
    fn slope_of<L: Lanes, const N: usize>(l: L, x: [L::F; N], mut e: [L::F; N], r: [L::F; N]) -> [L::F; N] {
        for i in 0..N {
            e[i] = l.mul(e[i], r[i]);
        }
        for i in 0..N {
            e[i] = l.mul(r[i], l.mul_add(e[i], x[i], l.splat(1.0)));
        }
        e
    }
}

impl Function for Silu {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        // As for the sigmoid.
        let [x, argument] = bounded(l, x, Self::ZERO, 20.0);
        let (_, r) = Self::power(l, argument, Exponents::Large);
        product(l, x, r)
    }
}

impl Slope for Silu {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        let x = clamp(l, x, Self::LOW, Self::HIGH);
        let (e, r) = Self::power(l, x, Exponents::Any);
        Self::slope_of(l, x, e, r)
    }

    /// One power and one reciprocal: the sigmoid is 1 from 20 up, whatever smaller power is added.
    #[inline(always)]
    fn value_and_slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> ([L::F; N], [L::F; N]) {
        let [x, argument] = bounded(l, x, Self::ZERO, Self::HIGH);
        let (e, r) = Self::power(l, argument, Exponents::Any);
        let slope = floor(l, Self::slope_of(l, argument, e, r), x, Self::LOW, Self::LEAST);
        (product(l, x, r), slope)
    }
}

impl Tanh {
    /// The slope is 0 from here up.
    const HIGH: f32 = 53.0;

    /// `(1 - e) / (1 + e)` with `e = e^-2z`, and the sign of `x`.
    #[inline(always)]
    fn value_of<L: Lanes, const N: usize>(l: L, x: [L::F; N], z: [L::F; N]) -> [L::F; N] {
        let mut d = one_less_exp2_of(l, z, [l.splat(-2.0 * LOG2_E); N]);
        let mut r = d;
        for i in 0..N {
            r[i] = l.sub(l.splat(2.0), d[i]);
        }
        r = recip(l, r);
        for i in 0..N {
            d[i] = l.mul(d[i], r[i]);
            let sign = l.and(l.to_bits(x[i]), l.splat_u32(1 << 31));
            d[i] = l.from_bits(l.or(l.to_bits(d[i]), sign));
        }
        d
    }

    /// `4 e / (1 + e)^2`, which keeps its digits where the function is all but 1.
    #[inline(always)]
    fn slope_of<L: Lanes, const N: usize>(l: L, z: [L::F; N]) -> [L::F; N] {
        let mut e = exp2_of(l, z, [l.splat(-2.0 * LOG2_E); N], Exponents::Small);
        let r = logistic(l, e);
        for i in 0..N {
            e[i] = l.mul(l.mul(e[i], l.splat(4.0)), l.mul(r[i], r[i]));
        }
        e
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn value<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        // From 10 up the result is 1.
        Self::value_of(l, x, magnitude(l, x, 10.0))
    }
}

impl Slope for Tanh {
    #[inline(always)]
    fn slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
        Self::slope_of(l, magnitude(l, x, Self::HIGH))
    }

    /// Of one argument, so that most of the power is computed once.
    #[inline(always)]
    fn value_and_slope<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> ([L::F; N], [L::F; N]) {
        let z = magnitude(l, x, Self::HIGH);
        (Self::value_of(l, x, z), Self::slope_of(l, z))
    }
}
