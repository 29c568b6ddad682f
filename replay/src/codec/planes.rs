//! Planes of zeros and ones as bits.

use super::{Broken, first_not};
use crate::schema::{Column, Dtype};

const ONE: u32 = 1.0f32.to_bits();

/// For each byte its eight bits as numbers, the lowest first.
static AS_F32: [[u8; 32]; 256] = as_f32();
static AS_U8: [[u8; 8]; 256] = as_u8();

const fn as_u8() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        table[i / 8][i % 8] = ((i / 8) >> (i % 8) & 1) as u8;
        i += 1;
    }
    table
}

const fn as_f32() -> [[u8; 32]; 256] {
    let mut table = [[0; 32]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            let one = 1.0f32.to_le_bytes();
            table[i / 8][i % 8 * 4 + 2] = one[2];
            table[i / 8][i % 8 * 4 + 3] = one[3];
        }
        i += 1;
    }
    table
}

#[derive(Clone, Copy)]
pub(super) struct Planes {
    plane: usize,
    binary: usize,
    constant: usize,
    /// Bytes of an element.
    unit: usize,
}

impl Planes {
    pub(super) fn of(column: &Column, plane: usize, constant: usize) -> Planes {
        let planes = column.elements() / plane;
        let unit = if column.dtype == Dtype::F32 { 4 } else { 1 };
        Planes { plane, binary: planes - constant, constant, unit }
    }

    fn bits(&self) -> usize {
        self.plane.div_ceil(8)
    }

    pub(super) fn stored(&self) -> usize {
        self.binary * self.bits() + self.constant * self.unit
    }

    pub(super) fn encode(&self, record: &[u8], out: &mut [u8]) -> Result<(), String> {
        let (binary, constant) = record.split_at(self.binary * self.plane * self.unit);
        let (bits, values) = out.split_at_mut(self.binary * self.bits());
        // Numbers that lie as such: on the lanes. With whole bytes to a plane all planes in one call.
        let good = match bytemuck::try_cast_slice(binary) {
            Ok(binary) if self.unit == 4 => {
                let (plane, bytes) = self.at_once(binary.len(), bits.len());
                let planes = binary.chunks_exact(plane).zip(bits.chunks_exact_mut(bytes));
                planes.fold(true, |good, (plane, bits)| hotlanes::bits::pack_f32(plane, bits) & good)
            }
            _ => self.pack(binary, bits),
        };
        if !good {
            return Err(self.not_binary(binary));
        }
        for (i, plane) in constant.chunks_exact(self.plane * self.unit).enumerate() {
            let value = &plane[..self.unit];
            if let Some((at, _)) = first_not(plane.chunks_exact(self.unit), |element| element == value) {
                let plane = self.binary + i;
                return Err(format!(
                    "plane {plane} must be of one value, and its element {at} differs from the first"
                ));
            }
            values[i * self.unit..][..self.unit].copy_from_slice(value);
        }
        Ok(())
    }

    /// Elements and bytes of bits that one call of the kernels takes, of so many in all: a plane, or all planes, where
    /// each ends with a byte.
    fn at_once(&self, elements: usize, bytes: usize) -> (usize, usize) {
        if self.plane.is_multiple_of(8) && elements > 0 {
            (elements, bytes)
        } else {
            (self.plane, self.bits())
        }
    }

    /// Plane by plane. Whether all are 0 or 1.
    fn pack(&self, binary: &[u8], bits: &mut [u8]) -> bool {
        let mut good = true;
        let planes = binary.chunks_exact(self.plane * self.unit).zip(bits.chunks_exact_mut(self.bits()));
        if self.unit == 4 {
            for (plane, bits) in planes {
                good &= pack_f32(plane, bits);
            }
        } else {
            for (plane, bits) in planes {
                good &= pack_u8(plane, bits);
            }
        }
        good
    }

    #[cold]
    fn not_binary(&self, binary: &[u8]) -> String {
        let (at, value) = if self.unit == 4 {
            let values = binary.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x));
            first_not(values, |x| matches!(x.to_bits(), 0 | ONE)).map(|(at, x)| (at, format!("{x:?}")))
        } else {
            first_not(binary.iter().copied(), |x| x < 2).map(|(at, x)| (at, x.to_string()))
        }
        .expect("an element is neither");
        format!("element {at} is {value}: must be 0 or 1 in a bit plane")
    }

    pub(super) fn decode(&self, stored: &[u8], out: &mut [u8]) -> Result<(), Broken> {
        if stored.len() != self.stored()
            || out.len() != (self.binary + self.constant) * self.plane * self.unit
        {
            return Err(Broken);
        }
        let (bits, values) = stored.split_at(self.binary * self.bits());
        let (binary, constant) = out.split_at_mut(self.binary * self.plane * self.unit);
        if self.unit == 1 {
            unpack(bits, self.bits(), binary, self.plane, &AS_U8);
        } else {
            match bytemuck::try_cast_slice_mut(binary) {
                Ok(binary) => {
                    let binary: &mut [f32] = binary;
                    let (plane, bytes) = self.at_once(binary.len(), bits.len());
                    let planes = bits.chunks_exact(bytes).zip(binary.chunks_exact_mut(plane));
                    planes.for_each(|(bits, plane)| hotlanes::bits::unpack_f32(bits, plane));
                }
                Err(_) => unpack(bits, self.bits(), binary, self.plane * 4, &AS_F32),
            }
        }
        let planes = constant.chunks_exact_mut(self.plane * self.unit);
        for (plane, value) in planes.zip(values.chunks_exact(self.unit)) {
            plane.chunks_exact_mut(self.unit).for_each(|element| element.copy_from_slice(value));
        }
        Ok(())
    }
}

/// Whether all are 0 or 1; then `bits` has them.
fn pack_f32(plane: &[u8], bits: &mut [u8]) -> bool {
    let mut good = true;
    for (eight, bits) in plane.chunks(32).zip(bits) {
        let mut byte = 0;
        for (i, element) in eight.as_chunks::<4>().0.iter().enumerate() {
            let value = u32::from_le_bytes(*element);
            good &= value == 0 || value == ONE;
            byte |= u8::from(value != 0) << i;
        }
        *bits = byte;
    }
    good
}

fn pack_u8(plane: &[u8], bits: &mut [u8]) -> bool {
    const LOWEST: u64 = 0x0101_0101_0101_0101;
    let mut all = 0;
    let (eights, rest) = plane.as_chunks::<8>();
    for (eight, bits) in eights.iter().zip(&mut *bits) {
        let eight = u64::from_le_bytes(*eight);
        all |= eight;
        // The lowest bit of byte `i` goes to bit `56 + i`, none of the other products to one of these.
        *bits = ((eight & LOWEST).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    if !rest.is_empty() {
        bits[eights.len()] = rest.iter().enumerate().fold(0, |byte, (i, element)| byte | (element & 1) << i);
        all |= rest.iter().fold(0, |all, &element| all | u64::from(element));
    }
    all & !LOWEST == 0
}

fn unpack<const N: usize>(
    bits: &[u8],
    bits_of_plane: usize,
    out: &mut [u8],
    plane: usize,
    table: &[[u8; N]; 256],
) {
    if plane.is_multiple_of(N) {
        for (byte, out) in bits.iter().zip(out.as_chunks_mut::<N>().0) {
            *out = table[usize::from(*byte)];
        }
        return;
    }
    for (bits, out) in bits.chunks_exact(bits_of_plane).zip(out.chunks_exact_mut(plane)) {
        for (byte, out) in bits.iter().zip(out.chunks_mut(N)) {
            out.copy_from_slice(&table[usize::from(*byte)][..out.len()]);
        }
    }
}
