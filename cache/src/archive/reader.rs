//! Reads tar archives that nobody vouches for.

use std::io::{self, Read};

use super::ArchiveError;
use crate::{Device, Timestamp};

/// What a member of an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link to an earlier member.
    HardLink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One member of an archive, as it is written there: nothing about it has been checked but its form.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path, as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many bytes of content it has.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Timestamp,
    /// The number of a device.
    pub device: Device,
    /// Where a link points to.
    pub target: Vec<u8>,
    /// Extended attributes (`SCHILY.xattr.*`), sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads an uncompressed archive (old, ustar, GNU or PAX headers), member by member, from any stream.
/// Reading from it gives the content of the current member.
pub struct ArchiveReader<R> {
    input: R,
}

impl<R: Read> ArchiveReader<R> {
    /// A reader at the start of an archive.
    pub fn new(input: R) -> Self {
        Self { input }
    }

    /// The next member, past what is left of the one before.
    ///
    /// # Errors
    /// When the stream fails or is no archive.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        todo!()
    }

    /// The stream, after reading it to its end.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn finish(self) -> Result<R, ArchiveError> {
        todo!()
    }
}

impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
}
