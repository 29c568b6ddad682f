//! Sparse gather-FMA: a weight matrix in compressed sparse rows times one example or a batch, and its backward.
//!
//! The rows of a [`Csr`] are destinations, its columns sources; with connection `k` of row `r` from column `c`:
//!
//! ```text
//! y[r]  = sum over k of values[k] * x[c]            matvec, matmul
//! dx[c] = sum over k of values[k] * dy[r]           Plan::matvec_backward, Plan::matmul_backward
//! dvalues[k] = sum over examples of x[c] * dy[r]
//! values[k] -= lr * dvalues[k]                      the `_sgd` forms
//! ```
//!
//! Activations of a batch are batch-minor, `[feature][batch]`: one index then serves a contiguous vector of examples,
//! nothing is gathered, and the outputs stay in registers until a row is done. Up to 32 examples at a time are a tile,
//! with AVX-512 64; the idea is that of XNNPACK's sparse inference ("Fast Sparse ConvNets", arXiv 1911.09723) taken to
//! training.
//! Tiles of a large batch, of one that is no multiple of sixteen, and of one that lies across cache lines are copied side by side
//! first where they are read often enough, a panel at a time, if it has at most 1024 columns.
//! The columns of a matrix with many connections to a row are taken in panels, whose part of the tile stays in the nearest
//! cache. One example's connections are gathered sixteen at a time; with AVX-512, where most of them are near each other,
//! by permutations. The backward goes by source for `dx`, through an index structure that is transposed once and kept in a [`Plan`], and
//! by destination for `dvalues`, whose horizontal sums are taken sixteen at a time by transposition; with AVX-512 both go in
//! one sweep by source. Buffers that start at a multiple of 64 bytes are read fastest.
//!
//! Exact online SGD, one example at a time, has a form of its own: [`Masked`], which passes over sources that are zero.
//!
//! # Bits
//! Everything depends on the structure, the batch and the data alone. In `matmul` an example's result does not depend
//! on the other examples or on how many there are. A connection's products are summed over tiles of 32 examples (the
//! last ones of 16 and fewer), one tile after the other. `matvec` sums a row over sixteen lanes, `matmul` over two
//! accumulators, anew in each panel (there is one up to 63 connections to a row, on average), so a batch of one may differ from `matvec` in the last bits; so may the two forms of `dx`.
//!
//! # Accuracy
//! With u = 2^-24, a sum of `n` products errs by at most this times the sum of the products' moduli: `matvec`
//! `(n / 16 + 5) u`; `matmul` `(n / 2 + cols / 100 + 2) u`; `dx` of a batch `(n / 16 + 9) u`, of one example `n u`; `dvalues`, where
//! `n` is the batch, `(n / 32 + 7) u`, of one example `u`. An SGD update adds the rounding of `lr` to f32 and that of one
//! fused multiply-add. All this while nothing overflows or underflows.
//!
//! # NaN and infinity
//! Only stored connections multiply: a NaN in an `x` that no connection reads changes nothing. Otherwise IEEE rules.

mod backward;
mod batch;
mod both;
mod csr;
mod example;
mod inputs;
mod masked;
mod near;
mod plan;
mod values;

use crate::error::HyperParamError;

pub use csr::{Csr, CsrError};
pub use masked::Masked;
pub use plan::Plan;

/// A learning rate as the fused steps take it.
fn check_lr(lr: f64) -> Result<f32, HyperParamError> {
    HyperParamError::check_rate("lr", lr)?;
    Ok(lr as f32)
}
