//! The backward of a batch: the gradient of the inputs by source and that of the values by destination, or both in one
//! sweep by source.

use super::both::{self, Both};
use super::check_lr;
use super::csr::Csr;
use super::inputs::Inputs;
use super::plan::Plan;
use super::values::{To, Values};
use crate::error::{HyperParamError, check_len};
use crate::lanes::{Index, IndexList};
use crate::parallel;
use crate::tier::active;
use crate::tuning;

impl Plan {
    /// The gradients of a batch: `x` is `[cols][batch]` as the forward had it, `dy` is `[rows][batch]`; `dx`
    /// (`[cols][batch]`) and `dvalues` (`[nnz]`, in the order of the matrix's values) are overwritten. Either may be
    /// left out, as `dx` is for the first layer of a network; the other has the same bits without it.
    ///
    /// Parallel from [`tuning::SPARSE_PARALLEL`] connections times examples on.
    ///
    /// # Panics
    /// If a slice's length does not fit, or the plan was made for another structure.
    #[track_caller]
    pub fn matmul_backward<I: Index>(
        &self,
        csr: &Csr<I>,
        x: &[f32],
        dy: &[f32],
        batch: usize,
        dx: Option<&mut [f32]>,
        dvalues: Option<&mut [f32]>,
    ) {
        self.check_backward(csr, x, dy, batch, &dx);
        if let Some(dvalues) = &dvalues {
            check_len("sparse backward", "dvalues", dvalues.len(), csr.nnz(), "the matrix");
        }
        // Of nothing there may be a batch of any size.
        if csr.cols() == 0 {
            return;
        }
        match (dx, dvalues) {
            (Some(dx), Some(dvalues)) if tuning::one_sparse_sweep(active().tier()) => {
                let from = Some(self.slots.as_list().over(csr.values(), 1, 0));
                let to = both::To::Gradient(self.slots.slots(dvalues, 1));
                self.both(x, dy, batch, dx, both::Values { from, to });
            }
            (dx, dvalues) => {
                self.inputs(csr.values(), dy, batch, dx);
                if let Some(dvalues) = dvalues {
                    values(csr.indptr(), csr.index_list(), x, dy, batch, To::Gradient(dvalues));
                }
            }
        }
    }

    /// The gradient of a batch's inputs, and one step of plain SGD on the values:
    /// `values -= lr * dvalues`, where `dx` (`[cols][batch]`, may be left out) is that of the values before.
    ///
    /// # Errors
    /// `lr` is out of range: from 0 to 1e30.
    ///
    /// # Panics
    /// If a slice's length does not fit, or the plan was made for another structure.
    #[track_caller]
    pub fn matmul_backward_sgd<I: Index>(
        &self,
        csr: &mut Csr<I>,
        x: &[f32],
        dy: &[f32],
        batch: usize,
        lr: f64,
        dx: Option<&mut [f32]>,
    ) -> Result<(), HyperParamError> {
        self.check_backward(csr, x, dy, batch, &dx);
        let lr = check_lr(lr)?;
        if csr.cols() == 0 {
            return Ok(());
        }
        match dx {
            Some(dx) if tuning::one_sparse_sweep(active().tier()) => {
                let to = both::To::Sgd(self.slots.slots(csr.values_mut(), 1), lr);
                self.both(x, dy, batch, dx, both::Values { from: None, to });
            }
            dx => {
                self.inputs(csr.values(), dy, batch, dx);
                let (indptr, indices, w) = csr.parts_mut();
                values(indptr, indices, x, dy, batch, To::Sgd(w, lr));
            }
        }
        Ok(())
    }

    #[track_caller]
    fn check_backward<I: Index>(
        &self,
        csr: &Csr<I>,
        x: &[f32],
        dy: &[f32],
        batch: usize,
        dx: &Option<&mut [f32]>,
    ) {
        self.check(csr);
        check_len("sparse backward", "x", x.len(), csr.cols().saturating_mul(batch), "cols x batch");
        check_len("sparse backward", "dy", dy.len(), csr.rows().saturating_mul(batch), "rows x batch");
        if let Some(dx) = dx {
            check_len("sparse backward", "dx", dx.len(), csr.cols().saturating_mul(batch), "cols x batch");
        }
    }

    /// Both gradients in one sweep by source.
    fn both(&self, x: &[f32], dy: &[f32], batch: usize, dx: &mut [f32], values: both::Values<'_>) {
        let (active, sources) = (active(), self.indptr.len() - 1);
        let (gather, dx) = (tuning::prefer_gather(), self.sources.slots(dx, batch));
        let work = Both { active, plan: self, first: 0, sources, batch, gather, x, dy, dx, values };
        parallel::run(work, tuning::SPARSE_PARALLEL, tuning::SPARSE_PIECE);
    }

    /// The sweep by source for the gradient of the inputs, if it is wanted.
    fn inputs(&self, values: &[f32], dy: &[f32], batch: usize, dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        let (active, sources) = (active(), self.indptr.len() - 1);
        let dx = self.sources.slots(dx, batch);
        let work = Inputs { active, plan: self, first: 0, sources, batch, values, dy, dx };
        parallel::run(work, tuning::SPARSE_PARALLEL, tuning::SPARSE_PIECE);
    }
}

/// The sweep by destination.
fn values<I: Index>(
    indptr: &[usize],
    indices: &IndexList<I>,
    x: &[f32],
    dy: &[f32],
    batch: usize,
    to: To<'_>,
) {
    let work = Values { active: active(), indptr, indices, first: 0, x, dy, batch, to };
    parallel::run(work, tuning::SPARSE_PARALLEL, tuning::SPARSE_PIECE);
}
