//! Muon: momentum, made orthogonal by Newton-Schulz iterations, for the matrices of hidden layers.
//!
//! For a parameter `p` of `R` rows and `C` columns with gradient `g` and momentum buffer `b`:
//!
//! ```text
//! b = momentum * b + g                         b starts at zero
//! u = b                                        Nesterov: g + momentum * b
//! X = u / (|u|_F + 1e-7)
//! X = (3.4445 + A (-4.7750 + 2.0315 A)) X      five times, A = X X^T; X (3.4445 + ..) with A = X^T X if R > C
//! p = p (1 - lr * weight_decay) - lr * scale * X
//! ```
//!
//! with `scale` as [`MuonScale`] says. From Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: An optimizer for
//! hidden layers in neural networks" (2024); weight decay and the second scale are from Liu et al., "Muon is Scalable for LLM
//! Training" (arXiv 2502.16982). The coefficients are theirs: they bring singular values that are not too small between
//! about 0.7 and 1.2 instead of to 1, as fast as a quintic can.
//!
//! The buffer is a sum, as in that text. `torch.optim.Muon`, and later versions of the authors' code, keep
//! the average `(1 - momentum) b` instead. That factor goes where `u` is divided by its norm, but for the 1e-7 (PyTorch has a
//! minimum of 1e-7 there), and so the steps are the same. PyTorch iterates in bf16, this module in `f32`.
//!
//! # Bits and accuracy
//! Momentum and step are those of [`sgd`](crate::sgd), products and norm those of [`matmul`](mod@crate::matmul) and
//! [`reduce`], and so neither tier nor threads move a bit. A singular value near 0 grows up to 3.4445^5 = 485 fold on the
//! way, and an error beside it too; still, no element of `X`, whose largest is about 1, is further than 2^-17 from the
//! formula in exact arithmetic in the tests, which go up to 150 rows and columns.
//!
//! # NaN and infinity
//! A NaN or an infinity in `g` or `b` makes all of `p` NaN. Nothing is skipped. A zero gradient with a zero buffer leaves
//! `p` to its decay.

use crate::convert;
use crate::error::{HyperParamError, check_len, scratch_len};
use crate::matmul::{Epilogue, Mat, MatMut, matmul, matmul_with};
use crate::reduce;
use crate::sgd::{Sgd, SgdConfig, SgdTensor};

/// What the orthogonal step is multiplied by, besides the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuonScale {
    /// `sqrt(max(1, rows / cols))`, with rows for outputs: the authors' (PyTorch's `"original"`).
    Original,
    /// `0.2 sqrt(max(rows, cols))`: steps about as large as AdamW's, whose learning rate and decay can be kept (PyTorch's
    /// `"match_rms_adamw"`).
    MatchRmsAdamw,
}

impl MuonScale {
    fn of(self, rows: usize, cols: usize) -> f64 {
        let (rows, cols) = (rows as f64, cols as f64);
        match self {
            MuonScale::Original => (rows / cols).max(1.0).sqrt(),
            MuonScale::MatchRmsAdamw => 0.2 * rows.max(cols).sqrt(),
        }
    }
}

/// The hyper-parameters. The defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonConfig {
    /// Learning rate, from 0 to 1e30.
    pub lr: f64,
    /// Factor of the buffer, at least 0 and below 1; 0 is without a buffer.
    pub momentum: f64,
    /// Nesterov's momentum; without momentum it changes nothing.
    pub nesterov: bool,
    /// Decoupled weight decay, from 0 to 1e12, times `lr` at most 1e30.
    pub weight_decay: f64,
    /// The scale of a step.
    pub scale: MuonScale,
}

impl Default for MuonConfig {
    fn default() -> Self {
        let scale = MuonScale::Original;
        MuonConfig { lr: 1e-3, momentum: 0.95, nesterov: true, weight_decay: 0.1, scale }
    }
}

/// A matrix, its gradient and its momentum buffer, each row after row.
#[derive(Debug)]
pub struct MuonTensor<'a> {
    /// Rows: of a layer's weights, its outputs.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The parameter, `[rows][cols]`, updated in place.
    pub param: &'a mut [f32],
    /// Its gradient, as long.
    pub grad: &'a [f32],
    /// The momentum buffer, updated in place, zero before the first step: as long with momentum, empty without.
    pub buffer: &'a mut [f32],
}

/// The optimizer: hyper-parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    config: MuonConfig,
    /// Takes the gradient into the buffer.
    momentum: Sgd,
}

/// Of the polynomial in `A`.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;
/// Keeps the norm from zero.
const EPS: f64 = 1e-7;

impl Muon {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range, or the product or quotient of two.
    pub fn new(config: MuonConfig) -> Result<Self, HyperParamError> {
        let MuonConfig { lr, momentum, nesterov, weight_decay, .. } = config;
        HyperParamError::check_decay(lr, weight_decay)?;
        HyperParamError::check_beta("momentum", momentum)?;
        let nesterov = nesterov && momentum > 0.0;
        // Takes 1 times the direction off a parameter of zero, exactly.
        let sgd = SgdConfig { lr: 1.0, momentum, nesterov, ..SgdConfig::default() };
        Ok(Muon { config, momentum: Sgd::new(sgd)? })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &MuonConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is out of range.
    pub fn with_lr(&self, lr: f64) -> Result<Self, HyperParamError> {
        Muon::new(MuonConfig { lr, ..self.config })
    }

    /// The length of [`Muon::update`]'s scratch: two matrices like the parameter, and two squares of its shorter side.
    ///
    /// # Panics
    /// If it is more than a usize can say.
    #[track_caller]
    pub fn scratch_len(&self, rows: usize, cols: usize) -> usize {
        let side = rows.min(cols);
        let matrices = || rows.checked_mul(cols)?.checked_add(side.checked_mul(side)?)?.checked_mul(2);
        scratch_len("muon", rows, cols, matrices())
    }

    /// One step. `scratch` ([`Muon::scratch_len`] values) is overwritten. What is large enough is spread over threads.
    ///
    /// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formula, error and
    /// NaN behaviour.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    #[track_caller]
    pub fn update(&self, tensor: MuonTensor<'_>, scratch: &mut [f32]) {
        let MuonTensor { rows, cols, param, grad, buffer } = tensor;
        let MuonConfig { lr, momentum, weight_decay, scale, .. } = self.config;
        let size = rows.saturating_mul(cols);
        check_len("muon", "param", param.len(), size, "rows x cols");
        check_len("muon", "grad", grad.len(), size, "rows x cols");
        if momentum > 0.0 {
            check_len("muon", "buffer", buffer.len(), size, "rows x cols");
        } else {
            check_len("muon", "buffer", buffer.len(), 0, "no momentum");
        }
        check_len("muon", "scratch", scratch.len(), self.scratch_len(rows, cols), "scratch_len");
        if size == 0 {
            return;
        }

        let (mut x, scratch) = scratch.split_at_mut(size);
        let (mut next, scratch) = scratch.split_at_mut(size);
        let (a, p) = scratch.split_at_mut(scratch.len() / 2);
        // x = -u. All that follows is odd in x, and the sign is taken back by climbing instead of descending. The buffer that
        // is zero before step 1 needs no step of its own: any other number will do.
        x.fill(0.0);
        let step = self.momentum.at(2).expect("a step above 0");
        step.update(SgdTensor { param: &mut *x, grad, buffer });
        convert::scale(x, (1.0 / (reduce::norm(x) as f64 + EPS)) as f32);
        for _ in 0..ITERATIONS {
            iterate(rows, cols, x, next, a, p);
            (x, next) = (next, x);
        }
        // p - lr scale (X + weight_decay / scale p)
        let scale = scale.of(rows, cols);
        let step = Sgd::ascent(lr * scale, weight_decay / scale);
        step.update(SgdTensor { param, grad: x, buffer: &mut [] });
    }
}

/// `next = p(A) x`, or `x p(A)` if that is the smaller `A`; `a` and `p` have room for one each.
fn iterate(rows: usize, cols: usize, x: &[f32], next: &mut [f32], a: &mut [f32], p: &mut [f32]) {
    let (x, next) = (Mat::new(x, rows, cols), MatMut::new(next, rows, cols));
    let side = rows.min(cols);
    if rows > cols {
        matmul(x.t(), x, MatMut::new(a, side, side));
    } else {
        matmul(x, x.t(), MatMut::new(a, side, side));
    }
    // third (second / third A + A A) + first
    let [first, second, third] = COEFFICIENTS;
    p.copy_from_slice(a);
    convert::scale(p, (second / third) as f32);
    let square = Mat::new(a, side, side);
    let epilogue = Epilogue { accumulate: true, ..Epilogue::default() };
    matmul_with(square, square, MatMut::new(p, side, side), epilogue);
    convert::scale(p, third as f32);
    for i in 0..side {
        p[i * side + i] += first as f32;
    }
    let p = Mat::new(p, side, side);
    if rows > cols {
        matmul(x, p, next);
    } else {
        matmul(p, x, next);
    }
}
