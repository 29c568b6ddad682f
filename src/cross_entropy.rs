//! Cross-entropy of logits against class labels: the loss, and with it the gradient of the logits in the same sweep.
//!
//! For a row `x` of `C` logits with label `t`, smoothing `a`, `m = max(x)` and `s = sum(e^(x - m))`:
//!
//! ```text
//! loss_r     = ln(s) - (1 - a) (x_t - m) - a / C * sum(x - m)
//! loss       = sum over rows of loss_r, times w
//! dlogits_j  = w (e^(x_j - m) / s - a / C - (1 - a) [j = t])
//! ```
//!
//! with `w` as the [`Reduction`] says. A row whose label is the ignored index has loss and gradient zero and does not
//! count in the mean. The conventions are those of `torch.nn.functional.cross_entropy`; label smoothing is from Szegedy et
//! al., "Rethinking the Inception Architecture for Computer Vision" (arXiv 1512.00567). The exponentials are computed
//! once: written where the gradient goes, and scaled there while they are in the nearest cache.
//!
//! # Accuracy
//! With u = 2^-24, `l = min(C, 4096) / 64 + C / 4096 + 9` the roundings of a sum of `C` terms, and d = |x - m|:
//!
//! ```text
//! loss_r     u (2 |ln s| + ln C + l + 4 (1 - a) d_t + a / C (l + 4) sum(d))
//! loss       the rows' errors, and (r + 2) u times the sum of their losses, with r = l for as many rows
//! dlogits_j  u |w| (p_j (d_j + ln C + l + 6) + 3 a / C + 3 (1 - a) [j = t]) + 2^-126 |w|     with p = e^(x - m) / s
//! ```
//!
//! # Bits
//! A row's results depend on the row alone; the rows' losses are summed on sixteen lanes, four vectors to one, in blocks of
//! 4096 that are added one after the other. Neither tier nor threads change a bit, and in place means the same bits.
//!
//! # NaN and infinity
//! A NaN or a positive infinity among the logits of a row makes its loss and its gradient NaN, a row of nothing but
//! negative infinities too; an ignored row stays zero whatever it holds. A negative infinity beside numbers has
//! probability 0: as the label, or with smoothing, it makes the loss infinite. The mean over no rows is NaN, as in PyTorch.

use std::fmt;

use crate::error::{HyperParamError, check_len};
use crate::lanes::dispatch;
use crate::parallel;
use crate::softmax::rows::{IN_PLACE, SUM, WRITE};
use crate::tier::active;
use crate::tuning;

mod kernel;
mod linear;

use kernel::{Rows, Terms, Total};
pub use linear::LINEAR_ROWS;

/// How the losses of the rows become one number; the gradient follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduction {
    /// Their mean over the rows that are not ignored.
    Mean,
    /// Their sum.
    Sum,
    /// Their sum times this factor, a finite one: for a part of a batch, one over the rows that count in all of it.
    Scaled(f32),
}

impl Reduction {
    /// What the loss of one row counts for, if `counted` rows count.
    fn weight(self, counted: usize) -> f64 {
        match self {
            Reduction::Mean => 1.0 / counted as f64,
            Reduction::Sum => 1.0,
            Reduction::Scaled(factor) => factor as f64,
        }
    }

    /// The losses of the rows as one number.
    fn total(self, counted: usize, losses: &[f32]) -> f32 {
        let total = dispatch(active(), Total { losses });
        match self {
            Reduction::Mean => total / counted as f32,
            Reduction::Sum => total,
            Reduction::Scaled(factor) => total * factor,
        }
    }
}

/// A label that is neither a class nor the ignored index. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelError {
    /// The first row that has one.
    pub row: usize,
    /// Its label.
    pub label: u32,
    /// How many classes there are.
    pub classes: usize,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LabelError { row, label, classes } = self;
        write!(f, "row {row} has label {label}: must be below the {classes} classes, or the ignored index")
    }
}

impl std::error::Error for LabelError {}

/// Cross-entropy over rows of a fixed number of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    classes: usize,
    smoothing: f64,
    ignore_index: Option<u32>,
}

impl CrossEntropy {
    /// Rows of `classes` logits. `smoothing` is the share of the target that is spread over all classes, 0 for none; rows
    /// whose label is `ignore_index` (a class or not) count for nothing.
    ///
    /// # Errors
    /// `classes` is 0, or `smoothing` is not in [0, 1], or `smoothing / classes` is neither 0 nor a normal f32.
    pub fn new(classes: usize, smoothing: f64, ignore_index: Option<u32>) -> Result<Self, HyperParamError> {
        HyperParamError::check(classes > 0, "classes", classes as f64, "must be at least 1")?;
        HyperParamError::check(
            (0.0..=1.0).contains(&smoothing),
            "smoothing",
            smoothing,
            "must be at least 0 and at most 1",
        )?;
        // A share that rounds to 0 would make 0 times infinity of a class of probability 0.
        let share = smoothing / classes as f64;
        HyperParamError::check(
            smoothing == 0.0 || share >= f32::MIN_POSITIVE as f64,
            "smoothing",
            smoothing,
            "must be 0, or so large that each class's share of it is a normal f32",
        )?;
        Ok(CrossEntropy { classes, smoothing, ignore_index })
    }

    /// The number of logits in a row.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The loss of `logits` (`[rows][classes]`) against `labels` (`[rows]`); each row's own goes to `losses` (`[rows]`),
    /// before any factor. Parallel from [`tuning::SOFTMAX_PARALLEL`] logits on.
    ///
    /// # Errors
    /// A label is out of range; nothing was written.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward(
        &self,
        logits: &[f32],
        labels: &[u32],
        reduction: Reduction,
        losses: &mut [f32],
    ) -> Result<f32, LabelError> {
        self.check("cross entropy forward", "logits", logits.len(), labels, losses);
        self.run::<SUM>(logits, labels, reduction, &mut [], losses)
    }

    /// [`CrossEntropy::forward`], and the gradient of the logits into `dlogits` (`[rows][classes]`).
    ///
    /// # Errors
    /// A label is out of range; nothing was written.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward_backward(
        &self,
        logits: &[f32],
        labels: &[u32],
        reduction: Reduction,
        dlogits: &mut [f32],
        losses: &mut [f32],
    ) -> Result<f32, LabelError> {
        self.check("cross entropy", "logits", logits.len(), labels, losses);
        check_len("cross entropy", "dlogits", dlogits.len(), logits.len(), "logits");
        self.run::<WRITE>(logits, labels, reduction, dlogits, losses)
    }

    /// [`CrossEntropy::forward_backward`] with the gradient over the logits, with the same bits.
    ///
    /// # Errors
    /// A label is out of range; nothing was written.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn forward_backward_in_place(
        &self,
        logits: &mut [f32],
        labels: &[u32],
        reduction: Reduction,
        losses: &mut [f32],
    ) -> Result<f32, LabelError> {
        self.check("cross entropy in place", "logits", logits.len(), labels, losses);
        self.run::<IN_PLACE>(&[], labels, reduction, logits, losses)
    }

    #[track_caller]
    fn check(&self, kernel: &str, name: &str, len: usize, labels: &[u32], losses: &[f32]) {
        check_len(kernel, name, len, labels.len().saturating_mul(self.classes), "labels x classes");
        check_len(kernel, "losses", losses.len(), labels.len(), "labels");
    }

    fn run<const MODE: u8>(
        &self,
        logits: &[f32],
        labels: &[u32],
        reduction: Reduction,
        dlogits: &mut [f32],
        losses: &mut [f32],
    ) -> Result<f32, LabelError> {
        let counted = self.check_labels(labels)?;
        self.rows::<MODE>(logits, labels, reduction.weight(counted), dlogits, losses);
        Ok(reduction.total(counted, losses))
    }

    /// Losses and gradients of rows whose labels were checked and whose weight in the result is `w`.
    fn rows<const MODE: u8>(
        &self,
        logits: &[f32],
        labels: &[u32],
        w: f64,
        dlogits: &mut [f32],
        losses: &mut [f32],
    ) {
        let (keep, spread) = (1.0 - self.smoothing, self.smoothing / self.classes as f64);
        let terms = Terms {
            classes: self.classes,
            ignore: self.ignore_index,
            keep: keep as f32,
            spread: spread as f32,
            factor: w as f32,
            on: (w * keep) as f32,
            off: (w * spread) as f32,
        };
        let active = active();
        let (threshold, piece) = (tuning::SOFTMAX_PARALLEL, tuning::SOFTMAX_PIECE);
        if self.smoothing > 0.0 {
            let work = Rows::<MODE, true> { active, terms, logits, labels, dlogits, losses };
            parallel::run(work, threshold, piece);
        } else {
            let work = Rows::<MODE, false> { active, terms, logits, labels, dlogits, losses };
            parallel::run(work, threshold, piece);
        }
    }

    /// How many rows count.
    fn check_labels(&self, labels: &[u32]) -> Result<usize, LabelError> {
        let (mut counted, mut wrong) = (0, 0);
        for &label in labels {
            let counts = Some(label) != self.ignore_index;
            counted += counts as usize;
            wrong += (counts && label as usize >= self.classes) as usize;
        }
        if wrong > 0 { Err(self.first_wrong(labels)) } else { Ok(counted) }
    }

    #[cold]
    fn first_wrong(&self, labels: &[u32]) -> LabelError {
        let wrong = |&&label: &&u32| Some(label) != self.ignore_index && label as usize >= self.classes;
        let row = labels.iter().position(|label| wrong(&label)).expect("one was counted");
        LabelError { row, label: labels[row], classes: self.classes }
    }
}
