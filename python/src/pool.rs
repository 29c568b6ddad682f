//! Arrays of memory that earlier ones have left: pages that the system has to clear cost more than the copy into them.

use std::mem::take;
use std::sync::Mutex;

use hotlanes_replay::{Column, Dtype};
use pyo3::prelude::*;

use crate::arrays;
use crate::lock;

/// Bytes from which an array's memory is kept.
const LARGE: usize = 1 << 18;
/// Arrays whose memory is kept: those of some batches.
const MOST: usize = 8;

/// What arrays that are handed out are views of.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Kept>>);

struct Kept {
    dtype: Dtype,
    shape: Vec<usize>,
    array: Py<PyAny>,
}

impl Pool {
    /// An array for a column. A large one is a view of an array that is kept, and used again when nothing else refers to it:
    /// a view, and what is made of that, refers to it for as long as it lives.
    pub fn array<'py>(
        &self,
        py: Python<'py>,
        column: &Column,
        shape: &[usize],
    ) -> PyResult<Bound<'py, PyAny>> {
        let dtype = column.dtype();
        let element = match dtype {
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::Bf16 => 2,
            Dtype::U8 | Dtype::Bits => 1,
        };
        if shape.iter().product::<usize>().saturating_mul(element) < LARGE {
            return arrays::empty(py, column, shape);
        }
        // Without the lock, since NumPy may run other Python code; who comes meanwhile finds none.
        let mut kept = take(&mut *lock(&self.0));
        let free =
            kept.iter().position(|k| k.dtype == dtype && k.shape == shape && k.array.get_refcnt(py) == 1);
        let array = match free {
            // Used last.
            Some(at) => kept.remove(at).array,
            None => arrays::empty(py, column, shape)?.unbind(),
        };
        let view = array.bind(py).get_item(py.Ellipsis());
        kept.push(Kept { dtype, shape: shape.to_vec(), array });
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
