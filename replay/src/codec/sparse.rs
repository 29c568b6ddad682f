//! Few values among zeros: their number, their indices, themselves.

use super::Broken;

pub(super) fn stored(k: usize, bf16: bool) -> usize {
    2 + k * if bf16 { 4 } else { 6 }
}

pub(super) fn encode(record: &[u8], k: usize, bf16: bool, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    out.extend([0; 2]);
    let elements = record.as_chunks::<4>().0;
    let mut count = 0;
    for (i, element) in elements.iter().enumerate() {
        if u32::from_le_bytes(*element) != 0 {
            if count == k {
                let more = elements.iter().filter(|&x| u32::from_le_bytes(*x) != 0).count();
                return Err(format!("{more} values are not +0: must be at most {k}"));
            }
            count += 1;
            out.extend((i as u16).to_le_bytes());
        }
    }
    out[start..start + 2].copy_from_slice(&(count as u16).to_le_bytes());
    for i in 0..count {
        let at = start + 2 + 2 * i;
        let element = elements[usize::from(u16::from_le_bytes([out[at], out[at + 1]]))];
        if bf16 {
            let value = f32::from_le_bytes(element);
            let mut half = [0];
            hotlanes::bf16::from_f32(&[value], &mut half);
            out.extend(half[0].to_le_bytes());
        } else {
            out.extend(element);
        }
    }
    Ok(())
}

pub(super) fn decode(stored: &[u8], bf16: bool, out: &mut [u8]) -> Result<(), Broken> {
    let width = if bf16 { 2 } else { 4 };
    let (count, rest) = stored.split_first_chunk::<2>().ok_or(Broken)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if rest.len() != count * (2 + width) {
        return Err(Broken);
    }
    let (indices, values) = rest.split_at(2 * count);
    out.fill(0);
    let out = out.as_chunks_mut::<4>().0;
    for (index, value) in indices.as_chunks::<2>().0.iter().zip(values.chunks_exact(width)) {
        let element = out.get_mut(usize::from(u16::from_le_bytes(*index))).ok_or(Broken)?;
        element[4 - width..].copy_from_slice(value);
    }
    Ok(())
}
