//! The time that each kernel of a step takes.

use std::time::Instant;

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Rows of tokens and places, and their gradients.
    Embedding,
    /// Norms, with the residual's addition.
    NormForward,
    /// Linear layers: outputs, with biases and activation.
    LinearForward,
    /// Causal attention.
    AttentionForward,
    /// Losses and the gradient of the logits.
    Loss,
    /// Linear layers: gradients of inputs.
    InputGradients,
    /// Linear layers: gradients of weights.
    WeightGradients,
    /// Linear layers: gradients of biases.
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

impl Part {
    /// All of them, in this order.
    pub const ALL: [Part; 16] = [
        Part::Embedding,
        Part::NormForward,
        Part::LinearForward,
        Part::AttentionForward,
        Part::Loss,
        Part::InputGradients,
        Part::WeightGradients,
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

    /// What the bench calls it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding, both ways",
            Part::NormForward => "norm and residual forward",
            Part::LinearForward => "linear forward, activation",
            Part::AttentionForward => "attention forward",
            Part::Loss => "cross-entropy, both ways",
            Part::InputGradients => "linear: input gradients",
            Part::WeightGradients => "linear: weight gradients",
            Part::BiasGradients => "linear: bias gradients",
            Part::ActivationBackward => "activation backward",
            Part::NormBackward => "norm and residual backward",
            Part::AttentionBackward => "attention backward",
            Part::Dropout => "dropout, both ways",
            Part::Aggregate => "sum of chunks",
            Part::GradientNorm => "norm of the gradient",
            Part::AdamW => "clip and AdamW",
            Part::Pack => "packing weights",
        }
    }
}

/// Seconds of each part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profile {
    seconds: [f64; Part::ALL.len()],
}

impl Profile {
    /// The seconds that a part has taken.
    pub fn seconds(&self, part: Part) -> f64 {
        self.seconds[part as usize]
    }

    /// Those of all parts.
    pub fn total(&self) -> f64 {
        self.seconds.iter().sum()
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
            self.profile.seconds[part as usize] += (now - *last).as_secs_f64();
            *last = now;
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }
}
