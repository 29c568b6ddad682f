//! Where kernels are cut: each element is taken once.

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
        // What a long slice leaves to its second part begins at a line, where the tier has lines.
        assert!(self.first == 0 || self.to.len() + LANES < LINES || l.before_line(self.to) == 0);
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
