//! One writer for a run's directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file that is locked. It stays behind: removing it would let two in.
pub const FILE: &str = "hotlanes.lock";

/// Why a directory cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process writes there.
    #[error("{}: another run writes there ({holder}): wait for its end, or choose another --out", directory.display())]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Who it is, by its own words.
        holder: String,
    },
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The right to write in a directory, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes it, for a command.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(directory: &Path, command: &str) -> Result<Lock, LockError> {
        let path = directory.join(FILE);
        let io = |source| LockError::Io { path: path.clone(), source };
        // Not truncated: it may be another's.
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.lines().next().unwrap_or("it has not said its name").to_owned();
                return Err(LockError::Held { directory: directory.to_owned(), holder });
            }
            // Some network file systems have no locks: better a run without than none.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        // For the message alone.
        let _ = file.set_len(0);
        let _ = writeln!(file, "process {}: {command}", std::process::id());
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), "hotlanes train gpt").unwrap();
        let told = Lock::take(directory.path(), "hotlanes train population").unwrap_err().to_string();
        let me = format!("(process {}: hotlanes train gpt)", std::process::id());
        assert!(told.contains(&me) && told.contains("another run writes there"), "{told}");
        drop(first);
        Lock::take(directory.path(), "hotlanes train population").unwrap();
    }
}
