//! AdamW gives an element the same bits wherever it stands and whoever computes it.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWStep, AdamWTensor, WeightDecay};
use hotlanes::{LANES, Tier, with_tier};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};

/// Each of the kernel's loops: the plain one, with a lerp from the gradient, with L2, and with AMSGrad. The last has
/// no `eps`, so that its denominators leave the range in which the AVX-512 tier has a way of its own to divide.
fn variants() -> [(&'static str, AdamWStep, bool); 5] {
    let plain = AdamWConfig::default();
    let low = AdamWConfig { beta1: 0.25, maximize: true, ..plain };
    let l2 = AdamWConfig { decay: WeightDecay::L2, weight_decay: 0.1, ..plain };
    let bare = AdamWConfig { eps: 0.0, weight_decay: 0.0, ..plain };
    let at = |config| AdamW::new(config).unwrap().at(3).unwrap();
    [
        ("plain", at(plain), false),
        ("low_beta1_maximize_unscale", at(low).unscale(1000.0 / 3.0).unwrap(), false),
        ("l2", at(l2), false),
        ("amsgrad", at(plain), true),
        ("amsgrad_no_eps", at(bare), true),
    ]
}

/// Parameter, gradient, m, v, v_max.
type Tensor = [Vec<f32>; 5];

/// Mostly ordinary values; among them, alone and together, ones that are not.
fn random(rng: &mut Rng, n: usize) -> Tensor {
    let mut t: Tensor = Default::default();
    for _ in 0..n {
        let around = rng.below(30) as i32 - 20;
        t[0].push(rng.spread(-8, 4));
        t[1].push(rng.spread(around - 2, around + 2));
        t[2].push(rng.spread(around - 2, around + 2));
        t[3].push(rng.spread(2 * around - 4, 2 * around + 4).abs());
        t[4].push(rng.spread(2 * around - 4, 2 * around + 4).abs());
        if rng.below(40) == 0 {
            // Underflow and overflow of everything.
            let e = [-126, -70, 60, 120][rng.below(4)];
            for x in &mut t {
                *x.last_mut().unwrap() = rng.spread(e, e + 4).abs();
            }
        }
        if rng.below(40) == 0 {
            *t[rng.below(5)].last_mut().unwrap() = SPECIALS[rng.below(SPECIALS.len())];
        }
    }
    t
}

fn view(t: &mut Tensor, amsgrad: bool) -> AdamWTensor<'_> {
    let [param, grad, m, v, v_max] = t;
    AdamWTensor { param, grad, m, v, v_max: amsgrad.then_some(v_max.as_mut_slice()) }
}

/// What every cut must give: each element updated as a tensor of its own, on the first tier.
fn one_by_one(step: &AdamWStep, t: &Tensor, amsgrad: bool) -> Tensor {
    let first = Tier::available().next().unwrap();
    let mut out = t.clone();
    with_tier(first, || {
        for i in 0..t[0].len() {
            let mut element: Tensor = std::array::from_fn(|k| vec![t[k][i]]);
            step.update(view(&mut element, amsgrad));
            for (out, x) in out.iter_mut().zip(element) {
                out[i] = x[0];
            }
        }
    })
    .unwrap();
    out
}

#[track_caller]
fn assert_tensor(got: &Tensor, want: &Tensor, what: &str) {
    for ((got, want), name) in got.iter().zip(want).zip(["param", "grad", "m", "v", "v_max"]) {
        assert_same(got, want, format!("{what}: {name}"));
    }
}

#[test]
fn every_length_at_every_offset() {
    let short = 0..=2 * LANES + 1;
    let mut lengths: Vec<usize> = short.chain(63..=66).chain(127..=130).chain([1000]).collect();
    if cfg!(miri) {
        // A rest, a vector with one, and two; the loop over four is that of AVX-512, which Miri lacks.
        lengths = vec![1, 17, 33];
    }
    let mut rng = Rng::new(1);
    for (name, step, amsgrad) in variants() {
        for &n in &lengths {
            let before = random(&mut rng, n);
            let want = one_by_one(&step, &before, amsgrad);
            for_each_tier(|tier| {
                for offset in offsets() {
                    let what = format!("{name} on {tier}, {n} at offset {offset}");
                    // Each slice at an offset of its own.
                    let mut k = offset;
                    let [mut p, g, mut m, mut v, mut x] = before.each_ref().map(|values| {
                        k = (k + 3) % 17;
                        Guarded::new(k, values)
                    });
                    step.update(AdamWTensor {
                        param: p.get_mut(),
                        grad: g.get(),
                        m: m.get_mut(),
                        v: v.get_mut(),
                        v_max: amsgrad.then_some(x.get_mut()),
                    });
                    for ((slice, want), part) in
                        [p, g, m, v, x].iter().zip(&want).zip(["p", "g", "m", "v", "x"])
                    {
                        assert_same(slice.get(), want, format!("{what}: {part}"));
                        slice.assert_guards(format!("{what}: {part}"));
                    }
                }
            });
        }
    }
}

#[cfg(feature = "rayon")]
fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[cfg(feature = "rayon")]
#[test]
fn every_thread_count_around_the_thresholds() {
    let (parallel, piece) = (hotlanes::tuning::ADAMW_PARALLEL, hotlanes::tuning::ADAMW_PIECE);
    let pools = [1, 2, 3, 8].map(pool);
    let (_, step, amsgrad) = variants()[3];
    let mut rng = Rng::new(2);
    // Below the threshold nothing is cut; from it on pieces are, some of them just above and below their size.
    for n in [piece - 1, piece + 1, parallel - 1, parallel, parallel + 1, 5 * piece + 7] {
        let before = random(&mut rng, n);
        let want = one_by_one(&step, &before, amsgrad);
        for_each_tier(|tier| {
            for pool in &pools {
                let mut t = before.clone();
                pool.install(|| with_tier(tier, || step.update(view(&mut t, amsgrad))).unwrap());
                assert_tensor(&t, &want, &format!("{tier}, {n}, {} threads", pool.current_num_threads()));
            }
        });
    }
}

/// Runs all tensors in one call, and checks each against its elements one by one.
fn check_many(lengths: &[usize], seed: u64, variant: usize) {
    let (name, step, amsgrad) = variants()[variant];
    let mut rng = Rng::new(seed);
    let before: Vec<Tensor> = lengths.iter().map(|&n| random(&mut rng, n)).collect();
    let want: Vec<Tensor> = before.iter().map(|t| one_by_one(&step, t, amsgrad)).collect();
    for_each_tier(|tier| {
        let mut after = before.clone();
        let mut views: Vec<_> = after.iter_mut().map(|t| view(t, amsgrad)).collect();
        step.update_many(&mut views);
        for (i, (got, want)) in after.iter().zip(&want).enumerate() {
            assert_tensor(got, want, &format!("{name} on {tier}, tensor {i} of {}", lengths.len()));
        }
    });
}

#[test]
fn many_tensors_are_each_alone() {
    check_many(&[], 3, 0);
    check_many(&[0, 0, 0], 3, 0);
    check_many(&[0, 1, 0, 33, 16, 0], 3, 3);
}

#[cfg(feature = "rayon")]
#[test]
fn many_ragged_tensors_are_cut_anywhere() {
    let parallel = hotlanes::tuning::ADAMW_PARALLEL;
    let mut rng = Rng::new(4);
    let mut ragged: Vec<usize> =
        (0..600).map(|_| [0, 1, 15, 16, 17, 500][rng.below(6)] * rng.below(9)).collect();
    ragged.extend([0, parallel / 2, 0, 1, 0]);
    // Zero-length ones where the cuts fall: halves of a power of two.
    let even = [vec![0; 3], vec![parallel / 4; 4], vec![0; 3], vec![parallel / 4; 2], vec![0]].concat();
    for lengths in [ragged, even, vec![parallel + 1], vec![2; parallel / 2]] {
        assert!(lengths.iter().sum::<usize>() >= parallel, "the call goes parallel");
        pool(3).install(|| check_many(&lengths, 5, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shapes_give_the_same_bits(
        lengths in prop::collection::vec(prop_oneof![0usize..40, Just(0), 40usize..700], 0..12),
        seed in any::<u64>(),
        variant in 0usize..5,
    ) {
        check_many(&lengths, seed, variant);
    }
}

/// Changing one of these is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: [&str; 5] = [
    "plain: 0xd86386d7b4cc959f",
    "low_beta1_maximize_unscale: 0x78b7004cfcb967b0",
    "l2: 0xfa7d685aea567a06",
    "amsgrad: 0x010f25d95fec3676",
    "amsgrad_no_eps: 0xd30807759c8a332f",
];

#[test]
fn the_bits_are_those_of_the_format() {
    let before = random(&mut Rng::new(6), 1003);
    for_each_tier(|tier| {
        let hashes = variants().map(|(name, step, amsgrad)| {
            let mut t = before.clone();
            for _ in 0..3 {
                step.update(view(&mut t, amsgrad));
            }
            let mut hash = Hash::new();
            for x in &t {
                hash.add(x);
            }
            format!("{name}: {:#018x}", hash.get())
        });
        assert_eq!(hashes, GOLDEN, "{tier}");
    });
}
