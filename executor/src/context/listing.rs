//! Reading directories: raw getdents and statx on directory descriptors, links never followed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use kiln_cache::{Device, Timestamp};
use kiln_parser::ignore::Verdict;
use kiln_solver::Digest;
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::stat_cache::Identity;
use crate::files::{Attributes, Kind};

/// Big directories are looked at by several threads, in pieces of this many files.
const PIECE: usize = 512;

/// One thing in a context.
pub(crate) struct Node {
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) identity: Identity,
    pub(crate) links: u32,
    pub(crate) device: Device,
    /// Where a symbolic link points to.
    pub(crate) target: Box<[u8]>,
    /// What `.dockerignore` says of it.
    pub(crate) verdict: Verdict,
    /// What a regular file holds, once somebody asked.
    pub(crate) content: OnceLock<Content>,
}

/// What a regular file held when it was read, or when the stat cache says that it was.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) attributes: Attributes,
}

/// Opens a directory of a context. No component may be a symbolic link: whoever asks has followed them, and a
/// link that appeared since then is somebody's trick.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a regular file of a context for reading.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<File> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY, Mode::empty(), within)
}

/// What is in a directory, sorted by name, as far as `wanted` lets it be looked at: it is told the name and
/// gives the verdict. What vanishes meanwhile was never there.
pub(crate) fn list(
    directory: BorrowedFd<'_>,
    wanted: &(dyn Fn(&[u8], bool) -> Option<Verdict> + Sync),
) -> io::Result<Vec<Node>> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !matches!(name.to_bytes(), b"." | b"..")
            && let Some(verdict) = wanted(name.to_bytes(), directory)
        {
            names.push((Box::<CStr>::from(name), verdict));
        }
    }
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let look = |(name, verdict): &(Box<CStr>, Verdict)| look(directory, name, *verdict).transpose();
    let nodes: io::Result<Vec<Node>> = if names.len() > PIECE {
        names.par_iter().with_min_len(PIECE / 2).filter_map(look).collect()
    } else {
        names.iter().filter_map(look).collect()
    };
    nodes
}

/// What a directory has under this name.
pub(crate) fn look(directory: BorrowedFd<'_>, name: &CStr, verdict: Verdict) -> io::Result<Option<Node>> {
    match rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(stat) => node(directory, name, verdict, &stat),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn node(directory: BorrowedFd<'_>, name: &CStr, verdict: Verdict, stat: &Statx) -> io::Result<Option<Node>> {
    let kind = kind(stat);
    let target = match kind {
        Kind::Symlink => match rustix::fs::readlinkat(directory, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        _ => Vec::new(),
    };
    Ok(Some(Node {
        name: name.to_bytes().into(),
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        identity: identity(stat),
        links: stat.stx_nlink,
        device: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        target: target.into(),
        verdict,
        content: OnceLock::new(),
    }))
}

/// All that tells the file behind a descriptor from others.
pub(crate) fn look_at(file: impl AsFd) -> rustix::io::Result<(Kind, Identity)> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok((kind(&stat), identity(&stat)))
}

fn kind(stat: &Statx) -> Kind {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Socket | FileType::Unknown => Kind::Socket,
    }
}

fn identity(stat: &Statx) -> Identity {
    let time = |time: rustix::fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanos: time.tv_nsec };
    Identity {
        device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
        inode: stat.stx_ino,
        size: stat.stx_size,
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
    }
}
