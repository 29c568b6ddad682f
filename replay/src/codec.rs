//! How a column's records are stored.
//!
//! | codec | of | bytes of a record |
//! |---|---|---|
//! | [`Codec::Raw`] | anything | as added |
//! | [`Codec::BitPlanes`] | `f32` or `u8` planes of zeros and ones, then constant ones | a bit, or a value a plane |
//! | [`Codec::TopK`] | `f32`, mostly +0 | 2, and 6 (with bf16 values 4) for each other value |
//! | [`Codec::Frames`] | stacks of frames, each the one before moved on | 1, and the new frames |
//! | [`Codec::Lz4`] | anything | 1, and an LZ4 block, or the record where that is smaller |
//!
//! All are lossless, and refuse what they cannot hold, but for the top-k with bf16 values, which rounds each to
//! nearest, ties to even.

use std::ops::ControlFlow;

use crate::schema::{Column, Dtype};

mod frames;
mod planes;
mod sparse;

/// How a column's records are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// Planes of `plane` elements, each a zero or a one; the last `constant` planes are each of one value.
    BitPlanes {
        /// Elements of a plane.
        plane: usize,
        /// Planes, the last ones, whose elements are equal.
        constant: usize,
    },
    /// At most `k` values that are not +0.
    TopK {
        /// The most values of a record that are not +0.
        k: usize,
        /// Whether values are rounded to bf16.
        bf16: bool,
    },
    /// A stack of frames, oldest first: the first dimension counts them. Of a stack that continues the one before it in
    /// its stream, only the new frames are stored.
    Frames,
    /// An LZ4 block for each record.
    Lz4,
}

/// Bytes of a stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// So many.
    Fixed(usize),
    /// So many at most.
    Variable(usize),
}

impl Codec {
    /// Whether samples have the bits of the records that were added.
    pub fn is_lossless(self) -> bool {
        !matches!(self, Codec::TopK { bf16: true, .. })
    }

    /// Whether a column can have this codec; else the rule.
    pub(crate) fn check(self, column: &Column) -> Result<(), String> {
        let (dtype, elements) = (column.dtype, column.elements());
        match self {
            Codec::Raw | Codec::Lz4 => Ok(()),
            Codec::BitPlanes { plane, constant } => {
                if !matches!(dtype, Dtype::F32 | Dtype::U8) {
                    return Err(format!("bit planes: the dtype must be f32 or u8, and is {dtype}"));
                }
                if plane == 0 || !elements.is_multiple_of(plane) || constant > elements / plane {
                    return Err(format!(
                        "bit planes: {elements} elements are not planes of {plane}, {constant} constant"
                    ));
                }
                Ok(())
            }
            Codec::TopK { k, .. } => {
                if dtype != Dtype::F32 || elements > 1 << 16 {
                    return Err(format!("top-k: must be at most 65536 f32, and is {elements} {dtype}"));
                }
                if k == 0 || k > elements.min(u16::MAX.into()) {
                    return Err(format!(
                        "top-k: k must be 1 to {}, and is {k}",
                        elements.min(u16::MAX.into())
                    ));
                }
                Ok(())
            }
            Codec::Frames => match column.shape.first() {
                Some(1..=255) if dtype != Dtype::Bits => Ok(()),
                _ => {
                    Err("frames: the shape must begin with 1 to 255 frames, and the dtype not be bits".into())
                }
            },
        }
    }

    /// Bytes of a stored record.
    pub(crate) fn size(self, column: &Column) -> Size {
        let raw = column.record_bytes();
        match self {
            Codec::Raw => Size::Fixed(raw),
            Codec::BitPlanes { plane, constant } => {
                Size::Fixed(planes::Planes::of(column, plane, constant).stored())
            }
            Codec::TopK { k, bf16 } => Size::Variable(sparse::stored(k, bf16)),
            Codec::Frames | Codec::Lz4 => Size::Variable(1 + raw),
        }
    }

    /// Encodes a record of fixed size.
    pub(crate) fn encode_fixed(self, column: &Column, record: &[u8], out: &mut [u8]) -> Result<(), String> {
        match self {
            Codec::BitPlanes { plane, constant } => {
                planes::Planes::of(column, plane, constant).encode(record, out)
            }
            _ => {
                out.copy_from_slice(record);
                Ok(())
            }
        }
    }

    /// Appends an encoded record of variable size. `before` is the record before it in its stream, if that will be at
    /// hand.
    pub(crate) fn encode_variable(
        self,
        column: &Column,
        record: &[u8],
        before: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Codec::TopK { k, bf16 } => sparse::encode(record, k, bf16, out),
            Codec::Frames => {
                frames::encode(record, column.shape[0], before, out);
                Ok(())
            }
            _ => {
                let start = out.len();
                out.resize(start + 1 + lz4_flex::block::get_maximum_output_size(record.len()), 1);
                match lz4_flex::block::compress_into(record, &mut out[start + 1..]) {
                    Ok(len) if len < record.len() => out.truncate(start + 1 + len),
                    _ => {
                        out.truncate(start);
                        out.push(0);
                        out.extend_from_slice(record);
                    }
                }
                Ok(())
            }
        }
    }

    /// Decodes a record. `stored(j)` is the one that many steps back in its stream, `stored(0)` itself.
    ///
    /// # Errors
    /// These bytes are no such record.
    pub(crate) fn decode<'a>(
        self,
        column: &Column,
        stored: impl Fn(usize) -> Option<&'a [u8]>,
        out: &mut [u8],
    ) -> Result<(), Broken> {
        let record = stored(0).ok_or(Broken)?;
        match self {
            Codec::Raw => {
                if record.len() != out.len() {
                    return Err(Broken);
                }
                out.copy_from_slice(record);
                Ok(())
            }
            Codec::BitPlanes { plane, constant } => {
                planes::Planes::of(column, plane, constant).decode(record, out)
            }
            Codec::TopK { bf16, .. } => sparse::decode(record, bf16, out),
            Codec::Frames => frames::decode(column.shape[0], stored, out),
            Codec::Lz4 => match record.split_first().ok_or(Broken)? {
                (0, raw) if raw.len() == out.len() => {
                    out.copy_from_slice(raw);
                    Ok(())
                }
                (1, block) => match lz4_flex::block::decompress_into(block, out) {
                    Ok(len) if len == out.len() => Ok(()),
                    _ => Err(Broken),
                },
                _ => Err(Broken),
            },
        }
    }
}

/// Bytes that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// The first place where `ok` is false.
fn first_not<T: Copy>(values: impl IntoIterator<Item = T>, ok: impl Fn(T) -> bool) -> Option<(usize, T)> {
    let found = values.into_iter().enumerate().try_for_each(|(i, value)| {
        if ok(value) { ControlFlow::Continue(()) } else { ControlFlow::Break((i, value)) }
    });
    found.break_value()
}

#[cfg(test)]
mod tests;
