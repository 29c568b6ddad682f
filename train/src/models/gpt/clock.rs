//! The parts of a training step that are timed.

use crate::shell::profile;

/// A thread's clock.
pub(super) type Clock = profile::Clock<Part>;
/// The time of each part.
pub type Profile = profile::Profile<Part>;

/// A linear layer of a block, or the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Makes queries, keys and values.
    Qkv,
    /// Takes attention's output back to the residual stream.
    Proj,
    /// The perceptron's first layer; its forward includes the activation.
    Fc,
    /// The perceptron's second layer.
    FcProj,
    /// Makes the logits.
    Head,
}

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Token and position embeddings, and their gradients.
    Embedding,
    /// Norms and residual additions.
    NormForward,
    /// Causal attention.
    AttentionForward,
    /// A linear layer's output, with its bias.
    Forward(Layer),
    /// The losses and the gradient of the logits.
    Loss,
    /// The gradient of a linear layer's input.
    InputGradient(Layer),
    /// The gradient of a linear layer's weights.
    WeightGradient(Layer),
    /// The gradients of linear layers' biases.
    BiasGradients,
    /// The activation's gradient.
    ActivationBackward,
    /// The norms' gradients, and the residual stream's.
    NormBackward,
    /// The gradients of queries, keys and values.
    AttentionBackward,
    /// Dropout, forward and backward.
    Dropout,
    /// The sum of the chunks' gradients.
    Aggregate,
    /// The norm of the gradient.
    GradientNorm,
    /// Clipping and AdamW.
    AdamW,
    /// Packing the weights for the products.
    Pack,
}

/// Parts that are not linear layers.
const OTHERS: usize = 13;
/// All linear layers.
const LAYERS: [Layer; 5] = [Layer::Qkv, Layer::Proj, Layer::Fc, Layer::FcProj, Layer::Head];

impl profile::Part for Part {
    const COUNT: usize = OTHERS + 3 * LAYERS.len();

    /// The linear layers first.
    fn all() -> impl Iterator<Item = Part> {
        let others = [
            Part::Embedding,
            Part::NormForward,
            Part::AttentionForward,
            Part::Loss,
            Part::BiasGradients,
            Part::ActivationBackward,
            Part::NormBackward,
            Part::AttentionBackward,
            Part::Dropout,
            Part::Aggregate,
            Part::GradientNorm,
            Part::AdamW,
            Part::Pack,
        ];
        let linear = [Part::Forward, Part::InputGradient, Part::WeightGradient];
        linear.into_iter().flat_map(|part| LAYERS.map(part)).chain(others)
    }

    fn index(self) -> usize {
        match self {
            Part::Embedding => 0,
            Part::NormForward => 1,
            Part::AttentionForward => 2,
            Part::Loss => 3,
            Part::BiasGradients => 4,
            Part::ActivationBackward => 5,
            Part::NormBackward => 6,
            Part::AttentionBackward => 7,
            Part::Dropout => 8,
            Part::Aggregate => 9,
            Part::GradientNorm => 10,
            Part::AdamW => 11,
            Part::Pack => 12,
            Part::Forward(layer) => OTHERS + layer as usize,
            Part::InputGradient(layer) => OTHERS + LAYERS.len() + layer as usize,
            Part::WeightGradient(layer) => OTHERS + 2 * LAYERS.len() + layer as usize,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding, both ways",
            Part::NormForward => "norm, residual: forward",
            Part::AttentionForward => "attention: forward",
            Part::Loss => "cross-entropy, both ways",
            Part::BiasGradients => "bias gradients",
            Part::ActivationBackward => "activation: backward",
            Part::NormBackward => "norm, residual: backward",
            Part::AttentionBackward => "attention: backward",
            Part::Dropout => "dropout, both ways",
            Part::Aggregate => "sum of chunks",
            Part::GradientNorm => "norm of the gradient",
            Part::AdamW => "clip and AdamW",
            Part::Pack => "packing weights",
            Part::Forward(Layer::Qkv) => "qkv: forward",
            Part::Forward(Layer::Proj) => "proj: forward",
            Part::Forward(Layer::Fc) => "fc: forward, activation",
            Part::Forward(Layer::FcProj) => "fc proj: forward",
            Part::Forward(Layer::Head) => "head: forward",
            Part::InputGradient(Layer::Qkv) => "qkv: input gradient",
            Part::InputGradient(Layer::Proj) => "proj: input gradient",
            Part::InputGradient(Layer::Fc) => "fc: input gradient",
            Part::InputGradient(Layer::FcProj) => "fc proj: input gradient",
            Part::InputGradient(Layer::Head) => "head: input gradient",
            Part::WeightGradient(Layer::Qkv) => "qkv: weight gradient",
            Part::WeightGradient(Layer::Proj) => "proj: weight gradient",
            Part::WeightGradient(Layer::Fc) => "fc: weight gradient",
            Part::WeightGradient(Layer::FcProj) => "fc proj: weight gradient",
            Part::WeightGradient(Layer::Head) => "head: weight gradient",
        }
    }
}
