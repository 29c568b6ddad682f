//! The scalar tier's fused multiply-add, against integers.

use super::super::scalar::mul_add as emulated;
use super::{Rng, STRIDE, assert_same, canonical, cases, specials};

/// `a * b + c` by integers, rounded once: the definition, with no floating point in it but the scaling at the end.
pub(super) fn exact_mul_add(a: f32, b: f32, c: f32) -> f32 {
    if a.is_finite() && b.is_finite() && !c.is_finite() {
        return c;
    }
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        // NaN, infinity or a product of zero: two roundings are one.
        return a * b + c;
    }
    // x = significand * 2^exponent
    let parts = |x: f32| {
        let (field, fraction) = ((x.to_bits() >> 23 & 0xFF) as i32, (x.to_bits() & 0x7F_FFFF) as i128);
        let significand = if field == 0 { fraction } else { fraction | 1 << 23 };
        (if x < 0.0 { -significand } else { significand }, field.max(1) - 150)
    };
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let (mp, ep) = (ma * mb, ea + eb);
    // On one exponent. A term that lies far below the other's last bit only says on which side of it the sum is.
    let (sum, e) = if mc == 0 {
        (mp, ep)
    } else if ep >= ec {
        if ep - ec <= 76 { ((mp << (ep - ec)) + mc, ec) } else { ((mp << 76) + mc.signum(), ep - 76) }
    } else if ec - ep <= 96 {
        ((mc << (ec - ep)) + mp, ep)
    } else {
        ((mc << 96) + mp.signum(), ec - 96)
    };
    if sum == 0 {
        return 0.0;
    }
    let size = sum.unsigned_abs();
    // The exponent of the result's last bit: 24 significant ones, or the subnormals' fixed one.
    let last = (128 - size.leading_zeros() as i32 - 24 + e).max(-149);
    let drop = last - e;
    let kept = if drop <= 0 {
        size << -drop
    } else if drop > 126 {
        // Size is below 2^125: less than half of the last bit.
        0
    } else {
        let (kept, rest, half) = (size >> drop, size & ((1 << drop) - 1), 1u128 << (drop - 1));
        kept + (rest > half || (rest == half && kept & 1 == 1)) as u128
    };
    // Exact in f64: at most 2^24, times a power of two. Beyond f32's range the conversion gives infinity.
    let value = (kept as f64 * f64::from_bits(((last + 1023) as u64) << 52)) as f32;
    if sum < 0 { -value } else { value }
}

/// Operands made to be hard to round.
fn adversarial(rng: &mut Rng) -> [f32; 3] {
    let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    let sign = if rng.u64() & 1 == 0 { 1.0 } else { -1.0 };
    let e = rng.below(60) as i32 - 30;
    match rng.below(8) {
        // Any bits at all.
        0 => [rng.any(), rng.any(), rng.any()],
        // A product of 25 bits, so often a tie, broken or not by a far smaller term.
        1 => {
            let bits = |rng: &mut Rng| 1.0 + (rng.u64() & 0xFFF) as f32 / 4096.0;
            let c = [0.0, f32::from_bits(1), 1e-40, 1e-30][rng.below(4)];
            [bits(rng) * power(e), bits(rng), sign * c]
        }
        // Half an ulp of c, times 1 - 2^-46, 1 + 2^-23 or 1 + 2^-22: rounding to f64 first makes a tie of the first.
        2 | 3 => {
            let c = rng.spread(-30, 30);
            let half = (c.abs().next_up() - c.abs()) * 0.5;
            let factor = [1.0 - f32::EPSILON, 1.0, 1.0 + f32::EPSILON][rng.below(3)];
            [sign * half * 1.0f32.next_up(), factor, c]
        }
        // The product, cancelled to its last bits.
        4 => {
            let (a, b) = (rng.spread(-20, 20), rng.spread(-20, 20));
            [a, b, -(a * b)]
        }
        // Cancelled but for an ulp or so.
        5 => {
            let (a, b) = (rng.spread(-20, 20), rng.spread(-20, 20));
            let c = a * b;
            [a, b, -f32::from_bits(c.to_bits().wrapping_add(rng.below(5) as u32).wrapping_sub(2))]
        }
        // Subnormal results, of a product alone and of a sum.
        6 => {
            let (a, b) = (rng.spread(-80, -60), rng.spread(-88, -60));
            [a, b, sign * f32::from_bits(rng.u64() as u32 & 0x00FF_FFFF)]
        }
        // About the largest finite value.
        _ => {
            let (a, b) = (rng.spread(62, 64), rng.spread(62, 65));
            [a, b, sign * [f32::MAX, power(103), power(102), power(104), 1.0][rng.below(5)]]
        }
    }
}

#[test]
fn emulated_mul_add_rounds_once() {
    let s = specials();
    for i in (0..s.len().pow(3)).step_by(STRIDE) {
        let [a, b, c] = [i, i / s.len(), i / s.len().pow(2)].map(|i| s[i % s.len()]);
        assert_same(emulated(a, b, c), exact_mul_add(a, b, c), (a, b, c));
    }
    let mut rng = Rng::new(2);
    let (mut two_roundings_differ, mut through_f64_differs, mut subnormal) = (0, 0, 0);
    for _ in 0..cases(10_000_000) {
        let [a, b, c] = adversarial(&mut rng);
        let want = exact_mul_add(a, b, c);
        assert_same(emulated(a, b, c), want, (a, b, c));
        assert_same(a.mul_add(b, c), want, ("std, a check of this test's own reference", a, b, c));
        two_roundings_differ += (canonical(a * b + c) != canonical(want)) as u32;
        let through_f64 = (a as f64 * b as f64 + c as f64) as f32;
        through_f64_differs += (canonical(through_f64) != canonical(want)) as u32;
        subnormal += want.is_subnormal() as u32;
    }
    // The inputs are as hard as they claim: without the care that `emulated` takes, each of these goes wrong.
    assert!(two_roundings_differ > 0 && subnormal > 0);
    assert!(through_f64_differs > 0 || cfg!(miri), "no input that rounding to f64 first gets wrong");
}
