//! Files from outside: opened only if they are regular, read only as far as they reached when they were opened.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Byte-order marks of encodings that are refused, each with its bytes in words and its name: the longer of two that
/// begin alike first.
pub const MARKS: [(&[u8], &str, &str); 4] = [
    (&[0xff, 0xfe, 0, 0], "ff fe 00 00", "UTF-32LE"),
    (&[0, 0, 0xfe, 0xff], "00 00 fe ff", "UTF-32BE"),
    (&[0xff, 0xfe], "ff fe", "UTF-16LE"),
    (&[0xfe, 0xff], "fe ff", "UTF-16BE"),
];

/// A file that cannot be read. Each message names the file, the value and the rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: {source}", name(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, a device: something without a length and an end.
    #[error(
        "{}: is {kind}: must be a regular file; what comes through a pipe must be saved to a file first",
        path.display()
    )]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// Its kind, with the article.
        kind: &'static str,
    },
    /// A path that a checkpoint cannot store.
    #[error("{}: must be UTF-8, as checkpoint and log store it", .0.display())]
    NotUtf8(PathBuf),
    /// Refused before any memory is taken.
    #[error("{}: {len} bytes: must be at most {max} ({why})", path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The largest length.
        max: u64,
        /// Where the limit comes from.
        why: &'static str,
    },
    /// Somebody wrote to it.
    #[error(
        "{}: {opened} bytes when it was opened, {} at its end: changed while it was read; \
         try again when nothing writes to it",
        path.display(),
        if read > opened { "more".to_owned() } else { read.to_string() }
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its length when it was opened.
        opened: u64,
        /// Bytes that could be read, at most one more.
        read: u64,
    },
}

/// An empty path has a name too.
fn name(path: &Path) -> String {
    if path.as_os_str().is_empty() { "\"\"".to_owned() } else { path.display().to_string() }
}

/// A regular file, opened.
#[derive(Debug)]
pub struct Opened {
    /// Its path.
    pub path: PathBuf,
    /// Its contents.
    pub file: File,
    /// Its length when it was opened.
    pub len: u64,
}

impl Opened {
    /// Opens a file.
    ///
    /// # Errors
    /// It is not there, or is not a regular file.
    pub fn new(path: &Path) -> Result<Opened, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let regular = |kind: FileType| match irregular(kind) {
            None => Ok(()),
            Some(kind) => Err(FileError::NotRegular { path: path.to_owned(), kind }),
        };
        // Before it is opened: opening a pipe would wait for its writer.
        regular(fs::metadata(path).map_err(io)?.file_type())?;
        let file = File::open(path).map_err(io)?;
        // And again, as another file may have come in its place.
        let metadata = file.metadata().map_err(io)?;
        regular(metadata.file_type())?;
        Ok(Opened { path: path.to_owned(), file, len: metadata.len() })
    }

    /// Reads all of it, if it has at most `max` bytes, a limit that `why` explains.
    ///
    /// # Errors
    /// It is too long, or changes while it is read.
    pub fn read(self, max: u64, why: &'static str) -> Result<Vec<u8>, FileError> {
        let Opened { path, file, len } = self;
        if len > max {
            return Err(FileError::Long { path, len, max, why });
        }
        whole(file, path, len)
    }
}

/// Reads `len` bytes, and no more than one beyond.
fn whole(file: impl Read, path: PathBuf, len: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let most = len.saturating_add(1);
    let read = match usize::try_from(most).map(|most| bytes.try_reserve_exact(most)) {
        Ok(Ok(())) => file.take(most).read_to_end(&mut bytes),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    };
    match read {
        Err(source) => Err(FileError::Io { path, source }),
        Ok(_) if bytes.len() as u64 != len => {
            Err(FileError::Changed { path, opened: len, read: bytes.len() as u64 })
        }
        Ok(_) => Ok(bytes),
    }
}

/// The kind of a file that is not regular.
fn irregular(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [
            (kind.is_fifo(), "a pipe"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device(), "a character device"),
            (kind.is_block_device(), "a block device"),
        ];
        if let Some((_, name)) = kinds.into_iter().find(|&(is, _)| is) {
            return Some(name);
        }
    }
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () => Some("something else"),
    }
}

/// The absolute path of a file, by which a run that is resumed from another directory finds it again. The file need not
/// exist; symbolic links stay.
///
/// # Errors
/// The path is empty or not UTF-8, or there is no current directory.
pub fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    let path = std::path::absolute(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    if path.to_str().is_none() { Err(FileError::NotUtf8(path)) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &Path) -> String {
        Opened::new(path).and_then(|file| file.read(10, "ten")).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_to_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for bytes in [&b""[..], b"ten bytes!"] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(Opened::new(&path).unwrap().read(10, "ten").unwrap(), bytes);
        }
        fs::write(&path, b"eleven byte").unwrap();
        assert!(told(&path).ends_with("file: 11 bytes: must be at most 10 (ten)"), "{}", told(&path));
        // A length that no memory holds, of a file that takes no room on the disk.
        File::options().write(true).open(&path).unwrap().set_len(1 << 43).unwrap();
        assert!(told(&path).contains("8796093022208 bytes: must be at most 10"), "{}", told(&path));
        fs::remove_file(&path).unwrap();
        assert!(told(&path).contains("file: "), "{}", told(&path));
    }

    #[test]
    fn a_file_that_changes_is_told() {
        let read = |bytes: &[u8], len| whole(bytes, "f".into(), len).map_err(|e| e.to_string());
        assert_eq!(read(b"abc", 3).unwrap(), b"abc");
        let after = "changed while it was read; try again when nothing writes to it";
        assert_eq!(
            read(b"abc", 5).unwrap_err(),
            format!("f: 5 bytes when it was opened, 3 at its end: {after}")
        );
        assert_eq!(
            read(b"abc", 2).unwrap_err(),
            format!("f: 2 bytes when it was opened, more at its end: {after}")
        );
        // Without end: one byte more than promised is enough.
        let endless = whole(io::repeat(7), "f".into(), 1000).unwrap_err();
        assert!(matches!(endless, FileError::Changed { opened: 1000, read: 1001, .. }), "{endless}");
        assert!(matches!(whole(io::repeat(7), "f".into(), u64::MAX), Err(FileError::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        let kinds = [
            (directory.path().to_owned(), "a directory"),
            (at("pipe"), "a pipe"),
            (at("socket"), "a socket"),
            ("/dev/zero".into(), "a character device"),
            (at("link"), "a character device"),
        ];
        for (path, kind) in kinds {
            let want = format!("{}: is {kind}: must be a regular file", path.display());
            assert!(told(&path).starts_with(&want), "{}", told(&path));
        }
    }

    #[test]
    fn paths_are_absolute_where_they_are_kept() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a/../b")).unwrap(), here.join("a/../b"));
        assert_eq!(absolute(Path::new("/a/b")).unwrap(), Path::new("/a/b"));
        assert!(absolute(Path::new("")).unwrap_err().to_string().starts_with("\"\": "));
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let path = Path::new(std::ffi::OsStr::from_bytes(b"/t\xff"));
            assert!(
                absolute(path)
                    .unwrap_err()
                    .to_string()
                    .ends_with("must be UTF-8, as checkpoint and log store it")
            );
        }
    }
}
