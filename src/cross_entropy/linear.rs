//! Cross-entropy of a linear layer's output, a few rows at a time: the logits of a whole batch are never in memory.

use super::{CrossEntropy, LabelError, Reduction};
use crate::error::{check_len, scratch_len};
use crate::matmul::{Epilogue, Mat, MatMut, matmul, matmul_with};
use crate::softmax::rows::IN_PLACE;

/// Rows whose logits [`CrossEntropy::linear_forward_backward`] has in memory at once. No bit depends on it.
pub const LINEAR_ROWS: usize = 128;

impl CrossEntropy {
    /// The length of the scratch of [`CrossEntropy::linear_forward_backward`]: the logits of [`LINEAR_ROWS`] rows.
    ///
    /// # Panics
    /// If it is more than a usize can say.
    #[track_caller]
    pub fn linear_scratch_len(&self) -> usize {
        let len = LINEAR_ROWS.checked_mul(self.classes);
        scratch_len("linear cross entropy", LINEAR_ROWS, self.classes, len)
    }

    /// The loss of the logits `x W^T` against `labels` (`[rows]`), and the gradients of `x` and `W`:
    ///
    /// ```text
    /// logits = x W^T      dlogits and the loss as CrossEntropy::forward_backward has them
    /// dx = dlogits W      dW = dlogits^T x
    /// ```
    ///
    /// with `x` and `dx` as `[rows][features]`, `weights` and `dweights` as `[classes][features]`: the last layer of a
    /// language model, whose logits are many times its input. They are made for [`LINEAR_ROWS`] rows at a time, in `scratch`
    /// ([`CrossEntropy::linear_scratch_len`] values, overwritten), become their own gradient there, and are used up before
    /// the next rows' turn. `Reduction::Mean` is that over all rows that count. Each row's own loss goes to `losses`
    /// (`[rows]`); `dx` and `dweights` are overwritten, `dweights` with zeros if there are no rows.
    ///
    /// The bits are those of the steps one after the other on the whole batch ([`matmul`],
    /// [`CrossEntropy::forward_backward`] and two more products), and the error is theirs: each gradient of a weight is one chain of
    /// fused multiply-adds over the rows, which the next rows take up again. A NaN or an infinity in a row of `x` makes that row's
    /// loss and `dx` NaN, and with them all of `dweights`; one in `weights` reaches `dx` in every row. An ignored row has
    /// gradients of zero otherwise, but what is not finite in it reaches `dweights`, as zero times it. Products and rows are
    /// spread over threads as theirs are.
    ///
    /// # Errors
    /// A label is out of range; nothing was written.
    ///
    /// # Panics
    /// If a slice's length does not fit: `weights` is to have a multiple of `classes`.
    #[allow(clippy::too_many_arguments)]
    #[track_caller]
    pub fn linear_forward_backward(
        &self,
        x: &[f32],
        weights: &[f32],
        labels: &[u32],
        reduction: Reduction,
        scratch: &mut [f32],
        losses: &mut [f32],
        dx: &mut [f32],
        dweights: &mut [f32],
    ) -> Result<f32, LabelError> {
        let (kernel, classes, rows) = ("linear cross entropy", self.classes, labels.len());
        let features = weights.len() / classes;
        check_len(kernel, "weights", weights.len(), features * classes, "classes x features");
        check_len(kernel, "x", x.len(), rows.saturating_mul(features), "labels x features");
        check_len(kernel, "scratch", scratch.len(), self.linear_scratch_len(), "linear_scratch_len");
        check_len(kernel, "losses", losses.len(), rows, "labels");
        check_len(kernel, "dx", dx.len(), x.len(), "x");
        check_len(kernel, "dweights", dweights.len(), weights.len(), "weights");

        let counted = self.check_labels(labels)?;
        let weight = reduction.weight(counted);
        let w = Mat::new(weights, classes, features);
        if rows == 0 {
            dweights.fill(0.0);
        }
        let mut first = 0;
        while first < rows {
            let n = LINEAR_ROWS.min(rows - first);
            let at = first * features..(first + n) * features;
            let x = Mat::new(&x[at.clone()], n, features);
            let logits = &mut scratch[..n * classes];
            matmul(x, w.t(), MatMut::new(logits, n, classes));
            let losses = &mut losses[first..first + n];
            self.rows::<IN_PLACE>(&[], &labels[first..first + n], weight, logits, losses);
            let dlogits = Mat::new(logits, n, classes);
            matmul(dlogits, w, MatMut::new(&mut dx[at], n, features));
            let epilogue = Epilogue { accumulate: first > 0, ..Epilogue::default() };
            matmul_with(dlogits.t(), x, MatMut::new(dweights, classes, features), epilogue);
            first += n;
        }
        Ok(reduction.total(counted, losses))
    }
}
