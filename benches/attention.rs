//! `attention_fwd/<tier>/<batch>x<heads>x<seq>x<dim>` and `attention_bwd/...`, causal, beside the naive loop (`naive`) and
//! its auto-vectorised twin (`auto`).

mod common;

use criterion::{BenchmarkId, Criterion, Throughput};
use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::naive::attention as naive;
use hotlanes::{Tier, with_tier};

/// Batch, heads, length, size of a head.
const SIZES: [(usize, usize, usize, usize); 4] =
    [(2, 8, 64, 16), (32, 8, 64, 16), (1, 2, 512, 32), (8, 12, 256, 64)];

/// What a forward and a backward read and write.
#[derive(Clone)]
struct State {
    shape: HeadsShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl State {
    fn new((batch, heads, seq, dim): (usize, usize, usize, usize)) -> Self {
        let rows = batch * heads * seq;
        let [q, k, v, dout] = [1, 2, 3, 4].map(|seed| common::data(rows * dim, seed));
        let [out, dq, dk, dv] = [(); 4].map(|()| vec![0.0; rows * dim]);
        let shape = HeadsShape { batch, heads, seq, dim };
        State { shape, q, k, v, dout, out, lse: vec![0.0; rows], dq, dk, dv }
    }

    fn read(&self) -> [Heads<'_>; 5] {
        [&self.dout, &self.q, &self.k, &self.v, &self.out].map(|x| Heads::new(x, self.shape))
    }

    fn forward(&mut self, attention: &Attention) {
        let State { shape, q, k, v, out, lse, .. } = self;
        let [q, k, v] = [q, k, v].map(|x| Heads::new(x, *shape));
        attention.forward(q, k, v, HeadsMut::new(out, *shape), lse);
    }

    fn backward(&mut self, attention: &Attention) {
        let [mut dq, mut dk, mut dv] = [&mut self.dq, &mut self.dk, &mut self.dv].map(std::mem::take);
        let [dout, q, k, v, out] = self.read();
        let [a, b, c] = [&mut dq, &mut dk, &mut dv].map(|x| HeadsMut::new(x, self.shape));
        attention.backward(dout, q, k, v, out, &self.lse, a, b, c);
        (self.dq, self.dk, self.dv) = (dq, dk, dv);
    }
}

/// A naive loop of either direction.
type Naive = fn(&mut State);

fn forward(s: &mut State) {
    let mut scores = vec![0.0; s.shape.seq];
    let HeadsShape { seq, dim, .. } = s.shape;
    naive::attention_forward(&s.q, &s.k, &s.v, seq, seq, dim, true, &mut scores, &mut s.out, &mut s.lse);
}

fn forward_auto(s: &mut State) {
    let mut scores = vec![0.0; s.shape.seq];
    let HeadsShape { seq, dim, .. } = s.shape;
    naive::attention_forward_auto(&s.q, &s.k, &s.v, seq, seq, dim, true, &mut scores, &mut s.out, &mut s.lse);
}

fn backward(s: &mut State) {
    let State { shape: HeadsShape { seq, dim, .. }, q, k, v, dout, out, lse, dq, dk, dv } = s;
    naive::attention_backward(dout, q, k, v, out, lse, *seq, *seq, *dim, true, dq, dk, dv);
}

fn backward_auto(s: &mut State) {
    let State { shape: HeadsShape { seq, dim, .. }, q, k, v, dout, out, lse, dq, dk, dv } = s;
    naive::attention_backward_auto(dout, q, k, v, out, lse, *seq, *seq, *dim, true, dq, dk, dv);
}

/// `products`: how many there are of the queries' and the keys' lengths and the head's size.
fn bench(
    c: &mut Criterion,
    name: &str,
    loops: [(&str, Naive); 2],
    kernel: fn(&mut State, &Attention),
    products: usize,
) {
    let mut group = c.benchmark_group(name);
    for size in SIZES {
        let (batch, heads, seq, dim) = size;
        let attention = Attention::new(dim, true).expect("valid");
        let id = format!("{batch}x{heads}x{seq}x{dim}");
        let pairs = batch * heads * seq * (seq + 1) / 2;
        group.throughput(Throughput::Elements((2 * products * pairs * dim) as u64));
        let mut start = State::new(size);
        forward(&mut start);
        let mut expected = start.clone();
        loops[0].1(&mut expected);
        for (naive, run) in loops {
            let mut s = start.clone();
            group.bench_function(BenchmarkId::new(naive, &id), |b| b.iter(|| run(&mut s)));
        }
        let mut same = common::SameBits::new();
        for tier in Tier::available() {
            with_tier(tier, || {
                let mut s = start.clone();
                kernel(&mut s, &attention);
                for (what, got, want) in [
                    ("out", &s.out, &expected.out),
                    ("lse", &s.lse, &expected.lse),
                    ("dq", &s.dq, &expected.dq),
                    ("dk", &s.dk, &expected.dk),
                    ("dv", &s.dv, &expected.dv),
                ] {
                    common::check(&format!("{name} {what}"), tier.name(), got, want, 1e-5);
                }
                same.check(name, tier, &[&s.out, &s.lse, &s.dq, &s.dk, &s.dv]);
                group.bench_function(BenchmarkId::new(tier.name(), &id), |b| {
                    b.iter(|| kernel(&mut s, &attention))
                });
            })
            .expect("the tier is one of the available");
        }
    }
    group.finish();
}

fn main() {
    let mut c = common::criterion();
    bench(&mut c, "attention_fwd", [("naive", forward), ("auto", forward_auto)], State::forward, 2);
    bench(&mut c, "attention_bwd", [("naive", backward), ("auto", backward_auto)], State::backward, 5);
    c.final_summary();
}
