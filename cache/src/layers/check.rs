//! Checks layers that something may have damaged: a power loss, a bad disk, or somebody who wrote to the store.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_solver::{Digest, Hasher};
use rustix::fs::FileType;

use super::commit::{self, Owners};
use super::walk::{Seen, Walk};
use crate::index::{Entry, EntryKind, Index};
use crate::{StoreError, Whiteouts};

/// What is wrong with a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its index is not there.
    NoIndex,
    /// Its index is not one, or another layer's.
    BadIndex,
    /// A path that the index names is not there.
    Missing(PathBuf),
    /// A path is there that the index does not name.
    Unexpected(PathBuf),
    /// A path is of another kind or size.
    Different(PathBuf),
    /// A file has other bytes.
    Changed(PathBuf),
    /// Some byte or attribute differs.
    Other,
    /// The disk cannot read it.
    Unreadable,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIndex => formatter.write_str("its index is missing"),
            Self::BadIndex => formatter.write_str("its index is damaged"),
            Self::Missing(path) => write!(formatter, "`/{}` is missing", path.display()),
            Self::Unexpected(path) => write!(formatter, "`/{}` does not belong to it", path.display()),
            Self::Different(path) => write!(formatter, "`/{}` is of another kind or size", path.display()),
            Self::Changed(path) => write!(formatter, "`/{}` has other bytes", path.display()),
            Self::Other => formatter.write_str("a file or attribute of it was changed"),
            Self::Unreadable => formatter.write_str("the disk cannot read all of it"),
        }
    }
}

/// Whether the files of a layer are, in every byte and attribute, what its index says, and the index is whole.
///
/// # Errors
/// When the disk fails; a layer that is not there, or not a layer any more, is an answer.
pub(crate) fn is_whole(directory: &Path, whiteouts: Whiteouts) -> Result<bool, StoreError> {
    Ok(check_contents(directory, whiteouts, None)?.is_none())
}

/// What is wrong with a layer in any byte or attribute; `archive` is the digest of the archive that kiln writes of it.
///
/// # Errors
/// When the disk fails.
pub(crate) fn check_contents(
    directory: &Path,
    whiteouts: Whiteouts,
    archive: Option<Digest>,
) -> Result<Option<Fault>, StoreError> {
    let path = directory.join("index");
    let recorded = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Fault::NoIndex)),
        recorded => recorded.map_err(StoreError::io("read", &path))?,
    };
    let Ok(index) = Index::open(&path) else { return Ok(Some(Fault::BadIndex)) };
    if index.entries().any(|entry| is_unmappable(&entry, whiteouts)) {
        return answer(Comparison::new(directory, &index, whiteouts).run(true));
    }
    let owners = match whiteouts {
        Whiteouts::Trusted => Owners::new(),
        // A user namespace need not be able to show the owners that the index names.
        Whiteouts::User => index.entries().map(|entry| (entry.path.to_vec(), (entry.uid, entry.gid))).collect(),
    };
    answer(match commit::scan(&directory.join("files"), whiteouts, &owners) {
        Ok((builder, digest)) => {
            let same = builder.finish().0 == recorded && archive.is_none_or(|archive| archive == digest);
            // Which file it is, if it is one.
            if same {
                Ok(None)
            } else {
                Comparison::new(directory, &index, whiteouts).run(true).map(|f| f.or(Some(Fault::Other)))
            }
        }
        Err(error) => Err(error),
    })
}

/// What is wrong with the index of a layer, or with the kinds and sizes of its files; `content` is the content digest
/// that it must have.
///
/// # Errors
/// When the disk fails.
pub(crate) fn check_sizes(
    directory: &Path,
    whiteouts: Whiteouts,
    content: Option<Digest>,
) -> Result<Option<Fault>, StoreError> {
    let path = directory.join("index");
    match Index::open(&path) {
        Ok(index) if content.is_none_or(|content| content == index.content()) => {
            answer(Comparison::new(directory, &index, whiteouts).run(false))
        }
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Some(Fault::NoIndex)),
        Err(error @ StoreError::Io { .. }) => Err(error),
        _ => Ok(Some(Fault::BadIndex)),
    }
}

/// Tells faults of the layer from those of the machine.
fn answer(checked: Result<Option<Fault>, StoreError>) -> Result<Option<Fault>, StoreError> {
    match checked {
        Err(StoreError::Io { source, .. }) if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Ok(Some(Fault::Unreadable))
        }
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Some(Fault::Other)),
        Err(StoreError::Unstorable { .. } | StoreError::ChangedFile { .. }) => Ok(Some(Fault::Other)),
        checked => checked,
    }
}

/// Whether an entry is in the index alone: a user namespace cannot make devices.
fn is_unmappable(entry: &Entry<'_>, whiteouts: Whiteouts) -> bool {
    whiteouts == Whiteouts::User && matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice)
}

/// Goes through index and files at once, which have the same order.
struct Comparison<'a> {
    directory: &'a Path,
    index: &'a Index,
    whiteouts: Whiteouts,
}

impl<'a> Comparison<'a> {
    fn new(directory: &'a Path, index: &'a Index, whiteouts: Whiteouts) -> Self {
        Self { directory, index, whiteouts }
    }

    /// The first fault; with `hash`, files are read.
    fn run(&self, hash: bool) -> Result<Option<Fault>, StoreError> {
        let files = self.directory.join("files");
        let mut walk = match Walk::new(&files) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Fault::Missing(PathBuf::new())));
            }
            walk => walk?,
        };
        let mut entries = self.index.entries().filter(|entry| !is_unmappable(entry, self.whiteouts));
        while let Some(seen) = walk.next()? {
            let path = |path: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(path));
            // What a command left of its sockets is no part of the layer.
            if FileType::from_raw_mode(seen.stat.st_mode) == FileType::Socket {
                continue;
            }
            let Some(entry) = entries.next() else { return Ok(Some(Fault::Unexpected(path(seen.path)))) };
            if entry.path != seen.path {
                let earlier = crate::index::compare_paths(entry.path, seen.path).is_lt();
                return Ok(Some(if earlier {
                    Fault::Missing(path(entry.path))
                } else {
                    Fault::Unexpected(path(seen.path))
                }));
            }
            if !is_alike(&entry, &seen) {
                return Ok(Some(Fault::Different(path(seen.path))));
            }
            if hash && entry.is_file() && digest_of(&files.join(path(seen.path)))? != entry.content {
                return Ok(Some(Fault::Changed(path(seen.path))));
            }
        }
        let left = entries.next().map(|entry| PathBuf::from(std::ffi::OsStr::from_bytes(entry.path)));
        Ok(left.map(Fault::Missing))
    }
}

fn is_alike(entry: &Entry<'_>, seen: &Seen<'_>) -> bool {
    let stat = &seen.stat;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => entry.is_file() && entry.size == stat.st_size.cast_unsigned(),
        FileType::Directory => entry.is_directory(),
        FileType::Symlink => entry.kind == EntryKind::Symlink,
        FileType::Fifo => entry.kind == EntryKind::Fifo,
        FileType::CharacterDevice if stat.st_rdev == 0 => entry.kind == EntryKind::Whiteout,
        FileType::CharacterDevice => entry.kind == EntryKind::CharDevice,
        FileType::BlockDevice => entry.kind == EntryKind::BlockDevice,
        FileType::Socket | FileType::Unknown => false,
    }
}

fn digest_of(path: &Path) -> Result<Option<Digest>, StoreError> {
    let mut hasher = Hasher::new();
    let mut file = std::fs::File::open(path).map_err(StoreError::io("open", path))?;
    std::io::copy(&mut file, &mut hasher).map_err(StoreError::io("read", path))?;
    Ok(Some(hasher.finish()))
}
