//! What can go wrong while files are copied or made.

use std::io;
use std::path::PathBuf;

use kiln_cache::{ArchiveError, StoreError, ViewError};
use kiln_parser::ignore::IgnoreError;
use kiln_parser::pattern::PatternError;

use crate::ContextError;

/// Why files could not be copied or made. Paths are those of the build context or the image, not of this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is nothing to copy.
    #[error("`{path}`: not found in {place}{}", hint_text(.hint))]
    NotFound {
        /// The source as written, cleaned.
        path: String,
        /// Where it was looked for.
        place: String,
        /// What may have been meant, or why it is not there.
        hint: Option<String>,
    },
    /// Something on the way to a path is not a directory.
    #[error("`{path}` is not a directory in {place}")]
    NotADirectory {
        /// The path.
        path: String,
        /// Where.
        place: String,
    },
    /// Symbolic links lead in a circle.
    #[error("`{path}`: too many levels of symbolic links in {place}")]
    Loop {
        /// The path.
        path: String,
        /// Where.
        place: String,
    },
    /// A directory would be copied over something else.
    #[error("cannot copy to non-directory: `{0}` exists in the image and is not a directory")]
    ToNonDirectory(String),
    /// A file would replace a directory.
    #[error("cannot replace directory `{0}` with a file")]
    ReplacesDirectory(String),
    /// A kind of file that no layer can hold.
    #[error("`{0}` is a socket, which cannot be copied")]
    Socket(String),
    /// The source is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `--exclude` is not a pattern.
    #[error("`--exclude`: {0}")]
    Exclude(#[from] IgnoreError),
    /// A user or group that the image does not have.
    #[error("{kind} `{name}` is not in `{file}` of the image")]
    UnknownName {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// The bytes that were copied are not those that the step's key was made of.
    #[error("`{path}` was changed while the build was running; build again once it stays as it is")]
    Changed {
        /// The file.
        path: String,
    },
    /// An archive could not be unpacked.
    #[error("cannot unpack `{archive}`: {reason}")]
    Unpack {
        /// The archive.
        archive: String,
        /// Why not.
        reason: UnpackError,
    },
    /// The new layer could not be written.
    #[error("cannot {action} `{path}` in the new layer: {source}")]
    Write {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The context could not be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The base or source image could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A scratch file could not be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Scratch {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It is malformed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It could not be read or decompressed.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A hard link to something that is not there.
    #[error("the hard link `{link}` leads to `{target}`, which is no file")]
    HardLink {
        /// The link.
        link: String,
        /// Where it leads.
        target: String,
    },
}

fn hint_text(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default()
}
