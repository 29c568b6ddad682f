//! Room on the stack: what is read was written, and there is no more than there is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::Stack;
use super::{Chunk, LANES};

/// A vector that is no other's.
fn mark(i: usize) -> Chunk {
    std::array::from_fn(|lane| (i * LANES + lane + 1) as f32)
}

#[test]
fn vectors_are_those_that_were_pushed() {
    let mut stack = Stack::<5>::new();
    assert!(stack.vectors().is_empty());
    // Again after a clear, with what was there before not to be seen.
    for round in 0..3 {
        for i in 0..3 + round {
            assert_eq!(*stack.push(), [0.0; LANES], "push {i} of round {round}");
            assert_eq!(stack.vectors().len(), i + 1);
            stack.clear();
            for j in 0..=i {
                *stack.push() = mark(round * 10 + j);
            }
        }
        for (i, vector) in stack.vectors().iter().enumerate() {
            assert_eq!(*vector, mark(round * 10 + i));
        }
        assert_eq!(stack.vectors().len(), 3 + round);
        stack.clear();
        assert!(stack.vectors().is_empty());
    }
}

#[test]
fn the_first_are_there_or_zeros() {
    let mut stack = Stack::<6>::new();
    *stack.push() = mark(0);
    *stack.push() = mark(1);
    assert!(stack.first_mut(0).is_empty());
    assert_eq!(stack.first_mut(1), [mark(0)]);
    assert_eq!(stack.first_mut(4), [mark(0), mark(1), [0.0; LANES], [0.0; LANES]]);
    stack.first_mut(4)[3] = mark(3);
    stack.first_mut(2).fill(mark(7));
    assert_eq!(stack.vectors(), [mark(7), mark(7), [0.0; LANES], mark(3)]);
    *stack.push() = mark(4);
    assert_eq!(stack.first_mut(6), [mark(7), mark(7), [0.0; LANES], mark(3), mark(4), [0.0; LANES]]);
    stack.clear();
    assert_eq!(stack.first_mut(2), [[0.0; LANES]; 2]);
}

#[test]
fn there_is_no_room_beyond() {
    let mut stack = Stack::<2>::new();
    *stack.push() = mark(0);
    let too_many = catch_unwind(AssertUnwindSafe(|| {
        stack.first_mut(3);
    }));
    assert!(too_many.is_err());
    assert_eq!(stack.vectors(), [mark(0), [0.0; LANES]]);
    let one_more = catch_unwind(AssertUnwindSafe(|| {
        stack.push();
    }));
    assert!(one_more.is_err());
    assert_eq!(stack.vectors(), [mark(0), [0.0; LANES]]);

    let mut none = Stack::<0>::new();
    assert!(none.vectors().is_empty() && none.first_mut(0).is_empty());
    assert!(
        catch_unwind(AssertUnwindSafe(|| {
            none.push();
        }))
        .is_err()
    );
}

#[test]
fn vectors_are_cache_lines() {
    let mut stack = Stack::<3>::new();
    stack.push();
    assert_eq!(stack.vectors().as_ptr() as usize % 64, 0);
}
