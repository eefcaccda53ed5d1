//! Passes what happens on to the history of builds. What happens before the store is open waits.

use std::time::Duration;

use kiln_cache::StoreError;
use kiln_cache::history::{BuildEnd, DockerfileText, Recorder};
use kiln_solver::{Digest, LogStream, Reason};

use super::event::{End, Group, Title};

/// Where the history of a build stands.
pub(super) enum Record {
    /// Nobody writes it down yet.
    Early(Vec<(Duration, Early)>),
    /// It is written down.
    Open(Recorder),
    /// It is over, or not to be written down.
    Closed,
}

/// What can happen before the store is open; nothing runs then, so nothing is printed.
pub(super) enum Early {
    Dockerfile(DockerfileText),
    Start(Group, Title),
    Note(Group, String),
    End(Group, End),
}

impl Record {
    /// From now on `recorder` writes down what happens, and first of all what has happened.
    pub(super) fn open(&mut self, mut recorder: Recorder) {
        if let Self::Early(early) = self {
            for (time, event) in std::mem::take(early) {
                match event {
                    Early::Dockerfile(dockerfile) => recorder.dockerfile(time, dockerfile),
                    Early::Start(Group(step), title) => recorder.start(time, step, &title),
                    Early::Note(Group(step), note) => recorder.note(time, step, &note),
                    Early::End(Group(step), end) => recorder.stop(time, step, &end),
                }
            }
        }
        *self = Self::Open(recorder);
    }

    /// Whether it is being written down.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// What the history knows it by.
    pub(super) fn id(&self) -> Option<String> {
        match self {
            Self::Open(recorder) => Some(recorder.id().to_owned()),
            Self::Early(_) | Self::Closed => None,
        }
    }

    /// The build ends; tells what kept it from being written down.
    pub(super) fn close(&mut self, time: Duration, end: &BuildEnd) -> Result<(), StoreError> {
        match std::mem::replace(self, Self::Closed) {
            Self::Open(recorder) => recorder.finish(time, end),
            _ => Ok(()),
        }
    }

    pub(super) fn dockerfile(&mut self, time: Duration, text: &str) {
        match self {
            Self::Early(early) => early.push((time, Early::Dockerfile(DockerfileText::new(text)))),
            Self::Open(recorder) => recorder.dockerfile(time, DockerfileText::new(text)),
            Self::Closed => {}
        }
    }

    pub(super) fn untraced(&mut self, time: Duration, why: &str) {
        if let Self::Open(recorder) = self {
            recorder.untraced(time, why);
        }
    }

    pub(super) fn explain(&mut self, time: Duration, group: Group, reasons: &[Reason]) {
        if let Self::Open(recorder) = self {
            recorder.explain(time, group.0, reasons);
        }
    }

    pub(super) fn made(&mut self, time: Duration, group: Group, layer: Digest) {
        if let Self::Open(recorder) = self {
            recorder.made(time, group.0, layer);
        }
    }

    pub(super) fn start(&mut self, time: Duration, group: Group, title: &Title) {
        match self {
            Self::Early(early) => early.push((time, Early::Start(group, title.clone()))),
            Self::Open(recorder) => recorder.start(time, group.0, title),
            Self::Closed => {}
        }
    }

    pub(super) fn note(&mut self, time: Duration, group: Group, note: &str) {
        match self {
            Self::Early(early) => early.push((time, Early::Note(group, note.to_owned()))),
            Self::Open(recorder) => recorder.note(time, group.0, note),
            Self::Closed => {}
        }
    }

    pub(super) fn output(&mut self, time: Duration, group: Group, stream: LogStream, bytes: &[u8]) {
        if let Self::Open(recorder) = self {
            recorder.output(time, group.0, stream, bytes);
        }
    }

    pub(super) fn end(&mut self, time: Duration, group: Group, end: &End) {
        match self {
            Self::Early(early) => early.push((time, Early::End(group, end.clone()))),
            Self::Open(recorder) => recorder.stop(time, group.0, end),
            Self::Closed => {}
        }
    }
}
