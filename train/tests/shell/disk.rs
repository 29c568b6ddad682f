//! A file system that fails or stops at a chosen operation.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hotlanes_train::store::files::{Disk, Output, System};

/// What happens from the chosen operation on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This one fails.
    Once,
    /// The disk is full: nothing can be made or written any more; what is there can be renamed and removed.
    Full,
    /// The process is killed: this operation and all others do nothing, or half of it.
    Kill,
}

pub struct Faulty {
    shared: Arc<Shared>,
}

struct Shared {
    fault: Fault,
    /// The number of the operation, from 0.
    at: u64,
    done: AtomicU64,
}

struct File {
    inner: Box<dyn Output>,
    shared: Arc<Shared>,
}

impl Faulty {
    pub fn new(fault: Fault, at: u64) -> Faulty {
        Faulty { shared: Arc::new(Shared { fault, at, done: AtomicU64::new(0) }) }
    }

    /// Without a fault.
    pub fn sound() -> Faulty {
        Faulty::new(Fault::Once, u64::MAX)
    }

    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Whether the next operation, which takes room or does not, is to fail.
    fn fails(&self, takes_room: bool) -> bool {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Once => number == self.at,
            Fault::Full => number >= self.at && takes_room,
            Fault::Kill => number >= self.at,
        }
    }

    fn check(&self, takes_room: bool) -> io::Result<()> {
        if self.fails(takes_room) { Err(failure()) } else { Ok(()) }
    }
}

fn failure() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "injected: no space")
}

impl Disk for Faulty {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.shared.check(true)?;
        System.create_directory(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.shared.check(true)?;
        Ok(Box::new(File { inner: System.create(path)?, shared: Arc::clone(&self.shared) }))
    }

    fn append(&self, path: &Path, len: u64) -> io::Result<Box<dyn Output>> {
        self.shared.check(true)?;
        Ok(Box::new(File { inner: System.append(path, len)?, shared: Arc::clone(&self.shared) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.check(false)?;
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.check(false)?;
        System.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // Nothing here tests what a machine that stops leaves, and syncing is slow.
        let _ = path;
        self.shared.check(false)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shared.fails(true) {
            // Half of it is written, as a full disk does.
            self.inner.write_all(&bytes[..bytes.len() / 2])?;
            return Err(failure());
        }
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.shared.check(true)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.shared.check(false)?;
        self.inner.cut(len)
    }
}
