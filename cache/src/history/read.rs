//! Finds builds in the history and reads them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::events::{Line, lines};
use super::{BuildRecord, BuildStatus, StepRecord};
use crate::{Store, StoreError, database, session};

/// A build as far as its first line tells.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) began: SystemTime,
    pub(super) directory: PathBuf,
}

impl Store {
    /// All builds, the last one first. What cannot be read is left out.
    ///
    /// # Errors
    /// When the folder of the history cannot be read.
    pub fn builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        let heads = heads(self.root())?;
        Ok(heads.into_iter().filter_map(|head| read(&head.id, &head.directory).ok().flatten()).collect())
    }

    /// The build of this ID.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub fn build(&self, id: &str) -> Result<BuildRecord, StoreError> {
        let directory = self.build_directory(id)?;
        read(id, &directory)?.ok_or_else(|| StoreError::NoBuild(id.to_owned()))
    }

    /// The ID that a reference stands for: the beginning of an ID that no other build shares, or `^N`, the build N
    /// before the last.
    ///
    /// # Errors
    /// When there is none or more than one, or the store cannot be read.
    pub fn find_build(&self, reference: &str) -> Result<String, StoreError> {
        let missing = || StoreError::NoBuild(reference.to_owned());
        let heads = heads(self.root())?;
        if let Some(offset) = reference.strip_prefix('^') {
            let offset: usize = if offset.is_empty() { 1 } else { offset.parse().map_err(|_| missing())? };
            return Ok(heads.get(offset).ok_or_else(missing)?.id.clone());
        }
        let mut found = heads.iter().filter(|head| !reference.is_empty() && head.id.starts_with(reference));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.id.clone()),
            (Some(_), Some(_)) => Err(StoreError::AmbiguousBuild(reference.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    /// Forgets a build.
    ///
    /// # Errors
    /// When there is none of this ID, it is still running, or the store cannot be written.
    pub fn remove_build(&self, id: &str) -> Result<(), StoreError> {
        let directory = self.build_directory(id)?;
        if is_running(&directory)? {
            return Err(StoreError::BuildRuns(id.to_owned()));
        }
        self.forget(&directory)
    }

    /// Moves what is left of a build out of the way, and then removes it: half a build is never seen.
    pub(super) fn forget(&self, directory: &Path) -> Result<(), StoreError> {
        let trash = self.inner().session()?.name("forgotten");
        match std::fs::rename(directory, &trash) {
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(StoreError::io("remove", directory))?,
        }
        session::remove_tree(&trash).map_err(StoreError::io("remove", &trash))
    }

    /// Where the build of this ID lies.
    pub(super) fn build_directory(&self, id: &str) -> Result<PathBuf, StoreError> {
        let directory = self.root().join("history").join(id);
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_id && directory.is_dir() { Ok(directory) } else { Err(StoreError::NoBuild(id.to_owned())) }
    }
}

/// All builds that can be told apart, the last one first.
pub(super) fn heads(root: &Path) -> Result<Vec<Head>, StoreError> {
    let history = root.join("history");
    let entries = match std::fs::read_dir(&history) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("read", &history))?,
    };
    let mut heads = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("read", &history))?;
        let (Ok(id), directory) = (entry.file_name().into_string(), entry.path()) else { continue };
        if let Some(began) = began(&directory) {
            heads.push(Head { id, began, directory });
        }
    }
    heads.sort_by(|a, b| b.began.cmp(&a.began).then_with(|| a.id.cmp(&b.id)));
    Ok(heads)
}

fn began(directory: &Path) -> Option<SystemTime> {
    let mut first = String::new();
    BufReader::new(File::open(directory.join("build")).ok()?).read_line(&mut first).ok()?;
    match lines(&first).next()? {
        Line::Build { time, .. } => Some(database::from_nanos(time)),
        _ => None,
    }
}

/// Whether the process of a build lives.
pub(super) fn is_running(directory: &Path) -> Result<bool, StoreError> {
    let path = directory.join("build");
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.map_err(StoreError::io("open", &path))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(StoreError::io("lock", &path)(error)),
    }
}

/// What the file `build` tells; `None` where it tells nothing.
fn read(id: &str, directory: &Path) -> Result<Option<BuildRecord>, StoreError> {
    // Asked first: one that ends meanwhile is then read with its end.
    let running = is_running(directory)?;
    let path = directory.join("build");
    let text = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = lines(&text);
    let Some(Line::Build { time, command, .. }) = lines.next() else { return Ok(None) };
    let status = if running { BuildStatus::Running } else { BuildStatus::Interrupted };
    let began = database::from_nanos(time);
    let mut build = BuildRecord {
        id: id.to_owned(),
        began,
        command,
        status,
        duration: Duration::ZERO,
        dockerfile: None,
        untraced: None,
        steps: Vec::new(),
    };
    lines.for_each(|line| build.take(line));
    if build.status == BuildStatus::Running {
        build.duration = SystemTime::now().duration_since(began).unwrap_or(build.duration);
    }
    Ok(Some(build))
}

impl BuildRecord {
    fn take(&mut self, line: Line) {
        self.duration = self.duration.max(Duration::from_nanos(line.time()));
        match line {
            Line::Build { .. } | Line::Note { .. } => {}
            Line::Dockerfile { dockerfile, .. } => self.dockerfile = Some(dockerfile),
            Line::Untraced { why, .. } => self.untraced = Some(why),
            Line::Start { time, title, .. } => self.steps.push(StepRecord {
                title,
                began: Duration::from_nanos(time),
                ended: None,
                reasons: Vec::new(),
                layer: None,
            }),
            Line::Why { step, reasons, .. } => self.change(step, |step| step.reasons = reasons),
            Line::Made { step, layer, .. } => self.change(step, |step| step.layer = Some(layer)),
            Line::Stop { step, time, end } => {
                self.change(step, |step| step.ended = Some((Duration::from_nanos(time), end)));
            }
            Line::End { end, .. } => self.status = BuildStatus::Ended(end),
        }
    }

    fn change(&mut self, step: usize, change: impl FnOnce(&mut StepRecord)) {
        if let Some(step) = self.steps.get_mut(step) {
            change(step);
        }
    }
}
