//! Where kernels are cut: each element is taken once.

use super::*;
use crate::lanes::Lanes;
use crate::tier::{Tier, active, with_tier};

/// Adds each element's number, from 1 on: what is taken twice or left out shows.
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
        // What is long, or is left of something long, begins at a line where the tier has lines.
        let long = if self.first == 0 { LINES } else { LINES - LANES };
        assert!(self.to.len() < long || l.before_line(self.to) == 0, "{} elements", self.to.len());
        for (i, to) in self.to.iter_mut().enumerate() {
            *to += (self.first + i + 1) as f32;
        }
    }
}

#[test]
fn each_element_is_taken_once_at_every_offset() {
    for tier in Tier::available() {
        for offset in 0..=LANES {
            for n in [0, 1, 2, LANES + 1, 2 * LANES + 1, LINES - 1, LINES, LINES + LANES + 1] {
                with_tier(tier, || check(n, offset)).expect("an available tier");
            }
        }
    }
}

/// `n` elements, whole and in two, from somewhere in memory on.
fn check(n: usize, offset: usize) {
    let what = format!("{}, {n} at {offset}", active().tier());
    let want: Vec<f32> = (1..=n).map(|i| i as f32).collect();
    let mut memory = vec![0.0; n + LANES];
    let to = &mut memory[offset..offset + n];
    Work::run(Number { active: active(), first: 0, to: &mut *to });
    assert_eq!(to, want, "{what}");
    to.fill(0.0);
    if let Ok((a, b)) = (Number { active: active(), first: 0, to: &mut *to }).split() {
        // Else cutting would never end.
        assert!(!a.to.is_empty() && !b.to.is_empty(), "{what}, in two");
        Work::run(a);
        Work::run(b);
        assert_eq!(to, want, "{what}, in two");
    }
}
