//! Dropout whose mask is computed from the element's number, forward and backward, and never stored.
//!
//! ```text
//! y[i]  = x[i]  / (1 - p)   where element offset + i is kept, else 0
//! dx[i] = dy[i] / (1 - p)   where element offset + i is kept, else 0
//! ```
//!
//! (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014; scaled in training, so
//! that nothing is to be done in inference.) Which elements are kept is a function of the seed and the element's number
//! alone, given by a counter-based generator: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel Random
//! Numbers: As Easy as 1, 2, 3", SC 2011), the key being the seed. So the backward finds the mask of the forward again, and
//! threads, tiers and cuts find the same one.
//!
//! # Numbers of elements
//! Two calls whose ranges `offset..offset + len` overlap have the mask of the common elements in common. A layer that is to
//! have another mask in each step and another one than its neighbour gives each call a range of its own, or a seed.
//!
//! Element `e` stands in block `e / 32`, in lane `e % 16`, and has word `e / 16 % 2` of the two that Threefry makes of the
//! 64-bit counter `16 (e / 32) + e % 16`; the first word of key and counter is the lower half. It is kept where the upper 31
//! bits of the word, as a number, are below `2^31 (1 - p)`, rounded to the nearest whole number: so the probability is
//! off from `1 - p` by at most 2^-32 ([`Dropout::keep_probability`] is what it is).
//!
//! # Accuracy
//! `1 / (1 - p)` is rounded to f32 once, and the product is: a kept element is off by at most `2 u` of itself, u = 2^-24,
//! while nothing overflows or underflows.
//!
//! # NaN and infinity
//! A kept element follows IEEE rules. One that is not kept is +0, whatever it was.

use crate::error::{HyperParamError, check_len};
use crate::parallel;
use crate::tier::active;
use crate::tuning;

mod kernel;

use kernel::Apply;

/// Not by `powi`, whose last bit is not specified.
const TWO_TO_31: f64 = (1u64 << 31) as f64;

/// Dropout with a probability and a seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    seed: u64,
    /// How many of the 2^31 values of an element's number are kept.
    keep: u32,
    scale: f32,
}

impl Dropout {
    /// Each element is dropped with probability `p`; a seed gives one sequence of decisions.
    ///
    /// # Errors
    /// `p` is not in [0, 1).
    pub fn new(p: f64, seed: u64) -> Result<Self, HyperParamError> {
        HyperParamError::check((0.0..1.0).contains(&p), "p", p, "must be at least 0 and below 1")?;
        // To the nearest: what follows the point is cut off.
        let keep = ((1.0 - p) * TWO_TO_31 + 0.5) as u32;
        Ok(Dropout { seed, keep, scale: (1.0 / (1.0 - p)) as f32 })
    }

    /// The same probability with another seed.
    pub fn with_seed(self, seed: u64) -> Self {
        Dropout { seed, ..self }
    }

    /// The probability with which an element is kept, exactly: a multiple of 2^-31, the nearest to `1 - p`.
    pub fn keep_probability(&self) -> f64 {
        self.keep as f64 / TWO_TO_31
    }

    /// What kept elements are multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Drops elements of `x`: `y[i]` is element number `offset + i`. Fastest where `offset` is a multiple of 32. Parallel
    /// from [`tuning::DROPOUT_PARALLEL`] elements on.
    ///
    /// Deterministic: the same bits on every tier, for every thread count and however a range is cut.
    ///
    /// # Panics
    /// If the lengths differ, or the last element's number exceeds 64 bits.
    #[track_caller]
    pub fn forward(&self, x: &[f32], y: &mut [f32], offset: u64) {
        check_len("dropout forward", "y", y.len(), x.len(), "x");
        self.apply("forward", x, y, offset);
    }

    /// The gradient of [`Dropout::forward`] of the same range: the same elements, scaled by the same factor.
    ///
    /// # Panics
    /// As [`Dropout::forward`].
    #[track_caller]
    pub fn backward(&self, dy: &[f32], dx: &mut [f32], offset: u64) {
        check_len("dropout backward", "dx", dx.len(), dy.len(), "dy");
        self.apply("backward", dy, dx, offset);
    }

    #[track_caller]
    fn apply(&self, direction: &str, x: &[f32], y: &mut [f32], offset: u64) {
        assert!(
            offset.checked_add(x.len() as u64).is_some(),
            "dropout {direction}: offset {offset} leaves no numbers for {} elements",
            x.len()
        );
        let work =
            Apply { active: active(), seed: self.seed, keep: self.keep, scale: self.scale, offset, x, y };
        parallel::run(work, tuning::DROPOUT_PARALLEL, tuning::DROPOUT_PIECE);
    }
}
