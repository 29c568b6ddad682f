//! A tree of sums with sixteen children to a node, one level at a time: what a draw by weight needs.
//!
//! A node is the weights of its sixteen children, of which each is the sum of a node one level below, by halving:
//!
//! ```text
//! sum(w) = ((w0 + w8) + (w4 + w12)) + ... ,   v[i] = w[i] + w[i + 8], then v[i] + v[i + 4], v[i] + v[i + 2], v0 + v1
//! ```
//!
//! [`search`] goes down the same tree: of two parts `a` and `b` a number below `a` leads into `a`, any other into `b`,
//! less `a`. So the parts' sums are those that the weight of the node was made of.
//!
//! ```
//! use hotlanes::sumtree;
//!
//! let mut leaves = [[0.0; 16]; 2];
//! (leaves[0][3], leaves[1][5]) = (1.0, 2.0);
//! let mut root = [[0.0; 16]];
//! sumtree::sums(&leaves, &[0, 1], &mut root);
//! assert_eq!(root[0][..3], [1.0, 2.0, 0.0]);
//!
//! let (mut at, mut high, mut low) = ([0, 0], [0.5, 1.5], [0.0, 0.0]);
//! sumtree::search(&root, &mut at, &mut high, &mut low);
//! assert_eq!((at, high), ([0, 1], [0.5, 0.5]));
//! sumtree::search(&leaves, &mut at, &mut high, &mut low);
//! assert_eq!(at, [3, 16 + 5]);
//! ```
//!
//! # Accuracy
//! A sum is four additions deep: it is off by at most `4 u` of itself, `u = 2^-24`. The search compares exactly, and
//! the rest of a number, two `f32`, is off by at most `2^-46` of it for a node. So of the numbers from 0 to a node's sum a
//! child gets a share that differs from its weight by at most `4 u` of the sum, the rounding of the sums.
//!
//! # NaN and infinity
//! Weights must be at least 0 and their sums finite: then no NaN arises. Others lead to some child.
//!
//! On the calling thread, with the same bits on every tier.

use crate::error::check_len;
use crate::lanes::{LANES, dispatch};
use crate::tier::active;

mod kernel;

use kernel::{Search, Sums};

/// `parents[i / 16][i % 16]` becomes the sum of `nodes[i]`, for each `i` of `which`.
///
/// # Panics
/// If there is no such node, or no such parent.
#[track_caller]
pub fn sums(nodes: &[[f32; LANES]], which: &[usize], parents: &mut [[f32; LANES]]) {
    dispatch(active(), Sums { nodes, which, parents });
}

/// Goes from nodes to children, for many numbers at once. Number `i` is `high[i] + low[i]`, of which `high[i]` is the
/// nearest `f32`, and lies in node `at[i]`. Then `at[i]` becomes `16 at[i] + c`, where `c` is the child in which it
/// lies, and the number what is left of it there.
///
/// A child of weight 0 is never found, unless all are. A number that is not below the sum of the node, as rounding may
/// make it, leads to one with weight.
///
/// # Panics
/// If there is no such node, or the lengths differ.
#[track_caller]
pub fn search(nodes: &[[f32; LANES]], at: &mut [usize], high: &mut [f32], low: &mut [f32]) {
    check_len("sumtree search", "high", high.len(), at.len(), "at");
    check_len("sumtree search", "low", low.len(), at.len(), "at");
    dispatch(active(), Search { nodes, at, high, low });
}
