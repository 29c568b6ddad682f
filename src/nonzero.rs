//! The few values of a slice that are not +0.
//!
//! ```text
//! indices = those i, ascending, with bits(values[i]) != 0;   found[j] = values[indices[j]]
//! ```
//!
//! ```
//! let (mut indices, mut found) = ([0; 4], [0.0; 4]);
//! assert_eq!(hotlanes::nonzero::find(&[0.0, 0.5, 0.0, -0.0, 2.0], &mut indices, &mut found), 3);
//! assert_eq!((&indices[..3], &found[..3]), (&[1, 3, 4][..], &[0.5, -0.0, 2.0][..]));
//! ```
//!
//! # Accuracy
//! Exact: values are copied, and -0 and each NaN are among them with the bits that they have.
//!
//! On the calling thread, with the same bits on every tier.

use crate::error::check_len;
use crate::lanes::dispatch;
use crate::tier::active;

mod kernel;

use kernel::Find;

/// The most values that [`find`] takes: indices are `u16`.
pub const MOST: usize = 1 << 16;

/// Finds the values that are not +0, and returns their number, which may be more than the places in `indices` and
/// `found`: those have the first ones then. Places beyond are left as they are.
///
/// # Panics
/// If `indices` and `found` differ in length, or there are more than [`MOST`] values.
#[track_caller]
pub fn find(values: &[f32], indices: &mut [u16], found: &mut [f32]) -> usize {
    check_len("nonzero find", "found", found.len(), indices.len(), "indices");
    assert!(values.len() <= MOST, "nonzero find: {} values, at most {MOST} can be counted", values.len());
    dispatch(active(), Find { values, indices, found })
}
