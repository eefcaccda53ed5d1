//! Forgets old builds, so that the history does not grow without end.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::read::{heads, is_running};
use crate::{Store, StoreError};

/// How long after one look for builds to forget the next one may follow.
const PAUSE: Duration = Duration::from_secs(60);
/// How old a folder that holds no build must be to be removed.
const GRACE: Duration = Duration::from_secs(3600);

/// How much history is kept. As with BuildKit, a build is forgotten when it is both older than `max_age` and not among
/// the last `max_entries`; beyond `max_size` the oldest go whatever their age, but for the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// This many are kept however old they are.
    pub max_entries: usize,
    /// What is younger is kept however many there are.
    pub max_age: Duration,
    /// The most bytes that all builds together may take.
    pub max_size: u64,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { max_entries: 50, max_age: Duration::from_secs(48 * 3600), max_size: 1 << 30 }
    }
}

impl Store {
    /// Forgets what is beyond the limits, in a thread of its own. Does nothing if that was done within the last
    /// minute.
    pub fn prune_builds_in_background(&self, limits: HistoryLimits) {
        let marker = self.root().join("history/pruned");
        if is_younger(&marker, PAUSE) || File::create(marker).is_err() {
            return;
        }
        let store = self.clone();
        // A thread that does not start or fails leaves the builds to the next look.
        let prune = move || drop(store.prune_builds(limits));
        let _ = std::thread::Builder::new().name("kiln-history".to_owned()).spawn(prune);
    }

    /// Forgets what is beyond the limits; yields how many builds that were.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune_builds(&self, limits: HistoryLimits) -> Result<usize, StoreError> {
        self.remove_what_is_no_build()?;
        let oldest_kept = SystemTime::now().checked_sub(limits.max_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut size, mut forgotten) = (0_u64, 0);
        for (position, head) in heads(self.root())?.into_iter().enumerate() {
            size = size.saturating_add(disk_usage(&head.directory));
            let too_old = position >= limits.max_entries && head.began < oldest_kept;
            let too_large = position > 0 && size > limits.max_size;
            if (too_old || too_large) && !is_running(&head.directory)? {
                self.forget(&head.directory)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Folders without a first line, as a power loss may leave them.
    fn remove_what_is_no_build(&self) -> Result<(), StoreError> {
        let history = self.root().join("history");
        let known: Vec<_> = heads(self.root())?.into_iter().map(|head| head.directory).collect();
        for entry in std::fs::read_dir(&history).map_err(StoreError::io("read", &history))? {
            let path = entry.map_err(StoreError::io("read", &history))?.path();
            if path.is_dir() && !known.contains(&path) && !is_younger(&path, GRACE) && !is_running(&path)? {
                self.forget(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether a file is there and was changed within this time, or in the future.
fn is_younger(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().map_or(true, |elapsed| elapsed < age))
}

/// What the files of a build take on the disk, in bytes.
fn disk_usage(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}
