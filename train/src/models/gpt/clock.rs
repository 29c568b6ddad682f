//! The time that each kernel of a step takes.

use std::time::Instant;

/// A linear layer's place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// To queries, keys and values.
    Qkv,
    /// From attention to the residual stream.
    Proj,
    /// The perceptron's first, whose forward has the activation.
    Fc,
    /// The perceptron's second.
    FcProj,
    /// To the logits.
    Head,
}

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Rows of tokens and places, and their gradients.
    Embedding,
    /// Norms, with the residual's addition.
    NormForward,
    /// Causal attention.
    AttentionForward,
    /// A linear layer's output, with bias and activation.
    Forward(Layer),
    /// Losses and the gradient of the logits.
    Loss,
    /// The gradient of a linear layer's input.
    InputGradient(Layer),
    /// The gradient of a linear layer's weights.
    WeightGradient(Layer),
    /// The gradients of linear layers' biases.
    BiasGradients,
    /// The activation's gradient.
    ActivationBackward,
    /// Norms' gradients, with the residual's.
    NormBackward,
    /// Attention's gradients.
    AttentionBackward,
    /// Dropout, both ways.
    Dropout,
    /// The sum of the chunks' gradients.
    Aggregate,
    /// Its norm.
    GradientNorm,
    /// AdamW, with the clip.
    AdamW,
    /// Packing the weights for the products.
    Pack,
}

/// Parts that are not linear layers.
const OTHERS: usize = 13;
/// Linear layers.
const LAYERS: [Layer; 5] = [Layer::Qkv, Layer::Proj, Layer::Fc, Layer::FcProj, Layer::Head];
/// All parts.
const PARTS: usize = OTHERS + 3 * LAYERS.len();

impl Part {
    /// All of them: those of the linear layers first.
    pub fn all() -> impl Iterator<Item = Part> {
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

    /// What the bench calls it.
    pub fn name(self) -> &'static str {
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

    /// The linear layer it belongs to, if it is a product.
    pub fn layer(self) -> Option<Layer> {
        match self {
            Part::Forward(layer) | Part::InputGradient(layer) | Part::WeightGradient(layer) => Some(layer),
            _ => None,
        }
    }
}

/// Seconds of each part.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    seconds: [f64; PARTS],
}

impl Default for Profile {
    fn default() -> Self {
        Profile { seconds: [0.0; PARTS] }
    }
}

impl Profile {
    /// The seconds that a part has taken.
    pub fn seconds(&self, part: Part) -> f64 {
        self.seconds[part.index()]
    }

    pub(super) fn add(&mut self, other: &Profile) {
        self.seconds.iter_mut().zip(other.seconds).for_each(|(a, b)| *a += b);
    }
}

/// Takes times, once it was told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    last: Option<Instant>,
    on: bool,
    profile: Profile,
}

impl Clock {
    /// From now on, and from zero.
    pub(super) fn reset(&mut self) {
        *self = Clock { on: true, ..Clock::default() };
    }

    /// A new stretch begins.
    pub(super) fn start(&mut self) {
        if self.on {
            self.last = Some(Instant::now());
        }
    }

    /// What has passed since the last call was this part.
    pub(super) fn lap(&mut self, part: Part) {
        if let Some(last) = &mut self.last {
            let now = Instant::now();
            self.profile.seconds[part.index()] += (now - *last).as_secs_f64();
            *last = now;
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }
}
