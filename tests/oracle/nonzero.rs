//! Values that are not +0, against a filter.

use hotlanes::nonzero;

use crate::common::{Rng, for_each_tier, panic_message};

#[test]
fn all_that_is_not_plus_zero_is_found_in_order() {
    let mut rng = Rng::new(1);
    let others =
        [0x8000_0000, 1, 0x8000_0001, 0x0080_0000, 0x3F80_0000, 0x7F80_0000, 0x7FC0_0000, 0xFF80_0001];
    for n in (0..=130).chain([500, 4672, 1 << 16]) {
        for one_in in [1, 2, 30] {
            let mut values = vec![0.0; n];
            for x in &mut values {
                if rng.below(one_in) == 0 {
                    *x = f32::from_bits(others[rng.below(others.len())]);
                }
            }
            let want: Vec<(u16, u32)> = (0..n)
                .filter(|&i| values[i].to_bits() != 0)
                .map(|i| (i as u16, values[i].to_bits()))
                .collect();
            // Too few places, just enough, and some more.
            for places in [0, want.len() / 2, want.len().saturating_sub(1), want.len(), want.len() + 20] {
                for_each_tier(|tier| {
                    let (mut indices, mut found) = (vec![7; places], vec![0.25; places]);
                    assert_eq!(nonzero::find(&values, &mut indices, &mut found), want.len(), "{tier}: {n}");
                    for i in 0..places {
                        let expected = want.get(i).copied().unwrap_or((7, 0.25f32.to_bits()));
                        assert_eq!((indices[i], found[i].to_bits()), expected, "{tier}: {i} of {n}");
                    }
                });
            }
        }
    }
}

#[test]
fn a_wrong_length_panics_with_both() {
    let message = panic_message(|| _ = nonzero::find(&[0.0; 9], &mut [0; 3], &mut [0.0; 4]));
    assert_eq!(message, "nonzero find: found has 4 values, indices asks for 3");
    let values = vec![0.0; nonzero::MOST + 1];
    let message = panic_message(|| _ = nonzero::find(&values, &mut [], &mut []));
    assert_eq!(message, "nonzero find: 65537 values, at most 65536 can be counted");
}
