//! Writing files below a directory without ever leaving it: every name is reached by file descriptors, and no
//! symbolic link below the directory is followed.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use kiln_cache::{Entry, EntryKind, Timestamp};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fsetxattr, linkat, makedev, mkdirat, mknodat, openat, openat2, renameat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::LocalOptions;
use crate::ImageError;

/// Where a file lies until it is complete. One name is enough: one thread writes one file at a time.
const BESIDE: &str = ".kiln-export.tmp";

/// A directory that is filled.
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    options: LocalOptions,
    /// The directory used last: neighbours follow each other.
    last: RefCell<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Tree {
    pub(super) fn open(path: &Path, options: LocalOptions) -> Result<Self, ImageError> {
        let open = || rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = open().map_err(ImageError::io("open", path))?;
        let last = RefCell::new((Vec::new(), Rc::new(open().map_err(ImageError::io("open", path))?)));
        Ok(Self { root, path: path.to_owned(), options, last })
    }

    /// Makes a directory, in the place of anything else that has its name. Only its user can get at it before
    /// [`Tree::finish_directory`].
    pub(super) fn make_directory(&self, entry: &Entry<'_>) -> Result<(), ImageError> {
        let parent = self.parent(entry)?;
        let name = OsStr::from_bytes(entry.name());
        let make = || mkdirat(parent.as_fd(), name, Mode::RWXU);
        let made = match make() {
            Err(Errno::EXIST) if kind_of(parent.as_fd(), name) == Some(FileType::Directory) => Ok(()),
            Err(Errno::EXIST) => unlinkat(parent.as_fd(), name, AtFlags::empty()).and_then(|()| make()),
            made => made,
        };
        self.check("create", entry, made)
    }

    /// Makes a directory at the top that no layer has, unless it is there.
    pub(super) fn make_folder(&self, name: &str) -> Result<(), ImageError> {
        let failed = |error: Errno| self.error("create", name.as_bytes(), error.into());
        match mkdirat(&self.root, name, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) if kind_of(self.root.as_fd(), OsStr::new(name)) == Some(FileType::Directory) => Ok(()),
            Err(Errno::EXIST) => {
                unlinkat(&self.root, name, AtFlags::empty()).map_err(failed)?;
                mkdirat(&self.root, name, Mode::from_raw_mode(0o777)).map_err(failed)
            }
            made => made.map_err(failed),
        }
    }

    /// What is in a directory: paths, and whether they are directories themselves.
    pub(super) fn list(&self, folder: &[u8]) -> Result<Vec<(Vec<u8>, bool)>, ImageError> {
        let failed = |error: Errno| self.error("read", folder, error.into());
        let opened = self.open_below(folder).map_err(failed)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&opened).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let is_folder = kind_of(opened.as_fd(), OsStr::from_bytes(name)) == Some(FileType::Directory);
            let path = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
            found.push((path, is_folder));
        }
        Ok(found)
    }

    /// Removes what is at a path, with all that is in it.
    pub(super) fn remove(&self, path: &[u8]) -> Result<(), ImageError> {
        let (folder, name) = split(path);
        let parent = self.open_below(folder).map_err(|error| self.error("open", folder, error.into()))?;
        let removed = match unlinkat(&parent, OsStr::from_bytes(name), AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_folder(parent.as_fd(), OsStr::from_bytes(name)),
            removed => removed.map_err(io::Error::from),
        };
        removed.map_err(|error| self.error("remove", path, error))
    }

    /// Gives a directory its metadata.
    pub(super) fn finish_directory(&self, entry: &Entry<'_>) -> Result<(), ImageError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = self.parent(entry)?;
        let name = OsStr::from_bytes(entry.name());
        let directory = self.check("open", entry, openat(parent.as_fd(), name, flags, Mode::empty()))?;
        self.set_metadata(directory.as_fd(), parent.as_fd(), name, entry)
    }

    /// Writes a regular file.
    pub(super) fn write_file(&self, entry: &Entry<'_>, mut content: File) -> Result<(), ImageError> {
        let parent = self.parent(entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(parent.as_fd(), BESIDE, flags, Mode::RUSR | Mode::WUSR);
        let created = match create() {
            Err(Errno::EXIST) => unlinkat(parent.as_fd(), BESIDE, AtFlags::empty()).and_then(|()| create()),
            created => created,
        };
        let mut file = File::from(self.check("create", entry, created)?);
        self.check("write", entry, io::copy(&mut content, &mut file))?;
        self.set_metadata(file.as_fd(), parent.as_fd(), OsStr::new(BESIDE), entry)?;
        self.put_in_place(parent.as_fd(), entry)
    }

    /// Gives a file one more name; `false` where the file system does not do that.
    pub(super) fn link(&self, entry: &Entry<'_>, target: &[u8]) -> Result<bool, ImageError> {
        let (folder, name) = split(target);
        let from = self.open_below(folder).map_err(|error| self.error("open", target, error.into()))?;
        let to = self.parent(entry)?;
        let _ = unlinkat(to.as_fd(), BESIDE, AtFlags::empty());
        match linkat(from.as_fd(), OsStr::from_bytes(name), to.as_fd(), BESIDE, AtFlags::empty()) {
            Ok(()) => self.put_in_place(to.as_fd(), entry).map(|()| true),
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(self.error("link", entry.path, error.into())),
        }
    }

    /// Makes a symbolic link, a named pipe or a device.
    pub(super) fn make_other(&self, entry: &Entry<'_>) -> Result<(), ImageError> {
        let parent = self.parent(entry)?;
        let _ = unlinkat(parent.as_fd(), BESIDE, AtFlags::empty());
        let device = makedev(entry.device.major, entry.device.minor);
        let node = |kind, device| mknodat(parent.as_fd(), BESIDE, kind, Mode::RUSR | Mode::WUSR, device);
        let made = match entry.kind {
            EntryKind::Symlink => symlinkat(OsStr::from_bytes(entry.target), parent.as_fd(), BESIDE),
            EntryKind::Fifo => node(FileType::Fifo, 0),
            EntryKind::CharDevice => node(FileType::CharacterDevice, device),
            EntryKind::BlockDevice => node(FileType::BlockDevice, device),
            EntryKind::File | EntryKind::HardLink | EntryKind::Directory { .. } | EntryKind::Whiteout => return Ok(()),
        };
        self.check("create", entry, made)?;
        self.set_owner(parent.as_fd(), OsStr::new(BESIDE), entry)?;
        if entry.kind != EntryKind::Symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            self.check("set the mode of", entry, chmodat(parent.as_fd(), BESIDE, mode, AtFlags::empty()))?;
        }
        self.set_time(parent.as_fd(), OsStr::new(BESIDE), entry)?;
        self.put_in_place(parent.as_fd(), entry)
    }

    /// Renames what is complete to its name, in the place of whatever has it.
    fn put_in_place(&self, parent: BorrowedFd<'_>, entry: &Entry<'_>) -> Result<(), ImageError> {
        let name = OsStr::from_bytes(entry.name());
        let rename = || renameat(parent, BESIDE, parent, name);
        let renamed = match rename() {
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                self.check("replace", entry, remove_folder(parent, name))?;
                rename()
            }
            renamed => renamed,
        };
        self.check("create", entry, renamed)?;
        // Both names may have been the same file before, and then a rename does nothing.
        match unlinkat(parent, BESIDE, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error("create", entry.path, error.into())),
        }
    }

    /// Owner, mode, extended attributes and time of a file or directory, in the order in which none undoes
    /// another.
    fn set_metadata(
        &self,
        file: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry<'_>,
    ) -> Result<(), ImageError> {
        self.set_owner(parent, name, entry)?;
        self.check("set the mode of", entry, fchmod(file, Mode::from_raw_mode(entry.mode)))?;
        for (attribute, value) in entry.xattrs() {
            let foreign = !attribute.starts_with(b"user.") && !self.options.keep_owners;
            if foreign {
                continue;
            }
            match fsetxattr(file, OsStr::from_bytes(attribute), value, XattrFlags::empty()) {
                // A file system without them cannot keep them.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(self.error("set an extended attribute of", entry.path, error.into())),
            }
        }
        self.set_time(parent, name, entry)
    }

    fn set_owner(&self, parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry<'_>) -> Result<(), ImageError> {
        if !self.options.keep_owners {
            return Ok(());
        }
        let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        self.check("set the owner of", entry, chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn set_time(&self, parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry<'_>) -> Result<(), ImageError> {
        let time = self.options.mtime.map_or(entry.mtime, Timestamp::from);
        let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        self.check("set the time of", entry, utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn parent(&self, entry: &Entry<'_>) -> Result<Rc<OwnedFd>, ImageError> {
        let (folder, _) = split(entry.path);
        let mut last = self.last.borrow_mut();
        if last.0 != folder {
            let opened = self.open_below(folder).map_err(|error| self.error("open", folder, error.into()))?;
            *last = (folder.to_vec(), Rc::new(opened));
        }
        Ok(last.1.clone())
    }

    fn open_below(&self, folder: &[u8]) -> rustix::io::Result<OwnedFd> {
        let folder = if folder.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(folder) };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.root, folder, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    fn check<T, E: Into<io::Error>>(
        &self,
        action: &'static str,
        entry: &Entry<'_>,
        outcome: Result<T, E>,
    ) -> Result<T, ImageError> {
        outcome.map_err(|error| self.error(action, entry.path, error.into()))
    }

    fn error(&self, action: &'static str, path: &[u8], error: io::Error) -> ImageError {
        ImageError::io(action, self.path.join(OsStr::from_bytes(path)))(error)
    }
}

/// The standard library removes trees without following symbolic links.
fn remove_folder(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&parent)));
    std::fs::remove_dir_all(path.join(name))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn kind_of(parent: BorrowedFd<'_>, name: &OsStr) -> Option<FileType> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}
