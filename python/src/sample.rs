//! Drawing records to NumPy arrays.

use std::sync::Mutex;

use hotlanes_replay::{
    Buffer, Column, Drawn, Method, Of, Request, Returns, Sampler, Schema, Sequences, Target, Unit,
};
use numpy::{Element, PyArray1};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{self, Expected, Output};
use crate::columns::raise;
use crate::lock;
use crate::pool::Pool;

const NEXT: &str = "next_";
/// Keys of a result that are not columns.
const OF_DRAW: [&str; 5] = ["ids", "weights", "returns", "discounts", "steps"];
/// Samplers kept for calls like those before.
const MOST_KEPT: usize = 16;

/// How to draw, as Python says it.
pub struct How {
    pub method: String,
    pub beta: f32,
    pub replace: bool,
    pub n_step: Option<usize>,
    pub gamma: f32,
    pub reward: String,
    pub sequence: Option<usize>,
    pub pad: bool,
}

impl How {
    fn request(&self, schema: &Schema) -> PyResult<Request> {
        let method = match self.method.as_str() {
            "uniform" => Method::Uniform,
            "prioritised" | "prioritized" => Method::Prioritised { beta: self.beta },
            "newest" => Method::Newest,
            other => {
                let text = format!("method: expected uniform, prioritised or newest, given {other}");
                return Err(PyValueError::new_err(text));
            }
        };
        let unit = match (self.n_step, self.sequence) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("give n_step or sequence, not both")),
            (Some(n), None) => {
                let reward = schema.index(&self.reward).map_err(raise)?;
                Unit::Returns(Returns { n, gamma: self.gamma, reward })
            }
            (None, Some(len)) => Unit::Sequences(Sequences { len, pad: self.pad }),
            (None, None) => Unit::Record,
        };
        Ok(Request { method, replace: self.replace, unit })
    }
}

/// One column to be read: its name in the result, its place, and of which records.
struct Read {
    name: String,
    column: usize,
    of: Of,
}

impl Read {
    fn named(schema: &Schema, name: &str, returns: bool) -> PyResult<Read> {
        let (column, of) = match (schema.index(name), name.strip_prefix(NEXT)) {
            (Err(_), Some(plain)) if returns => (schema.index(plain).map_err(raise)?, Of::Next),
            (found, _) => (found.map_err(raise)?, Of::Drawn),
        };
        Ok(Read { name: name.into(), column, of })
    }

    /// All columns; of returns the next records', too, but for the rewards.
    fn all(schema: &Schema, unit: Unit) -> Vec<Read> {
        let mut all = Vec::new();
        for (column, name) in schema.columns().iter().map(Column::name).enumerate() {
            all.push(Read { name: name.into(), column, of: Of::Drawn });
            if matches!(unit, Unit::Returns(returns) if returns.reward != column) {
                all.push(Read { name: format!("{NEXT}{name}"), column, of: Of::Next });
            }
        }
        all
    }
}

/// Samplers that wait for the next call, and the memory of its arrays.
#[derive(Default)]
pub struct Samplers {
    waiting: Mutex<Vec<(Request, Sampler)>>,
    pool: Pool,
}

impl Samplers {
    fn take(&self, buffer: &Buffer, request: Request) -> hotlanes_replay::Result<Sampler> {
        let mut kept = lock(&self.waiting);
        match kept.iter().position(|(other, _)| *other == request) {
            Some(at) => Ok(kept.swap_remove(at).1),
            None => buffer.sampler(request),
        }
    }

    fn put(&self, request: Request, sampler: Sampler) {
        let mut kept = lock(&self.waiting);
        if kept.len() == MOST_KEPT {
            kept.remove(0);
        }
        kept.push((request, sampler));
    }

    /// Draws to new arrays, or to those of `out`; the arrays by name.
    pub fn sample<'py>(
        &self,
        py: Python<'py>,
        buffer: &Buffer,
        count: usize,
        how: &How,
        columns: Option<Vec<String>>,
        out: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let schema = buffer.schema();
        let request = how.request(schema)?;
        let returns = matches!(request.unit, Unit::Returns(_));
        let reads: Vec<Read> = match (out, columns) {
            (Some(out), _) => {
                let mut reads = Vec::new();
                for name in out.keys() {
                    let name: String = name.extract()?;
                    if schema.index(&name).is_ok() || !OF_DRAW.contains(&&*name) {
                        reads.push(Read::named(schema, &name, returns)?);
                    }
                }
                reads
            }
            (None, Some(names)) => {
                names.iter().map(|name| Read::named(schema, name, returns)).collect::<PyResult<_>>()?
            }
            (None, None) => Read::all(schema, request.unit),
        };
        let mut leading = vec![count];
        leading.extend(how.sequence);
        let result = PyDict::new(py);
        let mut outputs = Vec::with_capacity(reads.len());
        for read in &reads {
            let column = &schema.columns()[read.column];
            let shape = arrays::batch_shape(column, &leading);
            let array = match out {
                Some(out) => out.get_item(&read.name)?.expect("a key of it"),
                None => self.pool.array(py, column, &shape)?,
            };
            outputs.push(Output::new(column, &read.name, &shape, &array)?);
            result.set_item(&read.name, array)?;
        }
        // The draw's own arrays are checked before anything is drawn.
        let own = |name: &str| -> PyResult<Option<Bound<'py, PyAny>>> {
            match out {
                Some(out) if schema.index(name).is_err() => out.get_item(name),
                _ => Ok(None),
            }
        };
        let ids = OwnArray::<u64>::new("ids", "uint64", count, own("ids")?)?;
        let weights = OwnArray::<f32>::new("weights", "float32", count, own("weights")?)?;
        let sums = OwnArray::<f32>::new("returns", "float32", count, own("returns")?)?;
        let discounts = OwnArray::<f32>::new("discounts", "float32", count, own("discounts")?)?;
        let steps = OwnArray::<u32>::new("steps", "uint32", count, own("steps")?)?;
        let mut targets: Vec<_> = reads
            .iter()
            .zip(&mut outputs)
            .map(|(read, output)| {
                let dtype = schema.columns()[read.column].dtype();
                Target { column: read.column, of: read.of, data: output.data(dtype) }
            })
            .collect();
        let drawn = py.detach(|| {
            let mut sampler = self.take(buffer, request)?;
            let drawn = sampler.sample_into(count, &mut targets)?.clone();
            self.put(request, sampler);
            Ok(drawn)
        });
        let Drawn { ids: d_ids, weights: d_weights, returns: d_sums, discounts: d_discounts, steps: d_steps } =
            drawn.map_err(raise)?;
        drop(targets);
        let taken = |name: &str| schema.index(name).is_ok();
        let put = |name: &str, array: Bound<'py, PyAny>| {
            if taken(name) { Ok(()) } else { result.set_item(name, array) }
        };
        put("ids", ids.fill(py, d_ids)?)?;
        put("weights", weights.fill(py, d_weights)?)?;
        put("steps", steps.fill(py, d_steps)?)?;
        if returns {
            put("returns", sums.fill(py, d_sums)?)?;
            put("discounts", discounts.fill(py, d_discounts)?)?;
        }
        Ok(result)
    }
}

/// The caller's array for numbers of the draw, or none.
struct OwnArray<'py, T: Element>(Option<(Bound<'py, PyAny>, numpy::PyReadwriteArrayDyn<'py, T>)>);

impl<'py, T: Element + Copy> OwnArray<'py, T> {
    fn new(
        name: &str,
        dtype: &'static str,
        count: usize,
        given: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let Some(array) = given else { return Ok(OwnArray(None)) };
        let guard = Expected { name, dtype, shape: &[count] }.write(&array)?;
        Ok(OwnArray(Some((array, guard))))
    }

    fn fill(self, py: Python<'py>, values: Vec<T>) -> PyResult<Bound<'py, PyAny>> {
        match self.0 {
            None => Ok(PyArray1::from_vec(py, values).into_any()),
            Some((array, mut guard)) => {
                let slice = guard.as_slice_mut().map_err(|error| PyTypeError::new_err(error.to_string()))?;
                slice.copy_from_slice(&values);
                Ok(array)
            }
        }
    }
}

/// Ids and priorities as they must be.
pub fn update<'py>(
    py: Python<'py>,
    buffer: &Buffer,
    ids: &Bound<'py, PyAny>,
    priorities: &Bound<'py, PyAny>,
    convert: bool,
) -> PyResult<usize> {
    let count = ids.len()?;
    let ids = Expected { name: "ids", dtype: "uint64", shape: &[count] }.read::<u64>(ids, convert)?;
    let priorities = Expected { name: "priorities", dtype: "float32", shape: &[count] }
        .read::<f32>(priorities, convert)?;
    let wrong = |error: numpy::AsSliceError| PyValueError::new_err(error.to_string());
    let (ids, priorities) = (ids.as_slice().map_err(wrong)?, priorities.as_slice().map_err(wrong)?);
    py.detach(|| buffer.update_priorities(ids, priorities)).map_err(raise)
}
