use proptest::prelude::*;

use super::*;

/// Encodes records in their order, as one stream whose every `key`-th record stands alone, and decodes each.
fn round_trip(column: &Column, key: usize, records: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut stored = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let mut out = Vec::new();
        match column.codec.size(column) {
            Size::Fixed(len) => {
                out.resize(len, 0xAA);
                column.codec.encode_fixed(column, record, &mut out)?;
            }
            Size::Variable(most) => {
                let before = (i % key > 0).then(|| records[i - 1].as_slice());
                column.codec.encode_variable(column, record, before, &mut out)?;
                assert!(out.len() <= most, "{} bytes of {most}", out.len());
            }
        }
        stored.push(out);
    }
    let decode = |i: usize| {
        let mut out = vec![0x55; column.record_bytes()];
        let back = |j: usize| i.checked_sub(j).map(|i| stored[i].as_slice());
        column.codec.decode(column, back, &mut out).unwrap();
        out
    };
    Ok((0..records.len()).map(decode).collect())
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn column(dtype: Dtype, shape: &[usize], codec: Codec) -> Column {
    crate::Schema::new(vec![Column::new("x", dtype, shape).codec(codec)]).unwrap().columns()[0].clone()
}

proptest! {
    #[test]
    fn raw_and_lz4_return_any_bytes(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 40), 1..4), run in any::<bool>(),
    ) {
        let records: Vec<_> = if run { records.iter().map(|r| vec![r[0]; 40]).collect() } else { records };
        for codec in [Codec::Raw, Codec::Lz4] {
            let x = column(Dtype::I32, &[10], codec);
            prop_assert_eq!(&round_trip(&x, 1, &records).unwrap(), &records);
        }
    }

    #[test]
    fn bit_planes_return_zeros_ones_and_constants(
        plane in 1usize..20, binary in 0usize..4, constants in prop::collection::vec(any::<f32>(), 0..3),
        seed in any::<u64>(),
    ) {
        prop_assume!(binary + constants.len() > 0);
        let bit = |i: usize| seed.rotate_left(i as u32 * 7) & 1;
        let mut values: Vec<f32> = (0..binary * plane).map(|i| bit(i) as f32).collect();
        values.extend(constants.iter().flat_map(|&x| vec![x; plane]));
        let codec = Codec::BitPlanes { plane, constant: constants.len() };
        let x = column(Dtype::F32, &[binary + constants.len(), plane], codec);
        let record = f32s(&values);
        prop_assert_eq!(&round_trip(&x, 1, std::slice::from_ref(&record)).unwrap()[0], &record);
        let x = column(Dtype::U8, &[binary + constants.len(), plane], codec);
        let bytes: Vec<u8> = values.iter().map(|&x| x as u8).collect();
        prop_assert_eq!(&round_trip(&x, 1, std::slice::from_ref(&bytes)).unwrap()[0], &bytes);
    }

    #[test]
    fn top_k_returns_what_is_not_zero(values in prop::collection::btree_map(0usize..300, any::<u32>(), 0..9)) {
        let mut record = vec![0.0; 300];
        values.iter().for_each(|(&i, &x)| record[i] = f32::from_bits(x));
        let x = column(Dtype::F32, &[300], Codec::TopK { k: 8, bf16: false });
        prop_assert_eq!(&round_trip(&x, 1, &[f32s(&record)]).unwrap()[0], &f32s(&record));
        // bf16 rounds once: what it returns it returns again.
        let x = column(Dtype::F32, &[300], Codec::TopK { k: 8, bf16: true });
        let once = round_trip(&x, 1, &[f32s(&record)]).unwrap();
        prop_assert_eq!(&round_trip(&x, 1, &once).unwrap(), &once);
        for (a, b) in record.iter().zip(once[0].as_chunks::<4>().0) {
            let b = f32::from_le_bytes(*b);
            let near = (a - b).abs() <= a.abs() / 256.0 || b.is_infinite();
            prop_assert!(a.to_bits() == b.to_bits() || !a.is_normal() || near, "{} {}", a, b);
        }
    }

    #[test]
    fn frames_return_every_stack(
        steps in prop::collection::vec((any::<u8>(), 1usize..5), 1..20), key in 1usize..8,
    ) {
        // Each step moves the stack on by one to four frames; four are a new stack.
        let mut stack = vec![0u8; 8];
        let mut records = Vec::new();
        for &(value, by) in &steps {
            stack.rotate_left(2 * by % 8);
            stack[8 - 2 * by..].iter_mut().enumerate().for_each(|(i, x)| *x = value.wrapping_add(i as u8));
            records.push(stack.clone());
        }
        let x = column(Dtype::U8, &[4, 2], Codec::Frames);
        prop_assert_eq!(&round_trip(&x, key, &records).unwrap(), &records);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_record_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let (planes, sparse) = (Codec::BitPlanes { plane: 4, constant: 1 }, Codec::TopK { k: 4, bf16: false });
        for codec in [Codec::Raw, Codec::Lz4, Codec::Frames, sparse, planes] {
            let x = column(Dtype::F32, &[2, 4], codec);
            let _ = codec.decode(&x, |back| (back < 3).then_some(&bytes[..]), &mut [0; 32]);
        }
    }
}

// Numbers that lie as such are packed and unpacked otherwise than those at any byte.
#[test]
fn bit_planes_are_the_same_wherever_they_lie() {
    for plane in [5, 8, 24, 64] {
        let values: Vec<f32> = (0..3 * plane).map(|i| (i * i % 7 % 2) as f32).collect();
        for (dtype, record) in
            [(Dtype::F32, f32s(&values)), (Dtype::U8, values.iter().map(|&x| x as u8).collect())]
        {
            let codec = Codec::BitPlanes { plane, constant: 0 };
            let x = column(dtype, &[3, plane], codec);
            let mut want = vec![0; 3 * plane.div_ceil(8)];
            for (i, &value) in values.iter().enumerate() {
                want[i / plane * plane.div_ceil(8) + i % plane / 8] |= (value as u8) << (i % plane % 8);
            }
            for offset in 0..5 {
                let mut memory = vec![0; offset + record.len()];
                memory[offset..].copy_from_slice(&record);
                let mut stored = vec![0xAA; want.len()];
                codec.encode_fixed(&x, &memory[offset..], &mut stored).unwrap();
                assert_eq!(stored, want, "{dtype:?}, plane {plane}, offset {offset}");
                memory[offset..].fill(0x55);
                codec.decode(&x, |back| (back == 0).then_some(&stored[..]), &mut memory[offset..]).unwrap();
                assert_eq!(memory[offset..], record, "{dtype:?}, plane {plane}, offset {offset}");
                let at = record.len() - record.len() / 3;
                memory[offset + at] |= 2;
                assert!(
                    codec.encode_fixed(&x, &memory[offset..], &mut stored).is_err(),
                    "{dtype:?}, {plane}"
                );
            }
        }
    }
}

#[test]
fn what_a_codec_cannot_hold_is_named() {
    let told = |x: &Column, values: &[f32]| round_trip(x, 1, &[f32s(values)]).unwrap_err();
    let planes = column(Dtype::F32, &[2, 2], Codec::BitPlanes { plane: 2, constant: 1 });
    assert_eq!(told(&planes, &[1.0, 0.5, 3.0, 3.0]), "element 1 is 0.5: must be 0 or 1 in a bit plane");
    assert_eq!(told(&planes, &[1.0, -0.0, 3.0, 3.0]), "element 1 is -0.0: must be 0 or 1 in a bit plane");
    let wanted = "plane 1 must be of one value, and its element 1 differs from the first";
    assert_eq!(told(&planes, &[1.0, 0.0, 3.0, 4.0]), wanted);
    let sparse = column(Dtype::F32, &[4], Codec::TopK { k: 1, bf16: false });
    assert_eq!(told(&sparse, &[0.0, 1.0, 2.0, 3.0]), "3 values are not +0: must be at most 1");
}

#[test]
fn a_frame_of_a_stack_that_goes_on_is_stored_once() {
    let x = column(Dtype::U8, &[4, 100], Codec::Frames);
    let stack = |first: u8| (first..first + 4).flat_map(|frame| [frame; 100]).collect::<Vec<u8>>();
    let mut out = Vec::new();
    x.codec.encode_variable(&x, &stack(1), Some(&stack(0)), &mut out).unwrap();
    assert_eq!(out.len(), 101);
}
