//! Checkpoints: tensors in a safetensors file, everything else in a JSON file that names it.
//!
//! The JSON file is what counts: it is renamed into place after its tensors are on the disk, and older tensors are removed
//! after that. So a process that is killed at any moment leaves the old checkpoint or the new one.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::files;

/// The version of the JSON file's outer form.
const FORMAT: u32 = 1;

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
    /// The JSON file is not one of a checkpoint, or of another kind.
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
    /// The tensors cannot be read.
    #[error("{}: {what}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Outer<S> {
    format: u32,
    tensors: String,
    state: S,
}

/// Tensors on their way to a file.
#[derive(Debug, Default)]
pub struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

/// A type whose values are stored.
pub trait Element: Copy {
    /// Its name in the file.
    const DTYPE: Dtype;
    /// Bytes of a value.
    const SIZE: usize;
    /// Appends the bytes, the lowest first.
    fn put(self, bytes: &mut Vec<u8>);
    /// A value from its bytes, of which there are `SIZE`.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($type:ty, $dtype:ident;)*) => {$(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            const SIZE: usize = size_of::<$type>();

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Self {
                <$type>::from_le_bytes(bytes.try_into().expect("as many bytes as the type has"))
            }
        }
    )*};
}

element! { u8, U8; u16, U16; u32, U32; u64, U64; f32, F32; f64, F64; }

impl Tensors {
    /// Adds a tensor; the shape's product is the number of values.
    ///
    /// # Panics
    /// If it is not.
    pub fn add<T: Element>(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        values: impl IntoIterator<Item = T>,
    ) {
        let (name, mut bytes) = (name.into(), Vec::new());
        values.into_iter().for_each(|v| v.put(&mut bytes));
        let count = bytes.len() / T::SIZE;
        assert_eq!(count, shape.iter().product::<usize>(), "tensor {name}: values and shape");
        self.0.push((name, T::DTYPE, shape.to_vec(), bytes));
    }

    /// The file's bytes.
    fn serialize(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let views = self.0.iter().map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        });
        let views: Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
        safetensors::serialize(views?, None::<HashMap<String, String>>)
    }
}

/// Writes the checkpoint `name` into a directory, which is made if need be. `step` tells the tensors' file from the last one's.
///
/// # Errors
/// See [`CheckpointError`]; the checkpoint that was there is as it was.
pub fn save<S: Serialize>(
    directory: &Path,
    name: &str,
    step: u64,
    tensors: &Tensors,
    state: &S,
) -> Result<(), CheckpointError> {
    let io = |path: &Path, source| CheckpointError::Io { path: path.to_owned(), source };
    fs::create_dir_all(directory).map_err(|e| io(directory, e))?;
    let file = format!("{name}-{step:012}.safetensors");
    let path = directory.join(&file);
    let bytes = tensors
        .serialize()
        .map_err(|e| CheckpointError::Tensors { path: path.clone(), what: e.to_string() })?;
    files::replace(&path, &bytes).map_err(|e| io(&path, e))?;
    let json = json_path(directory, name);
    let outer = Outer { format: FORMAT, tensors: file.clone(), state };
    let text = serde_json::to_vec_pretty(&outer)
        .map_err(|source| CheckpointError::Json { path: json.clone(), source })?;
    files::replace(&json, &text).map_err(|e| io(&json, e))?;

    // Nothing names the older ones any more. One that stays behind does no harm.
    let prefix = format!("{name}-");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let old = entry.file_name().to_string_lossy().into_owned();
        if old != file && old.starts_with(&prefix) && old.contains(".safetensors") {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Where the checkpoint `name` of a directory has its JSON file.
pub fn json_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

/// Reads the checkpoint `name` of a directory: its state, and its tensors.
///
/// # Errors
/// See [`CheckpointError`].
pub fn load<S: DeserializeOwned>(directory: &Path, name: &str) -> Result<(S, Stored), CheckpointError> {
    let json = json_path(directory, name);
    let read =
        |path: &Path| fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source });
    let text = read(&json)?;
    let wrong = |source| CheckpointError::Json { path: json.clone(), source };
    // The format first, so that another version is told as such and not as a missing field.
    let outer: Outer<serde_json::Value> = serde_json::from_slice(&text).map_err(wrong)?;
    if outer.format != FORMAT {
        return Err(CheckpointError::Format { path: json, format: outer.format });
    }
    let state = serde_json::from_value(outer.state).map_err(wrong)?;
    let path = directory.join(&outer.tensors);
    Ok((state, Stored { bytes: read(&path)?, path }))
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Stored {
    /// The tensors by name.
    ///
    /// # Errors
    /// The file is no safetensors file.
    pub fn tensors(&self) -> Result<Named<'_>, CheckpointError> {
        match SafeTensors::deserialize(&self.bytes) {
            Ok(tensors) => Ok(Named { path: &self.path, tensors }),
            Err(e) => Err(self.wrong(e.to_string())),
        }
    }

    /// An error about this file.
    pub fn wrong(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensors { path: self.path.clone(), what: what.into() }
    }
}

/// The tensors of a checkpoint by name.
#[derive(Debug)]
pub struct Named<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Named<'_> {
    /// The values of a tensor.
    ///
    /// # Errors
    /// There is none of this name, or it has another type.
    pub fn get<T: Element>(&self, name: &str) -> Result<Vec<T>, CheckpointError> {
        Ok(self.view::<T>(name)?.data().chunks_exact(T::SIZE).map(T::get).collect())
    }

    /// Copies the values of a tensor that has this shape to a place of as many values.
    ///
    /// # Errors
    /// There is none of this name, or it has another type or shape.
    ///
    /// # Panics
    /// If the place has not the shape's length.
    pub fn read<T: Element>(&self, name: &str, shape: &[usize], to: &mut [T]) -> Result<(), CheckpointError> {
        assert_eq!(to.len(), shape.iter().product::<usize>(), "tensor {name}: place and shape");
        let view = self.view::<T>(name)?;
        if view.shape() != shape {
            return Err(
                self.wrong(format!("tensor {name:?} has the shape {:?}: must be {shape:?}", view.shape()))
            );
        }
        for (to, bytes) in to.iter_mut().zip(view.data().chunks_exact(T::SIZE)) {
            *to = T::get(bytes);
        }
        Ok(())
    }

    fn view<T: Element>(&self, name: &str) -> Result<TensorView<'_>, CheckpointError> {
        let view = self.tensors.tensor(name).map_err(|_| self.wrong(format!("no tensor {name:?}")))?;
        if view.dtype() != T::DTYPE {
            return Err(self.wrong(format!("tensor {name:?} is {:?}: must be {:?}", view.dtype(), T::DTYPE)));
        }
        Ok(view)
    }

    fn wrong(&self, what: String) -> CheckpointError {
        CheckpointError::Tensors { path: self.path.to_owned(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save_one(directory: &Path, step: u64) {
        let mut tensors = Tensors::default();
        tensors.add("x", &[2, 2], [1.0_f32, -0.0, f32::MAX, step as f32]);
        tensors.add("n", &[1], [u64::MAX]);
        save(directory, "run", step, &tensors, &step).unwrap();
    }

    #[test]
    fn what_was_saved_is_loaded_and_the_old_one_goes() {
        let directory = tempfile::tempdir().unwrap();
        save_one(directory.path(), 1);
        save_one(directory.path(), 2);
        let (state, stored) = load::<u64>(directory.path(), "run").unwrap();
        let tensors = stored.tensors().unwrap();
        assert_eq!(state, 2);
        assert_eq!(tensors.get::<f32>("x").unwrap(), [1.0, -0.0, f32::MAX, 2.0]);
        assert_eq!(tensors.get::<u64>("n").unwrap(), [u64::MAX]);
        assert!(
            tensors.get::<u64>("x").unwrap_err().to_string().contains("tensor \"x\" is F32: must be U64")
        );
        assert!(tensors.get::<f32>("y").unwrap_err().to_string().contains("no tensor \"y\""));
        let mut place = [0.0_f32; 4];
        tensors.read("x", &[2, 2], &mut place).unwrap();
        assert_eq!(place, [1.0, -0.0, f32::MAX, 2.0]);
        let error = tensors.read("x", &[4, 1], &mut place).unwrap_err().to_string();
        assert!(error.ends_with("tensor \"x\" has the shape [2, 2]: must be [4, 1]"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn numbers_of_a_state_come_back_to_the_bit() {
        let mut rng = crate::rng::Rng::new(1, 2, 3, 4);
        let numbers: Vec<f64> = (0..2000)
            .map(|_| f64::from_bits(rng.bits()))
            .filter(|n| n.is_finite())
            .chain([0.1 + 0.2, 1e-4 / 3.0, f64::MIN_POSITIVE, 5e-324])
            .collect();
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), "run", 1, &Tensors::default(), &numbers).unwrap();
        let (back, _) = load::<Vec<f64>>(directory.path(), "run").unwrap();
        assert!(back.iter().zip(&numbers).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    /// Each state that a kill can leave on the way from the first checkpoint to the second.
    #[test]
    fn a_kill_at_any_moment_leaves_a_checkpoint() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save_one(first.path(), 1);
        save_one(second.path(), 2);
        let new = fs::read(second.path().join("run-000000000002.safetensors")).unwrap();
        let json = fs::read(second.path().join("run.json")).unwrap();
        let at = |name: &str| first.path().join(name);
        let steps: [(&str, &[u8]); 5] = [
            ("run-000000000002.safetensors.tmp", &new[..new.len() / 2]),
            ("run-000000000002.safetensors.tmp", &new),
            ("run-000000000002.safetensors", &new),
            ("run.json.tmp", &json[..json.len() / 2]),
            ("run.json.tmp", &json),
        ];
        for (name, bytes) in steps {
            fs::write(at(name), bytes).unwrap();
            let (state, stored) = load::<u64>(first.path(), "run").unwrap();
            assert_eq!((state, stored.tensors().unwrap().get::<f32>("x").unwrap()[3]), (1, 1.0));
        }
        fs::rename(at("run.json.tmp"), at("run.json")).unwrap();
        assert_eq!(load::<u64>(first.path(), "run").unwrap().0, 2);
        save_one(first.path(), 3);
        assert_eq!(fs::read_dir(first.path()).unwrap().count(), 2, "what a kill left behind is swept up");
    }

    #[test]
    fn what_is_no_checkpoint_is_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let told = || load::<u64>(directory.path(), "run").unwrap_err().to_string();
        assert!(told().contains("run.json"), "{}", told());
        save_one(directory.path(), 1);
        let json = directory.path().join("run.json");
        let text = fs::read_to_string(&json).unwrap();
        fs::write(&json, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
        assert!(told().ends_with("format 7: this program reads format 1"), "{}", told());
        fs::write(&json, &text[..text.len() / 2]).unwrap();
        assert!(told().contains("run.json"), "{}", told());
        fs::write(&json, text).unwrap();
        fs::write(directory.path().join("run-000000000001.safetensors"), b"short").unwrap();
        let stored = load::<u64>(directory.path(), "run").unwrap().1;
        assert!(stored.tensors().unwrap_err().to_string().contains("run-000000000001.safetensors"));
    }
}
