//! The bytes of a manifest, and of the heads of files. Little-endian, each closed by its CRC-32C.

use crate::buffer::{Config, Eviction};
use crate::codec::Codec;
use crate::error::Result;
use crate::schema::{Column, Dtype, Schema};

const MAGIC: &[u8; 8] = b"HLREPLAY";
const VERSION: u32 = 1;

/// All that a directory says beside the files it names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manifest {
    pub(super) schema: Schema,
    pub(super) config: Config,
    pub(super) draws: u64,
    /// The ring's next ordinal.
    pub(super) next: u64,
    /// The greatest weight of a priority.
    pub(super) greatest: f32,
    /// In the order of ordinals.
    pub(super) segments: Vec<Entry>,
    /// The file of priorities.
    pub(super) priorities: Option<FileName>,
    /// The caller's.
    pub(super) extra: Vec<u8>,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ordinal: u64,
    pub(super) rows: u64,
    pub(super) next: u64,
    pub(super) stride: u64,
    pub(super) open: bool,
    /// The first row that is not evicted.
    pub(super) from: u64,
    /// None where there are no rows.
    pub(super) file: Option<FileName>,
}

/// What tells files apart, and their lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// Of the process's store that wrote it: two that went on from one state never take each other's files for their
    /// own.
    pub(super) session: u64,
    /// Counts the files of a session.
    pub(super) number: u64,
    pub(super) len: u64,
}

impl FileName {
    pub(super) fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{:016x}-{:08x}.hlr", self.session, self.number)
    }
}

/// The head of a segment's file: enough to go on with where the manifest is lost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) schema: Schema,
    pub(super) config: Config,
    pub(super) entry: Entry,
    /// Bytes of each region.
    pub(super) regions: Vec<u64>,
}

pub(super) fn file_head(head: &Head) -> Vec<u8> {
    let mut out = start(1);
    settings(&mut out, &head.schema, &head.config);
    entry(&mut out, &head.entry);
    u64s(&mut out, &head.regions);
    close(out)
}

pub(super) fn manifest(manifest: &Manifest) -> Vec<u8> {
    let mut out = start(0);
    settings(&mut out, &manifest.schema, &manifest.config);
    u64s(&mut out, &[manifest.draws, manifest.next]);
    out.extend(manifest.greatest.to_le_bytes());
    out.extend((manifest.segments.len() as u64).to_le_bytes());
    manifest.segments.iter().for_each(|segment| entry(&mut out, segment));
    file_name(&mut out, manifest.priorities);
    out.extend((manifest.extra.len() as u64).to_le_bytes());
    out.extend(&manifest.extra);
    close(out)
}

fn start(kind: u8) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.push(kind);
    out
}

fn close(mut out: Vec<u8>) -> Vec<u8> {
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out
}

fn u64s(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| out.extend(value.to_le_bytes()));
}

fn settings(out: &mut Vec<u8>, schema: &Schema, config: &Config) {
    let strict = config.eviction == Eviction::Record;
    u64s(out, &[config.capacity as u64, config.segments as u64, config.seed]);
    out.extend([u8::from(strict), u8::from(config.episodes), u8::from(config.priorities.is_some())]);
    out.extend(config.priorities.unwrap_or_default().to_le_bytes());
    u64s(out, &[schema.columns().len() as u64]);
    for column in schema.columns() {
        out.push(column.name.len() as u8);
        out.extend(column.name.as_bytes());
        let dtype = Dtype::ALL.iter().position(|&dtype| dtype == column.dtype).expect("one of all");
        out.extend([dtype as u8, column.shape.len() as u8]);
        column.shape.iter().for_each(|&n| u64s(out, &[n as u64]));
        let (tag, a, b) = match column.codec {
            Codec::Raw => (0, 0, 0),
            Codec::BitPlanes { plane, constant } => (1, plane, constant),
            Codec::TopK { k, bf16 } => (2, k, usize::from(bf16)),
            Codec::Frames => (3, 0, 0),
            Codec::Lz4 => (4, 0, 0),
        };
        out.push(tag);
        u64s(out, &[a as u64, b as u64, column.budget.map_or(u64::MAX, |budget| budget as u64)]);
    }
}

fn entry(out: &mut Vec<u8>, entry: &Entry) {
    let Entry { ordinal, rows, next, stride, open, from, file } = *entry;
    u64s(out, &[ordinal, rows, next, stride, from]);
    out.push(u8::from(open));
    file_name(out, file);
}

fn file_name(out: &mut Vec<u8>, file: Option<FileName>) {
    out.push(u8::from(file.is_some()));
    let FileName { session, number, len } = file.unwrap_or(FileName { session: 0, number: 0, len: 0 });
    u64s(out, &[session, number, len]);
}

/// Why bytes are not what was written.
pub(super) type Told<T> = std::result::Result<T, String>;

/// Bytes that are read from their beginning.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Checks the checksum, which closes them, and the kind.
    fn open(bytes: &'a [u8], kind: u8) -> Told<Fields<'a>> {
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or("is cut off")?;
        if crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return Err("its checksum differs".into());
        }
        let mut fields = Fields(fields);
        if fields.take::<8>()? != *MAGIC {
            return Err("is no file of a replay buffer".into());
        }
        match u32::from_le_bytes(fields.take()?) {
            VERSION => {}
            other => return Err(format!("is of version {other}: this program reads version {VERSION}")),
        }
        let [given] = fields.take()?;
        if given == kind { Ok(fields) } else { Err(format!("is of kind {given}: expected {kind}")) }
    }

    fn bytes(&mut self, len: usize) -> Told<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or("is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Told<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or("is cut off")?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u64(&mut self) -> Told<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn size(&mut self) -> Told<usize> {
        self.u64()?.try_into().map_err(|_| "has a size that this machine cannot address".into())
    }

    /// A count of things of at least one byte each.
    fn count(&mut self) -> Told<usize> {
        let count = self.size()?;
        if count <= self.0.len() { Ok(count) } else { Err("is cut off".into()) }
    }

    fn flag(&mut self) -> Told<bool> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("has a flag of {other}")),
        }
    }

    fn settings(&mut self) -> Told<(Schema, Config)> {
        let (capacity, segments, seed) = (self.size()?, self.size()?, self.u64()?);
        let (strict, episodes, prioritised) = (self.flag()?, self.flag()?, self.flag()?);
        let alpha = f32::from_le_bytes(self.take()?);
        let eviction = if strict { Eviction::Record } else { Eviction::Segment };
        let priorities = prioritised.then_some(alpha);
        let config = Config { capacity, eviction, segments, episodes, priorities, seed };
        let mut columns = Vec::new();
        for _ in 0..self.count()? {
            columns.push(self.column()?);
        }
        Ok((Schema::new(columns).map_err(|e| e.to_string())?, config))
    }

    fn column(&mut self) -> Told<Column> {
        let [len] = self.take()?;
        let name = std::str::from_utf8(self.bytes(len.into())?).map_err(|e| e.to_string())?;
        let [dtype, dims] = self.take()?;
        let dtype = *Dtype::ALL.get(usize::from(dtype)).ok_or_else(|| format!("has no dtype {dtype}"))?;
        let shape = (0..dims).map(|_| self.size()).collect::<Told<Vec<_>>>()?;
        let [tag] = self.take()?;
        let (a, b, budget) = (self.size()?, self.size()?, self.u64()?);
        let codec = match (tag, b) {
            (0, _) => Codec::Raw,
            (1, constant) => Codec::BitPlanes { plane: a, constant },
            (2, 0 | 1) => Codec::TopK { k: a, bf16: b == 1 },
            (3, _) => Codec::Frames,
            (4, _) => Codec::Lz4,
            _ => return Err(format!("has no codec {tag}")),
        };
        let budget = (budget != u64::MAX).then_some(budget as usize);
        Ok(Column { budget, ..Column::new(name, dtype, &shape).codec(codec) })
    }

    fn entry(&mut self) -> Told<Entry> {
        let (ordinal, rows, next, stride, from) =
            (self.u64()?, self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        Ok(Entry { ordinal, rows, next, stride, from, open: self.flag()?, file: self.file_name()? })
    }

    fn file_name(&mut self) -> Told<Option<FileName>> {
        let some = self.flag()?;
        let file = FileName { session: self.u64()?, number: self.u64()?, len: self.u64()? };
        Ok(some.then_some(file))
    }

    fn end<T>(self, value: T) -> Told<T> {
        if self.0.is_empty() { Ok(value) } else { Err(format!("has {} bytes too many", self.0.len())) }
    }
}

pub(super) fn read_manifest(bytes: &[u8]) -> Told<Manifest> {
    let mut fields = Fields::open(bytes, 0)?;
    let (schema, config) = fields.settings()?;
    let (draws, next) = (fields.u64()?, fields.u64()?);
    let greatest = f32::from_le_bytes(fields.take()?);
    if !(0.0..=1e24).contains(&greatest) {
        return Err(format!("has a greatest priority of {greatest}"));
    }
    let segments = (0..fields.count()?).map(|_| fields.entry()).collect::<Told<Vec<_>>>()?;
    let priorities = fields.file_name()?;
    let extra = fields.count()?;
    let extra = fields.bytes(extra)?.to_vec();
    fields.end(Manifest { schema, config, draws, next, greatest, segments, priorities, extra })
}

pub(super) fn read_head(bytes: &[u8]) -> Told<Head> {
    let mut fields = Fields::open(bytes, 1)?;
    let (schema, config) = fields.settings()?;
    let entry = fields.entry()?;
    let regions = fields.0.as_chunks::<8>();
    if !regions.1.is_empty() {
        return Err("is cut off".into());
    }
    let regions = regions.0.iter().map(|&len| u64::from_le_bytes(len)).collect();
    Ok(Head { schema, config, entry, regions })
}

impl Manifest {
    /// Checks what the ring relies on.
    pub(super) fn check(&self) -> Told<crate::layout::Layout> {
        let layout: Result<_> = crate::layout::Layout::new(&self.schema, &self.config);
        let layout = layout.map_err(|e| e.to_string())?;
        let (rows, places) = (layout.rows as u64, layout.places as u64);
        let most = u64::MAX / 2 / rows.max(places);
        let mut taken = vec![false; layout.places];
        let mut last = None;
        for entry in &self.segments {
            let Entry { ordinal, next, .. } = *entry;
            let good = last < Some(ordinal)
                && ordinal < self.next
                && self.next < most
                && next > ordinal
                && entry.rows <= rows
                && entry.from <= entry.rows
                && (1..=rows).contains(&entry.stride)
                && entry.file.is_some() == (entry.rows > 0)
                && !std::mem::replace(&mut taken[(ordinal % places) as usize], true);
            if !good {
                return Err(format!("segment {ordinal} cannot be: {entry:?}"));
            }
            last = Some(ordinal);
        }
        if self.priorities.is_some() && self.config.priorities.is_none() {
            return Err("has priorities of a buffer that has none".into());
        }
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Manifest {
        let schema = Schema::new(vec![
            Column::new("planes", Dtype::F32, &[3, 4]).codec(Codec::BitPlanes { plane: 4, constant: 1 }),
            Column::new("policy", Dtype::F32, &[9]).codec(Codec::TopK { k: 2, bf16: true }).budget(7),
            Column::new("stack", Dtype::Bf16, &[2, 5]).codec(Codec::Frames),
            Column::new("text", Dtype::Bits, &[30]).codec(Codec::Lz4),
        ]);
        let file = |number| Some(FileName { session: 7, number, len: 1000 + number });
        let entry = |ordinal, rows| Entry {
            ordinal,
            rows,
            next: u64::MAX,
            stride: 1,
            open: ordinal == 4,
            from: 0,
            file: if rows > 0 { file(ordinal) } else { None },
        };
        Manifest {
            schema: schema.unwrap(),
            config: Config { segments: 4, priorities: Some(0.5), ..Config::new(40) },
            draws: 12,
            next: 5,
            greatest: 2.5,
            segments: vec![entry(2, 10), entry(3, 9), entry(4, 0)],
            priorities: file(9),
            extra: b"mine".to_vec(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let example = example();
        let read = read_manifest(&manifest(&example)).unwrap();
        assert_eq!(read, example);
        read.check().unwrap();
        let Manifest { schema, config, segments, .. } = example;
        let head = Head { schema, config, entry: segments[0], regions: vec![3, 4] };
        assert_eq!(read_head(&file_head(&head)).unwrap(), head);
        assert_eq!(read_head(&manifest(&read)).unwrap_err(), "is of kind 0: expected 1");
    }

    #[test]
    fn segments_that_cannot_be_are_refused() {
        let refused = |change: fn(&mut Manifest)| {
            let mut example = example();
            change(&mut example);
            assert!(example.check().is_err(), "{:?}", example.segments);
        };
        refused(|m| m.segments[0].ordinal = 3);
        refused(|m| m.segments[2].ordinal = 6);
        refused(|m| m.segments[1].rows = 11);
        refused(|m| m.segments[1].from = 10);
        refused(|m| m.segments[1].stride = 0);
        // A writer that goes on in a segment before this one would be followed for ever.
        refused(|m| m.segments[1].next = 3);
        refused(|m| m.segments[1].file = None);
        refused(|m| m.next = 4);
        // Two in one place.
        refused(|m| (m.segments[2].ordinal, m.next) = (6, 7));
        refused(|m| m.config.segments = 1);
    }

    proptest! {
        /// As if by somebody who knows the format.
        #[test]
        fn bytes_with_a_good_checksum_are_read_or_refused(
            changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4), cut in any::<Option<u8>>(),
        ) {
            let mut bytes = manifest(&example());
            bytes.truncate(bytes.len() - 4);
            for (at, to) in changes {
                let at = at % bytes.len();
                bytes[at] = to;
            }
            bytes.truncate(bytes.len().saturating_sub(cut.unwrap_or(0).into()));
            if let Ok(read) = read_manifest(&close(bytes.clone())) {
                let _ = read.check();
            }
            bytes[12] = 1;
            let _ = read_head(&close(bytes));
        }
    }
}
