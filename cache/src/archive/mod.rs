//! Tar archives.

mod reader;

pub use reader::{ArchiveReader, Member, MemberKind};

use std::io;

/// Why an archive could not be read or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream failed.
    #[error("cannot read the archive: {0}")]
    Read(#[from] io::Error),
    /// The bytes are no tar archive, or a broken one.
    #[error("malformed archive at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A member asks for what no layer may do.
    #[error("archive member `{}` is refused: {reason}", String::from_utf8_lossy(path))]
    Refused {
        /// The path of the member as it is in the archive.
        path: Vec<u8>,
        /// Why.
        reason: &'static str,
    },
    /// A member could not be put on disk.
    #[error("cannot unpack `{}`: {source}", String::from_utf8_lossy(path))]
    Unpack {
        /// The path of the member.
        path: Vec<u8>,
        /// Why not.
        source: io::Error,
    },
}
