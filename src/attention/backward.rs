//! The backward: weights are found again from the scores and their log-sum-exp.

use std::ops::Range;

use super::Settings;
use super::heads::Heads;
use super::tiles::{
    KEYS, Lines, MAX_DIM, QUERIES, Quad, Sees, TURNED, VECTORS, dots, gather, load, mask, mix, pairs, seen,
    sees, turn, turn_back,
};
use crate::lanes::{Chunk, HeadsBlock, Kernel, LANES, Lanes, Stack, dispatch};
use crate::math;
use crate::parallel::{Work, middle};
use crate::tier::Active;

/// What the backward reads: all of it, whichever part is computed.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) dout: Heads<'a>,
    pub(super) q: Heads<'a>,
    pub(super) k: Heads<'a>,
    pub(super) v: Heads<'a>,
    pub(super) out: Heads<'a>,
    pub(super) lse: &'a [f32],
}

/// The backward of some batches, heads, queries and keys: of whole heads both gradients, or one of them for a part of the
/// queries or keys.
pub(super) struct Backward<'a> {
    pub(super) active: Active,
    pub(super) settings: Settings,
    pub(super) inputs: Inputs<'a>,
    /// Whether a head may be cut.
    pub(super) few_heads: bool,
    pub(super) batch: Range<usize>,
    /// Heads of queries; with `dkv`, all that share their keys.
    pub(super) heads: Range<usize>,
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// For these queries; then `keys` are all.
    pub(super) dq: Option<HeadsBlock<'a>>,
    /// For these keys; then `queries` are all.
    pub(super) dkv: Option<[HeadsBlock<'a>; 2]>,
}

/// Cuts a range.
fn cut(range: Range<usize>, at: usize) -> (Range<usize>, Range<usize>) {
    let middle = range.start + at;
    (range.start..middle, middle..range.end)
}

impl<'a> Backward<'a> {
    /// Cuts the gradients at these places along an axis.
    #[allow(clippy::type_complexity)]
    fn cut_outputs(
        dq: Option<HeadsBlock<'a>>,
        dkv: Option<[HeadsBlock<'a>; 2]>,
        axis: usize,
        (at_q, at_kv): (usize, usize),
    ) -> [(Option<HeadsBlock<'a>>, Option<[HeadsBlock<'a>; 2]>); 2] {
        let (dq0, dq1) = dq.map(|dq| dq.split(axis, at_q)).unzip();
        let (dkv0, dkv1) = dkv
            .map(|[dk, dv]| {
                let ((dk0, dk1), (dv0, dv1)) = (dk.split(axis, at_kv), dv.split(axis, at_kv));
                ([dk0, dv0], [dk1, dv1])
            })
            .unzip();
        [(dq0, dkv0), (dq1, dkv1)]
    }
}

impl Work for Backward<'_> {
    fn size(&self) -> usize {
        // The weights and their gradients, and what is made of them.
        let products = 2 + self.dq.is_some() as usize + 2 * self.dkv.is_some() as usize;
        let pairs = pairs(self.settings.causal, self.queries.clone(), self.keys.clone());
        let dim = self.inputs.q.shape().dim;
        [self.batch.len(), self.heads.len(), dim, products].into_iter().fold(pairs, usize::saturating_mul)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let group = self.settings.group;
        let Backward { active, settings, inputs, few_heads, .. } = self;
        let (batch, heads, queries, keys) = (self.batch, self.heads, self.queries, self.keys);
        let part = move |batch, heads, queries, keys, (dq, dkv)| Backward {
            active,
            settings,
            inputs,
            few_heads,
            batch,
            heads,
            queries,
            keys,
            dq,
            dkv,
        };
        // What whole heads have in common is one.
        let unit = if self.dkv.is_some() { group } else { 1 };
        let (whole, both) = (|r: &Range<usize>| r.clone(), self.dq.is_some() && self.dkv.is_some());
        let parts = if batch.len() > 1 {
            let at = batch.len() / 2;
            let [a, b] = Self::cut_outputs(self.dq, self.dkv, 0, (at, at));
            let (batch0, batch1) = cut(batch, at);
            (
                part(batch0, whole(&heads), whole(&queries), whole(&keys), a),
                part(batch1, heads, queries, keys, b),
            )
        } else if heads.len() > unit {
            let at = heads.len() / unit / 2 * unit;
            let [a, b] = Self::cut_outputs(self.dq, self.dkv, 1, (at, at / group));
            let (heads0, heads1) = cut(heads, at);
            (
                part(whole(&batch), heads0, whole(&queries), whole(&keys), a),
                part(batch, heads1, queries, keys, b),
            )
        } else if both && few_heads {
            (
                part(whole(&batch), whole(&heads), whole(&queries), whole(&keys), (self.dq, None)),
                part(batch, heads, queries, keys, (None, self.dkv)),
            )
        } else if self.dkv.is_none() && queries.len() >= 2 * QUERIES {
            let at = middle(queries.len(), QUERIES);
            let [a, b] = Self::cut_outputs(self.dq, None, 2, (at, 0));
            let (queries0, queries1) = cut(queries, at);
            (
                part(whole(&batch), whole(&heads), queries0, whole(&keys), a),
                part(batch, heads, queries1, keys, b),
            )
        } else if self.dq.is_none() && keys.len() >= 2 * KEYS {
            let at = middle(keys.len(), KEYS);
            let [a, b] = Self::cut_outputs(None, self.dkv, 2, (0, at));
            let (keys0, keys1) = cut(keys, at);
            (
                part(whole(&batch), whole(&heads), whole(&queries), keys0, a),
                part(batch, heads, queries, keys1, b),
            )
        } else {
            return Err(part(batch, heads, queries, keys, (self.dq, self.dkv)));
        };
        Ok(parts)
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let Inputs { dout, q, k, v, out, lse } = self.inputs;
        let Settings { causal, scale, group } = self.settings;
        let shape = q.shape();
        let (dim, columns) = (shape.dim, shape.dim.div_ceil(LANES));
        let width = columns * LANES;
        // Queries and the output's gradients: turned, and as they are but padded to whole vectors.
        // One by one: without optimisation a pair of them is on the stack twice.
        let mut turned_q = Stack::<TURNED>::new();
        let mut turned_dout = Stack::<TURNED>::new();
        let (turned_q, turned_dout) =
            (turned_q.first_mut(VECTORS * width), turned_dout.first_mut(VECTORS * width));
        let mut rows_q = Stack::<TURNED>::new();
        let mut rows_dout = Stack::<TURNED>::new();
        let with_rows = if self.dkv.is_some() { QUERIES * columns } else { 0 };
        let (rows_q, rows_dout) = (rows_q.first_mut(with_rows), rows_dout.first_mut(with_rows));
        let mut weights = Stack::<{ VECTORS * KEYS }>::new();
        let mut grads = Stack::<{ VECTORS * KEYS }>::new();
        let together = VECTORS * KEYS.min(k.shape().seq);
        let weights = weights.first_mut(together).as_chunks_mut::<VECTORS>().0;
        let grads = grads.first_mut(together).as_chunks_mut::<VECTORS>().0;
        let mut mixed = Stack::<{ VECTORS * MAX_DIM }>::new();
        let mixed = mixed.first_mut(VECTORS * width).as_chunks_mut::<VECTORS>().0;

        // Keys before this one have gradients that are being summed; the others' are still to begin.
        let mut cleared = 0;
        for b in self.batch.clone() {
            for h in self.heads.clone() {
                let (b_out, h_out) = (b - self.batch.start, h - self.heads.start);
                let (q, dout, out) = (q.head(b, h), dout.head(b, h), out.head(b, h));
                let (k, v) = (k.head(b, h / group), v.head(b, h / group));
                if h_out % group == 0 {
                    cleared = self.keys.start;
                }
                let lse = &lse[(b * shape.heads + h) * shape.seq..][..shape.seq];
                let (mut query, mut read) = (self.queries.start, self.keys.start);
                while query < self.queries.end {
                    let n = (self.queries.end - query).min(QUERIES);
                    let (count, first) = (n.div_ceil(LANES), query);
                    query += n;
                    let keys_end = seen(causal, query, self.keys.end);
                    if keys_end <= self.keys.start && self.dq.is_none() {
                        continue;
                    }
                    turn(l, q, (first, n), dim, scale, turned_q, rows_q);
                    turn(l, dout, (first, n), dim, 1.0, turned_dout, rows_dout);
                    let mut saved = Saved { lse: [[0.0; LANES]; VECTORS], delta: [[0.0; LANES]; VECTORS] };
                    saved.lse.as_flattened_mut()[..n].copy_from_slice(&lse[first..query]);
                    saved.find_delta(l, dout, out, (first, n), dim);
                    mixed.fill([[0.0; LANES]; VECTORS]);
                    let mut key = self.keys.start;
                    while key < keys_end {
                        let rows = (keys_end - key).min(KEYS);
                        let sees = &sees(causal, (first, count), (key, rows));
                        // A loop, so that there is one copy of its code; so below.
                        for i in 0..2 {
                            let (lines, turned, next, scores): (_, &[Chunk], _, &mut [Quad]) = if i == 0 {
                                (k, turned_q, [k, q, out], weights)
                            } else {
                                (v, turned_dout, [v, dout, dout], grads)
                            };
                            let next: &[Lines<'_>] = if key >= read { &next[..3 - i] } else { &[] };
                            dots(l, lines, (key, dim), turned, sees, next, scores);
                        }
                        if causal {
                            mask(l, weights, key, first, sees);
                        }
                        read = read.max(key + rows);
                        saved.softmax(l, weights, grads, sees);
                        if let Some(dkv) = &mut self.dkv {
                            for (i, d) in dkv.iter_mut().enumerate() {
                                let (weights, queries): (&[Quad], &[Chunk]) =
                                    if i == 0 { (grads, rows_q) } else { (weights, rows_dout) };
                                let mut d = d.head(b_out, h_out / group);
                                let (at, fresh) = (key - self.keys.start, key >= cleared);
                                gather(l, weights, sees, n, queries, &mut d, at, dim, fresh);
                            }
                            cleared = cleared.max(key + rows);
                        }
                        if self.dq.is_some() {
                            mix(l, k, key, dim, grads, sees, &[[1.0; LANES]; VECTORS], mixed);
                        }
                        key += rows;
                    }
                    if let Some(dq) = &mut self.dq {
                        let at = (first - self.queries.start, n);
                        turn_back(l, mixed, &[[scale; LANES]; VECTORS], &mut dq.head(b_out, h_out), at, dim);
                    }
                }
                if let Some(dkv) = &mut self.dkv
                    && (h_out + 1) % group == 0
                {
                    // Keys that no query sees.
                    for d in dkv {
                        let mut d = d.head(b_out, h_out / group);
                        for key in cleared..self.keys.end {
                            d.row(key - self.keys.start).fill(0.0);
                        }
                    }
                }
            }
        }
    }
}

/// What is known of each query of a block.
struct Saved {
    lse: Quad,
    /// The sum of output times gradient.
    delta: Quad,
}

impl Saved {
    #[inline(always)]
    fn find_delta<L: Lanes>(
        &mut self,
        l: L,
        dout: Lines<'_>,
        out: Lines<'_>,
        (first, n): (usize, usize),
        dim: usize,
    ) {
        let columns = dim.div_ceil(LANES);
        for j in 0..n.div_ceil(LANES) {
            let mut v = [l.splat(0.0); LANES];
            if dim.is_multiple_of(LANES) && (j + 1) * LANES <= n {
                for c in 0..columns {
                    let (dout, out) = (dout.chunks(first + j * LANES, c), out.chunks(first + j * LANES, c));
                    for i in 0..LANES {
                        v[i] = l.mul_add(l.load(dout.chunk(i)), l.load(out.chunk(i)), v[i]);
                    }
                }
            } else {
                for i in 0..(n - j * LANES).min(LANES) {
                    let at = first + j * LANES + i;
                    let (dout, out) = (dout.row(at, dim), out.row(at, dim));
                    for c in 0..columns {
                        let width = (dim - c * LANES).min(LANES);
                        let (dout, out) = (&dout[c * LANES..][..width], &out[c * LANES..][..width]);
                        v[i] = l.mul_add(load(l, dout), load(l, out), v[i]);
                    }
                }
            }
            l.store(&mut self.delta[j], l.sum16(&v));
        }
    }

    /// Makes weights of scores, and of their gradients those of the scores.
    #[inline(always)]
    fn softmax<L: Lanes>(&self, l: L, scores: &mut [Quad], grads: &mut [Quad], sees: &Sees) {
        let exp = math::ExpTerms::loaded(l);
        for j in 0..VECTORS {
            let scores = &mut scores[..sees[j]];
            let grads = &mut grads[..scores.len()];
            let (lse, delta) = (l.load(&self.lse[j]), l.load(&self.delta[j]));
            for i in 0..scores.len() {
                let [weight] = exp.exp_flush(l, [l.sub(l.load(&scores[i][j]), lse)]);
                let grad = l.mul(weight, l.sub(l.load(&grads[i][j]), delta));
                l.store(&mut scores[i][j], weight);
                l.store(&mut grads[i][j], grad);
            }
        }
    }
}
