//! A layer on disk while it is unpacked. Every call names one component below an open directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_solver::{Digest, Hasher};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tree::{NodeId, ROOT, Tree};
use crate::Whiteouts;
use crate::archive::is_hole;
use crate::index::{EntryKind, Record, Timestamp};
use crate::sys;

/// How many directories are kept open.
const MOST_OPEN: usize = 64;

/// The directory that an archive is unpacked into.
pub(crate) struct Disk {
    root: OwnedFd,
    whiteouts: Whiteouts,
    open: HashMap<NodeId, OwnedFd>,
    buffer: Vec<u8>,
    /// Whose files are whose without a word.
    own: (u32, u32),
}

impl Disk {
    /// Unpacks into this directory.
    pub(crate) fn new(root: OwnedFd, whiteouts: Whiteouts) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { root, whiteouts, open: HashMap::new(), buffer: vec![0; 128 << 10], own }
    }

    /// Makes a directory that only we may enter until [`Disk::finish_directory`].
    pub(crate) fn make_directory(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(self.directory(tree, parent)?, name, Mode::RWXU)?)
    }

    /// Writes a regular file. Gives the digest of its content.
    pub(crate) fn write_file(
        &mut self,
        tree: &Tree,
        parent: NodeId,
        name: &[u8],
        record: &Record,
        content: &mut impl Read,
    ) -> io::Result<Digest> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(self.directory(tree, parent)?, name, flags, mode)?;
        let mut file = File::from(fd);
        let mut hasher = Hasher::new();
        let mut left = record.size;
        let mut ends_in_hole = false;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = content.read(&mut self.buffer[..most])?;
            let bytes = &self.buffer[..count];
            hasher.update(bytes);
            ends_in_hole = is_hole(bytes);
            if ends_in_hole {
                file.seek_relative(count as i64)?;
            } else {
                file.write_all(bytes)?;
            }
            left -= count as u64;
        }
        if ends_in_hole {
            file.set_len(record.size)?;
        }
        self.set_owner(&file, record)?;
        self.set_xattrs(&file, record)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(record.mode))?;
        rustix::fs::futimens(&file, &timestamps(record.mtime))?;
        Ok(hasher.finish())
    }

    /// Makes a symbolic link, a device or a pipe.
    pub(crate) fn make_special(&mut self, tree: &Tree, parent: NodeId, name: &[u8], record: &Record) -> io::Result<()> {
        let (whiteouts, own) = (self.whiteouts, self.own);
        let directory = self.directory(tree, parent)?;
        let mode = Mode::from_raw_mode(record.mode);
        let device = rustix::fs::makedev(record.device.major, record.device.minor);
        let made = match record.kind {
            EntryKind::Symlink => rustix::fs::symlinkat(&record.target[..], directory, name),
            EntryKind::CharDevice => rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, device),
            EntryKind::BlockDevice => rustix::fs::mknodat(directory, name, FileType::BlockDevice, mode, device),
            _ => rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0),
        };
        let is_device = matches!(record.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        match made {
            // A user namespace has no devices: in the index alone.
            Err(Errno::PERM) if is_device && whiteouts == Whiteouts::User => return Ok(()),
            result => result?,
        }
        if (record.uid, record.gid) != own {
            let (uid, gid) = ids(record);
            let result = rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            tolerate_unmapped(result, whiteouts)?;
        }
        if record.kind != EntryKind::Symlink {
            rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
        }
        for (attribute, value) in &record.xattrs {
            let path = sys::proc_path(directory, name);
            let result = rustix::fs::lsetxattr(&path[..], &attribute[..], value, XattrFlags::empty());
            tolerate_unsupported(result, whiteouts)?;
        }
        Ok(rustix::fs::utimensat(directory, name, &timestamps(record.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a whiteout as overlayfs has them.
    pub(crate) fn make_whiteout(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> io::Result<()> {
        let directory = self.directory(tree, parent)?;
        Ok(rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)?)
    }

    /// Gives something one more name. A device that could not be made has no names.
    pub(crate) fn link(&mut self, tree: &Tree, from: NodeId, parent: NodeId, name: &[u8]) -> io::Result<()> {
        let path = tree.path(from);
        let (from_parent, from_name) = crate::index::split(&path);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let from_directory = sys::open_below(&self.root, from_parent, flags, 0)?;
        let kind = tree.record(from).kind;
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let whiteouts = self.whiteouts;
        let directory = self.directory(tree, parent)?;
        match rustix::fs::linkat(&from_directory, from_name, directory, name, AtFlags::empty()) {
            Err(Errno::NOENT) if is_device && whiteouts == Whiteouts::User => Ok(()),
            result => Ok(result?),
        }
    }

    /// Removes something, with all below it.
    pub(crate) fn remove(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> io::Result<()> {
        let directory = self.directory(tree, parent)?;
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                let path = sys::proc_path(directory, name);
                let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path);
                let result = std::fs::remove_dir_all(Path::new(path));
                self.open.clear();
                result
            }
            // A device that could not be made.
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Gives a directory, once all is in it, what its record says.
    pub(crate) fn finish_directory(&mut self, path: &[u8], record: &Record) -> io::Result<()> {
        let fd = sys::open_below(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        self.set_owner(&fd, record)?;
        self.set_xattrs(&fd, record)?;
        if record.kind == (EntryKind::Directory { opaque: true }) {
            rustix::fs::fsetxattr(&fd, self.whiteouts.opaque(), b"y", XattrFlags::empty())?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(record.mode))?;
        Ok(rustix::fs::futimens(&fd, &timestamps(record.mtime))?)
    }

    fn set_owner(&self, file: impl AsFd, record: &Record) -> io::Result<()> {
        if (record.uid, record.gid) == self.own {
            return Ok(());
        }
        let (uid, gid) = ids(record);
        tolerate_unmapped(rustix::fs::fchown(file, uid, gid), self.whiteouts)
    }

    fn set_xattrs(&self, file: impl AsFd, record: &Record) -> io::Result<()> {
        record.xattrs.iter().try_for_each(|(name, value)| {
            let result = rustix::fs::fsetxattr(file.as_fd(), &name[..], value, XattrFlags::empty());
            tolerate_unsupported(result, self.whiteouts)
        })
    }

    /// An open directory, for calls relative to it.
    fn directory(&mut self, tree: &Tree, node: NodeId) -> io::Result<BorrowedFd<'_>> {
        if node == ROOT {
            return Ok(self.root.as_fd());
        }
        if !self.open.contains_key(&node) {
            if self.open.len() >= MOST_OPEN {
                self.open.clear();
            }
            let fd = sys::open_below(&self.root, &tree.path(node), OFlags::PATH | OFlags::DIRECTORY, 0)?;
            self.open.insert(node, fd);
        }
        self.open.get(&node).map(AsFd::as_fd).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn ids(record: &Record) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(record.uid)), Some(Gid::from_raw(record.gid)))
}

fn timestamps(mtime: Timestamp) -> Timestamps {
    let time = rustix::fs::Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// An owner that the user namespace does not map is in the index alone.
fn tolerate_unmapped(result: rustix::io::Result<()>, whiteouts: Whiteouts) -> io::Result<()> {
    match result {
        Err(Errno::INVAL) if whiteouts == Whiteouts::User => Ok(()),
        result => Ok(result?),
    }
}

/// An attribute that the file system does not have, or the user namespace may not set, is in the index alone,
/// as with containerd.
fn tolerate_unsupported(result: rustix::io::Result<()>, whiteouts: Whiteouts) -> io::Result<()> {
    match result {
        Err(Errno::NOTSUP) => Ok(()),
        Err(Errno::PERM | Errno::INVAL) if whiteouts == Whiteouts::User => Ok(()),
        result => Ok(result?),
    }
}
