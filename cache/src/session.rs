//! The folder of a live process below `tmp/`.

use std::path::Path;

use crate::{Store, StoreError};

/// A private directory below `tmp/`; removed with all it holds when dropped.
pub struct Scratch {}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        todo!()
    }
}

impl Store {
    /// Makes an empty private directory in the file system of the store.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        todo!()
    }
}
