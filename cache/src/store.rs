//! Opening the store.

use std::path::Path;

use crate::StoreError;

/// Which extended attributes overlayfs keeps its marks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whiteouts {
    /// `trusted.overlay.*`: mounted by the real root.
    Trusted,
    /// `user.overlay.*`: mounted with `userxattr` inside a user namespace. There, an owner that the namespace
    /// does not map and a device node cannot be put on disk: an import records them in the index alone.
    User,
}

/// The store. Safe to use from any number of threads and processes at once.
pub struct Store {}

impl Store {
    /// Opens the store at `root`, creating what is missing, and clears away what dead processes and other
    /// boots left unfinished.
    ///
    /// # Errors
    /// When `root` cannot be written, or its database is damaged or newer than this program.
    pub fn open(root: &Path, whiteouts: Whiteouts) -> Result<Self, StoreError> {
        todo!()
    }

    /// The directory that the store lies in.
    pub fn root(&self) -> &Path {
        todo!()
    }

    /// Which overlayfs marks its layers carry.
    pub fn whiteouts(&self) -> Whiteouts {
        todo!()
    }
}
