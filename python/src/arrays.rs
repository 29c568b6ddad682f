//! NumPy arrays in and out: of the exact dtype and shape, C-contiguous, and then without a copy.

use hotlanes_replay::{Column, Data, DataMut, Dtype};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// An array that is read, of a column.
pub enum Input<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    Bf16(PyReadonlyArrayDyn<'py, u16>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    I32(PyReadonlyArrayDyn<'py, i32>),
    Bits(PyReadonlyArrayDyn<'py, u8>),
}

/// An array that is written to, of a column.
pub enum Output<'py> {
    F32(PyReadwriteArrayDyn<'py, f32>),
    Bf16(PyReadwriteArrayDyn<'py, u16>),
    U8(PyReadwriteArrayDyn<'py, u8>),
    I32(PyReadwriteArrayDyn<'py, i32>),
    Bits(PyReadwriteArrayDyn<'py, u8>),
}

/// The name of NumPy's dtype for a column's.
pub fn numpy_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "uint16",
        Dtype::U8 | Dtype::Bits => "uint8",
        Dtype::I32 => "int32",
    }
}

/// The shape of an array of records: `lead`, then the column's; bits are packed to one axis of bytes.
pub fn shape(column: &Column, lead: &[usize]) -> Vec<usize> {
    let mut shape = lead.to_vec();
    if column.dtype() == Dtype::Bits {
        shape.push(column.record_bytes());
    } else {
        shape.extend(column.shape());
    }
    shape
}

/// A new array of zeros.
pub fn zeros<'py>(py: Python<'py>, column: &Column, lead: &[usize]) -> Bound<'py, PyAny> {
    let shape = shape(column, lead);
    match column.dtype() {
        Dtype::F32 => PyArrayDyn::<f32>::zeros(py, shape, false).into_any(),
        Dtype::Bf16 => PyArrayDyn::<u16>::zeros(py, shape, false).into_any(),
        Dtype::U8 | Dtype::Bits => PyArrayDyn::<u8>::zeros(py, shape, false).into_any(),
        Dtype::I32 => PyArrayDyn::<i32>::zeros(py, shape, false).into_any(),
    }
}

/// Checks shape and order; what is said names the column, what is expected and what was given.
fn check(column: &Column, lead: &[usize], array: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    let expected = shape(column, lead);
    let name = column.name();
    if array.shape() != expected {
        let given = array.shape();
        return Err(PyValueError::new_err(format!(
            "column {name}: expected an array of shape {expected:?}, given {given:?}"
        )));
    }
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err(format!(
            "column {name}: expected a C-contiguous array, given one with strides {:?} (allow_copy=True copies it)",
            array.strides()
        )));
    }
    Ok(())
}

/// The error for an object that is no array of the column's dtype.
fn other(column: &Column, object: &Bound<'_, PyAny>) -> PyErr {
    let given = match object.cast::<PyUntypedArray>() {
        Ok(array) => array.dtype().str().map_or_else(|_| "another dtype".into(), |name| name.to_string()),
        Err(_) => match object.get_type().name() {
            Ok(name) => format!("a {name}"),
            Err(_) => "another object".into(),
        },
    };
    PyTypeError::new_err(format!(
        "column {}: expected a NumPy array of {}, given {given} (allow_copy=True converts it)",
        column.name(),
        numpy_name(column.dtype()),
    ))
}

fn read<'py, T: Element>(
    column: &Column,
    lead: &[usize],
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let array = object.cast::<PyArrayDyn<T>>().map_err(|_| other(column, object))?;
    check(column, lead, array.as_untyped())?;
    let busy =
        |e| PyValueError::new_err(format!("column {}: the array is being written to: {e}", column.name()));
    array.try_readonly().map_err(busy)
}

fn write<'py, T: Element>(
    column: &Column,
    lead: &[usize],
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    let array = object.cast::<PyArrayDyn<T>>().map_err(|_| other(column, object))?;
    check(column, lead, array.as_untyped())?;
    array.try_readwrite().map_err(|e| {
        PyValueError::new_err(format!("column {}: the array cannot be written to: {e}", column.name()))
    })
}

impl<'py> Input<'py> {
    /// An array of a column's records; with `allow_copy` whatever NumPy makes one of.
    pub fn new(
        column: &Column,
        lead: &[usize],
        object: &Bound<'py, PyAny>,
        allow_copy: bool,
    ) -> PyResult<Input<'py>> {
        let object = &if allow_copy { converted(column, object)? } else { object.clone() };
        Ok(match column.dtype() {
            Dtype::F32 => Input::F32(read(column, lead, object)?),
            Dtype::Bf16 => Input::Bf16(read(column, lead, object)?),
            Dtype::U8 => Input::U8(read(column, lead, object)?),
            Dtype::I32 => Input::I32(read(column, lead, object)?),
            Dtype::Bits => Input::Bits(read(column, lead, object)?),
        })
    }

    /// What the buffer takes.
    pub fn data(&self) -> PyResult<Data<'_>> {
        Ok(match self {
            Input::F32(array) => Data::F32(array.as_slice()?),
            Input::Bf16(array) => Data::Bf16(array.as_slice()?),
            Input::U8(array) => Data::U8(array.as_slice()?),
            Input::I32(array) => Data::I32(array.as_slice()?),
            Input::Bits(array) => Data::Bits(array.as_slice()?),
        })
    }
}

impl<'py> Output<'py> {
    /// An array for a column's records.
    pub fn new(column: &Column, lead: &[usize], object: &Bound<'py, PyAny>) -> PyResult<Output<'py>> {
        Ok(match column.dtype() {
            Dtype::F32 => Output::F32(write(column, lead, object)?),
            Dtype::Bf16 => Output::Bf16(write(column, lead, object)?),
            Dtype::U8 => Output::U8(write(column, lead, object)?),
            Dtype::I32 => Output::I32(write(column, lead, object)?),
            Dtype::Bits => Output::Bits(write(column, lead, object)?),
        })
    }

    /// What the sampler writes to.
    pub fn data(&mut self) -> PyResult<DataMut<'_>> {
        Ok(match self {
            Output::F32(array) => DataMut::F32(array.as_slice_mut()?),
            Output::Bf16(array) => DataMut::Bf16(array.as_slice_mut()?),
            Output::U8(array) => DataMut::U8(array.as_slice_mut()?),
            Output::I32(array) => DataMut::I32(array.as_slice_mut()?),
            Output::Bits(array) => DataMut::Bits(array.as_slice_mut()?),
        })
    }
}

/// By `numpy.ascontiguousarray` with the column's dtype; the shape is left as it is.
fn converted<'py>(column: &Column, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let numpy = object.py().import("numpy")?;
    numpy.call_method1("array", (object, numpy_name(column.dtype()))).and_then(|array| {
        // `ascontiguousarray` would make one axis of none.
        array.call_method1("copy", ("C",))
    })
}
