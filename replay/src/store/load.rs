//! From files to a buffer.

use std::fs::File;
use std::path::Path;

use rayon::prelude::*;

use super::format::{self, Entry, FileName, Head, Manifest, Told};
use super::{MANIFEST, PRIORITIES, SEGMENT, blocks};
use crate::buffer::Buffer;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::layout::{Layout, Place, end_of};
use crate::segment::{NONE, Tail};
use crate::snapshot::{At, Snapshot};
use crate::sync::lock;
use crate::writer::State;

const MOST_MANIFEST: u64 = 1 << 26;

/// Reads the manifest, and checks it.
pub(super) fn manifest(directory: &Path) -> Result<Manifest> {
    let path = directory.join(MANIFEST);
    let bytes = read_regular(&path, MOST_MANIFEST).map_err(Error::io(&path))?;
    let told = format::read_manifest(&bytes).and_then(|manifest| manifest.check().map(|_| manifest));
    told.map_err(|what| Error::Corrupt { path, what })
}

/// Where the bytes of a region go.
pub(super) enum Into<'a> {
    Tail(&'a mut Tail),
    /// Nowhere: they are checked only.
    Nothing(&'a mut Vec<u8>),
}

impl Into<'_> {
    fn region(&mut self, region: usize, len: usize) -> &mut [u8] {
        match self {
            Into::Tail(tail) => tail.grow(region, len),
            Into::Nothing(bytes) => {
                bytes.clear();
                bytes.resize(len, 0);
                bytes
            }
        }
    }
}

/// The head of a file of the manifest's, behind which its blocks begin.
fn open(path: &Path, manifest: &Manifest, file: FileName) -> Told<(File, Head)> {
    let mut open = File::open(path).map_err(|e| e.to_string())?;
    let meta = open.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() || meta.len() != file.len {
        return Err(format!("has {} bytes: expected {}", meta.len(), file.len));
    }
    let head = format::read_head(&blocks::read_head(&mut open)?)?;
    if head.schema != manifest.schema || head.config != manifest.config {
        return Err("is of a buffer with other settings".into());
    }
    Ok((open, head))
}

fn at_end(mut file: File) -> Told<()> {
    match std::io::Read::read(&mut file, &mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err("has bytes behind its last block".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// Reads a segment's file.
pub(super) fn segment(
    directory: &Path,
    manifest: &Manifest,
    layout: &Layout,
    entry: &Entry,
    mut into: Into<'_>,
) -> Result<()> {
    let Some(file) = entry.file else { return Ok(()) };
    let path = directory.join(file.name(SEGMENT));
    let told = (|| {
        let (mut open, head) = open(&path, manifest, file)?;
        let Entry { ordinal, rows, stride, .. } = head.entry;
        if (ordinal, rows, stride) != (entry.ordinal, entry.rows, entry.stride) {
            return Err(format!("is of segment {ordinal} with {rows} records"));
        }
        records(&mut open, layout, &head, &mut into)?;
        at_end(open)
    })();
    told.map_err(|what| {
        let what = format!("{what} (segment {}, {} records)", entry.ordinal, entry.rows);
        Error::Corrupt { path, what }
    })
}

/// A file and where its regions go.
struct Source<'s, 'a> {
    file: &'s mut File,
    lens: Vec<usize>,
    into: &'s mut Into<'a>,
}

impl Source<'_, '_> {
    fn region(&mut self, region: usize, len: usize) -> Told<&mut [u8]> {
        if self.lens[region] != len {
            return Err(format!("region {region} has {} bytes: expected {len}", self.lens[region]));
        }
        let out = self.into.region(region, len);
        blocks::read(self.file, region, out)?;
        Ok(out)
    }
}

fn records(file: &mut File, layout: &Layout, head: &Head, into: &mut Into<'_>) -> Told<()> {
    let rows = head.entry.rows as usize;
    let lens: Vec<_> = head.regions.iter().map(|&len| usize::try_from(len).unwrap_or(usize::MAX)).collect();
    if lens.len() != layout.sizes.len() || lens.iter().zip(&layout.sizes).any(|(len, most)| len > most) {
        return Err(format!("has regions of {lens:?} bytes: expected at most {:?}", layout.sizes));
    }
    let mut source = Source { file, lens, into };
    if let Some(region) = layout.steps
        && let Some(flags) = source.region(region, rows)?.iter().find(|&&flags| flags > 7)
    {
        return Err(format!("has a step of kind {flags}"));
    }
    for place in &layout.columns {
        match *place {
            Place::Fixed { region, size } => {
                source.region(region, rows * size)?;
            }
            Place::Variable { ends, arena } => {
                let ends = source.region(ends, 4 * rows)?;
                let last = if rows == 0 { 0 } else { end_of(ends, rows - 1) };
                if (1..rows).any(|row| end_of(ends, row - 1) > end_of(ends, row)) {
                    return Err("has records that end before they begin".into());
                }
                source.region(arena, last)?;
            }
        }
    }
    if let Into::Tail(tail) = source.into {
        tail.publish(rows);
    }
    Ok(())
}

/// Reads the weights of the priorities, for each segment.
pub(super) fn priorities(directory: &Path, manifest: &Manifest) -> Result<Option<Vec<Vec<f32>>>> {
    let Some(file) = manifest.priorities else { return Ok(None) };
    let path = directory.join(file.name(PRIORITIES));
    let told = (|| {
        let (mut open, head) = open(&path, manifest, file)?;
        let count: u64 = manifest.segments.iter().map(|entry| entry.rows).sum();
        if head.entry.rows != count || head.regions != [4 * count] {
            return Err(format!("has {} priorities: expected {count}", head.entry.rows));
        }
        let mut all = vec![0f32; count as usize];
        blocks::read(&mut open, 0, bytemuck::cast_slice_mut(&mut all))?;
        at_end(open)?;
        if let Some(weight) = all.iter().find(|weight| !(0.0..=1e24).contains(*weight)) {
            return Err(format!("has a priority of {weight}"));
        }
        let mut rest = &all[..];
        let mut split = |entry: &Entry| {
            let (these, others) = rest.split_at(entry.rows as usize);
            rest = others;
            these.to_vec()
        };
        Ok(Some(manifest.segments.iter().map(&mut split).collect()))
    })();
    told.map_err(|what| Error::Corrupt { path, what })
}

/// The buffer of a manifest that was checked.
pub(super) fn buffer(
    directory: &Path,
    manifest: &Manifest,
    weights: Option<Vec<Vec<f32>>>,
) -> Result<Buffer> {
    let buffer = Buffer::new(manifest.schema.clone(), manifest.config.clone())?;
    let shared = &*buffer.0;
    let entries = &manifest.segments;
    let mut tails: Vec<_> =
        entries.iter().map(|e| shared.ring.restore(e.ordinal, e.stride as usize)).collect();
    shared.ring.skip_to(manifest.next);
    let read = entries.par_iter().zip(&mut tails);
    read.try_for_each(|(entry, tail)| segment(directory, manifest, &shared.layout, entry, Into::Tail(tail)))?;
    if let (Some(weights), Some(priorities)) = (weights, &shared.priorities) {
        let mut priorities = lock(priorities);
        priorities.greatest = manifest.greatest;
        for (entry, weights) in entries.iter().zip(&weights) {
            priorities.restore(entry.ordinal, entry.from as usize, weights);
        }
    }
    shared.draws.store(manifest.draws, std::sync::atomic::Ordering::Relaxed);
    let mut open = Vec::new();
    for (entry, tail) in entries.iter().zip(tails) {
        if entry.next != NONE {
            tail.segment().link(entry.next);
        } else if entry.open {
            open.push((entry, tail));
        }
    }
    let mut idle = Vec::new();
    for (entry, tail) in open {
        idle.push(state(&buffer, entry, tail)?);
    }
    lock(&shared.idle).extend(idle);
    Ok(buffer)
}

/// What a writer knew of its streams: the last record of each.
fn state(buffer: &Buffer, entry: &Entry, tail: Tail) -> Result<State> {
    let shared = &*buffer.0;
    let streams = entry.stride as usize;
    let mut state = State::new(&shared.schema, tail, streams);
    let snapshot = shared.snapshot();
    let last = last_round(&snapshot, entry.ordinal, streams);
    let kinds =
        last.iter().map(|at| at.filter(|_| shared.config.episodes).map(|at| snapshot.step(at))).collect();
    let mut before = Vec::new();
    for (c, column) in shared.schema.columns().iter().enumerate() {
        let size = column.record_bytes();
        let mut stacks = vec![0; if column.codec == Codec::Frames { size * streams } else { 0 }];
        for (at, stack) in last.iter().zip(stacks.chunks_exact_mut(size)) {
            let Some(at) = *at else { continue };
            let decoded = column.codec.decode(column, |back| snapshot.stored_before(c, at, back), stack);
            decoded.map_err(|_| Error::Stored { column: column.name.clone(), id: snapshot.id(at) })?;
        }
        before.push(stacks);
    }
    state.resume(kinds, before);
    Ok(state)
}

/// The last record of each stream, as far as they are there.
fn last_round(snapshot: &Snapshot<'_>, ordinal: u64, streams: usize) -> Vec<Option<At>> {
    let mut last = vec![None; streams];
    let mut missing = streams;
    let mut part = snapshot.part_of(ordinal);
    while let Some(index) = part {
        let rows = snapshot.parts()[index].rows;
        for row in (0..rows).rev().take(missing) {
            missing -= 1;
            last[missing] = Some(At { part: index as u32, row: row as u32 });
        }
        let ordinal = snapshot.parts()[index].ordinal;
        part =
            snapshot.parts()[..index].iter().rposition(|part| part.next == ordinal).filter(|_| missing > 0);
    }
    last
}
