//! Lines of what a step of training is made of: optimizers, clipping, reductions, bf16.

use hotlanes::adafactor::{Adafactor, AdafactorConfig, AdafactorTensor, SecondMoment};
use hotlanes::adafactor::{scratch_len_matrix, scratch_len_vector};
use hotlanes::adamw::{AdamW, AdamWConfig, AdamWTensor, Bf16Param, Bf16Tensor, Gradient};
use hotlanes::clip::{Clip, ClipConfig, clip_grad_norm};
use hotlanes::lion::{Lion, LionConfig, LionTensor};
use hotlanes::matmul::{Mat, MatMut, Packed, matmul};
use hotlanes::muon::{Muon, MuonConfig, MuonTensor};
use hotlanes::sgd::{Sgd, SgdConfig, SgdTensor};
use hotlanes::{bf16, reduce};

use crate::{Call, Line, data};

pub const KERNELS: &[Line] = &[
    ("sgd", || sgd(0.0)),
    ("sgd momentum, many", || sgd(0.9)),
    ("lion", || lion(false)),
    ("lion many", || lion(true)),
    ("adafactor of a matrix", || adafactor(true)),
    ("adafactor of a vector", || adafactor(false)),
    ("muon, wide", || muon(20, 50)),
    ("muon, tall", || muon(50, 20)),
    ("adamw bf16, a copy", || adamw_bf16(false, false)),
    ("adamw bf16, a copy, gradient in bf16", || adamw_bf16(false, true)),
    ("adamw bf16, split", || adamw_bf16(true, false)),
    ("adamw bf16, split, gradient in bf16", || adamw_bf16(true, true)),
    ("clip", clip),
    ("clip_grad_norm", || {
        let (mut a, mut b) = (data(1000), data(77));
        Box::new(move || assert!(clip_grad_norm(&mut [&mut a, &mut b], 1e-3).is_ok()))
    }),
    ("clip with adamw", clip_adamw),
    ("reduce sum", || reduction(reduce::sum)),
    ("reduce dot", || reduction(|x| reduce::dot(x, x))),
    ("reduce norm", || reduction(reduce::norm)),
    ("reduce mean_var", || reduction(|x| reduce::mean_var(x).mean)),
    ("reduce max", || reduction(reduce::max)),
    ("reduce aggregate", || {
        let (x, mut y) = (data(1000), data(1000));
        Box::new(move || reduce::aggregate(&mut y, &[&x, &x, &x], 0.5))
    }),
    ("bf16 from_f32", || bf16_call(|x, high, _, _| bf16::from_f32(x, high))),
    ("bf16 to_f32", || bf16_call(|_, high, _, y| bf16::to_f32(high, y))),
    ("bf16 split", || bf16_call(|x, high, low, _| bf16::split(x, high, low))),
    ("bf16 join", || bf16_call(|_, high, low, y| bf16::join(high, low, y))),
    ("matmul bf16", || product_bf16(13, 50)),
    ("matmul bf16, both packed", || product_bf16(50, 150)),
    ("matmul pack bf16", || {
        let (b, mut packed) = (vec![0x3F80; 1500], Packed::new(30, 50));
        Box::new(move || packed.pack(Mat::new(&b, 50, 30).t()))
    }),
];

fn sgd(momentum: f64) -> Call {
    let config = SgdConfig { momentum, nesterov: momentum > 0.0, weight_decay: 0.1, ..Default::default() };
    let step = Sgd::new(config).unwrap().at(2).unwrap();
    let (mut param, grad, mut buffer) = (data(1000), data(1000), data(1000));
    Box::new(move || {
        let buffer = if momentum > 0.0 { &mut buffer[..] } else { &mut [] };
        let tensor = SgdTensor { param: &mut param, grad: &grad, buffer };
        if momentum > 0.0 {
            step.update_many(&mut [tensor]);
        } else {
            step.update(tensor);
        }
    })
}

fn lion(many: bool) -> Call {
    let step = Lion::new(LionConfig::default()).unwrap().step();
    let (mut param, grad, mut m) = (data(1000), data(1000), data(1000));
    Box::new(move || {
        let tensor = LionTensor { param: &mut param, grad: &grad, m: &mut m };
        if many {
            step.update_many(&mut [tensor]);
        } else {
            step.update(tensor);
        }
    })
}

fn adafactor(matrix: bool) -> Call {
    let step = Adafactor::new(AdafactorConfig::default()).unwrap().at(1).unwrap();
    let (mut param, grad) = (data(1000), data(1000));
    let [mut row, mut col, mut v] = [20, 50, 1000].map(|n| vec![0.0; n]);
    let mut scratch = data(if matrix { scratch_len_matrix(20, 50) } else { scratch_len_vector(1000) });
    Box::new(move || {
        let moment = if matrix {
            SecondMoment::Factored { row: &mut row, col: &mut col }
        } else {
            SecondMoment::Unfactored { v: &mut v }
        };
        // Of many it is the same call for each.
        step.update_many(&mut [AdafactorTensor { param: &mut param, grad: &grad, moment }], &mut scratch);
    })
}

fn muon(rows: usize, cols: usize) -> Call {
    let muon = Muon::new(MuonConfig::default()).unwrap();
    let (mut param, grad, mut buffer) = (data(1000), data(1000), vec![0.0; 1000]);
    let mut scratch = data(muon.scratch_len(rows, cols));
    Box::new(move || {
        let tensor = MuonTensor { rows, cols, param: &mut param, grad: &grad, buffer: &mut buffer };
        muon.update(tensor, &mut scratch);
    })
}

fn adamw_bf16(split: bool, half_gradient: bool) -> Call {
    let step = AdamW::new(AdamWConfig::default()).unwrap().at(1).unwrap();
    let (mut master, grad, half) = (data(1000), data(1000), vec![0x3F80; 1000]);
    let ([mut m, mut v], [mut high, mut low]) =
        ([(); 2].map(|()| vec![0.0; 1000]), [(); 2].map(|()| vec![0x3F80; 1000]));
    Box::new(move || {
        let param = if split {
            Bf16Param::Split { high: &mut high, low: &mut low }
        } else {
            Bf16Param::Copy { param: &mut master, copy: &mut high }
        };
        let grad = if half_gradient { Gradient::Bf16(&half) } else { Gradient::F32(&grad) };
        step.update_bf16(Bf16Tensor { param, grad, m: &mut m, v: &mut v });
    })
}

fn clip() -> Call {
    let clip = Clip::new(ClipConfig { max_norm: 1e-3, grad_scale: 2.0 }).unwrap();
    let (mut a, mut b) = (data(1000), data(77));
    Box::new(move || assert!(!clip.clip(&mut [&mut a, &mut b]).skipped))
}

fn clip_adamw() -> Call {
    let clip = Clip::new(ClipConfig { max_norm: 1e-3, grad_scale: 2.0 }).unwrap();
    let step = AdamW::new(AdamWConfig::default()).unwrap().at(1).unwrap();
    let (mut param, grad) = (data(1000), data(1000));
    let [mut m, mut v] = [(); 2].map(|()| vec![0.0; 1000]);
    Box::new(move || {
        let tensor = AdamWTensor { param: &mut param, grad: &grad, m: &mut m, v: &mut v, v_max: None };
        assert!(!clip.step(&step, &mut [tensor]).skipped);
    })
}

fn reduction(f: fn(&[f32]) -> f32) -> Call {
    // More than one block.
    let x = data(10_000);
    Box::new(move || assert!(f(&x).is_finite()))
}

#[allow(clippy::type_complexity)]
fn bf16_call(f: fn(&[f32], &mut [u16], &mut [u16], &mut [f32])) -> Call {
    let (x, mut high, mut low, mut y) = (data(1000), vec![0x3F80; 1000], vec![0; 1000], data(1000));
    Box::new(move || f(&x, &mut high, &mut low, &mut y))
}

fn product_bf16(m: usize, n: usize) -> Call {
    let k = 300;
    let (a, b, mut c) = (vec![0x3F80u16; m * k], vec![0x3F80u16; k * n], data(m * n));
    Box::new(move || matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), MatMut::new(&mut c, m, n)))
}
