//! What a reader sees: live segments, pinned, each with the records it had then.

use crate::layout::{Layout, Place, end_of};
use crate::ring::Ring;
use crate::segment::{NONE, Pin};
use crate::writer::Step;

/// A record in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At {
    pub(crate) part: u32,
    pub(crate) row: u32,
}

/// A segment in a snapshot.
pub(crate) struct Part<'a> {
    pub(crate) pin: Pin<'a>,
    pub(crate) ordinal: u64,
    /// The ordinal in which its writer went on.
    pub(crate) next: u64,
    pub(crate) rows: usize,
    pub(crate) stride: usize,
    /// The first row that is not evicted.
    pub(crate) from: usize,
    /// Records in the parts before it.
    before: usize,
}

pub(crate) struct Snapshot<'a> {
    /// In the order of ordinals: the oldest first.
    parts: Vec<Part<'a>>,
    len: usize,
    layout: &'a Layout,
}

impl<'a> Snapshot<'a> {
    /// All, or the newest `window` records.
    pub(crate) fn new(ring: &'a Ring, layout: &'a Layout, window: Option<usize>) -> Snapshot<'a> {
        let mut parts: Vec<_> =
            (0..ring.places()).filter_map(|place| ring.pin_place(place)).map(Part::new).collect();
        parts.sort_unstable_by_key(|part| part.ordinal);
        let mut len: usize = parts.iter().map(|part| part.rows).sum();
        let mut evicted = window.map_or(0, |window| len.saturating_sub(window));
        len -= evicted;
        let mut before = 0;
        for part in &mut parts {
            part.from = evicted.min(part.rows);
            evicted -= part.from;
            part.before = before;
            before += part.rows - part.from;
        }
        Snapshot { parts, len, layout }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn parts(&self) -> &[Part<'a>] {
        &self.parts
    }

    pub(crate) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// The record of a number, from the oldest.
    #[inline]
    pub(crate) fn at(&self, number: usize) -> At {
        let part = self.parts.partition_point(|part| part.before <= number) - 1;
        At { part: part as u32, row: (self.parts[part].from + number - self.parts[part].before) as u32 }
    }

    /// The number of a record, from the oldest.
    pub(crate) fn number(&self, at: At) -> usize {
        let part = &self.parts[at.part as usize];
        part.before + at.row as usize - part.from
    }

    /// A record's identity, which no other one ever has.
    pub(crate) fn id(&self, at: At) -> u64 {
        self.parts[at.part as usize].ordinal * self.layout.rows as u64 + u64::from(at.row)
    }

    /// The part of an ordinal.
    pub(crate) fn part_of(&self, ordinal: u64) -> Option<usize> {
        self.parts.binary_search_by_key(&ordinal, |part| part.ordinal).ok()
    }

    /// The next record of the stream, in the same episode or not.
    fn next_in_stream(&self, at: At) -> Option<At> {
        let mut part = &self.parts[at.part as usize];
        let (mut index, mut row) = (at.part as usize, at.row as usize + part.stride);
        while row >= part.rows {
            if part.next == NONE {
                return None;
            }
            row -= part.rows;
            index = self.part_of(part.next)?;
            part = &self.parts[index];
        }
        Some(At { part: index as u32, row: row as u32 })
    }

    /// The next record of the same episode.
    #[inline]
    pub(crate) fn successor(&self, at: At) -> Option<At> {
        let next = self.next_in_stream(at)?;
        (self.flags(next) & Step::BEGINS == 0).then_some(next)
    }

    /// The record's kind and whether it begins an episode.
    #[inline]
    pub(crate) fn flags(&self, at: At) -> u8 {
        match self.layout.steps {
            Some(region) => self.parts[at.part as usize].pin.bytes(region)[at.row as usize],
            None => Step::BEGINS,
        }
    }

    pub(crate) fn step(&self, at: At) -> Step {
        Step::of(self.flags(at))
    }

    /// What is stored of a record's column.
    #[inline]
    pub(crate) fn stored(&self, column: usize, at: At) -> &[u8] {
        self.stored_in(column, at.part as usize, at.row as usize)
    }

    #[inline]
    fn stored_in(&self, column: usize, part: usize, row: usize) -> &[u8] {
        let pin = &self.parts[part].pin;
        match self.layout.columns[column] {
            Place::Fixed { region, size } => &pin.bytes(region)[row * size..][..size],
            Place::Variable { ends, arena } => {
                let ends = pin.bytes(ends);
                let start = if row == 0 { 0 } else { end_of(ends, row - 1) };
                &pin.bytes(arena)[start..end_of(ends, row)]
            }
        }
    }

    /// The same of the record so many steps before it in the stream, in the same segment.
    pub(crate) fn stored_before(&self, column: usize, at: At, back: usize) -> Option<&[u8]> {
        let part = &self.parts[at.part as usize];
        let row = (at.row as usize).checked_sub(back.checked_mul(part.stride)?)?;
        Some(self.stored_in(column, at.part as usize, row))
    }
}

impl<'a> Part<'a> {
    fn new(pin: Pin<'a>) -> Part<'a> {
        // In this order: where a successor is seen, the rows are final.
        let next = pin.next();
        let rows = pin.rows();
        Part { ordinal: pin.ordinal(), next, rows, stride: pin.stride(), from: 0, before: 0, pin }
    }
}
