//! A trace as BuildKit keeps it: one JSON object after another, each what Go's OpenTelemetry calls a span stub
//! (opentelemetry-go, `sdk/trace/tracetest`).

use kiln_image::spec::format_time;
use serde::Serialize;

use super::super::spans::{Attribute, Span, Trace};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stub<'a> {
    name: &'a str,
    span_context: Context<'a>,
    parent: Context<'a>,
    span_kind: u32,
    start_time: String,
    end_time: String,
    attributes: Vec<KeyValue<'a>>,
    events: Vec<Event<'a>>,
    links: Vec<Link<'a>>,
    status: Status<'a>,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    child_span_count: usize,
    resource: [KeyValue<'static>; 1],
    instrumentation_library: Library,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Context<'a> {
    #[serde(rename = "TraceID")]
    trace_id: &'a str,
    #[serde(rename = "SpanID")]
    span_id: &'a str,
    trace_flags: &'static str,
    trace_state: &'static str,
    remote: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyValue<'a> {
    key: &'a str,
    value: TypedValue<'a>,
}

#[derive(Serialize)]
#[serde(tag = "Type", content = "Value", rename_all = "UPPERCASE")]
enum TypedValue<'a> {
    String(&'a str),
    Int64(i64),
    Bool(bool),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'a> {
    name: &'a str,
    attributes: [KeyValue<'a>; 0],
    dropped_attribute_count: u32,
    time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Link<'a> {
    span_context: Context<'a>,
    attributes: [KeyValue<'a>; 0],
    dropped_attribute_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status<'a> {
    code: u32,
    description: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Library {
    name: &'static str,
    version: &'static str,
    #[serde(rename = "SchemaURL")]
    schema_url: &'static str,
}

/// Something within a process.
const INTERNAL: u32 = 1;
/// Codes of a status.
const UNSET: u32 = 0;
const ERROR: u32 = 1;

/// All spans of a trace.
pub(super) fn json(trace: &Trace) -> Vec<u8> {
    let children = |span: &Span| trace.spans.iter().filter(|child| child.parent.as_ref() == Some(&span.id)).count();
    let mut text = Vec::new();
    for span in &trace.spans {
        // Maps with keys that are no text, which this has none of, are all that can fail.
        text.extend(serde_json::to_vec_pretty(&stub(span, &trace.id, children(span))).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

fn stub<'a>(span: &'a Span, trace_id: &'a str, child_span_count: usize) -> Stub<'a> {
    let context = |span_id| Context { trace_id, span_id, trace_flags: "01", trace_state: "", remote: false };
    let nobody = || Context {
        trace_id: "00000000000000000000000000000000",
        span_id: "0000000000000000",
        trace_flags: "00",
        ..context("")
    };
    let event = |(time, note): &'a (_, String)| Event {
        name: note,
        attributes: [],
        dropped_attribute_count: 0,
        time: format_time(*time),
    };
    let link = |id| Link { span_context: context(id), attributes: [], dropped_attribute_count: 0 };
    Stub {
        name: &span.name,
        span_context: context(&span.id),
        parent: span.parent.as_ref().map_or_else(nobody, |parent| context(parent)),
        span_kind: INTERNAL,
        start_time: format_time(span.began),
        end_time: format_time(span.ended),
        attributes: span.attributes.iter().map(|(key, value)| KeyValue { key, value: typed(value) }).collect(),
        events: span.events.iter().map(event).collect(),
        links: span.links.iter().map(|id| link(id.as_str())).collect(),
        status: match &span.error {
            Some(error) => Status { code: ERROR, description: error },
            None => Status { code: UNSET, description: "" },
        },
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
        child_span_count,
        resource: [KeyValue { key: "service.name", value: TypedValue::String("kiln") }],
        instrumentation_library: Library { name: "kiln", version: env!("CARGO_PKG_VERSION"), schema_url: "" },
    }
}

fn typed(value: &Attribute) -> TypedValue<'_> {
    match value {
        Attribute::Text(value) => TypedValue::String(value),
        Attribute::Number(value) => TypedValue::Int64(*value),
        Attribute::Flag(value) => TypedValue::Bool(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn spans_are_as_buildkit_writes_them() {
        let stubs = String::from_utf8(json(&Trace::new(&sample()))).unwrap();
        let all: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&stubs).into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!((all.len(), &all[0]["ChildSpanCount"]), (6, &5.into()));
        assert_eq!(all[1]["Parent"]["SpanID"], all[0]["SpanContext"]["SpanID"]);
        let (start, end) =
            (stubs.find("{\n  \"Name\": \"[3/3] RUN make\"").unwrap(), stubs.find("[other 1/1]").unwrap());
        insta::assert_snapshot!(&stubs[start..end]);
    }
}
