//! The index of a layer: what is in it, without a look at its files.
//!
//! A file of this form, little-endian, written once and read by mmap:
//!
//! ```text
//! header   0  8 bytes   `kilnidx` and the version, 1
//!          8  u64       number of entries, n
//!         16  u64       number of bytes of text, t
//!         24  8 bytes   zero
//!         32  32 bytes  content digest of the layer
//! entries 64  n × 112 bytes, sorted by path, component by component
//!          0  u64, u32  path: offset in the text, length
//!         12  u64, u32  target: the same
//!         24  u64, u32  extended attributes: the same
//!         36  u32       mode (07777)
//!         40  u32       uid
//!         44  u32       gid
//!         48  u64       size
//!         56  i64       mtime, seconds
//!         64  u32       mtime, nanoseconds
//!         68  u32       device, major
//!         72  u32       device, minor
//!         76  u8        kind, see `kind`
//!         77  u8        1 where there is a content digest
//!         78  2 bytes   zero
//!         80  32 bytes  SHA-256 of the content
//! text        t bytes: paths, targets, extended attributes (u32 length of the name, u32 length of the value, both)
//! ```
//!
//! [`Index::open`] checks all of it once: that offsets lie in the text, paths are sorted and proper, and the
//! parent of each entry is a directory entry before it. What comes after relies on that.

mod builder;
mod read;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use builder::{Builder, Record};
pub use read::{Children, Entries, Entry, Index, Xattrs};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory {
        /// Whether it hides what lower layers have at the same place.
        opaque: bool,
    },
    /// A symbolic link to [`Entry::target`].
    Symlink,
    /// One more name of the regular file at [`Entry::target`] of the same layer, which is the first of its names
    /// in order; the rest of the entry is that of the file.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// Not a file: it removes what lower layers have at this path.
    Whiteout,
}

impl EntryKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Directory { opaque: false } => 1,
            Self::Directory { opaque: true } => 2,
            Self::Symlink => 3,
            Self::HardLink => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
            Self::Fifo => 7,
            Self::Whiteout => 8,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::File,
            1 => Self::Directory { opaque: false },
            2 => Self::Directory { opaque: true },
            3 => Self::Symlink,
            4 => Self::HardLink,
            5 => Self::CharDevice,
            6 => Self::BlockDevice,
            7 => Self::Fifo,
            8 => Self::Whiteout,
            _ => return None,
        })
    }
}

/// A point in time, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that, less than 10⁹.
    pub nanos: u32,
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let of = |since: Duration| (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos());
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                let (seconds, nanos) = of(after);
                Self { seconds, nanos }
            }
            Err(before) => match of(before.duration()) {
                (seconds, 0) => Self { seconds: -seconds, nanos: 0 },
                (seconds, nanos) => Self { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
            },
        }
    }
}

/// The number of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

const MAGIC: &[u8; 8] = b"kilnidx\x01";
const HEADER: usize = 64;
const ENTRY: usize = 112;

/// Orders paths as an index does, component by component: a directory, what is below it, then its next sibling.
pub fn compare_paths(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => a.len().cmp(&b.len()),
    }
}

/// The path of the directory that a path is in, and the last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// A path from that of a directory and a name in it.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Whether `path` lies below `directory` at any depth.
pub(crate) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || (path.starts_with(directory) && path.get(directory.len()) == Some(&b'/'))
}

#[cfg(test)]
mod tests;
