//! Rows of tables: what all calls of an operation came to.

use super::Work;
use super::analyse::Call;
use super::roof::Roof;

/// What a table has a row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An operation.
    Operation,
    /// An operation with operands of a shape.
    Shape,
    /// An operation in a layer.
    Layer,
}

/// A row of a table: of all calls in all steps together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The operation.
    pub operation: String,
    /// Its layer, by [`By::Layer`].
    pub layer: Option<usize>,
    /// Its shape, by [`By::Shape`].
    pub shape: Option<[u32; 3]>,
    /// Calls.
    pub calls: u64,
    /// Seconds, with the spans within.
    pub total: f64,
    /// Seconds of self time.
    pub own: f64,
    /// Self time over that of all threads in the steps.
    pub share: f64,
    /// Floating-point operations and bytes.
    pub work: Work,
    /// Calls that had all threads to themselves.
    pub whole: u64,
    /// The limit that binds.
    pub limit: Option<&'static str>,
    /// The least seconds that it allows, each call's working set being in the nearest level of memory that holds it.
    pub least: f64,
    /// The self time of each call in nanoseconds, ascending.
    pub times: Vec<u64>,
    /// Least seconds by limit, of which the largest binds.
    pub(super) by_limit: Vec<(&'static str, f64)>,
}

impl Row {
    pub(super) fn add(&mut self, call: &Call, roof: Option<&Roof>) {
        self.calls += 1;
        self.total += 1e-9 * call.time as f64;
        self.own += 1e-9 * call.own as f64;
        self.work += call.work;
        self.whole += u64::from(call.whole);
        self.times.push(call.own);
        let Some((name, seconds)) = roof.and_then(|roof| roof.limit(&call.work, call.whole)) else { return };
        self.least += seconds;
        match self.by_limit.iter_mut().find(|limit| limit.0 == name) {
            Some(limit) => limit.1 += seconds,
            None => self.by_limit.push((name, seconds)),
        }
        self.limit = self.by_limit.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|limit| limit.0);
    }

    /// 1e9 floating-point operations per second of self time, if they are counted.
    pub fn gflops(&self) -> Option<f64> {
        (self.work.flops > 0.0).then(|| 1e-9 * self.work.flops / self.own.max(1e-9))
    }

    /// 1e9 bytes per second of self time, if they are counted.
    pub fn gigabytes(&self) -> Option<f64> {
        (self.work.bytes > 0.0).then(|| 1e-9 * self.work.bytes / self.own.max(1e-9))
    }

    /// Floating-point operations per byte.
    pub fn intensity(&self) -> Option<f64> {
        (self.work.flops > 0.0 && self.work.bytes > 0.0).then(|| self.work.flops / self.work.bytes)
    }

    /// The share of the limit that it reaches.
    pub fn limit_share(&self) -> Option<f64> {
        self.limit.map(|_| self.least / self.own.max(1e-9))
    }

    /// The self seconds that a share of the calls stays below.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        self.times.get((share * last as f64).round() as usize).map_or(0.0, |&time| 1e-9 * time as f64)
    }

    /// `128 x 384 x 128`
    pub fn shape(&self) -> String {
        let sizes = self.shape.iter().flatten().take_while(|&&size| size > 0);
        sizes.map(u32::to_string).collect::<Vec<_>>().join(" x ")
    }
}
