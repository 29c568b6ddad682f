//! The forward: the softmax of a block of queries is kept up to date from one block of keys to the next.

use super::heads::Heads;
use super::tiles::{
    KEYS, Lines, QUERIES, Quad, Sees, TURNED, VECTORS, dots, mask, mix, pairs, seen, sees, store, turn,
    turn_back,
};
use super::{Settings, tiles::MAX_DIM};
use crate::lanes::{Block, HeadsBlock, Kernel, LANES, Lanes, Stack, dispatch};
use crate::math;
use crate::parallel::{Work, middle};
use crate::tier::Active;

/// The forward of some batches, heads and queries.
pub(super) struct Forward<'a> {
    pub(super) active: Active,
    pub(super) settings: Settings,
    pub(super) q: Heads<'a>,
    pub(super) k: Heads<'a>,
    pub(super) v: Heads<'a>,
    /// The batch, head and query that `out` and `lse` begin with.
    pub(super) first: [usize; 3],
    pub(super) out: HeadsBlock<'a>,
    /// A row for each batch and head, a column for each query.
    pub(super) lse: Block<'a>,
}

impl Work for Forward<'_> {
    fn size(&self) -> usize {
        let [batch, heads, queries] = self.out.shape();
        let queries = self.first[2]..self.first[2] + queries;
        let pairs = pairs(self.settings.causal, queries, 0..self.k.shape().seq);
        [batch, heads, 2 * self.out.dim()].into_iter().fold(pairs, usize::saturating_mul)
    }

    fn split(self) -> Result<(Self, Self), Self> {
        let shape = self.out.shape();
        let (axis, at) = if shape[0] > 1 {
            (0, shape[0] / 2)
        } else if shape[1] > 1 {
            (1, shape[1] / 2)
        } else if shape[2] >= 2 * QUERIES {
            (2, middle(shape[2], QUERIES))
        } else {
            return Err(self);
        };
        let (out0, out1) = self.out.split(axis, at);
        let (lse0, lse1) = match axis {
            0 => self.lse.split_rows(at * shape[1]),
            1 => self.lse.split_rows(at),
            _ => self.lse.split_cols(at),
        };
        let mut first = self.first;
        first[axis] += at;
        Ok((Forward { out: out0, lse: lse0, ..self }, Forward { out: out1, lse: lse1, first, ..self }))
    }

    fn run(self) {
        dispatch(self.active, self);
    }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let dim = self.out.dim();
        let [batches, heads, queries] = self.out.shape();
        let group = self.settings.group;
        let width = dim.next_multiple_of(LANES);
        let mut turned = Stack::<TURNED>::new();
        let turned = turned.first_mut(VECTORS * width);
        let mut weights = Stack::<{ VECTORS * KEYS }>::new();
        let weights = weights.first_mut(VECTORS * KEYS.min(self.k.shape().seq)).as_chunks_mut::<VECTORS>().0;
        let mut mixed = Stack::<{ VECTORS * MAX_DIM }>::new();
        let mixed = mixed.first_mut(VECTORS * width).as_chunks_mut::<VECTORS>().0;
        for b in 0..batches {
            for h in 0..heads {
                let (batch, head) = (self.first[0] + b, self.first[1] + h);
                let q = self.q.head(batch, head);
                let (k, v) = (self.k.head(batch, head / group), self.v.head(batch, head / group));
                let mut out = self.out.head(b, h);
                let lse = self.lse.row(b * heads + h);
                let (mut at, mut read) = (0, 0);
                while at < queries {
                    let n = (queries - at).min(QUERIES);
                    let query = self.first[2] + at;
                    let keys = seen(self.settings.causal, query + n, self.k.shape().seq);
                    turn(l, q, (query, n), dim, self.settings.scale, turned, &mut []);
                    mixed.fill([[0.0; LANES]; VECTORS]);
                    let mut softmax = Softmax {
                        max: [[f32::NEG_INFINITY; LANES]; VECTORS],
                        sum: [[0.0; LANES]; VECTORS],
                        correction: [[0.0; LANES]; VECTORS],
                    };
                    let count = n.div_ceil(LANES);
                    let mut key = 0;
                    while key < keys {
                        let n = (keys - key).min(KEYS);
                        let sees = &sees(self.settings.causal, (query, count), (key, n));
                        // What was not read before is followed by what was not either.
                        let ahead: &[Lines<'_>] = if key >= read { &[k, v, q] } else { &[] };
                        read = read.max(key + n);
                        dots(l, k, (key, dim), turned, sees, ahead, weights);
                        if self.settings.causal {
                            mask(l, weights, key, query, sees);
                        }
                        softmax.add(l, weights, sees);
                        mix(l, v, key, dim, weights, sees, &softmax.correction, mixed);
                        key += n;
                    }
                    let mut factor = [[0.0; LANES]; VECTORS];
                    for j in 0..count {
                        let sum = l.load(&softmax.sum[j]);
                        if keys > 0 {
                            l.store(&mut factor[j], l.div(l.splat(1.0), sum));
                        }
                        let lse = &mut lse[at + j * LANES..at + n.min((j + 1) * LANES)];
                        store(l, lse, l.add(l.load(&softmax.max[j]), math::log(l, sum)));
                    }
                    turn_back(l, mixed, &factor, &mut out, (at, n), dim);
                    at += n;
                }
            }
        }
    }
}

/// The softmax over the keys so far, for each query of a block.
struct Softmax {
    max: Quad,
    /// Of the weights, relative to `max`.
    sum: Quad,
    /// What the weights before the last block of keys are to be multiplied by.
    correction: Quad,
}

impl Softmax {
    /// Makes weights of the next keys' scores.
    #[inline(always)]
    fn add<L: Lanes>(&mut self, l: L, scores: &mut [Quad], sees: &Sees) {
        let exp = math::ExpTerms::loaded(l);
        for j in 0..VECTORS {
            let scores = &mut scores[..sees[j]];
            if scores.is_empty() {
                break;
            }
            let before = l.load(&self.max[j]);
            // Several, since each comparison waits for the one before it. A NaN loses all of them and is a weight below.
            let mut max = [before; 4];
            let (quads, rest) = scores.as_chunks::<4>();
            for quad in quads {
                for i in 0..4 {
                    max[i] = l.max(l.load(&quad[i][j]), max[i]);
                }
            }
            for row in rest {
                max[0] = l.max(l.load(&row[j]), max[0]);
            }
            let max = l.max(l.max(max[0], max[1]), l.max(max[2], max[3]));
            // Where all scores so far are minus infinity, their weights are 0 and not NaN: others may follow.
            let shift = l.select(l.eq(max, l.splat(f32::NEG_INFINITY)), l.splat(0.0), max);
            let [correction] = exp.exp_flush(l, [l.sub(before, shift)]);
            let mut sum = l.mul(l.load(&self.sum[j]), correction);
            for row in scores.iter_mut() {
                let [weight] = exp.exp_flush(l, [l.sub(l.load(&row[j]), shift)]);
                sum = l.add(sum, weight);
                l.store(&mut row[j], weight);
            }
            l.store(&mut self.max[j], max);
            l.store(&mut self.sum[j], sum);
            l.store(&mut self.correction[j], correction);
        }
    }
}
