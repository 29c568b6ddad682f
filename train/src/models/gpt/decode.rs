//! Decoding: one token at a time, with the keys and values of those before it kept.

use hotlanes::attention::{Attention, Heads, HeadsMut, HeadsShape, Strides};
use hotlanes::embedding::EmbeddingIndices;
use hotlanes::matmul::{Epilogue, Mat, MatMut, Packed, matmul_with};

use super::chunk::{Kernels, split};
use super::config::Config;
use super::engine::EngineError;
use super::norms::Normed;
use super::params::{Layout, LinearPlace};
use hotlanes::AlignedVec;

/// A model that decodes.
///
/// Places are learned, so that the model knows no place beyond its block. When the block is full and another token
/// comes, the later half of the tokens is taken through the model again from place 0, and the new one follows: the
/// model then sees between half a block and a whole one.
pub struct Decoder {
    config: Config,
    layout: Layout,
    kernels: Kernels,
    /// With all keys, for one query.
    one: Attention,
    params: Vec<f32>,
    /// Weights as `[in][out]`; if they are to be bf16, kept so: decoding takes as long as reading them.
    linears: Vec<Packed>,
    /// The tokens that are seen.
    seen: Vec<u32>,
    /// The same, checked, while they go through the model.
    tokens: EmbeddingIndices,
    /// Of each block, the keys and values of the tokens that are seen: `[token][keys, values][heads][head]`.
    cache: Vec<Vec<f32>>,
    norm1: Normed,
    norm2: Normed,
    qkv: AlignedVec,
    attended: AlignedVec,
    lse: AlignedVec,
    added: AlignedVec,
    inside: AlignedVec,
    logits: Vec<f32>,
}

impl Decoder {
    /// A model with these parameters. Allocates all that decoding needs.
    ///
    /// # Errors
    /// A setting breaks a rule, or there are more or fewer parameters.
    pub fn new(config: Config, params: &[f32]) -> Result<Self, EngineError> {
        config.check()?;
        let layout = Layout::new(&config);
        if params.len() != layout.len() {
            return Err(EngineError::Length { what: "parameters", got: params.len(), want: layout.len() });
        }
        let of_layers = layout.places.layers.iter().flat_map(|l| [l.qkv, l.proj, l.fc, l.fc_proj]);
        let places = of_layers.chain([layout.places.head]);
        let linears = places.map(|place| packed(place, params, config.bf16)).collect();
        let (rows, dim) = (config.block, config.dim);
        let room = |features: usize| {
            let mut room = AlignedVec::default();
            room.resize_for_overwrite(rows * features);
            room
        };
        Ok(Decoder {
            kernels: Kernels::new(&config)?,
            one: Attention::new(config.head_dim(), false)?,
            params: params.to_vec(),
            linears,
            seen: Vec::with_capacity(rows),
            tokens: EmbeddingIndices::new(&vec![0; rows], config.vocab).expect("below, and few"),
            cache: vec![vec![0.0; 2 * rows * dim]; config.layers],
            norm1: Normed::new(rows, dim),
            norm2: Normed::new(rows, dim),
            qkv: room(3 * dim),
            attended: room(dim),
            lse: room(config.heads),
            added: room(dim),
            inside: room(config.hidden()),
            logits: vec![0.0; config.vocab],
            layout,
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the linear layers' weights, of which each is read once for a token.
    pub fn weight_bytes(&self) -> f64 {
        let bytes = |w: &Packed| w.rows() as f64 * w.cols() as f64 * if w.is_bf16() { 2.0 } else { 4.0 };
        self.linears.iter().map(bytes).sum()
    }

    /// How many tokens are seen.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) {
        self.seen.clear();
    }

    /// Takes in one more token: the logits of the one after it.
    ///
    /// # Panics
    /// If the token is not in the vocabulary.
    pub fn logits(&mut self, token: u32) -> &[f32] {
        if self.seen.len() == self.config.block {
            let kept = self.config.block / 2;
            self.seen.copy_within(self.config.block - kept.., 0);
            self.seen.truncate(kept);
            self.take(0);
        }
        self.seen.push(token);
        self.take(self.seen.len() - 1);
        &self.logits
    }

    /// Forgets all tokens and takes in these at once, of more than a block only the last ones: the logits of the one
    /// after them.
    ///
    /// # Panics
    /// If there is none, or one is not in the vocabulary.
    pub fn prefill(&mut self, tokens: &[u32]) -> &[f32] {
        assert!(!tokens.is_empty(), "prefill: there are no tokens, at least one is needed");
        self.seen.clear();
        self.seen.extend_from_slice(&tokens[tokens.len().saturating_sub(self.config.block)..]);
        self.take(0);
        &self.logits
    }

    /// Takes the tokens from place `from` on, which is 0 or that of the last, through the model.
    fn take(&mut self, from: usize) {
        let Decoder { config, layout, kernels, params, linears, seen, tokens, cache, .. } = self;
        let Decoder { norm1, norm2, qkv, attended, lse, added, inside, .. } = self;
        let places = &layout.places;
        let (all, dim) = (seen.len(), config.dim);
        let rows = all - from;
        if rows == 0 {
            return;
        }
        let (n, hidden) = (rows * dim, rows * config.hidden());
        tokens.set(&seen[from..]).unwrap_or_else(|e| panic!("{e}"));
        let positions = &places.positions.of(params)[from * dim..all * dim];
        tokens.forward_with_positions(places.tokens.of(params), positions, dim, &mut norm1.x[..n]);
        kernels.norm.forward(params, places.layers[0].norm1, norm1, 0..rows);
        let added = &mut added[..n];
        for l in 0..config.layers {
            let place = &places.layers[l];
            let of = |i: usize| &linears[4 * l + i];
            let qkv = &mut qkv[..3 * n];
            linear(place.qkv, of(0), params, &norm1.y[..n], qkv, Epilogue::default());
            let cache = &mut cache[l];
            for (token, row) in qkv.chunks_exact(3 * dim).enumerate() {
                cache[(from + token) * 2 * dim..][..2 * dim].copy_from_slice(&row[dim..]);
            }
            let shape = HeadsShape { batch: 1, heads: config.heads, seq: rows, dim: config.head_dim() };
            let out = HeadsMut::interleaved(&mut attended[..n], shape);
            let lse = &mut lse[..rows * config.heads];
            let [q, k, v] = split(qkv, shape);
            if rows > 1 {
                kernels.attention.forward(q, k, v, out, lse);
            } else {
                let strides = Strides { batch: all * 2 * dim, head: config.head_dim(), seq: 2 * dim };
                let shape = HeadsShape { heads: 2 * config.heads, seq: all, ..shape };
                let kept = Heads::with_strides(&cache[..all * 2 * dim], shape, strides);
                let (k, v) = kept.split(config.heads);
                self.one.forward(q, k, v, out, lse);
            }
            linear(place.proj, of(1), params, &attended[..n], added, Epilogue::default());
            kernels.norm.forward_add(params, place.norm2, &norm1.x, added, norm2, 0..rows);
            let inside = &mut inside[..hidden];
            let epilogue = Epilogue { activation: kernels.activation, ..Epilogue::default() };
            linear(place.fc, of(2), params, &norm2.y[..n], inside, epilogue);
            linear(place.fc_proj, of(3), params, inside, added, Epilogue::default());
            let next = places.layers.get(l + 1).map_or(places.norm, |next| next.norm1);
            kernels.norm.forward_add(params, next, &norm2.x, added, norm1, 0..rows);
        }
        // Of the last token alone.
        let weights = linears.last().expect("there is a head");
        linear(places.head, weights, params, &norm1.y[n - dim..n], &mut self.logits, Epilogue::default());
    }
}

/// A layer's weights as `[in][out]`.
fn packed(place: LinearPlace, params: &[f32], is_bf16: bool) -> Packed {
    let LinearPlace { weights, out, input, .. } = place;
    let mut packed = if is_bf16 { Packed::bf16(input, out) } else { Packed::new(input, out) };
    packed.pack(Mat::new(weights.of(params), out, input).t());
    packed
}

fn linear<'a>(
    place: LinearPlace,
    weights: &Packed,
    params: &'a [f32],
    x: &[f32],
    y: &mut [f32],
    mut epilogue: Epilogue<'a>,
) {
    let LinearPlace { out, input, bias, .. } = place;
    let rows = x.len() / input;
    epilogue.bias = bias.map(|b| b.of(params));
    matmul_with(Mat::new(x, rows, input), weights, MatMut::new(y, rows, out), epilogue);
}
