//! NumPy arrays as columns' data: taken as they are, or refused with the column, the expected and the given.

use hotlanes_replay::{Column, Data, DataMut, Dtype};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// NumPy's name of a dtype's elements.
pub fn numpy_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "float32",
        Dtype::Bf16 => "uint16",
        Dtype::U8 | Dtype::Bits => "uint8",
        Dtype::I32 => "int32",
    }
}

/// The shape of one record's array: bits are bytes.
pub fn record_shape(column: &Column) -> Vec<usize> {
    match column.dtype() {
        Dtype::Bits => vec![column.record_bytes()],
        _ => column.shape().to_vec(),
    }
}

/// The shape of an array of records, as many as `leading` says.
pub fn batch_shape(column: &Column, leading: &[usize]) -> Vec<usize> {
    [leading, &record_shape(column)].concat()
}

/// A shape as Python writes it.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [n] => format!("({n},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn describe(value: &Bound<'_, PyAny>) -> String {
    let array = || {
        let dtype = value.getattr("dtype").ok()?;
        let shape: Vec<usize> = value.getattr("shape").ok()?.extract().ok()?;
        Some(format!("{dtype} of shape {}", tuple(&shape)))
    };
    let name = || value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string());
    array().unwrap_or_else(name)
}

/// An array that is read, and guarded meanwhile.
pub enum Input<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    U16(PyReadonlyArrayDyn<'py, u16>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    I32(PyReadonlyArrayDyn<'py, i32>),
    /// A Python number for a column of one element.
    OneF32(f32),
    OneI32(i32),
    OneU8(u8),
    OneU16(u16),
}

/// An array that is written to, and guarded meanwhile.
pub enum Output<'py> {
    F32(PyReadwriteArrayDyn<'py, f32>),
    U16(PyReadwriteArrayDyn<'py, u16>),
    U8(PyReadwriteArrayDyn<'py, u8>),
    I32(PyReadwriteArrayDyn<'py, i32>),
}

/// The dtype, shape and order asked of an array.
pub struct Expected<'a> {
    pub name: &'a str,
    pub dtype: &'static str,
    pub shape: &'a [usize],
}

impl Expected<'_> {
    fn text(&self, value: &Bound<'_, PyAny>) -> String {
        let Expected { name, dtype, shape } = self;
        format!("column {name}: expected {dtype} of shape {}, given {}", tuple(shape), describe(value))
    }

    fn typed<'py, T: Element>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
        let Ok(array) = value.cast::<PyArrayDyn<T>>() else {
            return Err(PyTypeError::new_err(self.text(value)));
        };
        if array.shape() != self.shape {
            return Err(PyValueError::new_err(self.text(value)));
        }
        if !array.is_c_contiguous() {
            return Err(PyValueError::new_err(format!("{} that is not C-contiguous", self.text(value))));
        }
        Ok(array.clone())
    }

    /// To be read.
    pub fn read<'py, T: Element>(
        &self,
        value: &Bound<'py, PyAny>,
        convert: bool,
    ) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
        let array = if convert {
            let numpy = value.py().import("numpy")?;
            let options = PyDict::new(value.py());
            options.set_item("dtype", self.dtype)?;
            options.set_item("order", "C")?;
            self.typed(&numpy.call_method("asarray", (value,), Some(&options))?)?
        } else {
            self.typed(value)?
        };
        let guard = array.try_readonly().map_err(|error| self.refuse(&error.to_string()))?;
        guard.as_slice().map_err(|_| self.refuse("the array is not aligned"))?;
        Ok(guard)
    }

    /// To be written to.
    pub fn write<'py, T: Element>(&self, value: &Bound<'py, PyAny>) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
        let array = self.typed(value)?;
        let mut guard = array.try_readwrite().map_err(|error| self.refuse(&error.to_string()))?;
        guard.as_slice_mut().map_err(|_| self.refuse("the array is not aligned"))?;
        Ok(guard)
    }

    fn refuse(&self, what: &str) -> PyErr {
        PyValueError::new_err(format!("column {}: {what}", self.name))
    }
}

impl<'py> Input<'py> {
    /// A column's array: of one record, or of so many.
    pub fn new(
        column: &Column,
        leading: Option<usize>,
        value: &Bound<'py, PyAny>,
        convert: bool,
    ) -> PyResult<Self> {
        let shape = match leading {
            Some(records) => batch_shape(column, &[records]),
            None => record_shape(column),
        };
        let dtype = numpy_name(column.dtype());
        let expected = Expected { name: column.name(), dtype, shape: &shape };
        if leading.is_none() && shape.is_empty() && value.getattr("shape").is_err() {
            let wrong = |_| PyTypeError::new_err(expected.text(value));
            return match column.dtype() {
                Dtype::F32 => value.extract().map(Input::OneF32).map_err(wrong),
                Dtype::Bf16 => value.extract().map(Input::OneU16).map_err(wrong),
                Dtype::I32 => value.extract().map(Input::OneI32).map_err(wrong),
                Dtype::U8 | Dtype::Bits => value.extract().map(Input::OneU8).map_err(wrong),
            };
        }
        // NumPy's scalars are no arrays, but have a dtype, which must be the column's.
        let scalar = shape.is_empty()
            && value.cast::<numpy::PyUntypedArray>().is_err()
            && value.getattr("dtype").is_ok_and(|given| given.str().is_ok_and(|given| given == dtype));
        let convert = convert || scalar;
        match column.dtype() {
            Dtype::F32 => expected.read(value, convert).map(Input::F32),
            Dtype::Bf16 => expected.read(value, convert).map(Input::U16),
            Dtype::U8 | Dtype::Bits => expected.read(value, convert).map(Input::U8),
            Dtype::I32 => expected.read(value, convert).map(Input::I32),
        }
    }

    /// The elements, for a column of this dtype.
    pub fn data(&self, dtype: Dtype) -> Data<'_> {
        let bytes = |x| if dtype == Dtype::Bits { Data::Bits(x) } else { Data::U8(x) };
        const CHECKED: &str = "it was contiguous when the guard was taken";
        match self {
            Input::F32(x) => Data::F32(x.as_slice().expect(CHECKED)),
            Input::U16(x) => Data::Bf16(x.as_slice().expect(CHECKED)),
            Input::I32(x) => Data::I32(x.as_slice().expect(CHECKED)),
            Input::U8(x) => bytes(x.as_slice().expect(CHECKED)),
            Input::OneF32(x) => Data::F32(std::slice::from_ref(x)),
            Input::OneU16(x) => Data::Bf16(std::slice::from_ref(x)),
            Input::OneI32(x) => Data::I32(std::slice::from_ref(x)),
            Input::OneU8(x) => bytes(std::slice::from_ref(x)),
        }
    }
}

impl<'py> Output<'py> {
    /// The caller's array for a column.
    pub fn new(column: &Column, name: &str, shape: &[usize], value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let expected = Expected { name, dtype: numpy_name(column.dtype()), shape };
        match column.dtype() {
            Dtype::F32 => expected.write(value).map(Output::F32),
            Dtype::Bf16 => expected.write(value).map(Output::U16),
            Dtype::U8 | Dtype::Bits => expected.write(value).map(Output::U8),
            Dtype::I32 => expected.write(value).map(Output::I32),
        }
    }

    /// The elements, for a column of this dtype.
    pub fn data(&mut self, dtype: Dtype) -> DataMut<'_> {
        const CHECKED: &str = "it was contiguous when the guard was taken";
        match self {
            Output::F32(x) => DataMut::F32(x.as_slice_mut().expect(CHECKED)),
            Output::U16(x) => DataMut::Bf16(x.as_slice_mut().expect(CHECKED)),
            Output::I32(x) => DataMut::I32(x.as_slice_mut().expect(CHECKED)),
            Output::U8(x) => {
                let x = x.as_slice_mut().expect(CHECKED);
                if dtype == Dtype::Bits { DataMut::Bits(x) } else { DataMut::U8(x) }
            }
        }
    }
}

/// A new array for a column, by `numpy.empty`, which asks the system for large pages where it is large.
pub fn empty<'py>(py: Python<'py>, column: &Column, shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let empty = EMPTY.get_or_try_init(py, || py.import("numpy")?.getattr("empty").map(Bound::unbind))?;
    let dtype = match column.dtype() {
        Dtype::F32 => intern!(py, "f4"),
        Dtype::Bf16 => intern!(py, "u2"),
        Dtype::U8 | Dtype::Bits => intern!(py, "u1"),
        Dtype::I32 => intern!(py, "i4"),
    };
    empty.bind(py).call1((PyTuple::new(py, shape)?, dtype))
}
