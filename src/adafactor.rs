//! The Adafactor optimizer step: for a matrix, a second moment of one value for each row and column.
//!
//! For a parameter `p` of `n` values with gradient `g`, at step `t` (from 1), with `w = t^beta2_decay` and
//! `rms(x) = sqrt(sum(x^2) / n)`:
//!
//! ```text
//! rho   = min(lr, 1 / sqrt(t))                     without `relative_step`: lr
//! alpha = max(eps2, rms(p)) * rho                  without `scale_parameter`: rho
//! row_i = row_i + w * (mean over j of g_ij^2 - row_i)            a matrix
//! col_j = col_j + w * (mean over i of g_ij^2 - col_j)
//! v_ij  = row_i * col_j / max(mean(row), eps1)
//! v_i   = v_i + w * (g_i^2 - v_i)                                a vector
//! u     = g / sqrt(max(v, eps1^2))                               (g negated for `maximize`)
//! p     = p * (1 - lr * weight_decay) - alpha * u / max(1, rms(u) / d)
//! ```
//!
//! Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (arXiv 1804.04235), in the form of
//! `torch.optim.Adafactor`: means instead of sums, `eps1` where `v` is used rather than in its averages, `lr` as the bound
//! of the relative step and in the decay. What PyTorch does not have: `relative_step` and `scale_parameter` can be turned
//! off, which leaves `lr` alone to say the step. What differs: `eps1` is at least 2^-63, so that its square is a normal
//! f32; NaNs are not passed over (below); a tensor of more than two dimensions is for the caller to cut into matrices, each
//! of which then has an rms of its own, where PyTorch takes one over all of them.
//!
//! # How it is done
//! A matrix takes four passes: over `g` for the sums, over `g` for `rms(u)`, over `p` for its rms, over both for the step.
//! No value of `v` is made: `u = g min(a_i b_j, 1 / eps1)`, with `a_i = sqrt(max(mean(row), eps1) / row_i)` and
//! `b_j = 1 / sqrt(col_j)`, which takes a root for each row and column instead of one for each value. A vector keeps its `u`
//! in the scratch.
//!
//! # Accuracy
//! With u = 2^-24 and `m` a mean of squares, `row` is off by at most `(l + 9) u (row + m)`, `l` being `min(cols / 16, 64)`;
//! `col` likewise, `l` being `min(rows, 64)` and one more for each doubling of the rows beyond 64; `v` of a vector by
//! `4u (v + g^2)`. The parameter is off by at most `3u |p| + 42u |update|`, where the update is that of the stored `row` and
//! `col`, or `v`. Of the 42, half are for the worst case of two sums of squares. Overflow and underflow aside: gradients
//! between 1e-15 and 1e15 are well inside.
//!
//! # Bits
//! Sums run on fixed accumulators in blocks of 1024 values, which are added in f64 from the first to the last; those for
//! `col` within chunks of 64 rows, which are added by a fixed tree. So results depend on shape and data alone,
//! not on tier, threads or how the work was cut.
//!
//! # NaN and infinity
//! A NaN or an infinity in `g` makes the whole parameter NaN, by way of the rms (PyTorch's `max` passes over a NaN there:
//! in a vector it then stays in its own element, unclipped). With `scale_parameter` a NaN in `p` does so too, and an
//! infinite `p` makes all of it infinite, or NaN where `g` is 0. Nothing is skipped.

use crate::error::{HyperParamError, check_len, scratch_len};
use crate::lanes::dispatch;
use crate::parallel::{self, Work};
use crate::tier::{Active, active};
use crate::tuning;

mod flat;
mod matrix;
mod power;

use flat::{Average, BLOCK, Descend, Squares, Units};
use matrix::{Apply, Factor, GradSquares, ROWS_PER_CHUNK, Roots, UnitSquares};

/// The hyper-parameters. The defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdafactorConfig {
    /// Learning rate, from 0 to 1e30: the bound of the relative step, or the step itself.
    pub lr: f64,
    /// The averages forget by `t^beta2_decay`; at most 0.
    pub beta2_decay: f64,
    /// The least denominator of the update, from 2^-63 to 1e18.
    pub eps1: f64,
    /// The least rms that a parameter is taken to have, from 0 to 1e12, times `lr` at most 1e30.
    pub eps2: f64,
    /// The rms of the update from which it is clipped; at least 1.
    pub d: f64,
    /// Decoupled weight decay, from 0 to 1e12, times `lr` at most 1e30.
    pub weight_decay: f64,
    /// Follow the gradient instead of opposing it.
    pub maximize: bool,
    /// The step falls with the root of its number.
    pub relative_step: bool,
    /// The step grows with the parameter's rms.
    pub scale_parameter: bool,
}

impl Default for AdafactorConfig {
    fn default() -> Self {
        AdafactorConfig {
            lr: 1e-2,
            beta2_decay: -0.8,
            eps1: f32::EPSILON as f64,
            eps2: 1e-3,
            d: 1.0,
            weight_decay: 0.0,
            maximize: false,
            relative_step: true,
            scale_parameter: true,
        }
    }
}

/// The optimizer: hyper-parameters that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    config: AdafactorConfig,
}

impl Adafactor {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Names the first one that is out of range, or the product or quotient of two.
    pub fn new(config: AdafactorConfig) -> Result<Self, HyperParamError> {
        let AdafactorConfig { lr, beta2_decay, eps1, eps2, d, weight_decay, .. } = config;
        HyperParamError::check_decay(lr, weight_decay)?;
        HyperParamError::check_factor("eps2", eps2)?;
        HyperParamError::check_rate("lr * eps2", lr * eps2)?;
        let fits = (f64::MIN..=0.0).contains(&beta2_decay);
        HyperParamError::check(fits, "beta2_decay", beta2_decay, "must be finite and at most 0")?;
        let least = f32::from_bits(64 << 23) as f64;
        HyperParamError::check(
            (least..=1e18).contains(&eps1),
            "eps1",
            eps1,
            "must be at least 2^-63 and at most 1e18",
        )?;
        let fits = (1.0..=f32::MAX as f64).contains(&d);
        HyperParamError::check(fits, "d", d, "must be at least 1 and within f32's range")?;
        Ok(Adafactor { config })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &AdafactorConfig {
        &self.config
    }

    /// The same optimizer with another learning rate, as a schedule asks for.
    ///
    /// # Errors
    /// `lr` is out of range.
    pub fn with_lr(&self, lr: f64) -> Result<Self, HyperParamError> {
        Adafactor::new(AdafactorConfig { lr, ..self.config })
    }

    /// Step number `step` (the first is 1), ready to be applied to any number of tensors.
    ///
    /// # Errors
    /// `step` is 0: the average of no gradients divides by zero.
    pub fn at(&self, step: u64) -> Result<AdafactorStep, HyperParamError> {
        HyperParamError::check(
            step > 0,
            "step",
            step as f64,
            "must be at least 1: the first step is number 1",
        )?;
        let c = self.config;
        let weight = power::power(step as f64, c.beta2_decay);
        // Like PyTorch's lerp: from the nearer end, so that the first average is its gradient's square exactly.
        let from_new = weight >= 0.5;
        Ok(AdafactorStep {
            config: c,
            rho: if c.relative_step { c.lr.min(1.0 / (step as f64).sqrt()) } else { c.lr },
            from_new,
            weight: if from_new { (weight - 1.0) as f32 } else { weight as f32 },
            decay: (1.0 - c.lr * c.weight_decay) as f32,
        })
    }
}

/// The second moment of a tensor, updated in place; zeros before step 1.
#[derive(Debug)]
pub enum SecondMoment<'a> {
    /// Of a matrix `[rows][cols]`, whose shape their lengths are.
    Factored {
        /// `[rows]`, PyTorch's `row_var`.
        row: &'a mut [f32],
        /// `[cols]`, PyTorch's `col_var`.
        col: &'a mut [f32],
    },
    /// Of a vector: one value for each of its own, PyTorch's `variance`.
    Unfactored {
        /// As long as the parameter.
        v: &'a mut [f32],
    },
}

/// One tensor's parameter, gradient and second moment, none of which may alias another (the borrow checker sees to it).
#[derive(Debug)]
pub struct AdafactorTensor<'a> {
    /// The parameter, updated in place; a matrix row by row.
    pub param: &'a mut [f32],
    /// Its gradient, as long.
    pub grad: &'a [f32],
    /// Its second moment, which says what shape it has.
    pub moment: SecondMoment<'a>,
}

/// How many f32 of scratch the step of a matrix `[rows][cols]` needs: about a 60th of its size.
///
/// # Panics
/// If the matrix or the scratch has more values than a usize can say.
#[track_caller]
pub fn scratch_len_matrix(rows: usize, cols: usize) -> usize {
    let len = || {
        let partial = rows.div_ceil(ROWS_PER_CHUNK).max(1).checked_mul(cols)?;
        let blocks = rows.checked_mul(cols)?.div_ceil(BLOCK);
        rows.checked_mul(2)?.checked_add(partial)?.checked_add(blocks)
    };
    scratch_len("adafactor", rows, cols, len())
}

/// How many f32 of scratch the step of a vector of `n` values needs.
///
/// # Panics
/// If it is more than a usize can say.
#[track_caller]
pub fn scratch_len_vector(n: usize) -> usize {
    scratch_len("adafactor", 1, n, n.checked_add(n.div_ceil(BLOCK)))
}

impl AdafactorTensor<'_> {
    /// How many f32 of scratch its step needs.
    pub fn scratch_len(&self) -> usize {
        match &self.moment {
            SecondMoment::Factored { row, col } => scratch_len_matrix(row.len(), col.len()),
            SecondMoment::Unfactored { v } => scratch_len_vector(v.len()),
        }
    }

    #[track_caller]
    fn check(&self, scratch: usize) {
        let n = self.param.len();
        check_len("adafactor", "grad", self.grad.len(), n, "param");
        match &self.moment {
            SecondMoment::Factored { row, col } => {
                let size = row.len().saturating_mul(col.len());
                check_len("adafactor", "param", n, size, "row x col");
            }
            SecondMoment::Unfactored { v } => check_len("adafactor", "v", v.len(), n, "param"),
        }
        let needed = self.scratch_len();
        assert!(scratch >= needed, "adafactor: scratch has {scratch} values, needs {needed}");
    }
}

/// One step of [`Adafactor`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdafactorStep {
    config: AdafactorConfig,
    rho: f64,
    /// Whether the averages start from what is new, their weight then being the negative one of what was there.
    from_new: bool,
    weight: f32,
    decay: f32,
}

impl AdafactorStep {
    /// Updates one tensor. Any shape; one without values is left alone. `scratch` holds at least
    /// [`AdafactorTensor::scratch_len`] values, whatever they are. Parallel from [`tuning::ADAFACTOR_PARALLEL`] values on.
    ///
    /// Deterministic: the same bits on every tier and for every thread count. See the [module](self) for formula, error
    /// and NaN behaviour.
    ///
    /// # Panics
    /// If the slices' lengths do not fit, or the scratch is too short.
    #[track_caller]
    pub fn update(&self, tensor: AdafactorTensor<'_>, scratch: &mut [f32]) {
        tensor.check(scratch.len());
        let AdafactorTensor { param, grad, moment } = tensor;
        if param.is_empty() {
            return;
        }
        match moment {
            SecondMoment::Factored { row, col } => self.update_matrix(param, grad, row, col, scratch),
            SecondMoment::Unfactored { v } => self.update_vector(param, grad, v, scratch),
        }
    }

    /// Updates many tensors one after the other: the scratch is that of the one that needs most. The bits are those of
    /// [`AdafactorStep::update`] on each.
    ///
    /// # Panics
    /// If a tensor's slices do not fit each other, or the scratch is too short for one of them; nothing is done then.
    #[track_caller]
    pub fn update_many(&self, tensors: &mut [AdafactorTensor<'_>], scratch: &mut [f32]) {
        for tensor in tensors.iter() {
            tensor.check(scratch.len());
        }
        for AdafactorTensor { param, grad, moment } in tensors {
            let moment = match moment {
                SecondMoment::Factored { row, col } => SecondMoment::Factored { row, col },
                SecondMoment::Unfactored { v } => SecondMoment::Unfactored { v },
            };
            self.update(AdafactorTensor { param, grad, moment }, scratch);
        }
    }

    fn update_matrix(
        &self,
        param: &mut [f32],
        grad: &[f32],
        row: &mut [f32],
        col: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (active, rows, cols) = (active(), row.len(), col.len());
        let (row_roots, scratch) = scratch.split_at_mut(rows);
        let (row_sums, scratch) = scratch.split_at_mut(rows);
        let (partial, blocks) = scratch.split_at_mut(rows.div_ceil(ROWS_PER_CHUNK) * cols);

        spread(GradSquares { active, cols, grad, row: row_roots, partial });
        let average = Average { weight: self.weight, from_new: self.from_new };
        dispatch(active, Factor { average, row, col, row_roots, partial });
        let mean = sum(row) / rows as f64;
        // Not f64's max, which passes over a NaN.
        let mean = if mean < self.config.eps1 { self.config.eps1 } else { mean };
        let roots = Roots {
            row: row_roots,
            col: &partial[..cols],
            row_scale: mean.sqrt() as f32,
            most: (1.0 / self.config.eps1) as f32,
        };
        spread(UnitSquares { active, roots, grad, sums: row_sums });
        let factor = self.factor(active, param, sum(row_sums), blocks);
        spread(Apply { active, roots, grad, param, decay: self.decay, factor });
    }

    fn update_vector(&self, param: &mut [f32], grad: &[f32], v: &mut [f32], scratch: &mut [f32]) {
        let (active, n) = (active(), param.len());
        let (units, blocks) = scratch.split_at_mut(n);
        let sums = &mut blocks[..n.div_ceil(BLOCK)];
        let average = Average { weight: self.weight, from_new: self.from_new };
        let least = (self.config.eps1 * self.config.eps1) as f32;
        spread(Units { active, average, least, grad, v, units, sums });
        let total = sum(sums);
        let factor = self.factor(active, param, total, sums);
        spread(Descend { active, param, units, decay: self.decay, factor });
    }

    /// What the update is multiplied by before it is added, from the sum of its squares.
    fn factor(&self, active: Active, param: &[f32], squares: f64, blocks: &mut [f32]) -> f32 {
        let (c, n) = (&self.config, param.len() as f64);
        let mut alpha = self.rho;
        if c.scale_parameter {
            let sums = &mut blocks[..param.len().div_ceil(BLOCK)];
            spread(Squares { active, x: param, sums });
            let rms = (sum(sums) / n).sqrt();
            alpha *= if rms < c.eps2 { c.eps2 } else { rms };
        }
        let clip = (squares / n).sqrt() / c.d;
        let clip = if clip < 1.0 { 1.0 } else { clip };
        let sign = if c.maximize { 1.0 } else { -1.0 };
        (sign * alpha / clip) as f32
    }
}

/// The sum, from the first to the last.
fn sum(values: &[f32]) -> f64 {
    let mut sum = 0.0;
    for &x in values {
        sum += x as f64;
    }
    sum
}

fn spread<W: Work>(work: W) {
    parallel::run(work, tuning::ADAFACTOR_PARALLEL, tuning::ADAFACTOR_PIECE);
}
