//! Checkpoints: tensors in safetensors files, everything else in a JSON file, the index, that lists them.
//!
//! The index is the commit point: it is renamed into place after its tensors are on the medium, and tensors that it no
//! longer lists are removed after that. So a process that is killed at any moment leaves the old checkpoint or the new
//! one. Tensor files are named after the checkpoint and its step alone: an index cannot name another file, and a run
//! removes none but those that its index listed.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{self, Disk};
use super::log::Mark;
use super::tensors::{Named, Tensors};

/// The version of the index and of what it refers to.
const FORMAT: u32 = 2;

/// Bytes of an index at most: its vocabulary may have 65,536 characters.
const MOST_INDEX: u64 = 1 << 26;

/// Checkpoints that a message lists at most.
const SHOWN: usize = 20;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index is no index.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It was written by another version.
    #[error("{}: format {format}: this program reads format {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The index lists no checkpoint that fits.
    #[error("{}: {what}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The tensors cannot be read.
    #[error("{}: {what}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl CheckpointError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| CheckpointError::Io { path: path.to_owned(), source }
    }
}

/// A checkpoint's index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    format: u32,
    /// The trainer that wrote it.
    pub kind: String,
    /// What all of its checkpoints share.
    pub about: Value,
    /// The checkpoints, newest first.
    pub saved: Vec<Saved>,
}

/// One checkpoint of an index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Its step, which names its tensors' file.
    pub step: u64,
    /// [`Tensors::digest`].
    pub sha256: String,
    /// The log as it was.
    pub log: Option<Mark>,
    /// All state but the tensors.
    pub snapshot: Value,
}

/// The checkpoints of one name in a directory, for the run that writes them.
pub struct Checkpoints<'a> {
    disk: &'a dyn Disk,
    directory: PathBuf,
    name: &'static str,
    /// Checkpoints to keep, at least 1.
    keep: usize,
    /// What is on the medium.
    index: Index,
}

impl<'a> Checkpoints<'a> {
    /// None yet.
    pub fn new(
        disk: &'a dyn Disk,
        directory: &Path,
        name: &'static str,
        kind: &str,
        keep: usize,
    ) -> Checkpoints<'a> {
        let index = Index { format: FORMAT, kind: kind.into(), about: Value::Null, saved: Vec::new() };
        Checkpoints { disk, directory: directory.to_owned(), name, keep, index }
    }

    /// Those that an index lists.
    pub fn of(
        disk: &'a dyn Disk,
        directory: &Path,
        name: &'static str,
        index: Index,
        keep: usize,
    ) -> Checkpoints<'a> {
        Checkpoints { disk, directory: directory.to_owned(), name, keep, index }
    }

    /// The newest one.
    pub fn last(&self) -> Option<&Saved> {
        self.index.saved.first()
    }

    /// Saves one.
    ///
    /// # Errors
    /// See [`CheckpointError`]; those that were there are as they were.
    pub fn save(&mut self, about: Value, new: Saved, tensors: &Tensors<'_>) -> Result<(), CheckpointError> {
        let same = self.last().is_some_and(|old| old.step == new.step && old.sha256 == new.sha256);
        if !same {
            let path = tensors_path(&self.directory, self.name, new.step);
            files::replace_by(self.disk, &path, |file| tensors.write(file))
                .map_err(CheckpointError::io(&path))?;
        }
        let mut index = self.index.clone();
        index.about = about;
        index.saved.retain(|old| old.step != new.step);
        index.saved.insert(0, new);
        let dropped = index.saved.split_off(self.keep.clamp(1, index.saved.len()));
        self.commit(index)?;
        for old in dropped {
            // One that stays behind does no harm.
            let _ = self.disk.remove(&tensors_path(&self.directory, self.name, old.step));
        }
        Ok(())
    }

    /// Gives the newest one another mark of the log.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn mark(&mut self, mark: Mark) -> Result<(), CheckpointError> {
        let mut index = self.index.clone();
        if let Some(last) = index.saved.first_mut() {
            last.log = Some(mark);
            self.commit(index)?;
        }
        Ok(())
    }

    fn commit(&mut self, index: Index) -> Result<(), CheckpointError> {
        let path = index_path(&self.directory, self.name);
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
        files::replace(self.disk, &path, &text).map_err(CheckpointError::io(&path))?;
        self.index = index;
        Ok(())
    }
}

/// Where the index of a name lies.
pub fn index_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

/// Where the tensors of a step lie.
pub fn tensors_path(directory: &Path, name: &str, step: u64) -> PathBuf {
    directory.join(format!("{name}-{step:012}.safetensors"))
}

/// Reads the index of a name.
///
/// # Errors
/// See [`CheckpointError`]; one without a checkpoint is an error.
pub fn index(directory: &Path, name: &str) -> Result<Index, CheckpointError> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let path = index_path(directory, name);
    let text = files::read_regular(&path, MOST_INDEX).map_err(CheckpointError::io(&path))?;
    let wrong = |source| CheckpointError::Json { path: path.clone(), source };
    // The format first, so that another version is told as such and not as a missing field.
    let Versioned { format } = serde_json::from_slice(&text).map_err(wrong)?;
    if format != FORMAT {
        return Err(CheckpointError::Format { path, format });
    }
    let index: Index = serde_json::from_slice(&text).map_err(wrong)?;
    if index.saved.is_empty() {
        return Err(CheckpointError::Index { path, what: "lists no checkpoint".into() });
    }
    Ok(index)
}

/// The newest checkpoint of a name, or the one of a step: its index, its entry and its tensors, which are checked
/// against their hash. A trainer may write the next one meanwhile.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load(
    directory: &Path,
    name: &str,
    step: Option<u64>,
) -> Result<(Index, Saved, Stored), CheckpointError> {
    let mut missing = None;
    loop {
        let index = index(directory, name)?;
        let path = index_path(directory, name);
        let found = index.saved.iter().find(|s| step.is_none_or(|step| s.step == step)).cloned();
        let Some(saved) = found else {
            let some: Vec<String> = index.saved.iter().take(SHOWN).map(|s| s.step.to_string()).collect();
            let more = if index.saved.len() > SHOWN { ", ..." } else { "" };
            let what =
                format!("no checkpoint of step {}: there are {}{more}", step.unwrap_or(0), some.join(", "));
            return Err(CheckpointError::Index { path, what });
        };
        match Stored::read(directory, name, &saved) {
            // It was removed after the index was read: there is a newer index. If that one lists it too, it is missing.
            Err(CheckpointError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && missing != Some(saved.step) =>
            {
                missing = Some(saved.step);
            }
            stored => return Ok((index, saved, stored?)),
        }
    }
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Stored {
    /// Reads the tensors of an index's entry, and checks them against its hash.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn read(directory: &Path, name: &str, saved: &Saved) -> Result<Stored, CheckpointError> {
        let path = tensors_path(directory, name, saved.step);
        let most = crate::shell::memory::available().map_or(u64::MAX, |bytes| bytes as u64);
        let bytes = files::read_regular(&path, most).map_err(CheckpointError::io(&path))?;
        let stored = Stored { path, bytes };
        let have = stored.tensors()?.digest(&saved.snapshot);
        if have != saved.sha256 {
            let want = &saved.sha256;
            return Err(stored.wrong(format!("its hash is {have}: {name}.json says {want}")));
        }
        Ok(stored)
    }

    /// The tensors by name.
    ///
    /// # Errors
    /// The file is no safetensors file.
    pub fn tensors(&self) -> Result<Named<'_>, CheckpointError> {
        Named::new(&self.path, &self.bytes)
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An error about this file.
    pub fn wrong(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensors { path: self.path.clone(), what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::store::files::System;

    fn save_one(checkpoints: &mut Checkpoints<'_>, step: u64) {
        let values = [1.0_f32, -0.0, f32::MAX, step as f32];
        let mut tensors = Tensors::default();
        tensors.add("x", &[2, 2], &values);
        tensors.gather("n", 1, || [u64::MAX].into_iter());
        let snapshot = json!({ "step": step, "loss": 0.1 + 0.2 });
        let sha256 = tensors.digest(&snapshot);
        let saved = Saved { step, sha256, log: None, snapshot };
        checkpoints.save(json!({ "seed": 1 }), saved, &tensors).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_ones_are_kept_and_files_of_others_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut checkpoints = Checkpoints::new(&System, path, "run", "test", 2);
        save_one(&mut checkpoints, 1);
        fs::copy(tensors_path(path, "run", 1), path.join("run-keep.safetensors")).unwrap();
        fs::copy(tensors_path(path, "run", 1), tensors_path(path, "run", 7)).unwrap();
        for step in [2, 3, 4, 4] {
            save_one(&mut checkpoints, step);
        }
        let (three, four, seven) =
            ("run-000000000003.safetensors", "run-000000000004.safetensors", "run-000000000007.safetensors");
        assert_eq!(names(path), [three, four, seven, "run-keep.safetensors", "run.json"]);
        let (index, saved, stored) = load(path, "run", None).unwrap();
        assert_eq!((index.kind.as_str(), &index.about["seed"], saved.step), ("test", &json!(1), 4));
        assert_eq!(saved.snapshot["loss"].as_f64(), Some(0.1 + 0.2));
        let tensors = stored.tensors().unwrap();
        assert_eq!(tensors.get::<f32>("x").unwrap(), [1.0, -0.0, f32::MAX, 4.0]);
        assert_eq!(tensors.get::<u64>("n").unwrap(), [u64::MAX]);
        let told = tensors.get::<u64>("x").unwrap_err().to_string();
        assert!(told.contains("tensor \"x\" is of type F32: must be U64"), "{told}");
        assert!(tensors.get::<f32>("y").unwrap_err().to_string().contains("no tensor \"y\""));
        let mut place = [0.0_f32; 4];
        let told = tensors.read("x", &[4, 1], &mut place).unwrap_err().to_string();
        assert!(told.ends_with("tensor \"x\" has the shape [2, 2]: must be [4, 1]"), "{told}");
        assert_eq!(load(path, "run", Some(3)).unwrap().1.step, 3);
        let told = load(path, "run", Some(2)).unwrap_err().to_string();
        assert!(told.ends_with("no checkpoint of step 2: there are 4, 3"), "{told}");
    }

    #[test]
    fn a_wrong_checkpoint_is_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let told = || load(path, "run", None).unwrap_err().to_string();
        assert!(told().contains("run.json"), "{}", told());
        save_one(&mut Checkpoints::new(&System, path, "run", "test", 1), 1);
        let json = index_path(path, "run");
        let text = fs::read_to_string(&json).unwrap();
        for (from, to, what) in [
            ("\"format\": 2", "\"format\": 1", "format 1: this program reads format 2"),
            ("\"step\": 1\n", "\"step\": 2\n", "its hash is"),
            ("\"saved\": [", "\"saved\": [], \"was\": [", "lists no checkpoint"),
            ("\"saved\": [", "\"saved\": 7, \"was\": [", "run.json"),
        ] {
            assert!(text.contains(from), "{from}: {text}");
            fs::write(&json, text.replace(from, to)).unwrap();
            assert!(told().contains(what), "{}", told());
        }
        fs::write(&json, &text[..text.len() / 2]).unwrap();
        assert!(told().contains("run.json"), "{}", told());
        fs::write(&json, text).unwrap();
        let tensors = tensors_path(path, "run", 1);
        let good = fs::read(&tensors).unwrap();
        for (at, len) in [(8, good.len()), (good.len() - 1, good.len()), (0, 5), (0, 0)] {
            let mut bad = good[..len].to_vec();
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 1;
            }
            fs::write(&tensors, bad).unwrap();
            assert!(told().contains("run-000000000001.safetensors"), "{}", told());
        }
    }
}
