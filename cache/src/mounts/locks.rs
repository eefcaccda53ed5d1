//! The locks of a cache mount, those that builds take: `lock` by whoever looks for a copy, `N/lock` by whoever uses one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{MountWatch, copies};
use crate::StoreError;

/// How often a lock that somebody else has is tried again: nothing tells when it is free.
const PAUSE: Duration = Duration::from_millis(10);

/// A mount that nobody else looks at or uses, for as long as this lives.
pub(super) struct Locked {
    /// The numbers of its copies, in order.
    pub(super) copies: Vec<u32>,
    _locks: Vec<OwnedFd>,
}

/// Waits until no build has the mount in this folder, and keeps builds from it.
pub(super) fn lock(mount: &Path, id: &str, watch: &MountWatch<'_>) -> Result<Locked, StoreError> {
    let mut told = false;
    loop {
        if let Some(locked) = try_lock(mount)? {
            return Ok(locked);
        }
        if !std::mem::replace(&mut told, true) {
            (watch.on_wait)(id);
        }
        if watch.cancel.is_requested() {
            return Err(StoreError::Cancelled);
        }
        std::thread::sleep(PAUSE);
    }
}

/// All the locks or none: whoever waits holds none that another could want.
fn try_lock(mount: &Path) -> Result<Option<Locked>, StoreError> {
    let Some(first) = try_file(&mount.join("lock"))? else { return Ok(None) };
    let copies = copies(mount)?;
    let mut locks = vec![first];
    for number in &copies {
        match try_file(&mount.join(number.to_string()).join("lock"))? {
            Some(lock) => locks.push(lock),
            None => return Ok(None),
        }
    }
    Ok(Some(Locked { copies, _locks: locks }))
}

fn try_file(path: &Path) -> Result<Option<OwnedFd>, StoreError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(StoreError::io("open", path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(is_at(&file, path).map_err(StoreError::io("lock", path))?.then_some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(StoreError::io("lock", path)(error)),
    }
}

/// Whether an open file is still the one at its path: a mount may have been exchanged since.
pub(crate) fn is_at(file: impl AsFd, path: &Path) -> io::Result<bool> {
    let open = rustix::fs::fstat(file)?;
    match rustix::fs::lstat(path) {
        Ok(there) => Ok((open.st_dev, open.st_ino) == (there.st_dev, there.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
