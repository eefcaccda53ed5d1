//! The events of a build: how they are written down, and how they are told again.

use std::path::Path;
use std::time::Duration;

use kiln_solver::{Digest, LogStream, Reason};
use serde::{Deserialize, Serialize};

use super::log::{Chunk, LogReader};
use super::{BuildCommand, BuildEnd, DockerfileText, StepEnd, StepTitle, reason};
use crate::{Store, StoreError};

/// One thing that happens to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins.
    Start(StepTitle),
    /// It printed these bytes, whole lines or not.
    Output(LogStream, Vec<u8>),
    /// There is a line to say about it.
    Note(String),
    /// It ends.
    End(StepEnd),
}

/// One line of the file `build`. Times are nanoseconds since the build began, but for the first line's, which are
/// since 1970.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// The first line.
    Build { version: u32, time: i64, command: BuildCommand },
    /// A step begins. Steps are numbered from 0 in this order.
    Start { step: usize, time: u64, title: StepTitle },
    /// The Dockerfile was read.
    Dockerfile { time: u64, dockerfile: DockerfileText },
    /// Commands could not be observed.
    Untraced { time: u64, why: String },
    /// Why a step ran, or what made no difference to it.
    Why {
        step: usize,
        time: u64,
        #[serde(with = "reason")]
        reasons: Vec<Reason>,
    },
    /// What a step comes to: its topmost layer.
    Made { step: usize, time: u64, layer: Digest },
    /// Something to say about a step.
    Note { step: usize, time: u64, note: String },
    /// A step ends.
    Stop { step: usize, time: u64, end: StepEnd },
    /// The last line.
    End { time: u64, end: BuildEnd },
}

/// The version of the form of these files.
pub(super) const VERSION: u32 = 1;

impl Line {
    /// When it happened.
    pub(super) fn time(&self) -> u64 {
        match self {
            Self::Build { .. } => 0,
            Self::Dockerfile { time, .. }
            | Self::Untraced { time, .. }
            | Self::Start { time, .. }
            | Self::Why { time, .. }
            | Self::Made { time, .. }
            | Self::Note { time, .. }
            | Self::Stop { time, .. }
            | Self::End { time, .. } => *time,
        }
    }
}

/// The lines of a file `build`, as far as they can be read: the last one may be cut, and a newer kiln may know lines
/// that this one does not.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(|line| serde_json::from_str(line).ok())
}

/// The events of one build in order, each with its time since the build began and the number of its step.
pub struct Events {
    lines: std::iter::Peekable<std::vec::IntoIter<Line>>,
    log: Option<LogReader>,
    chunk: Option<Chunk>,
}

impl Events {
    fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("build");
        let text = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
        let lines: Vec<Line> = lines(&String::from_utf8_lossy(&text)).collect();
        let mut events = Self { lines: lines.into_iter().peekable(), log: LogReader::open(directory)?, chunk: None };
        events.next_chunk()?;
        Ok(events)
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk>, StoreError> {
        let next = match &mut self.log {
            Some(log) => log.next()?,
            None => None,
        };
        Ok(std::mem::replace(&mut self.chunk, next))
    }

    /// Whether the log goes on before the next line. At the same time a step begins before it prints, and prints
    /// before it ends.
    fn chunk_is_next(&mut self) -> bool {
        let Some(chunk) = &self.chunk else { return false };
        match self.lines.peek() {
            None => true,
            Some(Line::Start { step, time, .. }) if *step == chunk.step => chunk.time < *time,
            Some(line) => chunk.time <= line.time(),
        }
    }

    fn advance(&mut self) -> Result<Option<(Duration, usize, Event)>, StoreError> {
        loop {
            if self.chunk_is_next() {
                let chunk = self.next_chunk()?;
                let told = |chunk: Chunk| (chunk.time, chunk.step, Event::Output(chunk.stream, chunk.bytes));
                return Ok(chunk.map(told).map(|(time, step, event)| (Duration::from_nanos(time), step, event)));
            }
            let Some(line) = self.lines.next() else { return Ok(None) };
            let time = Duration::from_nanos(line.time());
            let (step, event) = match line {
                Line::Build { .. } | Line::Dockerfile { .. } | Line::Untraced { .. } | Line::End { .. } => continue,
                Line::Why { .. } | Line::Made { .. } => continue,
                Line::Start { step, title, .. } => (step, Event::Start(title)),
                Line::Note { step, note, .. } => (step, Event::Note(note)),
                Line::Stop { step, end, .. } => (step, Event::End(end)),
            };
            return Ok(Some((time, step, event)));
        }
    }
}

impl Iterator for Events {
    type Item = Result<(Duration, usize, Event), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Store {
    /// All that happened in the build of this ID, with what its steps printed, to be shown again.
    ///
    /// # Errors
    /// When there is no such build, or the store cannot be read.
    pub fn build_events(&self, id: &str) -> Result<Events, StoreError> {
        Events::open(&self.build_directory(id)?)
    }
}
