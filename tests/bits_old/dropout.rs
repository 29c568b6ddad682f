//! Dropout: an element's bits depend on its number and value alone.

use hotlanes::LANES;
use hotlanes::dropout::Dropout;
use hotlanes::tuning::{DROPOUT_PARALLEL, DROPOUT_PIECE};
use proptest::prelude::*;

use crate::common::{Guarded, Hash, Rng, SPECIALS, assert_same, for_each_tier, offsets};
use crate::pools::on_pools;

fn values(rng: &mut Rng, n: usize) -> Vec<f32> {
    rng.vec(n, |rng| match rng.below(30) {
        0 => SPECIALS[rng.below(SPECIALS.len())],
        _ => rng.spread(-8, 4),
    })
}

/// Each element in a call of its own.
fn one_by_one(dropout: &Dropout, x: &[f32], offset: u64) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    for i in 0..x.len() {
        dropout.forward(&x[i..=i], &mut y[i..=i], offset + i as u64);
    }
    y
}

#[test]
fn every_length_at_every_offset() {
    let mut rng = Rng::new(1);
    let dropout = Dropout::new(0.4, 11).unwrap();
    let lengths: Vec<usize> =
        if cfg!(miri) { vec![1, 33, 70] } else { (0..=2 * LANES + 1).chain(63..=66).chain([200]).collect() };
    let starts = if cfg!(miri) { vec![0, 31] } else { vec![0, 1, 15, 16, 17, 31, 32, 1000] };
    for len in lengths {
        let x = values(&mut rng, len);
        for &start in &starts {
            let want = one_by_one(&dropout, &x, start);
            for_each_tier(|tier| {
                for offset in offsets().step_by(4) {
                    let what = format!("{tier}, {len} elements from {start}, offset {offset}");
                    let from = Guarded::new(offset, &x);
                    let mut to = Guarded::new((offset + 3) % 17, &vec![f32::NAN; len]);
                    dropout.forward(from.get(), to.get_mut(), start);
                    assert_same(to.get(), &want, &what);
                    to.get_mut().fill(f32::NAN);
                    dropout.backward(from.get(), to.get_mut(), start);
                    assert_same(to.get(), &want, &what);
                    from.assert_guards(&what);
                    to.assert_guards(&what);
                }
            });
        }
    }
}

#[test]
fn threads_change_nothing() {
    let mut rng = Rng::new(2);
    let dropout = Dropout::new(0.1, 12).unwrap();
    for n in [DROPOUT_PARALLEL - 1, DROPOUT_PARALLEL + DROPOUT_PIECE / 2 + 7] {
        let x = values(&mut rng, n);
        for offset in [0, (1 << 40) + 5] {
            let mut first: Option<Vec<f32>> = None;
            on_pools(|threads| {
                for_each_tier(|tier| {
                    let mut y = vec![f32::NAN; n];
                    dropout.forward(&x, &mut y, offset);
                    let want = first.get_or_insert_with(|| y.clone());
                    assert_same(&y, want, format!("{tier}, {threads} threads, {n} from {offset}"));
                });
            });
        }
    }
}

/// The hash that every machine must find. A change that moves it is a decision for CHANGELOG.md.
const GOLDEN: u64 = 0x8F6B_DE5A_3029_466D;

#[test]
fn the_hash_is_golden() {
    let x = values(&mut Rng::new(3), 1003);
    for_each_tier(|tier| {
        let mut hash = Hash::new();
        for (p, seed, offset) in [(0.0, 1, 0), (0.1, 2, 0), (0.5, 1 << 50, 3), (0.9, 4, 1 << 37)] {
            let mut y = vec![f32::NAN; x.len()];
            Dropout::new(p, seed).unwrap().forward(&x, &mut y, offset);
            hash.add(&y);
        }
        assert_eq!(format!("{:#018x}", hash.get()), format!("{GOLDEN:#018x}"), "{tier}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_range_is_a_part_of_the_whole(
        before in 0..100u64, len in 0..300usize, p in 0.0..1.0f64, seed: u64, start in 0..u64::MAX / 2,
    ) {
        let dropout = Dropout::new(p, seed).unwrap();
        let x = values(&mut Rng::new(seed), len + before as usize);
        for_each_tier(|tier| {
            let mut whole = vec![f32::NAN; x.len()];
            dropout.forward(&x, &mut whole, start);
            let mut part = vec![f32::NAN; len];
            dropout.forward(&x[before as usize..], &mut part, start + before);
            assert_same(&part, &whole[before as usize..], tier);
        });
    }
}
