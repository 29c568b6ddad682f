//! Nodes of sixteen weights: `nodes` has sixteen values to a node.

use super::twins;
use crate::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::tier::active;

twins! {
    /// Sums of nodes to their parents.
    sumtree_sums, sumtree_sums_auto, (nodes: &[f32], which: &[usize], parents: &mut [f32]) {
        for &i in which {
            let mut v = [0.0; LANES];
            v.copy_from_slice(&nodes[LANES * i..][..LANES]);
            for half in [8, 4, 2, 1] {
                for j in 0..half {
                    v[j] += v[j + half];
                }
            }
            parents[i] = v[0];
        }
    }
}

twins! {
    /// Numbers to children, each by itself, in `f64`.
    sumtree_search, sumtree_search_auto,
    (nodes: &[f32], at: &mut [usize], high: &mut [f32], low: &mut [f32]) {
        for ((at, high), low) in at.iter_mut().zip(high).zip(low) {
            let w = &nodes[LANES * *at..][..LANES];
            // From v[half] on the sums of as many parts.
            let mut v = [0.0; 2 * LANES];
            v[LANES..].copy_from_slice(w);
            for half in [8, 4, 2, 1] {
                for j in 0..half {
                    v[half + j] = v[2 * half + j] + v[3 * half + j];
                }
            }
            let (mut rest, mut child, mut whole) = (*high as f64 + *low as f64, 0, v[1]);
            for parts in [2, 4, 8, 16] {
                let left = v[parts + child];
                if rest < left as f64 || whole <= left {
                    whole = left;
                } else {
                    rest -= left as f64;
                    child += parts / 2;
                    whole = v[parts + child];
                }
            }
            *at = LANES * *at + child;
            *high = rest as f32;
            *low = (rest - *high as f64) as f32;
        }
    }
}
