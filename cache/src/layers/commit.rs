//! Scans a draft: each file is read once, hashed for itself on this thread and, as part of the archive, on another if
//! there is much of it. A third one opens files ahead.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use kiln_solver::{Digest, Hasher};
use rustix::fs::{FileType, Stat};

use super::opener::{self, Content, Met, Xattrs, unstorable};
use crate::archive::{Block, Blocks, Head, WHITEOUT, end, put_entry, put_padding};
use crate::hashing::Hashing;
use crate::index::{Builder, Device, EntryKind, Record, Timestamp, split};
use crate::{StoreError, Whiteouts};

/// A PAX record ends its name with a `=`. GNU tar writes `%3D` in its place, which those who read layers take for three
/// letters; Docker refuses such names as well.
pub(crate) const NO_EQUALS: &str = "the name of one of its extended attributes has a `=`, which no archive can hold";

/// Owners that the file system could not hold, by path.
pub(super) type Owners = HashMap<Vec<u8>, (u32, u32)>;

/// What the index of this directory holds, and the digest of its archive.
pub(super) fn scan(files: &Path, whiteouts: Whiteouts, owners: &Owners) -> Result<(Builder, Digest), StoreError> {
    let mut hashing = Hashing::default();
    let blocks = Blocks::new(|block| hashing.take(block));
    let mut scan = Scan { files, owners, blocks, head: Vec::new(), links: HashMap::new(), builder: Builder::default() };
    opener::each(files, whiteouts, |met| scan.take(met))?;
    let Scan { mut blocks, builder, .. } = scan;
    let hashed = blocks.put(&end()).and_then(|()| blocks.finish());
    hashed.map_err(StoreError::io("read", files))?;
    Ok((builder, hashing.finish()?))
}

struct Scan<'a, F> {
    files: &'a Path,
    owners: &'a Owners,
    blocks: Blocks<F>,
    head: Vec<u8>,
    /// The first names of files with several.
    links: HashMap<(u64, u64), Record>,
    builder: Builder,
}

impl<F: FnMut(Block) -> io::Result<Block>> Scan<'_, F> {
    /// Takes one path into the index and the archive.
    fn take(&mut self, met: Met) -> Result<(), StoreError> {
        let Met { path, stat, content } = met;
        match content {
            // As every archiver does.
            Content::Special(FileType::Socket) => Ok(()),
            Content::Special(FileType::CharacterDevice) if stat.st_rdev == 0 => self.put(Record::whiteout(path)),
            Content::File(file, xattrs) => self.take_file(path, &stat, &file, xattrs),
            Content::Directory(found) => {
                let mut record = self.record(path, &stat, EntryKind::Directory { opaque: found.opaque });
                record.xattrs = found.kept;
                self.put(record)
            }
            Content::Symlink(target) => {
                let mut record = self.record(path, &stat, EntryKind::Symlink);
                record.target = target;
                record.mode = 0o777;
                self.put(record)
            }
            Content::Special(FileType::Fifo) => {
                let record = self.record(path, &stat, EntryKind::Fifo);
                self.put(record)
            }
            Content::Special(kind @ (FileType::CharacterDevice | FileType::BlockDevice)) => {
                let is_character = kind == FileType::CharacterDevice;
                let mut record =
                    self.record(path, &stat, if is_character { EntryKind::CharDevice } else { EntryKind::BlockDevice });
                record.device =
                    Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
                self.put(record)
            }
            Content::Special(_) => Err(unstorable(&path, "it is of an unknown type")),
        }
    }

    /// A regular file: read here and never again.
    fn take_file(&mut self, path: Vec<u8>, stat: &Stat, file: &File, xattrs: Xattrs) -> Result<(), StoreError> {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            let mut record = Record { path, kind: EntryKind::HardLink, ..first.clone() };
            record.target.clone_from(&first.path);
            return self.put(record);
        }
        let mut record = self.record(path, stat, EntryKind::File);
        record.xattrs = xattrs.kept;
        self.put_head(&record)?;
        let mut hasher = Hasher::new();
        let put = self.blocks.put_from(file, record.size, |bytes| hasher.update(bytes));
        if put.map_err(self.io("read", &record.path))? != record.size {
            let path = self.full_path(&record.path);
            return Err(StoreError::ChangedFile { path, reason: "it became shorter while it was read" });
        }
        self.head.clear();
        put_padding(record.size, &mut self.head);
        self.flush_head(&record.path)?;
        record.content = Some(hasher.finish());
        if stat.st_nlink > 1 {
            self.links.insert(identity, record.clone());
        }
        self.builder.push(record);
        Ok(())
    }

    /// What all kinds have.
    fn record(&self, path: Vec<u8>, stat: &Stat, kind: EntryKind) -> Record {
        let owner = self.owners.get(&path);
        let mut record = Record::new(path, kind, stat.st_mode & 0o7777);
        (record.uid, record.gid) = owner.copied().unwrap_or((stat.st_uid, stat.st_gid));
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
            return Err(unstorable(&record.path, "names that begin with `.wh.` mean removal in layers"));
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

    fn full_path(&self, path: &[u8]) -> PathBuf {
        opener::full_path(self.files, path)
    }

    fn io<E: Into<io::Error>>(&self, action: &'static str, path: &[u8]) -> impl FnOnce(E) -> StoreError {
        StoreError::io(action, self.full_path(path))
    }
}

/// When a file was last modified.
pub(crate) fn mtime(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

impl Whiteouts {
    /// The attribute that makes a directory opaque.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
