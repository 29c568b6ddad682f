//! Kernels that go element by element over slices of one length: how they are cut, for threads and at cache lines.

use crate::lanes::{Kernel, LANES, before_line, dispatch};
use crate::parallel::Work;
use crate::tier::Active;

/// Such a kernel; what it computes for an element does not depend on where it is cut.
pub(crate) trait Elementwise: Kernel<Output = ()> + Send + Sized {
    fn active(&self) -> Active;
    /// What it writes, or of several slices that which decides about lines.
    fn written(&self) -> &[f32];
    /// The first `at` elements, and the others.
    fn split_at(self, at: usize) -> (Self, Self);
    /// In the unit of the thresholds.
    fn size(&self) -> usize {
        self.written().len()
    }
}

/// From so many elements on, vectors begin at a cache line: what lies before it costs a call of its own.
pub(crate) const LINES: usize = 1024;

impl<E: Elementwise> Work for E {
    fn size(&self) -> usize {
        Elementwise::size(self)
    }

    /// Where a line begins, so that two threads do not share one: also of bf16, of which a line has twice as many.
    fn split(self) -> Result<(Self, Self), Self> {
        let n = self.written().len();
        let middle = before_line(self.active(), self.written()) + (n / 2).next_multiple_of(2 * LANES);
        if middle >= n { Err(self) } else { Ok(self.split_at(middle)) }
    }

    #[inline(always)]
    fn run(self) {
        let active = self.active();
        if self.written().len() >= LINES {
            let head = before_line(active, self.written());
            if head > 0 {
                return from_line(active, self, head);
            }
        }
        dispatch(active, self);
    }
}

/// What lies before the line, and the rest.
#[inline(never)]
fn from_line<E: Elementwise>(active: Active, work: E, head: usize) {
    let (head, rest) = work.split_at(head);
    for part in [head, rest] {
        dispatch(active, part);
    }
}
