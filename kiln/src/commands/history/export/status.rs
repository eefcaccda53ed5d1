//! What happened to the steps of a build and what they printed, as BuildKit keeps it: `StatusResponse` messages of its
//! control API in protobuf (moby/buildkit, `api/services/control/control.proto`), each behind its length in four bytes,
//! little-endian.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_cache::Store;
use kiln_cache::history::{BuildRecord, Event, StepEnd, StepTitle};
use kiln_solver::{Digest, LogStream};

use super::super::build_error;
use crate::error::CliError;

/// The fields of `StatusResponse`.
const VERTEXES: u32 = 1;
const STATUSES: u32 = 2;
const LOGS: u32 = 3;

/// All that happened, in order.
pub(super) fn encode(store: &Store, build: &BuildRecord) -> Result<Vec<u8>, CliError> {
    let mut log = Log { began: build.began, steps: HashMap::new(), bytes: Vec::new() };
    for event in store.build_events(&build.id).map_err(|error| build_error(&error))? {
        let (time, step, event) = event.map_err(|error| build_error(&error))?;
        log.take(time, step, event);
    }
    Ok(log.bytes)
}

struct Log {
    began: SystemTime,
    steps: HashMap<usize, Vertex>,
    bytes: Vec<u8>,
}

/// A step that has begun.
struct Vertex {
    digest: String,
    title: StepTitle,
    began: Duration,
}

impl Log {
    fn take(&mut self, time: Duration, step: usize, event: Event) {
        let response = match event {
            Event::Start(title) => {
                // What is no step of the graph gets a digest of its own.
                let own = || Digest::of(format!("{step} {}", title.name).as_bytes());
                let digest = title.digest.unwrap_or_else(own).to_string();
                let vertex = Vertex { digest, title, began: time };
                let response = Message::default().message(VERTEXES, self.vertex(&vertex, None));
                self.steps.insert(step, vertex);
                response
            }
            event => {
                let Some(vertex) = self.steps.get(&step) else { return };
                match event {
                    Event::Start(_) => return,
                    Event::Output(stream, bytes) => {
                        Message::default().message(LOGS, self.output(vertex, time, stream, &bytes))
                    }
                    Event::Note(note) => Message::default().message(STATUSES, self.note(vertex, time, &note)),
                    Event::End(end) => Message::default().message(VERTEXES, self.vertex(vertex, Some((time, &end)))),
                }
            }
        };
        let length = u32::try_from(response.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&response.0);
    }

    /// `Vertex`
    fn vertex(&self, vertex: &Vertex, ended: Option<(Duration, &StepEnd)>) -> Message {
        let Vertex { digest, title, began } = vertex;
        let mut message = Message::default().text(1, digest);
        for input in &title.inputs {
            message = message.text(2, &input.to_string());
        }
        message = message.text(3, &title.name);
        if let Some((_, StepEnd::Cached(_))) = ended {
            message = message.number(4, 1);
        }
        message = message.message(5, self.time(*began));
        if let Some((ended, end)) = ended {
            message = message.message(6, self.time(ended));
            message = match end {
                StepEnd::Failed(error) => message.text(7, error),
                StepEnd::Cancelled => message.text(7, "canceled"),
                StepEnd::Done | StepEnd::Cached(_) => message,
            };
        }
        message
    }

    /// `VertexStatus`, of something that is over at once.
    fn note(&self, vertex: &Vertex, time: Duration, note: &str) -> Message {
        let message = Message::default().text(1, note).text(2, &vertex.digest);
        [6, 7, 8].into_iter().fold(message, |message, field| message.message(field, self.time(time)))
    }

    /// `VertexLog`
    fn output(&self, vertex: &Vertex, time: Duration, stream: LogStream, bytes: &[u8]) -> Message {
        let stream = match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        Message::default().text(1, &vertex.digest).message(2, self.time(time)).number(3, stream).bytes(4, bytes)
    }

    /// `google.protobuf.Timestamp`
    fn time(&self, after: Duration) -> Message {
        let since = self.began.checked_add(after).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        Message::default().number(1, since.as_secs()).number(2, u64::from(since.subsec_nanos()))
    }
}

/// A message of protobuf in the making (protobuf.dev, "Encoding"). Fields with the value zero are left out.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u32, number: u64) -> Self {
        if number != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(number);
        }
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u32, message: Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_messages_of_the_control_api() {
        let mut log = Log { began: UNIX_EPOCH + Duration::from_secs(300), steps: HashMap::new(), bytes: Vec::new() };
        let digest = Digest::of(b"step");
        let title = StepTitle { digest: Some(digest), inputs: vec![Digest::of(b"input")], ..StepTitle::new("RUN x") };
        log.take(Duration::ZERO, 0, Event::Start(title));
        log.take(Duration::from_nanos(1), 0, Event::Output(LogStream::Stderr, b"\xff\n".to_vec()));
        // Of a step that nothing else is known of.
        log.take(Duration::ZERO, 1, Event::Note("lost".to_owned()));
        let digest = digest.to_string();
        let vertex = [
            &b"\x0a\x47"[..],
            digest.as_bytes(),
            b"\x12\x47",
            Digest::of(b"input").to_string().as_bytes(),
            b"\x1a\x05RUN x\x2a\x03\x08\xac\x02",
        ]
        .concat();
        let output =
            [&b"\x0a\x47"[..], digest.as_bytes(), b"\x12\x05\x08\xac\x02\x10\x01\x18\x02\x22\x02\xff\n"].concat();
        let first = [&[vertex.len() as u8 + 3, 0, 0, 0, 0x0a, vertex.len() as u8 | 0x80, 1], &vertex[..]].concat();
        let second = [&[output.len() as u8 + 2, 0, 0, 0, 0x1a, output.len() as u8], &output[..]].concat();
        assert_eq!(log.bytes, [first, second].concat());
    }
}
