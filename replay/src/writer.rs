//! Adding records.

use std::ops::Range;

use crate::buffer::{Buffer, Shared};
use crate::codec::{Codec, Size};
use crate::error::{Error, Result};
use crate::layout::{Layout, Place};
use crate::schema::{Data, Schema};
use crate::segment::Tail;
use crate::sync::lock;

/// The kind of a record in its episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Step {
    /// The stream's next record is the next step of the episode.
    #[default]
    Continues,
    /// The episode ended with this step: nothing follows, and the value of what would is 0.
    Terminated,
    /// The episode was cut after this step, as by a time limit: what would follow has a value. It may be added as
    /// [`Final`](Step::Final).
    Truncated,
    /// Not a step: the observation after the last step. The other columns are ignored. Never drawn itself.
    Final,
}

impl Step {
    /// Set in a record's byte where it begins an episode.
    pub(crate) const BEGINS: u8 = 4;

    pub(crate) fn of(flags: u8) -> Step {
        [Step::Continues, Step::Terminated, Step::Truncated, Step::Final][usize::from(flags & 3)]
    }

    /// The flags of a record after another of its stream, which had `before`.
    fn flags(self, before: Option<Step>) -> std::result::Result<u8, &'static str> {
        let ended = matches!(before, Some(Step::Terminated | Step::Truncated));
        if self == Step::Final {
            return if ended {
                Ok(self as u8)
            } else {
                Err("must follow a step that is Terminated or Truncated")
            };
        }
        let begins = before != Some(Step::Continues);
        Ok(self as u8 | if begins { Step::BEGINS } else { 0 })
    }
}

/// Adds the records of one or more streams, in the order of its calls. A writer that is dropped leaves its open segment
/// to the next one.
pub struct Writer {
    buffer: Buffer,
    /// `None` only while it is dropped.
    state: Option<State>,
    scratch: Scratch,
}

/// What of a writer outlives it.
pub(crate) struct State {
    /// `None` only between two segments.
    tail: Option<Tail>,
    ordinal: u64,
    streams: usize,
    /// The last kind of each stream.
    last: Vec<Option<Step>>,
    /// The last records of each stream in columns of frames.
    before: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Scratch {
    flags: Vec<u8>,
    last: Vec<Option<Step>>,
    /// Encoded records of the columns that are not raw.
    encoded: Vec<Encoded>,
    ids: Vec<Range<u64>>,
}

#[derive(Clone, Default)]
struct Encoded {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Encoded {
    fn record(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }
}

impl State {
    pub(crate) fn new(schema: &Schema, tail: Tail, streams: usize) -> State {
        let frames = |column: &crate::Column| match column.codec {
            Codec::Frames => vec![0; column.record_bytes() * streams],
            _ => Vec::new(),
        };
        let before = schema.columns().iter().map(frames).collect();
        let ordinal = tail.ordinal();
        State { tail: Some(tail), ordinal, streams, last: vec![None; streams], before }
    }

    /// The streams that a loaded writer left: `last` are the kinds of their last records, `before` the last stacks.
    pub(crate) fn resume(&mut self, last: Vec<Option<Step>>, before: Vec<Vec<u8>>) {
        (self.last, self.before) = (last, before);
    }

    /// What comes is of other episodes.
    pub(crate) fn begin(&mut self) {
        self.last.fill(None);
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams
    }

    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }
}

impl Writer {
    pub(crate) fn new(buffer: &Buffer, state: State) -> Writer {
        let encoded = vec![Encoded::default(); buffer.schema().columns().len()];
        Writer {
            buffer: buffer.clone(),
            state: Some(state),
            scratch: Scratch { encoded, ..Scratch::default() },
        }
    }

    /// Streams.
    pub fn streams(&self) -> usize {
        self.state.as_ref().map_or(0, State::streams)
    }

    /// Adds `records` records: rounds of one for each stream. `data` has the columns in the order of the schema (see
    /// [`Schema::order`]), `steps` the records' kinds; none is [`Step::Continues`] for all. Returns the first one's id;
    /// [`ids`](Writer::ids) has all.
    ///
    /// They become visible together, but for those that go to another segment.
    ///
    /// # Errors
    /// Nothing is added where `records` is no multiple of the streams; a column's dtype or length is another one; a
    /// codec cannot hold a value; a kind cannot follow the one before it, or the buffer has no episodes.
    pub fn add(&mut self, records: usize, data: &[Data<'_>], steps: &[Step]) -> Result<u64> {
        let Writer { buffer, state, scratch } = self;
        let shared = &*buffer.0;
        let state = state.as_mut().expect("it is not dropped");
        scratch.ids.clear();
        shared.schema.check(records, data)?;
        if records == 0 || !records.is_multiple_of(state.streams) {
            let expected = format!("a multiple of the {} streams", state.streams);
            return Err(Error::Count { what: "records", expected, given: records });
        }
        scratch.check_steps(state, shared.config.episodes, records, steps)?;
        scratch.encode(state, &shared.schema, records, data)?;
        let mut done = 0;
        while done < records {
            let rows = scratch.fitting(state, &shared.layout, done, records);
            if rows == 0 {
                let old = state.tail.take();
                let tail = shared.ring.rotate(old, state.streams).expect("its own segment's place is free");
                state.ordinal = tail.ordinal();
                state.tail = Some(tail);
                continue;
            }
            let filled = state.tail.as_ref().map_or(0, Tail::rows);
            let first = state.ordinal * shared.layout.rows as u64 + filled as u64;
            scratch.ids.push(first..first + rows as u64);
            scratch.place(state, shared, data, done..done + rows);
            done += rows;
        }
        std::mem::swap(&mut state.last, &mut scratch.last);
        for (before, data) in state.before.iter_mut().zip(data).filter(|(before, _)| !before.is_empty()) {
            let bytes = data.bytes();
            let stacks = &bytes[bytes.len() - before.len()..];
            before.copy_from_slice(stacks);
        }
        Ok(scratch.ids[0].start)
    }

    /// The ids of the records that the last call added.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.scratch.ids.iter().cloned().flatten()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.buffer.0.idle).extend(self.state.take());
        *lock(&self.buffer.0.writers) -= 1;
    }
}

impl Scratch {
    /// The records' flags, and the streams' last kinds after them.
    fn check_steps(&mut self, state: &State, episodes: bool, records: usize, steps: &[Step]) -> Result<()> {
        if !episodes && !steps.is_empty() {
            let expected = "none, since the buffer has no episodes".into();
            return Err(Error::Count { what: "kinds of step", expected, given: steps.len() });
        }
        self.last.clone_from(&state.last);
        self.flags.clear();
        if !episodes {
            return Ok(());
        }
        if !steps.is_empty() && steps.len() != records {
            let expected = format!("{records}, one for each record, or none");
            return Err(Error::Count { what: "kinds of step", expected, given: steps.len() });
        }
        for record in 0..records {
            let step = steps.get(record).copied().unwrap_or_default();
            let last = &mut self.last[record % state.streams];
            let flags = step.flags(*last).map_err(|rule| Error::Step { record, given: "Final", rule })?;
            self.flags.push(flags);
            *last = Some(step);
        }
        Ok(())
    }

    /// Encodes what is not stored as it is: all of it before anything is added, since it may be refused.
    fn encode(&mut self, state: &State, schema: &Schema, records: usize, data: &[Data<'_>]) -> Result<()> {
        for (c, (column, data)) in schema.columns().iter().zip(data).enumerate() {
            if column.codec == Codec::Raw {
                continue;
            }
            let Encoded { bytes, ends } = &mut self.encoded[c];
            bytes.clear();
            ends.clear();
            let (raw, size, streams) = (data.bytes(), column.record_bytes(), state.streams);
            for record in 0..records {
                let source = &raw[record * size..][..size];
                let encoded = match column.codec.size(column) {
                    Size::Fixed(stored) => {
                        let start = bytes.len();
                        bytes.resize(start + stored, 0);
                        column.codec.encode_fixed(column, source, &mut bytes[start..])
                    }
                    Size::Variable(_) => {
                        let before = match record.checked_sub(streams) {
                            Some(before) => raw.get(before * size..).map(|raw| &raw[..size]),
                            None => state.before[c]
                                .get(record * size..)
                                .filter(|raw| !raw.is_empty())
                                .map(|raw| &raw[..size]),
                        };
                        column.codec.encode_variable(column, source, before, bytes)
                    }
                };
                encoded.map_err(|what| Error::Value { column: column.name.clone(), record, what })?;
                ends.push(bytes.len());
            }
        }
        Ok(())
    }

    /// How many of the records from `done` on the segment takes.
    fn fitting(&self, state: &State, layout: &Layout, done: usize, records: usize) -> usize {
        let tail = state.tail.as_ref().expect("a writer has a segment");
        let mut rows = (records - done).min(layout.rows - tail.rows());
        for (c, place) in layout.columns.iter().enumerate() {
            if let Place::Variable { arena, .. } = *place {
                let mut free = tail.free(arena);
                let fits = |&i: &usize| {
                    let len = self.stored_len(state, c, done + i, tail.rows() + i < state.streams);
                    free.checked_sub(len).map(|left| free = left).is_some()
                };
                rows = (0..rows).take_while(fits).count();
            }
        }
        rows
    }

    /// Bytes of an encoded record; stacks of frames that begin a stream in a segment stand there whole.
    fn stored_len(&self, state: &State, column: usize, record: usize, begins: bool) -> usize {
        match state.before[column].len() {
            stacks if stacks > 0 && begins => 1 + stacks / state.streams,
            _ => self.encoded[column].record(record).len(),
        }
    }

    /// Writes records to the segment, and publishes them.
    fn place(&self, state: &mut State, shared: &Shared, data: &[Data<'_>], records: Range<usize>) {
        let layout = &shared.layout;
        let State { tail, streams, before, .. } = state;
        let tail = tail.as_mut().expect("a writer has a segment");
        if let Some(region) = layout.steps {
            tail.grow(region, records.len()).copy_from_slice(&self.flags[records.clone()]);
        }
        for (c, place) in layout.columns.iter().enumerate() {
            match *place {
                Place::Fixed { region, size } => {
                    let bytes = if self.encoded[c].ends.is_empty() {
                        data[c].bytes()
                    } else {
                        &self.encoded[c].bytes
                    };
                    let bytes = &bytes[records.start * size..records.end * size];
                    tail.grow(region, bytes.len()).copy_from_slice(bytes);
                }
                Place::Variable { ends, arena } => {
                    for (i, record) in records.clone().enumerate() {
                        let (raw, stack) = (data[c].bytes(), before[c].len() / *streams);
                        if stack > 0 && tail.rows() + i < *streams {
                            let out = tail.grow(arena, 1 + stack);
                            out[0] = shared.schema.columns()[c].shape[0] as u8;
                            out[1..].copy_from_slice(&raw[record * stack..][..stack]);
                        } else {
                            let bytes = self.encoded[c].record(record);
                            tail.grow(arena, bytes.len()).copy_from_slice(bytes);
                        }
                        let end = tail.written(arena).len() as u32;
                        tail.grow(ends, 4).copy_from_slice(&end.to_le_bytes());
                    }
                }
            }
        }
        tail.publish(records.len());
    }
}
