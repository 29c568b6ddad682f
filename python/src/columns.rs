//! The schema as Python writes it.

use hotlanes_replay::{Codec, Column, Dtype, Error, Schema};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// An error as Python's.
pub fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Dtype { .. } => PyTypeError::new_err(text),
        Error::Memory { .. } => PyMemoryError::new_err(text),
        Error::Io { .. } | Error::Corrupt { .. } => PyOSError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// From a dict `{name: (dtype, shape[, codec])}`, or a list of `(name, dtype, shape[, codec])`.
pub fn schema(columns: &Bound<'_, PyAny>) -> PyResult<Schema> {
    let mut parsed = Vec::new();
    if let Ok(columns) = columns.cast::<PyDict>() {
        for (name, rest) in columns.iter() {
            let rest: Vec<Bound<'_, PyAny>> = rest.extract()?;
            parsed.push(column(name.extract()?, &rest)?);
        }
    } else {
        for item in columns.try_iter()? {
            let mut item: Vec<Bound<'_, PyAny>> = item?.extract()?;
            if item.is_empty() {
                return Err(PyValueError::new_err("a column must be (name, dtype, shape[, codec])"));
            }
            let name = item.remove(0).extract()?;
            parsed.push(column(name, &item)?);
        }
    }
    Schema::new(parsed).map_err(raise)
}

fn column(name: String, rest: &[Bound<'_, PyAny>]) -> PyResult<Column> {
    let (dtype, shape, codec) = match rest {
        [dtype, shape] => (dtype, shape, None),
        [dtype, shape, codec] => (dtype, shape, Some(codec)),
        _ => {
            let text =
                format!("column {name}: expected (dtype, shape[, codec]), given {} values", rest.len());
            return Err(PyValueError::new_err(text));
        }
    };
    let given = dtype.str()?.to_string();
    let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == given).ok_or_else(|| {
        let known: Vec<_> = Dtype::ALL.iter().map(|dtype| dtype.name()).collect();
        PyValueError::new_err(format!(
            "column {name}: expected a dtype of {}, given {given}",
            known.join(", ")
        ))
    })?;
    let shape: Vec<usize> = match shape.extract::<usize>() {
        Ok(n) => vec![n],
        Err(_) => shape.extract()?,
    };
    let plain = Column::new(name, dtype, &shape);
    match codec {
        Some(codec) if !codec.is_none() => with_codec(plain, codec),
        _ => Ok(plain),
    }
}

fn with_codec(column: Column, codec: &Bound<'_, PyAny>) -> PyResult<Column> {
    let wrong = |what: String| PyValueError::new_err(format!("column {}: {what}", column.name()));
    let mut options = Vec::new();
    let name: String = match codec.cast::<PyDict>() {
        Ok(codec) => {
            for (key, value) in codec.iter() {
                options.push((key.extract::<String>()?, value));
            }
            let at = options.iter().position(|(key, _)| key == "codec");
            let at = at.ok_or_else(|| wrong("a codec's dict must have the key codec".into()))?;
            options.remove(at).1.extract()?
        }
        Err(_) => codec.extract()?,
    };
    let mut take = |key: &str| -> Option<Bound<'_, PyAny>> {
        let at = options.iter().position(|(given, _)| given == key)?;
        Some(options.remove(at).1)
    };
    let number = |key: &str, value: Option<Bound<'_, PyAny>>| -> PyResult<usize> {
        value.ok_or_else(|| wrong(format!("codec {name}: {key} is missing")))?.extract()
    };
    let kind = match name.as_str() {
        "raw" => Codec::Raw,
        "lz4" => Codec::Lz4,
        "frames" => Codec::Frames,
        "bit_planes" => Codec::BitPlanes {
            plane: number("plane", take("plane"))?,
            constant: take("constant").map_or(Ok(0), |value| value.extract())?,
        },
        "top_k" => Codec::TopK {
            k: number("k", take("k"))?,
            bf16: take("bf16").map_or(Ok(false), |value| value.extract())?,
        },
        _ => {
            return Err(wrong(format!(
                "expected a codec of raw, lz4, frames, bit_planes, top_k, given {name}"
            )));
        }
    };
    let budget = take("budget");
    if let Some((key, _)) = options.first() {
        return Err(wrong(format!("codec {name}: there is no option {key}")));
    }
    let column = column.codec(kind);
    Ok(match budget {
        Some(bytes) => column.budget(bytes.extract()?),
        None => column,
    })
}

/// The same back.
pub fn describe<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for column in schema.columns() {
        let shape = PyTuple::new(py, column.shape())?;
        let rest = PyList::new(py, [column.dtype().name().into_pyobject(py)?.into_any(), shape.into_any()])?;
        let codec = PyDict::new(py);
        match column.storage() {
            Codec::Raw => {}
            Codec::Lz4 => codec.set_item("codec", "lz4")?,
            Codec::Frames => codec.set_item("codec", "frames")?,
            Codec::BitPlanes { plane, constant } => {
                codec.set_item("codec", "bit_planes")?;
                codec.set_item("plane", plane)?;
                codec.set_item("constant", constant)?;
            }
            Codec::TopK { k, bf16 } => {
                codec.set_item("codec", "top_k")?;
                codec.set_item("k", k)?;
                codec.set_item("bf16", bf16)?;
            }
        }
        if !codec.is_empty() {
            rest.append(codec)?;
        }
        all.set_item(column.name(), rest.to_tuple())?;
    }
    Ok(all)
}
