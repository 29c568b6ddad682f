//! Where a record's parts lie in a segment.

use crate::buffer::{Config, Eviction};
use crate::codec::Size;
use crate::error::{Error, Result};
use crate::schema::Schema;

/// Segments where the configuration leaves that open: so many that a spare one takes less than a hundredth.
const SEGMENTS: usize = 128;
/// Records of a segment at least, as far as there are enough for a few segments.
const FEW: usize = 16;
const MOST_CAPACITY: usize = 1 << 40;
const MOST_SEGMENTS: usize = 1 << 16;
/// Rows are `u32`.
const MOST_ROWS: usize = 1 << 31;
/// Ends of records in an arena are `u32`.
const MOST_ARENA: usize = u32::MAX as usize;

/// Regions of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Records of a segment.
    pub(crate) rows: usize,
    /// Live segments.
    pub(crate) places: usize,
    /// Bytes of each region.
    pub(crate) sizes: Vec<usize>,
    /// The region of the records' kinds of step, where there are episodes.
    pub(crate) steps: Option<usize>,
    pub(crate) columns: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Fixed {
        region: usize,
        size: usize,
    },
    /// `u32` ends of the records in the arena, and the arena.
    Variable {
        ends: usize,
        arena: usize,
    },
}

impl Layout {
    pub(crate) fn new(schema: &Schema, config: &Config) -> Result<Layout> {
        let capacity = config.capacity;
        if !(1..=MOST_CAPACITY).contains(&capacity) {
            return Err(Error::setting("capacity", capacity, "must be 1 to 2^40 records"));
        }
        let segments = match config.segments {
            0 => (capacity / FEW).clamp(2, SEGMENTS),
            2..=MOST_SEGMENTS => config.segments,
            other => {
                return Err(Error::setting(
                    "segments",
                    other,
                    "must be 2 to 65536, or 0 for a number that fits",
                ));
            }
        };
        let rows = capacity.div_ceil(segments);
        if rows > MOST_ROWS {
            return Err(Error::setting(
                "segments",
                segments,
                "must be so many that each has at most 2^31 records",
            ));
        }
        let strict = config.eviction == Eviction::Record;
        let mut layout = Layout {
            rows,
            // The window of the newest records reaches into one segment more.
            places: capacity.div_ceil(rows) + usize::from(strict),
            sizes: Vec::new(),
            steps: config.episodes.then_some(0),
            columns: Vec::new(),
        };
        if config.episodes {
            layout.sizes.push(rows);
        }
        for column in schema.columns() {
            let place = match column.codec.size(column) {
                Size::Fixed(size) => Place::Fixed { region: layout.region(rows.checked_mul(size))?, size },
                Size::Variable(most) => {
                    let bytes = rows
                        .checked_mul(column.budget.unwrap_or(most))
                        .filter(|&n| n.max(most) <= MOST_ARENA);
                    let Some(bytes) = bytes else {
                        let rule = format!(
                            "{rows} records of a segment must have less than 4 GiB: more segments are needed"
                        );
                        return Err(Error::Schema { column: column.name.clone(), rule });
                    };
                    Place::Variable {
                        ends: layout.region(Some(4 * rows))?,
                        arena: layout.region(Some(bytes.max(most)))?,
                    }
                }
            };
            layout.columns.push(place);
        }
        Ok(layout)
    }

    /// Of all segments.
    pub(crate) fn bytes(&self, spare: usize) -> usize {
        let segment = self.sizes.iter().fold(0usize, |all, &size| all.saturating_add(size));
        segment.saturating_mul(self.places + spare)
    }

    fn region(&mut self, size: Option<usize>) -> Result<usize> {
        let most = isize::MAX as usize / 4096;
        match size.filter(|&size| size <= most) {
            Some(size) => {
                self.sizes.push(size);
                Ok(self.sizes.len() - 1)
            }
            None => Err(Error::setting("capacity", self.rows, "a segment of so many records is too large")),
        }
    }
}

/// End of record `row` in an arena.
pub(crate) fn end_of(ends: &[u8], row: usize) -> usize {
    u32::from_le_bytes(ends.as_chunks::<4>().0[row]) as usize
}
