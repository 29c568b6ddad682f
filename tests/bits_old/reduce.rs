//! Reductions, aggregation and clipping: one hash for all tiers, offsets and numbers of threads, and the hashes they had.

use hotlanes::LANES;
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor};
use hotlanes::clip::{Clip, ClipConfig, ClipOutcome, clip_grad_norm};
use hotlanes::reduce::{self, BLOCK, PIECE};
use hotlanes::tuning::{REDUCE_PARALLEL, REDUCE_PIECE};

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// sum, dot, norm, mean, variance, max
fn all(x: &[f32], y: &[f32]) -> Vec<f32> {
    let r = reduce::mean_var(x);
    vec![reduce::sum(x), reduce::dot(x, y), reduce::norm(x), r.mean, r.variance, reduce::max(x)]
}

/// Of all kinds: ordinary, all tiny, all huge, zeros, and with values that are not finite.
fn values(rng: &mut Rng, n: usize, kind: usize) -> Vec<f32> {
    let mut x = rng.vec(n, |rng| match kind {
        0 => rng.normal(),
        1 => rng.spread(-10, 10),
        2 => rng.normal() * 1e-40,
        3 => rng.spread(100, 127),
        4 => [0.0, -0.0][rng.below(2)],
        _ => 3e3 + rng.normal(),
    });
    if kind == 6 && n > 0 {
        for _ in 0..=n / 500 {
            x[rng.below(n)] = SPECIALS[rng.below(SPECIALS.len())];
        }
    }
    x
}

/// What every tier, offset and thread count must give: the first tier's results, kept.
struct Expected(Option<Vec<f32>>);

impl Expected {
    #[track_caller]
    fn check(&mut self, got: Vec<f32>, what: impl std::fmt::Display) {
        assert_same(&got, self.0.get_or_insert_with(|| got.clone()), what);
    }
}

#[test]
fn every_length_at_every_offset() {
    let mut lengths: Vec<usize> = (0..=2 * LANES + 1).chain(63..=66).chain(127..=130).chain([1000]).collect();
    if cfg!(miri) {
        lengths = vec![0, 1, 17, 33, 83];
    }
    let mut rng = Rng::new(1);
    for n in lengths {
        for kind in if cfg!(miri) { 5..7 } else { 0..7 } {
            let (x, y) = (values(&mut rng, n, kind), values(&mut rng, n, kind));
            let mut expected = Expected(None);
            for_each_tier(|tier| {
                for offset in offsets() {
                    let (gx, gy) = (Guarded::new(offset, &x), Guarded::new((offset + 3) % 17, &y));
                    let what = format!("{tier}, {n} of kind {kind} at {offset}");
                    expected.check(all(gx.get(), gy.get()), what);
                }
            });
        }
    }
}

#[test]
fn blocks_and_pieces() {
    let mut rng = Rng::new(2);
    for n in [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 70, PIECE - 16, PIECE + 1] {
        for kind in 0..7 {
            let (x, y) = (values(&mut rng, n, kind), values(&mut rng, n, kind));
            let mut expected = Expected(None);
            for_each_tier(|tier| expected.check(all(&x, &y), format!("{tier}, {n} of kind {kind}")));
        }
    }
}

#[test]
fn an_aggregation_at_every_offset() {
    let mut rng = Rng::new(3);
    let lengths: &[usize] = if cfg!(miri) { &[17, 33] } else { &[0, 1, 15, 16, 17, 33, 64, 255, 257, 531] };
    let counts: &[usize] = if cfg!(miri) { &[1, 3, 9] } else { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 23, 40] };
    for &n in lengths {
        for &k in counts {
            let owned: Vec<Vec<f32>> = (0..k).map(|i| values(&mut rng, n, [0, 1, 5, 6][i % 4])).collect();
            let mut expected = Expected(None);
            for_each_tier(|tier| {
                for offset in offsets().step_by(if k > 8 { 5 } else { 1 }) {
                    let what = format!("{tier}, {k} x {n} at {offset}");
                    let inputs: Vec<Guarded> = owned
                        .iter()
                        .enumerate()
                        .map(|(i, b)| Guarded::new((offset + 3 * i) % 17, b))
                        .collect();
                    let buffers: Vec<&[f32]> = inputs.iter().map(Guarded::get).collect();
                    let mut dst = Guarded::new(offset, &vec![f32::NAN; n]);
                    reduce::aggregate(dst.get_mut(), &buffers, 0.3);
                    dst.assert_guards(&what);
                    expected.check(dst.get().to_vec(), &what);
                }
            });
        }
    }
}

/// Parameter, gradient, m, v of each tensor.
type Tensors = Vec<[Vec<f32>; 4]>;

fn tensors(rng: &mut Rng, lengths: &[usize]) -> Tensors {
    let one = |rng: &mut Rng, n| {
        let v = rng.vec(n, |rng| rng.unit() + 1e-3);
        let mut spread = || rng.vec(n, |rng| rng.spread(-4, 2));
        [spread(), spread(), spread(), v]
    };
    lengths.iter().map(|&n| one(rng, n)).collect()
}

/// Clips and steps between guards; what it changed, and the norm, one after the other.
fn clip_step(before: &Tensors, offset: usize, config: ClipConfig) -> Vec<f32> {
    let clip = Clip::new(config).unwrap();
    let step = AdamW::new(AdamWConfig::default()).unwrap().at(3).unwrap();
    let mut guarded: Vec<[Guarded; 4]> = before
        .iter()
        .enumerate()
        .map(|(i, t)| std::array::from_fn(|k| Guarded::new((offset + 5 * i + 3 * k) % 17, &t[k])))
        .collect();
    let mut views: Vec<AdamWTensor<'_>> = guarded
        .iter_mut()
        .map(|[p, g, m, v]| AdamWTensor {
            param: p.get_mut(),
            grad: g.get(),
            m: m.get_mut(),
            v: v.get_mut(),
            v_max: None,
        })
        .collect();
    let outcome = clip.step(&step, &mut views);
    let mut alone: Vec<Guarded> = before.iter().map(|t| Guarded::new(offset, &t[1])).collect();
    let mut grads: Vec<&mut [f32]> = alone.iter_mut().map(Guarded::get_mut).collect();
    let same = clip.clip(&mut grads);
    assert_eq!(outcome, same);
    let ClipOutcome { norm, clip_factor, skipped } = outcome;
    let mut out = vec![norm as f32, clip_factor as f32, skipped as u8 as f32];
    for slice in guarded.iter().flatten().chain(&alone) {
        slice.assert_guards(format_args!("offset {offset}, {config:?}"));
        out.extend(slice.get());
    }
    out
}

const CLIPS: [ClipConfig; 3] = [
    ClipConfig { max_norm: 1.0, grad_scale: 1.0 },
    ClipConfig { max_norm: 0.7, grad_scale: 48.0 },
    ClipConfig { max_norm: 1e9, grad_scale: 1.0 },
];

#[test]
fn a_clip_at_every_offset() {
    let mut rng = Rng::new(4);
    let all: [&[usize]; 4] = [&[], &[0, 1, 0], &[33, 16, 7, 130], &[1; 40]];
    for lengths in all.into_iter().take(if cfg!(miri) { 3 } else { 4 }) {
        let before = tensors(&mut rng, lengths);
        for config in CLIPS {
            let mut expected = Expected(None);
            for_each_tier(|tier| {
                for offset in offsets() {
                    let what = format!("{tier}, {lengths:?} at {offset}, {config:?}");
                    expected.check(clip_step(&before, offset, config), what);
                }
            });
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn every_thread_count_around_the_thresholds() {
    let mut rng = Rng::new(5);
    for (n, kind) in [(REDUCE_PARALLEL - 1, 1), (REDUCE_PARALLEL, 6), (5 * REDUCE_PIECE + 7, 3)] {
        let (x, y) = (values(&mut rng, n, kind), values(&mut rng, n, kind));
        let mut expected = Expected(None);
        on_pools(|threads| {
            for_each_tier(|tier| expected.check(all(&x, &y), format!("{tier}, {n}, {threads} threads")));
        });
    }
}

#[cfg(feature = "rayon")]
#[test]
fn aggregations_and_clips_on_every_thread_count() {
    let mut rng = Rng::new(6);
    for (k, n) in [(3, REDUCE_PARALLEL / 3 + 1), (11, REDUCE_PIECE / 2 + 5), (300, 1000)] {
        let owned: Vec<Vec<f32>> = (0..k).map(|_| values(&mut rng, n, 1)).collect();
        let buffers: Vec<&[f32]> = owned.iter().map(|b| &b[..]).collect();
        let mut expected = Expected(None);
        on_pools(|threads| {
            for_each_tier(|tier| {
                let mut dst = vec![f32::NAN; n];
                reduce::aggregate(&mut dst, &buffers, 1.0);
                expected.check(dst, format!("{tier}, {k} x {n}, {threads} threads"));
            });
        });
    }
    let ragged: Vec<usize> = (0..90).map(|_| [0, 1, 17, 500, 9000][rng.below(5)]).collect();
    for lengths in [ragged, vec![REDUCE_PARALLEL + 3], vec![REDUCE_PIECE / 2; 8]] {
        let before = tensors(&mut rng, &lengths);
        let mut expected = Expected(None);
        on_pools(|threads| {
            for_each_tier(|tier| {
                let what = format!("{tier}, {} tensors, {threads} threads", lengths.len());
                expected.check(clip_step(&before, 0, CLIPS[1]), what);
            });
        });
    }
}

/// Changing one of these is a change of the format, to be written in CHANGELOG.md.
const GOLDEN: [&str; 5] = [
    "reductions: 0x7482ec27b8257280",
    "aggregate: 0x8ba94776a6282a13",
    "clip: 0x40625ed8e00ed50c",
    "clip_grad_norm: 0xd0a79f8d0965ef52",
    "no_clip: 0xe75a9b2f6c4ce8bc",
];

#[test]
fn the_bits_are_those_of_the_format() {
    let mut rng = Rng::new(7);
    let inputs: Vec<[Vec<f32>; 2]> = [1003, BLOCK + 37, PIECE + 3 * BLOCK + 5]
        .iter()
        .flat_map(|&n| [0, 1, 2, 3, 5].map(|kind| (n, kind)))
        .map(|(n, kind)| [(); 2].map(|()| values(&mut rng, n, kind)))
        .collect();
    let owned: Vec<Vec<f32>> = (0..21).map(|_| values(&mut rng, 300, 0)).collect();
    let before = tensors(&mut rng, &[500, 3, 77]);
    for_each_tier(|tier| {
        let mut reductions = Hash::new();
        for [x, y] in &inputs {
            reductions.add(&all(x, y));
        }
        let mut aggregation = Hash::new();
        for k in [1, 2, 5, 8, 21] {
            let buffers: Vec<&[f32]> = owned[..k].iter().map(|b| &b[..]).collect();
            let mut dst = vec![0.0; 300];
            reduce::aggregate(&mut dst, &buffers, 1.0 / 3.0);
            aggregation.add(&dst);
        }
        let mut clipped = Hash::new();
        for config in &CLIPS[..2] {
            clipped.add(&clip_step(&before, 0, *config));
        }
        let mut alone = before[0][1].clone();
        clip_grad_norm(&mut [&mut alone], 0.1).unwrap();
        let unclipped = Hash::new().add(&clip_step(&before, 0, CLIPS[2])).get();
        let hashes = [
            ("reductions", reductions.get()),
            ("aggregate", aggregation.get()),
            ("clip", clipped.get()),
            ("clip_grad_norm", Hash::new().add(&alone).get()),
            ("no_clip", unclipped),
        ];
        assert_eq!(hashes.map(|(name, hash)| format!("{name}: {hash:#018x}")), GOLDEN, "{tier}");
    });
}
