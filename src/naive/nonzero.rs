//! Values that are not +0.

use super::twins;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// Their indices and themselves, as far as there are places; `count` becomes their number.
    nonzero_find, nonzero_find_auto,
    (values: &[f32], indices: &mut [u16], found: &mut [f32], count: &mut [u32]) {
        let mut n = 0;
        for (i, x) in values.iter().enumerate() {
            if x.to_bits() != 0 {
                if n < indices.len() {
                    indices[n] = i as u16;
                    found[n] = *x;
                }
                n += 1;
            }
        }
        count[0] = n as u32;
    }
}
