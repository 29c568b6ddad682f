//! Where the time of a step goes.
//!
//! Trainers open spans with `op!`, `region!`, `group!` and `phase!`, and the session opens one for each step
//! ([`step`]). A span costs a comparison where nothing is recorded; a [`Recording`] keeps those of the threads of a
//! pool, and the rest of this module makes tables, plots and a trace of them.

use tracing::span::EnteredSpan;

pub mod analyse;
pub mod memory;
mod plots;
pub mod profiler;
pub mod record;
pub mod roof;
mod rules;
mod summary;
pub mod table;
mod trace;

pub use memory::{Memory, bytes};
pub use profiler::{Plan, Profiler};
pub use record::{Kind, Record, RecordError, Recording, Span, Thread, is_on};

/// The work of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations; 0 where they are not counted.
    pub flops: f64,
    /// Bytes read and written, each operand once; 0 where they are not counted.
    pub bytes: f64,
}

impl Work {
    /// So many operations on, and so many accesses to, values of 4 bytes.
    pub fn of_values(flops: usize, values: usize) -> Work {
        Work { flops: flops as f64, bytes: 4.0 * values as f64 }
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// Opens the span of step number `number`, counted from 1. It ends when it is dropped.
pub fn step(number: u64) -> EnteredSpan {
    let place = record::place(None, [0; 3]) | u128::from(number);
    tracing::span!(target: record::STEP, tracing::Level::TRACE, "step", place).entered()
}

/// Opens an operation's span, which ends when it is dropped: `open!("attention: forward", layer, [rows, heads, dim],
/// work)`.
///
/// The name is a constant; the layer a `usize`, an `Option<usize>` or `None`; the shape three `usize`, and the work a
/// [`Work`], neither of which is computed where nothing is recorded.
macro_rules! open {
    ($name:expr, $layer:expr, $shape:expr, $work:expr) => {{
        if $crate::shell::profile::is_on() {
            let place = $crate::shell::profile::record::place($layer, $shape);
            let work = $crate::shell::profile::record::work($work);
            let span = tracing::span!(
                target: $crate::shell::profile::record::OPERATION,
                tracing::Level::TRACE,
                $name,
                place,
                work
            );
            Some(span.entered())
        } else {
            None
        }
    }};
}
pub(crate) use open;

/// Runs an operation in a span as [`open!`] makes it, and gives its result: `op!(NAME, LAYER, SHAPE, WORK => BODY)`.
macro_rules! op {
    ($name:expr, $layer:expr, $shape:expr, $work:expr => $body:expr) => {{
        let span = $crate::shell::profile::open!($name, $layer, $shape, $work);
        let result = $body;
        ::std::mem::drop(span);
        result
    }};
}
pub(crate) use op;

/// Runs code in a span without fields.
macro_rules! within {
    ($target:expr, $name:expr => $body:expr) => {{
        let span = tracing::span!(target: $target, tracing::Level::TRACE, $name).entered();
        let result = $body;
        ::std::mem::drop(span);
        result
    }};
}
pub(crate) use within;

/// Runs code that several threads work on in a span: `region!("chunks" => { ... })`. What the current thread does not
/// work in it, it waits.
macro_rules! region {
    ($name:expr => $body:expr) => {
        $crate::shell::profile::within!($crate::shell::profile::record::REGION, $name => $body)
    };
}
pub(crate) use region;

/// Runs a group of operations in a span, such as those of a chunk of a batch.
macro_rules! group {
    ($name:expr => $body:expr) => {
        $crate::shell::profile::within!($crate::shell::profile::record::GROUP, $name => $body)
    };
}
pub(crate) use group;

/// The same, with the name put before those of its operations: they are counted apart.
macro_rules! phase {
    ($name:expr => $body:expr) => {
        $crate::shell::profile::within!($crate::shell::profile::record::PHASE, $name => $body)
    };
}
pub(crate) use phase;
