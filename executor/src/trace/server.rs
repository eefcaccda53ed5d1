//! Answers the kernel's requests about a union, and takes down what each of them shows.
//!
//! | request | what the step may have seen |
//! |---|---|
//! | `LOOKUP` of what is there | all of `stat` but times and numbers; of a link also where it leads, of a file its content |
//! | `LOOKUP` of what is not | that it is not |
//! | `OPEN` | the content |
//! | `READDIR` | the listing |
//! | `GETXATTR`, `LISTXATTR` | the extended attributes |
//!
//! The kernel keeps every answer for as long as the union is mounted, so each of these comes once. What a look-up
//! shows is what permissions were checked with, and it is all that `stat` shows: so attributes are kept too, and no
//! `GETATTR` tells of a `stat`. What the walk over a directory shows of it is the same, for its size counts for
//! nothing. No reply leaves before what it shows has been taken down.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use kiln_cache::{Entry, EntryKind, LayerReader, StoreError, StoredLayer};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::fact::{CONTENT, LISTING, XATTRS};
use super::ids::Ids;
use super::observations::Looks;
use super::protocol::{Attributes, ROOT, Reading, Reply, Request, operation};
use super::union::{Directory, Union};
use crate::sandbox::sys;

/// Beside the aspects: that a path was looked up at all.
const LOOKED_UP: u8 = 1 << 7;
/// The number of an entry is this much less than that of its node.
const FIRST_NODE: u64 = ROOT + 1;
/// As many files as the kernel keeps open for passthrough; others are read through the server.
const MOST_BACKINGS: usize = 1 << 16;
/// As many files as the server keeps open for itself.
const MOST_FILES: usize = 64;

/// A union that is being served, and all that was looked at so far.
pub(super) struct Server {
    union: Arc<Union>,
    /// What it is mounted over, where that is known.
    beneath: Option<Union>,
    /// Those of the layers that something was read from.
    readers: Vec<Option<LayerReader>>,
    ids: Ids,
    root: Attributes,
    /// Whether to answer questions about extended attributes. Nobody asks twice who is told that there are none.
    with_xattrs: bool,
    passthrough: bool,
    directories: HashMap<u64, Arc<Directory>>,
    listings: HashMap<u64, Arc<Vec<u64>>>,
    backings: HashMap<u64, Reading>,
    /// Those read last, the latest at the end.
    files: Vec<(u64, Arc<File>)>,
    /// By the number of an entry.
    seen: Vec<u8>,
    root_listed: bool,
    told_no_xattrs: bool,
    missing: HashSet<Vec<u8>>,
    damage: Option<StoreError>,
}

impl Server {
    /// Gets ready to serve a union, to be mounted over these layers.
    pub(super) fn new(union: Arc<Union>, beneath: Option<Union>) -> Result<Self, StoreError> {
        let readers = union.layers().iter().map(|_| None).collect();
        let count = usize::try_from(union.count()).unwrap_or(usize::MAX);
        Ok(Self {
            readers,
            ids: Ids::own(),
            root: root_of(&union)?,
            with_xattrs: union.has_xattrs() || union.survey().opaque,
            passthrough: false,
            directories: HashMap::from([(ROOT, Arc::new(union.root()))]),
            listings: HashMap::new(),
            backings: HashMap::new(),
            files: Vec::new(),
            seen: vec![0; count],
            root_listed: false,
            told_no_xattrs: false,
            missing: HashSet::new(),
            damage: None,
            union,
            beneath,
        })
    }

    /// Says that the kernel can read files without asking.
    pub(super) fn allow_passthrough(&mut self) {
        self.passthrough = true;
    }

    /// All that was looked at, or the first file of the store that was not what its index says.
    pub(super) fn finish(self) -> Result<Looks, StoreError> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        let mut looks = Looks { no_xattrs: self.told_no_xattrs, ..Looks::default() };
        looks.paths.extend(self.missing.into_iter().map(|path| (path, 0)));
        for (number, seen) in self.seen.iter().enumerate().filter(|(_, seen)| **seen != 0) {
            if let Some((_, entry)) = self.union.entry(number as u64) {
                looks.paths.insert(entry.path.to_vec(), seen & !LOOKED_UP);
            }
        }
        if self.root_listed {
            looks.paths.insert(Vec::new(), LISTING);
        }
        Ok(looks)
    }

    /// Answers a request that is no mere message. `device` is the connection that it came on.
    pub(super) fn answer(&mut self, request: &Request<'_>, reply: &mut Reply<'_>, device: BorrowedFd<'_>) {
        let answered = match request.operation {
            operation::LOOKUP => self.look_up(request, reply),
            operation::GETATTR => self.attributes_of(request.node).map(|attributes| reply.status(&attributes)),
            operation::READLINK => self.entry(request.node).map(|entry| reply.bytes(entry.target)),
            operation::OPEN => self.open(request, reply, device),
            operation::READ => self.read(request, reply),
            operation::READDIR => self.list(request, reply),
            operation::GETXATTR => self.get_xattr(request, reply),
            operation::LISTXATTR => self.list_xattrs(request, reply),
            operation::STATFS => {
                reply.file_system();
                Ok(())
            }
            operation::RELEASE | operation::RELEASEDIR | operation::DESTROY => Ok(()),
            operation::IOCTL => Err(Errno::NOTTY),
            // `OPENDIR` too: directories are listed without being opened.
            _ => Err(Errno::NOSYS),
        };
        if let Err(error) = answered {
            reply.fail(error);
        }
    }

    fn look_up(&mut self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
        let name = request.name(0).ok_or(Errno::INVAL)?;
        let (union, directory) = (self.union.clone(), self.directory(request.node)?);
        let Some(node) = union.child(&directory, name) else {
            self.missing.insert(join(&directory.path, name));
            reply.no_entry();
            return Ok(());
        };
        // Who sees that a file is there may see when it was changed, as `make` does, and that is not observed: what was
        // looked up counts with what it holds.
        self.note(node.number, LOOKED_UP | CONTENT);
        let id = node.number.checked_add(FIRST_NODE).ok_or(Errno::OVERFLOW)?;
        if let Some(directory) = node.directory() {
            self.directories.insert(id, Arc::new(directory));
        }
        reply.entry(id, &self.attributes(&node.entry, node.number));
        Ok(())
    }

    fn open(&mut self, request: &Request<'_>, reply: &mut Reply<'_>, device: BorrowedFd<'_>) -> Result<(), Errno> {
        let number = number_of(request.node)?;
        if !self.entry(request.node)?.is_file() {
            return Err(Errno::INVAL);
        }
        self.note(number, LOOKED_UP | CONTENT);
        reply.opened(self.back(number, device)?);
        Ok(())
    }

    /// Has the kernel read a file by itself. A file is read in one of both ways, always: the kernel mixes them not.
    /// Where it never did, it is told not to ask again when files are opened: it knows all about them.
    fn back(&mut self, number: u64, device: BorrowedFd<'_>) -> Result<Reading, Errno> {
        if let Some(reading) = self.backings.get(&number) {
            return Ok(*reading);
        }
        let mut reading = Reading::Server;
        if self.passthrough && self.backings.len() < MOST_BACKINGS {
            match sys::open_backing(device, &self.open_file(number)?) {
                Ok(backing) => reading = Reading::Backing(backing),
                // Only the machine's root may; a file system may be unfit, or too deep a stack of others.
                Err(_) => self.passthrough = false,
            }
        }
        if !self.passthrough && self.backings.is_empty() {
            return Err(Errno::NOSYS);
        }
        self.backings.insert(number, reading);
        Ok(reading)
    }

    fn read(&mut self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
        let number = number_of(request.node)?;
        let (offset, size) = request.span().ok_or(Errno::INVAL)?;
        self.note(number, LOOKED_UP | CONTENT);
        let file = self.file(number)?;
        let fill = |mut room: &mut [u8]| {
            let mut filled = 0;
            while !room.is_empty() {
                match file.read_at(room, offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => (filled, room) = (filled + count, &mut room[count..]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                }
            }
            Ok(filled)
        };
        reply.fill(size.min(MOST_AT_ONCE), fill)
    }

    fn list(&mut self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
        let (offset, size) = request.span().ok_or(Errno::INVAL)?;
        if request.node == ROOT {
            self.root_listed = true;
        } else {
            self.note(number_of(request.node)?, LOOKED_UP | LISTING);
        }
        let listing = self.listing(request.node)?;
        let directory = FileType::Directory.as_raw_mode();
        let start = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        for (position, name) in [(0, &b"."[..]), (1, b"..")] {
            if start <= position && !reply.name(size, request.node, position as u64 + 1, directory, name) {
                return Ok(());
            }
        }
        for (position, number) in listing.iter().enumerate().skip(start.saturating_sub(2)) {
            let Some((_, entry)) = self.union.entry(*number) else { continue };
            let inode = self.inode(*number);
            if !reply.name(size, inode, position as u64 + 3, file_type(entry.kind), entry.name()) {
                break;
            }
        }
        Ok(())
    }

    fn get_xattr(&mut self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
        self.refuse_xattrs()?;
        let (size, name) = (request.size().ok_or(Errno::INVAL)?, request.name(8).ok_or(Errno::INVAL)?);
        if let Some(mark) = name.strip_prefix(b"trusted.overlay.").or(name.strip_prefix(b"user.overlay.")) {
            // A look-up has shown it already.
            let opaque = mark == b"opaque" && self.directory(request.node).is_ok_and(|directory| directory.opaque);
            return if opaque { reply.xattr(b"y", size) } else { Err(Errno::NODATA) };
        }
        if request.node == ROOT {
            return Err(Errno::NODATA);
        }
        self.note(number_of(request.node)?, LOOKED_UP | XATTRS);
        let entry = self.entry(request.node)?;
        let (_, value) = entry.xattrs().find(|(known, _)| *known == name).ok_or(Errno::NODATA)?;
        reply.xattr(value, size)
    }

    fn list_xattrs(&mut self, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
        self.refuse_xattrs()?;
        let size = request.size().ok_or(Errno::INVAL)?;
        if request.node == ROOT {
            return reply.xattr(&[], size);
        }
        self.note(number_of(request.node)?, LOOKED_UP | XATTRS);
        let entry = self.entry(request.node)?;
        let names: Vec<u8> = entry.xattrs().flat_map(|(name, _)| [name, b"\0"].concat()).collect();
        reply.xattr(&names, size)
    }

    /// Where there are none, says so once for all of the union: the kernel will not ask again.
    fn refuse_xattrs(&mut self) -> Result<(), Errno> {
        if self.with_xattrs {
            return Ok(());
        }
        self.told_no_xattrs = true;
        Err(Errno::NOSYS)
    }

    fn note(&mut self, number: u64, flags: u8) {
        if let Some(seen) = usize::try_from(number).ok().and_then(|number| self.seen.get_mut(number)) {
            *seen |= flags;
        }
    }

    fn entry(&self, node: u64) -> Result<Entry<'_>, Errno> {
        self.union.entry(number_of(node)?).map(|(_, entry)| entry).ok_or(Errno::STALE)
    }

    fn attributes_of(&mut self, node: u64) -> Result<Attributes, Errno> {
        if node == ROOT {
            return Ok(self.root);
        }
        let number = number_of(node)?;
        self.note(number, LOOKED_UP | CONTENT);
        Ok(self.attributes(&self.entry(node)?, number))
    }

    fn attributes(&self, entry: &Entry<'_>, number: u64) -> Attributes {
        let (_, links) = self.union.survey().link(number);
        let (uid, gid) = self.ids.on_disk(entry.uid, entry.gid);
        let size = if entry.kind == EntryKind::Symlink { entry.target.len() as u64 } else { entry.size };
        Attributes {
            inode: self.inode(number),
            mode: file_type(entry.kind) | entry.mode,
            links,
            uid,
            gid,
            size,
            modified: entry.mtime,
            device: entry.device,
        }
    }

    /// The same for all names of a file.
    fn inode(&self, number: u64) -> u64 {
        self.union.survey().link(number).0.saturating_add(FIRST_NODE)
    }

    fn directory(&self, node: u64) -> Result<Arc<Directory>, Errno> {
        // The kernel asks only below what it has looked up.
        self.directories.get(&node).cloned().ok_or(Errno::NOTDIR)
    }

    fn listing(&mut self, node: u64) -> Result<Arc<Vec<u64>>, Errno> {
        if let Some(listing) = self.listings.get(&node) {
            return Ok(listing.clone());
        }
        let listing = Arc::new(self.names(&*self.directory(node)?));
        self.listings.insert(node, listing.clone());
        Ok(listing)
    }

    /// The numbers of what a listing shows. overlayfs takes whiteouts out of merged directories alone: a directory that
    /// nothing beneath has, it shows as it is.
    fn names(&self, directory: &Directory) -> Vec<u64> {
        let mut numbers = self.union.list(directory);
        let is_whiteout =
            |number: &u64| self.union.entry(*number).is_some_and(|(_, entry)| entry.kind == EntryKind::Whiteout);
        if let Some(beneath) = &self.beneath
            && numbers.iter().any(is_whiteout)
            && !self.union.is_merged(directory, beneath)
        {
            numbers.retain(|number| !is_whiteout(number));
        }
        numbers
    }

    /// A file to read from, one of few that are kept open.
    fn file(&mut self, number: u64) -> Result<Arc<File>, Errno> {
        let file = match self.files.iter().position(|(known, _)| *known == number) {
            Some(position) => self.files.remove(position).1,
            None => Arc::new(self.open_file(number)?),
        };
        if self.files.len() >= MOST_FILES {
            self.files.remove(0);
        }
        self.files.push((number, file.clone()));
        Ok(file)
    }

    fn open_file(&mut self, number: u64) -> Result<File, Errno> {
        let (layer, entry) = self.union.entry(number).ok_or(Errno::STALE)?;
        let stored = self.union.layers().get(layer).ok_or(Errno::STALE)?;
        let reader = self.readers.get_mut(layer).ok_or(Errno::STALE)?;
        let opened = match reader {
            Some(reader) => Ok(&*reader),
            None => stored.reader().map(|opened| &*reader.insert(opened)),
        };
        match opened.and_then(|reader| reader.open(&entry)) {
            Ok(file) => Ok(file),
            Err(error) => {
                self.damage.get_or_insert(error);
                Err(Errno::IO)
            }
        }
    }
}

/// The root has no entry in an index. Nothing in a sandbox sees it: what an overlay shows is the upper directory's,
/// which was given what is shown here.
fn root_of(union: &Union) -> Result<Attributes, StoreError> {
    let root = Attributes { inode: ROOT, mode: FileType::Directory.as_raw_mode() | 0o755, ..Attributes::default() };
    let Some(path) = union.layers().first().map(StoredLayer::mount_source) else { return Ok(root) };
    let stat = rustix::fs::stat(path).map_err(|error| StoreError::Io {
        action: "read",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(Attributes { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, links: 1, ..root })
}

/// The kernel asks for no more, by what was agreed upon.
const MOST_AT_ONCE: usize = 1 << 20;

fn number_of(node: u64) -> Result<u64, Errno> {
    node.checked_sub(FIRST_NODE).ok_or(Errno::INVAL)
}

fn file_type(kind: EntryKind) -> u32 {
    let kind = match kind {
        EntryKind::File | EntryKind::HardLink => FileType::RegularFile,
        EntryKind::Directory { .. } => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::CharDevice | EntryKind::Whiteout => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Fifo => FileType::Fifo,
    };
    kind.as_raw_mode()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
