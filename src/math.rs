//! Elementary functions on the lanes, for the kernels that need them: polynomials, so the same bits on each tier.
//!
//! The polynomials are minimax, found by Remez' algorithm in 50 digits and rounded to `f32`. The bounds are in units in
//! the last place of the result, over all 2^32 inputs, denormal results included.

use crate::lanes::{Lanes, MAGIC};

mod exp2;
#[cfg(test)]
mod tests;

pub(crate) use exp2::{Exponents, exp2_of, one_less_exp2_of, power_and_rest};

/// ln 2 in two parts; the first has zeros at its end, so that its product with a small whole number is exact.
const LN_2: [f32; 2] = [f32::from_bits(0x3F31_7200), f32::from_bits(0x35BF_BE8E)];

/// `e^x`, within [`EXP_ULP`]: `e^(n ln 2 + r) = 2^n e^r` with `|r|` up to half of ln 2 (Cody and Waite, "Software Manual for
/// the Elementary Functions", 1980). 0 from about -104 down, infinite from about 88.7 up; NaN for NaN.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::F) -> L::F {
    // Beyond, the result is known; the second operand stands where one is NaN.
    let x = l.max(l.splat(-105.0), l.min(l.splat(89.0), x));
    let magic = l.splat(MAGIC);
    let n = l.sub(l.mul_add(x, l.splat(std::f32::consts::LOG2_E), magic), magic);
    let r = l.neg_mul_add(n, l.splat(LN_2[0]), x);
    let r = l.neg_mul_add(n, l.splat(LN_2[1]), r);
    l.scale(exp_near_zero(l, r), n)
}

/// Above the greatest error of [`exp`]: 0.91, near 5.2.
#[cfg(test)]
pub(crate) const EXP_ULP: f64 = 1.0;

/// The polynomial of [`exp`], from the square's factor up.
const C: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_7];

/// `e^r` for `|r|` up to 0.347.
#[inline(always)]
fn exp_near_zero<L: Lanes>(l: L, r: L::F) -> L::F {
    let mut p = l.splat(C[4]);
    p = l.mul_add(p, r, l.splat(C[3]));
    p = l.mul_add(p, r, l.splat(C[2]));
    p = l.mul_add(p, r, l.splat(C[1]));
    p = l.mul_add(p, r, l.splat(C[0]));
    p = l.mul_add(p, r, l.splat(1.0));
    l.mul_add(p, r, l.splat(1.0))
}

/// [`exp`] of vectors with their chains side by side, where no lane is above 88. The same bits down to -87.68, and from there
/// on 0, where [`exp`] goes on through the denormals: CPUs take a hundred cycles for a vector that has one.
#[inline(always)]
pub(crate) fn exp_flush<L: Lanes, const N: usize>(l: L, x: [L::F; N]) -> [L::F; N] {
    ExpTerms::of(l, &EXP_TERMS).exp_flush(l, x)
}

/// With the bias in the second the sum has the exponent's field in its low bits. At -88, `n` is -127, the field zero and with
/// it the power.
static EXP_TERMS: [f32; 11] =
    [-88.0, MAGIC + 127.0, std::f32::consts::LOG2_E, LN_2[0], LN_2[1], C[4], C[3], C[2], C[1], C[0], 1.0];

/// The constants of [`exp_flush`], in all lanes.
#[derive(Clone, Copy)]
pub(crate) struct ExpTerms<L: Lanes> {
    least: L::F,
    magic: L::F,
    log2_e: L::F,
    ln_2: [L::F; 2],
    c: [L::F; 5],
    one: L::F,
}

impl<L: Lanes> ExpTerms<L> {
    /// Loaded here and now: the compiler does not know that they are constants, so it cannot keep them in registers
    /// through other loops that need all of them.
    #[inline(always)]
    pub(crate) fn loaded(l: L) -> Self {
        Self::of(l, std::hint::black_box(&EXP_TERMS))
    }

    #[inline(always)]
    fn of(l: L, t: &[f32; 11]) -> Self {
        ExpTerms {
            least: l.splat(t[0]),
            magic: l.splat(t[1]),
            log2_e: l.splat(t[2]),
            ln_2: [l.splat(t[3]), l.splat(t[4])],
            c: [l.splat(t[5]), l.splat(t[6]), l.splat(t[7]), l.splat(t[8]), l.splat(t[9])],
            one: l.splat(t[10]),
        }
    }

    /// [`exp_flush`]
    #[inline(always)]
    pub(crate) fn exp_flush<const N: usize>(&self, l: L, mut x: [L::F; N]) -> [L::F; N] {
        let (mut n, mut power, mut p) = (x, x, [self.c[0]; N]);
        for i in 0..N {
            // The second operand stands where one is NaN.
            x[i] = l.max(self.least, x[i]);
            n[i] = l.mul_add(x[i], self.log2_e, self.magic);
        }
        for i in 0..N {
            power[i] = l.from_bits(l.shl(l.to_bits(n[i]), 23));
            n[i] = l.sub(n[i], self.magic);
        }
        for i in 0..N {
            x[i] = l.neg_mul_add(n[i], self.ln_2[0], x[i]);
        }
        for i in 0..N {
            x[i] = l.neg_mul_add(n[i], self.ln_2[1], x[i]);
        }
        for c in [self.c[1], self.c[2], self.c[3], self.c[4], self.one] {
            for i in 0..N {
                p[i] = l.mul_add(p[i], x[i], c);
            }
        }
        for i in 0..N {
            p[i] = l.mul(l.mul_add(p[i], x[i], self.one), power[i]);
        }
        p
    }
}

/// `ln x`, within [`LOG_ULP`]: `ln(2^e m) = e ln 2 + ln m` with `m` between the roots of 1/2 and 2 (Cody and Waite). NaN for
/// NaN and below zero, minus infinity for zeros, infinite for infinity.
#[inline(always)]
pub(crate) fn log<L: Lanes>(l: L, x: L::F) -> L::F {
    const C: [f32; 8] = [
        0.333_333_3,
        -0.250_008_23,
        0.200_012_25,
        -0.166_232_93,
        0.142_017_36,
        -0.131_608_43,
        0.127_620_68,
        -0.076_332_71,
    ];
    // Bits of the root of 1/2: less them, the exponent changes where m leaves its range.
    const ROOT: u32 = 0x3F35_04F3;
    let (zero, one) = (l.splat(0.0), l.splat(1.0));
    let denormal = l.gt(l.splat(f32::MIN_POSITIVE), x);
    let normal = l.select(denormal, l.mul(x, l.splat(8_388_608.0)), x);
    let bits = l.sub_u32(l.to_bits(normal), l.splat_u32(ROOT));
    let e = l.i32_to_f32(l.sar(bits, 23));
    let e = l.sub(e, l.select(denormal, l.splat(23.0), zero));
    let m = l.from_bits(l.add_u32(l.and(bits, l.splat_u32(0x007F_FFFF)), l.splat_u32(ROOT)));
    // Exact.
    let f = l.sub(m, one);
    let mut p = l.splat(C[7]);
    p = l.mul_add(p, f, l.splat(C[6]));
    p = l.mul_add(p, f, l.splat(C[5]));
    p = l.mul_add(p, f, l.splat(C[4]));
    p = l.mul_add(p, f, l.splat(C[3]));
    p = l.mul_add(p, f, l.splat(C[2]));
    p = l.mul_add(p, f, l.splat(C[1]));
    p = l.mul_add(p, f, l.splat(C[0]));
    // ln m = f - f^2 / 2 + f^3 p, from the small terms up.
    let f2 = l.mul(f, f);
    let p = l.mul_add(l.mul(p, f), f2, l.mul(e, l.splat(LN_2[1])));
    let y = l.add(f, l.neg_mul_add(l.splat(0.5), f2, p));
    let y = l.mul_add(e, l.splat(LN_2[0]), y);
    // What is no positive number: infinity and NaN stay, zero and what is below it have their own.
    let infinity = l.splat(f32::INFINITY);
    let y = l.select(l.gt(infinity, x), y, x);
    let y = l.select(l.eq(x, zero), l.splat(f32::NEG_INFINITY), y);
    l.select(l.gt(zero, x), l.splat(f32::NAN), y)
}

/// Above the greatest error of [`log`]: 0.85, near the root of 2.
#[cfg(test)]
pub(crate) const LOG_ULP: f64 = 1.0;

/// `ln(1 + x)` for `x` from 0 to 1, within [`LOG1P_ULP`], of vectors with their chains side by side; NaN for NaN.
#[inline(always)]
pub(crate) fn log1p_unit<L: Lanes, const N: usize>(l: L, mut x: [L::F; N]) -> [L::F; N] {
    // (ln(1 + x) - x) / x^2, to 2^-27.5 of the logarithm.
    const C: [f32; 9] = [
        -0.499_999_3,
        0.333_304_67,
        -0.249_580_74,
        0.196_924_91,
        -0.153_462_71,
        0.106_638_96,
        -0.057_488_326,
        0.020_104_676,
        -0.003_294_952_2,
    ];
    let (mut square, mut p) = (x, [l.splat(C[8]); N]);
    for i in 0..N {
        square[i] = l.mul(x[i], x[i]);
    }
    // By pairs, as of Estrin: as many operations as Horner's rule, in a chain half as long.
    for k in [6, 4, 2, 0] {
        let (c0, c1) = (l.splat(C[k]), l.splat(C[k + 1]));
        for i in 0..N {
            p[i] = l.mul_add(p[i], square[i], l.mul_add(c1, x[i], c0));
        }
    }
    for i in 0..N {
        x[i] = l.mul_add(square[i], p[i], x[i]);
    }
    x
}

/// Above the greatest error of [`log1p_unit`]: 1.20, near 0.98.
#[cfg(test)]
pub(crate) const LOG1P_ULP: f64 = 1.25;
