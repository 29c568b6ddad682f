//! The maximum. The lanes' `max` lets a NaN go, so a sum runs along, which does not.

use super::sums::Cut;
use crate::lanes::{Chunk, Kernel, LANES, Lanes};

/// The largest element, whichever NaN there is, of zeros any; and a sum that is NaN if an element is.
pub(super) struct Largest<'a> {
    pub(super) x: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (f32, f32) {
        let Cut { head, groups, single, rest } = Cut::of(l, self.x);
        let (low, zero) = (l.splat(f32::NEG_INFINITY), l.splat(0.0));
        let (mut largest, mut sum) = ([low; 4], [zero; 2]);
        for g in groups {
            let x = [l.load(&g[0]), l.load(&g[1]), l.load(&g[2]), l.load(&g[3])];
            for k in 0..4 {
                largest[k] = l.max(x[k], largest[k]);
            }
            sum[0] = l.add(sum[0], l.add(x[0], x[1]));
            sum[1] = l.add(sum[1], l.add(x[2], x[3]));
        }
        if !head.is_empty() {
            largest[2] = l.max(l.load_end(head, low), largest[2]);
            sum[0] = l.add(sum[0], l.load_end(head, zero));
        }
        for v in single {
            let x = l.load(v);
            largest[0] = l.max(x, largest[0]);
            sum[0] = l.add(sum[0], x);
        }
        if !rest.is_empty() {
            largest[1] = l.max(l.load_part(rest, low), largest[1]);
            sum[1] = l.add(sum[1], l.load_part(rest, zero));
        }
        let largest = l.max(l.max(largest[0], largest[1]), l.max(largest[2], largest[3]));
        let mut lanes: Chunk = [0.0; LANES];
        l.store(&mut lanes, largest);
        let mut best = lanes[0];
        for x in lanes {
            best = if x > best { x } else { best };
        }
        (best, l.sum(l.add(sum[0], sum[1])))
    }
}
