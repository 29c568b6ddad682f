//! Lines of what a model is made of: norms, softmax, loss, attention, embedding, dropout, activations.

use hotlanes::activation::{self, Activation};
use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::dropout::Dropout;
use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::norm::{LayerNorm, RmsNorm};
use hotlanes::softmax::*;

use crate::{Call, Line, data};

pub const KERNELS: &[Line] = &[
    ("relu", || unary(|x, y| Activation::Relu.forward(x, y))),
    ("silu in place", || unary(|_, y| Activation::Silu.forward_in_place(y))),
    ("tanh backward in place", || unary(|x, y| Activation::Tanh.backward_in_place(y, x))),
    ("exp", || unary(activation::exp)),
    ("exp in place", || unary(|_, y| activation::exp_in_place(y))),
    ("log", || unary(activation::log)),
    ("log in place", || unary(|_, y| activation::log_in_place(y))),
    ("softmax", || unary(|x, y| softmax(x, 50, y))),
    ("softmax in place", || unary(|_, y| softmax_in_place(y, 50))),
    ("log softmax", || unary(|x, y| log_softmax(x, 50, y))),
    ("softmax backward", || unary(|x, y| softmax_backward(x, x, 50, y))),
    ("log softmax backward", || unary(|x, y| log_softmax_backward(x, x, 50, y))),
    ("cross entropy forward", || cross_entropy(Loss::Forward)),
    ("cross entropy", || cross_entropy(Loss::Both)),
    ("cross entropy in place", || cross_entropy(Loss::InPlace)),
    ("cross entropy of a linear layer", || cross_entropy(Loss::Linear)),
    ("layernorm forward add", || layernorm_add(false)),
    ("layernorm backward add", || layernorm_add(true)),
    ("rmsnorm forward", || rmsnorm(false, false)),
    ("rmsnorm forward add", || rmsnorm(false, true)),
    ("rmsnorm backward", || rmsnorm(true, false)),
    ("rmsnorm backward add", || rmsnorm(true, true)),
    ("attention forward", || attention(false)),
    ("attention backward", || attention(true)),
    ("embedding forward", || embedding(|i, _, x, y| i.forward(x, 10, y))),
    ("embedding forward with positions", || embedding(|i, _, x, y| i.forward_with_positions(x, x, 10, y))),
    ("embedding backward", || embedding(|_, plan, dy, dtable| plan.backward(dy, 10, dtable))),
    ("embedding, the next batch", || {
        embedding(|indices, plan, _, _| {
            indices.set(&[3; 30]).unwrap();
            plan.rebuild(indices);
        })
    }),
    ("dropout forward", || unary(|x, y| Dropout::new(0.3, 1).unwrap().forward(x, y, 5))),
    ("dropout backward", || unary(|x, y| Dropout::new(0.3, 1).unwrap().backward(x, y, 5))),
];

/// A thousand values in, and as many out.
fn unary(f: fn(&[f32], &mut [f32])) -> Call {
    let (x, mut y) = (data(1000), data(1000));
    Box::new(move || f(&x, &mut y))
}

#[derive(Clone, Copy)]
enum Loss {
    Forward,
    Both,
    InPlace,
    Linear,
}

/// 200 rows of 50 classes, and for the linear layer 20 features.
fn cross_entropy(what: Loss) -> Call {
    let ce = CrossEntropy::new(50, 0.1, None).unwrap();
    let labels: Vec<u32> = (0..200).map(|r| r % 50).collect();
    let [x, mut y, mut losses] = [10_000, 10_000, 200].map(data);
    let [input, mut dx, weights, mut dweights] = [4000, 4000, 1000, 1000].map(data);
    let mut scratch = data(ce.linear_scratch_len());
    let mean = Reduction::Mean;
    Box::new(move || {
        let loss = match what {
            Loss::Forward => ce.forward(&x, &labels, mean, &mut losses),
            Loss::Both => ce.forward_backward(&x, &labels, mean, &mut y, &mut losses),
            Loss::InPlace => ce.forward_backward_in_place(&mut y, &labels, mean, &mut losses),
            Loss::Linear => ce.linear_forward_backward(
                &input,
                &weights,
                &labels,
                mean,
                &mut scratch,
                &mut losses,
                &mut dx,
                &mut dweights,
            ),
        };
        assert!(loss.is_ok());
    })
}

fn layernorm_add(backward: bool) -> Call {
    let (rows, features) = (33, 100);
    let norm = LayerNorm::new(features, 1e-5).unwrap();
    let (x, gamma, mut scratch) = (data(rows * features), data(features), data(norm.scratch_len(rows)));
    let [mut h, mut y] = [(); 2].map(|()| x.clone());
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![1.0; rows]);
    let [mut dg, mut db] = [(); 2].map(|()| data(features));
    Box::new(move || {
        if backward {
            norm.backward_add(&x, &x, &x, &gamma, &mean, &rstd, &mut y, &mut dg, &mut db, &mut scratch);
        } else {
            norm.forward_add(&x, &x, &gamma, &gamma, &mut h, &mut y, &mut mean, &mut rstd);
        }
    })
}

fn rmsnorm(backward: bool, add: bool) -> Call {
    let (rows, features) = (33, 100);
    let norm = RmsNorm::new(features, 1e-5).unwrap();
    let (x, gamma, mut scratch) = (data(rows * features), data(features), data(norm.scratch_len(rows)));
    let (mut h, mut y, mut rstd, mut dg) = (x.clone(), x.clone(), vec![1.0; rows], data(features));
    Box::new(move || match (backward, add) {
        (false, false) => norm.forward(&x, &gamma, &mut y, &mut rstd),
        (false, true) => norm.forward_add(&x, &x, &gamma, &mut h, &mut y, &mut rstd),
        (true, false) => norm.backward(&x, &x, &gamma, &rstd, &mut y, &mut dg, &mut scratch),
        (true, true) => norm.backward_add(&x, &x, &x, &gamma, &rstd, &mut y, &mut dg, &mut scratch),
    })
}

/// Four heads that share two of keys.
fn attention(backward: bool) -> Call {
    let qs = HeadsShape { batch: 1, heads: 4, seq: 40, dim: 24 };
    let ks = HeadsShape { heads: 2, ..qs };
    let [q, k, v, dout] = [3840, 1920, 1920, 3840].map(data);
    let [mut out, mut lse, mut dq, mut dk, mut dv] = [3840, 160, 3840, 1920, 1920].map(data);
    let kernel = Attention::new(24, true).unwrap();
    Box::new(move || {
        let (q, k, v) = (Heads::new(&q, qs), Heads::new(&k, ks), Heads::new(&v, ks));
        if backward {
            let (dq, dk) = (HeadsMut::new(&mut dq, qs), HeadsMut::new(&mut dk, ks));
            let (dout, out, dv) = (Heads::new(&dout, qs), Heads::new(&out, qs), HeadsMut::new(&mut dv, ks));
            kernel.backward(dout, q, k, v, out, &lse, dq, dk, dv);
        } else {
            kernel.forward(q, k, v, HeadsMut::new(&mut out, qs), &mut lse);
        }
    })
}

/// Thirty positions of as many ids, ten features.
fn embedding(f: fn(&mut EmbeddingIndices, &mut EmbeddingPlan, &[f32], &mut [f32])) -> Call {
    let ids: Vec<u32> = (0..30).map(|i| i * 7 % 30).collect();
    let mut indices = EmbeddingIndices::new(&ids, 30).unwrap();
    let mut plan = EmbeddingPlan::new(&indices);
    let (x, mut y) = (data(300), data(300));
    Box::new(move || f(&mut indices, &mut plan, &x, &mut y))
}
