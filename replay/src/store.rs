//! A buffer in a directory, which survives a crash at any moment.
//!
//! The directory has immutable files, one for each segment, and `MANIFEST`, which names those that belong together. A
//! save writes what is not there yet, under names that were never used before, fsyncs each file and the directory, and
//! then replaces the manifest by renaming, which is the commit point; files that it does not name are removed after
//! that. So whatever stops it, what is opened next is the state before the save or the one after it. Each byte is under
//! a CRC-32C, which detects every change of up to 32 neighbouring bits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::files::{self, Disk, System};
use crate::layout::{Layout, Place, end_of};
use crate::segment::Pin;
use crate::sync::lock;

mod blocks;
mod check;
mod format;
mod load;

pub use check::{Checked, info, salvage, verify};
use format::{Entry, FileName, Head, Manifest};

/// The file that names the others.
pub const MANIFEST: &str = "MANIFEST";
/// Held while a store is open, and empty.
pub const LOCK: &str = "LOCK";
const SEGMENT: &str = "segment";
const PRIORITIES: &str = "priorities";

const MOST_EXTRA: usize = 1 << 20;

/// A directory that a buffer is saved to, and the buffer.
pub struct Store<'a> {
    disk: &'a dyn Disk,
    directory: PathBuf,
    buffer: Buffer,
    compress: bool,
    /// What is on the disk of each segment: rows and file.
    known: BTreeMap<u64, (u64, FileName)>,
    session: u64,
    /// Files of this session so far.
    files: u64,
    /// Whether files may lie around that the manifest does not name.
    litter: bool,
    extra: Vec<u8>,
    _lock: Lock,
}

/// What a save did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Segments that were written.
    pub written: usize,
    /// Segments that were there already.
    pub kept: usize,
    /// Segments that were evicted during the save, and left out.
    pub evicted: usize,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Store<'static> {
    /// A directory for a buffer, which is made if need be. Nothing is saved yet.
    ///
    /// # Errors
    /// There is a buffer in it; another store has it; the file system's.
    pub fn create(directory: &Path, buffer: &Buffer) -> Result<Self> {
        Store::create_on(&System, directory, buffer)
    }

    /// Opens a directory and loads its buffer: the next records added to it, by the writers that
    /// [`Buffer::resume_writers`] returns, and the next draws are those of the buffer that was saved.
    ///
    /// # Errors
    /// Another store has it; a file is missing or is not what was written; the file system's.
    pub fn open(directory: &Path) -> Result<Self> {
        Store::open_on(&System, directory)
    }
}

impl<'a> Store<'a> {
    /// [`create`](Store::create) on another disk.
    ///
    /// # Errors
    /// As there.
    pub fn create_on(disk: &'a dyn Disk, directory: &Path, buffer: &Buffer) -> Result<Self> {
        disk.create_directory(directory).map_err(Error::io(directory))?;
        let lock = hold(directory)?;
        let path = directory.join(MANIFEST);
        if path.try_exists().map_err(Error::io(&path))? {
            return Err(Error::Corrupt {
                path,
                what: "there is a buffer in the directory: open it, or choose another".into(),
            });
        }
        Ok(Store::new(disk, directory, buffer.clone(), BTreeMap::new(), Vec::new(), lock))
    }

    /// [`open`](Store::open) on another disk.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(disk: &'a dyn Disk, directory: &Path) -> Result<Self> {
        let lock = hold(directory)?;
        let manifest = load::manifest(directory)?;
        let weights = load::priorities(directory, &manifest)?;
        let buffer = load::buffer(directory, &manifest, weights)?;
        let files =
            manifest.segments.iter().filter_map(|entry| Some((entry.ordinal, (entry.rows, entry.file?))));
        Ok(Store::new(disk, directory, buffer, files.collect(), manifest.extra, lock))
    }

    fn new(
        disk: &'a dyn Disk,
        directory: &Path,
        buffer: Buffer,
        known: BTreeMap<u64, (u64, FileName)>,
        extra: Vec<u8>,
        lock: Lock,
    ) -> Self {
        Store {
            disk,
            directory: directory.to_owned(),
            buffer,
            compress: false,
            known,
            // Random: std's hasher has a key of its own in each instance.
            session: RandomState::new().build_hasher().finish(),
            files: 0,
            litter: true,
            extra,
            _lock: lock,
        }
    }

    /// Whether files are compressed (LZ4, block by block where it saves a tenth; default: no).
    #[must_use]
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The caller's bytes that were saved last.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// Saves the buffer as it is now, and `extra`, the caller's own state. Writers and samplers go on meanwhile: a
    /// segment that they evict before its turn comes is left out.
    ///
    /// Writers are restored from their records. So a new writer that continues a dropped writer's segment
    /// ([`Buffer::writer`]) and has not added anything yet is restored as the dropped one, in the middle of its episodes.
    ///
    /// # Errors
    /// `extra` has more than 1 MiB; the file system's, with the file. The directory then has the state before.
    pub fn save(&mut self, extra: &[u8]) -> Result<Saved> {
        if extra.len() > MOST_EXTRA {
            return Err(Error::setting("extra", extra.len(), "must have at most 1048576 bytes"));
        }
        let (mut manifest, mut weights) = self.state(extra);
        let mut saved = Saved::default();
        let buffer = self.buffer.clone();
        let mut known = BTreeMap::new();
        for i in 0..manifest.segments.len() {
            let entry = manifest.segments[i];
            if entry.rows == 0 {
                continue;
            }
            let file = match self.known.get(&entry.ordinal) {
                Some(&(rows, file)) if rows == entry.rows => {
                    saved.kept += 1;
                    Some(file)
                }
                _ => match buffer.0.ring.pin(entry.ordinal) {
                    Some(pin) => {
                        let file = self.segment(&manifest, &entry, &pin)?;
                        saved.written += 1;
                        saved.bytes += file.len;
                        Some(file)
                    }
                    None => None,
                },
            };
            manifest.segments[i].file = file;
            known.extend(file.map(|file| (entry.ordinal, (entry.rows, file))));
        }
        let here: Vec<_> =
            manifest.segments.iter().map(|entry| entry.rows == 0 || entry.file.is_some()).collect();
        saved.evicted = here.iter().filter(|&here| !here).count();
        let mut kept = here.iter();
        manifest.segments.retain(|_| *kept.next().expect("one each"));
        if let Some(weights) = &mut weights {
            let mut kept = here.iter();
            weights.retain(|_| *kept.next().expect("one each"));
            let file = self.weights(&manifest, weights)?;
            saved.bytes += file.len;
            manifest.priorities = Some(file);
        }
        self.litter = true;
        self.disk.sync_directory(&self.directory).map_err(Error::io(&self.directory))?;
        let (path, bytes) = (self.directory.join(MANIFEST), format::manifest(&manifest));
        saved.bytes += bytes.len() as u64;
        files::replace(self.disk, &path, &bytes).map_err(Error::io(&path))?;
        self.known = known;
        self.extra = extra.to_vec();
        self.clean(&manifest);
        Ok(saved)
    }

    /// The state at one moment.
    fn state(&self, extra: &[u8]) -> (Manifest, Option<Vec<Vec<f32>>>) {
        let shared = &*self.buffer.0;
        let mut priorities = shared.priorities.as_ref().map(lock);
        shared.ring.still(|next| {
            let snapshot = shared.snapshot();
            let entry = |part: &crate::snapshot::Part<'_>| Entry {
                ordinal: part.ordinal,
                rows: part.rows as u64,
                next: part.next,
                stride: part.stride as u64,
                open: part.pin.is_open(),
                from: part.from as u64,
                file: None,
            };
            let weights = priorities.as_mut().map(|priorities| {
                priorities.sync(&snapshot);
                let of = |part: &crate::snapshot::Part<'_>| {
                    (0..part.rows)
                        .map(|row| priorities.tree.get(priorities.leaf(part.ordinal, row)))
                        .collect()
                };
                snapshot.parts().iter().map(of).collect()
            });
            let manifest = Manifest {
                schema: shared.schema.clone(),
                config: shared.config.clone(),
                draws: shared.draws.load(Ordering::Relaxed),
                next,
                greatest: priorities.as_ref().map_or(0.0, |priorities| priorities.greatest),
                segments: snapshot.parts().iter().map(entry).collect(),
                priorities: None,
                extra: extra.to_vec(),
            };
            (manifest, weights)
        })
    }

    fn segment(&mut self, manifest: &Manifest, entry: &Entry, pin: &Pin<'_>) -> Result<FileName> {
        let rows = entry.rows as usize;
        let regions = regions(&self.buffer.0.layout, pin, rows);
        self.file(SEGMENT, manifest, *entry, &regions)
    }

    fn weights(&mut self, manifest: &Manifest, weights: &[Vec<f32>]) -> Result<FileName> {
        let all = weights.concat();
        let entry = Entry {
            ordinal: 0,
            rows: all.len() as u64,
            next: 0,
            stride: 0,
            open: false,
            from: 0,
            file: None,
        };
        self.file(PRIORITIES, manifest, entry, &[bytemuck::cast_slice(&all)])
    }

    fn file(
        &mut self,
        prefix: &str,
        manifest: &Manifest,
        entry: Entry,
        regions: &[&[u8]],
    ) -> Result<FileName> {
        let mut file = FileName { session: self.session, number: self.files, len: 0 };
        self.files += 1;
        let path = self.directory.join(file.name(prefix));
        let lens = regions.iter().map(|region| region.len() as u64).collect();
        let (schema, config) = (manifest.schema.clone(), manifest.config.clone());
        let head = format::file_head(&Head { schema, config, entry, regions: lens });
        self.litter = true;
        let written = files::write_by(self.disk, &path, |out| {
            file.len = blocks::write(out, &head, regions, self.compress)?;
            Ok(())
        });
        written.map_err(Error::io(&path))?;
        Ok(file)
    }

    /// Removes files of ours that the manifest does not name. What cannot be removed is tried again by the next save.
    fn clean(&mut self, manifest: &Manifest) {
        let segments = manifest.segments.iter().filter_map(|entry| entry.file).map(|file| file.name(SEGMENT));
        let named: Vec<_> = segments.chain(manifest.priorities.map(|file| file.name(PRIORITIES))).collect();
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        self.litter = false;
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let ours = name.strip_suffix(".tmp").unwrap_or(&name);
            let ours = ours == MANIFEST
                || ours.ends_with(".hlr") && [SEGMENT, PRIORITIES].iter().any(|p| ours.starts_with(p));
            if ours && name != MANIFEST && !named.contains(&name) {
                self.litter |= self.disk.remove(&self.directory.join(name)).is_err();
            }
        }
    }
}

/// The bytes of a segment's first `rows` records.
fn regions<'p>(layout: &Layout, pin: &'p Pin<'_>, rows: usize) -> Vec<&'p [u8]> {
    let mut regions = Vec::new();
    regions.extend(layout.steps.map(|region| &pin.bytes(region)[..rows]));
    for place in &layout.columns {
        match *place {
            Place::Fixed { region, size } => regions.push(&pin.bytes(region)[..rows * size]),
            Place::Variable { ends, arena } => {
                let ends = &pin.bytes(ends)[..4 * rows];
                regions
                    .extend([ends, &pin.bytes(arena)[..if rows == 0 { 0 } else { end_of(ends, rows - 1) }]]);
            }
        }
    }
    regions
}

/// A directory that is held by this store.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, and not left to the end of the file: a child process that is just being made has a copy of it.
        let _ = self.0.unlock();
    }
}

/// Takes the directory for this process's store.
fn hold(directory: &Path) -> Result<Lock> {
    let path = directory.join(LOCK);
    let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::Corrupt { path, what: "another store has this directory".into() })
        }
        Err(fs::TryLockError::Error(source)) => Err(Error::Io { path, source }),
    }
}
