//! Adding records from Python.

use std::sync::Mutex;

use hotlanes_replay::{Schema, Step};
use numpy::{PyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Expected, Input};
use crate::columns::raise;
use crate::lock;

/// Adds the records of one or more streams: environments that are stepped together.
///
/// Made by `ReplayBuffer.writer(streams)`. Threads that share a writer take turns; those that have one each add at the
/// same time. Its first records begin episodes.
#[pyclass(frozen, module = "hotlanes")]
pub struct Writer {
    inner: Mutex<Option<hotlanes_replay::Writer>>,
    schema: Schema,
    streams: usize,
    allow_copy: bool,
}

impl Writer {
    pub fn new(inner: hotlanes_replay::Writer, schema: Schema, allow_copy: bool) -> Writer {
        let streams = inner.streams();
        Writer { inner: Mutex::new(Some(inner)), schema, streams, allow_copy }
    }
}

/// Checked arrays in the order of the schema, and what is done with each step.
pub struct Records<'py> {
    inputs: Vec<Input<'py>>,
    records: usize,
    steps: Vec<Step>,
}

fn step(value: u8, record: usize) -> PyResult<Step> {
    let steps = [Step::Continues, Step::Terminated, Step::Truncated, Step::Final];
    steps.get(usize::from(value)).copied().ok_or_else(|| {
        PyValueError::new_err(format!(
            "steps, record {record}: expected a STEP constant of 0 to 3, given {value}"
        ))
    })
}

impl<'py> Records<'py> {
    fn inputs(
        schema: &Schema,
        data: &Bound<'py, PyDict>,
        leading: Option<usize>,
        convert: bool,
    ) -> PyResult<Vec<Input<'py>>> {
        let columns = schema.columns();
        let mut inputs = Vec::with_capacity(columns.len());
        for column in columns {
            match data.get_item(column.name())? {
                Some(value) => inputs.push(Input::new(column, leading, &value, convert)?),
                None => {
                    let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
                    return Err(PyValueError::new_err(format!(
                        "column {}: is missing (the columns are {})",
                        column.name(),
                        names.join(", ")
                    )));
                }
            }
        }
        if data.len() > columns.len() {
            for name in data.keys() {
                schema.index(&name.extract::<String>()?).map_err(raise)?;
            }
        }
        Ok(inputs)
    }

    /// One record, of a dict or of named columns.
    pub fn one(
        schema: &Schema,
        data: Option<Bound<'py, PyDict>>,
        named: Option<Bound<'py, PyDict>>,
        kind: Option<u8>,
        convert: bool,
    ) -> PyResult<Self> {
        let data = match (data, named) {
            (Some(data), None) | (None, Some(data)) => data,
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err("give a dict or named columns, not both"));
            }
            (None, None) => return Err(PyValueError::new_err("give a dict or named columns")),
        };
        let steps = kind.map(|kind| step(kind, 0)).transpose()?.into_iter().collect();
        Ok(Records { inputs: Records::inputs(schema, &data, None, convert)?, records: 1, steps })
    }

    /// Many records, of arrays whose first dimension counts them.
    pub fn batch(
        schema: &Schema,
        data: &Bound<'py, PyDict>,
        steps: Option<Bound<'py, PyAny>>,
        convert: bool,
    ) -> PyResult<Self> {
        let first = &schema.columns()[0];
        let records = match data.get_item(first.name())? {
            Some(value) => match value.cast::<PyUntypedArray>() {
                Ok(array) => array.shape().first().copied().unwrap_or(0),
                Err(_) if convert => value.len()?,
                Err(_) => 0,
            },
            None => 0,
        };
        let inputs = Records::inputs(schema, data, Some(records), convert)?;
        let mut kinds = Vec::new();
        if let Some(steps) = steps {
            let expected = Expected { name: "steps", dtype: "uint8", shape: &[records] };
            let array = expected.read::<u8>(&steps, convert)?;
            let values = array.as_slice().map_err(|_| PyValueError::new_err("steps: not contiguous"))?;
            for (record, &value) in values.iter().enumerate() {
                kinds.push(step(value, record)?);
            }
        }
        Ok(Records { inputs, records, steps: kinds })
    }

    /// Adds them without the GIL. `get` is called there, too: it may wait for a lock.
    pub fn add(
        &self,
        py: Python<'py>,
        schema: &Schema,
        writer: &Mutex<Option<hotlanes_replay::Writer>>,
        get: impl FnOnce() -> hotlanes_replay::Result<Option<hotlanes_replay::Writer>> + Send,
    ) -> PyResult<Vec<u64>> {
        let columns = schema.columns();
        let data: Vec<_> =
            self.inputs.iter().zip(columns).map(|(input, column)| input.data(column.dtype())).collect();
        let (records, steps) = (self.records, &self.steps[..]);
        let added = py.detach(move || {
            let mut writer = lock(writer);
            if writer.is_none() {
                *writer = get()?;
            }
            let Some(writer) = writer.as_mut() else { return Ok(None) };
            writer.add(records, &data, steps)?;
            Ok(Some(writer.ids().collect()))
        });
        added.map_err(raise)?.ok_or_else(|| PyValueError::new_err("the writer is closed"))
    }
}

#[pymethods]
impl Writer {
    /// Adds one record: arrays of exactly the columns' dtypes and shapes, by name or as a dict. Returns its id.
    #[pyo3(signature = (data=None, /, *, step=None, **columns))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        data: Option<Bound<'py, PyDict>>,
        step: Option<u8>,
        columns: Option<Bound<'py, PyDict>>,
    ) -> PyResult<u64> {
        let records = Records::one(&self.schema, data, columns, step, self.allow_copy)?;
        Ok(records.add(py, &self.schema, &self.inner, || Ok(None))?[0])
    }

    /// Adds many records, rounds of one for each stream: arrays whose first dimension counts them. `steps` is a uint8
    /// array of STEP constants. Returns their ids.
    #[pyo3(signature = (data, steps=None))]
    fn add_batch<'py>(
        &self,
        py: Python<'py>,
        data: Bound<'py, PyDict>,
        steps: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let records = Records::batch(&self.schema, &data, steps, self.allow_copy)?;
        let ids = records.add(py, &self.schema, &self.inner, || Ok(None))?;
        Ok(PyArray1::from_vec(py, ids))
    }

    /// Gives the writer's place back: it adds no more.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(lock(&self.inner).take()));
    }

    /// The number of streams.
    #[getter]
    fn streams(&self) -> usize {
        self.streams
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}
