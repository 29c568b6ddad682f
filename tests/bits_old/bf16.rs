//! bf16: the same bits on every tier, at every offset, and for every number of threads.

use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::tuning::{ADAMW_PARALLEL, ADAMW_PIECE};
use hotlanes::{LANES, bf16};

use crate::common::{Guarded, Hash, Rng, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

/// A slice of u16 inside a larger buffer, so that what is written beside it is found.
struct Halves {
    buffer: Vec<u16>,
    start: usize,
    len: usize,
}

impl Halves {
    const GUARD: usize = 4 * LANES;
    const WORD: u16 = 0x7FA5;

    fn new(offset: usize, values: &[u16]) -> Self {
        let (start, len) = (Self::GUARD + offset, values.len());
        let mut buffer = vec![Self::WORD; start + len + Self::GUARD];
        buffer[start..start + len].copy_from_slice(values);
        Halves { buffer, start, len }
    }

    fn get(&self) -> &[u16] {
        &self.buffer[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [u16] {
        &mut self.buffer[self.start..][..self.len]
    }

    #[track_caller]
    fn assert_guards(&self, what: &str) {
        let end = self.start + self.len;
        let beside = self.buffer[..self.start].iter().chain(&self.buffer[end..]);
        assert!(beside.into_iter().all(|&w| w == Self::WORD), "{what}: wrote beside a slice of {}", self.len);
    }
}

/// As f32, for the hash and comparisons.
fn wide(halves: &[u16]) -> Vec<f32> {
    halves.iter().map(|&h| f32::from(h)).collect()
}

fn values(rng: &mut Rng, n: usize) -> Vec<f32> {
    rng.vec(n, |rng| if rng.below(8) == 0 { rng.any() } else { rng.spread(-8, 4) })
}

/// Half, widened half, high, low, joined.
fn convert(x: &[f32], offset: usize) -> [Vec<f32>; 5] {
    let n = x.len();
    let what = format!("{n} at offset {offset}");
    let from = Guarded::new(offset, x);
    let nan = vec![f32::NAN; n];
    let (mut wider, mut joined) = (Guarded::new(offset + 1, &nan), Guarded::new(offset + 2, &nan));
    let mut halves = [3, 4, 5].map(|k| Halves::new((offset + k) % 17, &vec![7; n]));
    let [half, high, low] = &mut halves;
    bf16::from_f32(from.get(), half.get_mut());
    bf16::to_f32(half.get(), wider.get_mut());
    bf16::split(from.get(), high.get_mut(), low.get_mut());
    bf16::join(high.get(), low.get(), joined.get_mut());
    for slice in [&from, &wider, &joined] {
        slice.assert_guards(&what);
    }
    for slice in &halves {
        slice.assert_guards(&what);
    }
    let [half, high, low] = halves.each_ref().map(|h| wide(h.get()));
    [half, wider.get().to_vec(), high, low, joined.get().to_vec()]
}

/// Parameters, their halves, and the moments of a step on a tensor.
struct Tensor {
    param: Vec<f32>,
    grad: Vec<f32>,
    half: Vec<u16>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Tensor {
    fn random(rng: &mut Rng, n: usize) -> Self {
        let grad = rng.vec(n, |rng| rng.spread(-20, 2));
        let mut half = vec![0; n];
        bf16::from_f32(&grad, &mut half);
        let param = rng.vec(n, |rng| rng.spread(-8, 4));
        let (m, v) = (rng.vec(n, |rng| rng.spread(-20, 0)), rng.vec(n, |rng| rng.spread(-30, 0).abs()));
        Tensor { param, grad, half, m, v }
    }

    /// Parameter, m and v of the step in f32.
    fn plain(&self) -> [Vec<f32>; 3] {
        let (mut param, mut m, mut v) = (self.param.clone(), self.m.clone(), self.v.clone());
        let tensor = AdamWTensor { param: &mut param, grad: &self.grad, m: &mut m, v: &mut v, v_max: None };
        AdamW::new(AdamWConfig::default()).unwrap().at(3).unwrap().update(tensor);
        [param, m, v]
    }

    /// The same, kept in one of two ways, from the gradient in f32 or bf16.
    fn run(&self, split: bool, half: bool, offset: usize) -> [Vec<f32>; 3] {
        let n = self.param.len();
        let what = format!("{n} at offset {offset}, split {split}, half {half}");
        let (mut high, mut low) = (vec![0; n], vec![0; n]);
        bf16::split(&self.param, &mut high, &mut low);
        let (mut high, mut low) = (Halves::new(offset, &high), Halves::new((offset + 5) % 17, &low));
        let mut floats =
            [&self.param, &self.grad, &self.m, &self.v].map(|x| Guarded::new((offset + 2) % 17, x));
        let grad_half = Halves::new((offset + 7) % 17, &self.half);
        let [param, grad, m, v] = &mut floats;
        let tensor = Bf16Tensor {
            param: if split {
                Bf16Param::Split { high: high.get_mut(), low: low.get_mut() }
            } else {
                Bf16Param::Copy { param: param.get_mut(), copy: high.get_mut() }
            },
            grad: if half { Gradient::Bf16(grad_half.get()) } else { Gradient::F32(grad.get()) },
            m: m.get_mut(),
            v: v.get_mut(),
        };
        AdamW::new(AdamWConfig::default()).unwrap().at(3).unwrap().update_bf16(tensor);
        let mut result = floats[0].get().to_vec();
        if split {
            bf16::join(high.get(), low.get(), &mut result);
        } else {
            let mut copy = vec![0; n];
            bf16::from_f32(&result, &mut copy);
            assert_eq!(high.get(), copy, "{what}");
        }
        for slice in [high, low, grad_half] {
            slice.assert_guards(&what);
        }
        for slice in &floats {
            slice.assert_guards(&what);
        }
        [result, floats[2].get().to_vec(), floats[3].get().to_vec()]
    }
}

#[test]
fn every_length_at_every_offset() {
    let mut rng = Rng::new(1);
    let lengths = if cfg!(miri) { vec![1, 17, 33] } else { (0..=2 * LANES + 1).chain([63, 130]).collect() };
    for n in lengths {
        let x = values(&mut rng, n);
        let mut tensor = Tensor::random(&mut rng, n);
        let mut first = None;
        for half in [false, true] {
            if half {
                bf16::to_f32(&tensor.half, &mut tensor.grad);
            }
            let want = tensor.plain();
            for_each_tier(|tier| {
                for offset in offsets().step_by(4) {
                    let got = convert(&x, offset);
                    let converted = first.get_or_insert_with(|| got.clone());
                    for (got, want) in got.iter().zip(converted.iter()) {
                        assert_same(got, want, format!("{tier}, {n} at offset {offset}"));
                    }
                    for split in [false, true] {
                        for (got, want) in tensor.run(split, half, offset).iter().zip(&want) {
                            assert_same(got, want, format!("{tier}, {n} at {offset}, {split}, {half}"));
                        }
                    }
                }
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(2);
    for n in [ADAMW_PARALLEL - 1, ADAMW_PARALLEL + ADAMW_PIECE / 2 + 7] {
        let mut tensor = Tensor::random(&mut rng, n);
        bf16::to_f32(&tensor.half, &mut tensor.grad);
        let want = tensor.plain();
        on_pools(|threads| {
            for split in [false, true] {
                for (got, want) in tensor.run(split, split, 0).iter().zip(&want) {
                    assert_same(got, want, format!("{threads} threads, {n}, split {split}"));
                }
            }
        });
    }
}

/// The hash that every machine must find. A change that moves it is a decision for CHANGELOG.md.
const GOLDEN: u64 = 0x5575_EF75_303E_7444;

#[test]
fn the_hash_is_golden() {
    let mut rng = Rng::new(3);
    let x = values(&mut rng, 1003);
    let tensor = Tensor::random(&mut rng, 1003);
    for_each_tier(|tier| {
        let mut hash = Hash::new();
        for output in convert(&x, 0) {
            hash.add(&output);
        }
        for (split, half) in [(false, false), (false, true), (true, false), (true, true)] {
            for output in tensor.run(split, half, 0) {
                hash.add(&output);
            }
        }
        assert_eq!(format!("{:#018x}", hash.get()), format!("{GOLDEN:#018x}"), "{tier}");
    });
}
