//! Powers of two of a product, on several vectors in lockstep: what the activations are made of.
//!
//! With `n` the whole number nearest to `a b`, `r = a b - n` takes one fused operation and one rounding, so that a constant
//! factor such as log2(e) costs no more than the error of its own rounding to f32.

use std::f32::consts::LN_2;

use crate::lanes::{Lanes, MAGIC};

/// `(2^-s - 1) / s` for `|s|` up to 1/2, within 2^-26: minimax, by Remez' algorithm.
const C: [f32; 6] = [-LN_2, 0.240_226_49, -0.055_503_573, 0.009_618_238, -0.001_339_075_9, 1.540_351_2e-4];

/// `n` and `s = n - a b`, with `n` the whole number nearest to `a b`; `|a b|` up to 2^22.
#[inline(always)]
fn split<L: Lanes, const N: usize>(l: L, a: [L::F; N], b: [L::F; N]) -> ([L::F; N], [L::F; N]) {
    let magic = l.splat(MAGIC);
    let (mut n, mut s) = (a, a);
    for i in 0..N {
        n[i] = l.mul_add(a[i], b[i], magic);
    }
    for i in 0..N {
        n[i] = l.sub(n[i], magic);
    }
    for i in 0..N {
        s[i] = l.neg_mul_add(a[i], b[i], n[i]);
    }
    (n, s)
}

/// `(2^-s - 1) / s`
#[inline(always)]
fn quotient<L: Lanes, const N: usize>(l: L, s: [L::F; N]) -> [L::F; N] {
    let mut p = [l.splat(C[5]); N];
    for k in [4, 3, 2, 1, 0] {
        let c = l.splat(C[k]);
        for i in 0..N {
            p[i] = l.mul_add(p[i], s[i], c);
        }
    }
    p
}

#[inline(always)]
fn scaled<L: Lanes>(l: L, v: L::F, n: L::F, range: Exponents) -> L::F {
    match range {
        Exponents::Small => l.scale_near(v, n, 64),
        Exponents::Large => l.scale_near(v, n, -36),
        Exponents::Any => l.scale(v, n),
    }
}

/// Bounds of the exponent. The narrow ones take about half the work on tiers other than AVX-512.
#[derive(Clone, Copy)]
pub(crate) enum Exponents {
    /// From -189 to 63.
    Small,
    /// From -89 to 163.
    Large,
    /// From -240 to 240.
    Any,
}

/// `2^(a b)` for `a b` in the range: 0 from about -150 down, infinite from 128 up, NaN where `a` or `b` is.
#[inline(always)]
pub(crate) fn exp2_of<L: Lanes, const N: usize>(
    l: L,
    a: [L::F; N],
    b: [L::F; N],
    range: Exponents,
) -> [L::F; N] {
    let (n, s) = split(l, a, b);
    let mut p = quotient(l, s);
    let one = l.splat(1.0);
    for i in 0..N {
        p[i] = l.mul_add(p[i], s[i], one);
    }
    for i in 0..N {
        p[i] = scaled(l, p[i], n[i], range);
    }
    p
}

/// `1 - 2^(a b)`, small where `a b` is, for `a b` from -189 to 0.
#[inline(always)]
pub(crate) fn one_less_exp2_of<L: Lanes, const N: usize>(l: L, a: [L::F; N], b: [L::F; N]) -> [L::F; N] {
    let (mut n, mut s) = split(l, a, b);
    let p = quotient(l, s);
    let one = l.splat(1.0);
    for i in 0..N {
        s[i] = l.mul(s[i], p[i]);
    }
    for i in 0..N {
        n[i] = scaled(l, one, n[i], Exponents::Small);
    }
    for i in 0..N {
        // 2^n (1 + s p) from 1; 1 - 2^n is exact where the rest matters.
        s[i] = l.neg_mul_add(n[i], s[i], l.sub(one, n[i]));
    }
    s
}

/// `2^e` as a power of two, which is 0 at -127, and the rest, from 0.7 to 1.42; for `e` from -127.5 up. `c` has a
/// polynomial for `2^-s`, with `|s|` up to 1/2, from its constant term up. The power is of as much less as `biased` is
/// less than [`BIASED`](crate::lanes::BIASED).
#[inline(always)]
pub(crate) fn power_and_rest<L: Lanes, const N: usize>(
    l: L,
    e: [L::F; N],
    biased: f32,
    c: &[f32; 6],
) -> [[L::F; N]; 2] {
    let biased = l.splat(biased);
    let (mut power, mut s, mut rest) = (e, e, [l.splat(c[5]); N]);
    for i in 0..N {
        power[i] = l.add(e[i], biased);
    }
    for i in 0..N {
        s[i] = l.sub(l.sub(power[i], biased), e[i]);
        power[i] = l.power_of(power[i]);
    }
    for k in [4, 3, 2, 1, 0] {
        let c = l.splat(c[k]);
        for i in 0..N {
            rest[i] = l.mul_add(rest[i], s[i], c);
        }
    }
    [power, rest]
}
