//! Scans a draft: each file is read once, hashed for itself on this thread and, as part of the archive, on another if
//! there is much of it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_solver::{Digest, Hasher};
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::walk::{Seen, Walk};
use crate::archive::{Block, Blocks, Head, WHITEOUT, end, put_entry, put_padding};
use crate::extractor::is_overlayfs_xattr;
use crate::hashing::Hashing;
use crate::index::{Builder, Device, EntryKind, Record, Timestamp, split};
use crate::{StoreError, Whiteouts, sys};

/// A PAX record ends its name with a `=`. GNU tar writes `%3D` in its place, which those who read layers take for three
/// letters; Docker refuses such names as well.
pub(crate) const NO_EQUALS: &str = "the name of one of its extended attributes has a `=`, which no archive can hold";

/// Owners that the file system could not hold, by path.
pub(super) type Owners = HashMap<Vec<u8>, (u32, u32)>;

/// What the index of this directory holds, and the digest of its archive.
pub(super) fn scan(files: &Path, whiteouts: Whiteouts, owners: &Owners) -> Result<(Builder, Digest), StoreError> {
    let mut hashing = Hashing::default();
    let blocks = Blocks::new(|block| hashing.take(block));
    let mut scan =
        Scan { files, whiteouts, owners, blocks, head: Vec::new(), links: HashMap::new(), builder: Builder::default() };
    let mut walk = Walk::new(files)?;
    while let Some(seen) = walk.next()? {
        scan.take(&seen)?;
    }
    let Scan { mut blocks, builder, .. } = scan;
    let hashed = blocks.put(&end()).and_then(|()| blocks.finish());
    hashed.map_err(StoreError::io("read", files))?;
    Ok((builder, hashing.finish()?))
}

struct Scan<'a, F> {
    files: &'a Path,
    whiteouts: Whiteouts,
    owners: &'a Owners,
    blocks: Blocks<F>,
    head: Vec<u8>,
    /// The first names of files with several.
    links: HashMap<(u64, u64), Record>,
    builder: Builder,
}

impl<F: FnMut(Block) -> io::Result<Block>> Scan<'_, F> {
    /// Takes one path into the index and the archive.
    fn take(&mut self, seen: &Seen<'_>) -> Result<(), StoreError> {
        let stat = &seen.stat;
        match FileType::from_raw_mode(stat.st_mode) {
            // As every archiver does.
            FileType::Socket => Ok(()),
            FileType::CharacterDevice if stat.st_rdev == 0 => self.put(Record::whiteout(seen.path.to_vec())),
            FileType::RegularFile => self.take_file(seen),
            FileType::Directory => {
                let fd = self.open(seen, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let found = self.xattrs(fd.as_fd(), seen.path)?;
                let mut record = self.record(seen, EntryKind::Directory { opaque: found.opaque });
                record.xattrs = found.kept;
                self.put(record)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(seen.directory, seen.name, Vec::new());
                let mut record = self.record(seen, EntryKind::Symlink);
                record.target = target.map_err(self.io("read", seen.path))?.into_bytes();
                record.mode = 0o777;
                self.put(record)
            }
            FileType::Fifo => self.put(self.record(seen, EntryKind::Fifo)),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let is_character = kind == FileType::CharacterDevice;
                let mut record =
                    self.record(seen, if is_character { EntryKind::CharDevice } else { EntryKind::BlockDevice });
                record.device =
                    Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
                self.put(record)
            }
            FileType::Unknown => Err(self.unstorable(seen.path, "it is of an unknown type")),
        }
    }

    /// A regular file: read here and never again.
    fn take_file(&mut self, seen: &Seen<'_>) -> Result<(), StoreError> {
        let identity = (seen.stat.st_dev, seen.stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            let mut record = Record { path: seen.path.to_vec(), kind: EntryKind::HardLink, ..first.clone() };
            record.target.clone_from(&first.path);
            return self.put(record);
        }
        let file = File::from(self.open(seen, OFlags::RDONLY)?);
        let mut record = self.record(seen, EntryKind::File);
        record.xattrs = self.xattrs(file.as_fd(), seen.path)?.kept;
        self.put_head(&record)?;
        let mut hasher = Hasher::new();
        let put = self.blocks.put_from(&file, record.size, |bytes| hasher.update(bytes));
        if put.map_err(self.io("read", seen.path))? != record.size {
            let path = self.full_path(seen.path);
            return Err(StoreError::ChangedFile { path, reason: "it became shorter while it was read" });
        }
        self.head.clear();
        put_padding(record.size, &mut self.head);
        self.flush_head(seen.path)?;
        record.content = Some(hasher.finish());
        if seen.stat.st_nlink > 1 {
            self.links.insert(identity, record.clone());
        }
        self.builder.push(record);
        Ok(())
    }

    /// What all kinds have.
    fn record(&self, seen: &Seen<'_>, kind: EntryKind) -> Record {
        let stat = &seen.stat;
        let mut record = Record::new(seen.path.to_vec(), kind, stat.st_mode & 0o7777);
        (record.uid, record.gid) = self.owners.get(seen.path).copied().unwrap_or((stat.st_uid, stat.st_gid));
        record.mtime = mtime(stat);
        if kind == EntryKind::File {
            record.size = stat.st_size.cast_unsigned();
        }
        record
    }

    fn put(&mut self, record: Record) -> Result<(), StoreError> {
        self.put_head(&record)?;
        self.builder.push(record);
        Ok(())
    }

    fn put_head(&mut self, record: &Record) -> Result<(), StoreError> {
        if split(&record.path).1.starts_with(WHITEOUT) {
            return Err(self.unstorable(&record.path, "names that begin with `.wh.` mean removal in layers"));
        }
        self.head.clear();
        put_entry(&Head::from(record), &mut self.head);
        self.flush_head(&record.path)
    }

    fn flush_head(&mut self, path: &[u8]) -> Result<(), StoreError> {
        let head = std::mem::take(&mut self.head);
        let put = self.blocks.put(&head);
        self.head = head;
        put.map_err(self.io("hash", path))
    }

    fn open(&self, seen: &Seen<'_>, flags: OFlags) -> Result<std::os::fd::OwnedFd, StoreError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(seen.directory, seen.name, flags, Mode::empty()).map_err(self.io("open", seen.path))
    }

    /// The extended attributes that a layer keeps, as buildah does: those of the user and file capabilities.
    /// Labels and access lists are the host's own.
    fn xattrs(&self, file: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs, StoreError> {
        let mut found = Xattrs::default();
        for name in sys::list_xattrs(file).map_err(self.io("read the attributes of", path))? {
            let value = || sys::get_xattr(file, &name).map_err(self.io("read the attributes of", path));
            if let Some(mark) = name.strip_prefix(self.whiteouts.prefix()) {
                match mark {
                    b"opaque" if value()? == b"y" => found.opaque = true,
                    b"opaque" | b"redirect" | b"metacopy" | b"whiteout" => {
                        return Err(self.unstorable(path, "overlayfs was mounted with a feature that kiln turns off"));
                    }
                    _ => {}
                }
            } else if name == b"security.capability" || (name.starts_with(b"user.") && !is_overlayfs_xattr(&name)) {
                if name.contains(&b'=') {
                    return Err(self.unstorable(path, NO_EQUALS));
                }
                found.kept.push((name.clone(), value()?));
            }
        }
        found.kept.sort();
        Ok(found)
    }

    fn full_path(&self, path: &[u8]) -> PathBuf {
        self.files.join(std::ffi::OsStr::from_bytes(path))
    }

    fn io<E: Into<io::Error>>(&self, action: &'static str, path: &[u8]) -> impl FnOnce(E) -> StoreError {
        StoreError::io(action, self.full_path(path))
    }

    fn unstorable(&self, path: &[u8], reason: &'static str) -> StoreError {
        StoreError::Unstorable { path: PathBuf::from(std::ffi::OsStr::from_bytes(path)), reason }
    }
}

#[derive(Default)]
struct Xattrs {
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
}

/// When a file was last modified.
pub(crate) fn mtime(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

impl Whiteouts {
    /// What the names of overlayfs's own attributes begin with.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The attribute that makes a directory opaque.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
