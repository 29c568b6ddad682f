//! bf16: conversions by distance, the split by its inverse, and the AdamW step on parameters that are kept so.

use hotlanes::adamw::{
    AdamW, AdamWConfig, AdamWStep, AdamWTensor, Bf16Param, Bf16Tensor, Gradient, WeightDecay,
};
use hotlanes::bf16;

use crate::common::{Rng, SPECIALS, assert_same, for_each_tier, panic_message};
use crate::golden::parse;

fn widen(half: u16) -> f32 {
    f32::from_bits((half as u32) << 16)
}

/// Of the two neighbours of `x` the nearer, else what `tie` says of the one towards zero.
fn nearest(x: f32, tie: fn(u16) -> u16) -> u16 {
    if x.is_nan() {
        return 0x7FC0;
    }
    let low = (x.to_bits() >> 16) as u16;
    if x.is_infinite() {
        return low;
    }
    let (below, above) = (widen(low) as f64, widen(low + 1) as f64);
    // The infinity beyond the largest finite one counts as the next power of two.
    let above = if above.is_infinite() { 2f64.powi(128).copysign(above) } else { above };
    let (down, up) = ((x as f64 - below).abs(), (above - x as f64).abs());
    if down < up {
        low
    } else if up < down {
        low + 1
    } else {
        tie(low)
    }
}

fn even(low: u16) -> u16 {
    low + low % 2
}

fn away(low: u16) -> u16 {
    low + 1
}

/// Every kind of bits, ties and their neighbours among them.
fn values(rng: &mut Rng, n: usize) -> Vec<f32> {
    rng.vec(n, |rng| match rng.below(4) {
        0 => SPECIALS[rng.below(SPECIALS.len())],
        1 => f32::from_bits((rng.any().to_bits() & 0xFFFF_0000) + 0x7FFF + rng.below(3) as u32),
        _ => rng.any(),
    })
}

#[test]
fn conversions_round_to_the_nearest() {
    let mut rng = Rng::new(1);
    for n in (0..=33).chain([1000, 5000]) {
        let x = values(&mut rng, n);
        for_each_tier(|tier| {
            let (mut half, mut high, mut low) = (vec![7; n], vec![7; n], vec![7; n]);
            bf16::from_f32(&x, &mut half);
            bf16::split(&x, &mut high, &mut low);
            let mut back = vec![1.0; n];
            bf16::to_f32(&half, &mut back);
            for i in 0..n {
                assert_eq!(half[i], nearest(x[i], even), "{tier}: {:#x}", x[i].to_bits());
                assert_eq!(high[i], nearest(x[i], away), "{tier}: {:#x}", x[i].to_bits());
                assert_eq!(back[i].to_bits(), (half[i] as u32) << 16, "{tier}");
            }
        });
    }
}

/// All lower halves, with upper ones of many exponents and both signs, the ends of the range among them.
#[test]
fn what_is_split_is_joined_again() {
    let step = if cfg!(debug_assertions) { 5003 } else { 61 };
    let n = if cfg!(miri) { 1 << 8 } else { 1 << 16 };
    let (mut high, mut low, mut back) = (vec![0; n], vec![0; n], vec![0.0; n]);
    let ends = [0, 1, 0x7F7F, 0x7F80, 0x7F81, 0x7FFF, 0x8000, 0xFF7F, 0xFF80, 0xFFFF];
    let uppers = (0..=0xFFFFu32).step_by(step).chain(ends);
    for upper in uppers.take(if cfg!(miri) { 2 } else { usize::MAX }) {
        let x: Vec<f32> = (0..n as u32).map(|lower| f32::from_bits(upper << 16 | lower)).collect();
        for_each_tier(|tier| {
            bf16::split(&x, &mut high, &mut low);
            bf16::join(&high, &low, &mut back);
            for i in 0..n {
                let want = if x[i].is_nan() { 0x7FC0_0000 } else { x[i].to_bits() };
                assert!(back[i].to_bits() == want, "{tier}: {:#x} of {want:#x}", back[i].to_bits());
                // The working copy of a number is no NaN, that of a NaN is one.
                assert!(widen(high[i]).is_nan() == x[i].is_nan(), "{tier}: {:#x}", x[i].to_bits());
            }
        });
    }
}

/// The plain step, one with its branches, and one whose denominators may be 0.
fn steps(at: u64) -> [AdamWStep; 3] {
    let plain = AdamWConfig::default();
    let l2 = AdamWConfig { decay: WeightDecay::L2, weight_decay: 0.1, beta1: 0.25, maximize: true, ..plain };
    let bare = AdamWConfig { eps: 0.0, weight_decay: 0.0, ..plain };
    let step = |config| AdamW::new(config).unwrap().at(at).unwrap();
    [step(plain), step(l2).unscale(1000.0 / 3.0).unwrap(), step(bare)]
}

#[test]
fn the_step_has_the_bits_of_the_one_in_f32() {
    let mut rng = Rng::new(2);
    for variant in 0..3 {
        for n in [0, 1, 15, 16, 17, 33, 63, 130, 259] {
            let start = rng.vec(n, |rng| if rng.below(60) == 0 { f32::NAN } else { rng.spread(-8, 4) });
            for_each_tier(|tier| {
                for half_gradient in [false, true] {
                    let what = format!("{tier}, variant {variant}, {n} parameters, {half_gradient}");
                    let zeros = vec![0.0; n];
                    let (mut p, mut m, mut v) = (start.clone(), zeros.clone(), zeros.clone());
                    let (mut master, mut copy) = (start.clone(), vec![7; n]);
                    let (mut copy_m, mut copy_v) = (zeros.clone(), zeros.clone());
                    let (mut high, mut low) = (vec![7; n], vec![7; n]);
                    bf16::split(&start, &mut high, &mut low);
                    let (mut split_m, mut split_v) = (zeros.clone(), zeros.clone());
                    let mut rng = Rng::new(n as u64);
                    for at in 1..=4 {
                        let step = steps(at)[variant];
                        let mut grad = rng.vec(n, |rng| rng.spread(-20, 2));
                        let mut half = vec![0; n];
                        bf16::from_f32(&grad, &mut half);
                        if half_gradient {
                            bf16::to_f32(&half, &mut grad);
                        }
                        let given = if half_gradient { Gradient::Bf16(&half) } else { Gradient::F32(&grad) };
                        step.update(AdamWTensor {
                            param: &mut p,
                            grad: &grad,
                            m: &mut m,
                            v: &mut v,
                            v_max: None,
                        });
                        step.update_bf16(Bf16Tensor {
                            param: Bf16Param::Copy { param: &mut master, copy: &mut copy },
                            grad: given,
                            m: &mut copy_m,
                            v: &mut copy_v,
                        });
                        step.update_bf16(Bf16Tensor {
                            param: Bf16Param::Split { high: &mut high, low: &mut low },
                            grad: given,
                            m: &mut split_m,
                            v: &mut split_v,
                        });
                        let (mut want, mut joined) = (vec![0; n], vec![0.0; n]);
                        bf16::from_f32(&p, &mut want);
                        assert_eq!(copy, want, "{what}: the copy is the conversion");
                        bf16::join(&high, &low, &mut joined);
                        for (name, got, want) in [
                            ("param", &master, &p),
                            ("m", &copy_m, &m),
                            ("v", &copy_v, &v),
                            ("split param", &joined, &p),
                            ("split m", &split_m, &m),
                            ("split v", &split_v, &v),
                        ] {
                            assert_same(got, want, format!("{what}, step {at}: {name}"));
                        }
                        let want: Vec<u16> = p.iter().map(|&p| nearest(p, away)).collect();
                        assert_eq!(high, want, "{what}: what is worked with is the nearest");
                    }
                }
            });
        }
    }
}

#[test]
fn it_follows_pytorch() {
    let cases = parse(include_str!("../golden/bf16.txt"));
    let x = cases[0].get("x");
    let want: Vec<u16> = cases[0].get("bf16").iter().map(|y| (y.to_bits() >> 16) as u16).collect();
    for_each_tier(|tier| {
        let mut half = vec![0; x.len()];
        bf16::from_f32(x, &mut half);
        for i in 0..x.len() {
            let (got, want) = (widen(half[i]), widen(want[i]));
            assert_same(&[got], &[want], format!("{tier}: {:#x}", x[i].to_bits()));
        }
    });
}

#[test]
fn a_wrong_length_panics_with_both() {
    let message = panic_message(|| bf16::from_f32(&[0.0; 3], &mut [0; 4]));
    assert_eq!(message, "bf16 from f32: dst has 4 values, src asks for 3");
    let message = panic_message(|| bf16::to_f32(&[0; 3], &mut [0.0; 4]));
    assert_eq!(message, "bf16 to f32: dst has 4 values, src asks for 3");
    let message = panic_message(|| bf16::split(&[0.0; 3], &mut [0; 3], &mut [0; 2]));
    assert_eq!(message, "bf16 split: low has 2 values, src asks for 3");
    let message = panic_message(|| bf16::split(&[0.0; 3], &mut [0; 1], &mut [0; 3]));
    assert_eq!(message, "bf16 split: high has 1 values, src asks for 3");
    let message = panic_message(|| bf16::join(&[0; 3], &[0; 2], &mut [0.0; 3]));
    assert_eq!(message, "bf16 join: low has 2 values, dst asks for 3");
    let message = panic_message(|| bf16::join(&[0; 4], &[0; 3], &mut [0.0; 3]));
    assert_eq!(message, "bf16 join: high has 4 values, dst asks for 3");

    // Parameter, the other half, gradient, m, v; `what` is who says the length.
    let step = steps(1)[0];
    for (lengths, name, what) in [
        ([3, 2, 3, 3, 3], ["copy", "low"], ["param", "high"]),
        ([3, 3, 2, 3, 3], ["grad"; 2], ["the parameter"; 2]),
        ([3, 3, 3, 2, 3], ["m"; 2], ["the parameter"; 2]),
        ([3, 3, 3, 3, 2], ["v"; 2], ["the parameter"; 2]),
    ] {
        let [p, o, g, m, v] = lengths;
        let (mut param, mut high, mut other) = (vec![0.0; p], vec![0; p], vec![0; o]);
        let (grad, mut m, mut v) = (vec![0.0; g], vec![0.0; m], vec![0.0; v]);
        for k in 0..2 {
            let message = panic_message(|| {
                let param = if k == 0 {
                    Bf16Param::Copy { param: &mut param, copy: &mut other }
                } else {
                    Bf16Param::Split { high: &mut high, low: &mut other }
                };
                step.update_bf16(Bf16Tensor { param, grad: Gradient::F32(&grad), m: &mut m, v: &mut v });
            });
            assert_eq!(message, format!("adamw bf16: {} has 2 values, {} asks for 3", name[k], what[k]));
        }
    }
}
