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

use super::stat_cache::{Identity, Known, StatCache};
use crate::files::{Attributes, Kind, NO_DEVICE};

/// Big directories are looked at by several threads, in pieces of this many files.
const PIECE: usize = 512;

/// One thing in a context. There may be very many of them.
pub(crate) struct Node {
    name: Name,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) identity: Identity,
    pub(crate) links: u32,
    special: Option<Box<Special>>,
    /// What `.dockerignore` says of it.
    pub(crate) verdict: Verdict,
    /// What a regular file holds, once somebody asked.
    pub(crate) content: OnceLock<Content>,
}

/// Where the name of a node is among the [`Names`] of its directory.
#[derive(Clone, Copy)]
pub(super) struct Name {
    start: u32,
    length: u16,
}

/// The names of all nodes of a directory, each with a NUL behind it: one piece of memory for all of them.
#[derive(Default)]
pub(super) struct Names(Vec<u8>);

impl Names {
    fn push(&mut self, name: &CStr) -> io::Result<Name> {
        let too_long = |_| io::Error::from(Errno::NAMETOOLONG);
        let start = u32::try_from(self.0.len()).map_err(too_long)?;
        let length = u16::try_from(name.count_bytes()).map_err(too_long)?;
        self.0.extend_from_slice(name.to_bytes_with_nul());
        Ok(Name { start, length })
    }

    fn get(&self, name: Name) -> &[u8] {
        let start = name.start as usize;
        self.0.get(start..start + usize::from(name.length)).unwrap_or_default()
    }

    fn c_str(&self, name: Name) -> &CStr {
        let from = self.0.get(name.start as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(from).unwrap_or_default()
    }
}

/// What few nodes have.
struct Special {
    device: Device,
    target: Vec<u8>,
}

impl Node {
    /// What it is called in its directory, which has these names.
    pub(super) fn name<'n>(&self, names: &'n Names) -> &'n [u8] {
        names.get(self.name)
    }

    /// The number of a device.
    pub(crate) fn device(&self) -> Device {
        self.special.as_ref().map_or(NO_DEVICE, |special| special.device)
    }

    /// Where a symbolic link points to.
    pub(crate) fn target(&self) -> &[u8] {
        self.special.as_ref().map_or(&[], |special| &special.target)
    }
}

/// What a regular file held when it was read, or when the stat cache says that it was.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// None where there are none.
    pub(crate) attributes: Option<Box<Attributes>>,
}

impl Content {
    pub(super) fn new(digest: Digest, size: u64, attributes: Attributes) -> Self {
        Self { digest, size, attributes: (!attributes.is_empty()).then(|| Box::new(attributes)) }
    }
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
/// gives the verdict. What vanishes meanwhile was never there. What `known` tells of files is taken down at once, by
/// the thread that has just looked at them.
pub(crate) fn list(
    directory: BorrowedFd<'_>,
    wanted: &(dyn Fn(&[u8], bool) -> Option<Verdict> + Sync),
    known: &StatCache,
) -> io::Result<(Names, Vec<Node>)> {
    let (mut names, mut found) = (Names::default(), Vec::new());
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let is_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !matches!(name.to_bytes(), b"." | b"..")
            && let Some(verdict) = wanted(name.to_bytes(), is_directory)
        {
            found.push((names.push(name)?, verdict));
        }
    }
    found.sort_unstable_by(|one, other| names.get(one.0).cmp(names.get(other.0)));
    let look_at_all = |found: &[(Name, Verdict)]| -> io::Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(found.len());
        for &(name, verdict) in found {
            if let Some(node) = look_at_one(directory, &names, name, verdict)? {
                remember(&node, known);
                nodes.push(node);
            }
        }
        Ok(nodes)
    };
    let nodes = if found.len() <= PIECE {
        look_at_all(&found)?
    } else {
        let parts: Vec<Vec<Node>> = found.par_chunks(PIECE / 2).map(look_at_all).collect::<io::Result<_>>()?;
        parts.into_iter().flatten().collect()
    };
    Ok((names, nodes))
}

/// Takes down what an earlier build found in a file. One with attributes has to be opened for them: that is left to
/// whoever needs it.
fn remember(node: &Node, known: &StatCache) {
    if node.kind == Kind::File
        && let Some(Known { digest, attributes: false }) = known.find(&node.identity)
    {
        let _ = node.content.set(Content { digest, size: node.identity.size, attributes: None });
    }
}

/// What a directory has under this name, as if it had nothing else.
pub(super) fn look(directory: BorrowedFd<'_>, name: &CStr, verdict: Verdict) -> io::Result<Option<(Names, Node)>> {
    let mut names = Names::default();
    let name = names.push(name)?;
    let node = look_at_one(directory, &names, name, verdict)?;
    Ok(node.map(|node| (names, node)))
}

fn look_at_one(directory: BorrowedFd<'_>, names: &Names, name: Name, verdict: Verdict) -> io::Result<Option<Node>> {
    let path = names.c_str(name);
    let stat = match rustix::fs::statx(directory, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = kind(&stat);
    let target = match kind {
        Kind::Symlink => match rustix::fs::readlinkat(directory, path, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        _ => Vec::new(),
    };
    let device = Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor };
    let special = (device != NO_DEVICE || !target.is_empty()).then(|| Box::new(Special { device, target }));
    Ok(Some(Node {
        name,
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        identity: identity(&stat),
        links: stat.stx_nlink,
        special,
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
