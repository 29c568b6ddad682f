//! Causal attention, forward and backward.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::naive::attention as naive;

use super::{Case, Output, Plain, Row, Work};
use crate::report::buffer::Buffer;

/// The report's rows.
pub fn rows() -> Vec<Row> {
    let sizes = [(true, 32, 8, 64, 16), (true, 8, 12, 256, 64)];
    let shape = |batch, heads, seq, dim| HeadsShape { batch, heads, seq, dim };
    let name = |s: HeadsShape| format!("{}x{}x{}x{}", s.batch, s.heads, s.seq, s.dim);
    let sizes = sizes.map(|(default, b, h, t, d)| (default, shape(b, h, t, d)));
    let forward = sizes.map(|(d, s)| Row::new("attention_fwd", name(s), d, move || Forward::new(s)));
    let backward = sizes.map(|(d, s)| Row::new("attention_bwd", name(s), d, move || Backward::new(s)));
    forward.into_iter().chain(backward).collect()
}

/// The forward; each runner overwrites the same outputs.
pub struct Forward {
    attention: Attention,
    shape: HeadsShape,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    scores: Buffer,
    out: Buffer,
    lse: Buffer,
}

impl Forward {
    /// Causal, with as many heads of keys as of queries.
    pub fn new(shape: HeadsShape) -> Self {
        let rows = shape.batch * shape.heads * shape.seq;
        let size = rows * shape.dim;
        Forward {
            attention: Attention::new(shape.dim, true).expect("in range"),
            shape,
            q: Buffer::random(size, 1),
            k: Buffer::random(size, 2),
            v: Buffer::random(size, 3),
            scores: Buffer::zeros(shape.seq),
            out: Buffer::zeros(size),
            lse: Buffer::zeros(rows),
        }
    }
}

/// Multiplications and additions of one product of queries and keys: half of the keys are seen.
fn flops(s: HeadsShape) -> f64 {
    2.0 * (s.batch * s.heads * s.seq * (s.seq + 1) / 2 * s.dim) as f64
}

impl Case for Forward {
    fn work(&self) -> Work {
        let bytes = 4 * self.q.len();
        Work {
            // As in the PyTorch script: the two products.
            items: 2.0 * flops(self.shape),
            unit: "GFLOP/s",
            read: 3.0 * bytes as f64,
            written: bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: 2.0 * flops(self.shape),
            roots: 0.0,
            working_set: 4 * bytes,
        }
    }

    fn reset(&mut self) {
        self.out.fill(f32::NAN);
        self.lse.fill(f32::NAN);
    }

    fn run(&mut self) {
        let Forward { attention, shape, q, k, v, out, lse, .. } = self;
        let [q, k, v] = [q, k, v].map(|x| Heads::new(x, *shape));
        attention.forward(q, k, v, HeadsMut::new(out, *shape), lse);
    }

    fn run_plain(&mut self, which: Plain) {
        let f = if which == Plain::Naive { naive::attention_forward } else { naive::attention_forward_auto };
        let Forward { shape: HeadsShape { seq, dim, .. }, q, k, v, scores, out, lse, .. } = self;
        f(q, k, v, *seq, *seq, *dim, true, scores, out, lse);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![Output::new("out", &self.out, 1e-5), Output::new("lse", &self.lse, 1e-5)]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}

/// The backward; each runner overwrites the same outputs.
pub struct Backward {
    forward: Forward,
    dout: Buffer,
    dq: Buffer,
    dk: Buffer,
    dv: Buffer,
}

impl Backward {
    /// As [`Forward::new`].
    pub fn new(shape: HeadsShape) -> Self {
        let mut forward = Forward::new(shape);
        forward.run();
        let size = forward.q.len();
        Backward {
            forward,
            dout: Buffer::random(size, 4),
            dq: Buffer::zeros(size),
            dk: Buffer::zeros(size),
            dv: Buffer::zeros(size),
        }
    }
}

impl Case for Backward {
    fn work(&self) -> Work {
        let bytes = 4 * self.dq.len();
        Work {
            // As in the PyTorch script: the five products.
            items: 5.0 * flops(self.forward.shape),
            unit: "GFLOP/s",
            read: 5.0 * bytes as f64,
            written: 3.0 * bytes as f64,
            in_place: false,
            repeated: 0.0,
            repeated_set: 0,
            flops: 5.0 * flops(self.forward.shape),
            roots: 0.0,
            working_set: 8 * bytes,
        }
    }

    fn reset(&mut self) {
        for buffer in [&mut self.dq, &mut self.dk, &mut self.dv] {
            buffer.fill(f32::NAN);
        }
    }

    fn run(&mut self) {
        let Backward { forward: f, dout, dq, dk, dv } = self;
        let shape = f.shape;
        let [dout, q, k, v, out] = [dout, &f.q, &f.k, &f.v, &f.out].map(|x| Heads::new(x, shape));
        let [dq, dk, dv] = [dq, dk, dv].map(|x| HeadsMut::new(x, shape));
        f.attention.backward(dout, q, k, v, out, &f.lse, dq, dk, dv);
    }

    fn run_plain(&mut self, which: Plain) {
        let run =
            if which == Plain::Naive { naive::attention_backward } else { naive::attention_backward_auto };
        let Backward { forward: f, dout, dq, dk, dv } = self;
        let HeadsShape { seq, dim, .. } = f.shape;
        run(dout, &f.q, &f.k, &f.v, &f.out, &f.lse, seq, seq, dim, true, dq, dk, dv);
    }

    fn outputs(&self) -> Vec<Output<'_>> {
        vec![
            Output::new("dq", &self.dq, 1e-4),
            Output::new("dk", &self.dk, 1e-4),
            Output::new("dv", &self.dv, 1e-4),
        ]
    }

    fn plain_outputs(&self) -> Vec<Output<'_>> {
        self.outputs()
    }
}
