//! The `rawjson` display: a line of JSON for each thing that happens, in the form of BuildKit's `SolveStatus`
//! (moby/buildkit, `client/graph.go`).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kiln_image::spec;
use kiln_solver::{Digest, LogStream};
use serde::Serialize;

use super::event::{Display, End, Group, Title};
use super::quiet::Quiet;

/// What the bytes of a group are counted under.
const TRANSFER: &str = "transferring";

/// The state of the display.
pub(crate) struct RawJson {
    began: SystemTime,
    groups: Vec<Vertex>,
    /// Remembers what a report needs.
    lines: Quiet,
    text: String,
}

/// One group. Its digest is its name to programs; what is no step gets one of its own.
#[derive(Clone, Serialize)]
struct Vertex {
    digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    name: String,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A line about a group, or how far a transfer is.
#[derive(Serialize)]
struct Status<'a> {
    id: &'a str,
    vertex: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    current: u64,
    timestamp: &'a str,
    started: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<&'a str>,
}

#[derive(Serialize)]
struct Log<'a> {
    vertex: &'a str,
    stream: i32,
    data: String,
    timestamp: String,
}

#[derive(Default, Serialize)]
struct SolveStatus<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vertexes: Option<[&'a Vertex; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<[Status<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<[Log<'a>; 1]>,
}

impl RawJson {
    /// A display of a build that began then.
    pub(crate) fn new(began: SystemTime) -> Self {
        Self { began, groups: Vec::new(), lines: Quiet::new(false), text: String::new() }
    }

    fn time(&self, now: Duration) -> String {
        spec::format_time(self.began.checked_add(now).unwrap_or(self.began))
    }
}

/// One line.
fn line(status: &SolveStatus<'_>) -> String {
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string(status).map(|text| text + "\n").unwrap_or_default()
}

impl Display for RawJson {
    fn start(&mut self, now: Duration, group: Group, title: &Title) {
        self.lines.start(now, group, title);
        let own = || Digest::of(format!("{} {}", group.0, title.name).as_bytes());
        let vertex = Vertex {
            digest: title.digest.unwrap_or_else(own).to_string(),
            inputs: title.inputs.iter().map(Digest::to_string).collect(),
            name: title.name.clone(),
            started: self.time(now),
            completed: None,
            cached: false,
            error: None,
        };
        self.text.push_str(&line(&SolveStatus { vertexes: Some([&vertex]), ..SolveStatus::default() }));
        self.groups.push(vertex);
    }

    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        self.lines.output(now, group, stream, bytes);
        let Some(vertex) = self.groups.get(group.0) else { return };
        let stream = match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        let data = BASE64_STANDARD.encode(bytes);
        let log = Log { vertex: &vertex.digest, stream, data, timestamp: self.time(now) };
        let text = line(&SolveStatus { logs: Some([log]), ..SolveStatus::default() });
        self.text.push_str(&text);
    }

    fn note(&mut self, now: Duration, group: Group, note: &str) {
        let Some(vertex) = self.groups.get(group.0) else { return };
        let time = &self.time(now);
        let status = Status {
            id: note,
            vertex: &vertex.digest,
            total: None,
            current: 0,
            timestamp: time,
            started: time,
            completed: Some(time),
        };
        let text = line(&SolveStatus { statuses: Some([status]), ..SolveStatus::default() });
        self.text.push_str(&text);
    }

    fn advance(&mut self, now: Duration, group: Group, bytes: u64, total: u64) {
        let Some(vertex) = self.groups.get(group.0) else { return };
        let time = &self.time(now);
        let status = Status {
            id: TRANSFER,
            vertex: &vertex.digest,
            total: Some(total),
            current: bytes,
            timestamp: time,
            started: &vertex.started,
            completed: (bytes == total).then_some(time),
        };
        let text = line(&SolveStatus { statuses: Some([status]), ..SolveStatus::default() });
        self.text.push_str(&text);
    }

    fn end(&mut self, now: Duration, group: Group, end: &End) {
        self.lines.end(now, group, end);
        let completed = self.time(now);
        let Some(vertex) = self.groups.get_mut(group.0) else { return };
        vertex.completed = Some(completed);
        match end {
            End::Done => {}
            End::Cached(_) => vertex.cached = true,
            End::Cancelled => vertex.error = Some("context canceled".to_owned()),
            End::Failed(reason) => vertex.error = Some(reason.clone()),
        }
        self.text.push_str(&line(&SolveStatus { vertexes: Some([&*vertex]), ..SolveStatus::default() }));
    }

    fn tail(&self, group: Group) -> Vec<String> {
        self.lines.tail(group)
    }

    fn tick(&mut self, _now: Duration) {}

    fn waits(&self) -> bool {
        false
    }

    fn finish(&mut self, _now: Duration) {}

    fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_solver::Hit;

    #[test]
    fn each_event_is_a_line() {
        let at = Duration::from_millis;
        let mut display = RawJson::new(SystemTime::UNIX_EPOCH);
        let [step, other] = [Group(0), Group(1)];
        let digest = Some(Digest::of(b"step"));
        display.start(at(0), step, &Title { digest, ..Title::new("[1/2] RUN make") });
        display.output(at(5), step, LogStream::Stderr, b"\x1b[2J\xff\n");
        display.end(at(10), step, &End::Failed("exit code: 2".to_owned()));
        display.start(at(11), other, &Title { inputs: digest.into_iter().collect(), ..Title::new("exporting") });
        display.note(at(12), other, "writing image");
        display.advance(at(12), other, 5, 10);
        display.end(at(13), other, &End::Cached(Hit::Definition));
        insta::assert_snapshot!(display.take(), @r#"
        {"vertexes":[{"digest":"sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a","name":"[1/2] RUN make","started":"1970-01-01T00:00:00Z"}]}
        {"logs":[{"vertex":"sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a","stream":2,"data":"G1sySv8K","timestamp":"1970-01-01T00:00:00.005Z"}]}
        {"vertexes":[{"digest":"sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a","name":"[1/2] RUN make","started":"1970-01-01T00:00:00Z","completed":"1970-01-01T00:00:00.01Z","error":"exit code: 2"}]}
        {"vertexes":[{"digest":"sha256:0e5039ab312abf11a82adcb3edc4e776806592bb2d3cb3ca14b2492d70e6ba78","inputs":["sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a"],"name":"exporting","started":"1970-01-01T00:00:00.011Z"}]}
        {"statuses":[{"id":"writing image","vertex":"sha256:0e5039ab312abf11a82adcb3edc4e776806592bb2d3cb3ca14b2492d70e6ba78","current":0,"timestamp":"1970-01-01T00:00:00.012Z","started":"1970-01-01T00:00:00.012Z","completed":"1970-01-01T00:00:00.012Z"}]}
        {"statuses":[{"id":"transferring","vertex":"sha256:0e5039ab312abf11a82adcb3edc4e776806592bb2d3cb3ca14b2492d70e6ba78","total":10,"current":5,"timestamp":"1970-01-01T00:00:00.012Z","started":"1970-01-01T00:00:00.011Z"}]}
        {"vertexes":[{"digest":"sha256:0e5039ab312abf11a82adcb3edc4e776806592bb2d3cb3ca14b2492d70e6ba78","inputs":["sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a"],"name":"exporting","started":"1970-01-01T00:00:00.011Z","completed":"1970-01-01T00:00:00.013Z","cached":true}]}
        "#);
        assert_eq!(display.tail(step), ["0.005 \u{fffd}"]);
        assert_eq!(display.take(), "");
    }
}
