//! The native part of the Python module `hotlanes`: see `hotlanes/__init__.pyi` for its documentation.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotlanes_replay::store::Store;
use hotlanes_replay::{Buffer, Drawn, Error, Of, Request, Sampler, Step, Target, Unit, Writer};
use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::{PyKeyError, PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

mod arrays;
mod settings;

use arrays::{Input, Output};

fn told(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { .. } | Error::Corrupt { .. } => PyOSError::new_err(text),
        Error::Memory { .. } => PyMemoryError::new_err(text),
        Error::Dtype { .. } => PyTypeError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// A thread that panicked while it had it left it as it was: each call is whole or an error.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks are taken with the GIL released only: who has one never waits for the other.
#[pyclass(frozen, module = "hotlanes")]
struct ReplayBuffer {
    buffer: Buffer,
    streams: usize,
    writer: Mutex<Option<Writer>>,
    /// Samplers that are not in use, with their scratch.
    samplers: Mutex<Vec<(Request, Sampler)>>,
    store: Mutex<Option<(PathBuf, Store<'static>)>>,
}

/// The arguments of a draw but the count.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Draw {
    method: String,
    beta: f32,
    replace: bool,
    n_step: Option<usize>,
    gamma: f32,
    reward: Option<String>,
    sequence: Option<usize>,
    pad: bool,
}

impl ReplayBuffer {
    fn of(buffer: Buffer, streams: usize, writer: Option<Writer>) -> ReplayBuffer {
        ReplayBuffer {
            buffer,
            streams,
            writer: Mutex::new(writer),
            samplers: Mutex::default(),
            store: Mutex::default(),
        }
    }

    fn request(&self, draw: &Draw) -> PyResult<Request> {
        let Draw { method, beta, replace, n_step, gamma, reward, sequence, pad } = draw;
        let reward = reward.as_deref();
        settings::request(
            self.buffer.schema(),
            method,
            *beta,
            *replace,
            *n_step,
            *gamma,
            reward,
            *sequence,
            *pad,
        )
    }

    /// Axes of a result before a record's own.
    fn lead(count: usize, request: Request) -> Vec<usize> {
        match request.unit {
            Unit::Sequences(sequences) => vec![count, sequences.len],
            _ => vec![count],
        }
    }

    /// The column of a key of results, and of which records.
    fn place(&self, key: &str) -> PyResult<(usize, Of)> {
        let columns = self.buffer.schema().columns();
        let find = |name: &str| columns.iter().position(|column| column.name() == name);
        if let Some(column) = find(key) {
            return Ok((column, Of::Drawn));
        }
        if let Some(column) = key.strip_prefix(settings::NEXT).and_then(find) {
            return Ok((column, Of::Next));
        }
        let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
        Err(PyKeyError::new_err(format!("column {key}: unknown (the columns are {})", names.join(", "))))
    }

    fn draw(
        &self,
        py: Python<'_>,
        count: usize,
        request: Request,
        places: &[(usize, Of)],
        outputs: &mut [Output<'_>],
    ) -> PyResult<Drawn> {
        let mut targets = Vec::with_capacity(places.len());
        for (&(column, of), output) in places.iter().zip(outputs) {
            targets.push(Target { column, of, data: output.data()? });
        }
        let drawn = py.detach(|| {
            let free = {
                let mut samplers = lock(&self.samplers);
                let at = samplers.iter().position(|(of, _)| *of == request);
                at.map(|at| samplers.swap_remove(at).1)
            };
            let mut sampler = match free {
                Some(sampler) => sampler,
                None => self.buffer.sampler(request)?,
            };
            let drawn = sampler.sample_into(count, &mut targets).cloned();
            let mut samplers = lock(&self.samplers);
            // Those of settings that change from call to call, as beta may, are not kept for ever.
            if samplers.len() >= 16 {
                samplers.remove(0);
            }
            samplers.push((request, sampler));
            drop(samplers);
            drawn
        });
        drawn.map_err(told)
    }
}

/// Adds to the result what is not of columns.
fn say(py: Python<'_>, result: &Bound<'_, PyDict>, drawn: Drawn, request: Request) -> PyResult<()> {
    result.set_item("ids", drawn.ids.into_pyarray(py))?;
    result.set_item("weights", drawn.weights.into_pyarray(py))?;
    if let Unit::Returns(_) = request.unit {
        result.set_item("returns", drawn.returns.into_pyarray(py))?;
        result.set_item("discounts", drawn.discounts.into_pyarray(py))?;
    }
    if request.unit != Unit::Record {
        result.set_item("steps", drawn.steps.into_pyarray(py))?;
    }
    Ok(())
}

#[pymethods]
impl ReplayBuffer {
    #[new]
    #[pyo3(signature = (columns, capacity, *, episodes=true, streams=1, eviction="segment", priorities=None, seed=0,
        segments=0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        columns: &Bound<'_, PyDict>,
        capacity: usize,
        episodes: bool,
        streams: usize,
        eviction: &str,
        priorities: Option<f32>,
        seed: u64,
        segments: usize,
    ) -> PyResult<ReplayBuffer> {
        let schema = settings::schema(columns)?;
        let config = settings::config(capacity, episodes, eviction, priorities, seed, segments)?;
        let made = py.detach(|| {
            let buffer = Buffer::new(schema, config)?;
            let writer = buffer.writer(streams)?;
            Ok((buffer, writer))
        });
        let (buffer, writer) = made.map_err(told)?;
        Ok(ReplayBuffer::of(buffer, streams, Some(writer)))
    }

    #[pyo3(signature = (data, steps=None, *, allow_copy=false))]
    fn add_batch<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyDict>,
        steps: Option<PyReadonlyArray1<'py, u8>>,
        allow_copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = data.iter().next().map(|(_, array)| array.len()).transpose()?.unwrap_or(0);
        let steps = match &steps {
            Some(steps) => steps.as_slice()?,
            None => &[],
        };
        Ok(self.put(py, data, first, &[first], steps, allow_copy)?.into_pyarray(py).into_any())
    }

    #[pyo3(signature = (data, step=0, *, allow_copy=false))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyDict>,
        step: u8,
        allow_copy: bool,
    ) -> PyResult<u64> {
        let steps = if self.buffer.config().episodes { &[step][..] } else { &[] };
        Ok(self.put(py, data, 1, &[], steps, allow_copy)?[0])
    }

    #[pyo3(name = "_sample")]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        columns: Option<Vec<String>>,
        draw: Draw,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request = self.request(&draw)?;
        let lead = Self::lead(count, request);
        let schema = self.buffer.schema().columns();
        let keys = columns.unwrap_or_else(|| schema.iter().map(|column| column.name().to_owned()).collect());
        let result = PyDict::new(py);
        let (mut places, mut outputs) = (Vec::new(), Vec::new());
        for key in &keys {
            let place = self.place(key)?;
            let array = arrays::zeros(py, &schema[place.0], &lead);
            outputs.push(Output::new(&schema[place.0], &lead, &array)?);
            places.push(place);
            result.set_item(key, array)?;
        }
        let drawn = self.draw(py, count, request, &places, &mut outputs)?;
        say(py, &result, drawn, request)?;
        Ok(result)
    }

    #[pyo3(name = "_sample_into")]
    fn sample_into<'py>(
        &self,
        py: Python<'py>,
        out: &Bound<'py, PyDict>,
        count: usize,
        draw: Draw,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request = self.request(&draw)?;
        let lead = Self::lead(count, request);
        let (mut places, mut outputs) = (Vec::new(), Vec::new());
        for (key, array) in out {
            let key = key.cast::<PyString>()?;
            let place = self.place(&key.to_cow()?)?;
            outputs.push(Output::new(&self.buffer.schema().columns()[place.0], &lead, &array)?);
            places.push(place);
        }
        let drawn = self.draw(py, count, request, &places, &mut outputs)?;
        let result = PyDict::new(py);
        say(py, &result, drawn, request)?;
        Ok(result)
    }

    fn update_priorities(
        &self,
        py: Python<'_>,
        ids: PyReadonlyArray1<'_, u64>,
        priorities: PyReadonlyArray1<'_, f32>,
    ) -> PyResult<usize> {
        let (ids, priorities) = (ids.as_slice()?, priorities.as_slice()?);
        py.detach(|| self.buffer.update_priorities(ids, priorities)).map_err(told)
    }

    #[pyo3(signature = (directory, *, compress=false))]
    fn save<'py>(&self, py: Python<'py>, directory: PathBuf, compress: bool) -> PyResult<Bound<'py, PyDict>> {
        let saved = py.detach(|| {
            let mut held = lock(&self.store);
            let store = match held.take() {
                Some((place, store)) if place == directory => store,
                // The other directory is let go first.
                _ => Store::create(&directory, &self.buffer)?,
            };
            let mut store = store.compress(compress);
            let saved = store.save(&(self.streams as u64).to_le_bytes());
            *held = Some((directory, store));
            saved
        });
        let saved = saved.map_err(told)?;
        let result = PyDict::new(py);
        result.set_item("written", saved.written)?;
        result.set_item("kept", saved.kept)?;
        result.set_item("evicted", saved.evicted)?;
        result.set_item("bytes", saved.bytes)?;
        Ok(result)
    }

    /// Lets go of the directory it was saved to or loaded from.
    fn _release(&self, py: Python<'_>) {
        py.detach(|| drop(lock(&self.store).take()));
    }

    #[staticmethod]
    fn load(py: Python<'_>, directory: PathBuf) -> PyResult<ReplayBuffer> {
        let loaded = py.detach(|| {
            let store = Store::open(&directory)?;
            let buffer = store.buffer().clone();
            let streams = store.extra().try_into().map_or(1, u64::from_le_bytes) as usize;
            let mut writers = buffer.resume_writers()?;
            let at = writers.iter().position(|writer| writer.streams() == streams);
            let writer = at.map(|at| writers.swap_remove(at));
            drop(writers);
            let writer = match writer {
                Some(writer) => writer,
                None => buffer.writer(streams)?,
            };
            let loaded = ReplayBuffer::of(buffer, streams, Some(writer));
            *lock(&loaded.store) = Some((directory, store));
            Ok(loaded)
        });
        loaded.map_err(told)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| self.buffer.len())
    }

    #[getter]
    fn capacity(&self) -> usize {
        self.buffer.config().capacity
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.buffer.bytes())
    }

    #[getter]
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let result = PyDict::new(py);
        for column in self.buffer.schema().columns() {
            result.set_item(column.name(), (column.dtype().name(), column.shape()))?;
        }
        Ok(result)
    }
}

impl ReplayBuffer {
    fn put(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyDict>,
        records: usize,
        lead: &[usize],
        steps: &[u8],
        allow_copy: bool,
    ) -> PyResult<Vec<u64>> {
        let schema = self.buffer.schema();
        if data.len() != schema.columns().len() {
            for (key, _) in data {
                schema.index(&key.cast::<PyString>()?.to_cow()?).map_err(told)?;
            }
        }
        let mut inputs = Vec::with_capacity(data.len());
        for column in schema.columns() {
            let array = data
                .get_item(column.name())?
                .ok_or_else(|| PyKeyError::new_err(format!("column {}: missing", column.name())))?;
            inputs.push(Input::new(column, lead, &array, allow_copy)?);
        }
        let kinds = [Step::Continues, Step::Terminated, Step::Truncated, Step::Final];
        let kind = |&step: &u8| {
            let rule = "must be CONTINUES, TERMINATED, TRUNCATED or FINAL";
            kinds
                .get(usize::from(step))
                .copied()
                .ok_or_else(|| PyValueError::new_err(format!("step is {step}: {rule}")))
        };
        let steps = steps.iter().map(kind).collect::<PyResult<Vec<_>>>()?;
        let data = inputs.iter().map(Input::data).collect::<PyResult<Vec<_>>>()?;
        let added = py.detach(|| {
            let mut writer = lock(&self.writer);
            let writer = writer.as_mut().expect("made with the buffer");
            writer.add(records, &data, &steps)?;
            Ok(writer.ids().collect())
        });
        added.map_err(told)
    }
}

#[pymodule]
fn _hotlanes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ReplayBuffer>()?;
    Ok(())
}
