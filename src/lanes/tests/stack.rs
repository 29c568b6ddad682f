//! Room on the stack: what is read was written, and there is no more than there is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::{PanelStack, Source, Stack};
use super::*;

/// Pushes vectors to a panel.
struct Push<'a, const K: usize, const Q: usize>(&'a mut PanelStack<K, Q>, usize, &'a [Chunk]);

impl<const K: usize, const Q: usize> Kernel for Push<'_, K, Q> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for vector in self.2 {
            self.0.push(l, self.1, l.load(vector));
        }
    }
}

fn push<const K: usize, const Q: usize>(stack: &mut PanelStack<K, Q>, q: usize, vectors: &[Chunk]) {
    dispatch(active(), Push(stack, q, vectors));
}

/// Vectors that are no other's.
fn marks<const N: usize>() -> [Chunk; N] {
    std::array::from_fn(|i| std::array::from_fn(|lane| (i * LANES + lane + 1) as f32))
}

/// Fills panels of a stack with the first values of each step's and panel's mark.
struct Fill<'a, const M: usize, const N: usize>(&'a mut Stack<N>, usize, usize);

/// The vector of a step and a panel: no other has its values.
fn mark(p: usize, q: usize) -> Chunk {
    std::array::from_fn(|lane| (1000 * q + 16 * p + lane + 1) as f32)
}

impl<const M: usize, const N: usize> Kernel for Fill<'_, M, N> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        self.0.fill::<L, M>(l, (self.1, self.2), &Marks);
    }
}

/// The marks as a source.
struct Marks;

impl Source for Marks {
    type Step = usize;

    #[inline(always)]
    fn step<L: Lanes>(&self, _: L, p: usize) -> usize {
        p
    }

    #[inline(always)]
    fn vector<L: Lanes>(&self, l: L, p: usize, q: usize) -> L::F {
        l.load(&mark(p, q))
    }
}

/// Fills the first panels.
struct FillPanels<'a, const K: usize, const Q: usize>(&'a mut PanelStack<K, Q>, usize, usize);

impl<const K: usize, const Q: usize> Kernel for FillPanels<'_, K, Q> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        self.0.fill(l, (self.1, self.2), &Marks);
    }
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn vectors_are_those_that_were_pushed() {
    for tier in Tier::available() {
        with_tier(tier, || {
            let mut stack = PanelStack::<5, 3>::new();
            // Again after a clear, with what was there before not to be seen; each panel with as many as it has.
            let marks = marks::<10>();
            for round in 0..3 {
                let vectors = &marks[round * 2..][..3 + round];
                for (i, vector) in vectors.iter().enumerate() {
                    push(&mut stack, round, std::slice::from_ref(vector));
                    push(&mut stack, (round + 1) % 3, &marks[..(i == 0) as usize]);
                    assert_eq!(stack.panel(round), &vectors[..=i], "{tier}");
                    assert_eq!(stack.panel((round + 1) % 3), &marks[..1], "{tier}");
                    assert!(stack.panel((round + 2) % 3).is_empty(), "{tier}");
                }
                stack.clear();
                assert!((0..3).all(|q| stack.panel(q).is_empty()));
            }
        })
        .expect("an available tier");
    }
}

#[test]
fn values_lie_one_after_the_other() {
    let mut stack = Stack::<2>::new();
    let all: [f32; 32] = std::array::from_fn(|i| (i + 1) as f32);
    let mut at = 0;
    // As many as the rows of tiles, across the vectors' ends, until all is full.
    for n in [12, 6, 8, 4, 1, 1] {
        match n {
            12 => stack.push::<12>(all[at..at + 12].try_into().unwrap()),
            8 => stack.push::<8>(all[at..at + 8].try_into().unwrap()),
            6 => stack.push::<6>(all[at..at + 6].try_into().unwrap()),
            4 => stack.push::<4>(all[at..at + 4].try_into().unwrap()),
            _ => stack.push::<1>(all[at..at + 1].try_into().unwrap()),
        }
        at += n;
        assert_eq!(stack.values(), &all[..at], "{at} values");
    }
    stack.push::<0>(&[]);
    assert_eq!(stack.values(), all);
}

/// Of panels of `M` rows, all steps side by side, behind what was there before; and no room for more than there is room for.
fn filled_side_by_side<const M: usize>() {
    for (panels, k) in [(0, 3), (3, 0), (1, 1), (1, 4), (3, 5), (4, 7)] {
        let mut stack = Stack::<30>::new();
        stack.push(&[-1.0; 3]);
        dispatch(active(), Fill::<M, 30>(&mut stack, panels, k));
        let mut expected = vec![-1.0; 3];
        for q in 0..panels {
            for p in 0..k {
                expected.extend_from_slice(&mark(p, q)[..M]);
            }
        }
        assert_eq!(stack.values(), expected, "{panels} panels of {k} steps of {M}");
    }
    // The last that fits, without a lane beyond; then one more.
    let k = 32 / M;
    let mut stack = Stack::<4>::new();
    dispatch(active(), Fill::<M, 4>(&mut stack, 2, k));
    assert_eq!(stack.values().len(), 2 * k * M);
    assert_eq!(stack.values()[k * M..][..M], mark(0, 1)[..M]);
    assert_eq!(stack.values()[(2 * k - 1) * M..], mark(k - 1, 1)[..M]);
    assert!(panics(|| dispatch(active(), Fill::<M, 4>(&mut stack, 1, 64 / M))));
    // Nor for so many that their number overflows.
    assert!(panics(|| dispatch(active(), Fill::<M, 4>(&mut stack, usize::MAX / M, 2))));
    assert!(panics(|| dispatch(active(), Fill::<M, 4>(&mut stack, 1, (usize::MAX / M).saturating_add(1)))));
    assert_eq!(stack.values().len(), 2 * k * M);
}

#[test]
fn panels_are_filled_side_by_side() {
    for tier in Tier::available() {
        with_tier(tier, || {
            filled_side_by_side::<1>();
            filled_side_by_side::<2>();
            filled_side_by_side::<4>();
            filled_side_by_side::<6>();
            filled_side_by_side::<8>();
            filled_side_by_side::<16>();
        })
        .expect("an available tier");
    }
}

#[test]
fn panels_are_filled_step_by_step() {
    for tier in Tier::available() {
        with_tier(tier, || {
            let mut panels = PanelStack::<5, 3>::new();
            for (count, k) in [(3, 5), (2, 3), (0, 5), (1, 0)] {
                panels.clear();
                dispatch(active(), FillPanels(&mut panels, count, k));
                for q in 0..3 {
                    let expected: Vec<Chunk> =
                        (0..if q < count { k } else { 0 }).map(|p| mark(p, q)).collect();
                    assert_eq!(panels.panel(q), expected, "{tier}: panel {q} of {count}");
                }
            }
            assert!(panics(|| dispatch(active(), FillPanels(&mut panels, 4, 1))));
            assert!(panics(|| dispatch(active(), FillPanels(&mut panels, 1, 6))));
        })
        .expect("an available tier");
    }
}

#[test]
fn there_is_no_room_beyond() {
    let marks = marks::<3>();
    let mut panels = PanelStack::<2, 2>::new();
    push(&mut panels, 0, &marks[..1]);
    assert!(panics(|| push(&mut panels, 0, &marks[1..])));
    // What fitted is there, and the next panel is as it was.
    assert_eq!(panels.panel(0), &marks[..2]);
    assert!(panels.panel(1).is_empty());
    assert!(panics(|| push(&mut panels, 2, &marks[..1])));

    let mut stack = Stack::<2>::new();
    stack.push(&[1.0; 17]);
    assert!(panics(|| stack.push(&[2.0; 16])));
    assert_eq!(stack.values(), [1.0; 17]);
    stack.push(&[2.0; 15]);
    assert_eq!(stack.values().len(), 32);
    assert!(panics(|| stack.push(&[3.0; 40])));
    stack.clear();
    assert!(stack.values().is_empty());

    let mut none = Stack::<0>::new();
    assert!(none.values().is_empty());
    assert!(panics(|| none.push(&[1.0])));
    assert!(none.values().is_empty());
}

#[test]
fn panels_are_cache_lines() {
    let mut stack = PanelStack::<3, 2>::new();
    push(&mut stack, 1, &marks::<2>());
    assert_eq!(stack.panel(1).as_ptr() as usize % 64, 0);
}

#[test]
fn what_was_not_written_is_zero() {
    let mut stack = Stack::<4>::new();
    stack.push(&[7.0; LANES]);
    let vectors = stack.first_mut(3);
    assert_eq!(vectors, &[[7.0; LANES], [0.0; LANES], [0.0; LANES]]);
    vectors[2][15] = 1.0;
    assert_eq!(stack.values().len(), 48);
    assert_eq!(stack.values()[47], 1.0);
    assert_eq!(stack.first_mut(1), &[[7.0; LANES]]);
    assert!(panics(|| _ = stack.first_mut(5)));
}

#[test]
fn more_vectors_than_there_is_room_for_are_refused() {
    // Sixteen times some of these are 0 in a usize.
    for n in [3, usize::MAX / LANES + 1, 1 << (usize::BITS - 4), 1 << (usize::BITS - 1), usize::MAX] {
        let mut stack = Stack::<2>::new();
        let panic = catch_unwind(AssertUnwindSafe(|| stack.first_mut(n).len())).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(*message, format!("{n} vectors do not fit 2"));
        assert!(stack.values().is_empty());
        assert!(catch_unwind(AssertUnwindSafe(|| stack.grow(n.max(33)).len())).is_err());
        for size in [(n, 1), (1, n.max(33)), (n, n)] {
            let fill = catch_unwind(AssertUnwindSafe(|| {
                dispatch(active(), Fill::<16, 2>(&mut stack, size.0, size.1))
            }));
            assert!(fill.is_err(), "{size:?}");
        }
    }
    assert_eq!(Stack::<2>::new().first_mut(2), [[0.0; LANES]; 2]);
}
