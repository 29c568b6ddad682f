//! The recording as a Chrome trace, which Perfetto, chrome://tracing and speedscope open: complete events (`X`) with
//! microseconds from 0.

use std::fmt::Write;

use serde_json::json;

use super::{Kind, Record, Span};

/// Events of a trace at most: about 20 MB, which all of the viewers open.
pub const MOST_EVENTS: usize = 100_000;

/// A trace's text, and how many of the spans are in it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The JSON.
    pub json: String,
    /// Spans in it: the first ones.
    pub events: usize,
    /// Spans that were recorded.
    pub spans: usize,
}

/// The trace of a recording, with at most `most` spans: those that start first.
pub fn trace(record: &Record, title: &str, most: usize) -> Trace {
    let threads = record.threads.iter().enumerate();
    let mut spans: Vec<(usize, &Span)> =
        threads.clone().flat_map(|(i, thread)| thread.spans.iter().map(move |span| (i, span))).collect();
    // By start; of those that start together on a thread, the one around the others comes first, as recorded.
    spans.sort_by_key(|(_, span)| span.start);
    let (all, zero) = (spans.len(), spans.first().map_or(0, |(_, span)| span.start));
    spans.truncate(most);
    let said =
        json!({ "spans": all, "spans in this file": spans.len(), "spans without room": record.dropped() });
    let mut json = format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{said},\"traceEvents\":[\n");
    let name = |id: usize, what: &str, name: String| {
        let args = json!({ "name": name });
        json!({ "ph": "M", "pid": 1, "tid": id, "name": what, "args": args })
    };
    let _ = write!(json, "{}", name(0, "process_name", format!("hotlanes: {title}")));
    for (i, _) in threads {
        let thread = if i == 0 { "steps".to_owned() } else { format!("worker {i}") };
        let _ = write!(json, ",\n{}", name(i, "thread_name", thread));
        let args = json!({ "sort_index": i });
        let order = json!({ "ph": "M", "pid": 1, "tid": i, "name": "thread_sort_index", "args": args });
        let _ = write!(json, ",\n{order}");
    }
    for (thread, span) in &spans {
        let (start, duration) = (microseconds(span.start - zero), microseconds(span.duration()));
        let name = json!(span.name);
        let _ = write!(
            json,
            ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{thread},\"ts\":{start},\"dur\":{duration},\
            \"name\":{name},\"cat\":\"{}\"{}}}",
            category(span.kind),
            arguments(span)
        );
    }
    json.push_str("\n]}\n");
    Trace { json, events: spans.len(), spans: all }
}

/// Nanoseconds as microseconds with all digits.
fn microseconds(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

fn category(kind: Kind) -> &'static str {
    match kind {
        Kind::Step => "step",
        Kind::Region => "region",
        Kind::Group => "group",
        Kind::Phase => "phase",
        Kind::Operation => "operation",
    }
}

fn arguments(span: &Span) -> String {
    match span.kind {
        Kind::Step => format!(",\"args\":{{\"step\":{}}}", span.step()),
        Kind::Operation => {
            let shape: Vec<u32> = span.shape.into_iter().take_while(|&size| size > 0).collect();
            let (flops, bytes) = (span.work.flops, span.work.bytes);
            let arguments = json!({ "layer": span.layer, "shape": shape, "flops": flops, "bytes": bytes });
            format!(",\"args\":{arguments}")
        }
        Kind::Region | Kind::Group | Kind::Phase => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::analyse::tests::record;
    use super::*;

    fn events(trace: &Trace) -> (Vec<Value>, Vec<Value>) {
        let json: Value = serde_json::from_str(&trace.json).unwrap();
        let events = json["traceEvents"].as_array().unwrap().clone();
        events.into_iter().partition(|event| event["ph"] == "X")
    }

    #[test]
    fn events_are_complete_nested_and_begin_at_zero() {
        let trace = trace(&record(), "a \"title\"\u{1}", MOST_EVENTS);
        let (spans, names) = events(&trace);
        assert_eq!((spans.len(), trace.events, trace.spans), (10, 10, 10));
        let number = |event: &Value, field: &str| event[field].as_f64().unwrap();
        assert_eq!(number(&spans[0], "ts"), 0.0);
        assert!(spans.iter().is_sorted_by(|a, b| number(a, "ts") <= number(b, "ts")));
        assert!(spans.iter().all(|event| number(event, "dur") >= 0.0 && number(event, "tid") < 3.0));
        let step = &spans[0];
        assert_eq!((step["name"].as_str(), step["args"]["step"].as_u64()), (Some("step"), Some(7)));
        // What workers do in a step lies within it.
        let end = number(step, "ts") + number(step, "dur");
        let workers = spans.iter().filter(|event| event["tid"] == 1);
        assert!(
            workers.clone().count() == 2
                && workers.into_iter().all(|e| number(e, "ts") + number(e, "dur") <= end)
        );
        assert!(spans.iter().any(|event| event["name"] == "nested <\"&>"));
        let product = spans.iter().find(|event| event["name"] == "product").unwrap();
        assert_eq!(product["args"]["shape"], json!([4, 5, 6]));
        let called: Vec<_> = names.iter().filter(|n| n["name"] == "thread_name").collect();
        assert_eq!(called.len(), 3);
        assert_eq!((&called[1]["tid"], &called[1]["args"]["name"]), (&json!(1), &json!("worker 1")));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(microseconds(1_234_567_890_123), "1234567890.123");
        assert_eq!(microseconds(7), "0.007");
    }

    #[test]
    fn its_size_is_bounded_and_said() {
        let short = trace(&record(), "", 4);
        let (spans, _) = events(&short);
        assert_eq!((spans.len(), short.events, short.spans), (4, 4, 10));
        let json: Value = serde_json::from_str(&short.json).unwrap();
        assert_eq!(
            json["otherData"],
            json!({ "spans": 10, "spans in this file": 4, "spans without room": 3 })
        );
        let empty = trace(&Record::default(), "", 4);
        assert_eq!(events(&empty).0.len(), 0);
    }
}
