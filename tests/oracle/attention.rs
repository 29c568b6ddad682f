//! Attention against the formulas of its documentation, in f64.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape, Strides};

use crate::common::{Rng, for_each_tier};

/// Half the distance from 1 to the next f32.
const U: f64 = 1.0 / (1 << 24) as f64;

#[derive(Clone)]
pub struct Inputs {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub dim: usize,
    pub causal: bool,
    pub scale: f32,
    /// `[batch][heads][seq][dim]`, as all of them.
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub dout: Vec<f32>,
}

/// What the forward and the backward gave; or what they should have, or by how much they may be off.
#[derive(Clone, Default)]
pub struct Results<T> {
    pub out: Vec<T>,
    pub lse: Vec<T>,
    pub dq: Vec<T>,
    pub dk: Vec<T>,
    pub dv: Vec<T>,
}

impl<T> Results<T> {
    pub fn named(&self) -> [(&'static str, &Vec<T>); 5] {
        [("out", &self.out), ("lse", &self.lse), ("dq", &self.dq), ("dk", &self.dk), ("dv", &self.dv)]
    }
}

impl Inputs {
    /// Values of modulus about `size`; the default scale.
    pub fn random(
        rng: &mut Rng,
        [batch, heads, kv_heads, queries, keys, dim]: [usize; 6],
        causal: bool,
        size: f32,
    ) -> Self {
        let nq = batch * heads * queries * dim;
        let nk = batch * kv_heads * keys * dim;
        let [q, k, v, dout] = [nq, nk, nk, nq].map(|n| rng.vec(n, |rng| size * rng.normal()));
        let scale = (1.0 / (dim as f64).sqrt()) as f32;
        Inputs { batch, heads, kv_heads, queries, keys, dim, causal, scale, q, k, v, dout }
    }

    pub fn q_shape(&self) -> HeadsShape {
        HeadsShape { batch: self.batch, heads: self.heads, seq: self.queries, dim: self.dim }
    }

    pub fn k_shape(&self) -> HeadsShape {
        HeadsShape { batch: self.batch, heads: self.kv_heads, seq: self.keys, dim: self.dim }
    }

    pub fn kernel(&self) -> Attention {
        Attention::new(self.dim, self.causal).unwrap().with_scale(self.scale as f64).unwrap()
    }

    pub fn run(&self) -> Results<f32> {
        let (nq, nk) = (self.q.len(), self.k.len());
        let mut r = Results {
            out: vec![f32::NAN; nq],
            lse: vec![f32::NAN; self.batch * self.heads * self.queries],
            dq: vec![f32::NAN; nq],
            dk: vec![f32::NAN; nk],
            dv: vec![f32::NAN; nk],
        };
        let (kernel, qs, ks) = (self.kernel(), self.q_shape(), self.k_shape());
        let (q, k, v) = (Heads::new(&self.q, qs), Heads::new(&self.k, ks), Heads::new(&self.v, ks));
        kernel.forward(q, k, v, HeadsMut::new(&mut r.out, qs), &mut r.lse);
        let (dout, out) = (Heads::new(&self.dout, qs), Heads::new(&r.out, qs));
        let dq = HeadsMut::new(&mut r.dq, qs);
        let (dk, dv) = (HeadsMut::new(&mut r.dk, ks), HeadsMut::new(&mut r.dv, ks));
        kernel.backward(dout, q, k, v, out, &r.lse, dq, dk, dv);
        r
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_abs(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

fn add(sum: &mut [f64], factor: f64, x: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

fn add_abs(sum: &mut [f64], factor: f64, x: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += (factor * x).abs();
    }
}

/// What is right, and by how much each value may be off: the documentation's bounds.
fn oracle(i: &Inputs) -> (Results<f64>, Results<f64>) {
    let (n, keys, scale) = (i.dim, i.keys, i.scale as f64);
    let (q, k, v, dout) = (wide(&i.q), wide(&i.k), wide(&i.v), wide(&i.dout));
    let zeros = || Results {
        out: vec![0.0; q.len()],
        lse: vec![f64::NEG_INFINITY; i.batch * i.heads * i.queries],
        dq: vec![0.0; q.len()],
        dk: vec![0.0; k.len()],
        dv: vec![0.0; k.len()],
    };
    let (mut r, mut bound) = (zeros(), zeros());
    for row in 0..i.batch * i.heads * i.queries {
        let (b, h, place) = (row / i.queries / i.heads, row / i.queries % i.heads, row % i.queries);
        let kv = b * i.kv_heads + h / (i.heads / i.kv_heads);
        let seen = if i.causal { keys.min(place + 1) } else { keys };
        if seen == 0 {
            bound.lse[row] = 0.0;
            continue;
        }
        let at = row * n..(row + 1) * n;
        let key = |j: usize| (kv * keys + j) * n..(kv * keys + j + 1) * n;
        let (q, dout) = (&q[at.clone()], &dout[at.clone()]);
        let s: Vec<f64> = (0..seen).map(|j| scale * dot(q, &k[key(j)])).collect();
        let max = s.iter().fold(f64::NEG_INFINITY, |a, &s| a.max(s));
        let lse = max + s.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
        let mut out = vec![0.0; n];
        for j in 0..seen {
            add(&mut out, p[j], &v[key(j)]);
        }
        let delta = dot(dout, &out);

        // In units of u: by how much the weight of each key is off, relative to itself; then on average, and its sum.
        let (d, seen_f, blocks) = (n as f64, seen as f64, 1.0 + keys.div_ceil(64) as f64);
        let e_score: Vec<f64> = (0..seen).map(|j| (d + 1.0) * scale.abs() * dot_abs(q, &k[key(j)])).collect();
        let e: Vec<f64> = (0..seen).map(|j| e_score[j] + (max - s[j]) + 3.0 * blocks).collect();
        let average = dot(&p, &e) + seen_f;
        let e_lse = average + 2.0 * (lse - max).abs() + lse.abs();
        r.lse[row] = lse;
        bound.lse[row] = U * e_lse;
        let mut e_out = vec![0.0; n];
        for j in 0..seen {
            add_abs(&mut e_out, p[j].max(TINY) * (e[j] + average + seen_f + 2.0), &v[key(j)]);
        }
        add(&mut bound.out[at.clone()], U, &e_out);
        let e_delta = (d / 16.0 + 5.0) * dot_abs(dout, &out) + dot_abs(dout, &e_out);
        for j in 0..seen {
            // The backward's weights come from the saved log-sum-exp.
            let e_weight = e_score[j] + e_lse + (s[j] - lse).abs() + 2.0;
            let dp = dot(dout, &v[key(j)]);
            let (ds, e_p) = (p[j] * (dp - delta), p[j].max(TINY));
            let e_ds =
                e_p * ((e_weight + 2.0) * (dp - delta).abs() + d * dot_abs(dout, &v[key(j)]) + e_delta);
            let chain = (i.queries * i.heads / i.kv_heads) as f64 + 1.0;
            add(&mut r.dq[at.clone()], scale * ds, &k[key(j)]);
            add(&mut r.dk[key(j)], scale * ds, q);
            add(&mut r.dv[key(j)], p[j], dout);
            let unit = U * scale;
            add_abs(&mut bound.dq[at.clone()], unit * (e_ds + (seen_f + 1.0) * ds.abs()), &k[key(j)]);
            add_abs(&mut bound.dk[key(j)], unit * (e_ds + chain * ds.abs()), q);
            add_abs(&mut bound.dv[key(j)], U * (e_weight + chain) * e_p, dout);
        }
        r.out[at].copy_from_slice(&out);
    }
    (r, bound)
}

/// Weights below 2^-125 are 0: all below this, 2^-101, may be off by as much as if they were this.
const TINY: f64 = U * U * U * U / (1 << 5) as f64;

/// The largest error of each result over its bound.
fn errors(got: &Results<f32>, want: &Results<f64>, bound: &Results<f64>) -> [f64; 5] {
    let mut worst = [0.0; 5];
    let all = got.named().into_iter().zip(want.named()).zip(bound.named());
    for (worst, (((_, got), (_, want)), (_, bound))) in worst.iter_mut().zip(all) {
        assert_eq!((got.len(), bound.len()), (want.len(), want.len()));
        for ((&got, &want), &bound) in got.iter().zip(want).zip(bound) {
            let error = if got as f64 == want { 0.0 } else { (got as f64 - want).abs() };
            // Where nothing may be lost nothing must be; NaN is infinitely far.
            let ratio = if error == 0.0 { 0.0 } else { error / bound };
            *worst = f64::max(*worst, if ratio.is_nan() { f64::INFINITY } else { ratio });
        }
    }
    worst
}

/// Batch, heads, heads of keys, queries, keys, size of a head: each size around the vectors and the tiles, lengths around the
/// blocks of 64 queries and 64 keys.
fn shapes() -> Vec<[usize; 6]> {
    let mut shapes: Vec<_> = (1..=33).map(|d| [1, 2, 1, 5, 5, d]).collect();
    shapes.extend([40, 47, 48, 49, 63, 64, 65, 80, 96, 100, 112, 127, 128].map(|d| [1, 1, 1, 17, 18, d]));
    shapes.extend([1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65].map(|t| [1, 2, 2, t, t, 8]));
    shapes.extend([
        [2, 4, 2, 33, 70, 16],
        [1, 6, 2, 65, 33, 12],
        [3, 2, 1, 1, 130, 20],
        [1, 1, 1, 100, 3, 4],
    ]);
    shapes.extend([[1, 1, 1, 40, 200, 5], [1, 1, 1, 200, 200, 3], [1, 3, 1, 96, 96, 17]]);
    shapes.extend([[1, 2, 1, 3, 0, 4], [1, 2, 1, 0, 3, 4]]);
    shapes
}

#[test]
fn everything_is_within_its_bound() {
    let mut rng = Rng::new(1);
    let mut worst = [(0.0, [0; 6]); 5];
    for (n, shape) in shapes().into_iter().enumerate() {
        for causal in [false, true] {
            // Weights from nearly equal to nearly all on one key.
            let size = [0.3, 1.0, 3.0, 10.0][n % 4];
            let mut i = Inputs::random(&mut rng, shape, causal, size);
            match n % 3 {
                1 => i.scale = rng.uniform(-1.0, 1.0),
                // The same everywhere: the roundings of a sum all go one way.
                2 if n % 2 == 1 => {
                    i.v.fill(0.7);
                    i.q.fill(0.3);
                }
                _ => {}
            }
            let (want, bound) = oracle(&i);
            for_each_tier(|tier| {
                let found = errors(&i.run(), &want, &bound);
                for ((worst, error), (name, _)) in worst.iter_mut().zip(found).zip(want.named()) {
                    let what = format!("{tier} {shape:?} causal {causal}, size {size}");
                    assert!(error <= 1.0, "{what}: {name} off by {error} of its bound");
                    if error > worst.0 {
                        *worst = (error, shape);
                    }
                }
            });
        }
    }
    for ((error, shape), (name, _)) in worst.into_iter().zip(Results::<f32>::default().named()) {
        println!("{name}: largest error {error:.3} of its bound, at {shape:?}");
        assert!(error > LOOSE, "the bound of {name} is too loose to mean anything: {error}");
    }
}

/// Every result came this near to its bound, at least once.
const LOOSE: f64 = 0.08;

/// One of the inputs.
type Part = fn(&mut Inputs) -> &mut Vec<f32>;

#[test]
fn the_oracle_is_the_derivative_of_its_output() {
    let mut rng = Rng::new(2);
    for (shape, causal) in
        [([2, 2, 1, 3, 4, 3], false), ([1, 4, 2, 5, 5, 2], true), ([1, 1, 1, 2, 5, 3], true)]
    {
        let mut i = Inputs::random(&mut rng, shape, causal, 1.0);
        i.scale = 0.5;
        // Whole multiples of 2^-10, so that a step of 2^-12 is exact in f32.
        for values in [&mut i.q, &mut i.k, &mut i.v] {
            values.iter_mut().for_each(|x| *x = (*x * 1024.0).round() / 1024.0);
        }
        let (want, _) = oracle(&i);
        let loss = |i: &Inputs| dot(&oracle(i).0.out, &wide(&i.dout));
        let part: [(Part, _); 3] =
            [(|i| &mut i.q, &want.dq), (|i| &mut i.k, &want.dk), (|i| &mut i.v, &want.dv)];
        for (name, (of, want)) in ["dq", "dk", "dv"].into_iter().zip(part) {
            for at in 0..want.len() {
                let (mut above, mut below) = (i.clone(), i.clone());
                of(&mut above)[at] += 1.0 / 4096.0;
                of(&mut below)[at] -= 1.0 / 4096.0;
                let slope = (loss(&above) - loss(&below)) * 2048.0;
                assert!(
                    (slope - want[at]).abs() < 1e-5,
                    "{shape:?}: slope {slope}, {name}[{at}] {}",
                    want[at]
                );
            }
        }
    }
}

/// Queries, keys and values as one product leaves them, `[batch][seq][3][heads][dim]`, and their gradients there.
#[test]
fn layouts_change_nothing() {
    let mut rng = Rng::new(3);
    for ([batch, heads, kv_heads, seq, dim], causal) in
        [([2, 3, 3, 37, 16], true), ([3, 4, 2, 20, 10], false)]
    {
        let i = Inputs::random(&mut rng, [batch, heads, kv_heads, seq, seq, dim], causal, 1.0);
        let all = heads + 2 * kv_heads;
        let shape = HeadsShape { batch, heads: all, seq, dim };
        let place = |b: usize, h: usize, t: usize| ((b * seq + t) * all + h) * dim;
        let parts = [(0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads)];
        let mut qkv = vec![f32::NAN; batch * seq * all * dim];
        for ((from, n), values) in parts.into_iter().zip([&i.q, &i.k, &i.v]) {
            for (row, values) in values.chunks(dim).enumerate() {
                let at = place(row / seq / n, from + row / seq % n, row % seq);
                qkv[at..at + dim].copy_from_slice(values);
            }
        }
        // The output and its gradient as `[batch][seq][heads][dim]`, with a gap after each place in the sequence.
        let outer = i.q_shape();
        let stride = heads * dim + 5;
        let strides = Strides { batch: seq * stride, head: dim, seq: stride };
        let out_place = |row: usize| (row / seq / heads * seq + row % seq) * stride + row / seq % heads * dim;
        let mut dout = vec![f32::NAN; batch * seq * stride];
        for (row, values) in i.dout.chunks(dim).enumerate() {
            dout[out_place(row)..][..dim].copy_from_slice(values);
        }
        for_each_tier(|tier| {
            let want = i.run();
            let kernel = i.kernel();
            let (q, kv) = Heads::interleaved(&qkv, shape).split(heads);
            let (k, v) = kv.split(kv_heads);
            let mut out = vec![f32::NAN; batch * seq * stride];
            let mut lse = vec![f32::NAN; want.lse.len()];
            kernel.forward(q, k, v, HeadsMut::with_strides(&mut out, outer, strides), &mut lse);
            let mut dqkv = vec![f32::NAN; qkv.len()];
            let (dq, dkv) = HeadsMut::interleaved(&mut dqkv, shape).split(heads);
            let (dk, dv) = dkv.split(kv_heads);
            let [dout, saved] = [&dout, &out].map(|x| Heads::with_strides(x, outer, strides));
            kernel.backward(dout, q, k, v, saved, &lse, dq, dk, dv);

            assert_eq!(lse, want.lse, "{tier}: lse");
            for (row, values) in want.out.chunks(dim).enumerate() {
                assert_eq!(&out[out_place(row)..][..dim], values, "{tier}: out, row {row}");
            }
            let gaps = out.chunks(stride).flat_map(|row| &row[heads * dim..]);
            assert!(gaps.into_iter().all(|x| x.is_nan()), "{tier}: a gap was written to");
            for ((from, n), want) in parts.into_iter().zip([&want.dq, &want.dk, &want.dv]) {
                for (row, values) in want.chunks(dim).enumerate() {
                    let at = place(row / seq / n, from + row / seq % n, row % seq);
                    assert_eq!(&dqkv[at..at + dim], values, "{tier}: gradient of head {from} on, row {row}");
                }
            }
        });
    }
}
