//! Arrays of memory that earlier ones have left: pages that the system has to clear cost more than the copy into them.

use std::mem::take;
use std::sync::Mutex;

use hotlanes_replay::{Column, Dtype};
use pyo3::prelude::*;

use crate::arrays;
use crate::lock;

/// Elements from which an array's memory is kept.
const LARGE: usize = 1 << 16;
/// The most arrays that are kept: enough for a few batches.
const MOST: usize = 8;

/// Arrays whose views were handed out.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Kept>>);

struct Kept {
    dtype: Dtype,
    shape: Vec<usize>,
    array: Py<PyAny>,
}

impl Pool {
    /// An array for a column. A large one is a view of an array that the pool keeps, and uses again once nothing else
    /// refers to it. NumPy makes each view, and views of views, hold a reference.
    pub fn array<'py>(
        &self,
        py: Python<'py>,
        column: &Column,
        shape: &[usize],
    ) -> PyResult<Bound<'py, PyAny>> {
        if shape.iter().product::<usize>() < LARGE {
            return arrays::empty(py, column, shape);
        }
        let dtype = column.dtype();
        // Not under the lock: NumPy may run other Python code, which may sample. It finds an empty pool.
        let mut kept = take(&mut *lock(&self.0));
        let free =
            kept.iter().position(|k| k.dtype == dtype && k.shape == shape && k.array.get_refcnt(py) == 1);
        let array = match free {
            Some(at) => kept.remove(at).array,
            None => arrays::empty(py, column, shape)?.unbind(),
        };
        let view = array.bind(py).get_item(py.Ellipsis());
        kept.push(Kept { dtype, shape: shape.to_vec(), array });
        // The array that was used last is at the end; those that go are dropped without the lock.
        let mut all = lock(&self.0);
        kept.append(&mut all);
        let more = kept.len().saturating_sub(MOST);
        let dropped: Vec<_> = kept.drain(..more).collect();
        *all = kept;
        drop(all);
        drop(dropped);
        view
    }
}
