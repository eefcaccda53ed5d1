//! Layers: drafts, commit and import.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

use kiln_solver::Digest;

use crate::{Entry, Index, Store, StoreError};

/// A layer in the making: an empty directory to fill, private to its owner. Dropped, it leaves nothing.
pub struct LayerDraft {}

impl LayerDraft {
    /// The directory to fill: by writing into it, or as the upper directory of an overlayfs mount (with
    /// `redirect_dir=off,metacopy=off`). Its mode is 0755 whatever the umask.
    pub fn files(&self) -> &Path {
        todo!()
    }

    /// An empty directory beside it, as overlayfs wants for its work.
    pub fn work(&self) -> &Path {
        todo!()
    }

    /// Declares the owner of a path (relative, no leading slash) where the file system cannot hold it, as in a
    /// user namespace that maps a single id. It overrides what the file says.
    pub fn set_owner(&self, path: &[u8], uid: u32, gid: u32) {
        todo!()
    }

    /// Makes a layer of it: reads each file once for its digest and that of the layer, writes the index and
    /// moves all into place. Nothing may write to it any more. A layer that the store has already is returned
    /// as it is, with its own time.
    ///
    /// # Errors
    /// When something in it cannot be stored in a layer, or the store cannot be written.
    pub fn commit(self, created: SystemTime) -> Result<StoredLayer, StoreError> {
        todo!()
    }
}

/// A layer that is in the store. Cheap to clone.
#[derive(Clone)]
pub struct StoredLayer {}

impl StoredLayer {
    /// The digest of its uncompressed archive.
    pub fn diff_id(&self) -> &Digest {
        todo!()
    }

    /// The digest of all that it holds but modification times.
    pub fn content(&self) -> Digest {
        todo!()
    }

    /// When it was made or imported.
    pub fn created(&self) -> SystemTime {
        todo!()
    }

    /// What it holds.
    pub fn index(&self) -> &Index {
        todo!()
    }

    /// The directory to give to overlayfs as a lower directory.
    pub fn mount_source(&self) -> &Path {
        todo!()
    }

    /// Opens a regular file of it for reading.
    ///
    /// # Errors
    /// When the entry is no regular file or hard link, or the file is not what the index says.
    pub fn open(&self, entry: &Entry<'_>) -> Result<File, StoreError> {
        todo!()
    }

    /// Writes its archive, whose digest is [`StoredLayer::diff_id`].
    ///
    /// # Errors
    /// When it was imported (an archive made elsewhere lives on only as a blob), a file has changed, or
    /// `output` fails.
    pub fn write_archive(&self, output: &mut dyn Write) -> Result<(), StoreError> {
        todo!()
    }
}

impl Store {
    /// The layer with this diffID, if it is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<StoredLayer>, StoreError> {
        todo!()
    }

    /// Begins a layer.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn begin_layer(&self) -> Result<LayerDraft, StoreError> {
        todo!()
    }

    /// Unpacks an uncompressed archive that nobody vouches for. A layer that is here already is returned
    /// without a look at the archive.
    ///
    /// # Errors
    /// When the archive is malformed or hostile, or its digest is not `expected`: then nothing of it stays.
    pub fn import_layer(&self, archive: &mut dyn Read, expected: &Digest) -> Result<StoredLayer, StoreError> {
        todo!()
    }
}
