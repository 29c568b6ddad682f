//! A chunk of a batch: whole sequences, forward and backward, on one thread.

use std::ops::Range;

use hotlanes::HyperParamError;
use hotlanes::activation::Activation;
use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape};
use hotlanes::axpy;
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::dropout::Dropout;
use hotlanes::embedding::{EmbeddingIndices, EmbeddingPlan};
use hotlanes::matmul::Epilogue;

use super::config::Config;
use super::norms::{Normed, Norms, Sums};
use super::params::{LayerPlaces, Places};
use super::weights::{Linear, Weights};
use super::work::{ACTIVATION_FLOPS, LOSS_FLOPS, attention, heads};
use crate::shell::profile::{Work, bytes, op};
use hotlanes::AlignedVec;

/// What the kernels have to know about a model.
pub(super) struct Kernels {
    pub(super) norm: Norms,
    pub(super) attention: Attention,
    pub(super) activation: Activation,
    loss: CrossEntropy,
    dropout: Option<Dropout>,
}

impl Kernels {
    pub(super) fn new(config: &Config) -> Result<Self, HyperParamError> {
        let dropout = match config.dropout {
            0.0 => None,
            p => Some(Dropout::new(p.into(), 0)?),
        };
        Ok(Kernels {
            norm: Norms::new(config)?,
            attention: Attention::new(config.head_dim(), true)?,
            activation: config.act.function(),
            loss: CrossEntropy::new(config.vocab, 0.0, None)?,
            dropout,
        })
    }
}

/// What is done with a chunk.
#[derive(Clone, Copy)]
pub(super) enum Pass {
    /// Losses, without dropout.
    Evaluate,
    /// Losses and gradients.
    Train {
        /// What a token's loss counts for.
        weight: f32,
        /// Whether gradients are added to what there is.
        add: bool,
        /// Names the step and micro-batch, for dropout.
        mask: u64,
    },
}

/// A chunk and what belongs to it from one micro-batch to the next.
pub(super) struct Chunk {
    /// Its sequences, of the whole batch.
    pub(super) sequences: Range<usize>,
    /// The gradient of all parameters.
    pub(super) gradient: AlignedVec,
    /// The sum of its tokens' losses.
    pub(super) loss: f64,
    tokens: EmbeddingIndices,
    tokens_plan: EmbeddingPlan,
    /// The places of its tokens.
    places_plan: EmbeddingPlan,
}

impl Chunk {
    pub(super) fn new(config: &Config, sequences: Range<usize>, time: usize, parameters: usize) -> Self {
        let rows = sequences.len() * time;
        let places: Vec<u32> = (0..rows).map(|i| (i % time) as u32).collect();
        let indices = |ids: &[u32], n: usize| EmbeddingIndices::new(ids, n).expect("below, and few");
        // As many different tokens as there can be: then there is room for all others.
        let different: Vec<u32> = (0..rows).map(|i| (i % config.vocab) as u32).collect();
        let tokens = indices(&different, config.vocab);
        let mut gradient = AlignedVec::default();
        gradient.resize_for_overwrite(parameters);
        Chunk {
            sequences,
            gradient,
            loss: 0.0,
            tokens_plan: EmbeddingPlan::new(&tokens),
            tokens,
            places_plan: EmbeddingPlan::new(&indices(&places, time)),
        }
    }
}

/// What the forward of a block leaves for the backward.
struct Acts {
    norm1: Normed,
    /// Queries, keys and values of each token.
    qkv: AlignedVec,
    attended: AlignedVec,
    lse: AlignedVec,
    norm2: Normed,
    /// The perceptron's inside, before the activation; from the backward on the activation's slopes there.
    pre: AlignedVec,
}

/// Memory of a chunk that is under way.
pub(super) struct Scratch {
    acts: Vec<Acts>,
    /// What the activation gave: of a panel's rows in the forward, of all in the backward of a block.
    act: AlignedVec,
    norm: Normed,
    logits: AlignedVec,
    losses: AlignedVec,
    /// What is added to the residual stream.
    added: AlignedVec,
    dropped: AlignedVec,
    /// The gradient of the residual stream, here or there by turns.
    stream: AlignedVec,
    other: AlignedVec,
    /// Of a norm's output, of a panel's rows.
    narrow: AlignedVec,
    /// Of attention's output.
    dattended: AlignedVec,
    /// Of queries, keys and values or of the perceptron's inside.
    wide: AlignedVec,
    norm_fresh: AlignedVec,
    norm_scratch: AlignedVec,
}

impl Scratch {
    pub(super) fn new(config: &Config, kernels: &Kernels, sequences: usize, time: usize) -> Self {
        let (rows, dim) = (sequences * time, config.dim);
        let room = |features: usize| {
            let mut room = AlignedVec::default();
            room.resize_for_overwrite(rows * features);
            room
        };
        let acts = || Acts {
            norm1: Normed::new(rows, dim),
            qkv: room(3 * dim),
            attended: room(dim),
            lse: room(config.heads),
            norm2: Normed::new(rows, dim),
            pre: room(config.hidden()),
        };
        let (mut norm_fresh, mut norm_scratch) = (AlignedVec::default(), AlignedVec::default());
        norm_fresh.resize_for_overwrite(2 * dim);
        norm_scratch.resize_for_overwrite(kernels.norm.scratch_len(rows));
        Scratch {
            acts: (0..config.layers).map(|_| acts()).collect(),
            act: room(config.hidden()),
            norm: Normed::new(rows, dim),
            logits: room(config.vocab),
            losses: room(1),
            added: room(dim),
            dropped: room(if kernels.dropout.is_some() { dim } else { 0 }),
            stream: room(dim),
            other: room(dim),
            narrow: room(dim),
            dattended: room(dim),
            wide: room(config.hidden()),
            norm_fresh,
            norm_scratch,
        }
    }

    /// Bytes of what the forward pass leaves for the backward pass, and of all else.
    pub(super) fn bytes(&self) -> [f64; 2] {
        let acts = |acts: &Acts| {
            let Acts { norm1, qkv, attended, lse, norm2, pre } = acts;
            norm1.bytes()
                + norm2.bytes()
                + [qkv, attended, lse, pre].map(|buffer| bytes(buffer)).iter().sum::<f64>()
        };
        let Scratch { acts: all, act, norm, logits, losses, added, dropped, stream, other, .. } = self;
        let Scratch { narrow, dattended, wide, norm_fresh, norm_scratch, .. } = self;
        let left =
            [act, losses, added, dropped, stream, other, narrow, dattended, wide, norm_fresh, norm_scratch];
        let activations = all.iter().map(acts).sum::<f64>() + norm.bytes() + bytes(logits);
        [activations, left.map(|buffer| bytes(buffer)).iter().sum()]
    }

    /// The logits of the last evaluation.
    pub(super) fn logits(&self, len: usize) -> &[f32] {
        &self.logits[..len]
    }
}

/// The model, as chunks read it.
pub(super) struct Model<'a> {
    pub(super) config: &'a Config,
    pub(super) places: &'a Places,
    pub(super) kernels: &'a Kernels,
    pub(super) params: &'a [f32],
    pub(super) weights: &'a Weights,
    /// Sequences of the whole batch, and tokens of each.
    pub(super) batch: usize,
    pub(super) time: usize,
}

/// Dropout in one pass of a chunk.
#[derive(Clone, Copy)]
struct Drops {
    dropout: Dropout,
    /// Elements of the whole batch, and those before the chunk.
    all: u64,
    before: u64,
}

impl Drops {
    /// The number of the chunk's first element at a place in the model.
    fn offset(self, site: usize) -> u64 {
        site as u64 * self.all + self.before
    }
}

impl Model<'_> {
    /// Takes a chunk forward, and backward if it is to be trained on. Tokens and targets are known to be in the
    /// vocabulary.
    pub(super) fn run(
        &self,
        chunk: &mut Chunk,
        s: &mut Scratch,
        tokens: &[u32],
        targets: &[u32],
        pass: Pass,
    ) {
        let rows = tokens.len();
        chunk.tokens.set(tokens).expect("tokens were checked");
        let drops = match (pass, self.kernels.dropout) {
            (Pass::Train { mask, .. }, Some(dropout)) => Some(Drops {
                dropout: dropout.with_seed(mask),
                all: (self.batch * self.time * self.config.dim) as u64,
                before: (chunk.sequences.start * self.time * self.config.dim) as u64,
            }),
            _ => None,
        };
        self.forward(chunk, s, drops);
        let loss = &self.kernels.loss;
        let (logits, losses) = (&mut s.logits[..rows * self.config.vocab], &mut s.losses[..rows]);
        let (shape, n) = ([rows, self.config.vocab, 0], logits.len());
        op!("cross-entropy, both ways", None, shape, Work::of_values(LOSS_FLOPS * n, 2 * n) => {
            match pass {
                Pass::Evaluate => loss.forward(logits, targets, Reduction::Sum, losses),
                Pass::Train { weight, .. } => {
                    loss.forward_backward_in_place(logits, targets, Reduction::Scaled(weight), losses)
                }
            }
            .expect("targets were checked");
            chunk.loss = losses.iter().map(|&loss| f64::from(loss)).sum();
        });
        if let Pass::Train { add, .. } = pass {
            self.backward(chunk, s, drops, add);
        }
    }

    /// From the chunk's tokens to the logits. What is done row by row is done for a panel of rows after the other, so
    /// that what one kernel writes is in the cache for the next.
    fn forward(&self, chunk: &Chunk, s: &mut Scratch, drops: Option<Drops>) {
        let Model { config, places, kernels, params, weights, time, .. } = *self;
        let (rows, dim) = (chunk.tokens.ids().len(), config.dim);
        let n = rows * dim;
        let Scratch { acts, act, norm, logits, added, dropped, .. } = s;
        let positions = &places.positions.of(params)[..time * dim];
        let table = places.tokens.of(params);
        let first = &mut acts[0];
        op!("embedding, both ways", None, [rows, dim, 0], Work::of_values(n, 3 * n) => match drops {
            None => chunk.tokens.forward_with_positions(table, positions, dim, &mut first.norm1.x[..n]),
            Some(drops) => {
                chunk.tokens.forward_with_positions(table, positions, dim, &mut added[..n]);
                drops.dropout.forward(&added[..n], &mut first.norm1.x[..n], drops.offset(0));
            }
        });
        for panel in panels(rows, dim) {
            kernels.norm.forward(params, places.layers[0].norm1, &mut first.norm1, panel.clone());
            self.qkv(0, first, panel);
        }

        for l in 0..config.layers {
            let (before, after) = acts.split_at_mut(l + 1);
            let Acts { norm1, qkv, attended, lse, norm2, pre } = &mut before[l];
            let (shape, lse) = (self.heads(rows), &mut lse[..rows * config.heads]);
            let [q, k, v] = split(&qkv[..3 * n], shape);
            let out = HeadsMut::interleaved(&mut attended[..n], shape);
            op!("attention: forward", l, heads(shape), attention(shape, 2, 4) => {
                kernels.attention.forward(q, k, v, out, lse);
            });

            let [_, proj, fc, fc_proj] = weights.layer(l);
            let place = &places.layers[l];
            for panel in panels(rows, dim) {
                let of = |features: usize| panel.start * features..panel.end * features;
                let added = &mut added[..panel.len() * dim];
                proj.forward(params, &attended[of(dim)], added, Epilogue::default());
                let residual = drop(drops, 2 * l + 1, added, panel.start * dim, dropped);
                kernels.norm.forward_add(params, place.norm2, &norm1.x, residual, norm2, panel.clone());

                let hidden = of(config.hidden());
                // One after the other, in the cache: fused, the activation would be made of two vectors of a row at a
                // time.
                let (act, pre) = (&mut act[..hidden.len()], &mut pre[hidden]);
                fc.forward(params, &norm2.y[of(dim)], pre, Epilogue::default());
                let (shape, n) = ([panel.len(), config.hidden(), 0], act.len());
                op!("activation: forward", l, shape, Work::of_values(ACTIVATION_FLOPS * n, 2 * n) => {
                    kernels.activation.forward(pre, act);
                });
                fc_proj.forward(params, act, added, Epilogue::default());
                let residual = drop(drops, 2 * l + 2, added, panel.start * dim, dropped);
                let (place, next) = match after.first_mut() {
                    Some(next) => (places.layers[l + 1].norm1, &mut next.norm1),
                    None => (places.norm, &mut *norm),
                };
                kernels.norm.forward_add(params, place, &norm2.x, residual, next, panel.clone());
                match after.first_mut() {
                    Some(next) => self.qkv(l + 1, next, panel),
                    None => {
                        let logits = &mut logits[of(config.vocab)];
                        weights.head().forward(params, &norm.y[of(dim)], logits, Epilogue::default());
                    }
                }
            }
        }
    }

    /// Queries, keys and values of some rows, which have been normalised.
    fn qkv(&self, layer: usize, acts: &mut Acts, rows: Range<usize>) {
        let dim = self.config.dim;
        let [qkv, ..] = self.weights.layer(layer);
        let x = &acts.norm1.y[rows.start * dim..rows.end * dim];
        let y = &mut acts.qkv[rows.start * 3 * dim..rows.end * 3 * dim];
        qkv.forward(self.params, x, y, Epilogue::default());
    }

    /// From the gradient of the logits to that of all parameters: panel by panel, as the forward, but for weights,
    /// whose gradients are sums over all rows.
    fn backward(&self, chunk: &mut Chunk, s: &mut Scratch, drops: Option<Drops>, add: bool) {
        let Model { config, places, kernels, params, weights, .. } = *self;
        let (rows, dim, hidden) = (chunk.tokens.ids().len(), config.dim, config.hidden());
        let n = rows * dim;
        let Scratch { acts, norm, logits, dropped, stream, other, narrow, wide, dattended, act, .. } = s;
        let (fresh, scratch) = (&mut s.norm_fresh[..], &mut s.norm_scratch[..]);
        let gradient = &mut chunk.gradient[..];
        let (stream, other, dattended) = (&mut stream[..n], &mut other[..n], &mut dattended[..n]);
        // The first panel's gradients of a norm replace what there is.
        macro_rules! sums {
            ($panel:expr) => {{
                let add = add || $panel.start > 0;
                Sums { gradient: &mut *gradient, add, fresh: &mut *fresh, scratch: &mut *scratch }
            }};
        }

        let head = weights.head();
        head.weight_gradient(&logits[..rows * config.vocab], &norm.y[..n], gradient, add);
        for panel in panels(rows, dim) {
            let of = |features: usize| panel.start * features..panel.end * features;
            let narrow = &mut narrow[..panel.len() * dim];
            head.input_gradient(params, &logits[of(config.vocab)], narrow);
            let (dx, sums) = (&mut stream[of(dim)], sums!(panel));
            kernels.norm.backward(params, places.norm, narrow, None, norm, dx, panel, sums);
        }

        for l in (0..config.layers).rev() {
            let Acts { norm1, qkv, attended, lse, norm2, pre } = &mut acts[l];
            let LayerPlaces { norm1: place1, norm2: place2, .. } = places.layers[l];
            let [to_qkv, proj, fc, fc_proj] = weights.layer(l);

            let dadded = drop_backward(drops, 2 * l + 2, stream, dropped);
            let dpre = &mut wide[..rows * hidden];
            for panel in panels(rows, dim) {
                let of = |features: usize| panel.start * features..panel.end * features;
                let (dpre, narrow) = (&mut dpre[of(hidden)], &mut narrow[..panel.len() * dim]);
                fc_proj.input_gradient(params, &dadded[of(dim)], dpre);
                // What the activation gave is made again, together with its slope: to keep it would cost as much.
                let (shape, n) = ([panel.len(), hidden, 0], dpre.len());
                op!("activation: backward", l, shape, Work::of_values((ACTIVATION_FLOPS + 1) * n, 6 * n) => {
                    let slope = &mut pre[of(hidden)];
                    kernels.activation.forward_with_slope(slope, &mut act[of(hidden)]);
                    axpy::multiply(slope, dpre);
                });
                fc.input_gradient(params, dpre, narrow);
                let (dh, dx) = (Some(&stream[of(dim)]), &mut other[of(dim)]);
                kernels.norm.backward(params, place2, narrow, dh, norm2, dx, panel.clone(), sums!(panel));
            }
            parameters(fc, dpre, &norm2.y[..n], gradient, add);
            let act = &act[..rows * hidden];
            parameters(fc_proj, dadded, act, gradient, add);

            let dadded = drop_backward(drops, 2 * l + 1, other, dropped);
            parameters(proj, dadded, &attended[..n], gradient, add);
            proj.input_gradient(params, dadded, dattended);
            let (shape, dqkv) = (self.heads(rows), &mut wide[..3 * n]);
            let [q, k, v] = split(&qkv[..3 * n], shape);
            let [dq, dk, dv] = split_mut(dqkv, shape);
            let (out, lse) = (Heads::interleaved(&attended[..n], shape), &lse[..rows * config.heads]);
            let dout = Heads::interleaved(dattended, shape);
            op!("attention: backward", l, heads(shape), attention(shape, 5, 8) => {
                kernels.attention.backward(dout, q, k, v, out, lse, dq, dk, dv);
            });
            parameters(to_qkv, dqkv, &norm1.y[..n], gradient, add);
            for panel in panels(rows, dim) {
                let of = |features: usize| panel.start * features..panel.end * features;
                let narrow = &mut narrow[..panel.len() * dim];
                to_qkv.input_gradient(params, &dqkv[of(3 * dim)], narrow);
                let (dh, dx) = (Some(&other[of(dim)]), &mut stream[of(dim)]);
                kernels.norm.backward(params, place1, narrow, dh, norm1, dx, panel.clone(), sums!(panel));
            }
        }

        let dx = drop_backward(drops, 0, stream, dropped);
        op!("embedding, both ways", None, [rows, dim, 0], Work::of_values(2 * n, 5 * n) => {
            if !add {
                // A tied table has the head's gradient already.
                if !config.tied {
                    places.tokens.of_mut(gradient).fill(0.0);
                }
                places.positions.of_mut(gradient).fill(0.0);
            }
            chunk.tokens_plan.rebuild(&chunk.tokens);
            chunk.tokens_plan.backward(dx, dim, places.tokens.of_mut(gradient));
            let positions = &mut places.positions.of_mut(gradient)[..self.time * dim];
            chunk.places_plan.backward(dx, dim, positions);
        });
    }

    fn heads(&self, rows: usize) -> HeadsShape {
        let Config { heads, .. } = *self.config;
        HeadsShape { batch: rows / self.time, heads, seq: self.time, dim: self.config.head_dim() }
    }
}

/// Rows that go through the kernels together: with 128 features, what they read and write in a block of the model, and
/// the block's weights, stay in a cache of 2 MiB. Of 64 to 256 rows these took the least time (AVX-512).
const PANEL: usize = 128;
/// Features from which no cache holds a block's weights, so that many rows should meet them at once.
const WIDE: usize = 512;
/// Rows that do, of so many features.
const WIDE_PANEL: usize = 512;

/// The rows of a chunk, some at a time.
fn panels(rows: usize, dim: usize) -> impl Iterator<Item = Range<usize>> {
    let panel = if dim < WIDE { PANEL } else { WIDE_PANEL };
    (0..rows.div_ceil(panel)).map(move |i| i * panel..rows.min((i + 1) * panel))
}

/// The gradients of a linear layer's parameters.
fn parameters(linear: &Linear, dy: &[f32], x: &[f32], gradient: &mut [f32], add: bool) {
    linear.bias_gradient(dy, gradient, add);
    linear.weight_gradient(dy, x, gradient, add);
}

/// Queries, keys and values of all heads, which one product made.
pub(super) fn split(qkv: &[f32], shape: HeadsShape) -> [Heads<'_>; 3] {
    let all = Heads::interleaved(qkv, HeadsShape { heads: 3 * shape.heads, ..shape });
    let (q, kv) = all.split(shape.heads);
    let (k, v) = kv.split(shape.heads);
    [q, k, v]
}

fn split_mut(qkv: &mut [f32], shape: HeadsShape) -> [HeadsMut<'_>; 3] {
    let all = HeadsMut::interleaved(qkv, HeadsShape { heads: 3 * shape.heads, ..shape });
    let (q, kv) = all.split(shape.heads);
    let (k, v) = kv.split(shape.heads);
    [q, k, v]
}

/// `x`, whose first element is number `first` of the chunk, or what dropout leaves of it.
fn drop<'a>(
    drops: Option<Drops>,
    site: usize,
    x: &'a [f32],
    first: usize,
    dropped: &'a mut AlignedVec,
) -> &'a [f32] {
    let Some(drops) = drops else { return x };
    let dropped = &mut dropped[..x.len()];
    op!("dropout, both ways", None, [x.len(), 0, 0], Work::of_values(x.len(), 2 * x.len()) => {
        drops.dropout.forward(x, dropped, drops.offset(site) + first as u64);
    });
    dropped
}

/// The gradient of what dropout was applied to.
fn drop_backward<'a>(
    drops: Option<Drops>,
    site: usize,
    dy: &'a [f32],
    dropped: &'a mut AlignedVec,
) -> &'a [f32] {
    let Some(drops) = drops else { return dy };
    let dropped = &mut dropped[..dy.len()];
    op!("dropout, both ways", None, [dy.len(), 0, 0], Work::of_values(dy.len(), 2 * dy.len()) => {
        drops.dropout.backward(dy, dropped, drops.offset(site));
    });
    dropped
}
