//! Walks a draft in the order of the index.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};

use crate::index::join;
use crate::{StoreError, sys};

/// How many directories on the way down are kept open.
const MOST_OPEN: usize = 64;
/// The longest path that Linux takes, without the NUL.
const LONGEST_PATH: usize = 4095;

/// One thing met on the way.
pub(crate) struct Seen<'w> {
    /// Its path below the root of the walk.
    pub(crate) path: &'w [u8],
    /// The directory that it is in.
    pub(crate) directory: BorrowedFd<'w>,
    /// Its name there.
    pub(crate) name: &'w [u8],
    pub(crate) stat: Stat,
}

/// A walk through everything below a directory, each directory before what is in it, siblings by name. No
/// symbolic link is followed.
pub(crate) struct Walk<'r> {
    root: &'r Path,
    root_fd: OwnedFd,
    /// From the root down to where the walk is.
    frames: Vec<Frame>,
    /// A directory met last: what is in it comes next.
    enter: Option<Vec<u8>>,
    path: Vec<u8>,
    name: Vec<u8>,
}

struct Frame {
    path: Vec<u8>,
    /// Names that are still to come, in reverse.
    names: Vec<Vec<u8>>,
    fd: Option<OwnedFd>,
}

impl<'r> Walk<'r> {
    /// Begins a walk.
    pub(crate) fn new(root: &'r Path) -> Result<Self, StoreError> {
        let root_fd = sys::open_directory(root).map_err(StoreError::io("open", root))?;
        Ok(Self { root, root_fd, frames: Vec::new(), enter: Some(Vec::new()), path: Vec::new(), name: Vec::new() })
    }

    /// The next thing.
    pub(crate) fn next(&mut self) -> Result<Option<Seen<'_>>, StoreError> {
        if let Some(path) = self.enter.take() {
            self.enter_directory(path)?;
        }
        let name = loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            match frame.names.pop() {
                Some(name) => break name,
                None => drop(self.frames.pop()),
            }
        };
        self.name = name;
        let (root, root_fd) = (self.root, &self.root_fd);
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        self.path = join(&frame.path, &self.name);
        if self.path.len() > LONGEST_PATH {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&self.path));
            return Err(StoreError::Unstorable { path, reason: "its path is longer than 4095 bytes" });
        }
        let here = || root.join(std::ffi::OsStr::from_bytes(&self.path));
        let directory: &OwnedFd = match &mut frame.fd {
            Some(fd) => fd,
            closed => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let fd = sys::open_below(root_fd, &frame.path, flags, 0).map_err(StoreError::io("open", here()))?;
                closed.insert(fd)
            }
        };
        let stat = rustix::fs::statat(directory, &self.name[..], AtFlags::SYMLINK_NOFOLLOW)
            .map_err(StoreError::io("read", here()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.enter = Some(self.path.clone());
        }
        Ok(Some(Seen { path: &self.path, directory: directory.as_fd(), name: &self.name, stat }))
    }

    fn enter_directory(&mut self, path: Vec<u8>) -> Result<(), StoreError> {
        let here = || self.root.join(std::ffi::OsStr::from_bytes(&path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = sys::open_below(&self.root_fd, &path, flags, 0).map_err(StoreError::io("open", here()))?;
        let mut names = list(&fd).map_err(StoreError::io("read", here()))?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(far) = self.frames.len().checked_sub(MOST_OPEN) {
            self.frames[far].fd = None;
        }
        self.frames.push(Frame { path, names, fd: Some(fd) });
        Ok(())
    }
}

/// The names in a directory.
fn list(directory: &OwnedFd) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
