//! Making, locking and removing the directory of a group.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// What the names of kiln's groups begin with.
const PREFIX: &str = "kiln-";

/// How often a name is tried that somebody else has at this moment.
const TRIES: usize = 100;

/// How long a group may stay busy after the end of its last process, in milliseconds. The kernel takes a moment to let
/// go of a process.
const PATIENCE: u64 = 2_000;

/// A group that is this process's own until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(super) path: PathBuf,
    /// Tells other kilns that there is an owner, and is gone with that, however it ends.
    _lock: OwnedFd,
}

impl Directory {
    /// A new group below `parent`.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Between the two another kiln may have taken it for one that nobody owns.
            if let Some(lock) = lock(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is for the next kiln.
        let _ = remove(&self.path);
    }
}

/// The lock on a group; nothing where another process has it, or the group is gone.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other?,
    }
    let locked = rustix::fs::fstat(&directory)?;
    let same = |there: fs::Metadata| (there.dev(), there.ino()) == (locked.st_dev, locked.st_ino);
    Ok(fs::symlink_metadata(path).is_ok_and(same).then_some(directory))
}

/// Removes the groups below `parent` that kilns have left behind which were killed.
pub(crate) fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_ours)
            && let Ok(Some(_lock)) = lock(&entry.path())
        {
            let _ = remove(&entry.path());
        }
    }
}

/// Whether a name is one of those that [`Directory::make`] gives; people may have groups that begin alike.
fn is_ours(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix(PREFIX).and_then(|numbers| numbers.split_once('-'));
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
}

/// Removes a group in which nothing runs any more, with all below it. One that is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let mut waited = 0;
    loop {
        match remove_now(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && waited < PATIENCE => {
                let pause = (waited / 4).clamp(1, 20);
                std::thread::sleep(Duration::from_millis(pause));
                waited += pause;
            }
            other => return other,
        }
    }
}

/// The files of a group go with it; what has to go first are the groups below it.
fn remove_now(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_now(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> usize {
        fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn a_group_lives_as_long_as_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (Directory::make(parent.path()).unwrap(), Directory::make(parent.path()).unwrap());
        assert_ne!(first.path, second.path);
        fs::create_dir_all(first.path.join("nested/deeper")).unwrap();
        sweep(parent.path());
        assert_eq!(names(parent.path()), 2, "both have an owner");
        drop(first);
        assert_eq!(names(parent.path()), 1);
        fs::remove_dir(&second.path).unwrap();
        drop(second);
    }

    #[test]
    fn what_nobody_owns_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let others = ["other", "kiln-builds", "kiln-1", "kiln-1-", "kiln--1", "kiln-1-2-3"];
        for name in others.iter().chain(&["kiln-1-0/nested", "kiln-99-7"]) {
            fs::create_dir_all(parent.path().join(name)).unwrap();
        }
        sweep(parent.path());
        assert_eq!(names(parent.path()), others.len());
        assert!(others.iter().all(|name| parent.path().join(name).exists()));
        sweep(&parent.path().join("nowhere"));
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let number = |group: &Directory| {
            let name = group.path.to_str().unwrap();
            name.rsplit('-').next().unwrap().parse::<u64>().unwrap()
        };
        let next = number(&Directory::make(parent.path()).unwrap()) + 1;
        for ahead in 0..8 {
            fs::create_dir(parent.path().join(format!("kiln-{}-{}", std::process::id(), next + ahead))).unwrap();
        }
        assert!(number(&Directory::make(parent.path()).unwrap()) >= next);
    }
}
