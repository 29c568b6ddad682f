//! A disk that fails at a chosen operation, and knows what of it a loss of power would leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hotlanes_replay::files::{Disk, Output, System};

/// What happens from the chosen operation on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This one fails.
    Once,
    /// The disk is full: nothing can be made or written any more.
    Full,
    /// The machine stops: nothing is done any more.
    Stop,
}

/// What the medium has after a loss of power, of what was not fsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of it.
    All,
    /// All of it.
    Nothing,
    /// The directory's entries, but no contents.
    Contents,
    /// The directory's entries, and half of the contents.
    Half,
    /// The contents, but no entries.
    Entries,
    /// Of the entries only the last one that was made is there.
    OtherEntries,
}

impl Loss {
    pub const EACH: [Loss; 6] =
        [Loss::All, Loss::Nothing, Loss::Contents, Loss::Half, Loss::Entries, Loss::OtherEntries];
}

#[derive(Default)]
struct Model {
    files: Vec<Contents>,
    /// Names as programs see them, and as they are on the medium.
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// The name that was renamed to last.
    last: Option<PathBuf>,
    operations: u64,
}

#[derive(Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

pub struct Faulty {
    model: Arc<Mutex<Model>>,
    fault: Fault,
    at: u64,
}

struct File {
    inner: Box<dyn Output>,
    index: usize,
    model: Arc<Mutex<Model>>,
    fault: Fault,
    at: u64,
}

fn failure() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "injected: no space")
}

/// Whether the next operation is to fail.
fn fails(model: &mut Model, fault: Fault, at: u64, takes_room: bool) -> bool {
    let number = model.operations;
    model.operations += 1;
    match fault {
        Fault::Once => number == at,
        Fault::Full => number >= at && takes_room,
        Fault::Stop => number >= at,
    }
}

impl Faulty {
    pub fn new(fault: Fault, at: u64) -> Faulty {
        Faulty { model: Arc::default(), fault, at }
    }

    pub fn sound() -> Faulty {
        Faulty::new(Fault::Once, u64::MAX)
    }

    pub fn operations(&self) -> u64 {
        self.model.lock().unwrap().operations
    }

    fn step(&self, takes_room: bool) -> io::Result<std::sync::MutexGuard<'_, Model>> {
        let mut model = self.model.lock().unwrap();
        if fails(&mut model, self.fault, self.at, takes_room) { Err(failure()) } else { Ok(model) }
    }

    /// Writes what is left after a loss of power to another directory.
    pub fn after(&self, loss: Loss, into: &Path) {
        let model = self.model.lock().unwrap();
        let mut names = if matches!(loss, Loss::All | Loss::Entries | Loss::OtherEntries) {
            model.durable.clone()
        } else {
            model.names.clone()
        };
        if loss == Loss::OtherEntries {
            let last = model.last.as_ref().and_then(|path| model.names.get_key_value(path));
            names.extend(last.map(|(path, &index)| (path.clone(), index)));
        }
        for (path, index) in names {
            let Contents { bytes, durable } = &model.files[index];
            let bytes = match loss {
                Loss::Nothing | Loss::Entries => bytes.clone(),
                Loss::All | Loss::Contents | Loss::OtherEntries => durable.clone(),
                Loss::Half => bytes[..durable.len() + (bytes.len() - durable.len()) / 2].to_vec(),
            };
            fs::write(into.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

impl Disk for Faulty {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        drop(self.step(true)?);
        System.create_directory(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut model = self.step(true)?;
        let inner = System.create(path)?;
        let index = model.files.len();
        model.files.push(Contents::default());
        model.names.insert(path.to_owned(), index);
        Ok(Box::new(File { inner, index, model: Arc::clone(&self.model), fault: self.fault, at: self.at }))
    }

    fn append(&self, _: &Path, _: u64) -> io::Result<Box<dyn Output>> {
        unreachable!("a store appends to no file")
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut model = self.step(false)?;
        System.rename(from, to)?;
        let index = model.names.remove(from).unwrap();
        model.names.insert(to.to_owned(), index);
        model.last = Some(to.to_owned());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut model = self.step(false)?;
        System.remove(path)?;
        model.names.remove(path);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut model = self.step(false)?;
        model.durable = model.names.clone();
        Ok(())
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut model = self.model.lock().unwrap();
        // At most so many at a time, as a file system may: whoever writes goes on with the rest.
        let bytes = &bytes[..bytes.len().min(1000)];
        let failed = fails(&mut model, self.fault, self.at, true);
        let written = if failed { &bytes[..bytes.len() / 2] } else { bytes };
        self.inner.write_all(written)?;
        model.files[self.index].bytes.extend(written);
        if failed { Err(failure()) } else { Ok(written.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        let mut model = self.model.lock().unwrap();
        if fails(&mut model, self.fault, self.at, true) {
            return Err(failure());
        }
        let contents = &mut model.files[self.index];
        contents.durable = contents.bytes.clone();
        Ok(())
    }

    fn cut(&mut self, _: u64) -> io::Result<()> {
        unreachable!("a store cuts no file")
    }
}
