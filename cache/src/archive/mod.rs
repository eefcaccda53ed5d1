//! Tar archives: written as a pure function of what they hold, read with distrust.

mod blocks;
mod number;
mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use blocks::{Block, Blocks};
pub use reader::{ArchiveReader, Member, MemberKind};
pub use sparse::is_hole;
pub(crate) use sparse::parts_with_data;
pub(crate) use writer::{Head, end, put_entry, put_padding, put_sparse};

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
    /// It holds more than an archive may ([`crate::ArchiveLimits`]).
    #[error(
        "archive member `{}` is refused: with it there are more than {most} {what}\nhint: {hint}",
        String::from_utf8_lossy(path)
    )]
    TooMuch {
        /// The path of the member that is one too many.
        path: Vec<u8>,
        /// Of what there would be too much: `entries`, `bytes of files`, `bytes of names and attributes`.
        what: &'static str,
        /// How much there may be.
        most: u64,
        /// How more could be had.
        hint: &'static str,
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

/// The prefix of a whiteout's name.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The name that makes a directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What extended attributes are called in PAX headers.
const XATTR: &[u8] = b"SCHILY.xattr.";
