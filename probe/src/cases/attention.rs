//! Attention, causal, a head of sixteen queries. The scalar tier emulates each multiply-add, so there are few keys.

use std::hint::black_box;

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::naive::attention as naive;

use crate::check::{close, data, prepared};
use crate::{Case, Prepared};

const QUERIES: usize = 16;
const DIM: usize = 16;

/// One head, the forward, by keys.
pub(super) const FORWARD: Case = Case {
    name: "attention_fwd",
    kernel: "hotlanes::attention::forward::Forward",
    sizes: [2, 4],
    elements_per_size: QUERIES,
    element: "pair of query and key",
    gather: true,
    forced: true,
    prepare: |keys| forward(keys, Head::forward),
    twin: Some(|keys| forward(keys, Head::forward_twin)),
};

/// The same, backward.
pub(super) const BACKWARD: Case = Case {
    name: "attention_bwd",
    kernel: "hotlanes::attention::backward::Backward",
    prepare: |keys| backward(keys, Head::backward),
    twin: Some(|keys| backward(keys, Head::backward_twin)),
    ..FORWARD
};

/// A head and its gradients.
struct Head {
    attention: Attention,
    keys: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

fn shape(seq: usize) -> HeadsShape {
    HeadsShape { batch: 1, heads: 1, seq, dim: DIM }
}

impl Head {
    fn new(keys: usize) -> Self {
        Head {
            attention: Attention::new(DIM, true).expect("valid"),
            keys,
            q: data(QUERIES * DIM, 1),
            k: data(keys * DIM, 2),
            v: data(keys * DIM, 3),
            dout: data(QUERIES * DIM, 4),
            scores: vec![f32::NAN; keys],
            out: vec![f32::NAN; QUERIES * DIM],
            lse: vec![f32::NAN; QUERIES],
            dq: vec![f32::NAN; QUERIES * DIM],
            dk: vec![f32::NAN; keys * DIM],
            dv: vec![f32::NAN; keys * DIM],
        }
    }

    fn forward(&mut self) {
        let s = black_box(self);
        let [q, k, v] =
            [(&s.q, QUERIES), (&s.k, s.keys), (&s.v, s.keys)].map(|(x, n)| Heads::new(x, shape(n)));
        s.attention.forward(q, k, v, HeadsMut::new(&mut s.out, shape(QUERIES)), &mut s.lse);
    }

    fn forward_twin(&mut self) {
        let Head { keys, q, k, v, scores, out, lse, .. } = black_box(self);
        naive::attention_forward_auto(q, k, v, QUERIES, *keys, DIM, true, scores, out, lse);
    }

    fn backward(&mut self) {
        let s = black_box(self);
        let [dout, q, out] = [&s.dout, &s.q, &s.out].map(|x| Heads::new(x, shape(QUERIES)));
        let [k, v] = [&s.k, &s.v].map(|x| Heads::new(x, shape(s.keys)));
        let dq = HeadsMut::new(&mut s.dq, shape(QUERIES));
        let [dk, dv] = [&mut s.dk, &mut s.dv].map(|x| HeadsMut::new(x, shape(s.keys)));
        s.attention.backward(dout, q, k, v, out, &s.lse, dq, dk, dv);
    }

    fn backward_twin(&mut self) {
        let Head { keys, q, k, v, dout, out, lse, dq, dk, dv, .. } = black_box(self);
        naive::attention_backward_auto(dout, q, k, v, out, lse, QUERIES, *keys, DIM, true, dq, dk, dv);
    }

    /// The same head with the plain forward's results.
    fn plain_forward(&self) -> Head {
        let mut s = Head::new(self.keys);
        let Head { keys, q, k, v, scores, out, lse, .. } = &mut s;
        naive::attention_forward(q, k, v, QUERIES, *keys, DIM, true, scores, out, lse);
        s
    }
}

fn forward(keys: usize, run: impl Fn(&mut Head) + 'static) -> Box<dyn Prepared> {
    prepared(Head::new(keys), run, |s| {
        let want = s.plain_forward();
        close("out", &s.out, &want.out, 1e-5);
        close("lse", &s.lse, &want.lse, 1e-5);
    })
}

/// The backward of what the plain forward saved.
fn backward(keys: usize, run: impl Fn(&mut Head) + 'static) -> Box<dyn Prepared> {
    prepared(Head::new(keys).plain_forward(), run, |s| {
        let mut want = s.plain_forward();
        let Head { keys, q, k, v, dout, out, lse, dq, dk, dv, .. } = &mut want;
        naive::attention_backward(dout, q, k, v, out, lse, QUERIES, *keys, DIM, true, dq, dk, dv);
        close("dq", &s.dq, &want.dq, 1e-5);
        close("dk", &s.dk, &want.dk, 1e-5);
        close("dv", &s.dv, &want.dv, 1e-5);
    })
}
