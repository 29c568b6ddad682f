//! What a model is.

use hotlanes::activation::Activation;
use hotlanes::attention::MAX_HEAD_DIM;
use serde::{Deserialize, Serialize};

use crate::shell::settings::{self, SettingError};

/// What is added to the variance (LayerNorm) or the mean square (RMSNorm).
pub const NORM_EPS: f64 = 1e-5;

/// How rows are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Norm {
    /// Mean and variance.
    #[serde(rename = "layernorm")]
    #[value(name = "layernorm")]
    LayerNorm,
    /// The root of the mean square; it has no bias.
    #[serde(rename = "rmsnorm")]
    #[value(name = "rmsnorm")]
    RmsNorm,
}

/// What stands between the two layers of the perceptron.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Act {
    /// GELU by the hyperbolic tangent.
    #[serde(rename = "gelu")]
    #[value(name = "gelu")]
    Gelu,
    /// max(x, 0) squared.
    #[serde(rename = "squared-relu")]
    #[value(name = "squared-relu")]
    SquaredRelu,
}

impl Act {
    /// The kernels' name for it.
    pub fn function(self) -> Activation {
        match self {
            Act::Gelu => Activation::GeluTanh,
            Act::SquaredRelu => Activation::SquaredRelu,
        }
    }
}

/// A model's shape and kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Blocks of attention and perceptron.
    pub layers: usize,
    /// Heads of attention, each of `dim / heads` features.
    pub heads: usize,
    /// Features of a token.
    pub dim: usize,
    /// Tokens that are seen at most.
    pub block: usize,
    /// Different tokens.
    pub vocab: usize,
    /// How rows are normalised.
    pub norm: Norm,
    /// What stands between the two layers of the perceptron.
    pub act: Act,
    /// Whether the head's weights are the embedding's.
    pub tied: bool,
    /// Whether LayerNorm and the linear layers, but for the head, have biases.
    pub bias: bool,
    /// Whether products see the weights rounded to bf16. Activations, gradients and the optimizer's weights stay f32.
    pub bf16: bool,
    /// The share of the features that is dropped in training, after the embedding and of what each half of a block
    /// adds; not of attention's weights, which are never in memory.
    pub dropout: f32,
}

/// Parameters that a model may have: 8 GiB of them, a gradient of which is kept for each chunk of a batch.
const MOST_PARAMETERS: usize = 1 << 31;

/// The most of each size: far beyond what a CPU trains, and such that no product of a few of them wraps.
const MOST_LAYERS: u64 = 1 << 12;
const MOST_DIM: u64 = 1 << 16;
const MOST_BLOCK: u64 = 1 << 20;
const MOST_VOCAB: u64 = 1 << 20;

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the first setting that breaks a rule, its value and the rule.
    pub fn check(&self) -> Result<(), SettingError> {
        let Config { layers, heads, dim, block, vocab, dropout, .. } = *self;
        let sizes = [
            ("layers", layers, MOST_LAYERS),
            ("heads", heads, MOST_DIM),
            ("dim", dim, MOST_DIM),
            ("block", block, MOST_BLOCK),
            ("vocab", vocab, MOST_VOCAB),
        ];
        sizes.into_iter().try_for_each(|(name, value, most)| settings::count(name, value as u64, most))?;
        if !dim.is_multiple_of(heads) {
            return Err(SettingError::new("dim", dim, format!("must be a multiple of heads, {heads}")));
        }
        if self.head_dim() > MAX_HEAD_DIM {
            let rule = format!("a head may have {MAX_HEAD_DIM} features, with {heads} heads");
            return Err(SettingError::new("dim", dim, rule));
        }
        let fits = self.checked_parameters().is_some_and(|n| n <= MOST_PARAMETERS);
        if !fits {
            let value = sizes.map(|(name, value, _)| format!("{name} {value}")).join(", ");
            return Err(SettingError::new("size", value, "a model may have 2^31 parameters"));
        }
        let rule = "must be at least 0 and below 1";
        settings::check((0.0..1.0).contains(&dropout), "dropout", settings::number(dropout), rule)
    }

    /// Features of a head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Features between the perceptron's layers.
    pub fn hidden(&self) -> usize {
        4 * self.dim
    }

    /// Whether normalisation has a bias.
    pub fn norm_bias(&self) -> bool {
        self.bias && self.norm == Norm::LayerNorm
    }

    /// The number of parameters.
    ///
    /// # Panics
    /// If the settings were not checked and the number overflows.
    pub fn parameters(&self) -> usize {
        self.checked_parameters().expect("the settings were checked")
    }

    fn checked_parameters(&self) -> Option<usize> {
        let Config { layers, dim, block, vocab, .. } = *self;
        let square = dim.checked_mul(dim)?;
        let norm = dim.checked_mul(if self.norm_bias() { 2 } else { 1 })?;
        let biases = if self.bias { dim.checked_mul(9)? } else { 0 };
        let layer = square.checked_mul(12)?.checked_add(biases)?.checked_add(norm.checked_mul(2)?)?;
        let tables = vocab.checked_mul(if self.tied { 1 } else { 2 })?.checked_add(block)?;
        layer.checked_mul(layers)?.checked_add(tables.checked_mul(dim)?)?.checked_add(norm)
    }

    /// Weights of the linear layers, the head included: each is multiplied by once for every token.
    pub fn weights(&self) -> usize {
        (12 * self.layers * self.dim + self.vocab) * self.dim
    }

    /// Floating-point operations of a step on `batch` sequences of `time` tokens, forward and backward: 6 for each
    /// weight and token, and of attention two products forward and four backward over the keys that are seen. What is
    /// computed again does not count, nor does what is not a product.
    pub fn flops(&self, batch: usize, time: usize) -> f64 {
        let tokens = batch as f64 * time as f64;
        6.0 * self.weights() as f64 * tokens + 3.0 * self.attention_flops(time) * batch as f64
    }

    /// The same of a forward alone.
    pub fn forward_flops(&self, batch: usize, time: usize) -> f64 {
        let tokens = batch as f64 * time as f64;
        2.0 * self.weights() as f64 * tokens + self.attention_flops(time) * batch as f64
    }

    /// Floating-point operations of decoding one token that sees `seen` tokens, itself included.
    pub fn decode_flops(&self, seen: usize) -> f64 {
        2.0 * self.weights() as f64 + (4 * self.layers * self.dim * seen) as f64
    }

    /// Attention's two products of one sequence.
    fn attention_flops(&self, time: usize) -> f64 {
        (2 * 2 * self.layers * self.dim) as f64 * (time * (time + 1) / 2) as f64
    }
}
