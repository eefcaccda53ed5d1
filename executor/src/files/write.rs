//! From a plan to files: directories first, then files in parallel, then links, and the directories' metadata
//! last, when nothing is put into them any more.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_cache::{LayerDraft, Timestamp, Whiteouts};
use kiln_solver::{Cancel, Hasher};
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::base::Facts;
use super::plan::{Finished, Plan, Planned, Twin, What};
use super::tree::{Bytes, Origin};
use super::{FileError, Kind, Metadata};
use crate::paths;

const CHUNK: usize = 256 * 1024;

/// Writes a plan into the draft of a layer. Returns what the plan asked of its base, as far as it is remembered.
pub(crate) fn write(
    plan: Plan,
    draft: &LayerDraft,
    whiteouts: Whiteouts,
    cancel: &Cancel,
) -> Result<Option<Facts>, FileError> {
    let root = open_directory(CWD, draft.files()).map_err(|errno| failed("open", b"", errno))?;
    let effective = (rustix::process::geteuid(), rustix::process::getegid());
    let writer = Writer { root: root.as_fd(), draft, whiteouts, effective };
    let Finished { upper, facts, scratch: _scratch } = plan.finish();
    for (path, _) in upper.iter().filter(|(_, planned)| matches!(planned.what, What::Directory { .. })) {
        rustix::fs::mkdirat(writer.root, path.as_slice(), Mode::RWXU).map_err(|errno| failed("make", path, errno))?;
    }
    let mut firsts: HashMap<Twin, &Vec<u8>> = HashMap::new();
    let mut files = Vec::new();
    let mut links = Vec::new();
    for (path, planned) in &upper {
        let What::File { bytes, twin } = &planned.what else { continue };
        match twin.map(|twin| *firsts.entry(twin).or_insert(path)) {
            Some(first) if first != path => links.push((path, first)),
            _ => files.push((path, bytes, &planned.metadata)),
        }
    }
    files.par_iter().with_min_len(8).try_for_each_init(Vec::new, |buffer, (path, bytes, metadata)| {
        if cancel.is_requested() {
            return Err(FileError::Cancelled);
        }
        writer.file(path, bytes, metadata, buffer)
    })?;
    for (path, first) in links {
        let linked = rustix::fs::linkat(writer.root, first.as_slice(), writer.root, path.as_slice(), AtFlags::empty());
        linked.map_err(|errno| failed("link", path, errno))?;
    }
    for (path, planned) in upper.iter().rev() {
        writer.rest(path, planned)?;
    }
    Ok(facts)
}

struct Writer<'a> {
    root: BorrowedFd<'a>,
    draft: &'a LayerDraft,
    whiteouts: Whiteouts,
    /// Who new files belong to by themselves.
    effective: (Uid, Gid),
}

impl Writer<'_> {
    fn file(&self, path: &[u8], bytes: &Bytes, metadata: &Metadata, buffer: &mut Vec<u8>) -> Result<(), FileError> {
        let file = match &bytes.origin {
            Origin::Scratch(scratch) => {
                rustix::fs::renameat(CWD, scratch.as_path(), self.root, path)
                    .map_err(|errno| failed("move", path, errno))?;
                self.open(path, OFlags::RDONLY)?
            }
            Origin::Context(..) | Origin::Layer(..) => self.copy(path, bytes, metadata, buffer)?,
        };
        self.finish(path, file.as_fd(), metadata)
    }

    /// Copies as much of a file as there should be, hashing what passes by.
    fn copy(
        &self,
        path: &[u8],
        bytes: &Bytes,
        metadata: &Metadata,
        buffer: &mut Vec<u8>,
    ) -> Result<OwnedFd, FileError> {
        buffer.resize(CHUNK, 0);
        let mut source = bytes.open()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Most often that is its mode already; attributes are set only where the owner may write.
        let mode = Mode::from_raw_mode(metadata.mode & 0o777) | Mode::RUSR | Mode::WUSR;
        let target = rustix::fs::openat(self.root, path, flags, mode);
        let mut target = std::fs::File::from(target.map_err(|errno| failed("create", path, errno))?);
        let mut hasher = Hasher::new();
        let mut size = 0;
        while size < bytes.size {
            let most = buffer.len().min(usize::try_from(bytes.size - size).unwrap_or(usize::MAX));
            let count = match source.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(bytes, path, error)),
            };
            hasher.update(&buffer[..count]);
            size += count as u64;
            target.write_all(&buffer[..count]).map_err(|error| failed("write", path, error))?;
        }
        if (hasher.finish(), size) != (bytes.digest, bytes.size) {
            let path = match &bytes.origin {
                Origin::Context(_, path) => path,
                Origin::Layer(_, path) => path.as_slice(),
                Origin::Scratch(_) => path,
            };
            return Err(FileError::Changed { path: paths::display(path) });
        }
        Ok(target.into())
    }

    /// Everything but files, which are there already, their names included.
    fn rest(&self, path: &[u8], planned: &Planned) -> Result<(), FileError> {
        match &planned.what {
            What::File { .. } => Ok(()),
            What::Directory { opaque, .. } => {
                let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                if *opaque {
                    let name = match self.whiteouts {
                        Whiteouts::Trusted => "trusted.overlay.opaque",
                        Whiteouts::User => "user.overlay.opaque",
                    };
                    let marked = rustix::fs::fsetxattr(&directory, name, b"y", XattrFlags::empty());
                    marked.map_err(|errno| failed("make opaque", path, errno))?;
                }
                self.finish(path, directory.as_fd(), &planned.metadata)
            }
            What::Symlink(target) => {
                let made = rustix::fs::symlinkat(target.as_slice(), self.root, path);
                made.map_err(|errno| failed("make", path, errno))?;
                self.finish_link(path, &planned.metadata)
            }
            What::Special(kind, device) => {
                let (kind, device) = match kind {
                    Kind::CharDevice => (FileType::CharacterDevice, rustix::fs::makedev(device.major, device.minor)),
                    Kind::BlockDevice => (FileType::BlockDevice, rustix::fs::makedev(device.major, device.minor)),
                    _ => (FileType::Fifo, 0),
                };
                self.special(path, kind, device)?;
                let mode = Mode::from_raw_mode(planned.metadata.mode);
                self.finish_link(path, &planned.metadata)?;
                rustix::fs::chmodat(self.root, path, mode, AtFlags::empty())
                    .map_err(|errno| failed("set the mode of", path, errno))
            }
            What::Whiteout => self.special(path, FileType::CharacterDevice, 0),
        }
    }

    fn special(&self, path: &[u8], kind: FileType, device: u64) -> Result<(), FileError> {
        let made = rustix::fs::mknodat(self.root, path, kind, Mode::RUSR | Mode::WUSR, device);
        made.map_err(|errno| failed("make the device", path, errno))
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.root, path, flags, Mode::empty()).map_err(|errno| failed("open", path, errno))
    }

    /// The metadata of a file or directory. The owner first: a change of it takes set-id bits and capabilities.
    fn finish(&self, path: &[u8], file: BorrowedFd<'_>, metadata: &Metadata) -> Result<(), FileError> {
        let owner = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        if owner != self.effective {
            self.owned(path, metadata, rustix::fs::fchown(file, Some(owner.0), Some(owner.1)))?;
        }
        for (name, value) in &metadata.attributes {
            rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).map_err(|errno| {
                let name = String::from_utf8_lossy(name);
                let source = io::Error::other(format!("extended attribute `{name}`: {}", io::Error::from(errno)));
                failed("set an attribute of", path, source)
            })?;
        }
        let set_mode = || {
            // To look is cheaper than to set.
            let is_right = rustix::fs::fstat(file)?.st_mode & 0o7777 == metadata.mode;
            if is_right { Ok(()) } else { rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode)) }
        };
        set_mode().map_err(|errno| failed("set the mode of", path, errno))?;
        rustix::fs::futimens(file, &times(metadata.modified)).map_err(|errno| failed("set the time of", path, errno))
    }

    /// Owner and time of what cannot be opened.
    fn finish_link(&self, path: &[u8], metadata: &Metadata) -> Result<(), FileError> {
        let owner = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        if owner != self.effective {
            let set = rustix::fs::chownat(self.root, path, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW);
            self.owned(path, metadata, set)?;
        }
        let set = rustix::fs::utimensat(self.root, path, &times(metadata.modified), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|errno| failed("set the time of", path, errno))
    }

    /// An owner that this user namespace has no id for is kept beside the file.
    fn owned(&self, path: &[u8], metadata: &Metadata, set: rustix::io::Result<()>) -> Result<(), FileError> {
        match set {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::PERM) => {
                self.draft.set_owner(path, metadata.uid, metadata.gid);
                Ok(())
            }
            Err(errno) => Err(failed("set the owner of", path, errno)),
        }
    }
}

fn times(modified: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanos.into() },
    }
}

fn open_directory(at: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn failed(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> FileError {
    FileError::Write { action, path: paths::display(path), source: source.into() }
}

fn unreadable(bytes: &Bytes, path: &[u8], error: io::Error) -> FileError {
    match &bytes.origin {
        Origin::Context(context, path) => context.error("read", path, error).into(),
        _ => failed("read", path, error),
    }
}
