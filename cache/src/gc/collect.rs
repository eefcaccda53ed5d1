//! The automatic prune: when it is due, and how it goes.
//!
//! `gc` below the store's folder is locked by whoever is at it. Its time is that of the last one, and what is in it
//! says why that failed, if it did.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_solver::Digest;
use rusqlite::params;
use rustix::fs::FlockOperation;

use super::usage::folders;
use super::{Policy, Prune, Pruned};
use crate::{Store, StoreError, database};

/// The name of the file.
const MARKER: &str = "gc";
/// How long after one automatic prune the next one may follow.
const PAUSE: Duration = Duration::from_secs(300);
/// How long the steps that were carried out are remembered for telling why later ones run.
const PAST: Duration = Duration::from_secs(60 * 24 * 3600);
/// Reasons for a failure are cut to so many bytes.
const LONGEST: u64 = 4096;

impl Store {
    /// Whether an automatic prune is due. It counts as begun then: the next one is due five minutes later. Costs a look
    /// at one file.
    pub fn collection_is_due(&self) -> bool {
        let path = self.root().join(MARKER);
        let Ok(metadata) = std::fs::metadata(&path) else {
            // A new store has nothing to prune.
            let _ = File::create(path);
            return false;
        };
        let is_young = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age < PAUSE));
        let touch = || File::options().write(true).open(&path)?.set_modified(SystemTime::now());
        !is_young && touch().is_ok()
    }

    /// Why the last automatic prune failed, if it did.
    pub fn collection_failure(&self) -> Option<String> {
        let path = self.root().join(MARKER);
        let length = std::fs::metadata(&path).ok()?.len();
        if length == 0 || length > LONGEST {
            return None;
        }
        std::fs::read_to_string(path).ok()
    }

    /// Notes why the automatic prune failed, or that it did not.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note_collection(&self, failure: Option<&str>) -> Result<(), StoreError> {
        let path = self.root().join(MARKER);
        let text: String = failure.unwrap_or_default().chars().take(LONGEST as usize / 4).collect();
        File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(StoreError::io("write", &path))
    }

    /// Takes away what these rules allow, one after the other, and what earlier prunes had to leave to builds that were
    /// running. Does nothing where somebody else is at it. What builds, images and cache mounts in use need stays, as
    /// with [`Store::prune`].
    ///
    /// # Errors
    /// When the store cannot be read or written. What was taken until then is gone.
    pub fn collect(&self, policies: &[Policy]) -> Result<Pruned, StoreError> {
        let path = self.root().join(MARKER);
        let file = File::options().create(true).append(true).open(&path).map_err(StoreError::io("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Pruned::default()),
            Err(error) => return Err(StoreError::io("lock", &path)(error)),
        }
        let mut all = Pruned::default();
        let mut usage = self.usage()?;
        for policy in policies {
            let pruned = self.prune_of(&mut usage, &Prune::from(policy))?;
            all.size += pruned.size;
            all.taken.extend(pruned.taken);
        }
        self.reap()?;
        self.forget_past()?;
        self.forget_memories()?;
        Ok(all)
    }

    /// Forgets the steps that were carried out long ago.
    fn forget_past(&self) -> Result<(), StoreError> {
        let Some(oldest) = SystemTime::now().checked_sub(PAST) else { return Ok(()) };
        self.inner().database.write(|transaction| {
            transaction.execute("DELETE FROM steps WHERE saved < ?1", [database::to_nanos(oldest)])?;
            Ok(())
        })
    }

    /// Forgets which layer came of which URL, commit or part of a context where the layer is gone. These are files with
    /// the layer in the first line, in folders of `contexts/`; whoever finds one missing makes the layer anew.
    fn forget_memories(&self) -> Result<(), StoreError> {
        for folder in folders(&self.root().join("contexts"))? {
            for entry in std::fs::read_dir(&folder).map_err(StoreError::io("read", &folder))? {
                let path = entry.map_err(StoreError::io("read", &folder))?.path();
                if is_memory(&path) && !self.knows_layer_in(&path)? {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
        Ok(())
    }

    fn knows_layer_in(&self, memory: &Path) -> Result<bool, StoreError> {
        let text = std::fs::read_to_string(memory).unwrap_or_default();
        let Some(layer) = text.lines().next().and_then(|line| line.parse::<Digest>().ok()) else { return Ok(false) };
        self.inner().database.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM layers WHERE diff_id = ?1 AND condemned IS NULL")?
                .exists(params![layer.as_bytes()])
        })
    }
}

/// A file that is named as a digest is.
pub(super) fn is_memory(path: &Path) -> bool {
    let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_digest) && path.is_file()
}

impl From<&Policy> for Prune {
    fn from(policy: &Policy) -> Self {
        Self {
            all: policy.all,
            unused_for: policy.keep_duration,
            filters: policy.filters.clone(),
            bounds: policy.bounds,
            dry_run: false,
        }
    }
}
