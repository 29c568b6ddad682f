//! What the outputs are compared with: a loss with its gradient.

use hotlanes::HyperParamError;
use hotlanes::cross_entropy::{CrossEntropy, Reduction};
use hotlanes::loss::{Huber, Loss};

use super::settings::LossKind;

/// The targets of some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets<'a> {
    /// A number for each.
    Numbers(&'a [f32]),
    /// A class for each.
    Classes(&'a [u32]),
}

impl<'a> Targets<'a> {
    /// Those of some of the rows.
    pub fn of(self, rows: std::ops::Range<usize>) -> Targets<'a> {
        match self {
            Targets::Numbers(numbers) => Targets::Numbers(&numbers[rows]),
            Targets::Classes(classes) => Targets::Classes(&classes[rows]),
        }
    }

    /// Rows.
    pub fn rows(self) -> usize {
        match self {
            Targets::Numbers(numbers) => numbers.len(),
            Targets::Classes(classes) => classes.len(),
        }
    }
}

/// The loss.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// Of each output by itself.
    Elementwise(Loss),
    /// Of a row's logits.
    Classes(CrossEntropy),
}

impl Head {
    /// The loss for a model of so many outputs.
    ///
    /// # Errors
    /// `delta` is out of range, or there are no outputs.
    pub fn new(kind: LossKind, delta: f64, outputs: usize) -> Result<Self, HyperParamError> {
        Ok(match kind {
            LossKind::Mse => Head::Elementwise(Loss::Mse),
            LossKind::L1 => Head::Elementwise(Loss::L1),
            LossKind::Huber => Head::Elementwise(Loss::Huber(Huber::new(delta)?)),
            LossKind::Bce => Head::Elementwise(Loss::BceWithLogits),
            LossKind::CrossEntropy => Head::Classes(CrossEntropy::new(outputs, 0.0, None)?),
        })
    }

    /// The sum of the rows' losses; `losses` has room for one for each.
    ///
    /// # Panics
    /// If targets are of another kind, or lengths do not fit.
    pub fn loss(&self, outputs: &[f32], targets: Targets<'_>, losses: &mut [f32]) -> f64 {
        match (self, targets) {
            (Head::Elementwise(loss), Targets::Numbers(targets)) => loss.forward(outputs, targets),
            (Head::Classes(loss), Targets::Classes(labels)) => {
                loss.forward(outputs, labels, Reduction::Sum, losses).expect("classes were checked");
                sum(losses)
            }
            _ => panic!("{self:?}: targets of another kind"),
        }
    }

    /// The same, and the gradient, times `weight`, in the outputs' place.
    ///
    /// # Panics
    /// As [`Head::loss`].
    pub fn gradient(
        &self,
        outputs: &mut [f32],
        targets: Targets<'_>,
        weight: f32,
        losses: &mut [f32],
    ) -> f64 {
        match (self, targets) {
            (Head::Elementwise(loss), Targets::Numbers(targets)) => {
                loss.forward_backward_in_place(outputs, targets, weight)
            }
            (Head::Classes(loss), Targets::Classes(labels)) => {
                loss.forward_backward_in_place(outputs, labels, Reduction::Scaled(weight), losses)
                    .expect("classes were checked");
                sum(losses)
            }
            _ => panic!("{self:?}: targets of another kind"),
        }
    }
}

fn sum(losses: &[f32]) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
