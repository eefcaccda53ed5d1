//! The part of the kernel's FUSE protocol that a read-only file system needs (`linux/fuse.h`, version 7.41): pure
//! functions between bytes and types. All numbers are in the machine's own order.

use kiln_cache::{Device, Timestamp};

/// The node of the root.
pub(super) const ROOT: u64 = 1;
/// The length of what every reply begins with.
const HEADER: usize = 16;
/// For as long as the file system is mounted, in seconds.
const FOR_EVER: u64 = 1 << 30;

/// What the kernel asks for.
pub(super) mod operation {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const BATCH_FORGET: u32 = 42;
}

/// What kernel and server agree on.
mod init {
    pub(super) const ASYNC_READ: u64 = 1;
    pub(super) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(super) const MAX_PAGES: u64 = 1 << 22;
    pub(super) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(super) const NO_OPENDIR: u64 = 1 << 24;
    pub(super) const MORE_FLAGS: u64 = 1 << 30;
    pub(super) const PASSTHROUGH: u64 = 1 << 37;
}

/// Flags of the reply to `OPEN`.
const KEEP_CACHE: u32 = 1 << 1;
const PASSTHROUGH: u32 = 1 << 7;

/// A request.
pub(super) struct Request<'b> {
    pub(super) operation: u32,
    unique: u64,
    /// What it is about.
    pub(super) node: u64,
    /// What follows the header.
    pub(super) body: &'b [u8],
}

/// The reply to a request in the making.
pub(super) struct Reply<'b> {
    bytes: &'b mut Vec<u8>,
}

/// Everything that `stat` shows of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    pub(super) inode: u64,
    /// With the bits for the type.
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    pub(super) device: Device,
}

/// How a file is to be read.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    /// By asking the server, and from the kernel's cache after that.
    Server,
    /// From the file that was registered under this number.
    Backing(u32),
}

impl<'b> Request<'b> {
    /// A request as it was read; nothing if it is none.
    pub(super) fn parse(bytes: &'b [u8]) -> Option<Self> {
        let length = usize::try_from(number(bytes, 0)?).ok()?;
        let body = bytes.get(..length)?.get(40..)?;
        let (unique, node) = (number64(bytes, 8)?, number64(bytes, 16)?);
        Some(Self { operation: number(bytes, 4)?, unique, node, body })
    }

    /// Whether nobody waits for a reply.
    pub(super) fn is_message(&self) -> bool {
        matches!(self.operation, operation::FORGET | operation::BATCH_FORGET | operation::INTERRUPT)
    }

    /// The name that the body is, or that follows so many bytes of it.
    pub(super) fn name(&self, skip: usize) -> Option<&'b [u8]> {
        self.body.get(skip..)?.split(|byte| *byte == 0).next()
    }

    /// Offset and size of `READ` and `READDIR`.
    pub(super) fn span(&self) -> Option<(u64, usize)> {
        Some((number64(self.body, 8)?, number(self.body, 16)? as usize))
    }

    /// The size of the buffer for extended attributes.
    pub(super) fn size(&self) -> Option<usize> {
        Some(number(self.body, 0)? as usize)
    }
}

impl<'b> Reply<'b> {
    /// Begins a successful reply in `bytes`.
    pub(super) fn new(request: &Request<'_>, bytes: &'b mut Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(8, 0);
        bytes.extend_from_slice(&request.unique.to_ne_bytes());
        Self { bytes }
    }

    /// Makes it an error (a positive number) and nothing else.
    pub(super) fn fail(&mut self, error: rustix::io::Errno) {
        self.bytes.truncate(HEADER);
        self.bytes[4..8].copy_from_slice(&(-error.raw_os_error()).to_ne_bytes());
    }

    /// Ends it: the bytes are ready to be written.
    pub(super) fn finish(self) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }

    /// How many bytes there are behind the header.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Room for so many bytes, to be filled with how many there are.
    pub(super) fn fill<E>(&mut self, size: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        self.bytes.resize(HEADER + size, 0);
        let filled = fill(&mut self.bytes[HEADER..])?;
        self.bytes.truncate(HEADER + filled);
        Ok(())
    }

    fn number(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_ne_bytes());
    }

    fn number64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_ne_bytes());
    }

    /// To `LOOKUP`: what is there.
    pub(super) fn entry(&mut self, node: u64, attributes: &Attributes) {
        for number in [node, 0, FOR_EVER, FOR_EVER, 0] {
            self.number64(number);
        }
        self.attributes(attributes);
    }

    /// To `LOOKUP`: that there is nothing, to be remembered.
    pub(super) fn no_entry(&mut self) {
        self.entry(0, &Attributes::default());
    }

    /// To `GETATTR`.
    pub(super) fn status(&mut self, attributes: &Attributes) {
        self.number64(FOR_EVER);
        self.number64(0);
        self.attributes(attributes);
    }

    fn attributes(&mut self, attributes: &Attributes) {
        let Attributes { inode, mode, links, uid, gid, size, modified, device } = *attributes;
        let seconds = modified.seconds.cast_unsigned();
        for number in [inode, size, size.div_ceil(512), seconds, seconds, seconds] {
            self.number64(number);
        }
        let device = (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12);
        for number in [modified.nanos, modified.nanos, modified.nanos, mode, links, uid, gid, device, 4096, 0] {
            self.number(number);
        }
    }

    /// To `OPEN`.
    pub(super) fn opened(&mut self, reading: Reading) {
        let (flags, backing) = match reading {
            Reading::Server => (KEEP_CACHE, 0),
            Reading::Backing(backing) => (PASSTHROUGH, backing),
        };
        self.number64(0);
        self.number(flags);
        self.number(backing);
    }

    /// To `READDIR`: one name, if it fits into a reply of so many bytes. `next` is the offset of what comes after it,
    /// and `mode` the type as in `stat`.
    pub(super) fn name(&mut self, most: usize, inode: u64, next: u64, mode: u32, name: &[u8]) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.len() + length > most {
            return false;
        }
        self.number64(inode);
        self.number64(next);
        self.number(u32::try_from(name.len()).unwrap_or(0));
        self.number(mode >> 12);
        self.bytes.extend_from_slice(name);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        true
    }

    /// To `GETXATTR` and `LISTXATTR`: the bytes, or how many they are where the kernel asks with a size of 0.
    pub(super) fn xattr(&mut self, value: &[u8], size: usize) -> Result<(), rustix::io::Errno> {
        if size == 0 {
            self.number(u32::try_from(value.len()).unwrap_or(u32::MAX));
            self.number(0);
        } else if size < value.len() {
            return Err(rustix::io::Errno::RANGE);
        } else {
            self.bytes(value);
        }
        Ok(())
    }

    /// To `STATFS`: nothing is free, and names have at most 255 bytes.
    pub(super) fn file_system(&mut self) {
        for number in [0; 5] {
            self.number64(number);
        }
        for number in [4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0] {
            self.number(number);
        }
    }
}

/// Whether two sides that speak version 7 understand each other; what the server wants of what the kernel has.
pub(super) struct Agreement {
    minor: u32,
    readahead: u32,
    flags: u64,
}

impl Agreement {
    /// The least version that knows all that is needed here (Linux 4.20).
    const LEAST_MINOR: u32 = 28;
    const MINOR: u32 = 41;

    /// What comes of the kernel's `INIT`; nothing if it is too old.
    pub(super) fn new(request: &Request<'_>) -> Option<Self> {
        let (major, minor) = (number(request.body, 0)?, number(request.body, 4)?);
        if major != 7 || minor < Self::LEAST_MINOR {
            return None;
        }
        let offered = u64::from(number(request.body, 12)?) | u64::from(number(request.body, 16).unwrap_or(0)) << 32;
        let wanted = init::ASYNC_READ
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::CACHE_SYMLINKS
            | init::NO_OPENDIR
            | init::MORE_FLAGS
            | init::PASSTHROUGH;
        let flags = if offered & init::MORE_FLAGS == 0 { offered & wanted & 0xffff_ffff } else { offered & wanted };
        Some(Self { minor: minor.min(Self::MINOR), readahead: number(request.body, 8)?, flags })
    }

    /// Whether files can be read without the server.
    pub(super) fn has_passthrough(&self) -> bool {
        self.flags & init::PASSTHROUGH != 0
    }

    /// The reply to `INIT`.
    pub(super) fn reply(&self, reply: &mut Reply<'_>) {
        let low = |flags: u64| (flags & 0xffff_ffff) as u32;
        for number in [7, self.minor, self.readahead, low(self.flags)] {
            reply.number(number);
        }
        // How many requests may wait, and from which number on there are many.
        reply.bytes(&64_u16.to_ne_bytes());
        reply.bytes(&48_u16.to_ne_bytes());
        // Nothing is written: the least that there can be. Times have nanoseconds.
        reply.number(4096);
        reply.number(1);
        // At most 1 MiB at once.
        reply.bytes(&256_u16.to_ne_bytes());
        reply.bytes(&0_u16.to_ne_bytes());
        reply.number(low(self.flags >> 32));
        // Backing files lie on a file system that is no overlay itself.
        reply.number(u32::from(self.has_passthrough()));
        reply.bytes(&[0; 24]);
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
