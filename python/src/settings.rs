//! What Python says of columns, eviction and draws.

use hotlanes_replay::{
    Codec, Column, Config, Dtype, Eviction, Method, Request, Returns, Schema, Sequences, Unit,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::told;

/// Keys of results that are no columns.
pub const TAKEN: [&str; 5] = ["ids", "weights", "returns", "discounts", "steps"];
/// Before the name of a column of the next records.
pub const NEXT: &str = "next_";

/// The columns of `{name: (dtype, shape)}` or `{name: (dtype, shape, codec)}`.
pub fn schema(columns: &Bound<'_, PyDict>) -> PyResult<Schema> {
    let mut all = Vec::new();
    for (name, what) in columns {
        let name: String = name.extract()?;
        if TAKEN.contains(&&*name) || name.starts_with(NEXT) {
            return Err(PyValueError::new_err(format!(
                "column {name}: ids, weights, returns, discounts, steps and names with next_ are those of results"
            )));
        }
        let refused = |_| {
            PyValueError::new_err(format!("column {name}: expected (dtype, shape) or (dtype, shape, codec)"))
        };
        let (dtype, shape, codec) = match what.len()? {
            2 => {
                let (dtype, shape): (String, Vec<usize>) = what.extract().map_err(refused)?;
                (dtype, shape, Codec::Raw)
            }
            _ => {
                let (dtype, shape, codec): (String, Vec<usize>, Bound<'_, PyAny>) =
                    what.extract().map_err(refused)?;
                (dtype, shape, self::codec(&name, &codec)?)
            }
        };
        let dtype = Dtype::ALL.into_iter().find(|d| d.name() == dtype).ok_or_else(|| {
            PyValueError::new_err(format!(
                "column {name}: expected f32, bf16, u8, i32 or bits, given {dtype}"
            ))
        })?;
        all.push(Column::new(name, dtype, &shape).codec(codec));
    }
    Schema::new(all).map_err(told)
}

fn codec(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Codec> {
    let refused = || {
        PyValueError::new_err(format!(
            "column {name}: expected the codec \"raw\", \"lz4\", \"frames\", (\"bit_planes\", plane, constant) or \
             (\"top_k\", k, bf16), given {given}"
        ))
    };
    if let Ok(text) = given.cast::<PyString>() {
        return match text.to_cow()?.as_ref() {
            "raw" => Ok(Codec::Raw),
            "lz4" => Ok(Codec::Lz4),
            "frames" => Ok(Codec::Frames),
            _ => Err(refused()),
        };
    }
    match given.extract::<(String, usize, usize)>() {
        Ok((kind, plane, constant)) if kind == "bit_planes" => Ok(Codec::BitPlanes { plane, constant }),
        Ok((kind, k, bf16 @ 0..2)) if kind == "top_k" => Ok(Codec::TopK { k, bf16: bf16 == 1 }),
        _ => Err(refused()),
    }
}

/// The buffer's settings.
pub fn config(
    capacity: usize,
    episodes: bool,
    eviction: &str,
    priorities: Option<f32>,
    seed: u64,
    segments: usize,
) -> PyResult<Config> {
    let eviction = match eviction {
        "segment" => Eviction::Segment,
        "record" => Eviction::Record,
        _ => {
            let what = format!("eviction is {eviction}: must be \"segment\" or \"record\"");
            return Err(PyValueError::new_err(what));
        }
    };
    Ok(Config { capacity, eviction, segments, episodes, priorities, seed })
}

/// What of the arguments of a draw is not the count.
#[allow(clippy::too_many_arguments)]
pub fn request(
    schema: &Schema,
    method: &str,
    beta: f32,
    replace: bool,
    n_step: Option<usize>,
    gamma: f32,
    reward: Option<&str>,
    sequence: Option<usize>,
    pad: bool,
) -> PyResult<Request> {
    let method = match method {
        "uniform" => Method::Uniform,
        "prioritised" | "prioritized" => Method::Prioritised { beta },
        "newest" => Method::Newest,
        _ => {
            let rule = "must be \"uniform\", \"prioritised\" or \"newest\"";
            return Err(PyValueError::new_err(format!("method is {method}: {rule}")));
        }
    };
    let unit = match (n_step, sequence) {
        (None, None) => Unit::Record,
        (Some(n), None) => {
            let reward =
                reward.ok_or_else(|| PyValueError::new_err("n_step needs reward, the name of a column"))?;
            Unit::Returns(Returns { n, gamma, reward: schema.index(reward).map_err(told)? })
        }
        (None, Some(len)) => Unit::Sequences(Sequences { len, pad }),
        (Some(_), Some(_)) => return Err(PyValueError::new_err("n_step and sequence exclude each other")),
    };
    Ok(Request { method, replace, unit })
}
