//! Whether a directory has what was saved, and what of it can be had if not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use super::format::{self, Entry, FileName, Head, Manifest};
use super::load::{self, Into};
use super::{SEGMENT, Saved, Store, blocks};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::files::Disk;
use crate::schema::Schema;
use crate::{Config, segment};

/// What was found in a directory.
#[derive(Debug)]
pub struct Checked {
    /// The columns.
    pub schema: Schema,
    /// The settings.
    pub config: Config,
    /// Segments that are as they were written.
    pub segments: usize,
    /// Their records.
    pub records: u64,
    /// Bytes of all files that the manifest names.
    pub bytes: u64,
    /// The files that are not as they were written, and why.
    pub problems: Vec<Error>,
}

/// What the manifest says of a directory.
///
/// # Errors
/// It is missing or damaged.
pub fn info(directory: &Path) -> Result<Checked> {
    let manifest = load::manifest(directory)?;
    let files = manifest.segments.iter().filter_map(|entry| entry.file).chain(manifest.priorities);
    Ok(Checked {
        segments: manifest.segments.len(),
        records: manifest.segments.iter().map(|entry| entry.rows - entry.from).sum(),
        bytes: files.map(|file| file.len).sum(),
        problems: vec![],
        schema: manifest.schema,
        config: manifest.config,
    })
}

/// Reads every byte of a directory's buffer.
///
/// # Errors
/// The manifest is missing or damaged. Other damage is in the result.
pub fn verify(directory: &Path) -> Result<Checked> {
    let manifest = load::manifest(directory)?;
    let mut checked = info(directory)?;
    let good = sound(directory, &manifest, &mut checked.problems)?;
    checked.segments = good.len();
    checked.records = good.iter().map(|entry| entry.rows - entry.from).sum();
    checked.problems.extend(load::priorities(directory, &manifest).err());
    Ok(checked)
}

/// The segments whose files are as they were written.
fn sound(directory: &Path, manifest: &Manifest, problems: &mut Vec<Error>) -> Result<Vec<Entry>> {
    let corrupt = |what| Error::Corrupt { path: directory.join(super::MANIFEST), what };
    let layout = manifest.check().map_err(corrupt)?;
    let mut bytes = Vec::new();
    let mut good = Vec::new();
    for entry in &manifest.segments {
        match load::segment(directory, manifest, &layout, entry, Into::Nothing(&mut bytes)) {
            Ok(()) => good.push(*entry),
            Err(problem) => problems.push(problem),
        }
    }
    Ok(good)
}

/// Saves to a new directory what is sound of another one's segments. Where the manifest is damaged, the segments are
/// taken that lie there, each with its most records; where the priorities are, all records get one again.
///
/// # Errors
/// Nothing can be had; the new directory has a buffer; the file system's.
pub fn salvage<'a>(disk: &'a dyn Disk, from: &Path, into: &Path) -> Result<(Checked, Store<'a>, Saved)> {
    let mut problems = Vec::new();
    let mut manifest = match load::manifest(from) {
        Ok(manifest) => manifest,
        Err(problem) => {
            problems.push(problem);
            rebuild(from)?
        }
    };
    let weights = load::priorities(from, &manifest).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let good = sound(from, &manifest, &mut problems)?;
    let weights = weights.map(|weights| {
        let both = manifest.segments.iter().zip(weights);
        both.filter(|(entry, _)| good.contains(entry)).map(|(_, weights)| weights).collect()
    });
    manifest.segments = good;
    let buffer: Buffer = load::buffer(from, &manifest, weights)?;
    let mut store = Store::create_on(disk, into, &buffer)?;
    let saved = store.save(&manifest.extra)?;
    let records = manifest.segments.iter().map(|entry| entry.rows - entry.from).sum();
    let (segments, bytes) = (manifest.segments.len(), saved.bytes);
    let Manifest { schema, config, .. } = manifest;
    Ok((Checked { schema, config, segments, records, bytes, problems }, store, saved))
}

/// A manifest from the heads of the segments' files.
fn rebuild(directory: &Path) -> Result<Manifest> {
    let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
    let mut settings = None;
    for entry in fs::read_dir(directory).map_err(Error::io(directory))?.flatten() {
        let Some(name) = entry.file_name().to_str().and_then(parse) else { continue };
        let Ok(len) = entry.metadata().map(|meta| meta.len()) else { continue };
        let Ok(mut file) = File::open(entry.path()) else { continue };
        let head = blocks::read_head(&mut file).and_then(|head| format::read_head(&head));
        let Ok(Head { schema, config, entry, .. }) = head else { continue };
        let (first_schema, first_config) = settings.get_or_insert((schema.clone(), config.clone()));
        if (&*first_schema, &*first_config) != (&schema, &config) {
            continue;
        }
        let entry = Entry { file: Some(FileName { len, ..name }), ..entry };
        let best = found.entry(entry.ordinal).or_insert(entry);
        if best.rows < entry.rows {
            *best = entry;
        }
    }
    let nothing = || Error::Corrupt {
        path: directory.to_owned(),
        what: "has no segment whose head can be read".into(),
    };
    let (schema, config) = settings.ok_or_else(nothing)?;
    let places = crate::layout::Layout::new(&schema, &config)?.places as u64;
    // Of one place the newest; where a writer went on is known only if it was known when the file was written.
    let newest: BTreeMap<u64, u64> = found.keys().map(|&ordinal| (ordinal % places, ordinal)).collect();
    let mut segments: Vec<_> =
        found.into_values().filter(|e| newest[&(e.ordinal % places)] == e.ordinal).collect();
    for entry in &mut segments {
        // Nobody goes on in any of them.
        (entry.open, entry.from) = (false, 0);
        if entry.next <= entry.ordinal {
            entry.next = segment::NONE;
        }
    }
    let next = segments.last().map_or(0, |entry| entry.ordinal + 1);
    let (draws, greatest) = (0, 1.0);
    Ok(Manifest { schema, config, draws, next, greatest, segments, priorities: None, extra: vec![] })
}

/// What a segment's file name says.
fn parse(name: &str) -> Option<FileName> {
    let numbers = name.strip_prefix(SEGMENT)?.strip_prefix('-')?.strip_suffix(".hlr")?;
    let (session, number) = numbers.split_once('-')?;
    let file = FileName {
        session: u64::from_str_radix(session, 16).ok()?,
        number: u64::from_str_radix(number, 16).ok()?,
        len: 0,
    };
    (file.name(SEGMENT) == name).then_some(file)
}
