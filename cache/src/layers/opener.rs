//! Opens what a draft holds, a little ahead of who reads it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::commit::NO_EQUALS;
use super::walk::{Seen, Walk};
use crate::extractor::is_overlayfs_xattr;
use crate::{StoreError, Whiteouts, sys};

/// How much is opened before it is handed on. What has less is not worth a thread.
const BATCH: usize = 16;
/// How many batches wait.
const AHEAD: usize = 2;

/// One thing of a draft.
pub(super) struct Met {
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    pub(super) content: Content,
}

/// What there is to it beside its metadata.
pub(super) enum Content {
    /// A regular file, open for reading.
    File(File, Xattrs),
    /// A directory.
    Directory(Xattrs),
    /// Where a symbolic link points to.
    Symlink(Vec<u8>),
    /// A device, a pipe or a socket.
    Special(FileType),
}

/// The extended attributes that count.
#[derive(Default)]
pub(super) struct Xattrs {
    pub(super) kept: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) opaque: bool,
}

/// Opens one thing after the other.
struct Opener<'a> {
    files: &'a Path,
    whiteouts: Whiteouts,
    walk: Walk<'a>,
}

/// Shows all that is in a directory to `take`, in the order of the index.
pub(super) fn each(
    files: &Path,
    whiteouts: Whiteouts,
    mut take: impl FnMut(Met) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut opener = Opener { files, whiteouts, walk: Walk::new(files)? };
    let first = opener.batch()?;
    let is_all = first.len() < BATCH;
    first.into_iter().try_for_each(&mut take)?;
    if is_all {
        return Ok(());
    }
    let (send, batches) = mpsc::sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let ahead = std::thread::Builder::new().spawn_scoped(scope, move || opener.send_all(&send));
        let ahead = ahead.map_err(|_| StoreError::Thread("start a thread to read a layer"))?;
        let taken = batches.into_iter().try_for_each(|batch| batch?.into_iter().try_for_each(&mut take));
        ahead.join().map_err(|_| StoreError::Thread("go on: a thread that read a layer died"))?;
        taken
    })
}

impl Opener<'_> {
    /// Until the end, an error, or nobody listens.
    fn send_all(mut self, send: &mpsc::SyncSender<Result<Vec<Met>, StoreError>>) {
        loop {
            let batch = self.batch();
            let is_last = !batch.as_ref().is_ok_and(|batch| batch.len() == BATCH);
            if send.send(batch).is_err() || is_last {
                return;
            }
        }
    }

    /// The next ones; only the last batch is not full.
    fn batch(&mut self) -> Result<Vec<Met>, StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(seen) = self.walk.next()? else { break };
            batch.push(open(self.files, self.whiteouts, &seen)?);
        }
        Ok(batch)
    }
}

fn open(files: &Path, whiteouts: Whiteouts, seen: &Seen<'_>) -> Result<Met, StoreError> {
    let io = |action| StoreError::io(action, full_path(files, seen.path));
    let open = |flags| -> Result<OwnedFd, StoreError> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(seen.directory, seen.name, flags, Mode::empty()).map_err(io("open"))
    };
    let content = match FileType::from_raw_mode(seen.stat.st_mode) {
        FileType::RegularFile => {
            let file = File::from(open(OFlags::empty())?);
            let xattrs = xattrs(files, whiteouts, file.as_fd(), seen.path)?;
            Content::File(file, xattrs)
        }
        FileType::Directory => {
            Content::Directory(xattrs(files, whiteouts, open(OFlags::DIRECTORY)?.as_fd(), seen.path)?)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(seen.directory, seen.name, Vec::new());
            Content::Symlink(target.map_err(io("read"))?.into_bytes())
        }
        kind => Content::Special(kind),
    };
    Ok(Met { path: seen.path.to_vec(), stat: seen.stat, content })
}

/// The extended attributes that a layer keeps, as buildah does: those of the user and file capabilities.
/// Labels and access lists are the host's own.
fn xattrs(files: &Path, whiteouts: Whiteouts, file: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs, StoreError> {
    let io = || StoreError::io("read the attributes of", full_path(files, path));
    let mut found = Xattrs::default();
    for name in sys::list_xattrs(file).map_err(io())? {
        let value = || sys::get_xattr(file, &name).map_err(io());
        if let Some(mark) = name.strip_prefix(whiteouts.prefix()) {
            match mark {
                b"opaque" if value()? == b"y" => found.opaque = true,
                b"opaque" | b"redirect" | b"metacopy" | b"whiteout" => {
                    return Err(unstorable(path, "overlayfs was mounted with a feature that kiln turns off"));
                }
                _ => {}
            }
        } else if name == b"security.capability" || (name.starts_with(b"user.") && !is_overlayfs_xattr(&name)) {
            if name.contains(&b'=') {
                return Err(unstorable(path, NO_EQUALS));
            }
            found.kept.push((name.clone(), value()?));
        }
    }
    found.kept.sort();
    Ok(found)
}

pub(super) fn full_path(files: &Path, path: &[u8]) -> PathBuf {
    files.join(std::ffi::OsStr::from_bytes(path))
}

pub(super) fn unstorable(path: &[u8], reason: &'static str) -> StoreError {
    StoreError::Unstorable { path: PathBuf::from(std::ffi::OsStr::from_bytes(path)), reason }
}

impl Whiteouts {
    /// What the names of overlayfs's own attributes begin with.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }
}
