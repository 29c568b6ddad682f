//! Tensors on their way to a safetensors file, and back.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView, View};
use serde_json::Value;

use super::checkpoint::CheckpointError;
use super::hash::Sha;

/// A type whose values are stored.
pub trait Element: bytemuck::Pod {
    /// Its name in the file.
    const DTYPE: Dtype;

    /// The same value with its lowest byte first in memory.
    fn to_le(self) -> Self;
}

macro_rules! element {
    ($($type:ty, $dtype:ident;)*) => {$(
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn to_le(self) -> Self {
                Self::from_ne_bytes(self.to_le_bytes())
            }
        }
    )*};
}

element! { u8, U8; u16, U16; u32, U32; u64, U64; f32, F32; f64, F64; }

fn le_bytes<T: Element>(values: Cow<'_, [T]>) -> Cow<'_, [u8]> {
    let values = if cfg!(target_endian = "little") {
        values
    } else {
        Cow::Owned(values.iter().map(|v| v.to_le()).collect())
    };
    match values {
        Cow::Borrowed(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
        Cow::Owned(values) => Cow::Owned(bytemuck::cast_slice(&values).to_vec()),
    }
}

/// Tensors on their way to a file: borrowed, or gathered one at a time when they are written.
#[derive(Default)]
pub struct Tensors<'a>(Vec<Tensor<'a>>);

struct Tensor<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a>,
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.bytes)()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl<'a> Tensors<'a> {
    /// Adds a tensor; the shape's product is the number of values.
    ///
    /// # Panics
    /// If it is not.
    pub fn add<T: Element>(&mut self, name: impl Into<String>, shape: &[usize], values: &'a [T]) {
        let name = name.into();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "tensor {name}: values and shape");
        self.push::<T>(name, shape, Box::new(move || le_bytes(Cow::Borrowed(values))));
    }

    /// Adds a tensor of `len` values that lie apart.
    pub fn gather<T: Element, I: Iterator<Item = T>>(
        &mut self,
        name: &str,
        len: usize,
        values: impl Fn() -> I + 'a,
    ) {
        let bytes = move || le_bytes(Cow::Owned(values().collect::<Vec<T>>()));
        self.push::<T>(name.to_owned(), &[len], Box::new(bytes));
    }

    fn push<T: Element>(
        &mut self,
        name: String,
        shape: &[usize],
        bytes: Box<dyn Fn() -> Cow<'a, [u8]> + 'a>,
    ) {
        self.0.push(Tensor { name, dtype: T::DTYPE, shape: shape.to_vec(), bytes });
    }

    /// SHA-256 of a snapshot and the tensors, in the order of their names: equal states have equal hashes, whatever
    /// wrote them.
    pub fn digest(&self, snapshot: &Value) -> String {
        let mut tensors: Vec<&Tensor<'_>> = self.0.iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        digest(snapshot, tensors.into_iter().map(|t| (t.name.as_str(), t)))
    }

    /// Writes a safetensors file, tensor by tensor: no copy of them all is made.
    ///
    /// # Errors
    /// Of the file, or two tensors have one name.
    pub(super) fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        let mut tensors: Vec<&Tensor<'_>> = self.0.iter().collect();
        // The format's order: by alignment, so that a reader can map the file, then by name.
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(&b.name)));
        let mut end = 0;
        let place = |tensor: &&Tensor<'_>| {
            let start = end;
            end += tensor.data_len();
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        };
        let places: Vec<(String, TensorInfo)> = tensors.iter().map(place).collect();
        let metadata = Metadata::new(None, places).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.into_iter().try_for_each(|tensor| file.write_all(&tensor.data()))
    }
}

fn digest<V: View>(snapshot: &Value, tensors: impl Iterator<Item = (impl AsRef<str>, V)>) -> String {
    let sha = Sha::default().part(snapshot.to_string().as_bytes());
    let add = |sha: Sha, (name, tensor): (_, V)| {
        let head = format!("{} {} {:?}", AsRef::<str>::as_ref(&name), tensor.dtype(), tensor.shape());
        sha.part(head.as_bytes()).part(&tensor.data())
    };
    tensors.fold(sha, add).hex()
}

/// The tensors of a checkpoint by name.
#[derive(Debug)]
pub struct Named<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> Named<'a> {
    /// The tensors of a file's bytes.
    ///
    /// # Errors
    /// They are not those of a safetensors file.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Named<'a>, CheckpointError> {
        let wrong = |e: safetensors::SafeTensorError| CheckpointError::Tensors {
            path: path.to_owned(),
            what: e.to_string(),
        };
        Ok(Named { path, tensors: SafeTensors::deserialize(bytes).map_err(wrong)? })
    }

    /// [`Tensors::digest`] of what was read.
    pub fn digest(&self, snapshot: &Value) -> String {
        let mut tensors = self.tensors.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        digest(snapshot, tensors.iter().map(|(name, view)| (name, view)))
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// There is none of this name, or it has another type.
    pub fn get<T: Element>(&self, name: &str) -> Result<Vec<T>, CheckpointError> {
        let view = self.view::<T>(name)?;
        let mut values = vec![T::zeroed(); view.data().len() / size_of::<T>()];
        copy(view.data(), &mut values);
        Ok(values)
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
        copy(view.data(), to);
        Ok(())
    }

    /// Checks numbers that training counts on from.
    ///
    /// # Errors
    /// One is beyond what any run reaches: adding to it would wrap.
    pub fn check_counts(&self, counts: &[(&str, u64)], most: u64) -> Result<(), CheckpointError> {
        match counts.iter().find(|&&(_, count)| count > most) {
            Some((what, count)) => Err(self.wrong(format!("{what} = {count}: must be at most {most}"))),
            None => Ok(()),
        }
    }

    fn view<T: Element>(&self, name: &str) -> Result<TensorView<'_>, CheckpointError> {
        let Ok(view) = self.tensors.tensor(name) else {
            return Err(self.wrong(format!("no tensor {name:?}")));
        };
        if view.dtype() != T::DTYPE {
            let (have, want) = (view.dtype(), T::DTYPE);
            return Err(self.wrong(format!("tensor {name:?} is of type {have:?}: must be {want:?}")));
        }
        Ok(view)
    }

    /// An error about this file.
    pub fn wrong(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Tensors { path: self.path.to_owned(), what: what.into() }
    }
}

/// Copies stored bytes, which need not be aligned.
fn copy<T: Element>(bytes: &[u8], to: &mut [T]) {
    bytemuck::cast_slice_mut(to).copy_from_slice(bytes);
    if cfg!(target_endian = "big") {
        to.iter_mut().for_each(|v| *v = v.to_le());
    }
}
