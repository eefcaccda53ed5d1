//! Traces as Jaeger's user interface reads them (jaegertracing/jaeger, `internal/uimodel`). Times are microseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::spans::{Attribute, Span, Trace};

/// The only process of a trace.
const PROCESS: &str = "p1";

#[derive(Serialize)]
struct Upload<'a> {
    data: Vec<JaegerTrace<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JaegerTrace<'a> {
    #[serde(rename = "traceID")]
    trace_id: &'a str,
    spans: Vec<JaegerSpan<'a>>,
    processes: Processes,
}

#[derive(Serialize)]
struct Processes {
    p1: Process,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: &'static str,
    tags: Vec<Tag<'static>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan<'a> {
    #[serde(rename = "traceID")]
    trace_id: &'a str,
    #[serde(rename = "spanID")]
    span_id: &'a str,
    operation_name: &'a str,
    references: Vec<Reference<'a>>,
    start_time: u64,
    duration: u64,
    tags: Vec<Tag<'a>>,
    logs: Vec<Log<'a>>,
    #[serde(rename = "processID")]
    process_id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: &'a str,
    #[serde(rename = "spanID")]
    span_id: &'a str,
}

#[derive(Serialize)]
struct Log<'a> {
    timestamp: u64,
    fields: [Tag<'a>; 1],
}

#[derive(Serialize)]
struct Tag<'a> {
    key: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    value: TagValue<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TagValue<'a> {
    Text(&'a str),
    Number(i64),
    Flag(bool),
}

/// All of them in one document.
pub(super) fn json(traces: &[Trace]) -> String {
    let upload = Upload { data: traces.iter().map(trace).collect() };
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string_pretty(&upload).map(|text| text + "\n").unwrap_or_default()
}

fn trace(trace: &Trace) -> JaegerTrace<'_> {
    let version = text("kiln.version", env!("CARGO_PKG_VERSION"));
    JaegerTrace {
        trace_id: &trace.id,
        spans: trace.spans.iter().map(|part| span(part, &trace.id)).collect(),
        processes: Processes { p1: Process { service_name: "kiln", tags: vec![version] } },
    }
}

fn span<'a>(span: &'a Span, trace_id: &'a str) -> JaegerSpan<'a> {
    let refer = |ref_type, span_id: &'a String| Reference { ref_type, trace_id, span_id };
    let parent = span.parent.iter().map(|id| refer("CHILD_OF", id));
    let links = span.links.iter().map(|id| refer("FOLLOWS_FROM", id));
    let mut tags: Vec<Tag<'_>> = span.attributes.iter().map(|(key, value)| tag(key, value)).collect();
    if let Some(error) = &span.error {
        tags.push(tag("error", &Attribute::Flag(true)));
        tags.push(text("otel.status_code", "ERROR"));
        tags.push(text("otel.status_description", error));
    }
    JaegerSpan {
        trace_id,
        span_id: &span.id,
        operation_name: &span.name,
        references: parent.chain(links).collect(),
        start_time: micros(span.began),
        duration: micros(span.ended).saturating_sub(micros(span.began)),
        tags,
        logs: span
            .events
            .iter()
            .map(|(time, note)| Log { timestamp: micros(*time), fields: [text("message", note)] })
            .collect(),
        process_id: PROCESS,
    }
}

fn tag<'a>(key: &'a str, value: &'a Attribute) -> Tag<'a> {
    match value {
        Attribute::Text(value) => text(key, value),
        Attribute::Number(value) => Tag { key, kind: "int64", value: TagValue::Number(*value) },
        Attribute::Flag(value) => Tag { key, kind: "bool", value: TagValue::Flag(*value) },
    }
}

fn text<'a>(key: &'a str, value: &'a str) -> Tag<'a> {
    Tag { key, kind: "string", value: TagValue::Text(value) }
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn a_build_is_a_trace_of_its_steps() {
        insta::assert_snapshot!(json(&[Trace::new(&sample())]));
    }
}
