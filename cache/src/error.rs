//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use kiln_solver::Digest;

use crate::Whiteouts;
use crate::archive::ArchiveError;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused something.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, such as `create`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The database refused something.
    #[error("the store's database `{}` failed: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database file is not a database, or damaged.
    #[error("the store's database `{}` cannot be read: {reason}; move it away to start with an empty cache", path.display())]
    DatabaseDamaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database was written by a newer kiln.
    #[error("the store's database `{}` has version {found}, this kiln knows versions up to {supported}: use a newer kiln or another root", path.display())]
    DatabaseVersion {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version understood.
        supported: i64,
    },
    /// The store was made with the other kind of overlayfs marks.
    #[error("the store `{}` was made {}: its layers mean something else here; use another root", root.display(), made_by(*.made_with))]
    OtherWhiteouts {
        /// The store.
        root: PathBuf,
        /// The marks that its layers carry.
        made_with: Whiteouts,
    },
    /// Bytes do not have the digest that they were promised to have.
    #[error("{what} has digest `{found}` instead of `{expected}`")]
    WrongDigest {
        /// What was looked at: `the blob`, `the layer's archive`.
        what: &'static str,
        /// The digest promised.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// Bytes are not as many as they were promised to be.
    #[error("blob `{digest}` has {found} bytes instead of {expected}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// The size promised.
        expected: u64,
        /// The size it has, or the least that it has.
        found: u64,
    },
    /// A blob is larger than its reader allows.
    #[error("blob `{digest}` has {size} bytes, more than the {limit} allowed here")]
    BlobTooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The store does not have a layer that it was asked to work on.
    #[error("layer `{0}` is not in the store")]
    NoLayer(Digest),
    /// The archive of an imported layer is wanted, and no blob of it is here.
    #[error("layer `{0}` was imported and no blob of it is in the store")]
    NoArchive(Digest),
    /// An archive could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The index of a layer does not hold what an index holds.
    #[error("the layer index `{}` is damaged: {reason}", path.display())]
    DamagedIndex {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of a layer is not what the index of the layer says.
    #[error("`{}` was changed behind the back of the store: {reason}", path.display())]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: &'static str,
    },
    /// A step left something that a layer cannot hold.
    #[error("`/{}` cannot be stored in a layer: {reason}", path.display())]
    Unstorable {
        /// The path within the layer.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A compression level that the format does not have.
    #[error("{format} has no compression level {level}: expected {} to {}", levels.start(), levels.end())]
    CompressionLevel {
        /// The format.
        format: &'static str,
        /// The level asked for.
        level: u8,
        /// Those that there are.
        levels: std::ops::RangeInclusive<u8>,
    },
    /// There is no such build in the history.
    #[error("no build `{0}` in the history")]
    NoBuild(String),
    /// More than one build's ID begins like this.
    #[error("more than one build has an ID that begins with `{0}`")]
    AmbiguousBuild(String),
    /// A build is still running.
    #[error("build `{0}` is still running")]
    BuildRuns(String),
    /// There is no such cache mount.
    #[error(
        "no cache mount `{0}` in the store\nhint: `kiln du --filter type=exec.cachemount` shows those that there are"
    )]
    NoMount(String),
    /// A stream is no archive of cache mounts, or a broken one.
    #[error("this is no archive of cache mounts: {0}")]
    NoMounts(&'static str),
    /// The caller wants no more of it.
    #[error("cancelled")]
    Cancelled,
    /// A worker thread could not be started or died.
    #[error("cannot {0}")]
    Thread(&'static str),
}

fn made_by(whiteouts: Whiteouts) -> &'static str {
    match whiteouts {
        Whiteouts::Trusted => "by root",
        Whiteouts::User => "in a user namespace",
    }
}

impl StoreError {
    /// Wraps an error of the operating system; to be used with `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }
}
