//! Writes cache mounts into an archive.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{FORMAT, MANIFEST, Manifest, Mount, MountWatch, locks};
use crate::archive::{Block, Blocks, Head, end, parts_with_data, put_entry, put_padding, put_sparse};
use crate::extractor::is_overlayfs_xattr;
use crate::index::{Device, EntryKind, join};
use crate::layers::commit::{NO_EQUALS, mtime};
use crate::layers::walk::{Seen, Walk};
use crate::{Compression, Store, StoreError, sys};

/// What went into an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The ids of the mounts, in order, each once.
    pub ids: BTreeSet<String>,
    /// Sockets, which nobody could use elsewhere.
    pub left_out: Vec<PathBuf>,
}

impl Store {
    /// Writes cache mounts into an archive: those that the words in `wanted` mean, or all where there are none. A word
    /// is an id, as the step graph or a Dockerfile has it, or the beginning of the name of a mount's folder. A mount that a build has is waited for, and builds
    /// wait for one that is being written.
    ///
    /// # Errors
    /// Where a word means nothing, or something cannot be read or written.
    pub fn export_mounts(
        &self,
        wanted: &[String],
        compression: Compression,
        output: &mut dyn Write,
        watch: &MountWatch<'_>,
    ) -> Result<Exported, StoreError> {
        let mounts = choose(self.mounts()?, wanted)?;
        let io = || StoreError::io("write the archive of", self.root().join("mounts"));
        let mut sink = Sink::new(output, compression).map_err(io())?;
        let mut exporting = Exporting {
            blocks: Blocks::new(|mut block: Block| {
                sink.write_all(block.filled())?;
                block.clear();
                Ok(block)
            }),
            root: self.root(),
            exported: Exported::default(),
        };
        exporting.put_manifest(&mounts)?;
        for mount in &mounts {
            exporting.put_mount(self, mount, watch)?;
        }
        let Exporting { mut blocks, exported, .. } = exporting;
        blocks.put(&end()).and_then(|()| blocks.finish()).map_err(io())?;
        sink.finish().map_err(io())?;
        Ok(exported)
    }
}

/// The mounts that these words mean.
pub(super) fn choose(all: Vec<Mount>, wanted: &[String]) -> Result<Vec<Mount>, StoreError> {
    let is_meant = |mount: &Mount, word: &str| {
        let name = word.strip_prefix("mounts/").unwrap_or(word);
        let name = name.split('/').next().unwrap_or(name);
        // A Dockerfile has it without the slash that ends the namespace, which is empty.
        mount.id == word
            || mount.id.strip_prefix('/') == Some(word)
            || (name.len() >= 12 && mount.name.starts_with(name))
    };
    match wanted.iter().find(|word| !all.iter().any(|mount| is_meant(mount, word))) {
        Some(unknown) => Err(StoreError::NoMount(unknown.clone())),
        None if wanted.is_empty() => Ok(all),
        None => Ok(all.into_iter().filter(|mount| wanted.iter().any(|word| is_meant(mount, word))).collect()),
    }
}

struct Exporting<'a, F> {
    blocks: Blocks<F>,
    root: &'a Path,
    exported: Exported,
}

impl<F: FnMut(Block) -> io::Result<Block>> Exporting<'_, F> {
    fn put_manifest(&mut self, mounts: &[Mount]) -> Result<(), StoreError> {
        let io = || StoreError::io("write the archive of", self.root.join("mounts"));
        let manifest = Manifest { format: FORMAT.to_owned(), mounts: mounts.to_vec() };
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(|error| io()(io::Error::from(error)))?;
        text.push(b'\n');
        let size = text.len() as u64;
        let kind = EntryKind::File;
        let head = Head { kind, mode: 0o644, size, ..Head::directory(MANIFEST.as_bytes(), 0) };
        let mut bytes = Vec::new();
        put_entry(&head, &mut bytes);
        bytes.extend_from_slice(&text);
        put_padding(size, &mut bytes);
        self.blocks.put(&bytes).map_err(io())
    }

    fn put_mount(&mut self, store: &Store, mount: &Mount, watch: &MountWatch<'_>) -> Result<(), StoreError> {
        let directory = mount.directory(store);
        let locked = locks::lock(&directory, &mount.id, watch)?;
        for number in &locked.copies {
            let copy = directory.join(number.to_string());
            let prefix = format!("{}/{number}", mount.name).into_bytes();
            let mut copying = Copying { exporting: self, copy: &copy, prefix, links: HashMap::new() };
            let mut walk = Walk::new(&copy)?;
            while let Some(seen) = walk.next()? {
                if watch.cancel.is_requested() {
                    return Err(StoreError::Cancelled);
                }
                if seen.path != b"lock" {
                    copying.put(&seen)?;
                }
            }
        }
        self.exported.ids.insert(mount.id.clone());
        Ok(())
    }
}

/// One copy of a mount on its way into the archive.
struct Copying<'e, 'a, F> {
    exporting: &'e mut Exporting<'a, F>,
    copy: &'e Path,
    prefix: Vec<u8>,
    /// The first names of files with several, as they are in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<F: FnMut(Block) -> io::Result<Block>> Copying<'_, '_, F> {
    fn put(&mut self, seen: &Seen<'_>) -> Result<(), StoreError> {
        let (stat, path) = (&seen.stat, self.path(seen));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {
                self.exporting.exported.left_out.push(path);
                return Ok(());
            }
            FileType::Directory => EntryKind::Directory { opaque: false },
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            FileType::Unknown => {
                return Err(StoreError::io("read", path)(io::Error::other("it is of an unknown type")));
            }
        };
        let name = join(&self.prefix, seen.path);
        let (identity, time) = ((stat.st_dev, stat.st_ino), mtime(stat));
        let (target, attributes);
        let mut head = Head {
            kind,
            mode: if kind == EntryKind::Symlink { 0o777 } else { stat.st_mode & 0o7777 },
            uid: stat.st_uid,
            gid: stat.st_gid,
            nanos: time.nanos,
            ..Head::directory(&name, time.seconds)
        };
        let is_directory = matches!(kind, EntryKind::Directory { .. });
        if !is_directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                let head = Head { kind: EntryKind::HardLink, target: first, ..head };
                return self.exporting.put_head(&head, &path);
            }
            self.links.insert(identity, name.clone());
        }
        match kind {
            EntryKind::Directory { .. } | EntryKind::File => {
                let file = open(seen).map_err(StoreError::io("open", &path))?;
                attributes = xattrs(file.as_fd()).map_err(StoreError::io("read the attributes of", &path))?;
                if attributes.iter().any(|(name, _)| name.contains(&b'=')) {
                    return Err(StoreError::Unstorable { path, reason: NO_EQUALS });
                }
                head.xattrs = attributes.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                if is_directory {
                    return self.exporting.put_head(&head, &path);
                }
                head.size = stat.st_size.cast_unsigned();
                // It may have holes if it takes less than it holds.
                let may_have_holes = stat.st_blocks.cast_unsigned().saturating_mul(512) < head.size;
                return self.exporting.put_file(&head, &File::from(file), may_have_holes, &path);
            }
            EntryKind::Symlink => {
                let read = rustix::fs::readlinkat(seen.directory, seen.name, Vec::new());
                target = read.map_err(StoreError::io("read", &path))?.into_bytes();
                head.target = &target;
            }
            _ => {
                head.device = Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
            }
        }
        self.exporting.put_head(&head, &path)
    }

    fn path(&self, seen: &Seen<'_>) -> PathBuf {
        self.copy.join(OsStr::from_bytes(seen.path))
    }
}

impl<F: FnMut(Block) -> io::Result<Block>> Exporting<'_, F> {
    fn put_head(&mut self, head: &Head<'_>, path: &Path) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(2048);
        put_entry(head, &mut bytes);
        self.blocks.put(&bytes).map_err(StoreError::io("write into the archive", path))
    }

    /// A regular file. Of one with holes only the parts with data are written.
    fn put_file(
        &mut self,
        head: &Head<'_>,
        mut file: &File,
        may_have_holes: bool,
        path: &Path,
    ) -> Result<(), StoreError> {
        let read = || StoreError::io("read", path);
        let holes = if may_have_holes { parts_with_data(file, head.size).map_err(read())? } else { None };
        let Some(parts) = holes else {
            self.put_head(head, path)?;
            file.rewind().map_err(read())?;
            self.put_content(file, head.size, path)?;
            return self.put_padding(head.size, path);
        };
        let mut bytes = Vec::with_capacity(2048);
        let stored = put_sparse(head, &parts, &mut bytes);
        self.blocks.put(&bytes).map_err(StoreError::io("write into the archive", path))?;
        for part in &parts {
            file.seek(SeekFrom::Start(part.offset)).map_err(read())?;
            self.put_content(file, part.length, path)?;
        }
        self.put_padding(stored, path)
    }

    /// So many bytes of a file from where it is.
    fn put_content(&mut self, file: &File, size: u64, path: &Path) -> Result<(), StoreError> {
        let put = self.blocks.put_from(file, size, |_| {}).map_err(StoreError::io("write into the archive", path))?;
        if put != size {
            let reason = "it became shorter while it was read";
            return Err(StoreError::ChangedFile { path: path.to_owned(), reason });
        }
        Ok(())
    }

    fn put_padding(&mut self, size: u64, path: &Path) -> Result<(), StoreError> {
        let mut padding = Vec::new();
        put_padding(size, &mut padding);
        self.blocks.put(&padding).map_err(StoreError::io("write into the archive", path))
    }
}

fn open(seen: &Seen<'_>) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(seen.directory, seen.name, flags, Mode::empty())
}

/// The attributes that go along, as with layers: labels and access lists are the host's own.
fn xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut kept = Vec::new();
    for name in sys::list_xattrs(file)? {
        if name == b"security.capability" || (name.starts_with(b"user.") && !is_overlayfs_xattr(&name)) {
            let value = sys::get_xattr(file, &name)?;
            kept.push((name, value));
        }
    }
    kept.sort();
    Ok(kept)
}

/// What compresses the archive.
enum Sink<'a> {
    Plain(&'a mut dyn Write),
    Gzip(flate2::write::GzEncoder<&'a mut dyn Write>),
    Zstd(zstd::Encoder<'static, &'a mut dyn Write>),
}

impl<'a> Sink<'a> {
    fn new(output: &'a mut dyn Write, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Uncompressed => Self::Plain(output),
            Compression::Gzip { level } => {
                Self::Gzip(flate2::write::GzEncoder::new(output, flate2::Compression::new(level.min(9).into())))
            }
            Compression::Zstd { level } => {
                let mut encoder = zstd::Encoder::new(output, level.min(22).into())?;
                encoder.include_checksum(true)?;
                // The output does not depend on how many there are.
                let cores = std::thread::available_parallelism().map_or(1, |count| count.get().min(16));
                encoder.multithread(u32::try_from(cores).unwrap_or(1))?;
                Self::Zstd(encoder)
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Gzip(encoder) => encoder.finish()?.flush(),
            Self::Zstd(encoder) => encoder.finish()?.flush(),
        }
    }
}
