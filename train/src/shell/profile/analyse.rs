//! From spans to tables.
//!
//! The self time of a span is its time without the spans that it contains on its own thread. On one thread the self
//! times within a step add up to the step's time, as a step's own is that of what lies outside of all operations. On N
//! threads they add up to N times that together with two times in which a thread has no span: [`Analysis::waiting`],
//! in a region that the stepping thread shares with the others, and [`Analysis::apart`], outside of one, where the
//! others are idle or do pieces of a kernel that the stepping thread called.

use std::collections::BTreeMap;
use std::fmt;

use super::roof::Roof;
use super::table::{By, Row};
use super::{Kind, Record, Span, Thread, Work};

/// An operation by its name, within a phase or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// The name of the innermost phase around it.
    pub phase: Option<&'static str>,
    /// Its own name.
    pub name: &'static str,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            None => f.write_str(self.name),
            Some(phase) => write!(f, "{phase}: {}", self.name),
        }
    }
}

/// An operation's call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which operation.
    pub operation: Operation,
    /// The layer of the model.
    pub layer: Option<usize>,
    /// Up to three sizes, zeros behind them.
    pub shape: [u32; 3],
    /// The step that it belongs to, in the order of the recording.
    pub step: usize,
    /// Nanoseconds, and those of them outside of the spans that it contains.
    pub time: u64,
    /// The latter.
    pub own: u64,
    /// Its work.
    pub work: Work,
    /// Whether it has all threads to itself: the stepping thread called it outside of all regions.
    pub whole: bool,
}

/// Steps, calls and what else the time went to. All times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// Number and time of each step.
    pub steps: Vec<(u64, u64)>,
    /// Recorded threads.
    pub threads: usize,
    /// The calls of all threads within steps.
    pub calls: Vec<Call>,
    /// Threads without work in a region that several share.
    pub waiting: u64,
    /// The others, while the stepping thread is outside of all regions: idle, or in its kernels.
    pub apart: u64,
    /// Self time of steps and groups: between the operations.
    pub outside: u64,
    /// Spans for which there was no room.
    pub dropped: u64,
}

/// Stretches of time, in order and disjoint.
type Stretches = Vec<(u64, u64)>;

impl Analysis {
    /// Of a recording.
    pub fn of(record: &Record) -> Analysis {
        let Some((first, others)) = record.threads.split_first() else { return Analysis::default() };
        let steps: Vec<&Span> = first.spans.iter().filter(|span| span.kind == Kind::Step).collect();
        let times: Stretches = steps.iter().map(|step| (step.start, step.end)).collect();
        let mut analysis = Analysis {
            steps: steps.iter().map(|step| (step.step(), step.duration())).collect(),
            threads: record.threads.len(),
            dropped: record.dropped(),
            ..Analysis::default()
        };
        analysis.add(first, &times, true);
        let mut regions: Stretches = Vec::new();
        for span in first.spans.iter().filter(|span| span.kind == Kind::Region) {
            // One within another is in it already.
            if regions.last().is_none_or(|&(_, end)| span.start >= end) {
                regions.push((span.start, span.end));
            }
        }
        let regions = common(&regions, &times);
        let [in_steps, in_regions] = [&times, &regions].map(|stretches| length(stretches));
        for thread in others {
            analysis.add(thread, &times, false);
            let outermost = thread.spans.iter().filter(|span| span.parent.is_none());
            let busy: Stretches = outermost.map(|span| (span.start, span.end)).collect();
            let busy_in_regions = length(&common(&busy, &regions));
            analysis.waiting += in_regions - busy_in_regions;
            let apart = in_steps - in_regions;
            analysis.apart += apart.saturating_sub(length(&common(&busy, &times)) - busy_in_regions);
        }
        analysis
    }

    fn add(&mut self, thread: &Thread, steps: &[(u64, u64)], is_first: bool) {
        let spans = &thread.spans;
        let mut own: Vec<u64> = spans.iter().map(Span::duration).collect();
        // Of each span: the step that it lies in, its phase, and whether it shares the threads.
        let mut around: Vec<(Option<usize>, Option<&'static str>, bool)> = Vec::with_capacity(spans.len());
        for span in spans {
            let mut place = match span.parent {
                Some(parent) => {
                    own[parent] = own[parent].saturating_sub(span.duration());
                    around[parent]
                }
                None => {
                    let step = steps.partition_point(|&(_, end)| end <= span.start);
                    (steps.get(step).is_some_and(|s| span.start >= s.0).then_some(step), None, !is_first)
                }
            };
            match span.kind {
                Kind::Phase => place.1 = Some(span.name),
                Kind::Region => place.2 = true,
                Kind::Step | Kind::Group | Kind::Operation => {}
            }
            around.push(place);
        }
        for ((span, &own), &(step, phase, shared)) in spans.iter().zip(&own).zip(&around) {
            let Some(step) = step else { continue };
            match span.kind {
                Kind::Region => self.waiting += own,
                Kind::Step | Kind::Group | Kind::Phase => self.outside += own,
                Kind::Operation => self.calls.push(Call {
                    operation: Operation { phase, name: span.name },
                    layer: span.layer,
                    shape: span.shape,
                    step,
                    time: span.duration(),
                    own,
                    work: span.work,
                    whole: !shared,
                }),
            }
        }
    }

    /// Nanoseconds of all steps.
    pub fn wall(&self) -> u64 {
        self.steps.iter().map(|step| step.1).sum()
    }

    /// Nanoseconds of all threads in all steps.
    pub fn thread_time(&self) -> u64 {
        self.wall() * self.threads as u64
    }

    /// Nanoseconds of operations, of all threads.
    pub fn operations(&self) -> u64 {
        self.calls.iter().map(|call| call.own).sum()
    }

    /// The table by operation, by that and the shape, or by layer and operation, the most self time first.
    pub fn table(&self, by: By, roof: Option<&Roof>) -> Vec<Row> {
        let key = |call: &Call| match by {
            By::Operation => (None, None, call.operation),
            By::Shape => (None, Some(call.shape), call.operation),
            By::Layer => (call.layer, None, call.operation),
        };
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        for call in &self.calls {
            let (layer, shape, operation) = key(call);
            let row = rows.entry((layer, shape, operation)).or_insert_with(|| Row {
                operation: operation.to_string(),
                layer,
                shape,
                ..Row::default()
            });
            row.add(call, roof);
        }
        let mut rows: Vec<Row> = rows.into_values().collect();
        for row in &mut rows {
            row.share = row.own / (1e-9 * self.thread_time() as f64);
            row.times.sort_unstable();
        }
        let is_layer = matches!(by, By::Layer);
        rows.sort_by(|a, b| {
            let by_layer = if is_layer { a.layer.cmp(&b.layer) } else { std::cmp::Ordering::Equal };
            by_layer.then(b.own.total_cmp(&a.own))
        });
        rows
    }

    /// Each operation's self seconds and work in its fastest step, in the order in which they first come: other load on
    /// the machine seldom slows the same operation in every step.
    pub fn fastest(&self) -> Vec<(Operation, f64, Work)> {
        let mut order: Vec<Operation> = Vec::new();
        let mut sums: BTreeMap<Operation, BTreeMap<usize, (u64, Work)>> = BTreeMap::new();
        for call in &self.calls {
            if !sums.contains_key(&call.operation) {
                order.push(call.operation);
            }
            let sum = sums.entry(call.operation).or_default().entry(call.step).or_default();
            sum.0 += call.own;
            sum.1 += call.work;
        }
        let fastest = |operation: Operation| {
            let steps = sums[&operation].values();
            let (own, work) = *steps.min_by_key(|sum| sum.0).expect("it was called");
            (operation, 1e-9 * own as f64, work)
        };
        order.into_iter().map(fastest).collect()
    }
}

fn length(stretches: &[(u64, u64)]) -> u64 {
    stretches.iter().map(|(start, end)| end - start).sum()
}

/// The time that two have in common.
fn common(a: &[(u64, u64)], b: &[(u64, u64)]) -> Stretches {
    let (mut i, mut j, mut common) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (start, end) = (x.0.max(y.0), x.1.min(y.1));
        if start < end {
            common.push((start, end));
        }
        if x.1 <= y.1 { i += 1 } else { j += 1 }
    }
    common
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A span from `start` to `end` microseconds.
    pub(in crate::shell::profile) fn span(
        name: &'static str,
        kind: Kind,
        (start, end): (u64, u64),
        parent: Option<usize>,
    ) -> Span {
        let (start, end) = (1000 * start, 1000 * end);
        Span { name, kind, start, end, parent, layer: None, shape: [0; 3], work: Work::default() }
    }

    /// Three threads and one step of 100 us: 20 us of an operation before and 20 us after a region of 50 us, in which
    /// the first thread works 30 us, the second 45 us and the third not at all.
    pub(in crate::shell::profile) fn record() -> Record {
        let mut step = span("step", Kind::Step, (10, 110), None);
        step.shape[0] = 7;
        let mut products = span("product", Kind::Operation, (52, 72), Some(4));
        (products.layer, products.shape) = (Some(1), [4, 5, 6]);
        products.work = Work { flops: 2e4, bytes: 1e3 };
        let first = vec![
            step,
            span("before", Kind::Operation, (10, 30), Some(0)),
            span("nested <\"&>", Kind::Operation, (15, 20), Some(1)),
            span("chunks", Kind::Region, (40, 90), Some(0)),
            span("chunk", Kind::Group, (45, 75), Some(3)),
            products.clone(),
            span("after", Kind::Operation, (90, 110), Some(0)),
            span("too late", Kind::Operation, (120, 130), None),
        ];
        let second = vec![
            span("chunk", Kind::Phase, (41, 86), None),
            Span { start: 50_000, end: 80_000, parent: Some(0), ..products },
        ];
        let thread = |spans| Thread { spans, dropped: 0 };
        Record { threads: vec![thread(first), thread(second), Thread { spans: Vec::new(), dropped: 3 }] }
    }

    #[test]
    fn self_times_and_waiting_add_up_to_all_threads_time() {
        let analysis = Analysis::of(&record());
        assert_eq!((analysis.wall(), analysis.threads, analysis.dropped), (100_000, 3, 3));
        assert_eq!(analysis.steps, [(7, 100_000)]);
        // The first 20 of its 50, the second 5, the third all.
        assert_eq!(analysis.waiting, 20_000 + 5_000 + 50_000);
        assert_eq!(analysis.apart, 2 * 50_000);
        // Of the step 10, of the chunks 10 and 15.
        assert_eq!(analysis.outside, 35_000);
        let sum = analysis.operations() + analysis.waiting + analysis.apart + analysis.outside;
        assert_eq!(sum, analysis.thread_time());
    }

    #[test]
    fn tables_have_self_and_total_time_by_operation_shape_and_layer() {
        let analysis = Analysis::of(&record());
        let rows = analysis.table(By::Operation, None);
        let got: Vec<_> = rows.iter().map(|r| (&*r.operation, r.calls, r.total, r.own)).collect();
        let us = |n: u64| 1e-9 * (1000 * n) as f64;
        let want = [
            ("chunk: product", 1, us(30), us(30)),
            ("after", 1, us(20), us(20)),
            ("product", 1, us(20), us(20)),
            ("before", 1, us(20), us(15)),
            ("nested <\"&>", 1, us(5), us(5)),
        ];
        assert_eq!(got.len(), want.len());
        assert!(want.iter().all(|row| got.contains(row)), "{got:?}");
        assert_eq!(rows[0].share, us(30) / us(300));
        let product = rows.iter().find(|row| row.operation == "product").unwrap();
        assert_eq!((product.gflops(), product.intensity()), (Some(1e-9 * 2e4 / us(20)), Some(20.0)));
        assert_eq!(product.whole, 0, "in a region a thread has its own share");
        assert_eq!(rows.iter().find(|row| row.operation == "before").unwrap().whole, 1);

        let shapes = analysis.table(By::Shape, None);
        assert!(shapes.iter().any(|row| row.operation == "product" && row.shape() == "4 x 5 x 6"));
        let layers = analysis.table(By::Layer, None);
        assert_eq!(layers.last().map(|row| row.layer), Some(Some(1)));
        assert!(layers.is_sorted_by_key(|row| row.layer));
    }

    #[test]
    fn the_fastest_step_of_each_operation_is_taken() {
        let step = |start| span("step", Kind::Step, (start, start + 50), None);
        let call = |name, at, parent| span(name, Kind::Operation, at, Some(parent));
        let spans = vec![
            step(0),
            call("a", (0, 10), 0),
            call("a", (10, 20), 0),
            call("b", (20, 50), 0),
            step(100),
            call("a", (100, 130), 4),
            call("b", (130, 140), 4),
        ];
        let record = Record { threads: vec![Thread { spans, dropped: 0 }] };
        let fastest = Analysis::of(&record).fastest();
        let got: Vec<_> = fastest.iter().map(|(o, seconds, _)| (o.name, (seconds * 1e6).round())).collect();
        assert_eq!(got, [("a", 20.0), ("b", 10.0)]);
    }

    #[test]
    fn nothing_recorded_is_an_empty_analysis() {
        let analysis = Analysis::of(&Record { threads: vec![Thread::default()] });
        assert!(analysis.steps.is_empty() && analysis.table(By::Shape, None).is_empty());
        assert_eq!(Analysis::of(&Record::default()), Analysis::default());
    }
}
