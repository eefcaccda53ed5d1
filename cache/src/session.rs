//! The folder of a live process below `tmp/`.
//!
//! ```text
//! tmp/SESSION/          locked with flock(2) by the process that made it, for as long as that lives
//!   draft-N/files,work  a layer in the making
//!   blob-N              a blob in the making
//!   scratch-N/          anything else
//! ```
//!
//! Whoever opens the store sweeps the sessions whose lock nobody holds. Two races are possible and both are
//! harmless: the sweeper may lock a session between its maker's mkdir and flock, then the maker finds it locked
//! or gone and makes another; and two sweepers may meet, then one of them finds it locked.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::{Store, StoreError, sys};

/// The session of one open [`Store`]. Dropped, it takes its folder away.
pub(crate) struct Session {
    directory: PathBuf,
    next: AtomicU64,
    /// Holds the lock.
    _lock: OwnedFd,
}

impl Session {
    /// Begins a session below `tmp`.
    pub(crate) fn begin(tmp: &Path) -> Result<Self, StoreError> {
        loop {
            let directory = tmp.join(sys::random_name().map_err(StoreError::io("name a session in", tmp))?);
            let io = || StoreError::io("create", &directory);
            match DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                result => result.map_err(io())?,
            }
            if let Some(lock) = lock(&directory).map_err(io())? {
                return Ok(Self { directory, next: AtomicU64::new(0), _lock: lock });
            }
        }
    }

    /// The folder.
    #[cfg(test)]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the folder that is not taken.
    pub(crate) fn name(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{kind}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new directory in the folder, with exactly this mode whatever the umask.
    pub(crate) fn make_directory(&self, kind: &str, mode: u32) -> Result<PathBuf, StoreError> {
        let path = self.name(kind);
        make_directory(&path, mode)?;
        Ok(path)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next open.
        let _ = remove_tree(&self.directory);
    }
}

/// Makes a directory with exactly this mode, whatever the umask.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), StoreError> {
    DirBuilder::new().mode(0o700).create(path).map_err(StoreError::io("create", path))?;
    if mode != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(StoreError::io("set the mode of", path))?;
    }
    Ok(())
}

/// Locks a session's folder. `None` if somebody else has locked it, or removed it in the meantime.
fn lock(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(is_at(&fd, directory)?.then_some(fd)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether something below `tmp` belongs to a live process.
pub(crate) fn is_held(path: &Path) -> bool {
    matches!(lock(path), Ok(None))
}

/// Whether an open directory is still the one at its path.
fn is_at(fd: impl AsFd, path: &Path) -> io::Result<bool> {
    let open = rustix::fs::fstat(fd)?;
    match rustix::fs::lstat(path) {
        Ok(there) => Ok((open.st_dev, open.st_ino) == (there.st_dev, there.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The folder of a session whose process has gone, locked so that nobody else takes it for his own.
pub(crate) struct Dead {
    directory: PathBuf,
    _lock: OwnedFd,
}

impl Dead {
    /// The folder.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes it. What cannot be removed stays for the next time: it is in nobody's way.
    fn bury(self) {
        let _ = remove_tree(&self.directory);
    }
}

/// The sessions below `tmp` that no live process holds.
pub(crate) fn dead(tmp: &Path) -> Result<Vec<Dead>, StoreError> {
    let mut dead = Vec::new();
    for entry in std::fs::read_dir(tmp).map_err(StoreError::io("read", tmp))? {
        let directory = entry.map_err(StoreError::io("read", tmp))?.path();
        if let Ok(Some(lock)) = lock(&directory) {
            dead.push(Dead { directory, _lock: lock });
        }
    }
    Ok(dead)
}

/// Removes the sessions below `tmp` that no live process holds.
pub(crate) fn sweep(tmp: &Path) -> Result<(), StoreError> {
    bury(dead(tmp)?);
    Ok(())
}

/// Removes dead sessions.
pub(crate) fn bury(dead: Vec<Dead>) {
    dead.into_iter().for_each(Dead::bury);
}

/// Removes a directory and all below, also where a directory denies it to its owner.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Gives the owner all rights on a directory and those below.
fn open_up(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// A private directory below `tmp/`; removed with all it holds when dropped.
pub struct Scratch {
    path: PathBuf,
    _store: Arc<crate::store::Inner>,
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

impl Store {
    /// Makes an empty private directory in the file system of the store.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        let path = self.inner().session()?.make_directory("scratch", 0o700)?;
        Ok(Scratch { path, _store: Arc::clone(self.inner()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_no_live_session_holds() {
        let tmp = tempfile::tempdir().unwrap();
        let live = Session::begin(tmp.path()).unwrap();
        let dead = Session::begin(tmp.path()).unwrap();
        let deep = dead.make_directory("draft", 0o500).unwrap();
        std::fs::create_dir_all(deep.join("a/b")).unwrap();
        let left = tmp.path().join("left");
        std::fs::rename(dead.directory(), &left).unwrap();
        drop(dead);
        std::fs::write(live.name("blob"), b"x").unwrap();
        sweep(tmp.path()).unwrap();
        assert!(!left.exists());
        assert!(live.directory().join("blob-0").exists());
        let path = live.directory().to_owned();
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn sessions_begin_while_others_sweep() {
        let tmp = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let session = Session::begin(tmp.path()).unwrap();
                        std::fs::write(session.name("blob"), b"x").unwrap();
                        sweep(tmp.path()).unwrap();
                        assert!(session.directory().join("blob-0").exists());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    }
}
