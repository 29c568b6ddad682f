//! Gathers, and the proofs about indices that they rest on.

use super::super::indexed::{Index, IndexList, Permutation};
use super::*;
use crate::lanes::{GatherBlock, NEAR};

/// One block, by the CPU's gather and by a load per lane.
struct Gather<'a, I>(GatherBlock<'a, I>);

impl<I: Index> Kernel for Gather<'_, I> {
    type Output = [Chunk; 2];
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> [Chunk; 2] {
        let mut out = [[f32::NAN; LANES]; 2];
        l.store(&mut out[0], l.gather(self.0));
        l.store(&mut out[1], l.gather_loads(self.0));
        out
    }
}

fn check_gather<I: Index>(bound: usize) {
    let mut rng = Rng::new(bound as u64);
    // Miri fills memory slowly, unless with zeros, and takes every eighth length and start.
    let mut table = vec![if cfg!(miri) { 0.0 } else { f32::NAN }; bound];
    let step = if cfg!(miri) { 8 } else { 1 };
    for n in (0..=40).step_by(step) {
        // The largest index is among them, where a signed type would go wrong; the rest repeat now and then.
        let pick = |i| if i == n / 2 { bound - 1 } else { rng.below(bound) };
        let indices: Vec<usize> = (0..n).map(pick).collect();
        indices.iter().for_each(|&i| table[i] = rng.any());
        let typed = indices.iter().map(|&i| I::from_usize(i)).collect();
        let list = IndexList::new(typed, bound).unwrap();
        let lookup = list.over::<1>(&table, 1, 0);
        assert_eq!(lookup.len(), n);
        for k in (0..=n).step_by(step) {
            for len in [0, 1, (n - k) / 2, n - k].map(|len| len.min(n - k).min(LANES)) {
                let want: Vec<f32> = indices[k..k + len].iter().map(|&at| table[at]).collect();
                check_block(lookup.block(k, len), &want);
            }
        }
    }
}

fn check_block<I: Index>(block: GatherBlock<'_, I>, want: &[f32]) {
    on_each_tier(
        || Gather(block),
        |tier, out| {
            for (way, lanes) in ["gather", "gather_loads"].into_iter().zip(out) {
                for (i, &lane) in lanes.iter().enumerate() {
                    let want_i = want.get(i).copied().unwrap_or(0.0);
                    assert_same(lane, want_i, (tier, way, I::NAME, want.len(), i));
                }
            }
        },
    );
}

/// Sixteen of four vectors' values.
struct Pick<'a>(&'a [Chunk; NEAR / LANES], &'a [u8; LANES]);

impl Kernel for Pick<'_> {
    type Output = Chunk;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Chunk {
        let mut out = [f32::NAN; LANES];
        l.store(&mut out, l.pick(self.0, self.1));
        out
    }
}

/// Also by the upper bits of a place, which are not looked at.
#[test]
fn pick_takes_any_value_to_any_lane() {
    let mut rng = Rng::new(7);
    for _ in 0..cases(2000) {
        let from: [Chunk; NEAR / LANES] = std::array::from_fn(|_| std::array::from_fn(|_| rng.any()));
        let at: [u8; LANES] = std::array::from_fn(|_| rng.below(256) as u8);
        on_each_tier(
            || Pick(&from, &at),
            |tier, out| {
                for (i, lane) in out.into_iter().enumerate() {
                    assert_same(lane, from.as_flattened()[at[i] as usize % NEAR], (tier, i, at[i]));
                }
            },
        );
    }
}

#[test]
fn gather_u16() {
    check_gather::<u16>(1);
    check_gather::<u16>(1000);
    // With every u16 in bounds, half of them negative as an i16.
    check_gather::<u16>(u16::MAX_BOUND);
}

#[test]
fn gather_u32() {
    check_gather::<u32>(1);
    check_gather::<u32>(1000);
    check_gather::<u32>(100_003);
}

#[test]
fn an_index_out_of_bounds_is_named_by_its_position() {
    let list = |v: &[u16], bound| IndexList::new(v.into(), bound).map(|l| l.as_slice().to_vec());
    assert_eq!(list(&[0, 4, 2], 5), Ok(vec![0, 4, 2]));
    assert_eq!(list(&[0, 4, 2], 4), Err(1));
    assert_eq!(list(&[9, 9], 0), Err(0), "the first one");
    assert_eq!(list(&[], 0), Ok(vec![]));
    assert_eq!(list(&[0, u16::MAX], u16::MAX as usize), Err(1));
    assert_eq!(list(&[0, u16::MAX], u16::MAX_BOUND), Ok(vec![0, u16::MAX]));
    assert_eq!(IndexList::new([u32::MAX].into(), u32::MAX_BOUND).unwrap_err(), 0);
}

#[test]
fn bounds_are_those_of_the_signed_gather() {
    assert_eq!((u16::MAX_BOUND, u32::MAX_BOUND), (65_536, (1 << 31) - 1));
    assert_eq!(u16::from_usize(65_535).to_usize(), 65_535);
    assert_eq!(u32::from_usize((1 << 31) - 2).to_usize(), (1 << 31) - 2);
}

#[test]
#[should_panic(expected = "bound 65537 exceeds 65536 of u16")]
fn a_bound_beyond_the_type_panics() {
    let _ = IndexList::<u16>::new([].into(), 65_537);
}

#[test]
#[should_panic(expected = "fits u16")]
fn an_index_beyond_the_type_panics() {
    u16::from_usize(65_536);
}

#[test]
fn rows_of_a_table() {
    let table: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let list = IndexList::<u32>::new([5, 0, 3, 3].into(), 6).unwrap();
    let lookup = list.over::<4>(&table, 10, 6);
    let starts: Vec<f32> = (0..lookup.len()).map(|k| lookup.row(k)[0]).collect();
    assert_eq!(starts, [56.0, 6.0, 36.0, 36.0]);
    assert_eq!(lookup.row(0), &[56.0, 57.0, 58.0, 59.0], "to the table's end");
    let middle = lookup.range(1..3);
    assert_eq!((middle.len(), middle.row(1)[0]), (2, 36.0));
}

#[test]
fn rows_of_a_ring_are_taken_in_turns() {
    let rows: [[f32; 3]; 4] = std::array::from_fn(|r| [r as f32, 10.0, r as f32 + 20.0]);
    let list = IndexList::<u32>::new([5, 0, 3, 4, 1023].into(), 1024).unwrap();
    let ring = list.among::<3, true>(&rows);
    for (k, r) in [1, 0, 3, 0, 3].into_iter().enumerate() {
        assert_eq!(ring.row(k), &rows[r], "index {k}");
        assert_eq!(ring.range(k..5).row(0), &rows[r], "index {k}");
    }
    assert_eq!((ring.quad(0).row(3), ring.after_quads().row(0)), (&rows[0], &rows[3]));
    assert_eq!(list.among::<3, true>(&rows[..1]).row(2), &rows[0]);
    for n in [0, 3] {
        assert!(panics(|| list.among::<3, true>(&rows[..n]).len()), "{n} rows");
    }
    assert!(panics(|| ring.row(5).len()), "an index past the list");
    let list = IndexList::<u32>::new([2, 0].into(), 3).unwrap();
    assert_eq!(list.among::<3, false>(&rows[..3]).row(0), &rows[2]);
    assert!(panics(|| list.among::<3, false>(&rows[..2]).len()), "fewer rows than the bound");
}

#[test]
fn a_table_too_short_panics() {
    let table = [0.0; 60];
    let list = IndexList::<u32>::new([0].into(), 6).unwrap();
    assert!(!panics(|| list.over::<4>(&table, 10, 6).len()));
    assert!(panics(|| list.over::<4>(&table[..59], 10, 6).len()));
    assert!(panics(|| list.over::<4>(&table, 10, 7).len()));
    assert!(panics(|| list.over::<5>(&table, 10, 6).len()));
    assert!(panics(|| list.over::<4>(&table, 11, 6).len()));
    // Arithmetic that would wrap round to a small number.
    assert!(panics(|| list.over::<4>(&table, usize::MAX / 2, 6).len()));
    assert!(panics(|| list.over::<4>(&table, 10, usize::MAX).len()));
    assert!(panics(|| list.over::<1>(&table, 10, 6).row(1).len()), "an index past the list");
    // With bound 0 there is no row that could lie outside.
    assert_eq!(IndexList::<u32>::new([].into(), 0).unwrap().over::<16>(&[], 16, 0).len(), 0);
}

fn panics<R>(f: impl FnOnce() -> R) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
}

#[test]
fn slots_of_values() {
    let permutation = Permutation::new([2, 0, 3, 1].into());
    assert_eq!(permutation.as_list().as_slice(), [2, 0, 3, 1]);
    let mut values = [10.0, 11.0, 12.0, 13.0];
    let (mut left, mut right) = permutation.slots(&mut values, 1).split_at(3);
    check_block(left.block(0, 3), &[12.0, 10.0, 13.0]);
    check_block(left.block(1, 2), &[10.0, 13.0]);
    check_block(right.block(0, 1), &[11.0]);
    // From two threads at once, as the sparse backward does; Miri would see a shared value.
    std::thread::scope(|s| {
        s.spawn(move || {
            left.set(0, &[1.0]);
            left.set(1, &[2.0, 3.0]);
            check_block(left.block(0, 3), &[1.0, 2.0, 3.0]);
        });
        s.spawn(move || right.set(0, &[7.0]));
    });
    assert_eq!(values, [2.0, 7.0, 1.0, 3.0]);
}

#[test]
fn slots_of_rows() {
    let permutation = Permutation::new([2, 0, 1].into());
    let mut values = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
    let (mut left, mut right) = permutation.slots(&mut values, 2).split_at(1);
    assert_eq!(left.row(0), [20.0, 21.0]);
    assert_eq!(right.row(0), [0.0, 1.0]);
    assert_eq!(right.row(1), [10.0, 11.0]);
    std::thread::scope(|s| {
        s.spawn(move || left.row(0)[1] = 5.0);
        s.spawn(move || right.row(1)[0] = 6.0);
    });
    assert_eq!(values, [0.0, 1.0, 6.0, 11.0, 20.0, 5.0]);
}

#[test]
fn slots_split_at_either_end_and_no_further() {
    let permutation = Permutation::new([1, 0].into());
    let mut values = [5.0, 6.0];
    let (mut left, right) = permutation.slots(&mut values, 1).split_at(0);
    check_block(right.block(0, 2), &[6.0, 5.0]);
    assert!(panics(|| left.row(0).len()), "an empty side has no element");
    assert!(panics(|| left.set(0, &[1.0])));
    assert!(panics(|| left.block(0, 1).indices().len()));
    let (mut left, mut right) = right.split_at(2);
    assert!(panics(|| right.set(0, &[1.0])));
    assert!(panics(|| left.set(1, &[1.0, 2.0])), "one too many");
    assert!(panics(|| left.split_at(3)));
}

#[test]
fn values_are_not_taken_for_rows() {
    let permutation = Permutation::new([0, 1].into());
    let mut values = [0.0; 6];
    let mut slots = permutation.slots(&mut values, 3);
    assert!(panics(|| slots.set(0, &[1.0])));
    assert!(panics(|| slots.block(0, 1).indices().len()));
    assert_eq!(values, [0.0; 6]);
}

#[test]
#[should_panic(expected = "slot 1 occurs twice")]
fn a_permutation_with_a_duplicate_panics() {
    Permutation::new([0, 1, 1].into());
}

#[test]
#[should_panic]
fn a_permutation_beyond_its_length_panics() {
    Permutation::new([0, 3, 1].into());
}

#[test]
fn a_permutation_of_another_length_panics() {
    let permutation = Permutation::new([0, 1].into());
    for (len, stride) in [(3, 1), (1, 1), (0, 1), (5, 2), (2, 2), (2, usize::MAX)] {
        assert!(panics(|| _ = permutation.slots(&mut vec![0.0; len], stride)), "{len} / {stride}");
    }
    assert!(!panics(|| _ = permutation.slots(&mut [0.0; 6], 3)));
}

#[test]
fn parts_of_rows_and_quads_of_indices() {
    let table: Vec<f32> = (0..50).map(|i| i as f32).collect();
    let list = IndexList::<u16>::new([4, 0, 3, 1, 2, 4].into(), 5).unwrap();
    let rows = list.rows(&table, 10);
    for offset in 0..=6 {
        let part = rows.part::<4>(offset);
        for (k, &i) in list.as_slice().iter().enumerate() {
            let start = i as usize * 10 + offset;
            assert_eq!(part.row(k)[..], table[start..start + 4]);
            let quad = if k < 4 { part.quad(0).row(k) } else { part.after_quads().row(k - 4) };
            assert_eq!(quad, part.row(k));
        }
    }
    for offset in [7, 10, 11, usize::MAX] {
        assert!(panics(|| rows.part::<4>(offset).len()));
    }
    assert!(panics(|| rows.part::<11>(0).len()));
    assert!(panics(|| rows.part::<4>(0).quad(1).len()));
}
