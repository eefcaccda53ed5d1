//! What is kept of sources, below `contexts/`: stat caches of build contexts, and git repositories.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::collect::is_memory;
use super::usage::folders;
use super::{Usage, UsageKind, disk};
use crate::{Store, StoreError, session};

impl Store {
    /// Each stat cache and each repository; and in one the folders themselves, with what lies in them in small files.
    pub(super) fn contexts_usage(&self) -> Result<Vec<Usage>, StoreError> {
        let contexts = self.root().join("contexts");
        let mut all = Vec::new();
        let mut rest = disk::taken(&contexts).map_err(StoreError::io("read", &contexts))?;
        for (kind, path) in found(&contexts)? {
            let size = disk::taken(&path).map_err(StoreError::io("read", &path))?;
            rest = rest.saturating_sub(size);
            let id = path.strip_prefix(self.root()).unwrap_or(&path).display().to_string();
            all.push(Usage { used: last_use(&path), ..Usage::of_files(kind, id, size) });
        }
        all.push(Usage::of_files(UsageKind::Database, "contexts".to_owned(), rest));
        Ok(all)
    }

    /// Removes a stat cache or a repository; `false` where somebody uses it.
    pub(super) fn take_context(&self, path: &Path) -> Result<bool, StoreError> {
        let io = || StoreError::io("remove", path);
        // A stat cache is read as a whole and replaced as a whole.
        let _lock = match path.extension() {
            None => None,
            Some(_) => {
                let file = File::open(path.with_extension("lock")).map_err(io())?;
                match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
                    locked => locked.map_err(|error| io()(std::io::Error::from(error)))?,
                }
                Some(file)
            }
        };
        let trash = self.inner().session()?.make_directory("trash", 0o700)?;
        match std::fs::rename(path, trash.join("context")) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => renamed.map_err(io())?,
        }
        session::remove_tree(&trash).map_err(io())?;
        Ok(true)
    }
}

fn found(contexts: &Path) -> Result<Vec<(UsageKind, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(contexts) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(StoreError::io("read", contexts))?,
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", contexts))?.path();
        if is_memory(&path) {
            found.push((UsageKind::Context, path));
        }
    }
    let repositories = folders(&contexts.join("git"))?.into_iter();
    let repositories = repositories.filter(|path| path.extension().is_some_and(|extension| extension == "git"));
    found.extend(repositories.map(|path| (UsageKind::Git, path)));
    Ok(found)
}

/// When it was read or written last, as far as the file system tells: it may note reading once a day, or never.
fn last_use(path: &Path) -> Option<SystemTime> {
    let times = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        let seconds = metadata.atime().max(metadata.mtime());
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
    };
    times(path).max(times(&path.join("HEAD"))).max(times(&path.join("FETCH_HEAD")))
}
