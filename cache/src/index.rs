//! The index of a layer.

use kiln_solver::Digest;

/// What is in a layer: entries sorted by path, component by component, so that what a directory holds follows it.
pub struct Index {}

impl Index {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// All entries, in order.
    pub fn entries(&self) -> Entries<'_> {
        todo!()
    }

    /// The entry with this path (relative, no leading or trailing slash).
    pub fn get(&self, path: &[u8]) -> Option<Entry<'_>> {
        todo!()
    }

    /// What lies directly in a directory (the empty path is the root), in order.
    pub fn children(&self, path: &[u8]) -> Children<'_> {
        todo!()
    }

    /// Everything below a directory, in order.
    pub fn below(&self, path: &[u8]) -> Entries<'_> {
        todo!()
    }
}

/// Entries in a row.
pub struct Entries<'a> {
    index: &'a Index,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        todo!()
    }
}

/// The entries of one directory.
pub struct Children<'a> {
    index: &'a Index,
}

impl<'a> Iterator for Children<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        todo!()
    }
}

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
    /// One more name of the regular file at [`Entry::target`] of the same layer; the rest of the entry is that of the file.
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

/// A point in time, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that, less than 10⁹.
    pub nanos: u32,
}

/// The number of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// One path of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it is: relative, without leading or trailing slash, never empty.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of a regular file in bytes, else 0.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Timestamp,
    /// The number of a device, else 0:0.
    pub device: Device,
    /// Where a link points to; empty for others. That of a hard link is a path of the same layer.
    pub target: &'a [u8],
    /// The SHA-256 of a regular file's content.
    pub content: Option<Digest>,
    xattrs: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The last component of the path.
    pub fn name(&self) -> &'a [u8] {
        todo!()
    }

    /// The path of the directory that it is in; empty for the root.
    pub fn parent(&self) -> &'a [u8] {
        todo!()
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory { .. })
    }

    /// Whether it is a regular file, under its first or another name.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File | EntryKind::HardLink)
    }

    /// Its extended attributes, sorted by name; none of those of overlayfs.
    pub fn xattrs(&self) -> Xattrs<'a> {
        todo!()
    }
}

/// Extended attributes: name and value.
#[derive(Clone)]
pub struct Xattrs<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
