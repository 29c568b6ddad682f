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
const LINES: usize = 960;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Lanes;
    use crate::tier::{Tier, active, with_tier};

    /// Writes each element's number, and how often it was written.
    struct Number<'a> {
        active: Active,
        first: usize,
        to: &'a mut [f32],
    }

    impl Elementwise for Number<'_> {
        fn active(&self) -> Active {
            self.active
        }

        fn written(&self) -> &[f32] {
            self.to
        }

        fn split_at(self, at: usize) -> (Self, Self) {
            let (a, b) = self.to.split_at_mut(at);
            (Number { to: a, ..self }, Number { to: b, first: self.first + at, ..self })
        }
    }

    impl Kernel for Number<'_> {
        type Output = ();

        fn run<L: Lanes>(self, l: L) {
            // A long part begins at a line, where lines matter.
            assert!(self.to.len() < LANES || self.to.len() < LINES || l.before_line(self.to) == 0);
            for (i, to) in self.to.iter_mut().enumerate() {
                *to += (self.first + i) as f32;
            }
        }
    }

    #[test]
    fn each_element_is_taken_once_at_every_offset() {
        let mut memory = vec![0.0; LINES + 3 * LANES];
        for tier in Tier::available() {
            for offset in 0..=LANES {
                for n in [0, 1, LANES + 1, LINES - 1, LINES, LINES + LANES + 1] {
                    let to = &mut memory[offset..offset + n];
                    to.fill(0.0);
                    with_tier(tier, || Work::run(Number { active: active(), first: 0, to }))
                        .expect("an available tier");
                    let (mut parts, mut whole) = (vec![0.0; n], vec![0.0; n]);
                    whole.copy_from_slice(&memory[offset..offset + n]);
                    if let Ok((a, b)) = (Number { active: active(), first: 0, to: &mut parts }).split() {
                        Work::run(a);
                        Work::run(b);
                        assert_eq!(parts, whole, "{tier}, {n} at {offset}, in two");
                    }
                    assert!(whole.iter().enumerate().all(|(i, &x)| x == i as f32), "{tier}, {n} at {offset}");
                }
            }
        }
    }
}
