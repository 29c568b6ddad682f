//! The Python module `hotlanes._hotlanes`; `python/hotlanes` is what users import.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotlanes_replay::store::Store;
use hotlanes_replay::{Buffer, Config, Eviction};
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

mod arrays;
mod columns;
mod pool;
mod sample;
mod writer;

use columns::raise;
use sample::{How, Samplers};
use writer::{Records, Writer};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replay buffer of named columns.
///
/// `columns` is a dict `{name: (dtype, shape[, codec])}` or a list of `(name, dtype, shape[, codec])`, with the dtypes
/// `f32`, `bf16` (uint16 arrays), `u8`, `i32` and `bits` (packed uint8, the lowest bit first). A codec is a name or a
/// dict: `"lz4"`, `"frames"`, `{"codec": "bit_planes", "plane": 64, "constant": 5}`,
/// `{"codec": "top_k", "k": 80, "bf16": False}`, each with an optional `"budget"` in bytes.
///
/// Arrays must have exactly the column's dtype and shape, and be C-contiguous: they are read in place, or refused with
/// the column, the expected and the given. With `allow_copy=True` they are converted. The GIL is released while records
/// are copied; do not write to an array meanwhile. Any number of threads may use one buffer.
#[pyclass(frozen, subclass, module = "hotlanes")]
struct ReplayBuffer {
    buffer: Buffer,
    /// Of `add` and `add_batch`: made by the first.
    writer: Mutex<Option<hotlanes_replay::Writer>>,
    /// Whether the default writer goes on with a saved one's stream.
    loaded: bool,
    samplers: Samplers,
    store: Mutex<Option<(PathBuf, Store<'static>)>>,
    allow_copy: bool,
}

impl ReplayBuffer {
    fn build(buffer: Buffer, allow_copy: bool, store: Option<(PathBuf, Store<'static>)>) -> ReplayBuffer {
        let (loaded, store) = (store.is_some(), Mutex::new(store));
        let (writer, samplers) = (Mutex::new(None), Samplers::default());
        ReplayBuffer { buffer, writer, loaded, samplers, store, allow_copy }
    }

    /// The writer of `add`: that of the saved buffer, if there is one.
    fn default_writer(&self) -> hotlanes_replay::Result<Option<hotlanes_replay::Writer>> {
        if self.loaded {
            let mut saved = self.buffer.resume_writers()?;
            if let Some(at) = saved.iter().position(|writer| writer.streams() == 1) {
                return Ok(Some(saved.swap_remove(at)));
            }
        }
        self.buffer.writer(1).map(Some)
    }
}

#[pymethods]
impl ReplayBuffer {
    #[new]
    #[pyo3(signature = (columns, capacity, *, episodes=true, eviction="segment", priorities=None, seed=0, segments=0,
        allow_copy=false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        columns: &Bound<'_, PyAny>,
        capacity: usize,
        episodes: bool,
        eviction: &str,
        priorities: Option<f32>,
        seed: u64,
        segments: usize,
        allow_copy: bool,
    ) -> PyResult<Self> {
        let eviction = match eviction {
            "segment" => Eviction::Segment,
            "record" => Eviction::Record,
            _ => {
                let text = format!("eviction: expected segment or record, given {eviction}");
                return Err(PyValueError::new_err(text));
            }
        };
        let schema = columns::schema(columns)?;
        let config = Config { capacity, eviction, segments, episodes, priorities, seed };
        let buffer = py.detach(|| Buffer::new(schema, config)).map_err(raise)?;
        Ok(ReplayBuffer::build(buffer, allow_copy, None))
    }

    /// Adds one record: `add(obs=..., reward=1.0, step=STEP_TERMINATED)` or a dict. Returns its id.
    ///
    /// All calls of `add` and `add_batch` are one stream, of one environment; more have writers of their own.
    #[pyo3(signature = (data=None, /, *, step=None, **columns))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        data: Option<Bound<'py, PyDict>>,
        step: Option<u8>,
        columns: Option<Bound<'py, PyDict>>,
    ) -> PyResult<u64> {
        let schema = self.buffer.schema();
        let records = Records::one(schema, data, columns, step, self.allow_copy)?;
        Ok(records.add(py, schema, &self.writer, || self.default_writer())?[0])
    }

    /// Adds many records: a dict of arrays whose first dimension counts them, and a uint8 array of STEP constants.
    /// Returns their ids.
    #[pyo3(signature = (data, steps=None))]
    fn add_batch<'py>(
        &self,
        py: Python<'py>,
        data: Bound<'py, PyDict>,
        steps: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let schema = self.buffer.schema();
        let records = Records::batch(schema, &data, steps, self.allow_copy)?;
        Ok(PyArray1::from_vec(py, records.add(py, schema, &self.writer, || self.default_writer())?))
    }

    /// A new writer for environments that are stepped together.
    #[pyo3(signature = (streams=1))]
    fn writer(&self, py: Python<'_>, streams: usize) -> PyResult<Writer> {
        let writer = py.detach(|| self.buffer.writer(streams)).map_err(raise)?;
        Ok(Writer::new(writer, self.buffer.schema().clone(), self.allow_copy))
    }

    /// Writers that go on with the streams of those that were closed, or saved.
    fn resume_writers(&self, py: Python<'_>) -> PyResult<Vec<Writer>> {
        let writers = py.detach(|| self.buffer.resume_writers()).map_err(raise)?;
        let wrap = |writer| Writer::new(writer, self.buffer.schema().clone(), self.allow_copy);
        Ok(writers.into_iter().map(wrap).collect())
    }

    /// Draws `n` records: a dict of new arrays.
    ///
    /// `method` is `uniform`, `prioritised` (with `beta`) or `newest`. With `n_step`, `returns` and `discounts` over up
    /// to that many steps, and `next_<column>`, the records by which the return is continued. With `sequence`, runs of
    /// so many records of one episode, with `pad` shorter ones filled with zeros. `columns` names what is read (also
    /// `next_<column>`). Beside the columns there are `ids`, `weights` and `steps`, unless a column has the name.
    #[pyo3(signature = (n, method="uniform", *, beta=0.4, replace=true, columns=None, n_step=None, gamma=0.99,
        reward="reward", sequence=None, pad=false))]
    #[allow(clippy::too_many_arguments)]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        method: &str,
        beta: f32,
        replace: bool,
        columns: Option<Vec<String>>,
        n_step: Option<usize>,
        gamma: f32,
        reward: &str,
        sequence: Option<usize>,
        pad: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (method, reward) = (method.into(), reward.into());
        let how = How { method, beta, replace, n_step, gamma, reward, sequence, pad };
        self.samplers.sample(py, &self.buffer, n, &how, columns, None)
    }

    /// Draws `n` records to the arrays of `out`, by the names of `sample`; returns all of the draw.
    #[pyo3(signature = (out, n, method="uniform", *, beta=0.4, replace=true, n_step=None, gamma=0.99,
        reward="reward", sequence=None, pad=false))]
    #[allow(clippy::too_many_arguments)]
    fn sample_into<'py>(
        &self,
        py: Python<'py>,
        out: &Bound<'py, PyDict>,
        n: usize,
        method: &str,
        beta: f32,
        replace: bool,
        n_step: Option<usize>,
        gamma: f32,
        reward: &str,
        sequence: Option<usize>,
        pad: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (method, reward) = (method.into(), reward.into());
        let how = How { method, beta, replace, n_step, gamma, reward, sequence, pad };
        self.samplers.sample(py, &self.buffer, n, &how, None, Some(out))
    }

    /// Sets priorities (float32) of ids (uint64). Records evicted meanwhile are left out; returns how many were set.
    fn update_priorities<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        priorities: &Bound<'py, PyAny>,
    ) -> PyResult<usize> {
        sample::update(py, &self.buffer, ids, priorities, self.allow_copy)
    }

    /// Saves to a directory, which this buffer holds from then on, until `close`: saved again, only what is new is
    /// written. Writers and samplers go on meanwhile. `extra` is kept with it. Returns the bytes that were written.
    #[pyo3(signature = (directory, extra=None))]
    fn save(&self, py: Python<'_>, directory: PathBuf, extra: Option<Vec<u8>>) -> PyResult<u64> {
        let directory = std::path::absolute(directory)?;
        let saved = py.detach(|| {
            let mut held = lock(&self.store);
            if held.as_ref().is_none_or(|(path, _)| *path != directory) {
                *held = None;
                *held = Some((directory.clone(), Store::create(&directory, &self.buffer)?));
            }
            let (_, store) = held.as_mut().expect("just made");
            store.save(extra.as_deref().unwrap_or_default())
        });
        Ok(saved.map_err(raise)?.bytes)
    }

    /// A saved buffer: its next add and its next draw are those of the one that was saved. It holds the
    /// directory, which nobody else may hold.
    #[staticmethod]
    #[pyo3(signature = (directory, *, allow_copy=false))]
    fn load(py: Python<'_>, directory: PathBuf, allow_copy: bool) -> PyResult<Self> {
        let directory = std::path::absolute(directory)?;
        let store = py.detach(|| Store::open(&directory)).map_err(raise)?;
        Ok(ReplayBuffer::build(store.buffer().clone(), allow_copy, Some((directory, store))))
    }

    /// Lets go of the directory of `save` or `load`. The buffer itself goes on.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(lock(&self.store).take()));
    }

    /// The bytes that were saved as `extra`.
    #[getter]
    fn extra<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let extra = py.detach(|| lock(&self.store).as_ref().map(|(_, store)| store.extra().to_vec()))?;
        Some(PyBytes::new(py, &extra))
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| self.buffer.len())
    }

    /// The records it was made for.
    #[getter]
    fn capacity(&self) -> usize {
        self.buffer.config().capacity
    }

    /// Bytes of memory that it takes, all of it from the beginning.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.buffer.bytes())
    }

    /// The columns, as they were given.
    #[getter]
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        columns::describe(py, self.buffer.schema())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let names: Vec<_> = self.buffer.schema().columns().iter().map(|column| column.name()).collect();
        format!("<hotlanes.ReplayBuffer {} of {}: {}>", self.__len__(py), self.capacity(), names.join(", "))
    }
}

#[pymodule]
fn _hotlanes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ReplayBuffer>()?;
    module.add_class::<Writer>()?;
    for (value, name) in ["CONTINUES", "TERMINATED", "TRUNCATED", "FINAL"].into_iter().enumerate() {
        module.add(format!("STEP_{name}"), value)?;
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
