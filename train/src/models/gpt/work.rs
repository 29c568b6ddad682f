//! The work of a step's operations, for profiles.

use hotlanes::attention::HeadsShape;

use crate::shell::profile::Work;

/// Floating-point operations of a value, about: of a norm, of its backward, of an activation, of a loss with its
/// gradient, and of AdamW.
pub(super) const NORM_FLOPS: usize = 8;
pub(super) const NORM_BACKWARD_FLOPS: usize = 16;
pub(super) const ACTIVATION_FLOPS: usize = 20;
pub(super) const LOSS_FLOPS: usize = 24;
pub(super) const ADAMW_FLOPS: usize = 14;

/// The work of a product of these rows, columns and inner size.
pub(super) fn product([rows, cols, k]: [usize; 3]) -> Work {
    Work::of_values(2 * rows * cols * k, rows * k + k * cols + rows * cols)
}

/// Sizes of attention as a profile lists them: sequences and heads, tokens, features.
pub(super) fn heads(shape: HeadsShape) -> [usize; 3] {
    [shape.batch * shape.heads, shape.seq, shape.dim]
}

/// The work of so many products of queries and visible keys, and so many tensors.
pub(super) fn attention(shape: HeadsShape, products: usize, tensors: usize) -> Work {
    let HeadsShape { batch, heads, seq, dim } = shape;
    let flops = products * batch * heads * dim * seq * (seq + 1);
    Work::of_values(flops, tensors * batch * heads * seq * dim)
}
