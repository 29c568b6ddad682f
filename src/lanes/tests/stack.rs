//! Room on the stack: what is read was written, and there is no more than there is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::Stack;
use super::*;

/// Pushes vectors.
struct Push<'a, const N: usize>(&'a mut Stack<N>, &'a [Chunk]);

impl<const N: usize> Kernel for Push<'_, N> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for vector in self.1 {
            self.0.push_vector(l, l.load(vector));
        }
    }
}

fn push<const N: usize>(stack: &mut Stack<N>, vectors: &[Chunk]) {
    dispatch(active(), Push(stack, vectors));
}

/// Vectors that are no other's.
fn marks<const N: usize>() -> [Chunk; N] {
    std::array::from_fn(|i| std::array::from_fn(|lane| (i * LANES + lane + 1) as f32))
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn vectors_are_those_that_were_pushed() {
    for tier in Tier::available() {
        with_tier(tier, || {
            let mut stack = Stack::<5>::new();
            assert!(stack.vectors().is_empty() && stack.values().is_empty());
            // Again after a clear, with what was there before not to be seen.
            let marks = marks::<10>();
            for round in 0..3 {
                let vectors = &marks[round * 2..][..3 + round];
                for (i, vector) in vectors.iter().enumerate() {
                    push(&mut stack, std::slice::from_ref(vector));
                    assert_eq!(stack.vectors(), &vectors[..=i], "{tier}");
                }
                assert_eq!(stack.values(), vectors.as_flattened(), "{tier}");
                stack.clear();
                assert!(stack.vectors().is_empty() && stack.values().is_empty());
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
        assert_eq!(stack.vectors().as_flattened(), &all[..at / LANES * LANES], "{at} values");
    }
    stack.push::<0>(&[]);
    assert_eq!(stack.values(), all);
}

#[test]
fn there_is_no_room_beyond() {
    let marks = marks::<3>();
    let mut stack = Stack::<2>::new();
    push(&mut stack, &marks[..1]);
    assert!(panics(|| push(&mut stack, &marks[1..])));
    // What fitted is there.
    assert_eq!(stack.vectors(), &marks[..2]);
    assert!(panics(|| stack.push(&[1.0])));
    assert_eq!(stack.vectors(), &marks[..2]);

    stack.clear();
    stack.push(&[1.0; 17]);
    assert!(panics(|| stack.push(&[2.0; 16])));
    assert_eq!(stack.values(), [1.0; 17]);
    stack.push(&[2.0; 15]);
    assert_eq!(stack.values().len(), 32);
    assert!(panics(|| stack.push(&[3.0; 40])));

    let mut none = Stack::<0>::new();
    assert!(none.values().is_empty() && none.vectors().is_empty());
    assert!(panics(|| none.push(&[1.0])));
    assert!(panics(|| push(&mut none, &marks[..1])));
    assert!(none.values().is_empty());
}

/// It is a mistake, which unoptimised builds refuse; what is read was written in any build.
#[test]
fn a_vector_after_a_part_of_one() {
    let marks = marks::<1>();
    let mut stack = Stack::<3>::new();
    stack.push(&[7.0; 19]);
    let refused = panics(|| push(&mut stack, &marks));
    assert_eq!(refused, cfg!(debug_assertions));
    let want = if refused { vec![7.0; 19] } else { [[7.0; LANES], marks[0]].concat() };
    assert_eq!(stack.values(), want);
}

#[test]
fn vectors_are_cache_lines() {
    let mut stack = Stack::<3>::new();
    push(&mut stack, &marks::<2>());
    assert_eq!(stack.vectors().as_ptr() as usize % 64, 0);
}
