//! Few values among zeros: their number, their indices, themselves.

use hotlanes::{bf16, nonzero};

use super::Broken;

pub(super) fn stored(k: usize, bf16: bool) -> usize {
    2 + k * if bf16 { 4 } else { 6 }
}

pub(super) fn encode(record: &[u8], k: usize, bf16: bool, out: &mut Vec<u8>) -> Result<(), String> {
    let copy: Vec<f32>;
    let values = match bytemuck::try_cast_slice(record) {
        Ok(values) => values,
        // Bytes that do not lie as numbers do.
        Err(_) => {
            copy = record.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
            &copy
        }
    };
    let (mut indices, mut found) = (vec![0; k], vec![0.0; k]);
    let count = nonzero::find(values, &mut indices, &mut found);
    if count > k {
        return Err(format!("{count} values are not +0: must be at most {k}"));
    }
    let (indices, found) = (&indices[..count], &found[..count]);
    out.extend((count as u16).to_le_bytes());
    out.extend_from_slice(bytemuck::cast_slice(indices));
    if bf16 {
        let mut halves = vec![0; count];
        bf16::from_f32(found, &mut halves);
        out.extend_from_slice(bytemuck::cast_slice(&halves));
    } else {
        out.extend_from_slice(bytemuck::cast_slice(found));
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
