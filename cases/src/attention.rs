//! Attention, causal and full, with as many heads of keys as of queries or fewer, forward and backward.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::naive::attention as naive;
use hotlanes::tuning::ATTENTION_PARALLEL;

use crate::memory::{Buf, Memory, Place};
use crate::run::{Output, Plain, Run, Work, instance};
use crate::sizes::{Size, dims};
use crate::{Bits, Case, Counted, Threads, Timed};

pub(crate) const CASES: &[Case] = &[
    FORWARD,
    BACKWARD,
    // Few keys: whole heads are one block.
    Case {
        id: "attention_fwd_full",
        build: |size, m| forward(size, m, false),
        counted: Counted::Not("the loop of attention_fwd"),
        timed: FULL,
        ..FORWARD
    },
    Case {
        id: "attention_bwd_full",
        build: |size, m| backward(size, m, false),
        counted: Counted::Not("the loop of attention_bwd"),
        timed: FULL,
        ..BACKWARD
    },
];

const FULL: Timed = Timed::At { report: &[], full: &[], bench: &[&[8, 12, 12, 256, 256, 64]] };

/// Causal; sizes are batch, heads, heads of keys, queries, keys, values of a head.
const FORWARD: Case = Case {
    id: "attention_fwd",
    covers: &["attention::Attention::forward"],
    kernel: "hotlanes::attention::forward::Forward",
    build: |size, m| forward(size, m, true),
    label: |size| format!("{}x{}x{}x{}", size[0], size[1], size[3], size[5]),
    bits: Bits::At { sizes: shapes, random: &[(1, 2), (1, 2), (1, 1), (1, 70), (1, 80), (1, 40)] },
    threads: Threads::From {
        // Of one head, since a call of several is cut at once.
        below: &[1, 1, 1, 32, 32, 16],
        at: &[
            &[2, 8, 4, 64, 64, 16],
            &[1, 3, 3, 129, 130, 40],
            &[1, 1, 1, 256, ATTENTION_PARALLEL / 1024, 16],
        ],
    },
    same_as: None,
    // The scalar tier emulates each multiply-add, so there are few keys.
    counted: Counted::At {
        sizes: [&[1, 1, 1, 16, 2, 16], &[1, 1, 1, 16, 4, 16]],
        elements: |size| size[3] * size[4],
        element: "pair of query and key",
    },
    timed: Timed::At {
        report: &[&[32, 8, 8, 64, 64, 16], &[8, 12, 12, 256, 256, 64]],
        full: &[],
        bench: &[&[1, 8, 2, 1, 512, 64]],
    },
    twin: true,
    gather: true,
    forced: true,
    scalar_stepped: false,
};

const BACKWARD: Case = Case {
    id: "attention_bwd",
    covers: &["attention::Attention::backward"],
    kernel: "hotlanes::attention::backward::Backward",
    build: |size, m| backward(size, m, true),
    timed: Timed::At {
        report: &[&[32, 8, 8, 64, 64, 16], &[8, 12, 12, 256, 256, 64]],
        full: &[],
        bench: &[],
    },
    ..FORWARD
};

/// Around blocks of queries and of keys, and around vectors of a head's values.
fn shapes() -> Vec<Size> {
    let one = [
        [1, 1, 1],
        [1, 16, 2],
        [15, 15, 16],
        [16, 17, 15],
        [17, 16, 17],
        [63, 64, 8],
        [64, 65, 16],
        [65, 63, 33],
    ];
    let mut all: Vec<Size> = one.iter().map(|[q, k, d]| vec![1, 1, 1, *q, *k, *d]).collect();
    all.extend(
        [[2, 2, 2, 5, 5, 3], [1, 4, 2, 18, 18, 20], [2, 3, 1, 33, 33, 16], [1, 1, 1, 3, 130, 64]]
            .map(Vec::from),
    );
    all.extend(
        [[1, 1, 1, 20, 20, 128], [0, 2, 1, 3, 3, 4], [1, 2, 2, 0, 3, 4], [1, 1, 1, 129, 70, 5]]
            .map(Vec::from),
    );
    all
}

#[derive(Clone, Copy)]
struct Shape {
    q: HeadsShape,
    k: HeadsShape,
    causal: bool,
}

impl Shape {
    fn new(size: &[usize], causal: bool) -> Self {
        let [batch, heads, key_heads, queries, keys, dim] = dims(size);
        let q = HeadsShape { batch, heads, seq: queries, dim };
        Shape { q, k: HeadsShape { heads: key_heads, seq: keys, ..q }, causal }
    }

    fn attention(&self) -> Attention {
        Attention::new(self.q.dim, self.causal).expect("valid")
    }

    /// Multiplications and additions of one product of queries and keys: where causal half of the keys are seen.
    fn flops(&self) -> f64 {
        let pairs = if self.causal { self.q.seq * (self.q.seq + 1) / 2 } else { self.q.seq * self.k.seq };
        2.0 * (self.q.batch * self.q.heads * pairs * self.q.dim) as f64
    }
}

fn len(s: HeadsShape) -> usize {
    s.batch * s.heads * s.seq * s.dim
}

struct State {
    shape: Shape,
    q: Buf,
    k: Buf,
    v: Buf,
    scores: Buf,
    out: Buf,
    lse: Buf,
}

impl State {
    fn new(shape: Shape, m: &Memory) -> Self {
        State {
            shape,
            q: m.input(len(shape.q), 1),
            k: m.input(len(shape.k), 2),
            v: m.input(len(shape.k), 3),
            scores: m.output(shape.k.seq),
            out: m.output(len(shape.q)),
            lse: m.output(shape.q.batch * shape.q.heads * shape.q.seq),
        }
    }

    fn forward(&mut self) {
        let State { shape, q, k, v, out, lse, .. } = self;
        let [k, v] = [k, v].map(|x| Heads::new(x, shape.k));
        shape.attention().forward(Heads::new(q, shape.q), k, v, HeadsMut::new(out, shape.q), lse);
    }

    fn plain(&mut self, which: Plain) {
        let State { shape: Shape { q: HeadsShape { seq, dim, heads, batch }, k: keys, causal }, .. } = *self;
        let State { q, k, v, scores, out, lse, .. } = self;
        let f = if which == Plain::Auto { naive::attention_forward_auto } else { naive::attention_forward };
        if heads == keys.heads {
            return f(q, k, v, seq, keys.seq, dim, causal, scores, out, lse);
        }
        // Head by head: the plain loop knows no groups.
        for h in 0..batch * heads {
            let key_head = h / heads * keys.heads + h % heads / (heads / keys.heads);
            let (at, of) = (seq * dim, keys.seq * dim);
            let (k, v) = (&k[key_head * of..][..of], &v[key_head * of..][..of]);
            let (out, lse) = (&mut out[h * at..][..at], &mut lse[h * seq..][..seq]);
            f(&q[h * at..][..at], k, v, seq, keys.seq, dim, causal, scores, out, lse);
        }
    }
}

fn forward(size: &[usize], m: &Memory, causal: bool) -> Box<dyn Run> {
    let shape = Shape::new(size, causal);
    let bytes = 4 * len(shape.q);
    // As in the PyTorch script: the two products.
    let flops = 2.0 * shape.flops();
    let sweep = Work::sweep(bytes + 8 * len(shape.k), bytes, flops);
    instance(
        State::new(shape, m),
        Work { items: flops, unit: "GFLOP/s", ..sweep },
        State::forward,
        State::plain,
        |s| vec![Output::rows("out", &mut s.out, 1e-5), Output::rows("lse", &mut s.lse, 1e-5)],
    )
}

struct Gradients {
    saved: State,
    dout: Buf,
    dq: Buf,
    dk: Buf,
    dv: Buf,
}

fn backward(size: &[usize], m: &Memory, causal: bool) -> Box<dyn Run> {
    let shape = Shape::new(size, causal);
    let mut first = State::new(shape, &Memory::new(Place::Aligned, m.values()));
    first.forward();
    let saved = State { out: m.copy(&first.out), lse: m.copy(&first.lse), ..State::new(shape, m) };
    let (of_q, of_k) = (len(shape.q), len(shape.k));
    let state = Gradients {
        saved,
        dout: m.input(of_q, 4),
        dq: m.output(of_q),
        dk: m.output(of_k),
        dv: m.output(of_k),
    };
    // As in the PyTorch script: the five products.
    let flops = 5.0 * shape.flops();
    let sweep = Work::sweep(4 * (3 * of_q + 2 * of_k), 4 * (of_q + 2 * of_k), flops);
    instance(
        state,
        Work { items: flops, unit: "GFLOP/s", ..sweep },
        move |s| {
            let Gradients { saved: f, dout, dq, dk, dv } = s;
            let [dout, q, out] = [&*dout, &f.q, &f.out].map(|x| Heads::new(x, shape.q));
            let [k, v] = [&f.k, &f.v].map(|x| Heads::new(x, shape.k));
            let [dk, dv] = [dk, dv].map(|x| HeadsMut::new(x, shape.k));
            shape.attention().backward(dout, q, k, v, out, &f.lse, HeadsMut::new(dq, shape.q), dk, dv);
        },
        move |s, which| {
            let Gradients { saved: f, dout, dq, dk, dv } = s;
            let (HeadsShape { seq, dim, heads, batch }, keys) = (shape.q, shape.k);
            let run =
                if which == Plain::Auto { naive::attention_backward_auto } else { naive::attention_backward };
            if heads == keys.heads {
                return run(dout, &f.q, &f.k, &f.v, &f.out, &f.lse, seq, keys.seq, dim, causal, dq, dk, dv);
            }
            dk.fill(0.0);
            dv.fill(0.0);
            let (at, of) = (seq * dim, keys.seq * dim);
            for h in 0..batch * heads {
                let key_head = h / heads * keys.heads + h % heads / (heads / keys.heads);
                let (k, v) = (&f.k[key_head * of..][..of], &f.v[key_head * of..][..of]);
                let (mut dk1, mut dv1) = (vec![0.0; of], vec![0.0; of]);
                let (q, out, lse) = (&f.q[h * at..][..at], &f.out[h * at..][..at], &f.lse[h * seq..][..seq]);
                let (dout, dq) = (&dout[h * at..][..at], &mut dq[h * at..][..at]);
                run(dout, q, k, v, out, lse, seq, keys.seq, dim, causal, dq, &mut dk1, &mut dv1);
                for (to, from) in [(&mut *dk, dk1), (&mut *dv, dv1)] {
                    to[key_head * of..][..of].iter_mut().zip(from).for_each(|(to, x)| *to += x);
                }
            }
        },
        |s| {
            vec![
                Output::rows("dq", &mut s.dq, 1e-4),
                Output::rows("dk", &mut s.dk, 1e-4),
                Output::rows("dv", &mut s.dv, 1e-4),
            ]
        },
    )
}
