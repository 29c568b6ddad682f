//! A power in f64 from additions, multiplications and divisions alone: the C library's `pow` is not the same everywhere.

use std::f64::consts::{LN_2, SQRT_2};

/// `x^y` for `x` from 1 to 2^64 and `y` at most 0, to about `1e-15 (1 + |y ln x|)` of itself; 0 where it is below 1e-300.
pub(super) fn power(x: f64, y: f64) -> f64 {
    exp(y * ln(x))
}

/// `ln x` for normal `x`: `x = 2^e m`, and `ln m = 2 atanh((m - 1) / (m + 1))` by its series.
fn ln(x: f64) -> f64 {
    const EXPONENT: u64 = 0x7FF << 52;
    let mut e = (x.to_bits() >> 52) as i64 - 1023;
    let mut m = f64::from_bits(x.to_bits() & !EXPONENT | 1023 << 52);
    if m > SQRT_2 {
        m /= 2.0;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    // |s| is at most 0.172: the thirteenth term is below 1e-19.
    let mut sum = 0.0;
    let mut k = 25;
    while k > 0 {
        sum = sum * s2 + 1.0 / k as f64;
        k -= 2;
    }
    e as f64 * LN_2 + 2.0 * s * sum
}

/// `e^x` for `x` at most 0: `e^(n ln 2 + r) = 2^n e^r` by Taylor's series.
fn exp(x: f64) -> f64 {
    if x < -690.0 {
        return 0.0;
    }
    let n = (x / LN_2).round();
    let r = x - n * LN_2;
    // |r| is at most 0.347: the seventeenth term is below 1e-22.
    let mut sum = 1.0;
    let mut k = 17;
    while k > 0 {
        sum = 1.0 + sum * r / k as f64;
        k -= 1;
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_library() {
        let steps = [1.0, 2.0, 3.0, 7.0, 10.0, 1000.0, 123_456.0, 1e9, u64::MAX as f64];
        for x in steps {
            for y in [0.0, -0.5, -0.8, -1.0, -3.0, -12.5, -100.0, -1e300] {
                let (got, want) = (power(x, y), x.powf(y));
                let near = 4e-16 * (4.0 + (y * x.ln()).abs());
                assert!(want < 1e-290 && got < 1e-290 || (got / want - 1.0).abs() <= near, "{x}^{y}: {got}");
            }
        }
        assert_eq!(power(1.0, -0.8), 1.0);
        assert_eq!(power(5.0, 0.0), 1.0);
        assert_eq!(power(2.0, -1e300), 0.0);
    }
}
