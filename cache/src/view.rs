//! The tree that a stack of layers makes.

use std::fs::File;
use std::io::Write;

use crate::{Entry, StoreError, StoredLayer};

/// The merged tree over layers, as a container would see it, known from their indexes alone.
/// Paths are bytes; leading, trailing and doubled slashes do not matter; the empty path is the root.
pub struct View {
    layers: Vec<StoredLayer>,
}

/// What is at a path of a [`View`], and which layer has it.
#[derive(Clone, Copy)]
pub struct Found<'v> {
    /// The entry: never a whiteout. A [`crate::EntryKind::HardLink`] may have a target that a higher layer
    /// hides or replaces, see [`View::link_target`].
    pub entry: Entry<'v>,
    /// The layer that it comes from.
    pub layer: &'v StoredLayer,
}

/// Where a path leads once symbolic links on the way have been followed.
#[derive(Clone)]
pub struct Resolved<'v> {
    /// The path without symbolic links, `.` or `..`: relative, no leading slash.
    pub path: Vec<u8>,
    /// What is there.
    pub target: Target<'v>,
}

/// What a resolved path names.
#[derive(Clone, Copy)]
pub enum Target<'v> {
    /// The root directory.
    Root,
    /// An entry.
    Entry(Found<'v>),
    /// Nothing: the path, or the rest of it from some component on, does not exist.
    Missing,
}

/// Why a path of a [`View`] leads nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// More symbolic links on the way than Linux follows.
    #[error("`/{}`: too many levels of symbolic links", String::from_utf8_lossy(.0))]
    Loop(Vec<u8>),
    /// Something on the way is not a directory.
    #[error("`/{}` is not a directory", String::from_utf8_lossy(.0))]
    NotADirectory(Vec<u8>),
    /// There is nothing there.
    #[error("`/{}` does not exist", String::from_utf8_lossy(.0))]
    Missing(Vec<u8>),
    /// It is not a regular file.
    #[error("`/{}` is not a regular file", String::from_utf8_lossy(.0))]
    NotAFile(Vec<u8>),
    /// It is larger than its reader allows.
    #[error("`/{}` has {size} bytes, more than the {limit} allowed here", String::from_utf8_lossy(path))]
    TooLarge {
        /// The file.
        path: Vec<u8>,
        /// Its size.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl View {
    /// The tree of these layers, the lowest first. None at all make the empty tree.
    pub fn new(layers: Vec<StoredLayer>) -> Self {
        Self { layers }
    }

    /// What is at a path, without following any symbolic link. The root has no entry.
    pub fn entry(&self, path: &[u8]) -> Option<Found<'_>> {
        todo!()
    }

    /// Follows the symbolic links of a path as if the tree were the root of a process, also the last component
    /// where `follow_last` is set. A path that does not exist is no error: see [`Target::Missing`].
    ///
    /// # Errors
    /// When links go in a circle, or a component on the way is not a directory.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<Resolved<'_>, ViewError> {
        todo!()
    }

    /// What is directly in a directory, sorted by name; no symbolic link is followed.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn list(&self, directory: &[u8]) -> Result<Vec<Found<'_>>, ViewError> {
        todo!()
    }

    /// Everything below a directory, each directory before what is in it, siblings sorted by name.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn walk(&self, directory: &[u8]) -> Result<Vec<Found<'_>>, ViewError> {
        todo!()
    }

    /// For a hard link, the path that it is linked to, if that is still to be seen there.
    pub fn link_target<'v>(&self, found: &Found<'v>) -> Option<&'v [u8]> {
        todo!()
    }

    /// Opens a regular file, following symbolic links.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(&self, path: &[u8]) -> Result<File, ViewError> {
        todo!()
    }

    /// The content of a regular file of at most `limit` bytes, following symbolic links; `None` where there
    /// is nothing at the path.
    ///
    /// # Errors
    /// When it is something else or larger.
    pub fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, ViewError> {
        todo!()
    }

    /// Writes the whole tree as one archive: no whiteouts, no opaque marks.
    ///
    /// # Errors
    /// When a layer cannot be read or `output` fails.
    pub fn write_archive(&self, output: &mut dyn Write) -> Result<(), ViewError> {
        todo!()
    }
}
