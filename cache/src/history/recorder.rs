//! Writes down a build while it runs.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_solver::{Digest, LogStream, Reason};
use rustix::fs::FlockOperation;

use super::events::{Line, VERSION};
use super::log::LogWriter;
use super::{BuildCommand, BuildEnd, DockerfileText, StepEnd, StepTitle};
use crate::{Store, StoreError, database, session, sys};

/// Writes down one build. What it is told is in the store when the call returns, and stays if the process is killed
/// then. After an error it writes no more: nothing of a build depends on it.
pub struct Recorder {
    id: String,
    path: PathBuf,
    /// Locked for as long as the build runs.
    build: File,
    log: LogWriter,
    failed: Option<StoreError>,
}

impl Recorder {
    fn begin(root: &Path, draft: &Path, began: SystemTime, command: &BuildCommand) -> Result<Self, StoreError> {
        let history = root.join("history");
        let id = sys::random_id().map_err(StoreError::io("name a build in", &history))?;
        let path = draft.join("build");
        let io = || StoreError::io("write", &path);
        let mut build = File::create_new(&path).map_err(io())?;
        rustix::fs::flock(&build, FlockOperation::NonBlockingLockExclusive).map_err(StoreError::io("lock", &path))?;
        let time = database::to_nanos(began);
        let first = text(&Line::Build { version: VERSION, time, command: command.clone() });
        build.write_all(first.as_bytes()).map_err(io())?;
        let directory = history.join(&id);
        if let Err(error) = std::fs::rename(draft, &directory) {
            // A store made before there was a history.
            DirBuilder::new().mode(0o700).create(&history).map_err(|_| StoreError::io("create", &directory)(error))?;
            std::fs::rename(draft, &directory).map_err(StoreError::io("create", &directory))?;
        }
        let log = LogWriter::new(&directory);
        Ok(Self { id, path: directory.join("build"), build, log, failed: None })
    }

    /// The ID of the build.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The Dockerfile was read. Times are counted from when the build began.
    pub fn dockerfile(&mut self, time: Duration, dockerfile: DockerfileText) {
        self.put(&Line::Dockerfile { time: nanos(time), dockerfile });
    }

    /// Commands could not be observed, for this reason.
    pub fn untraced(&mut self, time: Duration, why: &str) {
        self.put(&Line::Untraced { time: nanos(time), why: why.to_owned() });
    }

    /// A step begins; steps are numbered from 0.
    pub fn start(&mut self, time: Duration, step: usize, title: &StepTitle) {
        self.put(&Line::Start { step, time: nanos(time), title: title.clone() });
    }

    /// Why a step ran, or what made no difference to it.
    pub fn explain(&mut self, time: Duration, step: usize, reasons: &[Reason]) {
        self.put(&Line::Why { step, time: nanos(time), reasons: reasons.to_vec() });
    }

    /// The topmost layer of what a step comes to.
    pub fn made(&mut self, time: Duration, step: usize, layer: Digest) {
        self.put(&Line::Made { step, time: nanos(time), layer });
    }

    /// There is a line to say about a step.
    pub fn note(&mut self, time: Duration, step: usize, note: &str) {
        self.put(&Line::Note { step, time: nanos(time), note: note.to_owned() });
    }

    /// A step printed something.
    pub fn output(&mut self, time: Duration, step: usize, stream: LogStream, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.log.write(step, stream, nanos(time), bytes).err();
        }
    }

    /// A step ends.
    pub fn stop(&mut self, time: Duration, step: usize, end: &StepEnd) {
        self.put(&Line::Stop { step, time: nanos(time), end: end.clone() });
    }

    /// The build ends.
    ///
    /// # Errors
    /// The first thing that kept the build from being written down.
    pub fn finish(mut self, time: Duration, end: &BuildEnd) -> Result<(), StoreError> {
        let failed = self.failed.take();
        // How it ended may have room even where a log had none.
        self.put(&Line::End { time: nanos(time), end: end.clone() });
        failed.or(self.failed).map_or(Ok(()), Err)
    }

    fn put(&mut self, line: &Line) {
        if self.failed.is_none() {
            let written = self.build.write_all(text(line).as_bytes());
            self.failed = written.map_err(StoreError::io("write", &self.path)).err();
        }
    }
}

fn text(line: &Line) -> String {
    // Maps with keys that are no text, which this has none of, are all that can fail.
    serde_json::to_string(line).map(|text| text + "\n").unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Store {
    /// Begins to write down a build that began then. It counts as running until the recorder is gone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn record_build(&self, began: SystemTime, command: &BuildCommand) -> Result<Recorder, StoreError> {
        let draft = self.inner().session()?.make_directory("history", 0o700)?;
        let begun = Recorder::begin(self.root(), &draft, began, command);
        if begun.is_err() {
            // What cannot be removed now is swept later.
            let _ = session::remove_tree(&draft);
        }
        begun
    }
}
