//! Files that are either as they were or complete, whenever the process or the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Every operation by which a run changes files. Tests put one in its place that fails, or stops, at each in turn.
pub trait Disk: Sync {
    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// Of the file system, as for all of these.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Opens an empty file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Opens a file to append to, cut to a length.
    fn append(&self, path: &Path, len: u64) -> io::Result<Box<dyn Output>>;

    /// Renames a file, over another if need be.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Puts a directory's entries on the medium.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that is written.
pub trait Output: Write + Send {
    /// Puts what was written on the medium.
    ///
    /// # Errors
    /// Of the file system.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to a length and goes there.
    ///
    /// # Errors
    /// Of the file system.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Disk for System {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(File::create(path)?))
    }

    fn append(&self, path: &Path, len: u64) -> io::Result<Box<dyn Output>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(len)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // On Unix a rename is on the medium when its directory is.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }
}

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Bytes of a write: a file is written in few calls, and a test can make each of them fail.
const BUFFER: usize = 1 << 18;

/// Writes a file beside its place, fsyncs it, and renames it: readers see the old one or the new one.
///
/// # Errors
/// Of the file system, with the file's path. The old file, if any, is as it was, and none is left beside it.
pub fn replace_by(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    write_by(disk, path, write)?;
    disk.sync_directory(directory_of(path))
}

/// The same without fsyncing the directory: for one of several files, after which that is done once.
///
/// # Errors
/// As there.
pub fn write_by(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    put(disk, path, write, true)
}

fn put(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    sync: bool,
) -> io::Result<()> {
    let beside = beside(path);
    let written = (|| {
        let mut file = BufWriter::with_capacity(BUFFER, disk.create(&beside)?);
        write(&mut file)?;
        file.flush()?;
        let (mut file, _) = file.into_parts();
        if sync { file.sync() } else { Ok(()) }
    })();
    let renamed = written.and_then(|()| disk.rename(&beside, path));
    if renamed.is_err() {
        let _ = disk.remove(&beside);
    }
    renamed
}

/// [`replace_by`] with contents that are there.
///
/// # Errors
/// As there.
pub fn replace(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    replace_by(disk, path, |file| file.write_all(contents))
}

/// [`replace`] for what can be made again, such as a plot: not fsynced, so that a machine that stops may leave any of
/// it.
///
/// # Errors
/// As there.
pub fn replace_derived(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    put(disk, path, |file| file.write_all(contents), false)
}

/// Where [`replace_by`] writes a file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a file that may have been exchanged for anything.
///
/// # Errors
/// Of the file system; it is no regular file; it has more than `most` bytes.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let wrong = |rule: String| Err(io::Error::new(io::ErrorKind::InvalidData, rule));
    // Before it is opened: a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return wrong("must be a regular file".into());
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > most {
        return wrong(format!("{len} bytes: must be at most {most}"));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        replace(&System, &path, b"old").unwrap();
        let failed = replace_by(&System, &path, |file| {
            file.write_all(&[b'x'; 3 * BUFFER])?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        replace(&System, &path, b"new").unwrap();
        assert_eq!(read_regular(&path, 3).unwrap(), b"new");
        assert_eq!(read_regular(&path, 2).unwrap_err().to_string(), "3 bytes: must be at most 2");
        let told = read_regular(directory.path(), 9).unwrap_err().to_string();
        assert_eq!(told, "must be a regular file");
    }
}
