//! Zeros and ones as bits, against each bit by itself.

use hotlanes::bits;

use crate::common::{Rng, for_each_tier, panic_message};

fn lengths() -> impl Iterator<Item = usize> {
    (0..=70).chain([127, 128, 129, 500, 7808])
}

fn bit(bits: &[u8], i: usize) -> u8 {
    bits[i / 8] >> (i % 8) & 1
}

#[test]
fn each_value_is_its_bit() {
    let mut rng = Rng::new(1);
    for n in lengths() {
        // Bits beyond the last value are not read, so they may be anything.
        let packed: Vec<u8> = (0..n.div_ceil(8)).map(|_| rng.below(256) as u8).collect();
        for_each_tier(|tier| {
            let mut floats = vec![f32::NAN; n];
            bits::unpack_f32(&packed, &mut floats);
            for i in 0..n {
                assert_eq!(floats[i].to_bits(), f32::from(bit(&packed, i)).to_bits(), "{tier}: {i} of {n}");
            }
        });
    }
}

#[test]
fn what_is_packed_comes_back() {
    let mut rng = Rng::new(2);
    for n in lengths() {
        let values: Vec<f32> = (0..n).map(|_| rng.below(2) as f32).collect();
        for_each_tier(|tier| {
            let (mut packed, mut back) = (vec![0xA5; n.div_ceil(8)], vec![f32::NAN; n]);
            assert!(bits::pack_f32(&values, &mut packed), "{tier}: {n}");
            for i in 0..8 * packed.len() {
                let want = if i < n { values[i] as u8 } else { 0 };
                assert_eq!(bit(&packed, i), want, "{tier}: {i} of {n}");
            }
            bits::unpack_f32(&packed, &mut back);
            assert_eq!(back, values, "{tier}");
        });
    }
}

#[test]
fn one_other_value_is_found_wherever_it_is() {
    let one = 1.0f32.to_bits();
    let others = [
        0x8000_0000,
        one | 0x8000_0000,
        one + 1,
        one - 1,
        1,
        0x0080_0000,
        0x7F80_0000,
        0x7FC0_0000,
        0x7F80_0001,
    ];
    for n in [1, 7, 16, 40, 100] {
        for_each_tier(|tier| {
            for at in 0..n {
                for other in others {
                    let mut values: Vec<f32> = (0..n).map(|i| (i % 3 % 2) as f32).collect();
                    values[at] = f32::from_bits(other);
                    let mut packed = vec![0xFF; n.div_ceil(8)];
                    assert!(!bits::pack_f32(&values, &mut packed), "{tier}: {other:#x} at {at} of {n}");
                    for i in 0..8 * packed.len() {
                        let want = i < n && values[i] == 1.0;
                        assert_eq!(
                            bit(&packed, i),
                            u8::from(want),
                            "{tier}: {other:#x} at {at}, bit {i} of {n}"
                        );
                    }
                }
            }
        });
    }
}

#[test]
fn a_wrong_length_panics_with_both() {
    let message = panic_message(|| bits::unpack_f32(&[0; 3], &mut [0.0; 25]));
    assert_eq!(message, "bits unpack f32: bits has 3 values, out asks for 4");
    let message = panic_message(|| {
        let _ = bits::pack_f32(&[0.0; 9], &mut [0; 1]);
    });
    assert_eq!(message, "bits pack f32: bits has 1 values, values asks for 2");
}
